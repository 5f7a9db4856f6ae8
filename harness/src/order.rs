//! Puts the events of one process in order, exactly once.
//!
//! Events of a process carry one counter: 1, 2, 3, ... without holes. They reach this client twice
//! over: pushed as notifications on the current connection, and read back with `process/read` after
//! a connection was lost or after events had to be discarded. [`Sequencer`] merges the two sources:
//! what comes out is each number once, in order, or an explicit [`ProcessEvent::Lost`] for numbers
//! that the executor no longer retains. It does no I/O and knows nothing of connections.
//!
//! A page of `process/read` carries chunks only. The two terminal events take a number each but are
//! not in the list, so they are placed by arithmetic:
//!
//! ```text
//! afterSeq = 3, nextSeq = 8          4      5      6      7
//! chunks 4 and 6, exited, closed     chunk  exited chunk  closed
//! ```
//!
//! When the page says `closed`, the last number is the closing. When it says `exited` and exactly
//! one other number has no event, that number is the exit. Anything else that is missing was evicted.

use std::collections::BTreeMap;

use bytes::Bytes;

use crate::{
    limits,
    process::{ExitStatus, OutputStream, ProcessEvent},
};

/// Merges pushed and re-read events of one process. See the module documentation.
#[derive(Debug)]
pub(crate) struct Sequencer {
    /// The number of the next event to hand out.
    next: u64,
    /// Events that may not be handed out yet or have not been taken yet.
    waiting: BTreeMap<u64, ProcessEvent>,
    waiting_bytes: usize,
    /// The highest number that was refused for lack of room; it has to be read back.
    discarded_through: u64,
    exit_seen: bool,
    finished: bool,
}

/// What became of a pushed event.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Pushed {
    /// It is in line, or waits for earlier ones.
    Kept,
    /// It was known already.
    Duplicate,
    /// There was no room; it has to be read back.
    Discarded,
}

/// The answer to one `process/read`, in the terms of this module.
#[derive(Debug, Clone)]
pub(crate) struct Page {
    /// Chunks in the order of their numbers.
    pub(crate) chunks: Vec<(u64, OutputStream, Bytes)>,
    /// The number that the next event of the process will get.
    pub(crate) next_seq: u64,
    /// How the process ended, if it did.
    pub(crate) exit: Option<ExitStatus>,
    /// Whether the process has been closed.
    pub(crate) closed: bool,
}

impl Sequencer {
    pub(crate) fn new() -> Self {
        Self {
            next: 1,
            waiting: BTreeMap::new(),
            waiting_bytes: 0,
            discarded_through: 0,
            exit_seen: false,
            finished: false,
        }
    }

    /// The `afterSeq` that asks for everything that was not handed out yet.
    pub(crate) fn after_seq(&self) -> u64 {
        self.next - 1
    }

    /// Whether the closing was handed out; nothing follows it.
    pub(crate) fn is_finished(&self) -> bool {
        self.finished
    }

    /// Whether events are known to exist that only `process/read` can bring.
    pub(crate) fn needs_page(&self) -> bool {
        !self.finished
            && (self.discarded_through >= self.next
                || self
                    .waiting
                    .first_key_value()
                    .is_some_and(|(seq, _)| *seq != self.next))
    }

    /// Takes one pushed event.
    ///
    /// Memory bound: [`limits::REORDER_EVENTS`] events and [`limits::REORDER_BYTES`] bytes wait at
    /// most, not counting the event that is next in line.
    pub(crate) fn push(&mut self, seq: u64, event: ProcessEvent) -> Pushed {
        if seq < self.next || self.finished || self.waiting.contains_key(&seq) {
            return Pushed::Duplicate;
        }
        let full = self.waiting.len() >= limits::REORDER_EVENTS
            || self.waiting_bytes.saturating_add(event.bytes()) > limits::REORDER_BYTES;
        if full && seq != self.next {
            return self.discard(seq);
        }
        self.insert(seq, event);
        Pushed::Kept
    }

    /// Notes that event `seq` arrived and was thrown away for lack of room.
    pub(crate) fn discard(&mut self, seq: u64) -> Pushed {
        if seq < self.next || self.waiting.contains_key(&seq) {
            return Pushed::Duplicate;
        }
        self.discarded_through = self.discarded_through.max(seq);
        Pushed::Discarded
    }

    /// Takes the answer to a `process/read` that asked for events after `after`.
    ///
    /// Afterwards every number below the page's `next_seq` has an event or is marked as lost.
    pub(crate) fn replay(&mut self, after: u64, page: Page) {
        if self.finished {
            return;
        }
        for (seq, stream, chunk) in page.chunks {
            // A number outside the range that was asked for would open a hole that nothing fills.
            if seq > after && seq < page.next_seq {
                self.insert_if_new(seq, ProcessEvent::Output { stream, chunk });
            }
        }
        if page.closed && page.next_seq > 1 {
            self.insert_if_new(page.next_seq - 1, ProcessEvent::Closed);
        }
        let missing = self.missing_below(page.next_seq);
        match (page.exit.filter(|_| !self.exit_seen), missing.as_slice()) {
            (_, []) => {}
            (Some(status), [(first, last)]) if first == last => {
                self.insert(*first, ProcessEvent::Exited(status));
            }
            (exit, ranges) => {
                for (first, last) in ranges {
                    self.insert(
                        *first,
                        ProcessEvent::Lost {
                            first: *first,
                            last: *last,
                        },
                    );
                }
                // The exit is one of the evicted numbers; which one cannot be told, but that and
                // how the process ended is known, so it is not lost with them.
                if let (Some(status), Some((first, last))) = (exit, ranges.last()) {
                    if first == last {
                        self.insert(*first, ProcessEvent::Exited(status));
                    } else {
                        self.insert(
                            *first,
                            ProcessEvent::Lost {
                                first: *first,
                                last: last - 1,
                            },
                        );
                        self.insert(*last, ProcessEvent::Exited(status));
                    }
                }
            }
        }
    }

    /// Hands out the next event in order.
    pub(crate) fn pop(&mut self) -> Option<ProcessEvent> {
        let event = self.waiting.remove(&self.next)?;
        self.waiting_bytes = self.waiting_bytes.saturating_sub(event.bytes());
        self.next = match &event {
            ProcessEvent::Lost { last, .. } => last + 1,
            _ => self.next + 1,
        };
        self.finished = matches!(event, ProcessEvent::Closed);
        if self.finished {
            self.waiting.clear();
            self.waiting_bytes = 0;
        }
        Some(event)
    }

    fn insert_if_new(&mut self, seq: u64, event: ProcessEvent) {
        if seq >= self.next && !self.waiting.contains_key(&seq) {
            self.insert(seq, event);
        }
    }

    fn insert(&mut self, seq: u64, event: ProcessEvent) {
        self.exit_seen |= matches!(event, ProcessEvent::Exited(_));
        self.waiting_bytes += event.bytes();
        if let Some(old) = self.waiting.insert(seq, event) {
            self.waiting_bytes = self.waiting_bytes.saturating_sub(old.bytes());
        }
    }

    /// The ranges of numbers from `next` to below `end` that have no event, both ends included.
    fn missing_below(&self, end: u64) -> Vec<(u64, u64)> {
        let mut ranges = Vec::new();
        let mut expected = self.next;
        for seq in self.waiting.range(..end).map(|(seq, _)| *seq) {
            if seq > expected {
                ranges.push((expected, seq - 1));
            }
            expected = seq + 1;
        }
        if expected < end {
            ranges.push((expected, end - 1));
        }
        ranges
    }
}

#[cfg(test)]
mod tests;
