//! Tools and the reference client, kept outside the tree between runs.

use std::{
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context as _, Result, bail};

use crate::{
    commands::{cargo, output, succeed},
    packages,
};

/// The cache directory: `$XDG_CACHE_HOME/exec-cloud-dev`, or below `~/.cache`.
#[derive(Debug)]
pub(crate) struct Cache {
    directory: PathBuf,
}

impl Cache {
    /// Makes the directory if needed.
    ///
    /// # Errors
    ///
    /// When neither variable is set or the directory cannot be made.
    pub(crate) fn open() -> Result<Self> {
        let base = match std::env::var_os("XDG_CACHE_HOME").filter(|value| !value.is_empty()) {
            Some(base) => PathBuf::from(base),
            None => {
                let home = std::env::var_os("HOME").context("neither HOME nor XDG_CACHE_HOME")?;
                Path::new(&home).join(".cache")
            }
        };
        let directory = base.join("exec-cloud-dev");
        std::fs::create_dir_all(&directory).context("failed to make the cache directory")?;
        Ok(Self { directory })
    }

    /// The reference, fetched from the package registry and checked on first use.
    ///
    /// # Errors
    ///
    /// When it cannot be fetched or is not the expected file.
    pub(crate) fn codex(&self) -> Result<PathBuf> {
        let directory = self.directory.join(format!("codex-{CODEX_VERSION}"));
        let executable = directory.join(CODEX_EXECUTABLE);
        if executable.is_file() {
            return Ok(executable);
        }
        let fetched = self.directory.join("fetched");
        recreate(&fetched)?;
        let package = format!("@openai/codex@{CODEX_VERSION}");
        eprintln!("xtask: fetching {package}");
        let packed = output(
            Command::new("npm")
                .args(["pack", "--silent", &package])
                .current_dir(&fetched),
        )
        .context("failed to fetch the reference")?;
        let name = packed.lines().last().context("npm named no file")?.trim();
        let sum = output(
            Command::new("sha512sum")
                .arg("--binary")
                .arg(fetched.join(name)),
        )?;
        if sum.split_whitespace().next() != Some(CODEX_SHA512) {
            bail!("{package} is not the expected file: its SHA-512 differs");
        }
        succeed(
            Command::new("tar")
                .arg("-xzf")
                .arg(name)
                .current_dir(&fetched),
        )?;
        // Renamed as a whole, so that an interrupted run leaves nothing half unpacked.
        if directory.exists() {
            std::fs::remove_dir_all(&directory)?;
        }
        std::fs::rename(fetched.join("package"), &directory)?;
        std::fs::remove_dir_all(&fetched)?;
        if !executable.is_file() {
            bail!("{package} has no {CODEX_EXECUTABLE}");
        }
        Ok(executable)
    }

    /// A Python that has what the conformance player and the tests of deployments need.
    ///
    /// # Errors
    ///
    /// When it cannot be installed.
    pub(crate) fn python(&self) -> Result<PathBuf> {
        let directory = self.directory.join("python");
        let python = directory.join("bin/python");
        let works = |python: &Path| {
            Command::new(python)
                .args([
                    "-c",
                    "import compose, kubernetes_validate, websockets, yaml",
                ])
                .output()
                .is_ok_and(|output| output.status.success())
        };
        if works(&python) {
            return Ok(python);
        }
        let make = || {
            recreate(&directory)?;
            succeed(Command::new("python3").args(["-m", "venv"]).arg(&directory))
        };
        let install = || {
            for packages in PYTHON_PACKAGES {
                let mut pip = Command::new(&python);
                succeed(
                    pip.args(["-m", "pip", "install", "--quiet"])
                        .args(*packages),
                )?;
            }
            anyhow::Ok(())
        };
        // One that lacks packages may be in use by another run.
        if install().is_err() {
            if make().is_err() {
                // Debian keeps this module in a package of its own.
                packages::install(&["python3-venv"])?;
                make().context("failed to make a Python environment")?;
            }
            install().context("failed to install Python packages")?;
        }
        if !works(&python) {
            bail!("the Python packages do not load");
        }
        Ok(python)
    }

    /// A small Debian system as an archive, without its documents.
    ///
    /// # Errors
    ///
    /// When it cannot be made.
    pub(crate) fn debian_base(&self) -> Result<PathBuf> {
        let archive = self.directory.join(format!("debian-{DEBIAN}.tar"));
        if archive.is_file() {
            return Ok(archive);
        }
        let system = self.directory.join("debian-system");
        eprintln!("xtask: making a Debian system");
        let make = || {
            recreate(&system)?;
            let mut debootstrap = Command::new("debootstrap");
            succeed(debootstrap.args(["--variant=minbase", DEBIAN]).arg(&system))
        };
        // It fetches a hundred files; one that fails must not fail everything.
        make().or_else(|_| make()).or_else(|_| make())?;
        let left_out = [
            "usr/share/doc",
            "usr/share/locale",
            "usr/share/man",
            "var/cache/apt",
            "var/lib/apt/lists",
        ];
        let fresh = archive.with_extension("new");
        succeed(
            Command::new("tar")
                .args(["--create", "--one-file-system", "--file"])
                .arg(&fresh)
                .args(left_out.map(|directory| format!("--exclude=./{directory}/*")))
                .arg("--directory")
                .arg(&system)
                .arg("."),
        )?;
        // Renamed as a whole, so that an interrupted run leaves nothing half written.
        std::fs::rename(&fresh, &archive)?;
        std::fs::remove_dir_all(&system)?;
        Ok(archive)
    }

    /// The directory with cargo subcommand `name`, installed here unless one is on the path.
    ///
    /// # Errors
    ///
    /// When it cannot be built.
    pub(crate) fn cargo_tool(&self, tool: CargoTool) -> Result<PathBuf> {
        let (name, version) = (tool.name(), tool.version());
        let root = self.directory.join("tools");
        let installed = root.join("bin").join(name);
        if has_version(&installed, version) {
            return Ok(installed);
        }
        if has_version(Path::new(name), version) {
            return Ok(name.into());
        }
        eprintln!("xtask: installing {name}");
        let mut install = cargo()?;
        // Shares nothing with our own build, and must not fill the target directory of the tree.
        install.env("CARGO_TARGET_DIR", self.directory.join("tools-build"));
        install
            .args(["install", "--locked", "--quiet", name, "--root"])
            .arg(&root);
        if let Some(version) = version {
            install.args(["--version", version, "--force"]);
        }
        succeed(&mut install).with_context(|| format!("failed to install {name}"))?;
        std::fs::remove_dir_all(self.directory.join("tools-build"))?;
        Ok(installed)
    }
}

/// A cargo subcommand that the checks use.
#[derive(Debug, Clone, Copy)]
pub(crate) enum CargoTool {
    /// The test runner; any version reads our configuration.
    Nextest,
    /// The checks on dependencies; pinned, because its configuration changes between versions.
    Deny,
    /// The runner of fuzz targets; any version.
    Fuzz,
}

impl CargoTool {
    fn name(self) -> &'static str {
        match self {
            Self::Nextest => "cargo-nextest",
            Self::Deny => "cargo-deny",
            Self::Fuzz => "cargo-fuzz",
        }
    }

    fn version(self) -> Option<&'static str> {
        match self {
            Self::Nextest | Self::Fuzz => None,
            Self::Deny => Some("0.20.2"),
        }
    }
}

fn has_version(program: &Path, version: Option<&str>) -> bool {
    let output = Command::new(program).arg("--version").output();
    output.is_ok_and(|output| {
        let text = String::from_utf8_lossy(&output.stdout);
        output.status.success() && version.is_none_or(|v| text.split_whitespace().nth(1) == Some(v))
    })
}

/// Makes an empty directory.
///
/// # Errors
///
/// When it cannot be emptied or made.
pub(crate) fn recreate(directory: &Path) -> Result<()> {
    if directory.exists() {
        std::fs::remove_dir_all(directory)?;
    }
    std::fs::create_dir_all(directory)
        .with_context(|| format!("failed to make {}", directory.display()))
}

/// The release that all compatibility claims are about.
const CODEX_VERSION: &str = "0.169.0-linux-x64";

/// Of the package file; the package registry states the same sum as `dist.integrity`.
const CODEX_SHA512: &str = "a34e4dc803820f28123d1a35ca29f3c6f91149d9ac672043f44ee66e99a345a9\
    d27ccf25ca9a96b50804a385df364c21b82476685bbc9a518eb101855d56d5c3";

/// What is installed together. Of the old program for compose files only its schema is used, which needs
/// nothing of what that program itself needed.
const PYTHON_PACKAGES: &[&[&str]] = &[
    &["websockets>=13", "kubernetes-validate==1.37.0"],
    &["--no-deps", "docker-compose==1.29.2"],
];

/// The release of Debian that images are tried on.
const DEBIAN: &str = "bookworm";

/// Inside the package.
const CODEX_EXECUTABLE: &str = "vendor/x86_64-unknown-linux-musl/bin/codex";
