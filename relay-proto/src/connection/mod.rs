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
//! - `poll_*`: output. After every call of the other kinds, and in this order: [`poll_transmit`]
//!   while the websocket takes more, [`poll_event`] until `None`, then [`poll_timeout`].
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
//! Invalid frames are ignored in every state, and at the harness so are frames of other streams.
//! `docs/protocol.md` says where this differs from the reference and why that is safe.
//!
//! # Flow
//!
//! Sending: each stream queues up to a window; beyond it [`Connection::send`] gives the message back
//! and [`Event::Writable`] says when to try again. Receiving: the peers have no flow control, so
//! while the application is [paused](Connection::pause) messages wait here up to a window. When it
//! is exceeded, the stream is reset rather than the websocket left unread, which would stall every
//! other stream. Only on a websocket that carries a single stream does the machine ask its shell to
//! stop reading instead ([`Connection::wants_input`]).
//!
//! [`poll_transmit`]: Connection::poll_transmit
//! [`poll_event`]: Connection::poll_event
//! [`poll_timeout`]: Connection::poll_timeout

mod admission;
mod keepalive;
mod receive;
mod transmit;
mod types;

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::time::Instant;

use bytes::Bytes;
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};

use self::admission::FailureBudget;
use self::keepalive::Keepalive;
pub use self::keepalive::KeepaliveConfig;
use self::transmit::Control;
pub use self::types::{
    CloseReason, ConnectionConfig, ConnectionError, ConnectionStats, Event, HandshakeToken,
    OpenError, SendError, Transmit, Verdict,
};
use crate::frame::{Body, Frame};
use crate::ids::{EnvironmentId, RegistrationId, StreamId};
use crate::keys::PublicKey;
use crate::limits;
use crate::noise::{HandshakeRng, Identity, Initiator, Unauthorized, prologue};
use crate::reorder::Reorder;
use crate::stream::{Stream, StreamError};

/// One websocket's worth of relay streams. Does no I/O.
pub struct Connection {
    role: Role,
    identity: Arc<Identity>,
    environment: EnvironmentId,
    registration: RegistrationId,
    rng: StdRng,
    streams: BTreeMap<StreamId, Stream>,
    /// Executor: handshakes that wait for a verdict.
    pending: BTreeMap<StreamId, Pending>,
    /// Harness: handshakes that wait for an answer.
    opening: BTreeMap<StreamId, Opening>,
    /// Distinguishes handshakes that use the same stream id.
    next_serial: u64,
    budget: FailureBudget,
    keepalive: Keepalive,
    /// Frames that go before any data.
    control: VecDeque<Control>,
    /// Streams with data to send, each at most once, in turn.
    rota: VecDeque<StreamId>,
    /// Bytes queued for sending on all streams.
    send_bytes: usize,
    /// Some stream waits to be told that it may send.
    any_blocked: bool,
    /// Received bytes held on all streams.
    held_bytes: usize,
    events: VecDeque<Event>,
    /// Streams with messages for the application, each at most once, in turn.
    readable: VecDeque<StreamId>,
    stats: ConnectionStats,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Role {
    Executor,
    Harness,
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
            Role::Executor,
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
            Role::Harness,
            config,
            identity,
            environment,
            registration,
            seed,
            now,
        )
    }

    fn new(
        role: Role,
        config: ConnectionConfig,
        identity: Arc<Identity>,
        environment: EnvironmentId,
        registration: RegistrationId,
        seed: [u8; 32],
        now: Instant,
    ) -> Self {
        Self {
            role,
            identity,
            environment,
            registration,
            rng: StdRng::from_seed(seed),
            streams: BTreeMap::new(),
            pending: BTreeMap::new(),
            opening: BTreeMap::new(),
            next_serial: 0,
            budget: FailureBudget::new(now),
            keepalive: Keepalive::new(config.keepalive, now),
            control: VecDeque::new(),
            rota: VecDeque::new(),
            send_bytes: 0,
            any_blocked: false,
            held_bytes: 0,
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
            && self.control.is_empty()
    }

    /// Whether the shell should read from the websocket.
    ///
    /// False only while the application of the websocket's single stream has paused with half a
    /// window waiting: then the backlog may as well wait in the network. Keepalive rests meanwhile.
    pub fn wants_input(&self) -> bool {
        let mut streams = self.streams.values();
        let (Role::Harness, Some(stream), None) = (self.role, streams.next(), streams.next())
        else {
            return true;
        };
        // A missing record may be what is unread.
        !stream.paused || stream.has_gap() || !stream.is_inbox_half_full()
    }

    // Commands from the application.

    /// Harness: opens a stream. [`Event::Opened`] or [`Event::Closed`] follows.
    ///
    /// `stream` must be new; a fresh UUID is expected.
    ///
    /// # Errors
    ///
    /// [`OpenError`]; nothing has been sent then.
    pub fn open(
        &mut self,
        now: Instant,
        stream: StreamId,
        executor_key: PublicKey,
        authorization: &str,
    ) -> Result<(), OpenError> {
        if self.role != Role::Harness {
            return Err(OpenError::WrongRole);
        }
        if self.streams.contains_key(&stream) || self.opening.contains_key(&stream) {
            return Err(OpenError::InUse);
        }
        if self.streams.len() + self.opening.len() >= limits::ACTIVE_STREAMS {
            return Err(OpenError::TooManyStreams);
        }
        let prologue = prologue(&self.environment, &self.registration, &stream);
        let rng = self.handshake_rng();
        let (initiator, payload) =
            Initiator::start(&self.identity, &executor_key, &prologue, authorization, rng)?;
        // Claims the stream id at the rendezvous.
        self.push_frame(Frame::new(stream.clone(), Body::Resume { next_seq: 0 }));
        self.push_frame(Frame::new(stream.clone(), Body::Handshake { payload }));
        let deadline = now + limits::HANDSHAKE_TIMEOUT;
        self.opening.insert(
            stream,
            Opening {
                initiator,
                deadline,
                reorder: Reorder::new(),
            },
        );
        Ok(())
    }

    /// Executor: answers [`Event::HandshakeRequested`].
    ///
    /// Ignored if that handshake is gone, even if another uses the same stream id by now.
    pub fn authorize(&mut self, now: Instant, token: &HandshakeToken, verdict: Verdict) {
        let stream = token.stream();
        if self
            .pending
            .get(stream)
            .is_none_or(|pending| pending.serial != token.serial())
        {
            return;
        }
        let Some(pending) = self.pending.remove(stream) else {
            return;
        };
        let stream = stream.clone();
        match verdict {
            Verdict::Approved => self.approve(now, stream, pending.unauthorized),
            Verdict::Refused => {
                self.stats.handshakes_refused += 1;
                self.push_reset(&stream);
                self.push_closed(stream, CloseReason::Refused);
            }
            Verdict::CredentialsRejected => {
                self.stats.handshakes_refused += 1;
                match pending.unauthorized.reject_credentials() {
                    Ok(payload) if self.control.len() < limits::CONTROL_FRAMES => {
                        self.push_frame(Frame::new(stream.clone(), Body::Handshake { payload }));
                    }
                    _ => self.push_reset(&stream),
                }
                self.push_closed(stream, CloseReason::CredentialsRejected);
            }
        }
    }

    /// Queues a message of 1 to [`limits::MESSAGE_BYTES`] bytes. It is not copied.
    ///
    /// # Errors
    ///
    /// [`SendError::WouldBlock`] gives the message back at the window; [`Event::Writable`] follows
    /// when there is room. The other errors are final.
    pub fn send(
        &mut self,
        _now: Instant,
        stream: &StreamId,
        message: Bytes,
    ) -> Result<(), SendError> {
        let length = message.len();
        if !(1..=limits::MESSAGE_BYTES).contains(&length) {
            return Err(SendError::Length { length });
        }
        let entry = self
            .streams
            .get_mut(stream)
            .filter(|entry| entry.drain_deadline.is_none())
            .ok_or(SendError::Closed)?;
        let total = self.send_bytes.saturating_add(length);
        let fits = self.send_bytes == 0 || total <= limits::CONNECTION_SEND_BYTES;
        if !fits || !entry.outbox.has_room_for(length) {
            entry.blocked = true;
            self.any_blocked = true;
            return Err(SendError::WouldBlock(message));
        }
        entry.outbox.push(message);
        self.send_bytes = total;
        if !entry.in_rota {
            entry.in_rota = true;
            self.rota.push_back(stream.clone());
        }
        Ok(())
    }

    /// Says that the application does not take messages of this stream at the moment.
    ///
    /// No [`Event::Message`] follows for it until [`Connection::resume`].
    pub fn pause(&mut self, stream: &StreamId) {
        if let Some(entry) = self.streams.get_mut(stream) {
            entry.paused = true;
        }
        self.update_input();
    }

    /// Says that the application takes messages of this stream again.
    pub fn resume(&mut self, stream: &StreamId) {
        if let Some(entry) = self.streams.get_mut(stream) {
            entry.paused = false;
        }
        self.list_readable(stream);
        self.update_input();
    }

    /// Ends a stream after what is queued has been sent, or after [`limits::DRAIN_TIMEOUT`].
    pub fn close(&mut self, now: Instant, stream: &StreamId) {
        match self.streams.get_mut(stream) {
            Some(entry) if !entry.outbox.is_empty() => {
                entry
                    .drain_deadline
                    .get_or_insert(now + limits::DRAIN_TIMEOUT);
            }
            _ => self.reset(now, stream),
        }
    }

    /// Ends a stream, or gives up opening it, at once; what is queued is dropped.
    pub fn reset(&mut self, _now: Instant, stream: &StreamId) {
        self.end(stream, CloseReason::Local, Farewell::Reset);
    }

    /// Ends every stream at once, with a reset each, before the websocket is closed.
    pub fn reset_all(&mut self, now: Instant) {
        let ids: Vec<_> = self
            .streams
            .keys()
            .chain(self.pending.keys())
            .chain(self.opening.keys())
            .cloned()
            .collect();
        for id in ids {
            self.reset(now, &id);
        }
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
            .chain(self.keepalive.deadline())
            .min()
    }

    /// Does what is due. Calling it early is harmless.
    ///
    /// # Errors
    ///
    /// [`ConnectionError::PongTimeout`]: the websocket is to be dropped.
    pub fn handle_timeout(&mut self, now: Instant) -> Result<(), ConnectionError> {
        let expired: Vec<_> = self
            .streams
            .iter()
            .filter_map(|(id, stream)| Some((id.clone(), stream.expired(now)?)))
            .collect();
        for (id, error) in expired {
            let reason = match error {
                StreamError::DrainTimeout => CloseReason::Local,
                error => CloseReason::Stream(error),
            };
            self.end(&id, reason, Farewell::Reset);
        }
        for id in due(&self.pending, |pending| pending.deadline <= now) {
            self.end(&id, CloseReason::AuthorizationTimeout, Farewell::Reset);
        }
        for id in due(&self.opening, |opening| opening.deadline <= now) {
            self.end(&id, CloseReason::HandshakeTimeout, Farewell::Reset);
        }
        if self.keepalive.is_dead(now) {
            Err(ConnectionError::PongTimeout)
        } else {
            Ok(())
        }
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
                continue;
            };
            stream.is_listed = false;
            let Some(message) = stream.next_message() else {
                continue;
            };
            self.held_bytes = self.held_bytes.saturating_sub(message.len());
            self.list_readable(&id);
            return Some(Event::Message {
                stream: id,
                message,
            });
        }
        None
    }

    // Inside.

    fn approve(&mut self, now: Instant, stream: StreamId, unauthorized: Unauthorized) {
        // A full control queue means that the websocket has taken nothing for long. The reference
        // drops the whole websocket then; one handshake less is enough.
        if !self.make_room(now) || self.control.len() >= limits::CONTROL_FRAMES {
            self.stats.handshakes_refused += 1;
            self.push_reset(&stream);
            self.push_closed(stream, CloseReason::Refused);
            return;
        }
        match unauthorized.approve() {
            Ok((transport, payload)) => {
                self.stats.streams_opened += 1;
                self.push_frame(Frame::new(stream.clone(), Body::Handshake { payload }));
                self.streams
                    .insert(stream.clone(), Stream::new(now, transport, Reorder::new()));
                self.events.push_back(Event::Opened { stream });
            }
            Err(error) => {
                self.push_reset(&stream);
                self.push_closed(stream, CloseReason::Handshake(error));
            }
        }
    }

    /// Whether a stream may be added, after ending the most silent one if need be.
    fn make_room(&mut self, now: Instant) -> bool {
        if self.streams.len() < limits::ACTIVE_STREAMS {
            return true;
        }
        let Some(id) = self.evictable(now) else {
            return false;
        };
        self.end(
            &id,
            CloseReason::Stream(StreamError::Evicted),
            Farewell::Reset,
        );
        true
    }

    fn evictable(&self, now: Instant) -> Option<StreamId> {
        let (id, stream) = self
            .streams
            .iter()
            .min_by_key(|(_, stream)| stream.last_heard)?;
        let silent = now.saturating_duration_since(stream.last_heard);
        (silent >= limits::STREAM_EVICTION_IDLE).then(|| id.clone())
    }

    /// Forgets a stream in whatever state and says so to the application.
    fn end(&mut self, id: &StreamId, reason: CloseReason, farewell: Farewell) {
        if let Some(mut stream) = self.streams.remove(id) {
            self.send_bytes = self.send_bytes.saturating_sub(stream.outbox.bytes());
            self.held_bytes = self.held_bytes.saturating_sub(stream.held_bytes());
            self.stats.streams_closed += 1;
            // What was complete before the end is still delivered.
            while let Some(message) = stream.next_message() {
                self.events.push_back(Event::Message {
                    stream: id.clone(),
                    message,
                });
            }
            self.wake_blocked();
        } else if self.pending.remove(id).is_none() && self.opening.remove(id).is_none() {
            return;
        }
        if farewell == Farewell::Reset {
            self.push_reset(id);
        }
        self.push_closed(id.clone(), reason);
        self.update_input();
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
            .field("role", &self.role)
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
