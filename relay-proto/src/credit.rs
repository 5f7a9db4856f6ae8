//! Receive window of one stream: what its peer may send.
//!
//! Two numbers that never go down: records below `max_seq`, and bytes of plaintext up to `max_bytes`,
//! counted from the beginning of the stream. A peer that has used them up waits; so a reader that
//! does not take its messages pauses its own producer and nobody else.
//!
//! ```text
//! plaintext:  0 ........ taken ....... opened ........... max_bytes
//!                          |-- waiting --|
//!                          |----------- window -------------|
//! ```
//!
//! A message that is larger than the window cannot be taken before it is complete, so it needs room
//! of its own, which the connection hands out: [`LargeRoom`]. With it the window is as if the bytes of
//! that message had been taken already.

use std::collections::VecDeque;

use crate::ids::StreamId;
use crate::limits;

/// What one stream's peer has been promised.
#[derive(Debug, Default)]
pub(crate) struct Credit {
    /// Plaintext bytes that were opened in sequence.
    opened: u64,
    /// Room held for a message larger than the window.
    reserved: Option<Room>,
    granted: Grant,
    /// What the peer was told last.
    told: Grant,
}

/// Room for one message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Room {
    /// Where its message begins in the plaintext. Its length would not tell it from the next one,
    /// which may be just as long.
    begins: u64,
    length: usize,
}

/// What a peer may send, counted from the beginning of the stream.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Grant {
    /// Records with a lower number.
    pub(crate) max_seq: u32,
    /// So many bytes of plaintext.
    pub(crate) max_bytes: u64,
}

/// What waits on the receiving side of a stream.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Backlog {
    /// Complete messages that the application has not taken: how many.
    pub(crate) messages: usize,
    /// Their bytes.
    pub(crate) bytes: usize,
    /// Bytes of the message in progress.
    pub(crate) partial: usize,
    /// Its length, once known.
    pub(crate) expected: Option<usize>,
}

impl Credit {
    /// Notes plaintext that was opened in sequence.
    pub(crate) fn opened(&mut self, bytes: usize) {
        self.opened = self.opened.saturating_add(bytes as u64);
    }

    /// Room that the message in progress needs and does not have.
    pub(crate) fn wanted(&self, backlog: Backlog) -> Option<usize> {
        backlog
            .expected
            .filter(|&length| length > limits::STREAM_WINDOW_BYTES && self.reserved.is_none())
    }

    /// Takes room for the message in progress.
    pub(crate) fn reserve(&mut self, length: usize, backlog: Backlog) {
        let begins = self.begin_of_partial(backlog);
        self.reserved = Some(Room { begins, length });
    }

    /// Room held.
    pub(crate) fn reserved(&self) -> usize {
        self.reserved.map_or(0, |room| room.length)
    }

    /// The application took a message; returns the room that this frees.
    ///
    /// Of two messages of this length the first one has the room: the second one asks for some only
    /// after the first one is gone.
    pub(crate) fn taken(&mut self, length: usize) -> usize {
        match self.reserved {
            Some(room) if room.length == length => {
                self.reserved = None;
                length
            }
            _ => 0,
        }
    }

    /// Where the message in progress begins: the same for as long as it is in progress.
    fn begin_of_partial(&self, backlog: Backlog) -> u64 {
        self.opened.saturating_sub(backlog.partial as u64)
    }

    /// Computes what the peer may send; never less than before. `next` is the number of the record
    /// that is expected next.
    pub(crate) fn update(&mut self, next: u32, backlog: Backlog) {
        let begins = self.begin_of_partial(backlog);
        let in_room = self
            .reserved
            .filter(|room| backlog.expected.is_some() && room.begins == begins)
            .map(|room| room.length.saturating_sub(backlog.partial));
        // The message in progress has room of its own, or counts like what waits.
        let waiting = match in_room {
            Some(_) => backlog.bytes,
            None => backlog.bytes.saturating_add(backlog.partial),
        };
        let window = limits::STREAM_WINDOW_BYTES.saturating_sub(waiting);
        let bytes = window.saturating_add(in_room.unwrap_or(0));
        let max_bytes = self.opened.saturating_add(bytes as u64);
        let messages = u32::try_from(backlog.messages).unwrap_or(u32::MAX);
        let records = limits::STREAM_WINDOW_RECORDS.saturating_sub(messages);
        let max_seq = next.saturating_add(records);
        // A peer that takes more than it was given is not given it afterwards.
        if bytes > 0 {
            self.granted.max_bytes = self.granted.max_bytes.max(max_bytes);
        }
        if records > 0 {
            self.granted.max_seq = self.granted.max_seq.max(max_seq);
        }
    }

    /// Plaintext bytes that were opened in sequence.
    pub(crate) fn opened_bytes(&self) -> u64 {
        self.opened
    }

    /// Whether the peer should be told although nothing else is to be said: the window grew by a
    /// quarter since, or the peer has used it up as far as it knows.
    pub(crate) fn is_worth_telling(&self, next: u32) -> bool {
        let Grant { max_seq, max_bytes } = self.granted;
        let quarter = (limits::STREAM_WINDOW_BYTES / 4) as u64;
        let low = limits::RECORD_PLAINTEXT_BYTES as u64;
        let bytes = max_bytes.saturating_sub(self.told.max_bytes);
        let left = self.told.max_bytes.saturating_sub(self.opened);
        let records = max_seq.saturating_sub(self.told.max_seq);
        let records_left = self.told.max_seq.saturating_sub(next);
        bytes >= quarter
            || (bytes > 0 && left < low)
            || records >= limits::STREAM_WINDOW_RECORDS / 4
            || (records > 0 && records_left == 0)
    }

    /// What to tell the peer, which thereby knows.
    pub(crate) fn tell(&mut self) -> Grant {
        self.told = self.granted;
        self.granted
    }

    /// Bytes that the peer sent beyond what it may.
    pub(crate) fn overdrawn(&self) -> usize {
        let bytes = self.opened.saturating_sub(self.granted.max_bytes);
        usize::try_from(bytes).unwrap_or(usize::MAX)
    }

    /// Records that may arrive ahead of the expected one `next`.
    pub(crate) fn distance(&self, next: u32) -> u32 {
        self.granted
            .max_seq
            .saturating_sub(next)
            .max(limits::REORDER_DISTANCE)
    }

    /// Bytes that may wait for a missing record.
    pub(crate) fn reorder_bytes(&self) -> usize {
        let promised = self.granted.max_bytes.saturating_sub(self.opened);
        usize::try_from(promised)
            .unwrap_or(usize::MAX)
            .max(limits::REORDER_BYTES)
    }
}

/// Room on one connection for messages larger than a stream's window, first come, first served.
///
/// A stream gets room for a whole message or none, so streams never wait for one another in a circle.
#[derive(Debug)]
pub(crate) struct LargeRoom {
    free: usize,
    waiting: VecDeque<StreamId>,
}

impl Default for LargeRoom {
    fn default() -> Self {
        Self {
            free: limits::CONNECTION_LARGE_BYTES,
            waiting: VecDeque::new(),
        }
    }
}

impl LargeRoom {
    /// Lines a stream up.
    pub(crate) fn ask(&mut self, stream: &StreamId) {
        if !self.waiting.contains(stream) {
            self.waiting.push_back(stream.clone());
        }
    }

    /// Whose turn it is.
    pub(crate) fn first(&self) -> Option<&StreamId> {
        self.waiting.front()
    }

    /// Removes who was first: served, or no longer in need.
    pub(crate) fn pop(&mut self) {
        self.waiting.pop_front();
    }

    /// Takes room, or says that there is none.
    pub(crate) fn take(&mut self, bytes: usize) -> bool {
        match self.free.checked_sub(bytes) {
            Some(free) => {
                self.free = free;
                true
            }
            None => false,
        }
    }

    /// Gives room back.
    pub(crate) fn give(&mut self, bytes: usize) {
        self.free = self
            .free
            .saturating_add(bytes)
            .min(limits::CONNECTION_LARGE_BYTES);
    }

    #[cfg(any(test, fuzzing))]
    pub(crate) fn free(&self) -> usize {
        self.free
    }

    /// Counts room that a stream brings along from another connection, where it was within the same
    /// limit.
    pub(crate) fn bring(&mut self, bytes: usize) {
        self.free = self.free.saturating_sub(bytes);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const WINDOW: usize = limits::STREAM_WINDOW_BYTES;

    fn backlog(messages: usize, bytes: usize) -> Backlog {
        Backlog {
            messages,
            bytes,
            ..Backlog::default()
        }
    }

    #[test]
    fn what_waits_narrows_the_window_and_what_is_taken_widens_it() {
        let mut credit = Credit::default();
        credit.update(0, backlog(0, 0));
        let start = credit.tell();
        assert_eq!(start.max_bytes, WINDOW as u64);
        assert_eq!(start.max_seq, limits::STREAM_WINDOW_RECORDS);
        // Everything arrives and nobody takes it.
        credit.opened(WINDOW);
        credit.update(100, backlog(100, WINDOW));
        assert_eq!(credit.granted.max_bytes, start.max_bytes);
        credit.update(100, backlog(50, WINDOW / 2));
        assert_eq!(credit.granted.max_bytes, (WINDOW + WINDOW / 2) as u64);
        assert!(credit.is_worth_telling(100));
        credit.tell();
        assert!(!credit.is_worth_telling(100));
    }

    #[test]
    fn a_promise_is_never_taken_back() {
        let mut credit = Credit::default();
        credit.update(0, backlog(0, 0));
        let before = credit.granted;
        credit.update(0, backlog(400, WINDOW * 3));
        assert_eq!(credit.granted, before);
    }

    #[test]
    fn records_are_counted_as_well() {
        let mut credit = Credit::default();
        credit.update(0, backlog(0, 0));
        credit.tell();
        let all = limits::STREAM_WINDOW_RECORDS;
        credit.opened(10);
        credit.update(all, backlog(all as usize, 10));
        assert_eq!(credit.granted.max_seq, all);
        // The peer has used them up, so a single one is worth a frame.
        credit.update(all, backlog(all as usize - 1, 10));
        assert!(credit.is_worth_telling(all));
    }

    #[test]
    fn a_large_message_needs_room_and_then_counts_as_taken() {
        let length = 5 * WINDOW;
        let mut credit = Credit::default();
        credit.update(0, backlog(0, 0));
        credit.opened(WINDOW);
        let mut partial = Backlog {
            partial: WINDOW,
            expected: Some(length),
            ..Backlog::default()
        };
        credit.update(18, partial);
        assert_eq!(credit.granted.max_bytes, WINDOW as u64, "stuck");
        assert_eq!(credit.wanted(partial), Some(length));
        credit.reserve(length, partial);
        assert_eq!(credit.wanted(partial), None);
        credit.update(18, partial);
        assert_eq!(credit.granted.max_bytes, (length + WINDOW) as u64);
        // Complete but not taken: the next message has to wait.
        partial = backlog(1, length);
        credit.opened(length - WINDOW);
        credit.update(90, partial);
        assert_eq!(credit.granted.max_bytes, (length + WINDOW) as u64);
        assert_eq!(credit.taken(7), 0);
        // However long that is.
        credit.opened(4);
        let next = Backlog {
            expected: Some(length),
            ..partial
        };
        credit.update(91, next);
        assert_eq!(credit.granted.max_bytes, (length + WINDOW) as u64);
        assert_eq!(credit.wanted(next), None);
        assert_eq!(credit.taken(length), length);
        let waiting = Backlog {
            expected: Some(length),
            ..Backlog::default()
        };
        assert_eq!(credit.wanted(waiting), Some(length));
        credit.update(91, waiting);
        assert_eq!(credit.granted.max_bytes, (length + 4 + WINDOW) as u64);
    }

    #[test]
    fn room_goes_to_those_who_asked_first_and_only_whole() {
        let id = |name: &str| StreamId::new(name).unwrap();
        let mut room = LargeRoom::default();
        assert!(room.take(limits::MESSAGE_BYTES));
        assert!(room.take(limits::MESSAGE_BYTES));
        assert!(!room.take(1));
        room.ask(&id("a"));
        room.ask(&id("b"));
        room.ask(&id("a"));
        assert_eq!(room.first(), Some(&id("a")));
        room.pop();
        assert_eq!(room.first(), Some(&id("b")));
        room.give(limits::MESSAGE_BYTES);
        assert!(room.take(limits::MESSAGE_BYTES));
    }
}
