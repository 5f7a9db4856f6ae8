//! Links that reorder, duplicate, delay, lose and fall silent.

use std::time::Duration;

use bytes::Bytes;
use proptest::prelude::*;

use super::pair::{Faults, Pair, id};
use crate::connection::CloseReason;
use crate::limits;
use crate::stream::StreamError;

fn message(n: u32, length: usize) -> Bytes {
    let mut bytes = n.to_be_bytes().to_vec();
    bytes.resize(length.max(4), 0x5a);
    bytes.into()
}

#[test]
fn duplicates_and_delays_have_no_effect() {
    // The faults under which Codex 0.169 was seen to work.
    let mut pair = Pair::with_streams(&["a", "b"]);
    let faults = Faults {
        duplicated: 50,
        delayed: 30,
        delay: Duration::from_millis(30),
    };
    pair.up.faults = faults;
    pair.down.faults = faults;
    let messages: Vec<_> = (0..40).map(|n| message(n, 100 * n as usize)).collect();
    for message in &messages {
        for stream in ["a", "b"] {
            pair.harness
                .send(pair.now, &id(stream), message.clone())
                .unwrap();
            pair.executor
                .send(pair.now, &id(stream), message.clone())
                .unwrap();
        }
        pair.run(Duration::from_millis(5));
    }
    pair.run(Duration::from_millis(100));
    assert!(pair.closed.is_empty(), "{:?}", pair.closed);
    for side in [&pair.at_executor, &pair.at_harness] {
        for stream in ["a", "b"] {
            assert_eq!(side[&id(stream)], messages);
        }
    }
    assert!(pair.executor.stats().records_duplicate > 0);
    assert!(pair.executor.stats().records_early > 0);
}

#[test]
fn a_lost_record_ends_the_stream_within_the_gap_timeout() {
    let mut pair = Pair::with_streams(&["a", "b"]);
    pair.down.lose = vec![1];
    for n in 0..3 {
        pair.executor
            .send(pair.now, &id("a"), message(n, 10))
            .unwrap();
    }
    pair.run(limits::GAP_TIMEOUT - Duration::from_millis(1));
    assert!(pair.closed.is_empty());
    assert_eq!(pair.at_harness[&id("a")].len(), 1);
    pair.run(Duration::from_millis(1));
    assert_eq!(
        pair.closed,
        [
            (
                "harness",
                id("a"),
                CloseReason::Stream(StreamError::GapTimeout)
            ),
            ("executor", id("a"), CloseReason::ResetByPeer),
        ]
    );
    // The other stream is not touched.
    pair.executor
        .send(pair.now, &id("b"), message(0, 10))
        .unwrap();
    pair.settle();
    assert_eq!(pair.at_harness[&id("b")].len(), 1);
}

#[test]
fn a_gap_that_closes_in_time_starts_the_timer_afresh() {
    let mut pair = Pair::with_streams(&["a"]);
    pair.down.faults = Faults {
        delayed: 100,
        delay: limits::GAP_TIMEOUT * 2 / 3,
        ..Faults::default()
    };
    for n in 0..6 {
        // Every other one is late.
        pair.down.faults.delayed = if n % 2 == 0 { 100 } else { 0 };
        pair.executor
            .send(pair.now, &id("a"), message(n, 10))
            .unwrap();
        pair.run(limits::GAP_TIMEOUT / 2);
    }
    pair.run(limits::GAP_TIMEOUT);
    assert!(pair.closed.is_empty(), "{:?}", pair.closed);
    assert_eq!(pair.at_harness[&id("a")].len(), 6);
}

#[test]
fn a_lost_record_with_more_than_64_after_it_ends_the_stream_at_once() {
    let mut pair = Pair::with_streams(&["a"]);
    pair.up.lose = vec![0];
    for n in 0..66 {
        pair.harness
            .send(pair.now, &id("a"), message(n, 10))
            .unwrap();
    }
    pair.settle();
    assert_eq!(
        pair.reasons(),
        [
            ("executor", "reorder_distance"),
            ("harness", "reset_by_peer")
        ]
    );
}

#[test]
fn records_may_overtake_the_handshake_answer() {
    let mut pair = Pair::new();
    pair.open("a");
    for frame in pair.harness_frames() {
        pair.inject_up(&frame);
    }
    pair.executor
        .send(pair.now, &id("a"), message(1, 100_000))
        .unwrap();
    pair.executor
        .send(pair.now, &id("a"), message(2, 10))
        .unwrap();
    let mut sent = pair.executor_frames();
    assert_eq!(sent.len(), 4);
    sent.reverse();
    for frame in &sent {
        pair.inject_down(frame);
    }
    assert_eq!(
        pair.at_harness[&id("a")],
        [message(1, 100_000), message(2, 10)]
    );
}

#[test]
fn a_changed_record_ends_the_stream() {
    let mut pair = Pair::with_streams(&["a"]);
    pair.harness
        .send(pair.now, &id("a"), message(0, 100))
        .unwrap();
    let mut frame = pair.harness_frames().remove(0);
    if let crate::frame::Body::Data { payload, .. } = &mut frame.body {
        let mut changed = payload.to_vec();
        changed[3] ^= 1;
        *payload = changed.into();
    }
    pair.inject_up(&frame);
    assert_eq!(pair.reasons(), [("executor", "record")]);
    pair.settle();
    assert_eq!(pair.reasons()[1], ("harness", "reset_by_peer"));
}

#[test]
fn a_living_path_stays_and_a_silent_one_dies() {
    let mut pair = Pair::with_streams(&["a"]);
    pair.run(Duration::from_secs(3_600));
    assert!(pair.dead.is_empty());

    let mut pair = Pair::with_streams(&["a"]);
    pair.run(limits::WATCHED_PING_INTERVAL / 2);
    assert!(pair.dead.is_empty());
    pair.up.cut = true;
    pair.down.cut = true;
    pair.run(limits::WATCHED_PING_INTERVAL / 2 + limits::SUSPECT_PONG_TIMEOUT);
    assert_eq!(pair.dead, ["executor", "harness"]);
}

#[test]
fn messages_that_arrive_delay_the_verdict_but_not_for_ever() {
    let mut pair = Pair::with_streams(&["a"]);
    // Pings and what the harness sends are lost; what the executor sends arrives.
    pair.up.cut = true;
    let mut seconds = 0_u64;
    while pair.dead.is_empty() {
        seconds += 1;
        assert!(seconds < 200, "never died");
        pair.executor
            .send(pair.now, &id("a"), message(0, 10))
            .unwrap();
        // Only the harness is of interest here.
        pair.executor.handle_pong(pair.now);
        pair.run(Duration::from_secs(1));
    }
    assert_eq!(pair.dead[0], "harness");
    let hard = limits::PONG_HARD_TIMEOUT.as_secs();
    assert!((hard..=hard + 3).contains(&seconds), "{seconds}");
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    /// Every message arrives once and in order over any link that loses nothing.
    #[test]
    fn messages_arrive_once_and_in_order(
        seed in any::<u64>(),
        duplicated in 0_u32..80,
        delayed in 0_u32..60,
        delay in 1_u64..400,
        lengths in proptest::collection::vec((0_usize..3, 1_usize..200_000), 1..40),
    ) {
        let names = ["a", "b", "c"];
        let mut pair = Pair::seeded(seed);
        for name in names {
            pair.open(name);
        }
        pair.settle();
        let faults = Faults { duplicated, delayed, delay: Duration::from_millis(delay) };
        pair.up.faults = faults;
        pair.down.faults = faults;
        let mut expected = vec![Vec::new(); names.len()];
        for ((stream, length), n) in lengths.into_iter().zip(0..) {
            let message = message(n, length);
            pair.harness.send(pair.now, &id(names[stream]), message.clone()).unwrap();
            pair.executor.send(pair.now, &id(names[stream]), message.clone()).unwrap();
            expected[stream].push(message);
            // Few enough records are under way for the caps of the reorder window.
            pair.run(Duration::from_millis(delay));
        }
        pair.run(Duration::from_secs(2));
        prop_assert!(pair.closed.is_empty(), "{:?}", pair.closed);
        for (name, expected) in names.iter().zip(expected) {
            for side in [&pair.at_executor, &pair.at_harness] {
                let got = side.get(&id(name)).cloned().unwrap_or_default();
                prop_assert_eq!(&got, &expected);
            }
        }
    }

    /// With losses a stream is complete up to its end, and it does end; nothing hangs.
    #[test]
    fn loss_is_never_silent(
        seed in any::<u64>(),
        lost in proptest::collection::vec(0_u32..20, 1..4),
    ) {
        let mut pair = Pair::seeded(seed);
        pair.open("a");
        pair.settle();
        let first = *lost.iter().min().unwrap() as usize;
        pair.down.lose = lost;
        let messages: Vec<_> = (0..21).map(|n| message(n, 50)).collect();
        for message in &messages {
            pair.executor.send(pair.now, &id("a"), message.clone()).unwrap();
        }
        pair.run(limits::GAP_TIMEOUT);
        let got = pair.at_harness.get(&id("a")).cloned().unwrap_or_default();
        prop_assert_eq!(&got[..], &messages[..first]);
        prop_assert_eq!(pair.reasons(), [("harness", "gap_timeout"), ("executor", "reset_by_peer")]);
    }
}
