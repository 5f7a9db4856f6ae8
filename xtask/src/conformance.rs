//! The conformance scenarios, played against our executor.
//!
//! The scenarios are not part of this repository. They are looked for in `CONFORMANCE_DIR`, else
//! in `../shared/conformance` beside the checkout. Without them the report says that they were not
//! played.
//!
//! `tests/conformance/allowed-failures.txt` lists the scenarios that may fail. The list only gets
//! shorter: any other scenario that fails fails the run, and so does a listed one that passes,
//! until its line is removed.

use std::{
    collections::BTreeSet,
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use anyhow::{Context as _, Result, bail};

use crate::{cache::Cache, commands::root};

/// Plays all scenarios and returns a line for the report.
///
/// # Errors
///
/// When the results are not those that the list allows.
pub(crate) fn play(cache: &Cache, programs: &Path) -> Result<String> {
    let directory = match std::env::var_os("CONFORMANCE_DIR") {
        Some(directory) => PathBuf::from(directory),
        None => root()?.join("../shared/conformance"),
    };
    if !directory.join("rpcplay").is_file() {
        return Ok("conformance scenarios NOT PLAYED, they are not on this machine".to_owned());
    }
    let list = root()?.join("tests/conformance/allowed-failures.txt");
    let allowed = parse_list(&std::fs::read_to_string(list).context("allowed-failures.txt")?);
    let server = programs.join("exec-server");
    let output = Command::new(cache.python()?)
        .arg(directory.join("rpcplay"))
        .arg("--spawn")
        .arg(format!(
            "{} --listen ws://127.0.0.1:{{port}}",
            server.display()
        ))
        .arg("--golden")
        .arg(directory.join("golden"))
        .arg(directory.join("scenarios"))
        .stdin(Stdio::null())
        .stderr(Stdio::inherit())
        .output()
        .context("failed to start the conformance player")?;
    let text = String::from_utf8_lossy(&output.stdout);
    let results = Results::parse(&text);
    if let Err(error) = results.compare(&allowed) {
        eprintln!("{text}");
        return Err(error);
    }
    Ok(format!(
        "conformance: {} passed, {} failed as listed, {} skipped",
        results.passed.len(),
        results.failed.len(),
        results.skipped.len()
    ))
}

/// One name a line; `#` starts a comment.
fn parse_list(text: &str) -> BTreeSet<String> {
    text.lines()
        .map(|line| line.split('#').next().unwrap_or_default().trim())
        .filter(|line| !line.is_empty())
        .map(str::to_owned)
        .collect()
}

#[derive(Debug, Default)]
struct Results {
    passed: BTreeSet<String>,
    failed: BTreeSet<String>,
    skipped: BTreeSet<String>,
    /// Whether the player got to its closing line.
    complete: bool,
}

impl Results {
    fn parse(text: &str) -> Self {
        let mut results = Self::default();
        for line in text.lines() {
            let mut words = line.split_whitespace();
            match (words.next(), words.next()) {
                (Some("ok"), Some(name)) => drop(results.passed.insert(name.to_owned())),
                (Some("DIFF"), Some(name)) => drop(results.failed.insert(name.to_owned())),
                (Some("skip"), Some(name)) => drop(results.skipped.insert(name.to_owned())),
                (Some(_), Some("passed,")) => results.complete = true,
                _ => {}
            }
        }
        results
    }

    fn compare(&self, allowed: &BTreeSet<String>) -> Result<()> {
        if !self.complete || self.passed.is_empty() {
            bail!("the conformance player did not finish");
        }
        let broken: Vec<_> = self.failed.difference(allowed).cloned().collect();
        if !broken.is_empty() {
            bail!("conformance scenarios fail: {}", broken.join(", "));
        }
        let mended: Vec<_> = self.passed.intersection(allowed).cloned().collect();
        if !mended.is_empty() {
            bail!(
                "pass now, remove from tests/conformance/allowed-failures.txt: {}",
                mended.join(", ")
            );
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const OUTPUT: &str = "ok a-one\nDIFF b-two\n  - want\n  + got\nskip c-three (slow)\n\n1 skipped\n1 passed, 1 failed\n";

    #[test]
    fn listed_failure_is_accepted() {
        let results = Results::parse(OUTPUT);
        assert!(
            results
                .compare(&parse_list("# why\nb-two # reason\n"))
                .is_ok()
        );
    }

    #[test]
    fn failure_that_is_not_listed_is_an_error() {
        let error = Results::parse(OUTPUT)
            .compare(&BTreeSet::new())
            .unwrap_err();
        assert_eq!(error.to_string(), "conformance scenarios fail: b-two");
    }

    #[test]
    fn listed_scenario_that_passes_must_leave_the_list() {
        let error = Results::parse(OUTPUT)
            .compare(&parse_list("a-one\nb-two\n"))
            .unwrap_err();
        assert!(error.to_string().ends_with("a-one"), "{error}");
    }

    #[test]
    fn output_without_a_closing_line_is_an_error() {
        let cut = Results::parse("ok a-one\n");
        assert!(cut.compare(&BTreeSet::new()).is_err());
    }
}
