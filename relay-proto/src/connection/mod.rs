//! Many streams on one websocket: the state machine that a shell drives.
//!
//! Responsible for which frame does what in which state, admission, fairness, flow, keepalive. Not
//! responsible for sockets, clocks, tasks, or the decision whether a harness may enter.
//!
//! # Methods
//!
//! Four kinds, always with the time as an argument where it matters:
//!
//! - Getters: cheap, no effect.
//! - `handle_*`: something came from the network or the clock.
//! - Commands: the application wants something.
//! - `poll_*`: output. After every call of the other kinds: [`poll_event`] until `None` and
//!   [`poll_transmit`] while the websocket takes more, until neither gives anything (taking a message
//!   may widen the peer's window, and sending one may make room), then [`poll_timeout`].
//!
//! # Frames by state
//!
//! | body | executor: unknown | executor: pending | executor: open | harness: opening | harness: open |
//! |---|---|---|---|---|---|
//! | handshake | starts one | ignored | ignored | the answer | ignored |
//! | data | reset sent | reset sent, discarded | record | kept until the answer | record |
//! | reset | ignored | discarded | closed | failed | closed |
//! | resume, ack, heartbeat | ignored | ignored | ignored | ignored | ignored |
//!
//! On a frame of any kind for an open stream a [statement](crate::frame::Statement) is taken first. Where both ends
//! make statements, a reset without one is a lost path rather than the end of the stream if both
//! keep such streams; a resume or a request for an answer for an unknown stream is answered with a
//! reset.
//!
//! Invalid frames are ignored in every state, and at the harness so are frames of other streams.
//! `docs/protocol.md` says where this differs from the reference and why that is safe.
//!
//! # Flow
//!
//! Sending: each stream queues up to a window; beyond it [`Connection::send`] gives the message back
//! and [`Event::Writable`] says when to try again. Receiving: while the application is
//! [paused](Connection::pause) messages wait here up to a window. A peer that makes statements is
//! told of the window and pauses. Codex 0.169 knows of none: when it is exceeded, the stream is reset
//! rather than the websocket left unread, which would stall every other stream. Only on a websocket
//! that carries a single such stream does the machine ask its shell to stop reading instead
//! ([`Connection::wants_input`]).
//!
//! # Paths
//!
//! A stream whose peer also keeps streams survives the end of its websocket: [`Connection::suspend`]
//! takes such streams out, [`Connection::adopt`] puts them into the connection that follows. Neither
//! application notices more than a pause, which [`Event::Suspended`] and [`Event::Resumed`] tell of.
//!
//! [`poll_transmit`]: Connection::poll_transmit
//! [`poll_event`]: Connection::poll_event
//! [`poll_timeout`]: Connection::poll_timeout

mod admission;
#[cfg(any(test, fuzzing))]
mod books;
mod commands;
mod leaving;
mod paths;
mod receive;
mod room;
mod rota;
mod transmit;
mod types;

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::time::Instant;

use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};

use self::admission::FailureBudget;
use self::leaving::Leaving;
pub use self::paths::Suspended;
use self::room::Shortage;
use self::rota::Rota;
pub use self::types::{
    CloseReason, ConnectionConfig, ConnectionError, ConnectionStats, Event, HandshakeToken,
    OpenError, SendError, Transmit, Verdict,
};
use crate::credit::LargeRoom;
use crate::frame::Frame;
use crate::ids::{EnvironmentId, RegistrationId, StreamId};
use crate::keepalive::Keepalive;
use crate::link::End;
use crate::liveness::Pulse;
use crate::noise::{HandshakeRng, Identity, Initiator, Unauthorized};
use crate::reorder::Reorder;
use crate::stream::{Beginning, Stream, StreamError};

/// One websocket's worth of relay streams. Does no I/O.
pub struct Connection {
    end: End,
    config: ConnectionConfig,
    identity: Arc<Identity>,
    environment: EnvironmentId,
    registration: RegistrationId,
    rng: StdRng,
    streams: BTreeMap<StreamId, Stream>,
    /// Executor: handshakes that wait for a verdict.
    pending: BTreeMap<StreamId, Pending>,
    /// Harness: handshakes that wait for an answer.
    opening: BTreeMap<StreamId, Opening>,
    /// Streams that have ended, with messages that the application has not taken.
    leaving: BTreeMap<StreamId, Leaving>,
    /// Distinguishes handshakes that use the same stream id.
    next_serial: u64,
    budget: FailureBudget,
    keepalive: Keepalive,
    /// Frames that go before anything else: handshakes and resets.
    control: VecDeque<Frame>,
    /// Streams with a statement to make, each at most once.
    speaking: VecDeque<StreamId>,
    /// Streams with data to send.
    rota: Rota,
    /// Bytes queued for sending on all streams.
    send_bytes: usize,
    /// Some stream waits to be told that it may send.
    any_blocked: bool,
    /// Received bytes held on all streams.
    held_bytes: usize,
    /// Room for received messages larger than a stream's window.
    large: LargeRoom,
    /// Somebody waits for it.
    shortage: Option<Shortage>,
    /// Harness: the executor does not answer on some stream.
    is_path_dead: bool,
    events: VecDeque<Event>,
    /// Streams with messages for the application, each at most once, in turn.
    readable: VecDeque<StreamId>,
    stats: ConnectionStats,
}

struct Pending {
    serial: u64,
    unauthorized: Unauthorized,
    deadline: Instant,
}

struct Opening {
    initiator: Initiator,
    deadline: Instant,
    /// Records that overtook the answer.
    reorder: Reorder,
}

impl Connection {
    /// The executor's end: accepts streams, each after a verdict.
    ///
    /// `seed` must be 32 fresh random bytes; everything secret about the streams follows from it.
    pub fn executor(
        config: ConnectionConfig,
        identity: Arc<Identity>,
        environment: EnvironmentId,
        registration: RegistrationId,
        seed: [u8; 32],
        now: Instant,
    ) -> Self {
        Self::new(
            End::Executor,
            config,
            identity,
            environment,
            registration,
            seed,
            now,
        )
    }

    /// The harness's end: opens streams.
    ///
    /// `seed` must be 32 fresh random bytes; everything secret about the streams follows from it.
    pub fn harness(
        config: ConnectionConfig,
        identity: Arc<Identity>,
        environment: EnvironmentId,
        registration: RegistrationId,
        seed: [u8; 32],
        now: Instant,
    ) -> Self {
        Self::new(
            End::Harness,
            config,
            identity,
            environment,
            registration,
            seed,
            now,
        )
    }

    fn new(
        end: End,
        config: ConnectionConfig,
        identity: Arc<Identity>,
        environment: EnvironmentId,
        registration: RegistrationId,
        seed: [u8; 32],
        now: Instant,
    ) -> Self {
        Self {
            end,
            config,
            identity,
            environment,
            registration,
            rng: StdRng::from_seed(seed),
            streams: BTreeMap::new(),
            pending: BTreeMap::new(),
            opening: BTreeMap::new(),
            leaving: BTreeMap::new(),
            next_serial: 0,
            budget: FailureBudget::new(now),
            keepalive: Keepalive::new(config.keepalive, now),
            control: VecDeque::new(),
            speaking: VecDeque::new(),
            rota: Rota::default(),
            send_bytes: 0,
            any_blocked: false,
            held_bytes: 0,
            large: LargeRoom::default(),
            shortage: None,
            is_path_dead: false,
            events: VecDeque::new(),
            readable: VecDeque::new(),
            stats: ConnectionStats::default(),
        }
    }

    // Getters.

    /// Plain counters since the connection began.
    pub fn stats(&self) -> &ConnectionStats {
        &self.stats
    }

    /// Open streams.
    pub fn stream_count(&self) -> usize {
        self.streams.len()
    }

    /// Whether there is no stream, open or on its way, and nothing left to send.
    pub fn is_idle(&self) -> bool {
        self.streams.is_empty()
            && self.pending.is_empty()
            && self.opening.is_empty()
            && self.leaving.is_empty()
            && self.control.is_empty()
    }

    /// Whether the peer of this stream acknowledges, so that nothing of it is lost silently or by a
    /// path that loses frames. Always false with Codex 0.169.
    pub fn is_reliable(&self, stream: &StreamId) -> bool {
        self.streams
            .get(stream)
            .is_some_and(|stream| stream.link.is_reliable())
    }

    /// Whether the shell should read from the websocket.
    ///
    /// False only while the application of the websocket's single stream, whose peer knows no window,
    /// has paused with half of one waiting: then the backlog may as well wait in the network. Keepalive rests meanwhile.
    pub fn wants_input(&self) -> bool {
        let mut streams = self.streams.values();
        let (End::Harness, Some(stream), None) = (self.end, streams.next(), streams.next()) else {
            return true;
        };
        // A missing record may be what is unread.
        stream.link.is_reliable()
            || !stream.paused
            || stream.has_gap()
            || !stream.is_inbox_half_full()
    }

    // Time.

    /// When [`Connection::handle_timeout`] is to be called next.
    pub fn poll_timeout(&self) -> Option<Instant> {
        let streams = self.streams.values().filter_map(Stream::deadline);
        let pending = self.pending.values().map(|pending| pending.deadline);
        let opening = self.opening.values().map(|opening| opening.deadline);
        streams
            .chain(pending)
            .chain(opening)
            .chain(self.keepalive.deadline(self.is_watched()))
            .chain(self.shortage.as_ref().map(|shortage| shortage.until))
            .min()
    }

    /// Does what is due. Calling it early is harmless.
    ///
    /// # Errors
    ///
    /// [`ConnectionError::PongTimeout`] and [`ConnectionError::PathDead`]: the websocket is to be
    /// dropped.
    pub fn handle_timeout(&mut self, now: Instant) -> Result<(), ConnectionError> {
        for id in due(&self.streams, |stream| {
            stream.deadline().is_some_and(|deadline| deadline <= now)
        }) {
            self.on_stream_timeout(now, &id);
        }
        for id in due(&self.pending, |pending| pending.deadline <= now) {
            self.end(&id, CloseReason::AuthorizationTimeout, Farewell::Reset);
        }
        for id in due(&self.opening, |opening| opening.deadline <= now) {
            self.end(&id, CloseReason::HandshakeTimeout, Farewell::Reset);
        }
        self.watch_room(now);
        self.keepalive.watch(now, self.is_watched());
        if self.keepalive.is_dead(now) {
            Err(ConnectionError::PongTimeout)
        } else if self.is_path_dead {
            Err(ConnectionError::PathDead)
        } else {
            Ok(())
        }
    }

    /// Whether there are streams whose peer gives no signs of life, so that they have only the pings.
    fn is_watched(&self) -> bool {
        let mut streams = self.streams.values();
        streams.any(|stream| !stream.link.is_reliable())
    }

    fn on_stream_timeout(&mut self, now: Instant, id: &StreamId) {
        let Some(stream) = self.streams.get_mut(id) else {
            return;
        };
        match stream.handle_timeout(now) {
            Ok(Pulse::Nothing | Pulse::Ask) => {}
            Ok(Pulse::AskAgain) => self.keepalive.suspect(now),
            Ok(Pulse::Dead) => self.lose_path(now, id),
            Err(StreamError::DrainTimeout) => self.end(id, CloseReason::Local, Farewell::Reset),
            Err(error) => self.end(id, CloseReason::Stream(error), Farewell::Reset),
        }
        self.settle(id);
    }

    /// Says that a write to the websocket which had to wait went on.
    ///
    /// Then the path out is slow rather than dead, and what is sent on it may take its time.
    pub fn handle_write_progress(&mut self, now: Instant) {
        self.keepalive.wrote(now);
    }

    /// Takes a websocket pong.
    pub fn handle_pong(&mut self, now: Instant) {
        self.keepalive.pong(now);
    }

    /// Returns the next thing to tell the application.
    ///
    /// Call until `None` after every other call: messages wait in a bounded place only while their
    /// stream is paused. Streams take turns.
    pub fn poll_event(&mut self) -> Option<Event> {
        if let Some(event) = self.events.pop_front() {
            return Some(event);
        }
        while let Some(id) = self.readable.pop_front() {
            let Some(stream) = self.streams.get_mut(&id) else {
                match self.next_of_leaving(&id) {
                    Some(event) => return Some(event),
                    None => continue,
                }
            };
            stream.is_listed = false;
            let Some(message) = stream.next_message() else {
                continue;
            };
            self.held_bytes = self.held_bytes.saturating_sub(message.len());
            self.large.give(stream.link.credit.taken(message.len()));
            self.list_readable(&id);
            self.settle(&id);
            return Some(Event::Message {
                stream: id,
                message,
            });
        }
        None
    }

    // Inside.

    /// Forgets a stream in whatever state and says so to the application.
    fn end(&mut self, id: &StreamId, reason: CloseReason, farewell: Farewell) {
        let mut reset = Frame::reset(id.clone());
        let mut is_leaving = false;
        if let Some(mut stream) = self.forget(id) {
            self.stats.streams_closed += 1;
            reset = stream.reset(id);
            // What was complete before the end is still delivered, unless nobody wants it or it was
            // too much.
            if reason.leaves_messages() && stream.drain_deadline.is_none() {
                let messages = std::iter::from_fn(|| stream.take_message()).collect();
                is_leaving = self.leave(id, messages, reason, stream.paused);
            }
            self.wake_blocked();
        } else if self.pending.remove(id).is_none() && self.opening.remove(id).is_none() {
            self.drop_leaving(id, Some(reason));
            return;
        }
        if farewell == Farewell::Reset {
            self.push_reset(reset);
        }
        if !is_leaving {
            self.push_closed(id.clone(), reason);
        }
        self.update_input();
    }

    /// Takes a stream out of the books.
    fn forget(&mut self, id: &StreamId) -> Option<Stream> {
        let stream = self.streams.remove(id)?;
        self.send_bytes = self.send_bytes.saturating_sub(stream.outbox.bytes());
        self.held_bytes = self.held_bytes.saturating_sub(stream.held_bytes());
        self.large.give(stream.link.credit.reserved());
        self.hand_out_room();
        Some(stream)
    }

    fn beginning(&self, now: Instant) -> Beginning {
        Beginning {
            now,
            end: self.end,
            reliability: self.config.reliability,
            heartbeat: self.config.heartbeat,
        }
    }

    fn list_readable(&mut self, id: &StreamId) {
        if let Some(stream) = self.streams.get_mut(id).filter(|stream| !stream.is_listed) {
            stream.is_listed = true;
            self.readable.push_back(id.clone());
        }
    }

    fn push_closed(&mut self, stream: StreamId, reason: CloseReason) {
        self.events.push_back(Event::Closed { stream, reason });
    }

    fn update_input(&mut self) {
        if self.wants_input() {
            self.keepalive.resume();
        } else {
            self.keepalive.suspend();
        }
    }

    fn handshake_rng(&mut self) -> HandshakeRng {
        HandshakeRng::seeded(self.rng.random())
    }
}

impl std::fmt::Debug for Connection {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Connection")
            .field("end", &self.end)
            .field("environment", &self.environment)
            .field("registration", &self.registration)
            .field("streams", &self.streams.len())
            .finish_non_exhaustive()
    }
}

/// Whether the peer is told about the end of a stream.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Farewell {
    Reset,
    Nothing,
}

fn due<T>(map: &BTreeMap<StreamId, T>, is_due: impl Fn(&T) -> bool) -> Vec<StreamId> {
    map.iter()
        .filter(|(_, entry)| is_due(entry))
        .map(|(id, _)| id.clone())
        .collect()
}

#[cfg(test)]
mod tests;
