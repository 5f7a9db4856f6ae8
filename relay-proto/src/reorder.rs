//! Receive order of one direction: records leave in sequence, each at most once.
//!
//! Not responsible for decryption: what waits here is ciphertext, so a forged record costs memory
//! within the caps and nothing else. Not responsible for time: the owner watches
//! [`Reorder::has_gap`].

use std::collections::BTreeMap;

use bytes::Bytes;

use crate::ids::Seq;
use crate::limits;

/// Records of one direction that have arrived but may not be opened yet.
///
/// Memory: at most [`limits::REORDER_DISTANCE`] records and [`limits::REORDER_BYTES`] bytes wait
/// behind a gap, plus the one record that is next.
#[derive(Debug)]
pub(crate) struct Reorder {
    /// The number that is delivered next; `None` when the numbers are used up.
    next: Option<Seq>,
    head: Option<Bytes>,
    ahead: BTreeMap<Seq, Bytes>,
    ahead_bytes: usize,
}

/// What became of a record that arrived.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Arrival {
    /// It is next: [`Reorder::pop`] returns it.
    Ready,
    /// It waits for a missing one.
    Early,
    /// It, or another with its number, was here before.
    Duplicate,
}

impl Reorder {
    pub(crate) fn new() -> Self {
        Self {
            next: Some(Seq::ZERO),
            head: None,
            ahead: BTreeMap::new(),
            ahead_bytes: 0,
        }
    }

    /// Takes a record as it arrives.
    pub(crate) fn insert(&mut self, seq: Seq, record: Bytes) -> Result<Arrival, ReorderError> {
        let Some(next) = self.next else {
            return Ok(Arrival::Duplicate);
        };
        let Some(distance) = seq.ahead_of(next) else {
            return Ok(Arrival::Duplicate);
        };
        if distance == 0 {
            if self.head.is_some() {
                return Ok(Arrival::Duplicate);
            }
            self.head = Some(record);
            return Ok(Arrival::Ready);
        }
        if distance > limits::REORDER_DISTANCE {
            return Err(ReorderError::TooFar { distance });
        }
        if self.ahead.contains_key(&seq) {
            return Ok(Arrival::Duplicate);
        }
        let bytes = self.ahead_bytes.saturating_add(record.len());
        if bytes > limits::REORDER_BYTES {
            return Err(ReorderError::TooMuch { bytes });
        }
        self.ahead_bytes = bytes;
        // A copy of its own: the record may be a small part of a large read buffer, which would
        // stay in memory uncounted for as long as the gap.
        self.ahead.insert(seq, Bytes::copy_from_slice(&record));
        Ok(Arrival::Early)
    }

    /// Returns the next record in sequence, if it has arrived.
    pub(crate) fn pop(&mut self) -> Option<Bytes> {
        let record = self.head.take()?;
        self.next = self.next.and_then(Seq::next);
        if let Some(head) = self.next.and_then(|next| self.ahead.remove(&next)) {
            self.ahead_bytes -= head.len();
            self.head = Some(head);
        }
        Some(record)
    }

    /// Whether records wait for one that is missing.
    pub(crate) fn has_gap(&self) -> bool {
        self.head.is_none() && !self.ahead.is_empty()
    }

    /// Bytes held.
    pub(crate) fn held_bytes(&self) -> usize {
        self.ahead_bytes + self.head.as_ref().map_or(0, Bytes::len)
    }
}

/// A record that cannot wait for the missing one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ReorderError {
    /// Its number is too far ahead.
    #[error(
        "record {distance} ahead of the expected one exceeds limit of {limit}",
        limit = limits::REORDER_DISTANCE
    )]
    TooFar {
        /// Distance from the expected number.
        distance: u32,
    },
    /// Too many bytes wait already.
    #[error(
        "{bytes} bytes waiting for a missing record exceed limit of {limit} bytes",
        limit = limits::REORDER_BYTES
    )]
    TooMuch {
        /// Bytes that would wait.
        bytes: usize,
    },
}

#[cfg(test)]
mod tests;
