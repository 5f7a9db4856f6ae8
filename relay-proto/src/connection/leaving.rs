//! Streams that have ended before the application took everything they had delivered.
//!
//! A peer may end a stream as soon as all it sent has arrived here, however slowly the application
//! takes it. So what was complete at the end waits on, without a stream, and [`Event::Closed`] comes
//! after it.

use std::collections::VecDeque;

use bytes::Bytes;

use super::{CloseReason, Connection, Event};
use crate::ids::StreamId;
use crate::limits;

/// What an ended stream has left.
pub(super) struct Leaving {
    messages: VecDeque<Bytes>,
    reason: CloseReason,
    paused: bool,
    is_listed: bool,
}

impl Leaving {
    pub(super) fn bytes(&self) -> usize {
        self.messages.iter().map(Bytes::len).sum()
    }
}

impl Connection {
    /// Keeps the messages of a stream that has ended. Says whether it did; there is nothing to keep,
    /// or room for no more, otherwise.
    pub(super) fn leave(
        &mut self,
        id: &StreamId,
        messages: VecDeque<Bytes>,
        reason: CloseReason,
        paused: bool,
    ) -> bool {
        if messages.is_empty() || self.leaving.len() >= limits::ACTIVE_STREAMS {
            return false;
        }
        let leaving = Leaving {
            messages,
            reason,
            paused,
            is_listed: false,
        };
        self.held_bytes += leaving.bytes();
        self.leaving.insert(id.clone(), leaving);
        self.list_leaving(id);
        true
    }

    pub(super) fn pause_leaving(&mut self, id: &StreamId, paused: bool) {
        if let Some(leaving) = self.leaving.get_mut(id) {
            leaving.paused = paused;
        }
        self.list_leaving(id);
    }

    /// The next event of an ended stream, unless the application has paused it.
    pub(super) fn next_of_leaving(&mut self, id: &StreamId) -> Option<Event> {
        let leaving = self.leaving.get_mut(id)?;
        leaving.is_listed = false;
        if leaving.paused {
            return None;
        }
        let Some(message) = leaving.messages.pop_front() else {
            let reason = leaving.reason;
            self.leaving.remove(id);
            return Some(Event::Closed {
                stream: id.clone(),
                reason,
            });
        };
        self.held_bytes = self.held_bytes.saturating_sub(message.len());
        self.list_leaving(id);
        Some(Event::Message {
            stream: id.clone(),
            message,
        })
    }

    /// Drops what an ended stream has left.
    pub(super) fn drop_leaving(&mut self, id: &StreamId, reason: Option<CloseReason>) {
        if let Some(leaving) = self.leaving.remove(id) {
            self.held_bytes = self.held_bytes.saturating_sub(leaving.bytes());
            self.push_closed(id.clone(), reason.unwrap_or(leaving.reason));
        }
    }

    fn list_leaving(&mut self, id: &StreamId) {
        if let Some(leaving) = self.leaving.get_mut(id).filter(|it| !it.is_listed) {
            leaving.is_listed = true;
            self.readable.push_back(id.clone());
        }
    }
}
