//! Building the programs as they are shipped: stripped and static.
//!
//! Static, so that an image needs nothing but the program. They resolve names through the files and
//! the DNS of the machine; other name services of a host are plug-ins of its C library, and for
//! programs that are linked against that library.
//!
//! How they are linked concerns the last step of a build alone, so the flags for it go to that step
//! and everything else is what any build of the program uses.

use std::{path::Path, process::Command};

use anyhow::{Context as _, Result};

use crate::{
    build::{Profile, target_directory},
    commands::{cargo, output, succeed},
    packages,
};

/// Builds all programs and copies them to `directory`, together with the empty directories that an
/// image needs.
///
/// # Errors
///
/// When something does not build, cannot be written, or does not start.
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
                .args(["-C", "target-feature=+crt-static", "-C", "strip=symbols"])
                .args(["-C", &format!("link-arg={PACKED_RELOCATIONS}")]),
        )?;
        let path = directory.join(program);
        let size = std::fs::copy(built.join(program), &path)
            .with_context(|| format!("failed to copy {program}"))?;
        // A C library that is too old for what the linker was told ends right here.
        output(Command::new(&path).arg("--version")).context("what was built does not run")?;
        if profile == Profile::Release {
            eprintln!("xtask: {}", size_line(program, size));
        }
    }
    Ok(())
}

/// Says how large a program is, and when that is more than is meant.
fn size_line(program: &str, size: u64) -> String {
    match LARGEST.iter().find(|(name, _)| *name == program) {
        Some((_, limit)) if size > *limit => {
            format!("{program} has {size} bytes, MORE THAN the {limit} of SPECIFICATION.md")
        }
        _ => format!("{program} has {size} bytes"),
    }
}

/// How many bytes a released program is meant to have at most.
const LARGEST: [(&str, u64); 1] = [("exec-server", 12_000_000)];

/// Says where addresses are in few bits instead of 24 bytes for each, 0.4 MB of a program. The program
/// relocates itself, with its own copy of the C library, which has to be 2.36 or newer.
const PACKED_RELOCATIONS: &str = "-Wl,-z,pack-relative-relocs";

/// Packages and their programs.
const PROGRAMS: [(&str, &str); 3] = [
    ("server", "exec-cloud"),
    ("agent", "exec-server"),
    ("harness", "execctl"),
];

/// Where commands work, and where the database is.
const EMPTY: [&str; 2] = ["workspace", "data"];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_program_that_is_larger_than_meant_is_told() {
        let [(program, limit)] = LARGEST;
        assert!(!size_line(program, limit).contains("MORE THAN"));
        assert!(size_line(program, limit + 1).contains("12000001 bytes, MORE THAN"));
        assert!(PROGRAMS.iter().any(|(_, name)| *name == program));
    }
}
