//! What people install, built and tried.
//!
//! Needs root, because containers and a Debian system are made without any help of the machine; the
//! report says so where it could not be done.

use std::{
    path::Path,
    process::{Command, ExitCode},
};

use anyhow::Result;

use crate::{
    build::{Profile, target_directory},
    cache::{Cache, recreate},
    commands::output,
    conformance, debian,
    images::Images,
    nextest::Runner,
    packages, release,
};

/// Builds the images and the packages and tries them; returns lines for the report.
///
/// # Errors
///
/// When something cannot be built or does not work.
pub(crate) fn check(cache: &Cache, runner: &Runner<'_>) -> Result<String> {
    let python = cache.python()?;
    if output(Command::new("id").arg("-u"))?.trim() != "0" {
        runner.run(DEPLOYMENTS, &[("E2E_PYTHON", &python)], &mut None)?;
        return Ok("container images and packages NOT TRIED, that needs root".to_owned());
    }
    packages::provide(packages::PACKAGING)?;
    let directory = target_directory()?.join("packaging");
    let binaries = directory.join("binaries");
    recreate(&binaries)?;
    release::programs(Profile::Debug, &binaries)?;
    let packages = directory.join("packages");
    recreate(&packages)?;
    debian::packages(Profile::Debug, &binaries, &packages)?;
    let images = Images::build(cache, &binaries, directory.join("images"))?;
    let conformance = conformance::play_listener(cache, &images.programs())?;
    let mut counts = None;
    let podman = images.podman_script();
    let variables: [(&str, &Path); 4] = [
        ("E2E_PYTHON", &python),
        ("E2E_PODMAN", &podman),
        ("E2E_PACKAGES", &packages),
        ("E2E_DEBIAN", &cache.debian_base()?),
    ];
    runner.run(TESTS, &variables, &mut counts)?;
    Ok(format!(
        "in a container: {conformance}\npackaging: {}\nimages of unoptimized programs: {}",
        counts.unwrap_or_default(),
        images.sizes()?
    ))
}

/// The tests of it; no other step runs them.
pub(crate) const TESTS: &str = "binary(packaging)";

/// Those that need no root.
const DEPLOYMENTS: &str = "binary(packaging) and test(/^deployments::/)";

/// Builds the programs as they are shipped, and packages of them.
///
/// # Errors
///
/// When something cannot be built.
pub(crate) fn release(directory: &Path) -> Result<ExitCode> {
    let binaries = directory.join("programs");
    release::programs(Profile::Release, &binaries)?;
    for package in debian::packages(Profile::Release, &binaries, directory)? {
        eprintln!("{}", package.display());
    }
    Ok(ExitCode::SUCCESS)
}
