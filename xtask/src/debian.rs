//! Debian packages of the programs, their units, configuration, man pages and completions.
//!
//! Static programs depend on nothing, so a package is a tree of files, a description and three short
//! scripts, which `dpkg-deb` puts together.

use std::{
    fs::{self, Permissions},
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context as _, Result};

use crate::{
    build::Profile,
    cache::recreate,
    commands::{output, root, succeed},
    generated,
};

/// Puts the programs in `binaries` into packages, which are written to `directory`; `profile` says
/// whether their size matters.
///
/// # Errors
///
/// When a file is missing or a package cannot be made.
pub(crate) fn packages(
    profile: Profile,
    binaries: &Path,
    directory: &Path,
) -> Result<Vec<PathBuf>> {
    let level = match profile {
        Profile::Debug => "-z0",
        Profile::Release => "-z6",
    };
    let architecture = output(Command::new("dpkg").arg("--print-architecture"))?;
    let mut made = Vec::new();
    for package in &PACKAGES {
        let tree = directory.join("tree");
        recreate(&tree)?;
        let files = Tree(&tree);
        package.fill(&files, binaries, architecture.trim())?;
        let name = format!("{}_{VERSION}_{}.deb", package.name, architecture.trim());
        let file = directory.join(name);
        succeed(
            Command::new("dpkg-deb")
                .args(["--build", "--root-owner-group", "-Zxz", level])
                .arg(&tree)
                .arg(&file),
        )?;
        fs::remove_dir_all(&tree)?;
        made.push(file);
    }
    Ok(made)
}

/// One program.
struct Package {
    name: &'static str,
    summary: &'static str,
    text: &'static str,
    /// What goes into its directory of documents, from `deploy/systemd`.
    examples: &'static [&'static str],
    /// Whether it has a unit, and options in `/etc`.
    service: bool,
}

impl Package {
    fn fill(&self, files: &Tree<'_>, binaries: &Path, architecture: &str) -> Result<()> {
        let name = self.name;
        let deploy = root()?.join("deploy");
        let read = |file: &Path| {
            fs::read(file).with_context(|| format!("failed to read {}", file.display()))
        };
        let documents = format!("usr/share/doc/{name}");
        files.write(
            &format!("usr/bin/{name}"),
            0o755,
            &read(&binaries.join(name))?,
        )?;
        files.write(
            &format!("{documents}/copyright"),
            0o644,
            &read(&root()?.join("LICENSE"))?,
        )?;
        files.add_share(&binaries.join(name), name)?;
        for example in self.examples {
            let text = read(&deploy.join("systemd").join(example))?;
            files.write(&format!("{documents}/{example}"), 0o644, &text)?;
        }
        if self.service {
            let unit = format!("{name}.service");
            let text = read(&deploy.join("systemd").join(&unit))?;
            files.write(&format!("usr/lib/systemd/system/{unit}"), 0o644, &text)?;
            let options = format!("etc/{name}/{name}.env");
            let text = read(&deploy.join(format!("debian/{name}.env")))?;
            files.write(&options, 0o644, &text)?;
            files.write(
                "DEBIAN/conffiles",
                0o644,
                format!("/{options}\n").as_bytes(),
            )?;
            for script in ["postinst", "prerm", "postrm"] {
                let text = fs::read_to_string(deploy.join("debian").join(script))?;
                let text = text.replace("@NAME@", name);
                files.write(&format!("DEBIAN/{script}"), 0o755, text.as_bytes())?;
            }
        }
        let size = output(
            Command::new("du")
                .args(["--summarize", "--apparent-size", "--block-size=1K"])
                .arg(files.0),
        )?;
        let size = size.split_whitespace().next().unwrap_or_default();
        let control = format!(
            "Package: {name}\nVersion: {VERSION}\nArchitecture: {architecture}\n\
             Maintainer: The authors of the remote executor\nSection: net\nPriority: optional\n\
             Installed-Size: {size}\nRecommends: ca-certificates\n\
             Description: {}\n {}\n",
            self.summary, self.text
        );
        files.write("DEBIAN/control", 0o644, control.as_bytes())
    }
}

/// A tree of files below a directory.
struct Tree<'a>(&'a Path);

impl Tree<'_> {
    /// Writes a file, and the directories above it, with modes that do not depend on our umask.
    fn write(&self, name: &str, mode: u32, content: &[u8]) -> Result<()> {
        let path = self.0.join(name);
        let write = || {
            let mut above = Vec::new();
            let mut at = path.parent();
            while let Some(directory) = at.filter(|directory| directory.starts_with(self.0)) {
                above.push(directory);
                at = directory.parent();
            }
            for directory in above.into_iter().rev() {
                fs::create_dir_all(directory)?;
                fs::set_permissions(directory, Permissions::from_mode(0o755))?;
            }
            fs::write(&path, content)?;
            fs::set_permissions(&path, Permissions::from_mode(mode))
        };
        write().with_context(|| format!("failed to write {}", path.display()))
    }

    /// Adds what `program` prints of itself: man pages and completions.
    fn add_share(&self, program: &Path, name: &str) -> Result<()> {
        let directory = self.0.with_extension("share");
        recreate(&directory)?;
        generated::share_of(program, name, &directory)?;
        for (from, to) in SHARED {
            for entry in fs::read_dir(directory.join(from))? {
                let entry = entry?;
                let (path, file) = (entry.path(), entry.file_name());
                let mut file = format!("usr/share/{to}/{}", file.to_string_lossy());
                if from == MANUAL {
                    // Without a name and a time, so that the same page makes the same package.
                    succeed(Command::new("gzip").args(["-9n"]).arg(&path))?;
                    file.push_str(".gz");
                    self.write(&file, 0o644, &fs::read(path.with_extension("1.gz"))?)?;
                } else {
                    self.write(&file, 0o644, &fs::read(&path)?)?;
                }
            }
        }
        fs::remove_dir_all(&directory).context("failed to clean up")
    }
}

const MANUAL: &str = "man/man1";

/// What is printed, and where it is in a package: zsh of Debian looks somewhere else.
const SHARED: [(&str, &str); 4] = [
    (MANUAL, MANUAL),
    ("bash-completion/completions", "bash-completion/completions"),
    ("zsh/site-functions", "zsh/vendor-completions"),
    ("fish/vendor_completions.d", "fish/vendor_completions.d"),
];

const VERSION: &str = env!("CARGO_PKG_VERSION");

const PACKAGES: [Package; 3] = [
    Package {
        name: "exec-server",
        summary: "remote executor",
        text: "Attaches this machine to an environment, so that commands, files and HTTP requests of\n \
               authorized clients reach it. It only dials out, and streams are end-to-end encrypted.",
        examples: &[],
        service: true,
    },
    Package {
        name: "exec-cloud",
        summary: "registry and rendezvous for remote executors",
        text: "Where executors and their clients meet. It forwards encrypted frames and cannot read them.",
        examples: &["exec-cloud-tls.conf"],
        service: true,
    },
    Package {
        name: "execctl",
        summary: "command line client for remote executors",
        text: "Runs commands, copies files and forwards ports on a machine that cannot be reached.",
        examples: &[],
        service: false,
    },
];
