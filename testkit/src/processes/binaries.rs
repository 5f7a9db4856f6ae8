//! Where the programs under test are.
//!
//! Ours are taken from `E2E_BIN_DIR`, or from the directory of the running test's own build. The
//! reference is taken from `E2E_CODEX`. `cargo run -p xtask -- test` builds, fetches and sets
//! all of that. A missing program is an error, never a reason to skip.

use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, bail};

/// A program under test.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Binary {
    /// Registry and rendezvous.
    ExecCloud,
    /// Our executor.
    ExecServer,
    /// Our command line client.
    Execctl,
    /// The reference: client and executor in one program.
    Codex,
}

impl Binary {
    /// The file name.
    pub fn name(self) -> &'static str {
        match self {
            Self::ExecCloud => "exec-cloud",
            Self::ExecServer => "exec-server",
            Self::Execctl => "execctl",
            Self::Codex => "codex",
        }
    }
}

/// Finds `binary`.
///
/// # Errors
///
/// When it is not there; the error says how to get it.
pub fn locate(binary: Binary) -> Result<PathBuf> {
    let path = match binary {
        Binary::Codex => std::env::var_os("E2E_CODEX").map(PathBuf::from).context(
            "the reference is missing: E2E_CODEX is not set; run `cargo run -p xtask -- test`",
        )?,
        ours => build_directory()?.join(ours.name()),
    };
    if !path.is_file() {
        bail!(
            "{} is missing at {}: run `cargo run -p xtask -- test`, which builds and fetches it",
            binary.name(),
            path.display()
        );
    }
    Ok(path)
}

/// Finds the script that runs `podman` on the images under test.
///
/// # Errors
///
/// When there is none; the error says how to get it.
pub fn podman() -> Result<PathBuf> {
    std::env::var_os("E2E_PODMAN").map(PathBuf::from).context(
        "the images are missing: E2E_PODMAN is not set; run `cargo run -p xtask -- packaging`",
    )
}

/// A test runs from `target/<profile>/deps/`; its binaries are one level up.
fn build_directory() -> Result<PathBuf> {
    if let Some(directory) = std::env::var_os("E2E_BIN_DIR") {
        return Ok(directory.into());
    }
    let test = std::env::current_exe().context("failed to find the running test")?;
    let directory = test
        .parent()
        .and_then(Path::parent)
        .context("the test has no build directory")?;
    Ok(directory.to_owned())
}
