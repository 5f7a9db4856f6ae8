//! What is sent next: ping, then handshakes and resets in order, then one record per stream in turn.

use std::time::Instant;

use super::{CloseReason, Connection, Event, Farewell, Transmit};
use crate::frame::Frame;
use crate::ids::StreamId;
use crate::limits;
use crate::stream::StreamError;

/// A frame that goes before any data.
pub(super) enum Control {
    Frame(Frame),
    Reset(StreamId),
}

impl Connection {
    /// Returns the next thing to write to the websocket.
    ///
    /// Call it when the websocket can take more: records are numbered and sealed here, and what is
    /// handed out must be written or the websocket dropped.
    pub fn poll_transmit(&mut self, now: Instant) -> Option<Transmit> {
        if self.keepalive.take_ping(now) {
            return Some(Transmit::Ping);
        }
        loop {
            if let Some(control) = self.control.pop_front() {
                self.stats.frames_sent += 1;
                let frame = match control {
                    Control::Frame(frame) => frame,
                    Control::Reset(id) => {
                        self.stats.resets_sent += 1;
                        Frame::reset(id)
                    }
                };
                return Some(Transmit::Frame(frame.encode()));
            }
            let id = self.rota.pop_front()?;
            let Some(stream) = self.streams.get_mut(&id) else {
                continue;
            };
            stream.in_rota = false;
            let (frame, completed) = match stream.next_record(&id) {
                Ok(Some(record)) => record,
                Ok(None) => continue,
                Err(error) => {
                    self.fail_sending(&id, error);
                    continue;
                }
            };
            if !stream.outbox.is_empty() {
                stream.in_rota = true;
                self.rota.push_back(id);
            } else if stream.drain_deadline.is_some() {
                self.send_bytes = self.send_bytes.saturating_sub(completed.unwrap_or(0));
                self.end(&id, CloseReason::Local, Farewell::Reset);
                self.stats.frames_sent += 1;
                return Some(Transmit::Frame(frame));
            }
            if let Some(length) = completed {
                self.send_bytes = self.send_bytes.saturating_sub(length);
                self.wake_blocked();
            }
            self.stats.frames_sent += 1;
            return Some(Transmit::Frame(frame));
        }
    }

    pub(super) fn push_frame(&mut self, frame: Frame) {
        self.control.push_back(Control::Frame(frame));
    }

    /// Queues a reset, once per stream; best effort when the queue is full.
    pub(super) fn push_reset(&mut self, id: &StreamId) {
        if self
            .control
            .iter()
            .any(|control| matches!(control, Control::Reset(other) if other == id))
        {
            return;
        }
        // What is queued for a stream that ends is of no use any more.
        self.control
            .retain(|control| !matches!(control, Control::Frame(frame) if frame.stream_id == *id));
        if self.control.len() >= limits::CONTROL_FRAMES {
            self.stats.resets_dropped += 1;
            return;
        }
        self.control.push_back(Control::Reset(id.clone()));
    }

    /// Tells blocked senders that there is room, if there is.
    pub(super) fn wake_blocked(&mut self) {
        if !self.any_blocked || self.send_bytes > limits::CONNECTION_SEND_BYTES / 2 {
            return;
        }
        self.any_blocked = false;
        for (id, stream) in &mut self.streams {
            if !stream.blocked {
                continue;
            }
            if stream.outbox.is_half_empty() {
                stream.blocked = false;
                self.events
                    .push_back(Event::Writable { stream: id.clone() });
            } else {
                self.any_blocked = true;
            }
        }
    }

    fn fail_sending(&mut self, id: &StreamId, error: StreamError) {
        self.stats.streams_failed += 1;
        self.end(id, CloseReason::Stream(error), Farewell::Reset);
    }
}
