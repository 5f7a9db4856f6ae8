//! Windows, fairness, pausing, closing.

use std::time::Duration;

use bytes::Bytes;

use super::pair::{Pair, frames, id};
use crate::connection::{CloseReason, Connection, SendError};
use crate::frame::Body;
use crate::limits;
use crate::stream::StreamError;

fn bytes(length: usize) -> Bytes {
    vec![0x5a; length].into()
}

fn fill(
    connection: &mut Connection,
    pair_now: std::time::Instant,
    stream: &str,
    length: usize,
) -> usize {
    let mut sent = 0;
    loop {
        match connection.send(pair_now, &id(stream), bytes(length)) {
            Ok(()) => sent += 1,
            Err(SendError::WouldBlock(message)) => {
                assert_eq!(message.len(), length);
                return sent;
            }
            Err(error) => panic!("{error}"),
        }
    }
}

#[test]
fn a_bulk_stream_does_not_starve_a_small_one() {
    let mut pair = Pair::with_streams(&["bulk", "small"]);
    pair.executor
        .send(pair.now, &id("bulk"), bytes(4_000_000))
        .unwrap();
    pair.down.window = Some(5);
    pair.settle();
    pair.executor
        .send(pair.now, &id("small"), bytes(10))
        .unwrap();
    pair.down.window = Some(2);
    pair.settle();
    assert_eq!(
        pair.at_harness[&id("small")].len(),
        1,
        "sent within one turn"
    );
    assert!(!pair.at_harness.contains_key(&id("bulk")));
    pair.down.window = None;
    pair.settle();
    assert_eq!(pair.at_harness[&id("bulk")], [bytes(4_000_000)]);
}

#[test]
fn streams_take_turns_record_by_record() {
    let mut pair = Pair::with_streams(&["a", "b", "c"]);
    for stream in ["a", "b", "c"] {
        pair.executor
            .send(pair.now, &id(stream), bytes(180_000))
            .unwrap();
    }
    let sent: Vec<_> = pair
        .executor_frames()
        .iter()
        .map(|f| f.stream_id.to_string())
        .collect();
    assert_eq!(sent, ["a", "b", "c", "a", "b", "c", "a", "b", "c"]);
}

#[test]
fn handshakes_and_resets_go_before_data() {
    let mut pair = Pair::with_streams(&["bulk", "gone"]);
    pair.executor
        .send(pair.now, &id("bulk"), bytes(1_000_000))
        .unwrap();
    pair.open("new");
    for frame in pair.harness_frames() {
        pair.inject_up(&frame);
    }
    pair.executor.reset(pair.now, &id("gone"));
    let kinds: Vec<_> = pair
        .executor_frames()
        .iter()
        .map(|f| f.body.kind().as_str())
        .collect();
    assert_eq!(kinds[..3], ["handshake", "reset", "data"]);
}

#[test]
fn a_ping_goes_before_everything() {
    let mut pair = Pair::with_streams(&["a"]);
    pair.executor
        .send(pair.now, &id("a"), bytes(1_000_000))
        .unwrap();
    pair.now += limits::PING_INTERVAL;
    pair.executor.handle_timeout(pair.now).unwrap();
    assert_eq!(
        pair.executor.poll_transmit(pair.now),
        Some(crate::Transmit::Ping)
    );
}

#[test]
fn send_would_block_at_the_window_and_says_when_to_try_again() {
    let mut pair = Pair::with_streams(&["a"]);
    pair.down.window = Some(0);
    assert_eq!(fill(&mut pair.executor, pair.now, "a", 1_048_576), 4);
    pair.settle();
    assert!(pair.writable.is_empty());
    pair.down.window = Some(18 * 2);
    pair.settle();
    assert_eq!(pair.writable, [("executor", id("a"))]);
    assert!(
        pair.executor
            .send(pair.now, &id("a"), bytes(1_048_576))
            .is_ok()
    );
    pair.down.window = None;
    pair.settle();
    assert_eq!(pair.at_harness[&id("a")].len(), 5);
    assert_eq!(pair.writable.len(), 1, "told once");

    // In items too.
    pair.down.window = Some(0);
    assert_eq!(
        fill(&mut pair.executor, pair.now, "a", 1),
        limits::STREAM_SEND_MESSAGES
    );
}

#[test]
fn one_message_of_any_allowed_size_is_taken() {
    let mut pair = Pair::with_streams(&["a"]);
    pair.executor
        .send(pair.now, &id("a"), bytes(limits::MESSAGE_BYTES))
        .unwrap();
    pair.settle();
    assert_eq!(pair.at_harness[&id("a")][0].len(), limits::MESSAGE_BYTES);
    for length in [0, limits::MESSAGE_BYTES + 1] {
        assert_eq!(
            pair.executor.send(pair.now, &id("a"), bytes(length)),
            Err(SendError::Length { length })
        );
    }
    assert_eq!(
        pair.executor.send(pair.now, &id("x"), bytes(1)),
        Err(SendError::Closed)
    );
}

#[test]
fn all_streams_together_have_a_window() {
    let names: Vec<_> = (0..40).map(|n| format!("s{n:02}")).collect();
    let refs: Vec<_> = names.iter().map(String::as_str).collect();
    let mut pair = Pair::with_streams(&refs);
    pair.down.window = Some(0);
    let mib = 1_048_576;
    let sent: usize = names
        .iter()
        .map(|name| fill(&mut pair.executor, pair.now, name, mib))
        .sum();
    assert_eq!(sent * mib, limits::CONNECTION_SEND_BYTES);
    // A stream that ends gives its part back.
    pair.executor.reset(pair.now, &id("s00"));
    assert!(pair.executor.send(pair.now, &id("s39"), bytes(mib)).is_ok());
    // Everybody who was refused is told in the end.
    pair.down.window = None;
    pair.settle();
    let mut told: Vec<_> = pair.writable.iter().map(|(_, id)| id.to_string()).collect();
    told.sort_unstable();
    told.dedup();
    assert_eq!(told.len(), 39);
}

#[test]
fn a_slow_stream_waits_in_its_window_and_stalls_no_other() {
    let mut pair = Pair::with_streams(&["slow", "quick"]);
    pair.executor.pause(&id("slow"));
    for _ in 0..10 {
        pair.harness
            .send(pair.now, &id("slow"), bytes(1_000_000))
            .unwrap();
        pair.harness
            .send(pair.now, &id("quick"), bytes(1_000))
            .unwrap();
        pair.settle();
    }
    assert!(!pair.at_executor.contains_key(&id("slow")));
    assert_eq!(pair.at_executor[&id("quick")].len(), 10);
    assert!(pair.closed.is_empty());
    pair.executor.resume(&id("slow"));
    pair.settle();
    assert_eq!(pair.at_executor[&id("slow")].len(), 10);
}

#[test]
fn a_stream_slower_than_its_window_is_reset_alone() {
    let mut pair = Pair::with_streams(&["slow", "quick"]);
    pair.executor.pause(&id("slow"));
    let mut sent = 0;
    while pair.closed.is_empty() {
        pair.harness
            .send(pair.now, &id("slow"), bytes(1_000_000))
            .unwrap();
        pair.settle();
        sent += 1_000_000;
        assert!(sent < 2 * limits::STREAM_RECEIVE_BYTES, "never reset");
    }
    assert!(sent > limits::STREAM_RECEIVE_BYTES);
    assert_eq!(
        pair.reasons(),
        [("executor", "too_slow"), ("harness", "reset_by_peer")]
    );
    pair.harness
        .send(pair.now, &id("quick"), bytes(10))
        .unwrap();
    pair.settle();
    assert_eq!(pair.at_executor[&id("quick")].len(), 1);
}

#[test]
fn the_window_counts_messages_too() {
    let mut pair = Pair::with_streams(&["slow"]);
    pair.executor.pause(&id("slow"));
    let mut sent = 0;
    while pair.closed.is_empty() {
        pair.harness.send(pair.now, &id("slow"), bytes(1)).unwrap();
        pair.settle();
        sent += 1;
        assert!(sent < 2 * limits::STREAM_RECEIVE_MESSAGES, "never reset");
    }
    assert_eq!(sent, limits::STREAM_RECEIVE_MESSAGES + 1);
}

#[test]
fn a_harness_with_one_stream_stops_reading_instead() {
    let mut pair = Pair::with_streams(&["a"]);
    assert!(pair.harness.wants_input());
    pair.harness.pause(&id("a"));
    assert!(pair.harness.wants_input(), "nothing waits yet");
    let mut sent = 0;
    while pair.harness.wants_input() {
        pair.executor
            .send(pair.now, &id("a"), bytes(1_000_000))
            .unwrap();
        pair.settle();
        sent += 1;
        assert!(sent < 100);
    }
    // Keepalive rests: the shell cannot see pongs.
    pair.up.cut = true;
    pair.now += Duration::from_secs(1_000);
    assert_eq!(pair.harness.handle_timeout(pair.now), Ok(()));
    assert_eq!(pair.harness.poll_timeout(), None);
    pair.up.cut = false;
    pair.harness.resume(&id("a"));
    assert!(pair.harness.wants_input());
    pair.settle();
    assert_eq!(pair.at_harness[&id("a")].len(), sent);
    // And it works again.
    pair.up.cut = true;
    pair.run(limits::PING_INTERVAL + limits::PONG_TIMEOUT);
    assert_eq!(pair.dead.first(), Some(&"harness"));
    // An executor always reads.
    assert!(pair.executor.wants_input());
}

#[test]
fn a_closed_stream_sends_what_is_queued_and_then_a_reset() {
    let mut pair = Pair::with_streams(&["a"]);
    pair.executor
        .send(pair.now, &id("a"), bytes(100_000))
        .unwrap();
    pair.executor.send(pair.now, &id("a"), bytes(10)).unwrap();
    pair.executor.close(pair.now, &id("a"));
    assert_eq!(
        pair.executor.send(pair.now, &id("a"), bytes(1)),
        Err(SendError::Closed)
    );
    pair.settle();
    assert_eq!(pair.at_harness[&id("a")].len(), 2);
    assert_eq!(
        pair.down.kinds(),
        ["handshake", "data", "data", "data", "reset"]
    );
    assert_eq!(
        pair.reasons(),
        [("executor", "local"), ("harness", "reset_by_peer")]
    );
    assert!(pair.executor.is_idle());
}

#[test]
fn closing_does_not_wait_for_ever() {
    let mut pair = Pair::with_streams(&["a", "b"]);
    pair.down.window = Some(0);
    pair.executor
        .send(pair.now, &id("a"), bytes(100_000))
        .unwrap();
    pair.executor.close(pair.now, &id("a"));
    // Nothing queued: at once.
    pair.executor.close(pair.now, &id("b"));
    pair.settle();
    assert_eq!(pair.closed, [("executor", id("b"), CloseReason::Local)]);
    pair.run(limits::DRAIN_TIMEOUT);
    assert_eq!(pair.closed[1], ("executor", id("a"), CloseReason::Local));
    pair.down.window = None;
    let sent = frames(&mut pair.executor, pair.now);
    assert_eq!(sent.len(), 2);
    assert!(
        sent.iter()
            .all(|frame| matches!(frame.body, Body::Reset { .. }))
    );
}

#[test]
fn the_end_of_the_sequence_numbers_ends_the_stream() {
    let mut pair = Pair::with_streams(&["a", "b"]);
    let last = crate::ids::Seq(u32::MAX - 1);
    pair.executor
        .streams
        .get_mut(&id("a"))
        .unwrap()
        .skip_to(last);
    pair.executor.send(pair.now, &id("a"), bytes(10)).unwrap();
    pair.executor.send(pair.now, &id("a"), bytes(10)).unwrap();
    let sent: Vec<_> = pair
        .executor_frames()
        .into_iter()
        .map(|frame| frame.body)
        .collect();
    assert!(matches!(sent[0], Body::Data { seq, .. } if seq == last));
    assert!(matches!(sent[1], Body::Reset { .. }));
    assert_eq!(sent.len(), 2);
    pair.settle();
    assert_eq!(pair.reasons(), [("executor", "sequence_exhausted")]);
    assert_eq!(pair.executor.send_bytes, 0);
}

#[test]
fn messages_complete_before_the_end_are_delivered() {
    let mut pair = Pair::with_streams(&["a"]);
    for n in 0..3 {
        pair.harness.send(pair.now, &id("a"), bytes(n + 1)).unwrap();
    }
    let sent = pair.harness_frames();
    for frame in &sent {
        pair.executor
            .handle_message(pair.now, frame.encode())
            .unwrap();
    }
    // The shell has not polled yet.
    pair.executor
        .handle_message(pair.now, crate::frame::Frame::reset(id("a")).encode())
        .unwrap();
    pair.settle();
    assert_eq!(pair.at_executor[&id("a")].len(), 3);
    assert_eq!(pair.reasons(), [("executor", "reset_by_peer")]);
}

#[test]
fn what_arrived_before_the_end_waits_for_a_slow_application() {
    for keeps in [false, true] {
        let mut pair = if keeps {
            Pair::reliable(crate::Reliability::Acknowledged, &["a"])
        } else {
            Pair::with_streams(&["a"])
        };
        pair.executor.pause(&id("a"));
        for n in 0..50 {
            pair.harness.send(pair.now, &id("a"), bytes(n + 1)).unwrap();
        }
        pair.harness.close(pair.now, &id("a"));
        pair.run(Duration::from_secs(3));
        assert_eq!(pair.reasons(), [("harness", "local")]);
        assert!(pair.at_executor.is_empty() && !pair.executor.is_idle());
        // One at a time, as an application with little room takes them.
        pair.executor.resume(&id("a"));
        let first = pair.executor.poll_event();
        assert!(matches!(first, Some(crate::Event::Message { message, .. }) if message.len() == 1));
        pair.executor.pause(&id("a"));
        assert!(pair.executor.poll_event().is_none());
        pair.executor.resume(&id("a"));
        pair.settle();
        assert_eq!(pair.at_executor[&id("a")].len(), 49);
        assert_eq!(pair.reasons()[1], ("executor", "reset_by_peer"));
        assert!(pair.executor.is_idle() && pair.executor.held_bytes == 0);
    }
}

#[test]
fn the_largest_holder_goes_when_all_together_hold_too_much() {
    let names: Vec<_> = (0..20).map(|n| format!("s{n:02}")).collect();
    let refs: Vec<_> = names.iter().map(String::as_str).collect();
    let mut pair = Pair::with_streams(&refs);
    // Partial messages count: the last record of each is lost.
    let mut held = 0;
    for (n, name) in names.iter().enumerate() {
        let length = 15_000_000 + n;
        pair.harness
            .send(pair.now, &id(name), bytes(length))
            .unwrap();
        let sent = pair.harness_frames();
        for frame in &sent[..sent.len() - 1] {
            pair.inject_up(frame);
        }
        held += length;
        if !pair.closed.is_empty() {
            break;
        }
    }
    assert!(held > limits::CONNECTION_RECEIVE_BYTES);
    assert_eq!(pair.closed.len(), 1);
    assert_eq!(
        pair.closed[0].2,
        CloseReason::Stream(StreamError::ConnectionFull)
    );
}
