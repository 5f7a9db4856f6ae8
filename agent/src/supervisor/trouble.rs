//! Warnings that do not repeat themselves.

use std::time::{Duration, Instant};

use crate::events;

/// Something that keeps the executor from being attached.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Trouble {
    /// What is wrong.
    pub(super) text: String,
    /// What to do about it.
    pub(super) advice: &'static str,
}

/// Logs a trouble when it is new or has not been told for a while.
#[derive(Debug, Default)]
pub(super) struct TroubleLog {
    last: Option<(Trouble, Instant)>,
    suppressed: u32,
}

impl TroubleLog {
    /// Things went well: whatever comes next is news.
    pub(super) fn clear(&mut self) {
        *self = Self::default();
    }

    /// Notes a trouble after which the next try comes in `next_try`.
    pub(super) fn note(&mut self, trouble: Trouble, next_try: Duration, now: Instant) {
        if let Some(suppressed) = self.admit(trouble.clone(), now) {
            events::trouble(&trouble.text, trouble.advice, suppressed, next_try);
        }
    }

    /// Notes a trouble that is followed by a new registration at once.
    pub(super) fn note_unpaced(&mut self, trouble: Trouble, request: &str, now: Instant) {
        if let Some(suppressed) = self.admit(trouble.clone(), now) {
            events::url_rejected(&trouble.text, trouble.advice, request, suppressed);
        }
    }

    /// Whether to log it, and how many like it were not.
    fn admit(&mut self, trouble: Trouble, now: Instant) -> Option<u32> {
        if let Some((last, told)) = &self.last
            && *last == trouble
            && now.saturating_duration_since(*told) < REPEAT_AFTER
        {
            self.suppressed = self.suppressed.saturating_add(1);
            return None;
        }
        self.last = Some((trouble, now));
        Some(std::mem::take(&mut self.suppressed))
    }
}

const REPEAT_AFTER: Duration = Duration::from_secs(60);

#[cfg(test)]
mod tests {
    use super::*;

    fn trouble(text: &str) -> Trouble {
        Trouble {
            text: text.to_owned(),
            advice: "",
        }
    }

    #[test]
    fn the_same_trouble_is_told_once_a_minute_with_a_count() {
        let mut log = TroubleLog::default();
        let start = Instant::now();
        let at = |secs| start + Duration::from_secs(secs);
        assert_eq!(log.admit(trouble("a"), at(0)), Some(0));
        assert_eq!(log.admit(trouble("a"), at(10)), None);
        assert_eq!(log.admit(trouble("a"), at(59)), None);
        assert_eq!(log.admit(trouble("a"), at(60)), Some(2));
        assert_eq!(log.admit(trouble("b"), at(61)), Some(0));
        assert_eq!(log.admit(trouble("b"), at(62)), None);
        log.clear();
        assert_eq!(log.admit(trouble("b"), at(63)), Some(0));
    }
}
