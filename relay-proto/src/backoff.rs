//! Delays between reconnects: exponential, jittered, with a server's hint as a floor.
//!
//! A pure schedule. The caller waits; the caller passes the clock and the random numbers.

use std::time::{Duration, Instant};

use backon::BackoffBuilder;
use rand::{Rng, RngExt};

/// Where in relation to the base delay `d` the actual delay lies.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Jitter {
    /// Uniform in `[d/2, d]`.
    HalfToFull,
    /// Uniform in `[d, 3d/2]`.
    FullToOneAndAHalf,
}

/// A schedule's parameters.
#[derive(Clone, Copy, Debug)]
pub struct BackoffConfig {
    /// First base delay; doubled with each attempt.
    pub min_delay: Duration,
    /// Largest base delay.
    pub max_delay: Duration,
    /// Spread around the base delay.
    pub jitter: Jitter,
    /// How long a connection must have lived for the schedule to start over.
    pub stable_after: Duration,
}

impl Default for BackoffConfig {
    /// 1 s doubling to 30 s, jittered downwards, reset after 10 s of connection.
    ///
    /// The reference resets after 120 s only, which drives an executor on a flapping path to the
    /// largest delays.
    fn default() -> Self {
        Self {
            min_delay: Duration::from_secs(1),
            max_delay: Duration::from_secs(30),
            jitter: Jitter::HalfToFull,
            stable_after: Duration::from_secs(10),
        }
    }
}

/// Position in a schedule.
#[derive(Debug)]
pub struct Backoff {
    config: BackoffConfig,
    delays: backon::ExponentialBackoff,
    connected_at: Option<Instant>,
}

impl Backoff {
    /// Starts at the first delay.
    pub fn new(config: BackoffConfig) -> Self {
        Self {
            delays: base_delays(&config),
            config,
            connected_at: None,
        }
    }

    /// Returns the delay before the next attempt and moves on in the schedule.
    ///
    /// `hint_floor` is the wait a server asked for; the delay is never shorter, and the jitter is
    /// then added on top of it so that a server's clients do not return all at once.
    pub fn next_delay(&mut self, rng: &mut impl Rng, hint_floor: Option<Duration>) -> Duration {
        let base = self.delays.next().unwrap_or(self.config.max_delay);
        let half = base / 2;
        let spread = random_up_to(rng, half);
        let delay = match self.config.jitter {
            Jitter::HalfToFull => half + spread,
            Jitter::FullToOneAndAHalf => base + spread,
        };
        match hint_floor {
            Some(floor) if floor > delay => floor.saturating_add(spread),
            _ => delay,
        }
    }

    /// Notes that a connection is up.
    pub fn connected(&mut self, now: Instant) {
        self.connected_at = Some(now);
    }

    /// Notes that the connection ended. The schedule starts over if it had been up long enough.
    pub fn lost(&mut self, now: Instant) {
        let Some(since) = self.connected_at.take() else {
            return;
        };
        if now.saturating_duration_since(since) >= self.config.stable_after {
            self.reset();
        }
    }

    /// Starts over.
    pub fn reset(&mut self) {
        self.delays = base_delays(&self.config);
    }
}

fn base_delays(config: &BackoffConfig) -> backon::ExponentialBackoff {
    backon::ExponentialBuilder::new()
        .with_min_delay(config.min_delay.min(config.max_delay))
        .with_max_delay(config.max_delay)
        .with_factor(2.0)
        .without_max_times()
        // Unused without jitter, but an unset seed would be drawn from global state.
        .with_jitter_seed(0)
        .build()
}

fn random_up_to(rng: &mut impl Rng, bound: Duration) -> Duration {
    let nanos = u64::try_from(bound.as_nanos()).unwrap_or(u64::MAX);
    Duration::from_nanos(rng.random_range(0..=nanos))
}

#[cfg(test)]
mod tests {
    use rand::SeedableRng;
    use rand::rngs::StdRng;

    use super::*;

    #[test]
    fn base_delays_double_up_to_the_maximum() {
        let mut backoff = Backoff::new(BackoffConfig::default());
        let mut rng = StdRng::seed_from_u64(1);
        for base in [1, 2, 4, 8, 16, 30, 30, 30] {
            let base = Duration::from_secs(base);
            let delay = backoff.next_delay(&mut rng, None);
            assert!(
                delay >= base / 2 && delay <= base,
                "{delay:?} for base {base:?}"
            );
        }
    }

    #[test]
    fn upward_jitter_adds_up_to_half() {
        let mut backoff = Backoff::new(BackoffConfig {
            min_delay: Duration::from_millis(500),
            max_delay: Duration::from_secs(5),
            jitter: Jitter::FullToOneAndAHalf,
            ..BackoffConfig::default()
        });
        let mut rng = StdRng::seed_from_u64(2);
        for base in [500, 1000, 2000, 4000, 5000, 5000] {
            let base = Duration::from_millis(base);
            let delay = backoff.next_delay(&mut rng, None);
            assert!(
                delay >= base && delay <= base * 3 / 2,
                "{delay:?} for base {base:?}"
            );
        }
    }

    #[test]
    fn only_a_stable_connection_starts_the_schedule_over() {
        let mut backoff = Backoff::new(BackoffConfig::default());
        let mut rng = StdRng::seed_from_u64(3);
        let start = Instant::now();
        for _ in 0..4 {
            backoff.next_delay(&mut rng, None);
        }
        backoff.connected(start);
        backoff.lost(start + Duration::from_secs(9));
        assert!(backoff.next_delay(&mut rng, None) >= Duration::from_secs(8));
        backoff.connected(start);
        backoff.lost(start + Duration::from_secs(10));
        assert!(backoff.next_delay(&mut rng, None) <= Duration::from_secs(1));
    }

    #[test]
    fn a_servers_hint_is_a_floor() {
        let mut backoff = Backoff::new(BackoffConfig::default());
        let mut rng = StdRng::seed_from_u64(4);
        let hint = Duration::from_secs(20);
        let delay = backoff.next_delay(&mut rng, Some(hint));
        assert!(delay >= hint && delay <= hint + Duration::from_millis(500));
        let delay = backoff.next_delay(&mut rng, Some(Duration::ZERO));
        assert!(delay >= Duration::from_secs(1) && delay <= Duration::from_secs(2));
    }

    #[test]
    fn losing_what_was_never_connected_changes_nothing() {
        let mut backoff = Backoff::new(BackoffConfig::default());
        let mut rng = StdRng::seed_from_u64(5);
        backoff.next_delay(&mut rng, None);
        backoff.lost(Instant::now() + Duration::from_secs(1000));
        assert!(backoff.next_delay(&mut rng, None) >= Duration::from_secs(1));
    }
}
