//! What people install, built and tried.
//!
//! Needs root, because containers and a Debian system are made without any help of the machine; the
//! report says so where it could not be done.

use std::{path::Path, process::Command};

use anyhow::Result;

use crate::{
    build::{Profile, target_directory},
    cache::{Cache, recreate},
    commands::output,
    conformance,
    images::Images,
    nextest::Runner,
    packages, release,
};

/// Builds the images and tries them; returns lines for the report.
///
/// # Errors
///
/// When something cannot be built or does not work.
pub(crate) fn check(cache: &Cache, runner: &Runner<'_>) -> Result<String> {
    if output(Command::new("id").arg("-u"))?.trim() != "0" {
        return Ok("container images NOT TRIED, that needs root".to_owned());
    }
    packages::provide(packages::PACKAGING)?;
    let directory = target_directory()?.join("packaging");
    let binaries = directory.join("binaries");
    recreate(&binaries)?;
    release::programs(Profile::Debug, &binaries)?;
    let images = Images::build(cache, &binaries, directory.join("images"))?;
    let conformance = conformance::play_listener(cache, &images.programs())?;
    let mut counts = None;
    let podman = images.podman_script();
    let variables: [(&str, &Path); 1] = [("E2E_PODMAN", &podman)];
    runner.run(TESTS, &variables, &mut counts)?;
    Ok(format!(
        "in a container: {conformance}\npackaging: {}\nimages of unoptimized programs: {}",
        counts.unwrap_or_default(),
        images.sizes()?
    ))
}

/// The tests of it; no other step runs them.
pub(crate) const TESTS: &str = "binary(packaging)";
