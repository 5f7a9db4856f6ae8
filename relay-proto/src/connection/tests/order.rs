//! What goes first: urgent messages within a stream, shares between streams.

use std::num::NonZeroU8;
use std::time::Duration;

use bytes::Bytes;

use super::pair::{Pair, id};
use crate::connection::SendError;
use crate::frame::Body;
use crate::limits;
use crate::link::Reliability;
use crate::segment::Priority;

fn bytes(length: usize) -> Bytes {
    vec![0x5a; length].into()
}

/// Payload bytes per stream of the next frames.
fn sent(pair: &mut Pair, frames: usize) -> Vec<(String, usize)> {
    let mut sent = Vec::new();
    pair.down.window = Some(frames);
    let start = pair.down.log.len();
    pair.settle();
    for frame in &pair.down.log[start..] {
        if let Body::Data { payload, .. } = &frame.body {
            sent.push((frame.stream_id.to_string(), payload.len()));
        }
    }
    pair.down.window = None;
    sent
}

#[test]
fn urgent_messages_overtake_those_that_have_not_begun() {
    let mut pair = Pair::with_streams(&["a"]);
    pair.down.window = Some(0);
    for n in 0..3 {
        pair.executor
            .send(pair.now, &id("a"), bytes(100_000 + n))
            .unwrap();
    }
    // The first one has begun.
    pair.down.window = Some(1);
    pair.settle();
    for n in 0..2 {
        pair.executor
            .send_with(pair.now, &id("a"), bytes(n + 1), Priority::Urgent)
            .unwrap();
    }
    pair.down.window = None;
    pair.settle();
    let lengths: Vec<_> = pair.at_harness[&id("a")].iter().map(Bytes::len).collect();
    assert_eq!(lengths, [100_000, 1, 2, 100_001, 100_002]);
}

#[test]
fn urgent_messages_do_not_hold_up_others_for_ever() {
    let mut pair = Pair::with_streams(&["a"]);
    pair.down.window = Some(0);
    pair.executor
        .send(pair.now, &id("a"), bytes(9_999))
        .unwrap();
    pair.executor
        .send(pair.now, &id("a"), bytes(9_998))
        .unwrap();
    for n in 0..40 {
        pair.executor
            .send_with(pair.now, &id("a"), bytes(n + 1), Priority::Urgent)
            .unwrap();
    }
    pair.down.window = None;
    pair.settle();
    let lengths: Vec<_> = pair.at_harness[&id("a")].iter().map(Bytes::len).collect();
    let ordinary: Vec<_> = (0..42).filter(|at| lengths[*at] > 9_000).collect();
    let in_a_row = usize::try_from(limits::URGENT_IN_A_ROW).unwrap();
    assert_eq!(ordinary, [in_a_row, 2 * in_a_row + 1]);
    let urgent: Vec<_> = lengths
        .into_iter()
        .filter(|length| *length < 9_000)
        .collect();
    assert_eq!(
        urgent,
        (1..=40).collect::<Vec<_>>(),
        "in order among themselves"
    );
}

#[test]
fn each_class_has_a_window_of_its_own() {
    let mut pair = Pair::with_streams(&["a"]);
    pair.down.window = Some(0);
    let full = |result| matches!(result, Err(SendError::WouldBlock(_)));
    while pair
        .executor
        .send(pair.now, &id("a"), bytes(1_000_000))
        .is_ok()
    {}
    let mut urgent = 0;
    while pair
        .executor
        .send_with(pair.now, &id("a"), bytes(10_000), Priority::Urgent)
        .is_ok()
    {
        urgent += 10_000;
    }
    assert!((limits::STREAM_URGENT_BYTES - 10_000..=limits::STREAM_URGENT_BYTES).contains(&urgent));
    assert!(full(pair.executor.send(
        pair.now,
        &id("a"),
        bytes(1_000_000)
    )));
    pair.down.window = None;
    pair.settle();
    assert_eq!(pair.writable.len(), 1);
    assert_eq!(pair.executor.send_bytes, 0);
}

#[test]
fn streams_get_equal_bytes_whatever_their_records_are_like() {
    let mut pair = Pair::with_streams(&["large", "small"]);
    pair.down.window = Some(0);
    for _ in 0..4 {
        pair.executor
            .send(pair.now, &id("large"), bytes(1_000_000))
            .unwrap();
    }
    for _ in 0..limits::STREAM_SEND_MESSAGES {
        pair.executor
            .send(pair.now, &id("small"), bytes(10_000))
            .unwrap();
    }
    let share = |sent: &[(String, usize)], name: &str| -> usize {
        sent.iter()
            .filter(|(stream, _)| stream == name)
            .map(|(_, length)| length)
            .sum()
    };
    // Ten turns each: one record of 60 KiB, or six of 10,000 bytes.
    let got = sent(&mut pair, 70);
    let (large, small) = (share(&got, "large"), share(&got, "small"));
    assert!(large.abs_diff(small) < 70_000, "{large} {small}");

    let weight = NonZeroU8::new(3).unwrap();
    pair.executor.set_weight(&id("small"), weight);
    let got = sent(&mut pair, 57);
    let (large, small) = (share(&got, "large"), share(&got, "small"));
    assert!(small > 2 * large && small < 4 * large, "{large} {small}");
}

#[test]
fn who_had_nothing_to_send_goes_before_a_round_of_bulk() {
    let names: Vec<_> = (0..10).map(|n| format!("bulk{n}")).collect();
    let mut refs: Vec<_> = names.iter().map(String::as_str).collect();
    refs.push("small");
    let mut pair = Pair::with_streams(&refs);
    pair.down.window = Some(0);
    for name in &names {
        pair.executor
            .send(pair.now, &id(name), bytes(1_000_000))
            .unwrap();
    }
    sent(&mut pair, 15);
    pair.down.window = Some(0);
    pair.executor
        .send(pair.now, &id("small"), bytes(10))
        .unwrap();
    let got = sent(&mut pair, 1);
    assert_eq!(got[0].0, "small");
    // But not for long: with more than its share it takes turns.
    pair.down.window = Some(0);
    pair.executor
        .send(pair.now, &id("small"), bytes(1_000_000))
        .unwrap();
    let got = sent(&mut pair, 22);
    let turns = got.iter().filter(|(stream, _)| stream == "small").count();
    assert!((2..=3).contains(&turns), "{turns}");
}

#[test]
fn a_lost_record_goes_before_new_ones_and_keeps_the_others_in_their_share() {
    let mut pair = Pair::reliable(Reliability::Acknowledged, &["a", "b"]);
    pair.down.lose = vec![0];
    for stream in ["a", "b"] {
        pair.executor
            .send(pair.now, &id(stream), bytes(200_000))
            .unwrap();
    }
    pair.settle();
    pair.run(Duration::from_secs(2));
    for stream in ["a", "b"] {
        assert_eq!(pair.at_harness[&id(stream)], [bytes(200_000)]);
    }
    let data: Vec<_> = pair
        .down
        .log
        .iter()
        .filter_map(|frame| match frame.body {
            Body::Data { seq, .. } => Some((frame.stream_id.as_str(), seq.0)),
            _ => None,
        })
        .collect();
    let again = data.iter().rposition(|it| *it == ("a", 0)).unwrap();
    assert!(again > 0, "sent again: {data:?}");
    assert!(data.len() <= 10, "{data:?}");
}
