//! Reads a `set-cookie` header, as RFC 6265, section 5.2 says.

use std::time::{Duration, SystemTime};

/// What one header sets.
#[derive(PartialEq, Eq)]
pub(super) struct SetCookie {
    pub(super) name: String,
    pub(super) value: String,
    /// In lower case, without a leading dot.
    pub(super) domain: Option<String>,
    /// Begins with a slash.
    pub(super) path: Option<String>,
    pub(super) life: Life,
}

/// How long a cookie lives.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Life {
    /// As long as the process.
    Process,
    /// Until then.
    Until(SystemTime),
    /// This long, from when it was set; zero takes the cookie back.
    For(Duration),
}

impl Life {
    /// When it ends. A time that no clock can express is no end.
    pub(super) fn end(self, now: SystemTime) -> Option<SystemTime> {
        match self {
            Self::Process => None,
            Self::Until(end) => Some(end),
            Self::For(time) => now.checked_add(time),
        }
    }
}

/// `None` if the header sets nothing.
pub(super) fn parse(header: &str) -> Option<SetCookie> {
    let mut parts = header.split(';');
    let (name, value) = parts.next()?.split_once('=')?;
    let (name, value) = (name.trim(), value.trim());
    if name.is_empty() {
        return None;
    }
    let mut cookie = SetCookie {
        name: name.to_owned(),
        value: value.to_owned(),
        domain: None,
        path: None,
        life: Life::Process,
    };
    let mut max_age = None;
    for part in parts {
        let (name, value) = part.split_once('=').unwrap_or((part, ""));
        let value = value.trim();
        match name.trim().to_ascii_lowercase().as_str() {
            "domain" => {
                let domain = value.strip_prefix('.').unwrap_or(value);
                cookie.domain = Some(domain.to_ascii_lowercase()).filter(|text| !text.is_empty());
            }
            "path" => cookie.path = value.starts_with('/').then(|| value.to_owned()),
            "expires" => {
                if let Some(end) = date(value) {
                    cookie.life = Life::Until(end);
                }
            }
            "max-age" => max_age = seconds(value).or(max_age),
            _ => {}
        }
    }
    // It has the last word over `expires`, wherever it stands.
    cookie.life = max_age.map_or(cookie.life, Life::For);
    Some(cookie)
}

/// Seconds, none of them for a negative number, as many as there can be for a large one.
fn seconds(text: &str) -> Option<Duration> {
    let digits = text.strip_prefix('-').unwrap_or(text);
    if digits.is_empty() || !digits.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    if digits.len() < text.len() {
        return Some(Duration::ZERO);
    }
    Some(Duration::from_secs(digits.parse().unwrap_or(u64::MAX)))
}

/// A date in any of the forms that are in use (section 5.1.1): the parts are told by their looks.
fn date(text: &str) -> Option<SystemTime> {
    let is_delimiter = |letter: char| letter != ':' && !letter.is_ascii_alphanumeric();
    let (mut time, mut day, mut month, mut year) = (None, None, None, None);
    for token in text.split(is_delimiter).filter(|token| !token.is_empty()) {
        if time.is_none() && token.contains(':') {
            time = Some(time_of_day(token)?);
        } else if day.is_none() && token.len() <= 2 && is_number(token) {
            day = token.parse::<u32>().ok();
        } else if month.is_none() && month_number(token).is_some() {
            month = month_number(token);
        } else if year.is_none() && matches!(token.len(), 2 | 4) && is_number(token) {
            year = token.parse::<u32>().ok();
        }
    }
    let year = match year? {
        short @ 0..=69 => 2000 + short,
        short @ 70..=99 => 1900 + short,
        year => year,
    };
    let (day, month) = (day?, month?);
    if year < 1601 || !(1..=31).contains(&day) {
        return None;
    }
    let days = days_since_1970(i64::from(year), month, day);
    // What is before 1970 is over in any case.
    let days = u64::try_from(days).unwrap_or(0);
    SystemTime::UNIX_EPOCH.checked_add(Duration::from_secs(days * 86_400 + time?))
}

fn is_number(token: &str) -> bool {
    token.bytes().all(|byte| byte.is_ascii_digit())
}

/// Seconds since midnight.
fn time_of_day(token: &str) -> Option<u64> {
    let mut fields = token.split(':').map(|field| {
        let is_field = matches!(field.len(), 1 | 2) && is_number(field);
        is_field.then(|| field.parse::<u64>().ok()).flatten()
    });
    let (hour, minute, second) = (fields.next()??, fields.next()??, fields.next()??);
    let is_time = fields.next().is_none() && hour < 24 && minute < 60 && second < 60;
    is_time.then_some(hour * 3600 + minute * 60 + second)
}

fn month_number(token: &str) -> Option<u32> {
    const MONTHS: [&str; 12] = [
        "jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec",
    ];
    let start = token.get(..3)?.to_ascii_lowercase();
    let at = MONTHS.iter().position(|month| *month == start)?;
    u32::try_from(at + 1).ok()
}

/// Days in the proleptic Gregorian calendar. A year is taken to begin in March, so that the leap day
/// is its last; then the days before a month are a linear function, rounded down.
fn days_since_1970(year: i64, month: u32, day: u32) -> i64 {
    let (year, month) = match month {
        1 | 2 => (year - 1, month + 9),
        _ => (year, month - 3),
    };
    let before_month = i64::from((153 * month + 2) / 5);
    let before_year = 365 * year + year / 4 - year / 100 + year / 400;
    before_year + before_month + i64::from(day) - 1 - 719_468
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(seconds: u64) -> SystemTime {
        SystemTime::UNIX_EPOCH + Duration::from_secs(seconds)
    }

    #[test]
    fn dates_of_all_forms_are_read() {
        for (text, seconds) in [
            ("Sun, 06 Nov 1994 08:49:37 GMT", 784_111_777),
            ("Sunday, 06-Nov-94 08:49:37 GMT", 784_111_777),
            ("Sun Nov  6 08:49:37 1994", 784_111_777),
            ("Sat, 29-Feb-20 23:59:59 GMT", 1_583_020_799),
            ("Sun, 1 Mar 2020 0:0:0 GMT", 1_583_020_800),
            ("Thu, 31 Dec 1999 23:59:59 GMT", 946_684_799),
            ("Tue, 01 Mar 2100 00:00:00 GMT", 4_107_542_400),
            ("Thu, 01 Jan 1970 00:00:00 GMT", 0),
            ("Fri, 31 Dec 1909 00:00:00 GMT", 0),
        ] {
            assert_eq!(date(text), Some(at(seconds)), "{text}");
        }
        for text in [
            "",
            "tomorrow",
            "Sun, 06 Nov 1994",
            "Sun, 06 Nov 1994 24:00:00 GMT",
            "Sun, 32 Nov 1994 08:49:37 GMT",
            "Sun, 06 Brm 1994 08:49:37 GMT",
            "Sun, 06 Nov 1500 08:49:37 GMT",
            "Sun, 06 Nov 1994 08:49 GMT",
        ] {
            assert_eq!(date(text), None, "{text}");
        }
    }

    #[test]
    fn parts_are_found_whatever_their_case_and_place() {
        let cookie = parse(" a = b=c ; PATH=/p; Secure;domain=.Example.COM ; Max-Age=5").unwrap();
        assert_eq!((cookie.name.as_str(), cookie.value.as_str()), ("a", "b=c"));
        assert_eq!(cookie.domain.as_deref(), Some("example.com"));
        assert_eq!(cookie.path.as_deref(), Some("/p"));
        assert_eq!(cookie.life, Life::For(Duration::from_secs(5)));
        let plain = parse("a=;path=relative;domain=;max-age=x;expires=never").unwrap();
        assert!(plain.domain.is_none() && plain.path.is_none());
        assert_eq!((plain.value.as_str(), plain.life), ("", Life::Process));
        for nothing in ["", "a", "=b", "; path=/"] {
            assert!(parse(nothing).is_none(), "{nothing}");
        }
    }

    #[test]
    fn age_counts_before_the_date() {
        for header in [
            "a=b; Max-Age=-1; Expires=Sun, 06 Nov 2094 08:49:37 GMT",
            "a=b; Expires=Sun, 06 Nov 2094 08:49:37 GMT; Max-Age=0",
        ] {
            assert_eq!(parse(header).unwrap().life, Life::For(Duration::ZERO));
        }
        let long = parse("a=b; Max-Age=99999999999999999999999").unwrap().life;
        assert_eq!(long.end(at(0)), None, "no clock can express it");
    }
}
