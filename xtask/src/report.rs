//! How the steps of a long command went.
//!
//! All steps run even after one has failed; the end says which failed.

use std::{process::ExitCode, time::Instant};

use anyhow::Result;

/// What is to be said at the end.
#[derive(Debug, Default)]
pub(crate) struct Report {
    notes: Vec<String>,
    failed: Vec<&'static str>,
}

impl Report {
    /// Runs one step, says how it ended, and keeps what it has to say for the end.
    pub(crate) fn step(
        &mut self,
        name: &'static str,
        step: impl FnOnce() -> Result<Option<String>>,
    ) {
        eprintln!("==> {name}");
        let start = Instant::now();
        match step() {
            Ok(note) => {
                eprintln!("==> {name}: ok, {} s", start.elapsed().as_secs());
                self.notes.extend(note);
            }
            Err(error) => {
                eprintln!(
                    "==> {name}: FAILED, {} s: {error:#}",
                    start.elapsed().as_secs()
                );
                self.failed.push(name);
            }
        }
    }

    /// Notes a step that could not be run.
    pub(crate) fn fail(&mut self, name: &'static str) {
        self.failed.push(name);
    }

    /// Says how everything went; `last` is the last line.
    pub(crate) fn close(self, last: &str) -> ExitCode {
        for note in &self.notes {
            eprintln!("{note}");
        }
        let verdict = if self.failed.is_empty() {
            eprintln!("all steps passed");
            ExitCode::SUCCESS
        } else {
            eprintln!("failed steps: {}", self.failed.join(", "));
            ExitCode::FAILURE
        };
        eprintln!("{last}");
        verdict
    }
}
