//! What the two ends of one stream tell each other about it: what has arrived, what may be sent, that
//! they are alive, and over which path.
//!
//! Responsible for statements (making and checking them, their order), for finding out whether the
//! peer makes any, and for the timers that follow. Not responsible for records themselves, nor for
//! what happens to a stream whose path is dead.
//!
//! ```text
//!  Unconfirmed: as with Codex 0.169, but records are kept for a while
//!     |
//!     |   harness:  -- hello --------------------->
//!     |            <-------------------- answer --  executor
//!     |             -- confirmed --------------->
//!     v
//!  Reliable:  Live ---- executor: dead, or bare reset ---> Suspended ---- a new statement ---> Live
//!                  ---- harness: bare reset -------------> Resuming ----- a new statement ---> Live
//!                  ---- harness: dead ---> another websocket, Resuming
//! ```
//!
//! A harness says hello, a frame with nothing but a statement, right after the handshake and again,
//! more and more seldom, until it is heard. An executor says nothing before it has heard a hello. So both ends of Codex 0.169 see
//! at most frames that they ignore. Each end relies on statements only after it is known that frames
//! with nothing else pass both ways, in case a rendezvous does not forward them: the harness when the
//! answer comes in such a frame, the executor when the harness says that it did.
//!
//! # Why lies do no harm
//!
//! The tag covers everything a statement says and the acknowledgement beside it, so the rendezvous
//! cannot make one up, and an acknowledgement without a tag is not believed. It can drop statements,
//! which is like losing them, and repeat old ones, which the serial number shows. What it can always
//! do is stop a stream from getting on; then the peer's silence is noticed.

mod statements;

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use bytes::Bytes;

use crate::ack::Acker;
use crate::credit::{Credit, Grant};
use crate::ids::Seq;
use crate::limits;
use crate::liveness::{HeartbeatConfig, Liveness, Pulse};
use crate::noise::StatementKeys;
use crate::retransmit::Retransmit;
use crate::stream::StreamError;

/// How much is done for a stream to survive loss, with a peer that does the same.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Reliability {
    /// Nothing beyond what Codex 0.169 does: a lost record ends the stream.
    Off,
    /// Records are acknowledged and sent again, a slow reader holds its peer back, and a dead path is
    /// noticed. The stream ends with its websocket.
    #[default]
    Acknowledged,
    /// As before, and a stream whose path is lost waits for another one. The shell has to carry it
    /// from one connection to the next.
    Resumable,
}

/// Which end of the stream this is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum End {
    Executor,
    Harness,
}

/// One stream's side of the conversation about it.
pub(crate) struct Link {
    end: End,
    keys: StatementKeys,
    reliability: Reliability,
    mode: Mode,
    path: Path,
    /// Number of the last statement made.
    serial: u64,
    /// Number of the newest one from the peer.
    peer_serial: u64,
    /// The peer's newest statement that asked for an answer.
    echo: u64,
    /// That one has not been answered yet.
    owes_answer: bool,
    /// What the peer allows.
    allowed: Grant,
    peer_keeps_streams: bool,
    /// Bytes of plaintext that were sealed.
    sealed: u64,
    pub(crate) acker: Acker,
    pub(crate) credit: Credit,
    pub(crate) retransmit: Retransmit,
    liveness: Liveness,
    /// The peer is to be asked for an answer.
    wants_answer: bool,
    /// Unanswered statements that asked for one: serial, and when.
    asked: VecDeque<(u64, Instant)>,
    /// Since when the peer is known to miss a record that is no longer kept.
    beyond_repair: Option<Instant>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Mode {
    /// Nothing is said or believed.
    Off,
    /// It is not known whether the peer makes statements.
    Unconfirmed {
        /// Harness: when to say hello again, and how often it was said by now.
        hello: Option<(Instant, u32)>,
        /// Until when records are kept.
        keep_until: Option<Instant>,
    },
    /// The peer makes statements.
    Reliable,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Path {
    Live,
    /// Nothing is sent until the peer is heard.
    Suspended {
        until: Instant,
    },
    /// Harness: nothing but resumes is sent until the peer is heard.
    Resuming {
        /// When to send the next one; `None` when it is due.
        next: Option<Instant>,
        attempts: u32,
        refusals: u32,
        /// When the path is dead.
        answer_until: Instant,
        /// When the stream is given up.
        until: Instant,
    },
}

/// A frame that is to be sent for the link itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Due {
    /// A statement and nothing else.
    Statement,
    /// A resume.
    Resume,
}

/// What a statement from the peer changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Heard {
    /// The frame says nothing.
    Nothing,
    /// Nothing: it is not from the peer.
    Forged,
    /// Nothing: a newer one was here before.
    Stale,
    /// The peer makes statements, but it is not known that it hears any.
    Hello,
    /// It was news.
    News {
        /// The peer makes statements, which was not known before.
        confirmed: bool,
        /// The stream has a path again.
        resumed: bool,
    },
}

/// What a reset without a proof of origin means.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum BareReset {
    /// The end of the stream.
    End,
    /// The loss of its path.
    PathLost,
    /// The path is being sought already.
    Ignore,
}

impl Link {
    pub(crate) fn new(
        now: Instant,
        end: End,
        reliability: Reliability,
        heartbeat: HeartbeatConfig,
        keys: StatementKeys,
    ) -> Self {
        let mode = match reliability {
            Reliability::Off => Mode::Off,
            Reliability::Acknowledged | Reliability::Resumable => Mode::Unconfirmed {
                hello: (end == End::Harness).then_some((now + limits::HELLO_INTERVAL, 1)),
                keep_until: Some(now + limits::UNCONFIRMED_TIME),
            },
        };
        Self {
            end,
            keys,
            reliability,
            mode,
            path: Path::Live,
            serial: 0,
            peer_serial: 0,
            echo: 0,
            owes_answer: false,
            allowed: Grant::default(),
            peer_keeps_streams: false,
            sealed: 0,
            acker: Acker::default(),
            credit: Credit::default(),
            retransmit: Retransmit::default(),
            liveness: Liveness::new(paced(heartbeat, end), now),
            wants_answer: end == End::Harness,
            asked: VecDeque::new(),
            beyond_repair: None,
        }
    }

    // State.

    /// Whether the peer acknowledges.
    pub(crate) fn is_reliable(&self) -> bool {
        self.mode == Mode::Reliable
    }

    /// Whether both ends keep the stream when its path is lost.
    pub(crate) fn is_resumable(&self) -> bool {
        self.is_reliable() && self.reliability == Reliability::Resumable && self.peer_keeps_streams
    }

    /// Whether records may be sent at the moment as far as the path goes.
    pub(crate) fn is_live(&self) -> bool {
        self.path == Path::Live
    }

    /// Until when a stream without a path is kept.
    pub(crate) fn suspended_until(&self) -> Option<Instant> {
        match self.path {
            Path::Suspended { until } => Some(until),
            Path::Live | Path::Resuming { .. } => None,
        }
    }

    // Records.

    /// Whether a new record may be sealed: the path, the peer's window and this side's.
    pub(crate) fn may_seal(&self, seq: Option<Seq>, plaintext: usize) -> bool {
        if !self.is_reliable() {
            return true;
        }
        // The end of the numbers is for the sealer to report.
        let is_allowed = seq.is_none_or(|Seq(seq)| seq < self.allowed.max_seq)
            && self.sealed.saturating_add(plaintext as u64) <= self.allowed.max_bytes;
        self.is_live()
            && is_allowed
            && self
                .retransmit
                .has_room(plaintext + limits::RECORD_TAG_BYTES)
    }

    /// Notes a record that is being sent for the first time.
    pub(crate) fn sealed(&mut self, now: Instant, payload: impl FnOnce() -> Bytes, plain: usize) {
        self.sealed = self.sealed.saturating_add(plain as u64);
        match self.mode {
            Mode::Reliable => self.retransmit.push(now, payload()),
            Mode::Unconfirmed {
                keep_until: Some(_),
                ..
            } => {
                self.retransmit.push(now, payload());
                self.retransmit.trim();
            }
            Mode::Unconfirmed { .. } | Mode::Off => self.retransmit.skip(),
        }
    }

    /// Notes a record that was opened and is new.
    pub(crate) fn opened(&mut self, now: Instant) {
        self.liveness.heard(now);
    }

    // Frames of its own.

    /// The frame that is to be sent for the link itself, if any. `next` is the number of the record
    /// expected next; `has_data` says that a frame with a record is about to be sent, which can ask
    /// for an answer as well.
    pub(crate) fn due(&self, next: u32, has_data: bool) -> Option<Due> {
        match (self.mode, self.path) {
            (Mode::Off, _) | (Mode::Reliable, Path::Suspended { .. }) => None,
            // A hello or the answer to one.
            (Mode::Unconfirmed { .. }, _) => self.wants_answer.then_some(Due::Statement),
            (Mode::Reliable, Path::Live) => (self.acker.is_due()
                || (self.wants_answer && !has_data)
                || self.credit.is_worth_telling(next))
            .then_some(Due::Statement),
            (Mode::Reliable, Path::Resuming { next, .. }) => next.is_none().then_some(Due::Resume),
        }
    }

    /// The resume that was due is being sent.
    pub(crate) fn resume_sent(&mut self, now: Instant) {
        let wait = self
            .retransmit
            .rtt
            .base_timeout()
            .clamp(limits::RESUME_INTERVAL, limits::RESUME_INTERVAL_MAX);
        if let Path::Resuming { next, attempts, .. } = &mut self.path {
            *next = Some(now + wait * (1 << (*attempts).min(MAX_DOUBLINGS)));
            *attempts += 1;
        }
    }

    // Paths.

    /// The path is lost; whoever takes the peer's frames next has a new one.
    pub(crate) fn suspend(&mut self, now: Instant) {
        self.leave_path();
        let until = match self.path {
            Path::Live => now + limits::SUSPENDED_TIME,
            Path::Suspended { until } | Path::Resuming { until, .. } => until,
        };
        self.path = Path::Suspended { until };
    }

    /// Harness: there is a path that may lead to the executor.
    pub(crate) fn resume(&mut self, now: Instant) {
        self.leave_path();
        self.liveness.restart(now);
        let until = self
            .suspended_until()
            .unwrap_or(now + limits::SUSPENDED_TIME);
        let patience = limits::RESUME_TIMEOUT.max(self.retransmit.rtt.base_timeout() * 2);
        self.path = Path::Resuming {
            next: None,
            attempts: 0,
            refusals: 0,
            answer_until: now + patience,
            until,
        };
    }

    /// What was asked on the path before is not measured on the next one.
    fn leave_path(&mut self) {
        self.asked.clear();
        self.wants_answer = false;
    }

    /// A reset came that may be from anybody.
    pub(crate) fn bare_reset(&mut self, now: Instant) -> BareReset {
        if !self.is_resumable() {
            return BareReset::End;
        }
        match &mut self.path {
            Path::Live => BareReset::PathLost,
            Path::Suspended { .. } => BareReset::Ignore,
            Path::Resuming { next, refusals, .. } => {
                *refusals += 1;
                if *refusals >= limits::RESUME_REFUSALS {
                    return BareReset::End;
                }
                *next = Some(now + limits::RESUME_INTERVAL * *refusals);
                BareReset::Ignore
            }
        }
    }

    // Time.

    pub(crate) fn deadline(&self) -> Option<Instant> {
        match (self.mode, self.path) {
            (Mode::Off, _) => None,
            (Mode::Unconfirmed { hello, keep_until }, _) => {
                let hello = hello.filter(|_| !self.wants_answer).map(|(at, _)| at);
                [hello, keep_until].into_iter().flatten().min()
            }
            (Mode::Reliable, Path::Live) => {
                let beyond_repair = self.beyond_repair.map(|since| since + limits::GAP_TIMEOUT);
                let alive = self.liveness.deadline(self.retransmit.rtt.base_timeout());
                [
                    self.acker.deadline(),
                    self.retransmit.deadline(),
                    beyond_repair,
                    Some(alive),
                ]
                .into_iter()
                .flatten()
                .min()
            }
            (Mode::Reliable, Path::Suspended { until }) => Some(until),
            (
                Mode::Reliable,
                Path::Resuming {
                    next,
                    answer_until,
                    until,
                    ..
                },
            ) => {
                let until = until.min(answer_until);
                Some(next.map_or(until, |next| next.min(until)))
            }
        }
    }

    /// Does what is due.
    ///
    /// # Errors
    ///
    /// Why the stream cannot go on.
    pub(crate) fn handle_timeout(&mut self, now: Instant) -> Result<Pulse, StreamError> {
        let is_past = |at: Instant| at <= now;
        match (&mut self.mode, &mut self.path) {
            (Mode::Off, _) => {}
            (Mode::Unconfirmed { hello, keep_until }, _) => {
                if keep_until.is_some_and(is_past) {
                    *keep_until = None;
                    self.retransmit.clear();
                }
                if let Some((at, times)) = *hello
                    && is_past(at)
                    && !self.wants_answer
                {
                    let wait = limits::HELLO_INTERVAL * (1 << times);
                    *hello = Some((now + wait, (times + 1).min(limits::HELLO_DOUBLINGS)));
                    self.wants_answer = true;
                }
            }
            (Mode::Reliable, Path::Live) => {
                self.acker.handle_timeout(now);
                self.retransmit.handle_timeout(now);
                if self
                    .beyond_repair
                    .is_some_and(|since| is_past(since + limits::GAP_TIMEOUT))
                {
                    return Err(StreamError::BeyondRepair);
                }
                let timeout: Duration = self.retransmit.rtt.base_timeout();
                let pulse = self.liveness.handle_timeout(now, timeout);
                self.wants_answer |= matches!(pulse, Pulse::Ask | Pulse::AskAgain);
                if pulse == Pulse::AskAgain {
                    // Then the question may as well bring something.
                    self.retransmit.lose_first();
                }
                return Ok(pulse);
            }
            (Mode::Reliable, Path::Suspended { until }) => {
                if is_past(*until) {
                    return Err(StreamError::PathLost);
                }
            }
            (
                Mode::Reliable,
                Path::Resuming {
                    next,
                    answer_until,
                    until,
                    ..
                },
            ) => {
                if is_past(*until) {
                    return Err(StreamError::PathLost);
                }
                if is_past(*answer_until) {
                    return Ok(Pulse::Dead);
                }
                if next.is_some_and(is_past) {
                    *next = None;
                }
            }
        }
        Ok(Pulse::Nothing)
    }
}

/// One end asks a little earlier than the other, whose question is then not needed.
fn paced(heartbeat: HeartbeatConfig, end: End) -> HeartbeatConfig {
    let interval = match end {
        End::Harness => heartbeat.interval * 4 / 5,
        End::Executor => heartbeat.interval,
    };
    HeartbeatConfig {
        interval,
        ..heartbeat
    }
}

/// Doublings of the time between two resumes.
const MAX_DOUBLINGS: u32 = 4;
