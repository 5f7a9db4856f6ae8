//! Whether one stream's peer is still there.
//!
//! Anything new from the peer is a sign of life. After some silence it is asked for one, and again a
//! few times; if none comes in time the path is dead. What arrived before does not count again, so
//! nobody in between can keep a dead peer alive with old frames.
//!
//! The deadline starts when the first request is due, not at the last sign of life: an end that was
//! itself asleep asks first.

use std::time::{Duration, Instant};

use crate::limits;

/// Intervals of the signs of life between two ends of this project.
#[derive(Clone, Copy, Debug)]
pub struct HeartbeatConfig {
    /// Silence after which a sign of life is asked for. Default
    /// [`limits::HEARTBEAT_INTERVAL`].
    pub interval: Duration,
    /// Time for it, unless round trips take longer. Default [`limits::HEARTBEAT_TIMEOUT`].
    pub timeout: Duration,
}

impl Default for HeartbeatConfig {
    fn default() -> Self {
        Self {
            interval: limits::HEARTBEAT_INTERVAL,
            timeout: limits::HEARTBEAT_TIMEOUT,
        }
    }
}

#[derive(Debug)]
pub(crate) struct Liveness {
    config: HeartbeatConfig,
    heard: Instant,
    /// Set when a sign of life was first asked for.
    asked: Option<Asked>,
    /// How often in a row the path was found dead: each doubles the patience.
    deaths: u32,
}

#[derive(Clone, Copy, Debug)]
struct Asked {
    /// The first time.
    since: Instant,
    /// The next time.
    again: Instant,
}

/// What is due.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Pulse {
    Nothing,
    /// Ask for a sign of life.
    Ask,
    /// Ask again, and have a look at the websocket.
    AskAgain,
    Dead,
}

impl Liveness {
    pub(crate) fn new(config: HeartbeatConfig, now: Instant) -> Self {
        Self {
            config,
            heard: now,
            asked: None,
            deaths: 0,
        }
    }

    /// Something new came from the peer.
    pub(crate) fn heard(&mut self, now: Instant) {
        self.heard = now;
        // Only an answer that came in time shows that the patience is long enough.
        if self.asked.take().is_some() {
            self.deaths = 0;
        }
    }

    /// Starts over on another path.
    pub(crate) fn restart(&mut self, now: Instant) {
        self.heard = now;
        self.asked = None;
    }

    /// When [`Liveness::handle_timeout`] is to be called. `timeout` is the retransmission timeout,
    /// without backoff.
    pub(crate) fn deadline(&self, timeout: Duration) -> Instant {
        match self.asked {
            None => self.heard + self.config.interval,
            Some(asked) => asked.again.min(self.dead_at(asked.since, timeout)),
        }
    }

    pub(crate) fn handle_timeout(&mut self, now: Instant, timeout: Duration) -> Pulse {
        if self.deadline(timeout) > now {
            return Pulse::Nothing;
        }
        let again = now + timeout.max(limits::HEARTBEAT_REPEAT);
        match &mut self.asked {
            None => {
                self.asked = Some(Asked { since: now, again });
                Pulse::Ask
            }
            Some(asked) => {
                let since = asked.since;
                asked.again = again;
                if self.dead_at(since, timeout) <= now {
                    self.deaths = self.deaths.saturating_add(1);
                    Pulse::Dead
                } else {
                    Pulse::AskAgain
                }
            }
        }
    }

    fn dead_at(&self, asked_since: Instant, timeout: Duration) -> Instant {
        let patience = self.config.timeout.max(timeout * 4);
        asked_since + patience * (1 << self.deaths.min(MAX_DOUBLINGS))
    }
}

/// With the default timeout the longest patience is then 28 s.
const MAX_DOUBLINGS: u32 = 3;

#[cfg(test)]
mod tests {
    use super::*;

    const RTO: Duration = limits::RTO_MIN;

    fn run(liveness: &mut Liveness, mut now: Instant) -> (Vec<Pulse>, Instant) {
        let mut pulses = Vec::new();
        loop {
            now = now.max(liveness.deadline(RTO));
            let pulse = liveness.handle_timeout(now, RTO);
            pulses.push(pulse);
            if pulse == Pulse::Dead {
                return (pulses, now);
            }
        }
    }

    #[test]
    fn silence_is_asked_about_several_times_and_is_death_within_five_seconds() {
        let start = Instant::now();
        let mut liveness = Liveness::new(HeartbeatConfig::default(), start);
        let (pulses, end) = run(&mut liveness, start);
        assert_eq!(pulses[0], Pulse::Ask);
        assert!(
            pulses[1..pulses.len() - 1]
                .iter()
                .all(|it| *it == Pulse::AskAgain)
        );
        assert!(pulses.len() >= 5);
        assert_eq!(end - start, Duration::from_secs(5));
    }

    #[test]
    fn each_death_doubles_the_patience_until_a_sign_of_life() {
        let start = Instant::now();
        let mut liveness = Liveness::new(HeartbeatConfig::default(), start);
        let mut now = start;
        let mut lived = Vec::new();
        for _ in 0..6 {
            let begin = now;
            now = run(&mut liveness, now).1;
            lived.push((now - begin - limits::HEARTBEAT_INTERVAL).as_millis());
            liveness.restart(now);
        }
        assert_eq!(lived, [3_500, 7_000, 14_000, 28_000, 28_000, 28_000]);
        now += limits::HEARTBEAT_INTERVAL;
        assert_eq!(liveness.handle_timeout(now, RTO), Pulse::Ask);
        liveness.heard(now);
        assert_eq!(run(&mut liveness, now).1 - now, Duration::from_secs(5));
    }

    #[test]
    fn an_end_that_slept_asks_before_it_judges() {
        let start = Instant::now();
        let mut liveness = Liveness::new(HeartbeatConfig::default(), start);
        let woke = start + Duration::from_secs(10_000);
        let pulse = liveness.handle_timeout(woke, RTO);
        assert_eq!(pulse, Pulse::Ask);
        assert!(liveness.deadline(RTO) > woke);
    }

    #[test]
    fn long_round_trips_get_more_time() {
        let start = Instant::now();
        let mut liveness = Liveness::new(HeartbeatConfig::default(), start);
        let slow = Duration::from_secs(3);
        let asked = start + limits::HEARTBEAT_INTERVAL;
        assert_eq!(liveness.handle_timeout(asked, slow), Pulse::Ask);
        let late = asked + slow * 4;
        assert_eq!(
            liveness.handle_timeout(late - Duration::from_millis(1), slow),
            Pulse::AskAgain
        );
        assert_eq!(liveness.handle_timeout(late, slow), Pulse::Dead);
    }
}
