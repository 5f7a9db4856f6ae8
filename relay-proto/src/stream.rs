//! One open stream: both directions of an approved handshake.
//!
//! Responsible for the path message -> records -> message, its limits and its gap timer. Not
//! responsible for frames of other kinds, fairness between streams, or deciding what a failure does
//! to the stream: the connection does that. What the two ends tell each other about records is the
//! [`Link`]'s.
//!
//! ```text
//! application -> Segmenter -> Sealer -> Link keeps the record -> frame
//! frame -> Reorder -> Opener -> Reassembler -> inbox -> application     peer sends nothing twice
//! frame -> Opener -> Reorder -> Reassembler -> inbox -> application     peer acknowledges
//! ```
//!
//! The order of the two steps differs because a record that does not open is the end of the stream
//! in the first case, and a lost record in the second.

mod error;

use std::collections::VecDeque;
use std::time::Instant;

use bytes::{Bytes, BytesMut};

pub use self::error::StreamError;
use crate::ack::Acknowledgement;
use crate::credit::Backlog;
use crate::frame::{
    Body, BodyKind, Frame, Statement, begin_acked_data, begin_data, end_acked_data,
};
use crate::ids::{Seq, StreamId};
use crate::limits;
use crate::link::{Due, End, Heard, Link, Reliability};
use crate::liveness::{HeartbeatConfig, Pulse};
use crate::noise::{Opener, RecordError, Sealer, Transport};
use crate::reorder::{Arrival, Reach, Reorder};
use crate::segment::{Reassembler, Segmenter};

/// State of one open stream.
pub(crate) struct Stream {
    sealer: Sealer,
    opener: Opener,
    reorder: Reorder,
    reassembler: Reassembler,
    pub(crate) outbox: Segmenter,
    pub(crate) link: Link,
    inbox: VecDeque<Bytes>,
    inbox_bytes: usize,
    /// Records that did not open.
    corrupt: u32,
    /// The application does not take messages at the moment.
    pub(crate) paused: bool,
    /// A send of this length was refused for lack of room; the application waits to be told.
    pub(crate) blocked: Option<usize>,
    /// Share of the websocket in relation to other streams.
    pub(crate) weight: usize,
    /// Plaintext that may be sent in this turn.
    pub(crate) allowance: usize,
    /// Whether the connection's transmit rota holds this stream.
    pub(crate) in_rota: bool,
    /// Whether the connection's list of streams with a statement to make holds this one.
    pub(crate) is_speaking: bool,
    /// Whether the connection's list of streams with messages holds this one.
    pub(crate) is_listed: bool,
    /// When to give up sending what is queued; set once the application has closed the stream.
    pub(crate) drain_deadline: Option<Instant>,
    gap_deadline: Option<Instant>,
    /// When anything last came from the peer.
    pub(crate) last_heard: Instant,
}

/// How a stream is begun.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Beginning {
    pub(crate) now: Instant,
    pub(crate) end: End,
    pub(crate) reliability: Reliability,
    pub(crate) heartbeat: HeartbeatConfig,
}

/// What became of a record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Received {
    /// It was taken; messages may be complete.
    Ready,
    /// It waits for a missing one.
    Early,
    /// It was here before.
    Duplicate,
    /// It does not open, or is further ahead than the peer may go; it has to come again.
    Dropped,
}

/// A data frame on its way out.
pub(crate) struct Outgoing {
    pub(crate) frame: Bytes,
    /// Length of the message that it completes.
    pub(crate) completed: Option<usize>,
    /// It was sent before.
    pub(crate) repeated: bool,
}

impl Stream {
    /// A stream whose handshake has just ended; `reorder` may hold records that arrived early.
    pub(crate) fn new(beginning: Beginning, transport: Transport, reorder: Reorder) -> Self {
        let Beginning {
            now,
            end,
            reliability,
            heartbeat,
        } = beginning;
        Self {
            sealer: transport.sealer,
            opener: transport.opener,
            reorder,
            reassembler: Reassembler::default(),
            outbox: Segmenter::default(),
            link: Link::new(now, end, reliability, heartbeat, transport.statements),
            inbox: VecDeque::new(),
            inbox_bytes: 0,
            corrupt: 0,
            paused: false,
            blocked: None,
            weight: 1,
            allowance: 0,
            in_rota: false,
            is_speaking: false,
            is_listed: false,
            drain_deadline: None,
            gap_deadline: None,
            last_heard: now,
        }
    }

    // Receiving.

    /// Takes a record as it arrives.
    pub(crate) fn receive(
        &mut self,
        now: Instant,
        seq: Seq,
        record: Bytes,
    ) -> Result<Received, StreamError> {
        if self.link.is_reliable() {
            return self.receive_reliable(now, seq, record);
        }
        self.last_heard = now;
        let arrival = self.reorder.insert(seq, record)?;
        if arrival != Arrival::Duplicate {
            self.take_ready(now)?;
        }
        Ok(match arrival {
            Arrival::Ready => Received::Ready,
            Arrival::Early => Received::Early,
            Arrival::Duplicate => Received::Duplicate,
        })
    }

    /// Takes a record from a peer that sends lost ones again: nothing that arrives is an error
    /// before it is known to be from the peer.
    fn receive_reliable(
        &mut self,
        now: Instant,
        seq: Seq,
        record: Bytes,
    ) -> Result<Received, StreamError> {
        let length = record.len();
        let reach = Reach {
            distance: self.link.credit.distance(self.expected()),
            bytes: self.link.credit.reorder_bytes(),
        };
        let arrival = match self.reorder.place(seq, length, reach) {
            Ok(Arrival::Duplicate) => {
                // The peer may not know that it is here.
                self.link.acker.again(now);
                return Ok(Received::Duplicate);
            }
            Ok(arrival) => arrival,
            Err(_) => return Ok(Received::Dropped),
        };
        let Ok(plaintext) = self.opener.open_at(seq, record) else {
            self.corrupt += 1;
            if self.corrupt >= limits::CORRUPT_RECORDS {
                return Err(RecordError::Failed.into());
            }
            return Ok(Received::Dropped);
        };
        self.last_heard = now;
        self.link.opened(now);
        if arrival == Arrival::Early || self.reorder.has_gap() {
            self.link.acker.at_once();
        } else {
            self.link.acker.in_sequence(now, length);
        }
        self.reorder.put(seq, plaintext, arrival);
        self.take_ready(now)?;
        Ok(match arrival {
            Arrival::Ready => Received::Ready,
            Arrival::Early | Arrival::Duplicate => Received::Early,
        })
    }

    /// Takes the records that are in sequence and collects the messages they complete.
    pub(crate) fn take_ready(&mut self, now: Instant) -> Result<(), StreamError> {
        let mut progress = false;
        while let Some(record) = self.reorder.pop() {
            progress = true;
            let plaintext = if self.link.is_reliable() {
                record
            } else {
                self.opener.open(record)?
            };
            self.link.credit.opened(plaintext.len());
            let (inbox, inbox_bytes) = (&mut self.inbox, &mut self.inbox_bytes);
            self.reassembler.push(plaintext, |message| {
                *inbox_bytes += message.len();
                inbox.push_back(message);
            })?;
            // Otherwise the shell takes them before the next record.
            if self.paused && self.is_inbox_too_full() {
                return Err(StreamError::TooSlow);
            }
        }
        if self.link.is_reliable() || !self.reorder.has_gap() {
            self.gap_deadline = None;
        } else if progress || self.gap_deadline.is_none() {
            self.gap_deadline = Some(now + limits::GAP_TIMEOUT);
        }
        Ok(())
    }

    /// A peer that keeps to its window never gets here; one that knows of none may.
    fn is_inbox_too_full(&self) -> bool {
        let bytes = if self.link.is_reliable() {
            self.link.credit.overdrawn()
        } else {
            self.inbox_bytes
        };
        self.inbox.len() > 1
            && (self.inbox.len() > limits::STREAM_RECEIVE_MESSAGES
                || bytes > limits::STREAM_RECEIVE_BYTES)
    }

    /// Number of the record that is expected next.
    fn expected(&self) -> u32 {
        self.reorder.acknowledgement().ack
    }

    /// What has arrived, as far as the peer may rely on it.
    ///
    /// As long as it is not known that the peer sends again, what waits for a missing record has not
    /// been opened. It may turn out to be damaged, and must not be forgotten by the peer.
    fn acknowledgement(&self) -> Acknowledgement {
        let arrived = self.reorder.acknowledgement();
        if self.link.is_reliable() {
            arrived
        } else {
            Acknowledgement { bits: 0, ..arrived }
        }
    }

    /// What waits on the receiving side.
    pub(crate) fn backlog(&self) -> Backlog {
        Backlog {
            messages: self.inbox.len(),
            bytes: self.inbox_bytes,
            partial: self.reassembler.held_bytes(),
            expected: self.reassembler.expected(),
        }
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

    // Sending.

    /// Length of the plaintext that [`Stream::next_frame`] would send; `None` if there is nothing, or
    /// nothing may be sent.
    pub(crate) fn next_length(&self) -> Option<usize> {
        if !self.link.is_live() {
            return None;
        }
        if let Some(length) = self.link.retransmit.next_lost_length() {
            return Some(length.saturating_sub(limits::RECORD_TAG_BYTES));
        }
        let length = self.outbox.next_length();
        (length > 0 && self.link.may_seal(self.sealer.next_seq(), length)).then_some(length)
    }

    /// Returns the next data frame: a lost record again, or the next one, which is sealed here.
    pub(crate) fn next_frame(
        &mut self,
        now: Instant,
        id: &StreamId,
    ) -> Result<Option<Outgoing>, StreamError> {
        let Some(length) = self.next_length() else {
            return Ok(None);
        };
        if let Some((seq, payload)) = self.link.retransmit.next_lost(now) {
            let said = self.say(now);
            let mut frame = begin(id, seq, payload.len(), said.as_ref());
            frame.extend_from_slice(&payload);
            end(&mut frame, said.as_ref());
            return Ok(Some(Outgoing {
                frame: frame.freeze(),
                completed: None,
                repeated: true,
            }));
        }
        let seq = self.sealer.next_seq().ok_or(RecordError::Exhausted)?;
        let said = self.say(now);
        let mut frame = begin(id, seq, length + limits::RECORD_TAG_BYTES, said.as_ref());
        let payload_start = frame.len();
        let completed = self.outbox.fill(&mut frame);
        self.sealer.seal(&mut frame, payload_start)?;
        let payload_end = frame.len();
        end(&mut frame, said.as_ref());
        let frame = frame.freeze();
        self.link
            .sealed(now, || frame.slice(payload_start..payload_end), length);
        Ok(Some(Outgoing {
            frame,
            completed,
            repeated: false,
        }))
    }

    /// Whether everything is sent, and has arrived if the peer says such things.
    pub(crate) fn is_drained(&self) -> bool {
        self.outbox.is_empty() && (!self.link.is_reliable() || self.link.retransmit.is_empty())
    }

    // What the ends tell each other.

    /// The frame that the link wants to send, if any.
    pub(crate) fn due(&self) -> Option<Due> {
        self.link.due(self.expected(), self.next_length().is_some())
    }

    /// Returns that frame.
    pub(crate) fn next_statement(&mut self, now: Instant, id: &StreamId) -> Option<Frame> {
        match self.due()? {
            Due::Statement => Some(self.statement(Some(now), id, Body::Ack)),
            Due::Resume => {
                let next_seq = self.expected();
                self.link.resume_sent(now);
                Some(self.statement(None, id, Body::Resume { next_seq }))
            }
        }
    }

    /// The frame that ends the stream, with proof of origin if the peer can check it.
    pub(crate) fn reset(&mut self, id: &StreamId) -> Frame {
        let frame = Frame::reset(id.clone());
        if self.link.is_reliable() {
            self.statement(None, id, frame.body)
        } else {
            frame
        }
    }

    /// A frame without a record that carries a statement.
    fn statement(&mut self, now: Option<Instant>, id: &StreamId, body: Body) -> Frame {
        let acknowledgement = self.acknowledgement();
        let next_seq = next_seq(&body);
        let backlog = self.backlog();
        let statement = self
            .link
            .statement(now, body.kind(), acknowledgement, next_seq, backlog);
        Frame {
            ack: acknowledgement.ack,
            ack_bits: acknowledgement.bits,
            statement: Some(statement),
            ..Frame::new(id.clone(), body)
        }
    }

    /// What a frame with a record says besides.
    fn say(&mut self, now: Instant) -> Option<(Acknowledgement, Statement)> {
        if !self.link.is_reliable() {
            return None;
        }
        let acknowledgement = self.acknowledgement();
        let backlog = self.backlog();
        let statement = self
            .link
            .statement(Some(now), BodyKind::Data, acknowledgement, 0, backlog);
        Some((acknowledgement, statement))
    }

    /// Takes what a frame says.
    pub(crate) fn hear(&mut self, now: Instant, frame: &Frame) -> Result<Heard, StreamError> {
        let Some(statement) = &frame.statement else {
            return Ok(Heard::Nothing);
        };
        let acknowledgement = Acknowledgement {
            ack: frame.ack,
            bits: frame.ack_bits,
        };
        let (kind, next_seq) = (frame.body.kind(), next_seq(&frame.body));
        let heard = self
            .link
            .hear(now, kind, acknowledgement, next_seq, statement)?;
        if let Heard::News { confirmed, .. } = heard {
            self.last_heard = now;
            if confirmed {
                // From here on only what has been opened waits.
                let opener = &self.opener;
                self.reorder
                    .replace(|seq, record| opener.open_at(seq, record).ok());
                self.gap_deadline = None;
            }
        }
        Ok(heard)
    }

    /// Computes the window that the peer has, after anything that may change it.
    pub(crate) fn refresh_credit(&mut self) {
        if self.link.is_reliable() {
            let (expected, backlog) = (self.expected(), self.backlog());
            self.link.credit.update(expected, backlog);
        }
    }

    // Time.

    /// Whether a record is missing that others wait for, and that will not be sent again.
    pub(crate) fn has_gap(&self) -> bool {
        self.gap_deadline.is_some()
    }

    /// When this stream wants [`Stream::handle_timeout`] to be called.
    pub(crate) fn deadline(&self) -> Option<Instant> {
        [self.gap_deadline, self.drain_deadline, self.link.deadline()]
            .into_iter()
            .flatten()
            .min()
    }

    /// Does what is due.
    ///
    /// # Errors
    ///
    /// What has run out of time.
    pub(crate) fn handle_timeout(&mut self, now: Instant) -> Result<Pulse, StreamError> {
        let is_past = |deadline: Instant| deadline <= now;
        if self.drain_deadline.is_some_and(is_past) {
            return Err(StreamError::DrainTimeout);
        }
        if self.gap_deadline.is_some_and(is_past) {
            return Err(StreamError::GapTimeout);
        }
        self.link.handle_timeout(now)
    }

    /// Received bytes held for whatever reason.
    pub(crate) fn held_bytes(&self) -> usize {
        self.reorder.held_bytes() + self.reassembler.held_bytes() + self.inbox_bytes
    }

    #[cfg(test)]
    pub(crate) fn skip_to(&mut self, seq: Seq) {
        self.sealer.skip_to(seq);
    }
}

fn begin(
    id: &StreamId,
    seq: Seq,
    payload: usize,
    said: Option<&(Acknowledgement, Statement)>,
) -> BytesMut {
    match said {
        Some((acknowledgement, statement)) => {
            begin_acked_data(id, seq, payload, *acknowledgement, statement)
        }
        None => begin_data(id, seq, payload),
    }
}

fn end(frame: &mut BytesMut, said: Option<&(Acknowledgement, Statement)>) {
    if let Some((_, statement)) = said {
        end_acked_data(frame, statement);
    }
}

fn next_seq(body: &Body) -> u32 {
    match body {
        Body::Resume { next_seq } => *next_seq,
        _ => 0,
    }
}
