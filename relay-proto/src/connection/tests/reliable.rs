//! Loss, corruption and slow readers between ends that acknowledge.

use std::time::Duration;

use bytes::Bytes;

use super::pair::{Faults, Pair, id};
use crate::connection::SendError;
use crate::frame::Body;
use crate::limits;
use crate::link::Reliability;

fn bytes(length: usize) -> Bytes {
    vec![0x5a; length].into()
}

fn reliable(names: &[&str]) -> Pair {
    Pair::reliable(Reliability::Acknowledged, names)
}

#[test]
fn lost_records_are_sent_again_and_nobody_notices() {
    let mut pair = reliable(&["a"]);
    // One in the middle, one at the end, and one in the other direction.
    pair.up.lose = vec![1, 4];
    pair.down.lose = vec![0];
    for n in 0..5 {
        pair.harness.send(pair.now, &id("a"), bytes(n + 1)).unwrap();
    }
    pair.executor.send(pair.now, &id("a"), bytes(9)).unwrap();
    pair.run(Duration::from_secs(2));
    let lengths: Vec<_> = pair.at_executor[&id("a")].iter().map(Bytes::len).collect();
    assert_eq!(lengths, [1, 2, 3, 4, 5]);
    assert_eq!(pair.at_harness[&id("a")], [bytes(9)]);
    assert!(pair.closed.is_empty());
    assert_eq!(pair.executor.stats().records_repeated, 1);
}

#[test]
fn a_gap_is_closed_within_a_round_trip_when_more_follows() {
    let mut pair = reliable(&["a"]);
    pair.down.lose = vec![0];
    for n in 0..5 {
        pair.executor
            .send(pair.now, &id("a"), bytes(n + 1))
            .unwrap();
    }
    // No time passes: records behind the gap are acknowledged at once, and show the loss.
    pair.settle();
    assert_eq!(pair.at_harness[&id("a")].len(), 5);
}

#[test]
fn a_changed_record_is_taken_as_lost() {
    let mut pair = reliable(&["a"]);
    pair.harness.send(pair.now, &id("a"), bytes(100)).unwrap();
    let mut frame = pair.harness_frames().remove(0);
    let Body::Data { payload, .. } = &mut frame.body else {
        panic!("{frame:?}")
    };
    let mut changed = payload.to_vec();
    changed[3] ^= 1;
    *payload = changed.into();
    pair.inject_up(&frame);
    assert_eq!(pair.executor.stats().records_dropped, 1);
    assert!(pair.closed.is_empty() && pair.at_executor.is_empty());
    pair.run(Duration::from_secs(2));
    assert_eq!(pair.at_executor[&id("a")], [bytes(100)]);
}

#[test]
fn every_frame_acknowledges() {
    let mut pair = reliable(&["a"]);
    for n in 0..3 {
        pair.harness.send(pair.now, &id("a"), bytes(n + 1)).unwrap();
    }
    let mut sent = pair.harness_frames();
    assert!(
        sent.iter()
            .all(|frame| frame.ack == 0 && frame.statement.is_some())
    );
    // The first one is late.
    let first = sent.remove(0);
    for frame in &sent {
        pair.inject_up(frame);
    }
    pair.executor.send(pair.now, &id("a"), bytes(9)).unwrap();
    let told = pair.executor_frames();
    assert!(
        told.iter()
            .all(|frame| (frame.ack, frame.ack_bits) == (0, 0b11))
    );
    pair.inject_up(&first);
    pair.executor.send(pair.now, &id("a"), bytes(9)).unwrap();
    let told = pair.executor_frames();
    assert!(
        told.iter()
            .all(|frame| (frame.ack, frame.ack_bits) == (3, 0))
    );
}

#[test]
fn an_acknowledgement_with_nothing_else_waits_a_moment() {
    let mut pair = reliable(&["a"]);
    let before = pair.executor.stats().statements_sent;
    pair.harness.send(pair.now, &id("a"), bytes(1)).unwrap();
    pair.settle();
    assert_eq!(pair.executor.stats().statements_sent, before);
    pair.run(limits::ACK_DELAY);
    assert_eq!(pair.executor.stats().statements_sent, before + 1);
    let (_, stream) = pair.harness.streams.iter().next().unwrap();
    assert!(stream.link.retransmit.is_empty());
}

/// A path that delivers everything twice must not be answered with more than it carries without.
#[test]
fn copies_do_not_multiply_acknowledgements() {
    let statements = |duplicated| {
        let mut pair = reliable(&["a"]);
        for link in [&mut pair.up, &mut pair.down] {
            link.faults = Faults {
                duplicated,
                ..Faults::default()
            };
        }
        let before = pair.executor.stats().statements_sent;
        for _ in 0..400 {
            pair.harness.send(pair.now, &id("a"), bytes(100)).unwrap();
            pair.run(Duration::from_millis(5));
        }
        pair.run(Duration::from_millis(100));
        assert_eq!(pair.at_executor[&id("a")].len(), 400);
        assert_eq!(pair.harness.stats().records_repeated, 0);
        pair.executor.stats().statements_sent - before
    };
    let (once, twice) = (statements(0), statements(100));
    assert!(once >= 50, "{once}");
    assert!(twice <= once * 5 / 4, "{once} and {twice}");
}

#[test]
fn a_slow_reader_holds_back_its_own_producer_and_nobody_else() {
    let mut pair = reliable(&["slow", "quick"]);
    for (reader, writer) in [("executor", "harness"), ("harness", "executor")] {
        let mut unsent = 0;
        for round in 0..60 {
            let (sender, receiver) = if writer == "harness" {
                (&mut pair.harness, &mut pair.executor)
            } else {
                (&mut pair.executor, &mut pair.harness)
            };
            receiver.pause(&id("slow"));
            match sender.send(pair.now, &id("slow"), bytes(500_000)) {
                Ok(()) => {}
                Err(SendError::WouldBlock(_)) => unsent += 1,
                Err(error) => panic!("{error}"),
            }
            sender
                .send(pair.now, &id("quick"), bytes(1_000 + round))
                .unwrap();
            pair.run(Duration::from_millis(50));
            let held = if writer == "harness" {
                pair.executor.held_bytes
            } else {
                pair.harness.held_bytes
            };
            assert!(held <= limits::STREAM_WINDOW_BYTES, "{held}");
        }
        assert!(unsent > 40, "the producer is held back");
        let got = if reader == "executor" {
            &pair.at_executor
        } else {
            &pair.at_harness
        };
        assert_eq!(got[&id("quick")].len(), 60);
        assert!(!got.contains_key(&id("slow")));
        assert!(pair.harness.wants_input() && pair.executor.wants_input());
        // However long it takes.
        pair.run(Duration::from_secs(600));
        assert!(pair.closed.is_empty() && pair.dead.is_empty());
        let receiver = if reader == "executor" {
            &mut pair.executor
        } else {
            &mut pair.harness
        };
        receiver.resume(&id("slow"));
        pair.run(Duration::from_secs(1));
        let got = if reader == "executor" {
            &pair.at_executor
        } else {
            &pair.at_harness
        };
        assert_eq!(got[&id("slow")].len(), 60 - unsent);
        assert!(!pair.writable.is_empty(), "the producer is told");
    }
}

#[test]
fn many_small_messages_are_limited_by_number() {
    let mut pair = reliable(&["a"]);
    pair.executor.pause(&id("a"));
    let mut taken = 0_u32;
    for _ in 0..100 {
        while pair.harness.send(pair.now, &id("a"), bytes(1)).is_ok() {
            taken += 1;
        }
        pair.run(Duration::from_millis(50));
    }
    let queued = u32::try_from(limits::STREAM_SEND_MESSAGES).unwrap();
    assert_eq!(taken, limits::STREAM_WINDOW_RECORDS + queued);
    pair.executor.resume(&id("a"));
    pair.run(Duration::from_secs(1));
    assert_eq!(pair.at_executor[&id("a")].len(), taken as usize);
}

#[test]
fn messages_larger_than_the_window_pass_and_wait_for_room_in_turn() {
    let names = ["a", "b", "c", "d"];
    let mut pair = reliable(&names);
    let large = limits::MESSAGE_BYTES;
    for name in names {
        pair.executor.pause(&id(name));
        pair.harness
            .send(pair.now, &id(name), bytes(large))
            .unwrap();
        pair.settle();
    }
    pair.run(Duration::from_secs(5));
    // Two have room, two have sent a window.
    let most = limits::CONNECTION_LARGE_BYTES + 2 * limits::STREAM_WINDOW_BYTES;
    assert!(pair.executor.held_bytes <= most);
    assert!(pair.executor.held_bytes > limits::CONNECTION_LARGE_BYTES);
    // A small message on another stream is not in their way, nor they in its.
    pair.open("small");
    pair.settle();
    pair.harness.send(pair.now, &id("small"), bytes(5)).unwrap();
    pair.settle();
    assert_eq!(pair.at_executor[&id("small")].len(), 1);
    // Whoever has asked first gets the room of one that is done.
    pair.executor.resume(&id("b"));
    pair.run(Duration::from_secs(1));
    assert_eq!(pair.at_executor[&id("b")], [bytes(large)]);
    pair.executor.resume(&id("c"));
    pair.run(Duration::from_secs(1));
    assert_eq!(pair.at_executor[&id("c")], [bytes(large)]);
    // One that ends gives its room back as well.
    pair.executor.reset(pair.now, &id("a"));
    pair.executor.resume(&id("d"));
    pair.run(Duration::from_secs(1));
    assert_eq!(pair.at_executor[&id("d")], [bytes(large)]);
    assert_eq!(
        pair.reasons(),
        [("executor", "local"), ("harness", "reset_by_peer")]
    );
    assert!(pair.executor.held_bytes == 0);
}

#[test]
fn large_messages_of_one_length_do_not_share_room() {
    let mut pair = reliable(&["a"]);
    let length = 3 * limits::STREAM_WINDOW_BYTES;
    pair.executor.pause(&id("a"));
    let mut sent = 0;
    for _ in 0..100 {
        match pair.harness.send(pair.now, &id("a"), bytes(length)) {
            Ok(()) => sent += 1,
            Err(SendError::WouldBlock(_)) => {}
            Err(error) => panic!("{error}"),
        }
        pair.run(Duration::from_millis(50));
        let held = pair.executor.held_bytes;
        assert!(held <= length + limits::STREAM_WINDOW_BYTES, "{held}");
    }
    pair.executor.resume(&id("a"));
    pair.run(Duration::from_secs(2));
    assert_eq!(pair.at_executor[&id("a")], vec![bytes(length); sent]);
    assert!(pair.closed.is_empty());
}

#[test]
fn who_holds_room_and_does_not_get_on_gives_way() {
    let names = ["idle", "slow", "new"];
    let mut pair = reliable(&names);
    let large = limits::MESSAGE_BYTES;
    // One is complete and not taken, one comes slowly.
    pair.executor.pause(&id("idle"));
    pair.harness
        .send(pair.now, &id("idle"), bytes(large))
        .unwrap();
    pair.settle();
    pair.up.window = Some(0);
    pair.harness
        .send(pair.now, &id("slow"), bytes(large))
        .unwrap();
    let trickle = |pair: &mut Pair, duration: Duration| {
        let end = pair.now + duration;
        while pair.now < end {
            pair.up.window = Some(4);
            pair.run(Duration::from_secs(1));
        }
    };
    trickle(&mut pair, Duration::from_secs(5));
    pair.harness
        .send(pair.now, &id("new"), bytes(2_000_000))
        .unwrap();
    trickle(&mut pair, limits::LARGE_WAIT / 2);
    assert!(pair.closed.is_empty());
    trickle(&mut pair, limits::LARGE_WAIT);
    assert_eq!(
        pair.reasons(),
        [("executor", "room_needed"), ("harness", "reset_by_peer")]
    );
    assert_eq!(pair.closed[0].1, id("idle"));
    pair.up.window = None;
    pair.run(Duration::from_secs(2));
    assert_eq!(pair.at_executor[&id("new")], [bytes(2_000_000)]);
    assert_eq!(pair.at_executor[&id("slow")], [bytes(large)]);
}

#[test]
fn closing_waits_until_everything_has_arrived() {
    let mut pair = reliable(&["a"]);
    pair.down.lose = vec![0, 2];
    for n in 0..3 {
        pair.executor
            .send(pair.now, &id("a"), bytes(n + 1))
            .unwrap();
    }
    pair.executor.close(pair.now, &id("a"));
    // The other end closes as well, with something under way.
    pair.up.lose = vec![0];
    pair.harness.send(pair.now, &id("a"), bytes(7)).unwrap();
    pair.harness.close(pair.now, &id("a"));
    pair.run(Duration::from_secs(4));
    // Whoever has closed does not listen, but says that it has arrived.
    assert!(pair.at_harness.is_empty() && pair.at_executor.is_empty());
    let mut reasons = pair.reasons();
    reasons.sort_unstable();
    assert_eq!(reasons[0].0, "executor");
    assert_eq!(reasons[1].0, "harness");
    assert!(pair.executor.is_idle() && pair.harness.is_idle());

    let mut pair = reliable(&["a"]);
    pair.down.lose = vec![0, 2];
    for n in 0..3 {
        pair.executor
            .send(pair.now, &id("a"), bytes(n + 1))
            .unwrap();
    }
    pair.executor.close(pair.now, &id("a"));
    pair.run(Duration::from_secs(4));
    assert_eq!(pair.at_harness[&id("a")].len(), 3);
    assert_eq!(
        pair.reasons(),
        [("executor", "local"), ("harness", "reset_by_peer")]
    );
    assert!(pair.now < pair.now + limits::DRAIN_TIMEOUT);
}

#[test]
fn a_quiet_stream_costs_little_and_lives_for_ever() {
    let mut pair = reliable(&["a", "b"]);
    let before = pair.up.log.len() + pair.down.log.len();
    pair.run(Duration::from_secs(3_600));
    assert!(pair.closed.is_empty() && pair.dead.is_empty());
    let frames = pair.up.log.len() + pair.down.log.len() - before;
    // Two streams, a question and an answer every 1.2 s.
    assert!(frames <= 2 * 2 * 3_000 + 10, "{frames}");
}
