//! The project directory that a turn works in.

use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};
use tempfile::TempDir;

/// A temporary project with instructions for the model and an image.
#[derive(Debug)]
pub struct Workspace {
    _directory: TempDir,
    path: PathBuf,
}

impl Workspace {
    /// Makes the directory and its files: `AGENTS.md` and `image.png`.
    ///
    /// # Errors
    ///
    /// When the temporary directory cannot be written.
    pub fn new() -> Result<Self> {
        let directory = tempfile::Builder::new().prefix("e2e-project-").tempdir()?;
        // Paths come back canonical from the executor; so hand them out canonical.
        let path = directory.path().canonicalize()?;
        std::fs::write(path.join("AGENTS.md"), INSTRUCTIONS).context("write AGENTS.md")?;
        std::fs::write(path.join("image.png"), IMAGE).context("write image.png")?;
        Ok(Self {
            _directory: directory,
            path,
        })
    }

    /// The canonical path of the project.
    pub fn path(&self) -> &Path {
        &self.path
    }
}

/// The content of `AGENTS.md`.
pub const INSTRUCTIONS: &str = "# Project notes\n\nAlways count to seventeen first.\n";

/// The content of `image.png`: one red pixel.
pub const IMAGE: &[u8] = &[
    0x89, 0x50, 0x4e, 0x47, 0x0d, 0x0a, 0x1a, 0x0a, 0x00, 0x00, 0x00, 0x0d, 0x49, 0x48, 0x44, 0x52,
    0x00, 0x00, 0x00, 0x01, 0x00, 0x00, 0x00, 0x01, 0x08, 0x02, 0x00, 0x00, 0x00, 0x90, 0x77, 0x53,
    0xde, 0x00, 0x00, 0x00, 0x0c, 0x49, 0x44, 0x41, 0x54, 0x78, 0x9c, 0x63, 0xf8, 0xcf, 0xc0, 0x00,
    0x00, 0x03, 0x01, 0x01, 0x00, 0xc9, 0xfe, 0x92, 0xef, 0x00, 0x00, 0x00, 0x00, 0x49, 0x45, 0x4e,
    0x44, 0xae, 0x42, 0x60, 0x82,
];
