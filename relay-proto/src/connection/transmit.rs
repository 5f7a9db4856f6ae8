//! What is sent next: ping, handshakes and resets in order, statements, then data in turns.
//!
//! A lost record goes before new ones of its stream, in the stream's turn: one stream's losses are
//! not paid for by others.

use std::time::Instant;

use super::{CloseReason, Connection, Event, Farewell, Transmit, rota};
use crate::frame::{Body, Frame};
use crate::ids::StreamId;
use crate::limits;

impl Connection {
    /// Returns the next thing to write to the websocket.
    ///
    /// Call it when the websocket can take more: records are numbered and sealed here, and what is
    /// handed out must be written or the websocket dropped.
    pub fn poll_transmit(&mut self, now: Instant) -> Option<Transmit> {
        if self.keepalive.take_ping(now) {
            return Some(Transmit::Ping);
        }
        let frame = self
            .control
            .pop_front()
            .inspect(|frame| {
                let is_reset = matches!(frame.body, Body::Reset { .. });
                self.stats.resets_sent += u64::from(is_reset);
            })
            .or_else(|| self.next_statement(now))
            .map(|frame| frame.encode())
            .or_else(|| self.next_data(now))?;
        self.stats.frames_sent += 1;
        self.keepalive.sent(frame.len());
        Some(Transmit::Frame(frame))
    }

    fn next_statement(&mut self, now: Instant) -> Option<Frame> {
        loop {
            let id = self.speaking.pop_front()?;
            let Some(stream) = self.streams.get_mut(&id) else {
                continue;
            };
            stream.is_speaking = false;
            // A data frame may have said it meanwhile.
            if let Some(frame) = stream.next_statement(now, &id) {
                self.stats.statements_sent += 1;
                return Some(frame);
            }
        }
    }

    fn next_data(&mut self, now: Instant) -> Option<bytes::Bytes> {
        loop {
            let id = self.rota.current()?.clone();
            let Some(stream) = self.streams.get_mut(&id) else {
                self.rota.leave();
                continue;
            };
            let Some(length) = stream.next_length() else {
                stream.in_rota = false;
                self.rota.leave();
                continue;
            };
            if stream.allowance < length {
                stream.allowance += rota::share(stream.weight);
                self.rota.next_turn();
                continue;
            }
            stream.allowance -= length;
            let outgoing = match stream.next_frame(now, &id) {
                Ok(Some(outgoing)) => outgoing,
                Ok(None) => continue,
                Err(error) => {
                    self.fail(&id, error);
                    // The reset goes first.
                    return self.control.pop_front().map(|frame| {
                        self.stats.resets_sent += 1;
                        frame.encode()
                    });
                }
            };
            self.stats.records_repeated += u64::from(outgoing.repeated);
            if let Some(length) = outgoing.completed {
                self.send_bytes = self.send_bytes.saturating_sub(length);
            }
            if stream.drain_deadline.is_some() && stream.is_drained() {
                self.end(&id, CloseReason::Local, Farewell::Reset);
            }
            if outgoing.completed.is_some() {
                self.wake_blocked();
            }
            return Some(outgoing.frame);
        }
    }

    /// Notes what a stream has to send and to say, after anything that may have changed it.
    pub(super) fn settle(&mut self, id: &StreamId) {
        let Some(stream) = self.streams.get_mut(id) else {
            return;
        };
        if stream.link.is_reliable() && stream.link.credit.wanted(stream.backlog()).is_some() {
            self.large.ask(id);
            self.hand_out_room();
        }
        self.list_output(id);
    }

    pub(super) fn list_output(&mut self, id: &StreamId) {
        let Some(stream) = self.streams.get_mut(id) else {
            return;
        };
        stream.refresh_credit();
        if !stream.is_speaking && stream.due().is_some() {
            stream.is_speaking = true;
            self.speaking.push_back(id.clone());
        }
        if !stream.in_rota && stream.next_length().is_some() {
            stream.in_rota = true;
            stream.allowance = rota::share(stream.weight);
            self.rota.enter(id.clone());
        }
    }

    pub(super) fn push_frame(&mut self, frame: Frame) {
        self.control.push_back(frame);
    }

    /// Queues a reset, once per stream; best effort when the queue is full.
    pub(super) fn push_reset(&mut self, reset: Frame) {
        let id = &reset.stream_id;
        if self
            .control
            .iter()
            .any(|frame| frame.stream_id == *id && matches!(frame.body, Body::Reset { .. }))
        {
            return;
        }
        // What is queued for a stream that ends is of no use any more.
        self.control.retain(|frame| frame.stream_id != *id);
        if self.control.len() >= limits::CONTROL_FRAMES {
            self.stats.resets_dropped += 1;
            return;
        }
        self.control.push_back(reset);
    }

    /// Tells blocked senders that there is room, if there is.
    pub(super) fn wake_blocked(&mut self) {
        if !self.any_blocked {
            return;
        }
        self.any_blocked = false;
        let is_half_empty = self.send_bytes <= limits::CONNECTION_SEND_BYTES / 2;
        for (id, stream) in &mut self.streams {
            let Some(length) = stream.blocked else {
                continue;
            };
            let queued = stream.outbox.bytes().saturating_add(length);
            let fits = is_half_empty || queued <= limits::STREAM_SEND_BASE_BYTES;
            if fits && stream.outbox.is_half_empty() {
                stream.blocked = None;
                self.events
                    .push_back(Event::Writable { stream: id.clone() });
            } else {
                self.any_blocked = true;
            }
        }
    }
}
