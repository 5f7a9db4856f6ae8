//! What the application asks for: open, authorize, send, pause, close.

use std::num::NonZeroU8;
use std::time::Instant;

use bytes::Bytes;

use super::{
    CloseReason, Connection, Event, Farewell, HandshakeToken, OpenError, Opening, SendError,
    Verdict,
};
use crate::frame::{Body, Frame};
use crate::ids::StreamId;
use crate::keys::PublicKey;
use crate::limits;
use crate::link::End;
use crate::noise::{Initiator, Unauthorized, prologue};
use crate::reorder::Reorder;
use crate::segment::Priority;
use crate::stream::{Stream, StreamError};

impl Connection {
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
        if self.end != End::Harness {
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
                self.push_reset(Frame::reset(stream.clone()));
                self.push_closed(stream, CloseReason::Refused);
            }
            Verdict::CredentialsRejected => {
                self.stats.handshakes_refused += 1;
                match pending.unauthorized.reject_credentials() {
                    Ok(payload) if self.control.len() < limits::CONTROL_FRAMES => {
                        self.push_frame(Frame::new(stream.clone(), Body::Handshake { payload }));
                    }
                    _ => self.push_reset(Frame::reset(stream.clone())),
                }
                self.push_closed(stream, CloseReason::CredentialsRejected);
            }
        }
    }

    /// Queues a message of 1 to [`limits::MESSAGE_BYTES`] bytes. It is not copied.
    ///
    /// Messages sent with this arrive in the order in which they were sent.
    ///
    /// # Errors
    ///
    /// [`SendError::WouldBlock`] gives the message back at the window; [`Event::Writable`] follows
    /// when there is room. The other errors are final.
    pub fn send(
        &mut self,
        now: Instant,
        stream: &StreamId,
        message: Bytes,
    ) -> Result<(), SendError> {
        self.send_with(now, stream, message, Priority::Ordinary)
    }

    /// As [`Connection::send`], in a class: an urgent message may overtake ordinary ones that have not
    /// begun to be sent. See [`Priority`] for what that means for their order.
    ///
    /// # Errors
    ///
    /// As [`Connection::send`]; each class has a window of its own.
    pub fn send_with(
        &mut self,
        _now: Instant,
        stream: &StreamId,
        message: Bytes,
        priority: Priority,
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
        // What is urgent is little, and must not wait for what is not.
        let fits = priority == Priority::Urgent
            || self.send_bytes == 0
            || total <= limits::CONNECTION_SEND_BYTES
            || entry.outbox.bytes().saturating_add(length) <= limits::STREAM_SEND_BASE_BYTES;
        if !fits || !entry.outbox.has_room_for(length, priority) {
            entry.blocked = Some(length);
            self.any_blocked = true;
            return Err(SendError::WouldBlock(message));
        }
        entry.outbox.push(message, priority);
        self.send_bytes = total;
        self.settle(stream);
        Ok(())
    }

    /// Sets a stream's share of the websocket in relation to other streams; 1 for each at first.
    pub fn set_weight(&mut self, stream: &StreamId, weight: NonZeroU8) {
        if let Some(entry) = self.streams.get_mut(stream) {
            entry.weight = usize::from(weight.get());
        }
    }

    /// Says that the application does not take messages of this stream at the moment.
    ///
    /// No [`Event::Message`] follows for it until [`Connection::resume`].
    pub fn pause(&mut self, stream: &StreamId) {
        if let Some(entry) = self.streams.get_mut(stream) {
            entry.paused = true;
        }
        self.pause_leaving(stream, true);
        self.update_input();
    }

    /// Says that the application takes messages of this stream again.
    pub fn resume(&mut self, stream: &StreamId) {
        if let Some(entry) = self.streams.get_mut(stream) {
            entry.paused = false;
        }
        self.pause_leaving(stream, false);
        self.list_readable(stream);
        self.update_input();
    }

    /// Ends a stream after what is queued has been sent, and has arrived if the peer says such things,
    /// or after [`limits::DRAIN_TIMEOUT`].
    pub fn close(&mut self, now: Instant, stream: &StreamId) {
        match self.streams.get_mut(stream) {
            Some(entry) if !entry.is_drained() => {
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
            .chain(self.leaving.keys())
            .cloned()
            .collect();
        for id in ids {
            self.reset(now, &id);
        }
    }

    fn approve(&mut self, now: Instant, stream: StreamId, unauthorized: Unauthorized) {
        // A full control queue means that the websocket has taken nothing for long. The reference
        // drops the whole websocket then; one handshake less is enough.
        if !self.make_room(now) || self.control.len() >= limits::CONTROL_FRAMES {
            self.stats.handshakes_refused += 1;
            self.push_reset(Frame::reset(stream.clone()));
            self.push_closed(stream, CloseReason::Refused);
            return;
        }
        match unauthorized.approve() {
            Ok((transport, payload)) => {
                self.stats.streams_opened += 1;
                self.push_frame(Frame::new(stream.clone(), Body::Handshake { payload }));
                let opened = Stream::new(self.beginning(now), transport, Reorder::new());
                self.streams.insert(stream.clone(), opened);
                self.events.push_back(Event::Opened { stream });
            }
            Err(error) => {
                self.push_reset(Frame::reset(stream.clone()));
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

    pub(super) fn evictable(&self, now: Instant) -> Option<StreamId> {
        // One without a path goes first: its harness may be gone for good.
        let suspended = self
            .streams
            .iter()
            .filter_map(|(id, stream)| Some((stream.link.suspended_until()?, id)))
            .min();
        if let Some((_, id)) = suspended {
            return Some(id.clone());
        }
        let (id, stream) = self
            .streams
            .iter()
            .min_by_key(|(_, stream)| stream.last_heard)?;
        let silent = now.saturating_duration_since(stream.last_heard);
        (silent >= limits::STREAM_EVICTION_IDLE).then(|| id.clone())
    }
}
