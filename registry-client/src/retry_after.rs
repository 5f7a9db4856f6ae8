//! The `Retry-After` header: seconds, or a date.

use std::time::Duration;

use http::HeaderMap;
use http::header::{DATE, RETRY_AFTER};

use crate::limits;

/// Returns the time to wait that the headers ask for, at most [`limits::MAX_RETRY_AFTER`].
///
/// A date is compared with the answer's own `Date`, not with the local clock, so that a wrong
/// local clock does not matter. Anything that cannot be understood counts as absent.
pub(crate) fn from_headers(headers: &HeaderMap) -> Option<Duration> {
    let text = headers.get(RETRY_AFTER)?.to_str().ok()?.trim();
    let delay = if text.bytes().all(|byte| byte.is_ascii_digit()) {
        // More digits than fit are a number all the same.
        (!text.is_empty()).then(|| Duration::from_secs(text.parse().unwrap_or(u64::MAX)))?
    } else {
        let until = httpdate::parse_http_date(text).ok()?;
        let now = httpdate::parse_http_date(headers.get(DATE)?.to_str().ok()?).ok()?;
        until.duration_since(now).unwrap_or_default()
    };
    Some(delay.min(limits::MAX_RETRY_AFTER))
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;

    use super::*;

    fn delay(retry_after: &'static str, date: Option<&'static str>) -> Option<Duration> {
        let mut headers = HeaderMap::new();
        headers.insert(RETRY_AFTER, HeaderValue::from_static(retry_after));
        if let Some(date) = date {
            headers.insert(DATE, HeaderValue::from_static(date));
        }
        from_headers(&headers)
    }

    #[test]
    fn seconds_are_read_and_capped() {
        assert_eq!(delay("0", None), Some(Duration::ZERO));
        assert_eq!(delay(" 7 ", None), Some(Duration::from_secs(7)));
        assert_eq!(delay("86400", None), Some(limits::MAX_RETRY_AFTER));
        assert_eq!(
            delay("99999999999999999999999", None),
            Some(limits::MAX_RETRY_AFTER)
        );
    }

    #[test]
    fn a_date_counts_from_the_date_of_the_answer() {
        let sent = Some("Sun, 06 Nov 1994 08:49:37 GMT");
        assert_eq!(
            delay("Sun, 06 Nov 1994 08:49:47 GMT", sent),
            Some(Duration::from_secs(10))
        );
        assert_eq!(
            delay("Sun, 06 Nov 1994 08:49:30 GMT", sent),
            Some(Duration::ZERO)
        );
        assert_eq!(delay("Sun, 06 Nov 1994 08:49:47 GMT", None), None);
    }

    #[test]
    fn anything_else_is_absent() {
        for text in ["", "soon", "-1", "1.5", "+3"] {
            assert_eq!(
                delay(text, Some("Sun, 06 Nov 1994 08:49:37 GMT")),
                None,
                "{text}"
            );
        }
        assert_eq!(from_headers(&HeaderMap::new()), None);
    }
}
