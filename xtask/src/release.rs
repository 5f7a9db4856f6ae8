//! Building the programs as they are shipped: stripped and static.
//!
//! Static, so that an image needs nothing but the program. They resolve names through the files and
//! the DNS of the machine; other name services of a host are plug-ins of its C library, and for
//! programs that are linked against that library.
//!
//! How they are linked concerns the last step of a build alone, so the flags for it go to that step
//! and everything else is what any build of the program uses.

use std::path::Path;

use anyhow::{Context as _, Result};

use crate::{
    build::{Profile, target_directory},
    commands::{cargo, succeed},
    packages,
};

/// Builds all programs and copies them to `directory`, together with the empty directories that an
/// image needs.
///
/// # Errors
///
/// When something does not build or cannot be written.
pub(crate) fn programs(profile: Profile, directory: &Path) -> Result<()> {
    packages::provide(packages::BUILD)?;
    let (flags, built): (&[&str], _) = match profile {
        Profile::Debug => (&[], "debug"),
        Profile::Release => (&["--release"], "release"),
    };
    let built = target_directory()?.join(built);
    for name in EMPTY {
        std::fs::create_dir_all(directory.join(name)).context("failed to make a directory")?;
    }
    // Each in a build of its own: see `build::programs_of`.
    for (package, program) in PROGRAMS {
        succeed(
            cargo()?
                .args(["rustc", "--quiet", "--locked"])
                .args(flags)
                .args(["-p", package, "--bin", program, "--"])
                .args(["-C", "target-feature=+crt-static", "-C", "strip=symbols"]),
        )?;
        std::fs::copy(built.join(program), directory.join(program))
            .with_context(|| format!("failed to copy {program}"))?;
    }
    Ok(())
}

/// Packages and their programs.
const PROGRAMS: [(&str, &str); 3] = [
    ("server", "exec-cloud"),
    ("agent", "exec-server"),
    ("harness", "execctl"),
];

/// Where commands work, and where the database is.
const EMPTY: [&str; 2] = ["workspace", "data"];
