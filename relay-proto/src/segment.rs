//! Messages to record plaintexts and back.
//!
//! The plaintext of one direction is a byte stream: for each message a 4-byte big-endian length,
//! then the message. [`Segmenter`] cuts it the way the reference does, each message starting a new
//! record; [`Reassembler`] accepts any cut.

use std::collections::VecDeque;

use bytes::{Buf, BufMut, Bytes, BytesMut};

use crate::limits;

/// In which order the messages of one stream may leave.
///
/// Messages of one class stay in order. An urgent message may overtake ordinary ones that have not
/// begun to be sent; it never interrupts one that has, because the peer reads a single byte stream.
/// At most [`limits::URGENT_IN_A_ROW`] overtake at a time. So only what makes sense without the
/// ordinary messages queued before it may be urgent.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Priority {
    /// In order with everything else that is ordinary.
    #[default]
    Ordinary,
    /// Ahead of ordinary messages where possible.
    Urgent,
}

/// Messages waiting to be sent, cut into records on demand.
///
/// Messages are not copied until a record is filled. Bounded by its owner, which asks
/// [`Segmenter::has_room_for`] first.
#[derive(Debug, Default)]
pub(crate) struct Segmenter {
    ordinary: Queue,
    urgent: Queue,
    /// The message that has begun to be sent, and its class.
    current: Option<(Bytes, Priority)>,
    /// Bytes of its prefix and body that are already in records.
    sent: usize,
    /// Urgent messages that went while an ordinary one waited.
    overtaken: u32,
}

/// Messages of one class, including the one that has begun to be sent.
#[derive(Debug, Default)]
struct Queue {
    waiting: VecDeque<Bytes>,
    messages: usize,
    bytes: usize,
}

impl Queue {
    fn has_room_for(&self, length: usize, limit: usize) -> bool {
        self.messages == 0
            || (self.messages < limits::STREAM_SEND_MESSAGES
                && self.bytes.saturating_add(length) <= limit)
    }

    fn is_half_empty(&self, limit: usize) -> bool {
        self.messages <= limits::STREAM_SEND_MESSAGES / 2 && self.bytes <= limit / 2
    }
}

impl Segmenter {
    /// Whether a message may be queued under the limits of one stream.
    pub(crate) fn has_room_for(&self, length: usize, priority: Priority) -> bool {
        match priority {
            Priority::Ordinary => self
                .ordinary
                .has_room_for(length, limits::STREAM_SEND_BYTES),
            Priority::Urgent => self
                .urgent
                .has_room_for(length, limits::STREAM_URGENT_BYTES),
        }
    }

    /// Whether so much has been sent that a blocked sender should be told.
    pub(crate) fn is_half_empty(&self) -> bool {
        self.ordinary.is_half_empty(limits::STREAM_SEND_BYTES)
            && self.urgent.is_half_empty(limits::STREAM_URGENT_BYTES)
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.ordinary.messages == 0 && self.urgent.messages == 0
    }

    /// Bytes of the messages that are not completely in records.
    pub(crate) fn bytes(&self) -> usize {
        self.ordinary.bytes + self.urgent.bytes
    }

    /// Queues a message of 1 to [`limits::MESSAGE_BYTES`] bytes.
    pub(crate) fn push(&mut self, message: Bytes, priority: Priority) {
        let queue = self.queue(priority);
        queue.messages += 1;
        queue.bytes += message.len();
        queue.waiting.push_back(message);
    }

    /// Length of the next record's plaintext; 0 if there is none.
    pub(crate) fn next_length(&self) -> usize {
        let message = match &self.current {
            Some((message, _)) => Some(message),
            None => match self.next_class() {
                Priority::Ordinary => self.ordinary.waiting.front(),
                Priority::Urgent => self.urgent.waiting.front(),
            },
        };
        message.map_or(0, |message| {
            (limits::MESSAGE_PREFIX_BYTES + message.len() - self.sent)
                .min(limits::RECORD_PLAINTEXT_BYTES)
        })
    }

    /// Appends the next record's plaintext to `out`. Returns the length of the message it completes.
    pub(crate) fn fill(&mut self, out: &mut BytesMut) -> Option<usize> {
        let mut room = self.next_length();
        let (message, priority) = self.current.take().or_else(|| self.begin())?;
        let length = message.len();
        if self.sent == 0 {
            // Cannot fail: the length was checked against a limit below 2^32 when it was queued.
            out.put_u32(u32::try_from(length).unwrap_or(u32::MAX));
            self.sent = limits::MESSAGE_PREFIX_BYTES;
            room -= limits::MESSAGE_PREFIX_BYTES;
        }
        let begin = self.sent - limits::MESSAGE_PREFIX_BYTES;
        out.extend_from_slice(message.get(begin..begin + room).unwrap_or_default());
        self.sent += room;
        if self.sent < limits::MESSAGE_PREFIX_BYTES + length {
            self.current = Some((message, priority));
            return None;
        }
        self.sent = 0;
        let queue = self.queue(priority);
        queue.messages -= 1;
        queue.bytes -= length;
        Some(length)
    }

    /// Class of the message that begins next, if one waits.
    fn next_class(&self) -> Priority {
        let may_overtake =
            self.ordinary.waiting.is_empty() || self.overtaken < limits::URGENT_IN_A_ROW;
        if may_overtake && !self.urgent.waiting.is_empty() {
            Priority::Urgent
        } else {
            Priority::Ordinary
        }
    }

    fn begin(&mut self) -> Option<(Bytes, Priority)> {
        let priority = self.next_class();
        self.overtaken = match priority {
            Priority::Urgent if !self.ordinary.waiting.is_empty() => self.overtaken + 1,
            _ => 0,
        };
        let message = self.queue(priority).waiting.pop_front()?;
        Some((message, priority))
    }

    fn queue(&mut self, priority: Priority) -> &mut Queue {
        match priority {
            Priority::Ordinary => &mut self.ordinary,
            Priority::Urgent => &mut self.urgent,
        }
    }
}

/// Turns the byte stream of one direction back into messages.
///
/// Memory: the bytes of the one message in progress, at most twice [`limits::MESSAGE_BYTES`] while
/// its buffer grows. A length prefix alone reserves nothing.
#[derive(Debug, Default)]
pub(crate) struct Reassembler {
    /// The length prefix as far as it has arrived.
    prefix: [u8; limits::MESSAGE_PREFIX_BYTES],
    prefix_length: usize,
    /// Length of the message in progress, once the prefix is complete.
    expected: Option<usize>,
    body: BytesMut,
}

impl Reassembler {
    /// Takes the plaintext of the next record; calls `deliver` for each message it completes.
    ///
    /// Cost: a message that lies within one record is not copied.
    ///
    /// # Errors
    ///
    /// [`SegmentError`] as soon as a prefix is read that no message can have.
    pub(crate) fn push(
        &mut self,
        mut plaintext: Bytes,
        mut deliver: impl FnMut(Bytes),
    ) -> Result<(), SegmentError> {
        while !plaintext.is_empty() {
            let Some(expected) = self.expected else {
                self.read_prefix(&mut plaintext)?;
                continue;
            };
            let missing = expected - self.body.len();
            if self.body.is_empty() && plaintext.len() >= expected {
                self.expected = None;
                deliver(plaintext.split_to(expected));
                continue;
            }
            let taken = plaintext.split_to(missing.min(plaintext.len()));
            if missing <= self.body.len() {
                // More than half is here: what remains is reserved exactly.
                self.body.reserve(missing);
            }
            self.body.extend_from_slice(&taken);
            if taken.len() == missing {
                self.expected = None;
                deliver(std::mem::take(&mut self.body).freeze());
            }
        }
        Ok(())
    }

    /// Bytes held for the message in progress.
    pub(crate) fn held_bytes(&self) -> usize {
        self.body.len()
    }

    /// Length of the message in progress, once it is known.
    pub(crate) fn expected(&self) -> Option<usize> {
        self.expected
    }

    fn read_prefix(&mut self, plaintext: &mut Bytes) -> Result<(), SegmentError> {
        for slot in self.prefix.iter_mut().skip(self.prefix_length) {
            if plaintext.is_empty() {
                return Ok(());
            }
            *slot = plaintext.get_u8();
            self.prefix_length += 1;
        }
        self.prefix_length = 0;
        let length = u32::from_be_bytes(self.prefix);
        match usize::try_from(length) {
            Ok(length @ 1..=limits::MESSAGE_BYTES) => {
                self.expected = Some(length);
                Ok(())
            }
            _ => Err(SegmentError { length }),
        }
    }
}

/// A length prefix that no message can have.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "message of {length} bytes, expected 1 to {} bytes",
    limits::MESSAGE_BYTES
)]
pub struct SegmentError {
    length: u32,
}

#[cfg(test)]
mod tests;
