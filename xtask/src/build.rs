//! Building the three programs.

use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};
use serde_json::Value;

use crate::commands::{cargo, output, succeed};

/// How the programs are built.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Profile {
    /// For tests.
    Debug,
    /// As they are released.
    Release,
}

/// Builds the programs for tests and returns the directory that holds them.
pub(crate) fn programs() -> Result<PathBuf> {
    programs_of(Profile::Debug)
}

/// Builds the programs and returns the directory that holds them.
///
/// `exec-cloud` gets an invocation of its own: built together with the others, cargo would give
/// it their feature `noise` of `relay-proto`, and that it cannot decrypt would no longer be a fact
/// of the build. The results are copied away, because any later build of the whole workspace
/// replaces the files in cargo's own directory.
pub(crate) fn programs_of(profile: Profile) -> Result<PathBuf> {
    let (flags, built, kept): (&[&str], _, _) = match profile {
        Profile::Debug => (&[], "debug", "programs"),
        Profile::Release => (&["--release"], "release", "programs-release"),
    };
    let build = |what: &[&str]| succeed(cargo()?.args(["build", "--quiet"]).args(flags).args(what));
    let [cloud, others] = BUILDS;
    build(cloud)?;
    let target = target_directory()?;
    let (built, kept) = (target.join(built), target.join(kept));
    std::fs::create_dir_all(&kept).context("failed to make the directory for the programs")?;
    keep(&built, &kept, "exec-cloud")?;
    build(others)?;
    keep(&built, &kept, "exec-server")?;
    keep(&built, &kept, "execctl")?;
    Ok(kept)
}

/// What is built, in this order.
pub(crate) const BUILDS: [&[&str]; 2] = [
    &["-p", "server", "--bin", "exec-cloud"],
    &["-p", "agent", "-p", "harness", "--bins"],
];

/// Cargo's target directory, wherever it was configured.
pub(crate) fn target_directory() -> Result<PathBuf> {
    let text = output(cargo()?.args(["metadata", "--no-deps", "--format-version", "1"]))?;
    let metadata: Value = serde_json::from_str(&text).context("cargo metadata is not JSON")?;
    let directory = metadata["target_directory"]
        .as_str()
        .context("no target directory")?;
    Ok(directory.into())
}

/// Replaces the kept file in one step, so that a running one stays intact.
fn keep(built: &Path, kept: &Path, name: &str) -> Result<()> {
    let fresh = kept.join(format!("{name}.new"));
    std::fs::copy(built.join(name), &fresh)
        .and_then(|_| std::fs::rename(&fresh, kept.join(name)))
        .with_context(|| format!("failed to keep {name}"))
}
