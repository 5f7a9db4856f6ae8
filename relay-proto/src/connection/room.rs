//! Room for received messages that are larger than a stream's window: who gets it, who loses it.
//!
//! Handed out in the order of asking, whole. Whoever has it and neither sends nor takes on while
//! somebody waits, for [`limits::LARGE_WAIT`], loses its stream: a reader that does not read must not
//! hold up others.

use std::time::Instant;

use super::Connection;
use crate::ids::StreamId;
use crate::limits;
use crate::stream::StreamError;

/// Somebody waits for room.
pub(super) struct Shortage {
    /// When to look again.
    pub(super) until: Instant,
    /// How far those who have room were when it began.
    marks: Vec<(StreamId, u64)>,
}

impl Connection {
    /// Gives room for large messages to those whose turn it is.
    pub(super) fn hand_out_room(&mut self) {
        while let Some(id) = self.large.first().cloned() {
            let stream = self.streams.get_mut(&id);
            let wanted = stream.and_then(|stream| {
                let backlog = stream.backlog();
                let wanted = stream.link.credit.wanted(backlog)?;
                Some((stream, wanted, backlog))
            });
            match wanted {
                None => self.large.pop(),
                Some((stream, bytes, backlog)) => {
                    if !self.large.take(bytes) {
                        return;
                    }
                    stream.link.credit.reserve(bytes, backlog);
                    self.large.pop();
                    self.list_output(&id);
                }
            }
        }
    }

    /// Ends a stream that has room and does not get on, when somebody has waited long enough.
    pub(super) fn watch_room(&mut self, now: Instant) {
        if self.large.first().is_none() {
            self.shortage = None;
            return;
        }
        match self.shortage.take() {
            Some(shortage) if shortage.until > now => self.shortage = Some(shortage),
            Some(shortage) => {
                let idle = shortage.marks.into_iter().find(|(id, mark)| {
                    self.streams.get(id).is_some_and(|stream| {
                        let credit = &stream.link.credit;
                        credit.reserved() > 0 && credit.opened_bytes() == *mark
                    })
                });
                if let Some((id, _)) = idle {
                    self.fail(&id, StreamError::RoomNeeded);
                }
                self.shortage = Some(self.new_shortage(now));
            }
            None => self.shortage = Some(self.new_shortage(now)),
        }
    }

    fn new_shortage(&self, now: Instant) -> Shortage {
        let marks = self
            .streams
            .iter()
            .filter(|(_, stream)| stream.link.credit.reserved() > 0)
            .map(|(id, stream)| (id.clone(), stream.link.credit.opened_bytes()))
            .collect();
        Shortage {
            until: now + limits::LARGE_WAIT,
            marks,
        }
    }
}
