//! One open stream: both directions of an approved handshake.
//!
//! Responsible for the path message -> records -> message, its limits and its gap timer. Not
//! responsible for frames of other kinds, fairness between streams, or deciding what a failure does
//! to the stream: the connection does that.
//!
//! Acknowledgement and retransmission, once peers speak them, sit between [`Sealer`] and the caller
//! of [`Stream::next_record`]: a record is already sealed exactly once and handed out as final bytes.
//!
//! [`Sealer`]: crate::noise::Sealer

use std::collections::VecDeque;
use std::time::Instant;

use bytes::Bytes;

use crate::frame::begin_data;
use crate::ids::{Seq, StreamId};
use crate::limits;
use crate::noise::{Opener, RecordError, Sealer, Transport};
use crate::reorder::{Arrival, Reorder, ReorderError};
use crate::segment::{Reassembler, SegmentError, Segmenter};

/// State of one open stream.
pub(crate) struct Stream {
    sealer: Sealer,
    opener: Opener,
    reorder: Reorder,
    reassembler: Reassembler,
    pub(crate) outbox: Segmenter,
    inbox: VecDeque<Bytes>,
    inbox_bytes: usize,
    /// The application does not take messages at the moment.
    pub(crate) paused: bool,
    /// A send was refused for lack of room; the application waits to be told.
    pub(crate) blocked: bool,
    /// Whether the connection's transmit rota holds this stream.
    pub(crate) in_rota: bool,
    /// Whether the connection's list of streams with messages holds this one.
    pub(crate) is_listed: bool,
    /// When to give up sending what is queued; set once the application has closed the stream.
    pub(crate) drain_deadline: Option<Instant>,
    gap_deadline: Option<Instant>,
    /// When anything last came from the peer.
    pub(crate) last_heard: Instant,
}

impl Stream {
    /// A stream whose handshake has just ended; `reorder` may hold records that arrived early.
    pub(crate) fn new(now: Instant, transport: Transport, reorder: Reorder) -> Self {
        Self {
            sealer: transport.sealer,
            opener: transport.opener,
            reorder,
            reassembler: Reassembler::default(),
            outbox: Segmenter::default(),
            inbox: VecDeque::new(),
            inbox_bytes: 0,
            paused: false,
            blocked: false,
            in_rota: false,
            is_listed: false,
            drain_deadline: None,
            gap_deadline: None,
            last_heard: now,
        }
    }

    /// Takes a record as it arrives.
    pub(crate) fn receive(
        &mut self,
        now: Instant,
        seq: Seq,
        record: Bytes,
    ) -> Result<Arrival, StreamError> {
        self.last_heard = now;
        let arrival = self.reorder.insert(seq, record)?;
        if arrival != Arrival::Duplicate {
            self.open_ready(now)?;
        }
        Ok(arrival)
    }

    /// Opens the records that are in sequence and collects the messages they complete.
    pub(crate) fn open_ready(&mut self, now: Instant) -> Result<(), StreamError> {
        let mut progress = false;
        while let Some(record) = self.reorder.pop() {
            progress = true;
            let plaintext = self.opener.open(record)?;
            let (inbox, inbox_bytes) = (&mut self.inbox, &mut self.inbox_bytes);
            self.reassembler.push(plaintext, |message| {
                *inbox_bytes += message.len();
                inbox.push_back(message);
            })?;
            // Otherwise the shell takes them before the next record.
            if self.paused
                && self.inbox.len() > 1
                && (self.inbox.len() > limits::STREAM_RECEIVE_MESSAGES
                    || self.inbox_bytes > limits::STREAM_RECEIVE_BYTES)
            {
                return Err(StreamError::TooSlow);
            }
        }
        if !self.reorder.has_gap() {
            self.gap_deadline = None;
        } else if progress || self.gap_deadline.is_none() {
            self.gap_deadline = Some(now + limits::GAP_TIMEOUT);
        }
        Ok(())
    }

    /// Returns the next received message, unless the application has paused.
    pub(crate) fn next_message(&mut self) -> Option<Bytes> {
        if self.paused {
            None
        } else {
            self.take_message()
        }
    }

    /// Returns the next received message in any case.
    pub(crate) fn take_message(&mut self) -> Option<Bytes> {
        let message = self.inbox.pop_front()?;
        self.inbox_bytes -= message.len();
        Some(message)
    }

    /// Whether half of what may wait for the application is waiting.
    pub(crate) fn is_inbox_half_full(&self) -> bool {
        self.inbox.len() >= limits::STREAM_RECEIVE_MESSAGES / 2
            || self.inbox_bytes >= limits::STREAM_RECEIVE_BYTES / 2
    }

    /// Seals the next record into a data frame. Returns the frame, and the length of the message it
    /// completes if it does.
    pub(crate) fn next_record(
        &mut self,
        id: &StreamId,
    ) -> Result<Option<(Bytes, Option<usize>)>, StreamError> {
        let length = self.outbox.next_length();
        if length == 0 {
            return Ok(None);
        }
        let seq = self.sealer.next_seq().ok_or(RecordError::Exhausted)?;
        let mut frame = begin_data(id, seq, length + limits::RECORD_TAG_BYTES);
        let start = frame.len();
        let completed = self.outbox.fill(&mut frame);
        self.sealer.seal(&mut frame, start)?;
        Ok(Some((frame.freeze(), completed)))
    }

    #[cfg(test)]
    pub(crate) fn skip_to(&mut self, seq: Seq) {
        self.sealer.skip_to(seq);
    }

    /// Whether a record is missing that others wait for.
    pub(crate) fn has_gap(&self) -> bool {
        self.gap_deadline.is_some()
    }

    /// When this stream wants [`Stream::expired`] to be asked.
    pub(crate) fn deadline(&self) -> Option<Instant> {
        [self.gap_deadline, self.drain_deadline]
            .into_iter()
            .flatten()
            .min()
    }

    /// What has run out of time, if anything.
    pub(crate) fn expired(&self, now: Instant) -> Option<StreamError> {
        if self.drain_deadline.is_some_and(|deadline| deadline <= now) {
            return Some(StreamError::DrainTimeout);
        }
        self.gap_deadline
            .filter(|deadline| *deadline <= now)
            .map(|_| StreamError::GapTimeout)
    }

    /// Received bytes held for whatever reason.
    pub(crate) fn held_bytes(&self) -> usize {
        self.reorder.held_bytes() + self.reassembler.held_bytes() + self.inbox_bytes
    }
}

/// Why an open stream ended on this side.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum StreamError {
    /// The peer's records cannot be put in order.
    #[error(transparent)]
    Reorder(#[from] ReorderError),
    /// The peer's record does not open, or our numbers are used up.
    #[error(transparent)]
    Record(#[from] RecordError),
    /// The peer's message has an impossible length.
    #[error(transparent)]
    Segment(#[from] SegmentError),
    /// The peer sent data before its handshake was answered.
    #[error("data before the handshake was answered")]
    EarlyData,
    /// A missing record did not arrive.
    #[error("missing record did not arrive within {:?}", limits::GAP_TIMEOUT)]
    GapTimeout,
    /// What was queued when the stream was closed could not be sent.
    #[error(
        "closed stream could not be drained within {:?}",
        limits::DRAIN_TIMEOUT
    )]
    DrainTimeout,
    /// The application does not take messages as fast as the peer sends them.
    #[error("received messages exceed the limit of one stream")]
    TooSlow,
    /// All streams together hold too much, and this one the most.
    #[error(
        "received data exceeds the connection's limit of {limit} bytes",
        limit = limits::CONNECTION_RECEIVE_BYTES
    )]
    ConnectionFull,
    /// A new stream needed the place of this one, which had been silent the longest.
    #[error(
        "silent for {:?} and its place is needed",
        limits::STREAM_EVICTION_IDLE
    )]
    Evicted,
}

impl StreamError {
    /// A name from a closed set, usable as a metric label.
    pub fn reason(&self) -> &'static str {
        match self {
            Self::Reorder(ReorderError::TooFar { .. }) => "reorder_distance",
            Self::Reorder(ReorderError::TooMuch { .. }) => "reorder_bytes",
            Self::Record(RecordError::Exhausted) => "sequence_exhausted",
            Self::Record(_) => "record",
            Self::Segment(_) => "segment",
            Self::EarlyData => "data_before_handshake",
            Self::GapTimeout => "gap_timeout",
            Self::DrainTimeout => "drain_timeout",
            Self::TooSlow => "too_slow",
            Self::ConnectionFull => "connection_full",
            Self::Evicted => "evicted",
        }
    }
}
