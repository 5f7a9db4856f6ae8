//! Results on standard output, failures on standard error, as text or as JSON.

use std::{
    io::{self, Write},
    process::ExitCode,
};

use serde_json::{Value, json};

use crate::exit::Failure;

/// How results are shown.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Printer {
    json: bool,
}

impl Printer {
    pub(crate) fn new(json: bool) -> Self {
        Self { json }
    }

    /// Whether results are JSON.
    pub(crate) fn is_json(self) -> bool {
        self.json
    }

    /// Prints one result: an object in JSON, or a line of text.
    pub(crate) fn result(self, object: &Value, text: &str) -> Result<(), Failure> {
        let line = if self.json {
            object.to_string()
        } else {
            text.to_owned()
        };
        write_out(&mut io::stdout().lock(), line.as_bytes(), b"\n")
    }

    /// Says something that is neither result nor failure.
    pub(crate) fn note(self, message: &str) {
        if !self.json {
            // There is nobody left to tell when this fails.
            let _ = writeln!(io::stderr().lock(), "execctl: {message}");
        }
    }

    /// Prints why the command failed.
    pub(crate) fn failure(self, failure: &Failure) -> ExitCode {
        if failure.message.is_empty() {
            return ExitCode::from(failure.code);
        }
        let message = failure.message.replace('\n', " ");
        let line = if self.json {
            json!({
                "type": "error", "reason": failure.reason, "message": message,
                "exit_code": failure.code,
            })
            .to_string()
        } else {
            format!("execctl: {message}")
        };
        let _ = writeln!(io::stderr().lock(), "{line}");
        ExitCode::from(failure.code)
    }
}

fn write_out(out: &mut impl Write, line: &[u8], end: &[u8]) -> Result<(), Failure> {
    let written = out
        .write_all(line)
        .and_then(|()| out.write_all(end))
        .and_then(|()| out.flush());
    written.map_err(|error| Failure::write(&error))
}

/// Milliseconds since 1970 as `2026-01-31 23:59:59` (UTC).
pub(crate) fn time(ms: i64) -> String {
    let seconds = ms.div_euclid(1000);
    let (days, of_day) = (seconds.div_euclid(86_400), seconds.rem_euclid(86_400));
    // Howard Hinnant's days-to-civil, with years that begin in March.
    let z = days + 719_468;
    let era = z.div_euclid(146_097);
    let doe = z.rem_euclid(146_097);
    let yoe = (doe - doe / 1460 + doe / 36_524 - doe / 146_096) / 365;
    let doy = doe - (365 * yoe + yoe / 4 - yoe / 100);
    let mp = (5 * doy + 2) / 153;
    let day = doy - (153 * mp + 2) / 5 + 1;
    let month = if mp < 10 { mp + 3 } else { mp - 9 };
    let year = yoe + era * 400 + i64::from(month <= 2);
    let (hour, minute, second) = (of_day / 3600, of_day / 60 % 60, of_day % 60);
    format!("{year:04}-{month:02}-{day:02} {hour:02}:{minute:02}:{second:02}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_those_of_the_calendar() {
        for (ms, text) in [
            (0, "1970-01-01 00:00:00"),
            (1_767_225_600_000, "2026-01-01 00:00:00"),
            (1_709_210_096_789, "2024-02-29 12:34:56"),
            (-1, "1969-12-31 23:59:59"),
        ] {
            assert_eq!(time(ms), text);
        }
    }
}
