//! Loss detection rule by rule, and a naive model.

use std::collections::BTreeMap;
use std::time::Duration;

use proptest::prelude::*;

use super::*;

const MS: Duration = Duration::from_millis(1);

fn record(seq: u32) -> Bytes {
    Bytes::from(seq.to_be_bytes().to_vec())
}

fn sent(count: u32) -> (Retransmit, Instant) {
    let now = Instant::now();
    let mut retransmit = Retransmit::default();
    for seq in 0..count {
        retransmit.push(now, record(seq));
    }
    (retransmit, now)
}

fn acks(ack: u32, beyond: &[u32]) -> Acknowledgement {
    let mut acknowledgement = Acknowledgement { ack, bits: 0 };
    for seq in beyond {
        acknowledgement.note(*seq);
    }
    acknowledgement
}

fn lost(retransmit: &mut Retransmit, now: Instant) -> Vec<u32> {
    std::iter::from_fn(|| retransmit.next_lost(now))
        .map(|(seq, payload)| {
            assert_eq!(payload, record(seq.0), "the same bytes");
            seq.0
        })
        .collect()
}

#[test]
fn a_record_is_lost_when_one_sent_three_later_has_arrived() {
    let (mut retransmit, now) = sent(6);
    retransmit.acknowledge(now + MS, acks(1, &[2])).unwrap();
    assert_eq!(lost(&mut retransmit, now), [0_u32; 0]);
    retransmit.acknowledge(now + MS, acks(1, &[2, 3])).unwrap();
    assert_eq!(lost(&mut retransmit, now), [0_u32; 0]);
    retransmit
        .acknowledge(now + MS, acks(1, &[2, 3, 4]))
        .unwrap();
    assert_eq!(lost(&mut retransmit, now + MS), [1]);
    // Once: the repetition counts from its own order on.
    retransmit
        .acknowledge(now + MS, acks(1, &[2, 3, 4, 5]))
        .unwrap();
    assert_eq!(lost(&mut retransmit, now + MS), [0_u32; 0]);
    retransmit.acknowledge(now + MS, acks(6, &[])).unwrap();
    assert!(retransmit.is_empty());
    assert_eq!((retransmit.bytes(), retransmit.deadline()), (0, None));
}

#[test]
fn a_record_is_lost_when_it_is_late() {
    let (mut retransmit, now) = sent(2);
    retransmit
        .acknowledge(now + 80 * MS, acks(0, &[1]))
        .unwrap();
    let late = now + 90 * MS;
    assert_eq!(retransmit.deadline(), Some(late), "9/8 of 80 ms");
    retransmit.handle_timeout(late - MS);
    assert_eq!(lost(&mut retransmit, late), [0_u32; 0]);
    retransmit.handle_timeout(late);
    assert_eq!(lost(&mut retransmit, late), [0]);
}

#[test]
fn a_timeout_repeats_the_first_and_the_last() {
    let (mut retransmit, now) = sent(5);
    let at = now + limits::RTO_INITIAL;
    assert_eq!(retransmit.deadline(), Some(at));
    retransmit.handle_timeout(at - MS);
    assert_eq!(lost(&mut retransmit, at), [0_u32; 0]);
    retransmit.handle_timeout(at);
    assert_eq!(lost(&mut retransmit, at), [0, 4]);
    // Backed off.
    assert_eq!(retransmit.deadline(), Some(at + limits::RTO_INITIAL * 2));
    // The last one arrives: what lies between is lost by order.
    retransmit.acknowledge(at + 50 * MS, acks(0, &[4])).unwrap();
    let mut again = lost(&mut retransmit, at);
    retransmit.handle_timeout(retransmit.deadline().unwrap());
    again.extend(lost(&mut retransmit, at));
    again.sort_unstable();
    again.dedup();
    assert_eq!(again, [1, 2, 3], "record 0 is on its way again");
}

#[test]
fn a_repeated_record_gives_no_round_trip_time() {
    let (mut retransmit, now) = sent(1);
    let at = now + limits::RTO_INITIAL;
    retransmit.handle_timeout(at);
    assert_eq!(lost(&mut retransmit, at), [0]);
    retransmit.acknowledge(at + MS, acks(1, &[])).unwrap();
    assert!(!retransmit.rtt.is_measured());
    retransmit.push(at, record(1));
    retransmit.acknowledge(at + 70 * MS, acks(2, &[])).unwrap();
    // 70 + 4 * 35 + 25, which is less than the minimum.
    assert!(retransmit.rtt.is_measured());
    assert_eq!(retransmit.rtt.loss_delay(), 70 * MS * 9 / 8);
}

#[test]
fn an_acknowledgement_of_what_was_never_sent_is_refused_and_changes_nothing() {
    let (mut retransmit, now) = sent(3);
    for bad in [acks(4, &[]), acks(u32::MAX, &[]), acks(1, &[3])] {
        assert_eq!(retransmit.acknowledge(now, bad), Err(NeverSent));
    }
    assert_eq!(retransmit.bytes(), 12);
    assert_eq!(retransmit.acknowledge(now, acks(3, &[])).unwrap().acked, 3);
}

#[test]
fn only_a_little_is_kept_for_a_peer_that_may_not_acknowledge() {
    let now = Instant::now();
    let mut retransmit = Retransmit::default();
    for seq in 0..200 {
        retransmit.push(now, record(seq));
        retransmit.trim();
    }
    assert_eq!(retransmit.bytes(), 4 * limits::UNCONFIRMED_RECORDS);
    assert!(retransmit.is_beyond_repair(acks(135, &[])));
    assert!(!retransmit.is_beyond_repair(acks(136, &[])));
    retransmit.lose_all();
    assert_eq!(lost(&mut retransmit, now), (136..200).collect::<Vec<_>>());
    let large = Bytes::from(vec![0; limits::UNCONFIRMED_BYTES]);
    retransmit.push(now, large);
    retransmit.trim();
    assert_eq!(retransmit.bytes(), limits::UNCONFIRMED_BYTES);
    retransmit.clear();
    assert_eq!(retransmit.bytes(), 0);
    retransmit.skip();
    assert!(!retransmit.is_beyond_repair(acks(202, &[])));
    assert!(retransmit.is_beyond_repair(acks(201, &[])));
    assert_eq!(retransmit.acknowledge(now, acks(203, &[])), Err(NeverSent));
}

#[test]
fn the_window_is_limited_in_records_and_bytes() {
    let now = Instant::now();
    let mut retransmit = Retransmit::default();
    assert!(retransmit.has_room(usize::MAX), "one of any size");
    retransmit.push(now, Bytes::from(vec![0; limits::STREAM_FLIGHT_BYTES - 1]));
    assert!(retransmit.has_room(1));
    assert!(!retransmit.has_room(2));
    let (mut retransmit, _) = sent(u32::try_from(limits::STREAM_UNACKED_RECORDS).unwrap() - 1);
    assert!(retransmit.has_room(1));
    retransmit.push(now, record(0));
    assert!(!retransmit.has_room(1));
}

/// One thing that may happen.
#[derive(Clone, Debug)]
enum Act {
    Push,
    /// The peer has these of the records sent so far, and says so.
    Ack(u32, u32),
    Resend(usize),
    Wait(u64),
    LoseAll,
}

fn any_act() -> impl Strategy<Value = Act> {
    prop_oneof![
        4 => Just(Act::Push),
        3 => (0_u32..6, any::<u32>()).prop_map(|(more, bits)| Act::Ack(more, bits)),
        2 => (0_usize..4).prop_map(Act::Resend),
        2 => (0_u64..3_000).prop_map(Act::Wait),
        1 => Just(Act::LoseAll),
    ]
}

proptest! {
    /// Against a model that knows only what was sent and what was acknowledged: nothing that is not
    /// acknowledged is forgotten, nothing that is acknowledged is sent again, the books balance, and
    /// whatever is outstanding has a timer.
    #[test]
    fn agrees_with_the_model(acts in proptest::collection::vec(any_act(), 1..120)) {
        let mut now = Instant::now();
        let mut retransmit = Retransmit::default();
        let mut unacked: BTreeMap<u32, Bytes> = BTreeMap::new();
        let (mut next, mut floor) = (0_u32, 0_u32);
        for act in acts {
            match act {
                Act::Push => {
                    retransmit.push(now, record(next));
                    unacked.insert(next, record(next));
                    next += 1;
                }
                Act::Ack(more, bits) => {
                    floor = (floor + more).min(next);
                    let mut said = Acknowledgement { ack: floor, bits: 0 };
                    for seq in (Acknowledgement { ack: floor, bits }).beyond_gap() {
                        if seq < next {
                            said.note(seq);
                        }
                    }
                    let before = unacked.len();
                    unacked = unacked.split_off(&floor);
                    for seq in said.beyond_gap() {
                        unacked.remove(&seq);
                    }
                    let progress = retransmit.acknowledge(now, said).unwrap();
                    prop_assert_eq!(progress.acked, before - unacked.len());
                    // Arrived is arrived: the gap closes over what has arrived behind it.
                    while floor < next && !unacked.contains_key(&floor) {
                        floor += 1;
                    }
                }
                Act::Resend(count) => {
                    for _ in 0..count {
                        if let Some((seq, payload)) = retransmit.next_lost(now) {
                            prop_assert_eq!(unacked.get(&seq.0), Some(&payload));
                        }
                    }
                }
                Act::Wait(millis) => {
                    now += Duration::from_millis(millis);
                    retransmit.handle_timeout(now);
                }
                Act::LoseAll => retransmit.lose_all(),
            }
            let bytes: usize = unacked.values().map(Bytes::len).sum();
            prop_assert_eq!(retransmit.bytes(), bytes);
            let waits = retransmit.next_lost_length().is_some();
            prop_assert!(waits || retransmit.deadline().is_some() || unacked.is_empty());
            prop_assert_eq!(
                retransmit.in_flight() + retransmit.lost.len(),
                unacked.len()
            );
        }
        // A peer that answers in the end gets everything.
        for _ in 0..2_000 {
            while let Some((seq, _)) = retransmit.next_lost(now) {
                unacked.remove(&seq.0);
            }
            let first = unacked.keys().next().copied().unwrap_or(next);
            retransmit.acknowledge(now, Acknowledgement { ack: first, bits: 0 }).unwrap();
            let Some(deadline) = retransmit.deadline() else { break };
            now = now.max(deadline);
            retransmit.handle_timeout(now);
        }
        prop_assert!(retransmit.is_empty());
        prop_assert_eq!(retransmit.bytes(), 0);
    }
}
