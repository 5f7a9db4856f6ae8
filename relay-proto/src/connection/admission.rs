//! How much cryptography a websocket may cause that leads to nothing.
//!
//! The reference counts eight bad handshakes and then refuses everybody for ten seconds, so anybody
//! can lock everybody out. Here a failure costs a token, and tokens come back one by one: under an
//! attack the work is bounded, and a good harness is refused at most until the next token.
//! Refusals by the registry are not failures here.

use std::time::Instant;

use crate::limits;

#[derive(Debug)]
pub(super) struct FailureBudget {
    tokens: u32,
    /// Tokens are counted from here.
    since: Instant,
}

impl FailureBudget {
    pub(super) fn new(now: Instant) -> Self {
        Self {
            tokens: limits::HANDSHAKE_FAILURE_BURST,
            since: now,
        }
    }

    /// Whether another handshake may be tried.
    pub(super) fn allows(&mut self, now: Instant) -> bool {
        self.refill(now);
        self.tokens > 0
    }

    /// Notes a failed one.
    pub(super) fn spend(&mut self, now: Instant) {
        self.refill(now);
        self.tokens = self.tokens.saturating_sub(1);
    }

    fn refill(&mut self, now: Instant) {
        let elapsed = now.saturating_duration_since(self.since);
        let earned = elapsed.as_nanos() / limits::HANDSHAKE_FAILURE_INTERVAL.as_nanos();
        match u32::try_from(earned) {
            Ok(earned) if self.tokens.saturating_add(earned) < limits::HANDSHAKE_FAILURE_BURST => {
                self.tokens += earned;
                self.since += limits::HANDSHAKE_FAILURE_INTERVAL * earned;
            }
            _ => {
                self.tokens = limits::HANDSHAKE_FAILURE_BURST;
                self.since = now;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_burst_is_free_and_then_one_comes_back_per_interval() {
        let mut now = Instant::now();
        let mut budget = FailureBudget::new(now);
        for _ in 0..limits::HANDSHAKE_FAILURE_BURST {
            assert!(budget.allows(now));
            budget.spend(now);
        }
        assert!(!budget.allows(now));
        for _ in 0..10 {
            now += limits::HANDSHAKE_FAILURE_INTERVAL;
            assert!(budget.allows(now));
            budget.spend(now);
            assert!(!budget.allows(now));
        }
        // Asking often does not cost the fraction that has been earned.
        let half = limits::HANDSHAKE_FAILURE_INTERVAL / 2;
        assert!(!budget.allows(now + half));
        assert!(budget.allows(now + half + half));
    }

    #[test]
    fn it_never_holds_more_than_the_burst() {
        let start = Instant::now();
        let mut budget = FailureBudget::new(start);
        let later = start + std::time::Duration::from_secs(1_000_000);
        for _ in 0..limits::HANDSHAKE_FAILURE_BURST {
            assert!(budget.allows(later));
            budget.spend(later);
        }
        assert!(!budget.allows(later));
    }
}
