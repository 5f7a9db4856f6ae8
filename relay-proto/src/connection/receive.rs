//! What each frame does in each state. The table is in the parent module's documentation.

use std::time::Instant;

use bytes::Bytes;

use super::{CloseReason, Connection, ConnectionError, Event, Farewell, HandshakeToken, Pending};
use crate::frame::{Body, Frame, FrameError, Statement};
use crate::ids::{Seq, StreamId};
use crate::limits;
use crate::link::{End, Heard};
use crate::noise::{HandshakeError, Unauthorized, prologue};
use crate::stream::{Received, Stream, StreamError};

impl Connection {
    /// Takes one websocket binary message. Text messages are to be ignored by the shell.
    ///
    /// # Errors
    ///
    /// [`ConnectionError::MessageTooLong`]: the websocket is to be dropped. Nothing else that a peer
    /// sends is an error of the connection.
    pub fn handle_message(&mut self, now: Instant, binary: Bytes) -> Result<(), ConnectionError> {
        self.keepalive.heard(now);
        self.stats.frames_received += 1;
        let length = binary.len();
        let frame = match Frame::decode(binary) {
            Ok(frame) => frame,
            Err(FrameError::TooLong { length }) => {
                return Err(ConnectionError::MessageTooLong { length });
            }
            Err(_) => {
                self.stats.frames_malformed += 1;
                return Ok(());
            }
        };
        let heard = self.hear(now, &frame);
        let wants_answer = frame
            .statement
            .is_some_and(|statement| statement.flags & Statement::ANSWER != 0);
        let id = frame.stream_id;
        match frame.body {
            Body::Data { seq, payload } => {
                self.on_data(now, &id, seq, own_record(payload, length));
            }
            Body::Handshake { payload } => match self.end {
                End::Executor => self.on_request(now, id, &payload),
                End::Harness => self.on_answer(now, id, &payload),
            },
            Body::Reset { .. } => {
                self.stats.resets_received += 1;
                if matches!(heard, Heard::News { .. }) {
                    self.end(&id, CloseReason::ResetByPeer, Farewell::Nothing);
                } else {
                    self.on_bare_reset(now, &id);
                }
            }
            Body::Resume { .. } if frame.statement.is_some() => self.on_unknown(&id),
            Body::Ack if wants_answer => self.on_unknown(&id),
            Body::Resume { .. } | Body::Ack | Body::Heartbeat => {}
        }
        self.watch_room(now);
        self.update_input();
        Ok(())
    }

    /// Takes what a frame says besides its body.
    fn hear(&mut self, now: Instant, frame: &Frame) -> Heard {
        let id = &frame.stream_id;
        let Some(stream) = self.streams.get_mut(id) else {
            return Heard::Nothing;
        };
        let before = stream.held_bytes();
        let result = stream.hear(now, frame);
        // What waits may have been opened, and be shorter for it.
        self.held_bytes = (self.held_bytes + stream.held_bytes()).saturating_sub(before);
        let heard = match result {
            Ok(heard) => heard,
            Err(error) => {
                self.fail(id, error);
                return Heard::Nothing;
            }
        };
        match heard {
            Heard::News { resumed, .. } => {
                if resumed {
                    self.stats.streams_resumed += 1;
                    self.events.push_back(Event::Resumed { stream: id.clone() });
                }
                if stream.drain_deadline.is_some() && stream.is_drained() {
                    self.end(id, CloseReason::Local, Farewell::Reset);
                }
                self.settle(id);
            }
            Heard::Forged => self.stats.statements_forged += 1,
            Heard::Hello => self.settle(id),
            Heard::Nothing | Heard::Stale => {}
        }
        heard
    }

    /// Tells a harness whose stream is unknown here that it is gone, so that it does something else.
    fn on_unknown(&mut self, id: &StreamId) {
        if self.end == End::Executor
            && !self.streams.contains_key(id)
            && !self.pending.contains_key(id)
        {
            self.push_reset(Frame::reset(id.clone()));
        }
    }

    fn on_data(&mut self, now: Instant, id: &StreamId, seq: Seq, record: Bytes) {
        if let Some(stream) = self.streams.get_mut(id) {
            if stream.drain_deadline.is_some() && !stream.link.is_reliable() {
                // Nobody listens any more.
                return;
            }
            let before = stream.held_bytes();
            let result = stream.receive(now, seq, record);
            if stream.drain_deadline.is_some() {
                // Nor here, but the peer has to be told that it arrived.
                while let Some(message) = stream.take_message() {
                    self.large.give(stream.link.credit.taken(message.len()));
                }
            }
            self.held_bytes = (self.held_bytes + stream.held_bytes()).saturating_sub(before);
            match result {
                Ok(Received::Duplicate) => self.stats.records_duplicate += 1,
                Ok(Received::Dropped) => self.stats.records_dropped += 1,
                Ok(Received::Early) => self.stats.records_early += 1,
                Ok(Received::Ready) => self.list_readable(id),
                Err(error) => self.fail(id, error),
            }
            self.settle(id);
            self.shed();
        } else if let Some(opening) = self.opening.get_mut(id) {
            // Nothing is opened before the answer, so a forged record costs its memory only.
            if let Err(error) = opening.reorder.insert(seq, record) {
                self.fail(id, error.into());
            }
        } else if self.pending.contains_key(id) {
            self.fail(id, StreamError::EarlyData);
        } else {
            self.on_unknown(id);
        }
    }

    /// Executor: message 1.
    fn on_request(&mut self, now: Instant, id: StreamId, message: &[u8]) {
        // A harness never sends a second one, so this is a duplicate or a forgery. A reset, as the
        // reference sends it, would let whoever forged it end a healthy stream.
        if self.streams.contains_key(&id)
            || self.pending.contains_key(&id)
            || self.leaving.contains_key(&id)
        {
            self.stats.handshakes_ignored += 1;
            return;
        }
        let full = self.streams.len() >= limits::ACTIVE_STREAMS && self.evictable(now).is_none();
        if full || self.pending.len() >= limits::PENDING_HANDSHAKES || !self.budget.allows(now) {
            self.stats.handshakes_refused += 1;
            self.push_reset(Frame::reset(id));
            return;
        }
        let prologue = prologue(&self.environment, &self.registration, &id);
        let rng = self.handshake_rng();
        match Unauthorized::read(&self.identity, &prologue, message, rng) {
            Ok(unauthorized) => {
                let serial = self.next_serial;
                self.next_serial += 1;
                self.events.push_back(Event::HandshakeRequested {
                    token: HandshakeToken::new(id.clone(), serial),
                    harness_key: unauthorized.harness_key().clone(),
                    authorization: unauthorized.authorization().to_owned(),
                });
                let deadline = now + limits::AUTHORIZATION_TIMEOUT;
                self.pending.insert(
                    id,
                    Pending {
                        serial,
                        unauthorized,
                        deadline,
                    },
                );
            }
            Err(_) => {
                self.budget.spend(now);
                self.stats.handshakes_failed += 1;
                self.push_reset(Frame::reset(id));
            }
        }
    }

    /// Harness: message 2.
    fn on_answer(&mut self, now: Instant, id: StreamId, message: &[u8]) {
        let Some(opening) = self.opening.remove(&id) else {
            self.stats.handshakes_ignored += 1;
            return;
        };
        match opening.initiator.finish(message) {
            Ok(transport) => {
                self.stats.streams_opened += 1;
                let mut stream = Stream::new(self.beginning(now), transport, opening.reorder);
                let opened = stream.take_ready(now);
                self.held_bytes += stream.held_bytes();
                self.streams.insert(id.clone(), stream);
                self.events.push_back(Event::Opened { stream: id.clone() });
                self.list_readable(&id);
                self.settle(&id);
                if let Err(error) = opened {
                    self.fail(&id, error);
                }
            }
            Err(HandshakeError::CredentialsRejected) => {
                self.stats.handshakes_refused += 1;
                self.push_closed(id, CloseReason::CredentialsRejected);
            }
            Err(error) => {
                self.stats.handshakes_failed += 1;
                self.push_reset(Frame::reset(id.clone()));
                self.push_closed(id, CloseReason::Handshake(error));
            }
        }
    }

    pub(super) fn fail(&mut self, id: &StreamId, error: StreamError) {
        self.stats.streams_failed += 1;
        self.end(id, CloseReason::Stream(error), Farewell::Reset);
    }

    /// Ends the stream that holds the most while all together hold too much: first what ended streams
    /// have left, then those whose peer knows no window, since the others keep to their part.
    fn shed(&mut self) {
        while self.held_bytes > limits::CONNECTION_RECEIVE_BYTES {
            let largest = self
                .leaving
                .iter()
                .max_by_key(|(_, leaving)| leaving.bytes())
                .map(|(id, _)| id.clone());
            if let Some(id) = largest {
                self.drop_leaving(&id, None);
                continue;
            }
            let largest = self
                .streams
                .iter()
                .max_by_key(|(_, stream)| (!stream.link.is_reliable(), stream.held_bytes()))
                .map(|(id, _)| id.clone());
            let Some(id) = largest else { break };
            self.fail(&id, StreamError::ConnectionFull);
        }
    }
}

/// Makes a record independent of the message it came in if it is a small part of it, so that what is
/// counted is about what is held.
fn own_record(record: Bytes, message_length: usize) -> Bytes {
    if record.len() < limits::RECORD_COPY_BYTES || record.len() < message_length / 2 {
        Bytes::copy_from_slice(&record)
    } else {
        record
    }
}
