//! Lengths of time as people write them.

use std::{fmt, str::FromStr, time::Duration};

/// A length of time with its unit: `500ms`, `5s`, `2m` or `1h`; a day at most.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Period(Duration);

/// A text that is no [`Period`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("expected a number with ms, s, m or h, such as 5s, and at most a day")]
pub struct PeriodError;

impl Period {
    /// As a duration.
    pub fn get(self) -> Duration {
        self.0
    }
}

impl FromStr for Period {
    type Err = PeriodError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let text = text.trim();
        let digits = text.bytes().take_while(u8::is_ascii_digit).count();
        let (number, unit) = text.split_at(digits);
        let millis: u64 = match unit {
            "ms" => 1,
            "s" => 1_000,
            "m" => 60_000,
            "h" => 3_600_000,
            _ => return Err(PeriodError),
        };
        number
            .parse()
            .ok()
            .and_then(|number: u64| number.checked_mul(millis))
            .map(Duration::from_millis)
            .filter(|period| *period <= LONGEST)
            .map(Self)
            .ok_or(PeriodError)
    }
}

impl fmt::Display for Period {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let millis = self.0.as_millis();
        match millis % 1_000 {
            0 => write!(f, "{}s", millis / 1_000),
            _ => write!(f, "{millis}ms"),
        }
    }
}

const LONGEST: Duration = Duration::from_secs(24 * 60 * 60);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_number_and_a_unit() {
        for (text, millis) in [
            ("0s", 0),
            ("250ms", 250),
            (" 5s ", 5_000),
            ("2m", 120_000),
            ("24h", 86_400_000),
        ] {
            let period = Period(Duration::from_millis(millis));
            assert_eq!(text.parse(), Ok(period), "{text}");
            assert_eq!(period.to_string().parse(), Ok(period), "{text}");
        }
    }

    #[test]
    fn anything_else_is_refused() {
        for text in [
            "",
            "5",
            "s",
            "-1s",
            "+1s",
            "1.5s",
            "5 s",
            "5S",
            "1d",
            "25h",
            "99999999999999999999s",
            "5s5",
        ] {
            assert_eq!(text.parse::<Period>(), Err(PeriodError), "{text}");
        }
    }
}
