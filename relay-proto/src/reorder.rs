//! Receive order of one direction: records leave in sequence, each at most once.
//!
//! Not responsible for decryption. With a peer that sends nothing twice, what waits here is
//! ciphertext, so a forged record costs memory within the caps and nothing else. With one that does,
//! a record is opened before it is put here, so that one that does not open can come again.
//! Not responsible for time: the owner watches [`Reorder::has_gap`].

use std::collections::BTreeMap;

use bytes::Bytes;

use crate::ack::Acknowledgement;
use crate::ids::Seq;
use crate::limits;

/// Records of one direction that have arrived but may not be opened yet.
///
/// Memory: what the [`Reach`] allows waits behind a gap, plus the one record that is next.
#[derive(Debug)]
pub(crate) struct Reorder {
    /// The number that is delivered next; `None` when the numbers are used up.
    next: Option<Seq>,
    head: Option<Bytes>,
    ahead: BTreeMap<Seq, Bytes>,
    ahead_bytes: usize,
}

/// How much may wait behind a gap.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Reach {
    /// How far ahead of the expected number a record may be.
    pub(crate) distance: u32,
    /// Bytes that may wait.
    pub(crate) bytes: usize,
}

impl Default for Reach {
    /// The limits that every peer knows.
    fn default() -> Self {
        Self {
            distance: limits::REORDER_DISTANCE,
            bytes: limits::REORDER_BYTES,
        }
    }
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

    /// Takes a record as it arrives, within the limits that every peer knows.
    pub(crate) fn insert(&mut self, seq: Seq, record: Bytes) -> Result<Arrival, ReorderError> {
        let arrival = self.place(seq, record.len(), Reach::default())?;
        self.put(seq, record, arrival);
        Ok(arrival)
    }

    /// What would become of a record of this length.
    pub(crate) fn place(
        &self,
        seq: Seq,
        length: usize,
        reach: Reach,
    ) -> Result<Arrival, ReorderError> {
        let Some(distance) = self.next.and_then(|next| seq.ahead_of(next)) else {
            return Ok(Arrival::Duplicate);
        };
        if distance == 0 {
            return Ok(match self.head {
                Some(_) => Arrival::Duplicate,
                None => Arrival::Ready,
            });
        }
        if distance > reach.distance {
            return Err(ReorderError::TooFar { distance });
        }
        if self.ahead.contains_key(&seq) {
            return Ok(Arrival::Duplicate);
        }
        let bytes = self.ahead_bytes.saturating_add(length);
        if bytes > reach.bytes {
            return Err(ReorderError::TooMuch { bytes });
        }
        Ok(Arrival::Early)
    }

    /// Puts a record where [`Reorder::place`] said it belongs.
    pub(crate) fn put(&mut self, seq: Seq, record: Bytes, arrival: Arrival) {
        match arrival {
            Arrival::Ready => self.head = Some(record),
            Arrival::Early => {
                self.ahead_bytes = self.ahead_bytes.saturating_add(record.len());
                // A copy of its own: the record may be a small part of a large read buffer, which
                // would stay in memory uncounted for as long as the gap.
                self.ahead.insert(seq, Bytes::copy_from_slice(&record));
            }
            Arrival::Duplicate => {}
        }
    }

    /// What has arrived. At the end of the numbers, all of them have.
    pub(crate) fn acknowledgement(&self) -> Acknowledgement {
        let Some(Seq(next)) = self.next else {
            return Acknowledgement {
                ack: u32::MAX,
                bits: 0,
            };
        };
        let mut acknowledgement = Acknowledgement { ack: next, bits: 0 };
        for seq in self.ahead.keys().take(ACK_BITS) {
            acknowledgement.note(seq.0);
        }
        acknowledgement
    }

    /// Replaces each waiting record by what `open` makes of it, and drops it where that is nothing.
    pub(crate) fn replace(&mut self, open: impl Fn(Seq, Bytes) -> Option<Bytes>) {
        let ahead = std::mem::take(&mut self.ahead);
        self.ahead = ahead
            .into_iter()
            .filter_map(|(seq, record)| Some((seq, open(seq, record)?)))
            .collect();
        self.ahead_bytes = self.ahead.values().map(Bytes::len).sum();
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

/// More records than there are bits need not be looked at.
const ACK_BITS: usize = 32;

#[cfg(test)]
mod tests;
