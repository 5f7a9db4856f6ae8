//! Round-trip time of one stream, and the timeouts that follow from it.
//!
//! RFC 6298 for the retransmission timeout, RFC 9002 section 6.1.2 for the loss delay. Who calls
//! [`Rtt::sample`] keeps Karn's rule: never with a record that was sent twice.

use std::time::Duration;

use crate::limits;

/// What is known about the round-trip time.
#[derive(Clone, Debug, Default)]
pub(crate) struct Rtt {
    smoothed: Option<Duration>,
    variation: Duration,
    latest: Duration,
    backoff: u32,
}

impl Rtt {
    /// Takes a measurement.
    pub(crate) fn sample(&mut self, rtt: Duration) {
        let rtt = rtt.min(limits::RTT_MAX);
        self.latest = rtt;
        match self.smoothed {
            None => {
                self.smoothed = Some(rtt);
                self.variation = rtt / 2;
            }
            Some(smoothed) => {
                self.variation = (self.variation * 3 + smoothed.abs_diff(rtt)) / 4;
                self.smoothed = Some((smoothed * 7 + rtt) / 8);
            }
        }
    }

    /// Whether there was a measurement.
    pub(crate) fn is_measured(&self) -> bool {
        self.smoothed.is_some()
    }

    /// Retransmission timeout before backoff.
    pub(crate) fn base_timeout(&self) -> Duration {
        self.smoothed
            .map_or(limits::RTO_INITIAL, |smoothed| {
                smoothed + (self.variation * 4).max(GRANULARITY) + limits::ACK_DELAY
            })
            .max(limits::RTO_MIN)
    }

    /// Retransmission timeout, doubled for each one that passed without an answer.
    pub(crate) fn timeout(&self) -> Duration {
        let base = self.base_timeout();
        base.saturating_mul(1 << self.backoff.min(MAX_BACKOFF))
            .min(limits::RTO_MAX.max(base))
    }

    /// How much later than another record one may arrive before it counts as lost.
    pub(crate) fn loss_delay(&self) -> Duration {
        let rtt = self
            .smoothed
            .map_or(limits::RTO_INITIAL, |smoothed| smoothed.max(self.latest));
        (rtt * 9 / 8).max(GRANULARITY)
    }

    /// A timeout passed.
    pub(crate) fn back_off(&mut self) {
        self.backoff = self.backoff.saturating_add(1);
    }

    /// The peer acknowledged something new.
    ///
    /// Karn's algorithm would keep the longer timeout until the next measurement. On a link that
    /// loses most records there may be none, so progress is enough here, as in QUIC.
    pub(crate) fn progress(&mut self) {
        self.backoff = 0;
    }
}

/// Resolution below which a timer means nothing.
const GRANULARITY: Duration = Duration::from_millis(10);

/// Doublings after which any timeout has reached its maximum.
const MAX_BACKOFF: u32 = 8;

#[cfg(test)]
mod tests {
    use super::*;

    const MS: Duration = Duration::from_millis(1);

    #[test]
    fn the_first_sample_and_the_next_follow_rfc_6298() {
        let mut rtt = Rtt::default();
        assert_eq!(rtt.timeout(), limits::RTO_INITIAL);
        rtt.sample(400 * MS);
        // 400 + 4 * 200 + 25
        assert_eq!(rtt.timeout(), 1_225 * MS);
        rtt.sample(800 * MS);
        // variation = 3/4 * 200 + 1/4 * 400 = 250; smoothed = 7/8 * 400 + 1/8 * 800 = 450
        assert_eq!(rtt.timeout(), (450 + 1_000 + 25) * MS);
        assert_eq!(rtt.loss_delay(), 900 * MS);
    }

    #[test]
    fn backoff_doubles_up_to_the_maximum_and_ends_with_progress() {
        let mut rtt = Rtt::default();
        rtt.sample(MS);
        assert_eq!(rtt.timeout(), limits::RTO_MIN);
        let mut last = rtt.timeout();
        for _ in 0..20 {
            rtt.back_off();
            assert!(rtt.timeout() == last * 2 || rtt.timeout() == limits::RTO_MAX);
            last = rtt.timeout();
        }
        assert_eq!(last, limits::RTO_MAX);
        rtt.progress();
        assert_eq!(rtt.timeout(), limits::RTO_MIN);
    }

    #[test]
    fn a_round_trip_longer_than_the_longest_timeout_is_believed_up_to_a_point() {
        let mut rtt = Rtt::default();
        for _ in 0..50 {
            rtt.sample(8_000 * MS);
        }
        assert!(rtt.timeout() > 8_000 * MS);
        rtt.back_off();
        assert!(rtt.timeout() < 8_100 * MS);
        for _ in 0..100 {
            rtt.sample(80_000 * MS);
        }
        assert!(rtt.timeout() < 10_100 * MS);
    }
}
