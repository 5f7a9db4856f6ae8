//! Acknowledgement of one direction: what has arrived, and when to say so.
//!
//! `ack` is the number below which every record has arrived, so it is 0 before the first one and 1
//! after record 0; bit `i` of `ack_bits` stands for record `ack + 1 + i`. There is no bit for `ack`
//! itself: it is missing, or `ack` would be higher. "Nothing yet" and "record 0" are thus different,
//! and a peer that does not acknowledge, whose fields are always 0, says nothing at all.
//!
//! A record counts as arrived when it has been authenticated. What is said is never taken back.

use std::time::Instant;

use crate::limits;

/// What one end has received from the other. Both are 0 until the first record.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Acknowledgement {
    /// Every record with a lower number has arrived.
    pub(crate) ack: u32,
    /// Bit `i`: record `ack + 1 + i` has arrived.
    pub(crate) bits: u32,
}

impl Acknowledgement {
    /// Numbers that have arrived after the first missing one, in order.
    pub(crate) fn beyond_gap(self) -> impl Iterator<Item = u32> {
        (0..u32::BITS)
            .filter(move |bit| self.bits >> bit & 1 == 1)
            .filter_map(move |bit| self.ack.checked_add(1 + bit))
    }

    /// Notes a record beyond the first missing one, as far as there are bits.
    pub(crate) fn note(&mut self, seq: u32) {
        let bit = seq
            .checked_sub(self.ack)
            .and_then(|distance| distance.checked_sub(1));
        if let Some(bit @ 0..u32::BITS) = bit {
            self.bits |= 1 << bit;
        }
    }
}

/// Decides when an acknowledgement must be sent.
///
/// Every frame carries one anyway; this is about frames for nothing else. Records in sequence wait
/// for [`limits::ACK_DELAY`] or until there are several. A gap is answered at once: the sender needs
/// to know. A record that was here before is answered within [`limits::ACK_DELAY`], once for all that
/// come meanwhile: its sender has waited much longer for the acknowledgement that was lost, and if
/// nothing was lost but the path duplicates everything, answers must not multiply.
#[derive(Debug, Default)]
pub(crate) struct Acker {
    records: u32,
    bytes: usize,
    due: Due,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Due {
    #[default]
    Never,
    At(Instant),
    Now,
}

impl Acker {
    /// A record arrived in sequence.
    pub(crate) fn in_sequence(&mut self, now: Instant, bytes: usize) {
        self.records += 1;
        self.bytes += bytes;
        if self.records >= limits::ACK_RECORDS || self.bytes >= limits::ACK_BYTES {
            self.due = Due::Now;
        } else if self.due == Due::Never {
            self.due = Due::At(now + limits::ACK_DELAY);
        }
    }

    /// A record arrived that was here before.
    pub(crate) fn again(&mut self, now: Instant) {
        if self.due == Due::Never {
            self.due = Due::At(now + limits::ACK_DELAY);
        }
    }

    /// Something happened that the peer should know at once.
    pub(crate) fn at_once(&mut self) {
        self.due = Due::Now;
    }

    /// An acknowledgement is on its way.
    pub(crate) fn sent(&mut self) {
        *self = Self::default();
    }

    pub(crate) fn is_due(&self) -> bool {
        self.due == Due::Now
    }

    pub(crate) fn deadline(&self) -> Option<Instant> {
        match self.due {
            Due::At(at) => Some(at),
            Due::Never | Due::Now => None,
        }
    }

    pub(crate) fn handle_timeout(&mut self, now: Instant) {
        if self.deadline().is_some_and(|at| at <= now) {
            self.due = Due::Now;
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn nothing_yet_and_record_0_are_different() {
        let nothing = Acknowledgement::default();
        let mut first = Acknowledgement { ack: 1, bits: 0 };
        assert_ne!(nothing, first);
        first.note(2);
        assert_eq!(first, Acknowledgement { ack: 1, bits: 1 });
        assert_eq!(first.beyond_gap().collect::<Vec<_>>(), [2]);
    }

    #[test]
    fn numbers_without_a_bit_are_left_out() {
        let mut ack = Acknowledgement { ack: 10, bits: 0 };
        for seq in [0, 9, 10, 43, 44, u32::MAX] {
            ack.note(seq);
        }
        assert_eq!(ack.bits, 0);
        ack.note(42);
        assert_eq!(ack.bits, 1 << 31);
        let end = Acknowledgement {
            ack: u32::MAX - 1,
            bits: u32::MAX,
        };
        assert_eq!(end.beyond_gap().collect::<Vec<_>>(), [u32::MAX]);
    }

    proptest! {
        #[test]
        fn what_is_noted_comes_out(
            ack in any::<u32>(),
            arrived in proptest::collection::btree_set(0_u32..32, 0..32),
        ) {
            let ack = ack.min(u32::MAX - 33);
            let mut acknowledgement = Acknowledgement { ack, bits: 0 };
            for distance in &arrived {
                acknowledgement.note(ack + 1 + distance);
            }
            let expected: Vec<_> = arrived.iter().map(|distance| ack + 1 + distance).collect();
            prop_assert_eq!(acknowledgement.beyond_gap().collect::<Vec<_>>(), expected);
        }
    }

    #[test]
    fn several_records_or_some_time_make_an_acknowledgement_due() {
        let now = Instant::now();
        let mut acker = Acker::default();
        acker.in_sequence(now, 100);
        assert!(!acker.is_due());
        assert_eq!(acker.deadline(), Some(now + limits::ACK_DELAY));
        // Later records do not put it off.
        acker.in_sequence(now + limits::ACK_DELAY / 2, 100);
        assert_eq!(acker.deadline(), Some(now + limits::ACK_DELAY));
        acker.handle_timeout(now + limits::ACK_DELAY);
        assert!(acker.is_due());
        acker.sent();
        assert!(!acker.is_due() && acker.deadline().is_none());
        for _ in 0..limits::ACK_RECORDS {
            assert!(!acker.is_due());
            acker.in_sequence(now, 100);
        }
        assert!(acker.is_due());
        acker.sent();
        acker.in_sequence(now, limits::ACK_BYTES);
        assert!(acker.is_due());
    }

    #[test]
    fn records_that_were_here_before_share_one_acknowledgement() {
        let now = Instant::now();
        let mut acker = Acker::default();
        for _ in 0..100 {
            acker.again(now);
            assert!(!acker.is_due());
        }
        assert_eq!(acker.deadline(), Some(now + limits::ACK_DELAY));
        // They do not put off what waits already, nor what is due.
        acker.sent();
        acker.in_sequence(now, 100);
        acker.again(now + limits::ACK_DELAY / 2);
        assert_eq!(acker.deadline(), Some(now + limits::ACK_DELAY));
        acker.at_once();
        acker.again(now);
        assert!(acker.is_due());
    }
}
