//! When to try again.
//!
//! ```text
//! a connection that had proved itself is lost   within 50 ms, once
//! failures soon after a connection              1 s, then 2 s, in the upper half at random
//! anything else                                 1 s doubling to 15 s, in the upper half at random
//! the server says when                          not before that, and spread after it
//! the same, when it sends everybody away        then, spread a little
//! ```
//!
//! Most lost connections are cut by something that is back at once: a restarted server, a proxy
//! that reloads, a path that changes. A harness counts the time until its executor is back against
//! the 45 s that it gives a recovery, and a command's output waits meanwhile. What is not back at
//! once must not be hammered, and neither may a server that has just cut a thousand executors: it
//! answers a request that it cannot serve with `Retry-After`, which is a floor here.

use std::time::{Duration, Instant};

use rand::{RngExt as _, SeedableRng as _, rngs::StdRng};
use relay_proto::backoff::{Backoff, BackoffConfig};

/// The delays of one supervisor.
#[derive(Debug)]
pub(super) struct Pacing {
    backoff: Backoff,
    /// For the time in which streams wait for their executor.
    soon: Backoff,
    soon_left: u32,
    stable_after: Duration,
    connected_at: Option<Instant>,
    rng: StdRng,
}

impl Pacing {
    pub(super) fn new(config: BackoffConfig, seed: [u8; 32]) -> Self {
        Self {
            backoff: Backoff::new(config),
            soon: Backoff::new(BackoffConfig {
                max_delay: config.max_delay.min(config.min_delay * 2),
                ..config
            }),
            soon_left: 0,
            stable_after: config.stable_after,
            connected_at: None,
            rng: StdRng::from_seed(seed),
        }
    }

    /// Notes that a connection is up.
    pub(super) fn connected(&mut self, now: Instant) {
        self.connected_at = Some(now);
        self.backoff.connected(now);
        self.soon.connected(now);
        self.soon_left = SOON_FAILURES;
    }

    /// The delay after a connection was lost.
    pub(super) fn lost(&mut self, now: Instant) -> Duration {
        self.backoff.lost(now);
        self.soon.lost(now);
        let lasted = self
            .connected_at
            .take()
            .map(|since| now.saturating_duration_since(since));
        if lasted.is_some_and(|lasted| lasted >= self.stable_after) {
            return self.rng.random_range(Duration::ZERO..=FIRST_REDIAL);
        }
        // A connection that never lives long would otherwise be redialed without a pause.
        self.failed(None)
    }

    /// The delay after the server has sent this executor away for so long: that, spread a little.
    pub(super) fn sent_away(&mut self, retry_after: Duration, now: Instant) -> Duration {
        self.connected_at = None;
        self.backoff.lost(now);
        self.soon.lost(now);
        let spread = FIRST_REDIAL.max(retry_after / 10);
        retry_after + self.rng.random_range(Duration::ZERO..=spread)
    }

    /// The delay after a failure, not below what the server asked for.
    pub(super) fn failed(&mut self, floor: Option<Duration>) -> Duration {
        if self.soon_left > 0 {
            self.soon_left -= 1;
            return self.soon.next_delay(&mut self.rng, floor);
        }
        self.backoff.next_delay(&mut self.rng, floor)
    }
}

/// Failures after a connection that are followed by another attempt soon: for about 45 s. Streams wait
/// for a minute, and a server that comes and goes would otherwise hardly ever meet both ends at once.
const SOON_FAILURES: u32 = 30;
/// Longest delay before the first attempt after a stable connection; the delay is uniform below it.
const FIRST_REDIAL: Duration = Duration::from_millis(50);

#[cfg(test)]
mod tests {
    use super::{super::BACKOFF, *};

    const MS: Duration = Duration::from_millis(1);

    fn pacing(number: u64) -> Pacing {
        let mut seed = [0; 32];
        seed[..8].copy_from_slice(&number.to_le_bytes());
        Pacing::new(BACKOFF, seed)
    }

    fn lose_stable(pacing: &mut Pacing, now: Instant) -> Duration {
        pacing.connected(now);
        pacing.lost(now + BACKOFF.stable_after)
    }

    #[test]
    fn stable_connection_is_redialed_within_50_ms_and_then_the_delays_grow() {
        let mut pacing = pacing(1);
        let now = Instant::now();
        for _ in 0..3 {
            assert!(lose_stable(&mut pacing, now) <= 50 * MS);
            let soon = std::iter::once(1).chain([2; 29]);
            for base in soon.chain([1, 2, 4, 8, 15, 15]) {
                let base = Duration::from_secs(base);
                let delay = pacing.failed(None);
                assert!(delay >= base / 2 && delay <= base, "{delay:?} for {base:?}");
            }
        }
    }

    #[test]
    fn short_connections_are_not_redialed_at_once_and_do_not_start_over() {
        let mut pacing = pacing(2);
        let now = Instant::now();
        for base in [1, 2, 2] {
            pacing.connected(now);
            let delay = pacing.lost(now + BACKOFF.stable_after - MS);
            assert!(delay >= Duration::from_secs(base) / 2, "{delay:?}");
        }
    }

    #[test]
    fn who_is_sent_away_comes_back_when_told() {
        let now = Instant::now();
        for hint in [Duration::ZERO, 500 * MS, Duration::from_secs(30)] {
            let mut all: Vec<_> = (0..1_000).map(pacing).collect();
            let delays = all.iter_mut().map(|one| {
                one.connected(now);
                one.sent_away(hint, now + MS)
            });
            assert_spread(delays, hint, hint + (50 * MS).max(hint / 10));
            // What follows is no stampede either.
            let next = all.iter_mut().map(|one| one.failed(None));
            assert_spread(next, 500 * MS, 1_000 * MS);
        }
    }

    /// A server that is away for three seconds and then takes a hundred in each tenth of a second, and
    /// sends the others away for a second.
    #[test]
    fn a_thousand_are_back_soon_and_do_not_overrun_a_server_that_returns() {
        use std::{cmp::Reverse, collections::BinaryHeap};

        const AWAY: Duration = Duration::from_secs(3);
        const CAPACITY: usize = 100;
        let now = Instant::now();
        let mut all: Vec<_> = (0..1_000).map(pacing).collect();
        let mut attempts: BinaryHeap<_> = all
            .iter_mut()
            .enumerate()
            .map(|(number, one)| Reverse((lose_stable(one, now), number)))
            .collect();
        let mut arrivals = vec![0; 1_000];
        let mut last = Duration::ZERO;
        while let Some(Reverse((at, number))) = attempts.pop() {
            let tenth = usize::try_from(at.as_millis() / 100).unwrap();
            arrivals[tenth] += 1;
            let floor = match (at < AWAY, arrivals[tenth] > CAPACITY) {
                (true, _) => None,
                (false, true) => Some(Duration::from_secs(1)),
                (false, false) => {
                    last = last.max(at);
                    continue;
                }
            };
            attempts.push(Reverse((at + all[number].failed(floor), number)));
        }
        let returned = usize::try_from(AWAY.as_millis() / 100).unwrap();
        let peak = arrivals[returned..].iter().max().unwrap();
        assert!(
            last < Duration::from_secs(10),
            "the last is back after {last:?}"
        );
        assert!(*peak <= 2 * CAPACITY, "{peak} in a tenth of a second");
    }

    #[test]
    fn a_thousand_cut_at_once_spread() {
        let now = Instant::now();
        let mut all: Vec<_> = (0..1_000).map(pacing).collect();
        let first = all.iter_mut().map(|one| lose_stable(one, now));
        assert_spread(first, Duration::ZERO, 50 * MS);
        let second = all.iter_mut().map(|one| one.failed(None));
        assert_spread(second, 500 * MS, 1_000 * MS);
        // A server that sends them all away for as long gets them back one by one all the same.
        let floor = Duration::from_secs(30);
        let third = all.iter_mut().map(|one| one.failed(Some(floor)));
        assert_spread(third, floor, floor + 1_000 * MS);
    }

    /// No tenth of the window may see more than twice its share.
    fn assert_spread(delays: impl Iterator<Item = Duration>, from: Duration, to: Duration) {
        let mut tenths = [0; 10];
        for delay in delays {
            assert!(delay >= from && delay <= to, "{delay:?}");
            let part = (delay - from).as_secs_f64() / (to - from).as_secs_f64();
            let tenth = (0..9)
                .find(|tenth| part < f64::from(tenth + 1) / 10.0)
                .unwrap_or(9);
            tenths[usize::try_from(tenth).unwrap()] += 1;
        }
        assert!(tenths.iter().all(|&count| count < 200), "{tenths:?}");
    }
}
