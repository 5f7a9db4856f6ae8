//! Send window of one stream: sealed records until the peer has them.
//!
//! Holds the ciphertext, so that a record that is sent again has the same bytes under the same
//! number. Decides what is lost; not responsible for when anything may be sent, nor for whether the
//! peer acknowledges at all.
//!
//! # Loss
//!
//! Every transmission, first or repeated, has an order. A record is lost when a transmission that
//! came [`limits::LOSS_THRESHOLD`] later has arrived, or an earlier-than-arrived one is a loss delay
//! old (RFC 9002, section 6.1). When nothing arrives at all, the retransmission timeout has the first
//! and the last outstanding record sent again: the first because the peer waits for it, the last
//! because its arrival shows what else is missing. Which transmission of a repeated record arrived
//! is not known, so the first is assumed, and it gives no round-trip time (Karn).

use std::collections::{BTreeSet, VecDeque};
use std::time::Instant;

use bytes::Bytes;

use crate::ack::Acknowledgement;
use crate::flight::Flight;
use crate::ids::Seq;
use crate::limits;
use crate::rtt::Rtt;

/// Records that were sent and are not known to have arrived.
///
/// Memory: what the owner lets in; see [`Retransmit::has_room`] and [`Retransmit::trim`].
#[derive(Debug, Default)]
pub(crate) struct Retransmit {
    /// By number, from `first` on, without holes; acknowledged ones in the middle are empty.
    records: VecDeque<Sent>,
    first: u32,
    bytes: usize,
    /// Of those, what waits to be sent again.
    lost: BTreeSet<u32>,
    in_flight: usize,
    /// Transmissions so far.
    orders: u64,
    /// The latest transmission that is known to have arrived.
    newest: Option<u64>,
    /// When an outstanding record counts as lost because it is late.
    loss_at: Option<Instant>,
    /// From when on the retransmission timeout counts.
    timer_from: Option<Instant>,
    pub(crate) rtt: Rtt,
    flight: Flight,
}

#[derive(Debug)]
struct Sent {
    payload: Bytes,
    state: State,
    sent_at: Instant,
    /// Bytes kept when it was sent for the first time, with it.
    on_the_way: usize,
    /// Order of the last transmission.
    order: u64,
    /// Order of the first transmission.
    first_order: u64,
    /// Sent more than once, or under conditions that make its round-trip time meaningless.
    ambiguous: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    InFlight,
    Lost,
    Acked,
}

/// What an acknowledgement changed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Progress {
    /// Records that are now known to have arrived.
    pub(crate) acked: usize,
}

/// An acknowledgement that cannot be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct NeverSent;

impl Retransmit {
    /// Whether another record of this length may be kept: the limits, and what the path carries.
    pub(crate) fn has_room(&self, length: usize) -> bool {
        self.records.is_empty()
            || (self.records.len() < limits::STREAM_UNACKED_RECORDS
                && self.bytes.saturating_add(length) <= self.flight.allowed())
    }

    /// Bytes kept.
    #[cfg(any(test, fuzzing))]
    pub(crate) fn bytes(&self) -> usize {
        self.bytes
    }

    /// Whether nothing is kept: everything sent has arrived, or is forgotten.
    pub(crate) fn is_empty(&self) -> bool {
        self.records.is_empty()
    }

    /// Number of the next record to be sealed.
    fn next(&self) -> u32 {
        let count = u32::try_from(self.records.len()).unwrap_or(u32::MAX);
        self.first.saturating_add(count)
    }

    /// Keeps the record with the next number, which is being sent for the first time.
    pub(crate) fn push(&mut self, now: Instant, payload: Bytes) {
        self.bytes += payload.len();
        let order = self.next_order();
        self.records.push_back(Sent {
            payload,
            state: State::InFlight,
            sent_at: now,
            on_the_way: self.bytes,
            order,
            first_order: order,
            ambiguous: false,
        });
        self.in_flight += 1;
        self.timer_from.get_or_insert(now);
    }

    /// Notes the next record without keeping it.
    pub(crate) fn skip(&mut self) {
        self.clear();
        self.first = self.first.saturating_add(1);
    }

    /// Forgets everything, as with a peer that does not acknowledge.
    pub(crate) fn clear(&mut self) {
        self.first = self.next();
        self.records.clear();
        self.lost.clear();
        (self.bytes, self.in_flight) = (0, 0);
        (self.loss_at, self.timer_from) = (None, None);
    }

    /// Forgets the oldest records beyond what is kept for a peer that may turn out to acknowledge.
    ///
    /// Only for a time in which nothing is acknowledged or lost yet.
    pub(crate) fn trim(&mut self) {
        while self.bytes > limits::UNCONFIRMED_BYTES
            || self.records.len() > limits::UNCONFIRMED_RECORDS
        {
            let Some(record) = self.records.pop_front() else {
                return;
            };
            self.bytes -= record.payload.len();
            self.in_flight -= usize::from(record.state == State::InFlight);
            self.lost.remove(&self.first);
            self.first = self.first.saturating_add(1);
        }
    }

    /// Whether the peer misses a record that is no longer kept.
    pub(crate) fn is_beyond_repair(&self, acknowledgement: Acknowledgement) -> bool {
        acknowledgement.ack < self.first
    }

    /// Takes no round-trip time from what is outstanding: it was sent under other conditions.
    pub(crate) fn make_ambiguous(&mut self) {
        for record in &mut self.records {
            record.ambiguous = true;
        }
    }

    /// The path is a new one: what has not arrived by now did not arrive.
    pub(crate) fn lose_all(&mut self) {
        self.make_ambiguous();
        self.flight.restart();
        for (record, seq) in self.records.iter_mut().zip(self.first..) {
            if record.state == State::InFlight {
                record.state = State::Lost;
                self.lost.insert(seq);
            }
        }
        self.in_flight = 0;
        (self.loss_at, self.timer_from) = (None, None);
    }

    /// Length of the record that [`Retransmit::next_lost`] would return.
    pub(crate) fn next_lost_length(&self) -> Option<usize> {
        let seq = *self.lost.first()?;
        let index = usize::try_from(seq.checked_sub(self.first)?).ok()?;
        self.records.get(index).map(|record| record.payload.len())
    }

    /// Returns the record that is to be sent again next; it then counts as sent.
    pub(crate) fn next_lost(&mut self, now: Instant) -> Option<(Seq, Bytes)> {
        let seq = self.lost.pop_first()?;
        let order = self.next_order();
        let record = self.record_mut(seq)?;
        record.state = State::InFlight;
        record.sent_at = now;
        record.order = order;
        record.ambiguous = true;
        let payload = record.payload.clone();
        self.in_flight += 1;
        self.timer_from.get_or_insert(now);
        Some((Seq(seq), payload))
    }

    /// Takes what the peer says has arrived.
    ///
    /// # Errors
    ///
    /// [`NeverSent`] if it says so of a record that does not exist; nothing is changed then.
    pub(crate) fn acknowledge(
        &mut self,
        now: Instant,
        acknowledgement: Acknowledgement,
    ) -> Result<Progress, NeverSent> {
        let end = self.next();
        if acknowledgement.ack > end || acknowledgement.beyond_gap().any(|seq| seq >= end) {
            return Err(NeverSent);
        }
        let mut news = News::default();
        while self.first < acknowledgement.ack {
            let Some(record) = self.records.pop_front() else {
                break;
            };
            self.lost.remove(&self.first);
            self.first += 1;
            self.bytes -= record.payload.len();
            self.in_flight -= usize::from(record.state == State::InFlight);
            news.note(&record);
        }
        for seq in acknowledgement.beyond_gap() {
            let Some(record) = self.record_mut(seq) else {
                continue;
            };
            news.note(record);
            let was = std::mem::replace(&mut record.state, State::Acked);
            let length = std::mem::take(&mut record.payload).len();
            self.bytes -= length;
            self.in_flight -= usize::from(was == State::InFlight);
            self.lost.remove(&seq);
        }
        if news.acked > 0 {
            if let Some(Sample {
                sent_at,
                on_the_way,
                ..
            }) = news.sample
            {
                let rtt = now.saturating_duration_since(sent_at);
                self.rtt.sample(rtt);
                self.flight.sample(rtt, on_the_way);
            }
            self.rtt.progress();
            self.newest = self.newest.max(news.newest);
            self.timer_from = (self.in_flight > 0).then_some(now);
            self.detect_losses(now);
        }
        Ok(Progress { acked: news.acked })
    }

    /// When [`Retransmit::handle_timeout`] is to be called.
    pub(crate) fn deadline(&self) -> Option<Instant> {
        let timeout = self.timer_from.map(|from| from + self.rtt.timeout());
        [self.loss_at, timeout].into_iter().flatten().min()
    }

    /// Does what is due.
    pub(crate) fn handle_timeout(&mut self, now: Instant) {
        if self.loss_at.is_some_and(|at| at <= now) {
            self.detect_losses(now);
        }
        let timeout = self.timer_from.map(|from| from + self.rtt.timeout());
        if timeout.is_some_and(|at| at <= now) {
            self.rtt.back_off();
            self.lose_first_and_last();
            self.timer_from = (self.in_flight > 0).then_some(now);
        }
    }

    /// Has the first outstanding record sent again.
    pub(crate) fn lose_first(&mut self) {
        let first = self.outstanding().next();
        if let Some(seq) = first {
            self.lose(seq);
        }
    }

    fn lose_first_and_last(&mut self) {
        let last = self.outstanding().last();
        self.lose_first();
        if let Some(seq) = last {
            self.lose(seq);
        }
    }

    fn outstanding(&self) -> impl Iterator<Item = u32> {
        (self.first..)
            .zip(&self.records)
            .filter(|(_, record)| record.state == State::InFlight)
            .map(|(seq, _)| seq)
    }

    fn detect_losses(&mut self, now: Instant) {
        self.loss_at = None;
        let Some(newest) = self.newest else { return };
        let delay = self.rtt.loss_delay();
        let mut late = Vec::new();
        for (seq, record) in (self.first..).zip(&self.records) {
            if record.state != State::InFlight || record.order >= newest {
                continue;
            }
            let at = record.sent_at + delay;
            if newest - record.order >= limits::LOSS_THRESHOLD || at <= now {
                late.push(seq);
            } else {
                self.loss_at = Some(self.loss_at.map_or(at, |earlier| earlier.min(at)));
            }
        }
        for seq in late {
            self.lose(seq);
        }
        if self.in_flight == 0 {
            self.timer_from = None;
        }
    }

    fn lose(&mut self, seq: u32) {
        let Some(record) = self.record_mut(seq) else {
            return;
        };
        if record.state == State::InFlight {
            record.state = State::Lost;
            self.in_flight -= 1;
            self.lost.insert(seq);
        }
    }

    fn record_mut(&mut self, seq: u32) -> Option<&mut Sent> {
        let index = usize::try_from(seq.checked_sub(self.first)?).ok()?;
        self.records.get_mut(index)
    }

    fn next_order(&mut self) -> u64 {
        self.orders += 1;
        self.orders
    }

    #[cfg(test)]
    pub(crate) fn in_flight(&self) -> usize {
        self.in_flight
    }
}

/// Gathers what newly acknowledged records tell.
#[derive(Default)]
struct News {
    acked: usize,
    newest: Option<u64>,
    /// Of the latest record that was sent once.
    sample: Option<Sample>,
}

struct Sample {
    order: u64,
    sent_at: Instant,
    on_the_way: usize,
}

impl News {
    fn note(&mut self, record: &Sent) {
        if record.state == State::Acked {
            return;
        }
        self.acked += 1;
        self.newest = self.newest.max(Some(record.first_order));
        let latest = self.sample.as_ref().map(|sample| sample.order);
        if !record.ambiguous && latest.is_none_or(|order| order < record.order) {
            self.sample = Some(Sample {
                order: record.order,
                sent_at: record.sent_at,
                on_the_way: record.on_the_way,
            });
        }
    }
}

#[cfg(test)]
mod tests;
