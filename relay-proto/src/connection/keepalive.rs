//! Pings, and the decision that the path is dead.
//!
//! After a ping the path must show life within the timeout: the pong, or any other message, which
//! proves that the path in still moves (a pong can be stuck behind a large backlog on a slow line).
//! The pong itself must come within the hard timeout, because only it proves the path out.
//!
//! When a stream's peer does not answer, the path is suspected: a ping is due at once, and there is
//! less time for a sign of life. A write that had to wait and went on is one then, because the ping
//! may be stuck behind it.

use std::time::{Duration, Instant};

use crate::limits;

/// Intervals of the keepalive.
#[derive(Clone, Copy, Debug)]
pub struct KeepaliveConfig {
    /// Time between two pings. Default [`limits::PING_INTERVAL`].
    pub interval: Duration,
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
            timeout: limits::PONG_TIMEOUT,
            hard_timeout: limits::PONG_HARD_TIMEOUT,
        }
    }
}

#[derive(Debug)]
pub(super) struct Keepalive {
    config: KeepaliveConfig,
    state: State,
}

#[derive(Debug)]
enum State {
    /// The next ping is due then.
    Idle { ping_at: Instant },
    /// A ping waits for the websocket to take it. The write timeout watches over that, and while the
    /// path is suspected so does the deadline for a sign of life.
    Due { suspected: Option<Instant> },
    /// A ping is out; at most one is.
    Waiting {
        sent: Instant,
        heard: Instant,
        suspected: Option<Instant>,
    },
    /// This side does not read, so it cannot see a pong.
    Suspended,
}

impl Keepalive {
    pub(super) fn new(config: KeepaliveConfig, now: Instant) -> Self {
        Self {
            config,
            state: State::Idle {
                ping_at: now + config.interval,
            },
        }
    }

    pub(super) fn heard(&mut self, now: Instant) {
        match &mut self.state {
            State::Waiting {
                heard, suspected, ..
            } => {
                *heard = now;
                *suspected = None;
            }
            State::Due { suspected } => *suspected = None,
            State::Idle { .. } | State::Suspended => {}
        }
    }

    /// A write that had to wait went on.
    pub(super) fn wrote(&mut self, now: Instant) {
        if let State::Waiting {
            suspected: Some(since),
            ..
        }
        | State::Due {
            suspected: Some(since),
        } = &mut self.state
        {
            *since = now;
        }
    }

    /// A peer behind this websocket does not answer.
    pub(super) fn suspect(&mut self, now: Instant) {
        match &mut self.state {
            State::Idle { .. } => {
                self.state = State::Due {
                    suspected: Some(now),
                };
            }
            State::Due { suspected } | State::Waiting { suspected, .. } => {
                suspected.get_or_insert(now);
            }
            State::Suspended => {}
        }
    }

    pub(super) fn pong(&mut self, now: Instant) {
        if let State::Waiting { sent, .. } = self.state {
            let ping_at = (sent + self.config.interval).max(now);
            self.state = State::Idle { ping_at };
        }
    }

    pub(super) fn suspend(&mut self) {
        self.state = State::Suspended;
    }

    pub(super) fn resume(&mut self) {
        if matches!(self.state, State::Suspended) {
            self.state = State::Due { suspected: None };
        }
    }

    pub(super) fn deadline(&self) -> Option<Instant> {
        match self.state {
            State::Idle { ping_at } => Some(ping_at),
            State::Due { suspected } => suspected.map(|since| since + self.suspect_timeout()),
            State::Suspended => None,
            State::Waiting {
                sent,
                heard,
                suspected,
            } => {
                let deadline = (heard + self.config.timeout).min(sent + self.config.hard_timeout);
                let suspected = suspected.map(|since| since.max(heard) + self.suspect_timeout());
                Some(suspected.map_or(deadline, |suspected| deadline.min(suspected)))
            }
        }
    }

    /// Whether the path is dead at `now`; otherwise a ping may have become due.
    pub(super) fn is_dead(&mut self, now: Instant) -> bool {
        if self.deadline().is_none_or(|deadline| deadline > now) {
            return false;
        }
        match self.state {
            State::Idle { .. } => {
                self.state = State::Due { suspected: None };
                false
            }
            State::Suspended => false,
            State::Due { .. } | State::Waiting { .. } => true,
        }
    }

    /// Whether a ping is to be sent now; it is then taken as sent.
    pub(super) fn take_ping(&mut self, now: Instant) -> bool {
        let State::Due { suspected } = self.state else {
            return false;
        };
        self.state = State::Waiting {
            sent: now,
            heard: now,
            suspected,
        };
        true
    }

    fn suspect_timeout(&self) -> Duration {
        limits::SUSPECT_PONG_TIMEOUT.min(self.config.timeout)
    }
}
