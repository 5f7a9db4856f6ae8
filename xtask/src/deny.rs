//! Checks on the dependencies.
//!
//! Bans, licenses and sources are checked from the lock file alone. Advisories need a database
//! that lives on a git host, which not every machine may reach. Then they are **not checked**, and
//! the report says so; findings are never ignored.

use std::{
    path::Path,
    process::{Command, Stdio},
};

use anyhow::{Context as _, Result};

use crate::commands::{root, succeed};

/// Whether advisories could be looked at.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Advisories {
    /// Checked against the database of today.
    Checked,
    /// Checked against a database that an earlier run fetched.
    CheckedOld,
    /// Not checked: no database.
    Unavailable,
}

impl Advisories {
    /// One line for the report.
    pub(crate) fn describe(self) -> &'static str {
        match self {
            Self::Checked => "advisories checked",
            Self::CheckedOld => {
                "advisories checked against an OLD database, a fresh one cannot be fetched"
            }
            Self::Unavailable => "advisories NOT CHECKED, their database cannot be fetched",
        }
    }
}

/// Runs all checks with `tool`, the path of cargo-deny.
///
/// # Errors
///
/// On any finding.
pub(crate) fn check(tool: &Path) -> Result<Advisories> {
    succeed(deny(tool)?.args(["check", "bans", "licenses", "sources"])).context("dependencies")?;
    let fetched = limited(tool)?
        .args(["fetch", "db"])
        .stdin(Stdio::null())
        .output()?;
    if fetched.status.success() {
        succeed(deny(tool)?.args(["check", "--disable-fetch", "advisories"]))
            .context("advisories")?;
        return Ok(Advisories::Checked);
    }
    if !has_database() {
        return Ok(Advisories::Unavailable);
    }
    succeed(deny(tool)?.args(["check", "--disable-fetch", "advisories"])).context("advisories")?;
    Ok(Advisories::CheckedOld)
}

fn deny(tool: &Path) -> Result<Command> {
    let mut command = Command::new(tool);
    command.current_dir(root()?);
    Ok(command)
}

/// Where connections are dropped rather than refused, the attempt must not hang.
fn limited(tool: &Path) -> Result<Command> {
    let mut command = Command::new("timeout");
    command.arg("60").arg(tool).current_dir(root()?);
    Ok(command)
}

/// cargo-deny keeps one directory for each database here.
fn has_database() -> bool {
    let Some(home) = std::env::var_os("CARGO_HOME")
        .map(Into::into)
        .or_else(|| std::env::var_os("HOME").map(|home| Path::new(&home).join(".cargo")))
    else {
        return false;
    };
    ["advisory-dbs", "advisory-db"].iter().any(|name| {
        std::fs::read_dir(home.join(name)).is_ok_and(|mut entries| {
            entries.any(|entry| entry.is_ok_and(|entry| entry.path().join(".git").exists()))
        })
    })
}
