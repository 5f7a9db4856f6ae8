//! Running the tests, with what they need to find.

use std::{
    io::{BufRead as _, BufReader},
    path::Path,
    process::{Command, Stdio},
};

use anyhow::{Context as _, Result, bail};

use crate::commands::root;

/// Runs unit, end-to-end, interop and packaging tests.
pub(crate) struct Runner<'a> {
    /// The runner itself.
    pub(crate) nextest: &'a Path,
    /// Directory of the programs under test.
    pub(crate) programs: &'a Path,
    /// The reference.
    pub(crate) codex: &'a Path,
}

impl Runner<'_> {
    /// Runs the tests that `filter` selects; `counts` gets the runner's own summary.
    ///
    /// # Errors
    ///
    /// When a test fails, or there are none.
    pub(crate) fn run(
        &self,
        filter: &str,
        variables: &[(&str, &Path)],
        counts: &mut Option<String>,
    ) -> Result<()> {
        let mut command = Command::new(self.nextest);
        command
            .args([
                "nextest",
                "run",
                "--workspace",
                "--no-fail-fast",
                "--color",
                "never",
                // What failed stands at the end, not between a thousand lines of what passed.
                "--status-level",
                "slow",
                "--final-status-level",
                "fail",
                "--failure-output",
                "final",
                "--filterset",
                filter,
            ])
            .current_dir(root()?)
            .env("E2E_BIN_DIR", self.programs)
            .env("E2E_CODEX", self.codex)
            .envs(variables.iter().copied())
            // An error says what was being done; the frames of the runtime would bury that.
            .env("RUST_LIB_BACKTRACE", "0")
            .stdin(Stdio::null())
            .stdout(std::io::stderr())
            .stderr(Stdio::piped());
        let mut child = command.spawn().context("failed to start the test runner")?;
        let pipe = child.stderr.take().context("stderr is piped")?;
        for line in BufReader::new(pipe).lines() {
            let line = line?;
            eprintln!("{line}");
            if line.trim_start().starts_with("Summary [") {
                *counts = line
                    .split_once("] ")
                    .map(|(_, counts)| counts.trim().to_owned());
            }
        }
        let status = child.wait()?;
        if !status.success() {
            bail!("the test runner ended with {status}");
        }
        if counts.is_none() {
            bail!("the test runner gave no summary");
        }
        Ok(())
    }
}
