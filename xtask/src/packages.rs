//! Debian packages that a fresh machine may lack.

use std::process::Command;

use anyhow::{Result, bail};

use crate::commands::{on_path, output, succeed};

/// A program that is needed, and the package that has it.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Need {
    /// Name on the search path.
    pub(crate) program: &'static str,
    /// Debian package.
    pub(crate) package: &'static str,
}

/// What every build needs: a C compiler, for the linker and for the TLS provider.
pub(crate) const BUILD: &[Need] = &[Need {
    program: "cc",
    package: "build-essential",
}];

/// What the tests need on top.
pub(crate) const TEST: &[Need] = &[
    Need {
        program: "git",
        package: "git",
    },
    Need {
        program: "npm",
        package: "npm",
    },
    Need {
        program: "python3",
        package: "python3",
    },
    Need {
        program: "sha512sum",
        package: "coreutils",
    },
    Need {
        program: "tar",
        package: "tar",
    },
    Need {
        program: "timeout",
        package: "coreutils",
    },
    // Checks the unit files.
    Need {
        program: "systemd-analyze",
        package: "systemd",
    },
    // Its state is captured and restored by tests.
    Need {
        program: "zsh",
        package: "zsh",
    },
];

/// What counting instructions needs.
pub(crate) const COUNTS: &[Need] = &[
    Need {
        program: "valgrind",
        package: "valgrind",
    },
    Need {
        program: "getconf",
        package: "libc-bin",
    },
];

/// What the benchmarks hold us against, on top.
pub(crate) const BENCH: &[Need] = &[
    Need {
        program: "ssh",
        package: "openssh-client",
    },
    Need {
        program: "/usr/sbin/sshd",
        package: "openssh-server",
    },
    Need {
        program: "tar",
        package: "tar",
    },
];

/// What building and trying images needs on top.
pub(crate) const PACKAGING: &[Need] = &[
    Need {
        program: "debootstrap",
        package: "debootstrap",
    },
    Need {
        program: "podman",
        package: "podman",
    },
    Need {
        program: "runc",
        package: "runc",
    },
];

/// Installs what is missing when that is possible.
///
/// # Errors
///
/// When something is missing and cannot be installed; the error names the packages.
pub(crate) fn provide(needs: &[Need]) -> Result<()> {
    let missing: Vec<_> = needs.iter().filter(|need| !on_path(need.program)).collect();
    if missing.is_empty() {
        return Ok(());
    }
    let packages: Vec<_> = missing.iter().map(|need| need.package).collect();
    install(&packages)
}

/// Installs Debian packages.
///
/// # Errors
///
/// When we are not root, this is not Debian, or the installation fails.
pub(crate) fn install(packages: &[&str]) -> Result<()> {
    let list = packages.join(" ");
    if !on_path("apt-get") {
        bail!("missing: install the equivalent of the Debian packages {list}");
    }
    if output(Command::new("id").arg("-u"))?.trim() != "0" {
        bail!("missing Debian packages; run as root: apt-get install {list}");
    }
    succeed(Command::new("apt-get").args(["update", "--quiet", "--quiet"]))?;
    succeed(
        Command::new("apt-get")
            .env("DEBIAN_FRONTEND", "noninteractive")
            .args([
                "install",
                "--quiet",
                "--quiet",
                "--yes",
                "--no-install-recommends",
            ])
            .args(packages),
    )
}
