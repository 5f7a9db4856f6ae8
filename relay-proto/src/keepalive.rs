//! Pings of one websocket, and the decision that its path is dead.
//!
//! After a ping the path must show life: the pong, or any other message, which proves that the path
//! in still moves (a pong can be stuck behind a large backlog on a slow line), or a write that had to
//! wait and went on (the ping can be stuck behind it). The pong itself must come within the hard
//! timeout, because only it proves that both ways work.
//!
//! How soon depends on who waits for it:
//!
//! - Nobody: an interval and a timeout that cost little and forgive much.
//! - Somebody who has nothing but the pings to hear of a dead path (the path is *watched*): pings
//!   follow each other quickly, and the time for a sign of life is as short as the path allows: a few
//!   times the round trip of earlier pings, and the time that what was written before the ping takes
//!   at the pace that the path has shown.
//! - Somebody whose peer does not answer (the path is *suspected*): a ping is due at once, and there is
//!   little time for a sign of life, because the peer has had its own.
//!
//! An end that was itself asleep when the time ran out gives it once more.

use std::time::{Duration, Instant};

use crate::limits;
use crate::rtt::Rtt;

/// Intervals of the keepalive.
#[derive(Clone, Copy, Debug)]
pub struct KeepaliveConfig {
    /// Time between two pings. Default [`limits::PING_INTERVAL`].
    pub interval: Duration,
    /// The same while the path is watched. Default [`limits::WATCHED_PING_INTERVAL`].
    pub watched_interval: Duration,
    /// Silence after a ping that ends the connection.
    /// Default [`limits::PONG_TIMEOUT`].
    pub timeout: Duration,
    /// Time without the pong that ends the connection even if messages arrive.
    /// Default [`limits::PONG_HARD_TIMEOUT`].
    pub hard_timeout: Duration,
}

impl Default for KeepaliveConfig {
    fn default() -> Self {
        Self {
            interval: limits::PING_INTERVAL,
            watched_interval: limits::WATCHED_PING_INTERVAL,
            timeout: limits::PONG_TIMEOUT,
            hard_timeout: limits::PONG_HARD_TIMEOUT,
        }
    }
}

/// The keepalive of one websocket. Fed with time and with what happens on the websocket.
#[derive(Debug)]
pub struct Keepalive {
    config: KeepaliveConfig,
    state: State,
    watched_since: Option<Instant>,
    suspected_since: Option<Instant>,
    /// When something arrived last.
    heard: Instant,
    /// When a write that had to wait went on last.
    wrote: Instant,
    /// When this end found that it had been asleep.
    woke: Instant,
    rtt: Rtt,
    load: Load,
}

#[derive(Clone, Copy, Debug)]
enum State {
    /// No ping is out; the last one was sent then.
    Idle { pinged: Instant },
    /// A ping waits for the websocket to take it, since then if that is known.
    Due { since: Option<Instant> },
    /// A ping is out; at most one is.
    Waiting { sent: Instant },
    /// This side does not read, so it cannot see a pong.
    Suspended,
}

impl Keepalive {
    /// Starts with the websocket, whose upgrade counts as the first sign of life.
    pub fn new(config: KeepaliveConfig, now: Instant) -> Self {
        Self {
            config,
            state: State::Idle { pinged: now },
            watched_since: None,
            suspected_since: None,
            heard: now,
            wrote: now,
            woke: now,
            rtt: Rtt::default(),
            load: Load::new(now),
        }
    }

    /// Says whether somebody has nothing but the pings to hear of a dead path.
    pub fn watch(&mut self, now: Instant, is_watched: bool) {
        match (self.watched_since, is_watched) {
            (None, true) => {
                self.watched_since = Some(now);
                // The round trip has to be known before the path can be judged by it.
                if matches!(self.state, State::Idle { .. }) && !self.rtt.is_measured() {
                    self.state = State::Due { since: Some(now) };
                }
            }
            (Some(_), false) => self.watched_since = None,
            (Some(_), true) | (None, false) => {}
        }
    }

    /// Something arrived, whatever it is.
    pub fn heard(&mut self, now: Instant) {
        self.heard = now;
        self.suspected_since = None;
    }

    /// A write that had to wait went on.
    pub fn wrote(&mut self, now: Instant) {
        self.wrote = now;
    }

    /// This many bytes were handed to the websocket.
    pub fn sent(&mut self, bytes: usize) {
        self.load.sent(bytes);
    }

    /// A peer behind this websocket does not answer.
    pub fn suspect(&mut self, now: Instant) {
        match self.state {
            State::Idle { .. } => self.state = State::Due { since: Some(now) },
            State::Due { ref mut since } => {
                since.get_or_insert(now);
            }
            State::Waiting { .. } => {}
            State::Suspended => return,
        }
        self.suspected_since.get_or_insert(now);
    }

    /// A pong arrived.
    pub fn pong(&mut self, now: Instant) {
        self.heard(now);
        if let State::Waiting { sent } = self.state {
            self.rtt.sample(now.saturating_duration_since(sent));
            self.load.arrived(now);
            self.state = State::Idle { pinged: sent };
        }
    }

    /// This side stops reading.
    pub fn suspend(&mut self) {
        self.state = State::Suspended;
        self.suspected_since = None;
    }

    /// This side reads again. A ping is due, and the time for signs of life begins with it.
    pub fn resume(&mut self) {
        if matches!(self.state, State::Suspended) {
            self.state = State::Due { since: None };
        }
    }

    /// When [`Keepalive::watch`] and then [`Keepalive::is_dead`] are to be called next, given what the
    /// former is going to be told: at once if that is new.
    pub fn deadline(&self, is_watched: bool) -> Option<Instant> {
        if is_watched == self.watched_since.is_some() {
            self.next()
        } else {
            Some(self.heard)
        }
    }

    fn next(&self) -> Option<Instant> {
        match self.state {
            State::Idle { pinged } => Some(pinged + self.interval()),
            State::Due { since } => since.and_then(|since| self.soon(since)),
            State::Waiting { sent } => {
                let late = (self.life(sent) + self.config.timeout)
                    .min(self.woke.max(sent) + self.config.hard_timeout);
                Some(self.soon(sent).map_or(late, |soon| soon.min(late)))
            }
            State::Suspended => None,
        }
    }

    /// Whether the path is dead at `now`; otherwise a ping may have become due.
    pub fn is_dead(&mut self, now: Instant) -> bool {
        let Some(deadline) = self.next().filter(|deadline| *deadline <= now) else {
            return false;
        };
        match self.state {
            State::Idle { .. } => {
                self.state = State::Due { since: Some(now) };
                false
            }
            State::Suspended => false,
            State::Due { .. } | State::Waiting { .. } if now >= deadline + ASLEEP => {
                self.woke = now;
                false
            }
            State::Due { .. } | State::Waiting { .. } => true,
        }
    }

    /// Whether a ping is to be sent now; it is then taken as sent.
    pub fn take_ping(&mut self, now: Instant) -> bool {
        let State::Due { .. } = self.state else {
            return false;
        };
        self.state = State::Waiting { sent: now };
        self.load.pinged(now);
        true
    }

    /// When the path is dead for those who watch or suspect it, with a ping out since `since`.
    fn soon(&self, since: Instant) -> Option<Instant> {
        let life = self.life(since);
        let suspected = self
            .suspected_since
            .map(|since| since.max(life) + limits::SUSPECT_PONG_TIMEOUT.min(self.config.timeout));
        let watched = self
            .watched_since
            .filter(|_| self.rtt.is_measured())
            .map(|since| since.max(life) + self.patience());
        suspected.into_iter().chain(watched).min()
    }

    /// From when on life is missing, with a ping out since `since`.
    fn life(&self, since: Instant) -> Instant {
        since.max(self.heard).max(self.wrote).max(self.woke)
    }

    /// Time for a sign of life on a watched path.
    fn patience(&self) -> Duration {
        let round_trips = self.rtt.base_timeout() * 4;
        (limits::SUSPECT_PONG_TIMEOUT.max(round_trips) + self.load.time()).min(self.config.timeout)
    }

    fn interval(&self) -> Duration {
        if self.watched_since.is_some() {
            self.config.watched_interval.min(self.config.interval)
        } else {
            self.config.interval
        }
    }
}

/// How much later than asked for a timer fires when this end was asleep.
const ASLEEP: Duration = Duration::from_secs(1);

/// What may still be on its way before a ping, and how fast that goes.
#[derive(Debug)]
struct Load {
    /// Since the websocket began.
    sent: u64,
    /// What went before the ping that is out.
    before_ping: u64,
    /// What went before the ping that was answered last, and when that was sent.
    arrived: u64,
    arrived_since: Instant,
    pinged: Instant,
    /// In bytes per second; at least this, whenever it could be seen.
    pace: u64,
}

impl Load {
    fn new(now: Instant) -> Self {
        Self {
            sent: 0,
            before_ping: 0,
            arrived: 0,
            arrived_since: now,
            pinged: now,
            pace: limits::SLOW_PATH_PACE,
        }
    }

    fn sent(&mut self, bytes: usize) {
        self.sent = self.sent.saturating_add(bytes as u64);
    }

    fn pinged(&mut self, now: Instant) {
        self.before_ping = self.sent;
        self.pinged = now;
    }

    /// The ping was answered, so what went before it has arrived.
    fn arrived(&mut self, now: Instant) {
        let bytes = self.before_ping.saturating_sub(self.arrived);
        let time = now.saturating_duration_since(self.arrived_since);
        if bytes >= limits::SLOW_PATH_PACE {
            let millis = u64::try_from(time.as_millis()).unwrap_or(u64::MAX).max(1);
            self.pace = (bytes.saturating_mul(1_000) / millis).max(limits::SLOW_PATH_PACE);
        }
        self.arrived = self.before_ping;
        self.arrived_since = self.pinged;
    }

    /// How long what went before the ping may take. More than a socket holds has already gone.
    fn time(&self) -> Duration {
        let waiting = self
            .before_ping
            .saturating_sub(self.arrived)
            .min(limits::SOCKET_BACKLOG_BYTES);
        Duration::from_millis(waiting.saturating_mul(1_000) / self.pace)
    }
}

#[cfg(test)]
mod tests;
