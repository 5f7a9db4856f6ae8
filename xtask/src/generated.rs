//! What the programs print about themselves: the reference of their settings, completions, man pages.

use std::{fmt::Write as _, fs, path::Path, process::Command, process::ExitCode};

use anyhow::{Context as _, Result};

use crate::{
    build,
    commands::{output, root, succeed},
};

/// Writes `docs/configuration.md`.
///
/// # Errors
///
/// When the programs cannot be built or the file not be written.
pub(crate) fn reference() -> Result<ExitCode> {
    let programs = build::programs()?;
    let mut text = PREFACE.to_owned();
    for name in PROGRAMS {
        let part = output(Command::new(programs.join(name)).arg("reference"))?;
        let _ = write!(text, "\n{part}");
    }
    let path = root()?.join(DOCUMENT);
    fs::write(&path, text).context("failed to write the reference")?;
    Ok(ExitCode::SUCCESS)
}

/// Writes completions and man pages of all programs below `directory`.
///
/// # Errors
///
/// When the programs cannot be built or the files not be written.
pub(crate) fn share(directory: &Path) -> Result<ExitCode> {
    let programs = build::programs()?;
    for name in PROGRAMS {
        share_of(&programs.join(name), name, directory)?;
    }
    Ok(ExitCode::SUCCESS)
}

/// Writes the completions and man pages that `program` prints of itself below `directory`.
///
/// # Errors
///
/// When it cannot be run or the files not be written.
pub(crate) fn share_of(program: &Path, name: &str, directory: &Path) -> Result<()> {
    let manual = directory.join("man/man1");
    fs::create_dir_all(&manual).context("failed to make the directory for man pages")?;
    succeed(
        Command::new(program)
            .arg("man")
            .arg("--directory")
            .arg(&manual),
    )?;
    for (shell, folder, file) in [
        ("bash", "bash-completion/completions", name.to_owned()),
        ("zsh", "zsh/site-functions", format!("_{name}")),
        ("fish", "fish/vendor_completions.d", format!("{name}.fish")),
    ] {
        let folder = directory.join(folder);
        fs::create_dir_all(&folder).context("failed to make a directory for completions")?;
        let script = output(Command::new(program).args(["completions", shell]))?;
        fs::write(folder.join(file), script).context("failed to write completions")?;
    }
    Ok(())
}

/// What is wrong with the parts of the reference that no program writes. Tests of the programs look at
/// the rest.
pub(crate) fn findings(root: &Path) -> Vec<String> {
    let text = fs::read_to_string(root.join(DOCUMENT)).unwrap_or_default();
    let headings: Vec<&str> = text
        .lines()
        .filter_map(|line| line.strip_prefix("# "))
        .skip(1)
        .collect();
    if text.starts_with(PREFACE) && headings == PROGRAMS {
        return Vec::new();
    }
    vec![format!(
        "{DOCUMENT} is out of date: run `cargo run -p xtask -- reference`"
    )]
}

const DOCUMENT: &str = "docs/configuration.md";
const PROGRAMS: [&str; 3] = ["exec-server", "exec-cloud", "execctl"];

const PREFACE: &str = "\
<!-- Written by `cargo run -p xtask -- reference`; do not edit. -->

# Configuration

Every setting of the three programs has a flag, a variable and a key in a TOML file.
A flag wins over a variable, a variable over the file, the file over the default.
The file is flat; a relative path in it starts at the file's own directory.
Lists are arrays in the file and separated by commas in a variable; switches are `true` or `false` in both.
A blank variable counts as absent.

Everything is checked before anything is opened or dialed, and all problems are reported at once, one line each, with exit code 64.
A key that is not known is refused, with the nearest one that is.
Variables that are not known are left alone: in a cluster, services put theirs beside them.

`--check-config` does the checks and nothing else.
`--print-config` shows the settings in force and the source of each; the output can be used as a file.
Secrets, and what URLs may hold of them, are not shown.

A secret is never the value of a flag or a key: it is in a file, in a variable, or comes over standard input.
Files are read again when they are needed, or when they change (TLS files of `exec-cloud`: within 5 s), so replacing one needs no restart.
While a file is missing or cannot be used, what it held before counts; so `/dev/fd/N`, a descriptor that was handed over, works as a file too.

Proxies and certificate authorities: `HTTPS_PROXY`, `HTTP_PROXY`, `ALL_PROXY`, `NO_PROXY` in either case, with credentials in the URL; `SSL_CERT_FILE` and `SSL_CERT_DIR` replace the authorities of the system, `CODEX_CA_CERTIFICATE` and `--ca-file` add to them.

`PROGRAM completions SHELL` prints completions, `PROGRAM man` the man page; `cargo run -p xtask -- share DIR` writes those of all programs below `DIR`, such as `/usr/local/share`.
";
