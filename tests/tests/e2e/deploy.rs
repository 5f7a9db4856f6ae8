//! The unit files: systemd takes them as they are, and they shut the programs in as far as is promised.

use std::{path::PathBuf, process::Command};

use anyhow::{Context as _, Result, ensure};

fn unit(name: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
        .join("../deploy/systemd")
        .join(name)
}

/// Puts the unit somewhere else, with programs that exist there; the drop-in, if there is one, beside it.
fn installed(name: &str, drop_in: Option<&str>) -> Result<tempfile::TempDir> {
    let directory = tempfile::tempdir()?;
    let text = std::fs::read_to_string(unit(name))?;
    let program = format!("/usr/bin/{}", name.trim_end_matches(".service"));
    ensure!(text.contains(&program), "{name} does not start {program}");
    std::fs::write(
        directory.path().join(name),
        text.replace(&program, "/bin/true"),
    )?;
    if let Some(drop_in) = drop_in {
        let beside = directory.path().join(format!("{name}.d"));
        std::fs::create_dir(&beside)?;
        std::fs::copy(unit(drop_in), beside.join(drop_in))?;
    }
    Ok(directory)
}

fn analyze(arguments: &[&str], unit: &std::path::Path) -> Result<(bool, String)> {
    let output = Command::new("systemd-analyze")
        .args(arguments)
        .arg(unit)
        .env("SYSTEMD_LOG_COLOR", "0")
        .output()
        .context("systemd-analyze is missing: run `cargo run -p xtask -- test`")?;
    let text = [output.stdout, output.stderr].concat();
    let text = String::from_utf8_lossy(&text).into_owned();
    Ok((output.status.success(), text))
}

#[test]
fn systemd_accepts_the_units() -> Result<()> {
    for (name, drop_in) in [
        ("exec-cloud.service", None),
        ("exec-cloud.service", Some("exec-cloud-tls.conf")),
        ("exec-server.service", None),
    ] {
        let directory = installed(name, drop_in)?;
        let (accepted, text) = analyze(&["verify", "--man=no"], &directory.path().join(name))?;
        ensure!(accepted, "{name}: {text}");
        // It only warns of what it ignores.
        for word in ["ignoring", "Unknown"] {
            ensure!(!text.contains(word), "{name}: {text}");
        }
    }
    Ok(())
}

/// Versions of systemd weigh a little differently; the numbers leave a little room.
#[test]
fn the_exposure_is_what_the_documents_say() -> Result<()> {
    for (name, most) in [("exec-cloud.service", "15"), ("exec-server.service", "37")] {
        let directory = installed(name, None)?;
        let threshold = format!("--threshold={most}");
        let arguments = ["security", "--offline=true", &threshold];
        let (within, text) = analyze(&arguments, &directory.path().join(name))?;
        let verdict = text.lines().last().unwrap_or_default();
        ensure!(within, "{name}: {verdict}");
    }
    Ok(())
}

/// What the units rely on is what the programs offer.
#[test]
fn the_units_say_what_the_programs_do() -> Result<()> {
    for name in ["exec-cloud.service", "exec-server.service"] {
        let text = std::fs::read_to_string(unit(name))?;
        for line in [
            "Type=notify",
            "WatchdogSec=",
            "DynamicUser=yes",
            "NoNewPrivileges=yes",
        ] {
            ensure!(text.contains(line), "{name} lacks {line}");
        }
    }
    let executor = std::fs::read_to_string(unit("exec-server.service"))?;
    ensure!(executor.contains("LoadCredential=token:"));
    Ok(())
}
