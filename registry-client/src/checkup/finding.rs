//! One line of a checkup, and all of them.

use std::fmt::Write as _;

use serde::Serialize;

/// How a check came out.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Verdict {
    /// It works.
    Pass,
    /// It works, less well than it could.
    Warn,
    /// It does not work.
    Fail,
    /// It was not looked at.
    Skip,
}

/// One thing that was looked at.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Finding {
    /// What was looked at: one word from a closed set.
    pub check: &'static str,
    /// How it came out.
    pub verdict: Verdict,
    /// What is used, or what is wrong.
    pub detail: String,
    /// What to do about it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub fix: Option<String>,
}

/// Everything that was looked at.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Report(pub Vec<Finding>);

impl Finding {
    /// It works.
    pub fn pass(check: &'static str, detail: impl Into<String>) -> Self {
        Self::new(check, Verdict::Pass, detail, None)
    }

    /// It was not looked at.
    pub fn skip(check: &'static str, detail: impl Into<String>) -> Self {
        Self::new(check, Verdict::Skip, detail, None)
    }

    /// It works, less well than it could.
    pub fn warn(check: &'static str, detail: impl Into<String>, fix: impl Into<String>) -> Self {
        Self::new(check, Verdict::Warn, detail, Some(fix.into()))
    }

    /// It does not work.
    pub fn fail(check: &'static str, detail: impl Into<String>, fix: impl Into<String>) -> Self {
        Self::new(check, Verdict::Fail, detail, Some(fix.into()))
    }

    fn new(
        check: &'static str,
        verdict: Verdict,
        detail: impl Into<String>,
        fix: Option<String>,
    ) -> Self {
        Self {
            check,
            verdict,
            detail: detail.into(),
            fix,
        }
    }
}

impl Report {
    /// Whether anything does not work.
    pub fn has_failed(&self) -> bool {
        self.0
            .iter()
            .any(|finding| finding.verdict == Verdict::Fail)
    }

    /// Whether this check was made and works.
    pub fn passed(&self, check: &str) -> bool {
        let mut all = self.0.iter().filter(|finding| finding.check == check);
        all.any(|finding| finding.verdict == Verdict::Pass)
    }

    /// For people: a line for each finding, and one more for what to do.
    pub fn text(&self) -> String {
        let mut text = String::new();
        for finding in &self.0 {
            let verdict = match finding.verdict {
                Verdict::Pass => "pass",
                Verdict::Warn => "WARN",
                Verdict::Fail => "FAIL",
                Verdict::Skip => "skip",
            };
            let detail = finding.detail.replace('\n', " ");
            // Writing to a string does not fail.
            let _ = writeln!(text, "{verdict}  {:15} {detail}", finding.check);
            if let Some(fix) = &finding.fix {
                let _ = writeln!(text, "      {:15} fix: {fix}", "");
            }
        }
        text
    }

    /// For programs: one JSON object a line.
    pub fn json(&self) -> String {
        let lines = self.0.iter().map(serde_json::to_string);
        let lines: Vec<String> = lines.filter_map(Result::ok).collect();
        lines.join("\n") + "\n"
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_report_is_for_people_and_for_programs() {
        let report = Report(vec![
            Finding::pass("dns", "host is ::1"),
            Finding::fail("clock", "90 s\nbehind", "set it"),
        ]);
        assert!(report.has_failed() && report.passed("dns") && !report.passed("clock"));
        assert_eq!(
            report.text(),
            "pass  dns             host is ::1\n\
             FAIL  clock           90 s behind\n                      fix: set it\n"
        );
        assert_eq!(
            report.json(),
            "{\"check\":\"dns\",\"verdict\":\"pass\",\"detail\":\"host is ::1\"}\n\
             {\"check\":\"clock\",\"verdict\":\"fail\",\"detail\":\"90 s\\nbehind\",\"fix\":\"set it\"}\n"
        );
        let warned = Report(vec![Finding::warn("limits", "few", "raise them")]);
        assert!(!warned.has_failed());
    }
}
