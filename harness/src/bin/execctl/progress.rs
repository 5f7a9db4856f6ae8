//! The progress of a copy, shown on a terminal only.

use std::{
    io::{IsTerminal, Write, stderr},
    time::Duration,
};

use harness::Copied;

use indicatif::{HumanBytes, ProgressBar, ProgressStyle};

/// A bar, or nothing.
pub(crate) struct Progress {
    bar: Option<ProgressBar>,
}

impl Progress {
    /// Shows a bar when `wanted` and standard error is a terminal.
    pub(crate) fn new(wanted: bool) -> Self {
        let bar = (wanted && stderr().is_terminal()).then(|| {
            let bar = ProgressBar::new(0);
            let template = "{bar:30} {bytes}/{total_bytes} {binary_bytes_per_sec} {wide_msg}";
            if let Ok(style) = ProgressStyle::with_template(template) {
                bar.set_style(style);
            }
            bar
        });
        Self { bar }
    }

    /// A file of this size comes next.
    pub(crate) fn file(&self, name: &str, size: u64) {
        if let Some(bar) = &self.bar {
            bar.inc_length(size);
            bar.set_message(name.to_owned());
        }
    }

    /// Bytes were moved.
    pub(crate) fn moved(&self, bytes: u64) {
        if let Some(bar) = &self.bar {
            bar.inc(bytes);
        }
    }

    /// Bytes need not be moved. They are no part of the bandwidth either.
    pub(crate) fn there(&self, bytes: u64) {
        if let Some(bar) = &self.bar {
            bar.set_length(bar.length().unwrap_or_default().saturating_sub(bytes));
        }
    }

    /// Takes the bar away and says what was done.
    pub(crate) fn finished(self, copied: &Copied, elapsed: Duration) {
        let Some(bar) = &self.bar else { return };
        bar.finish_and_clear();
        // There is nobody left to tell when this fails.
        let _ = writeln!(stderr().lock(), "{}", summary(copied, elapsed));
    }

    /// Bytes that were moved do not count.
    pub(crate) fn moved_back(&self, bytes: u64) {
        if let Some(bar) = &self.bar {
            bar.set_position(bar.position().saturating_sub(bytes));
        }
    }

    /// Says something above the bar.
    pub(crate) fn suspend(&self, say: impl FnOnce()) {
        match &self.bar {
            Some(bar) => bar.suspend(say),
            None => say(),
        }
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        if let Some(bar) = &self.bar {
            bar.finish_and_clear();
        }
    }
}

/// What a copy did, with its bandwidth.
fn summary(copied: &Copied, elapsed: Duration) -> String {
    let mut text = format!(
        "{} files, {} in {:.1} s, {}/s",
        copied.files,
        HumanBytes(copied.bytes),
        elapsed.as_secs_f64(),
        HumanBytes(per_second(copied.bytes, elapsed)),
    );
    for (count, what) in [
        (copied.unchanged, "complete already"),
        (copied.skipped, "skipped"),
    ] {
        if count > 0 {
            text.push_str(&format!(", {count} {what}"));
        }
    }
    text
}

/// Bandwidth, rounded down; of less than a millisecond, as if it were one.
pub(crate) fn per_second(bytes: u64, elapsed: Duration) -> u64 {
    let per_second = u128::from(bytes) * 1000 / elapsed.as_millis().max(1);
    u64::try_from(per_second).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn summary_has_the_bandwidth_and_what_was_left_out() {
        let mut copied = Copied {
            files: 2,
            bytes: 3 << 20,
            ..Copied::default()
        };
        let elapsed = Duration::from_millis(1500);
        assert_eq!(
            summary(&copied, elapsed),
            "2 files, 3.00 MiB in 1.5 s, 2.00 MiB/s"
        );
        (copied.unchanged, copied.skipped) = (7, 1);
        let text = summary(&copied, elapsed);
        assert!(
            text.ends_with("/s, 7 complete already, 1 skipped"),
            "{text}"
        );
        assert_eq!(per_second(5, Duration::ZERO), 5000);
    }
}
