//! Old and new peers in every combination. An end without any of it stands for Codex 0.169: it sends
//! what that sends and ignores what that ignores.

use std::time::Duration;

use bytes::Bytes;

use super::pair::{Pair, id, plain};
use crate::connection::ConnectionConfig;
use crate::frame::{Body, BodyKind, Frame};
use crate::limits;
use crate::link::Reliability;
use crate::stream::StreamError;

fn config(reliability: Reliability) -> ConnectionConfig {
    ConnectionConfig {
        reliability,
        ..ConnectionConfig::default()
    }
}

fn bytes(length: usize) -> Bytes {
    vec![0x5a; length].into()
}

/// A conversation of a minute, and what each end sent.
fn converse(at_executor: ConnectionConfig, at_harness: ConnectionConfig) -> Pair {
    let mut pair = Pair::configured(7, at_executor, at_harness).opened(&["a", "b"]);
    for round in 0..20 {
        for stream in ["a", "b"] {
            pair.harness
                .send(pair.now, &id(stream), bytes(10 + round * 7_000))
                .unwrap();
            pair.settle();
            pair.executor
                .send(pair.now, &id(stream), bytes(20 + round * 9_000))
                .unwrap();
        }
        pair.run(Duration::from_secs(3));
    }
    for side in [&pair.at_executor, &pair.at_harness] {
        for stream in ["a", "b"] {
            assert_eq!(side[&id(stream)].len(), 20);
        }
    }
    assert!(pair.closed.is_empty() && pair.dead.is_empty());
    pair
}

fn without_acks(log: &[Frame]) -> Vec<Bytes> {
    log.iter()
        .filter(|frame| frame.body.kind() != BodyKind::Ack)
        .map(Frame::encode)
        .collect()
}

#[test]
fn toward_an_old_peer_every_frame_but_the_hello_is_byte_for_byte_the_same() {
    let old = converse(plain(), plain());
    for reliability in [Reliability::Acknowledged, Reliability::Resumable] {
        // A new executor sends an old harness nothing else at all.
        let pair = converse(config(reliability), plain());
        let sent = |pair: &Pair| pair.down.log.iter().map(Frame::encode).collect::<Vec<_>>();
        assert_eq!(sent(&pair), sent(&old));
        assert_eq!(sent(&pair).len(), without_acks(&pair.down.log).len());
        assert!(!pair.executor.is_reliable(&id("a")));

        // A new harness says hello to an old executor, ever more seldom.
        let pair = converse(plain(), config(reliability));
        assert_eq!(without_acks(&pair.up.log), without_acks(&old.up.log));
        let hellos: Vec<_> = pair
            .up
            .log
            .iter()
            .filter(|frame| frame.body == Body::Ack)
            .collect();
        // At 0, 0.2, 0.6 ... 12.6 s, and then every 12.8 s.
        assert_eq!(hellos.len(), 2 * (7 + 3));
        for hello in hellos {
            assert!(hello.statement.is_some());
            // Unknown to an old peer, which sees an acknowledgement of what it sent: harmless too.
            assert!(hello.traceparent.is_none());
        }
        assert!(!pair.harness.is_reliable(&id("a")));
    }
}

#[test]
fn new_ends_know_each_other_before_the_executor_says_anything() {
    let pair = Pair::reliable(Reliability::Acknowledged, &["a"]);
    assert_eq!(pair.up.kinds(), ["resume", "handshake", "ack", "ack"]);
    assert_eq!(pair.down.kinds(), ["handshake", "ack"]);
    // The handshake is the one that everybody sends.
    let old = Pair::with_streams(&["a"]);
    assert_eq!(pair.up.log[..2], old.up.log[..2]);
    assert_eq!(pair.down.log[..1], old.down.log[..1]);
}

#[test]
fn ends_of_different_reliability_agree_on_what_both_do() {
    use Reliability::{Acknowledged, Off, Resumable};
    for (executor, harness, reliable, kept) in [
        (Off, Resumable, false, false),
        (Resumable, Off, false, false),
        (Acknowledged, Resumable, true, false),
        (Resumable, Acknowledged, true, false),
        (Resumable, Resumable, true, true),
    ] {
        let mut pair = converse(config(executor), config(harness));
        for connection in [&mut pair.executor, &mut pair.harness] {
            assert_eq!(connection.is_reliable(&id("a")), reliable);
            let suspended = connection.suspend(pair.now);
            assert_eq!(suspended.is_empty(), !kept, "{executor:?} {harness:?}");
        }
    }
}

#[test]
fn a_rendezvous_that_drops_what_it_does_not_know_makes_ends_as_old_ones() {
    let config = config(Reliability::Resumable);
    let mut pair = Pair::configured(1, config, config);
    pair.up.eats_acks = true;
    let mut pair = pair.opened(&["a"]);
    for n in 0..200 {
        pair.harness
            .send(pair.now, &id("a"), bytes(100 + n))
            .unwrap();
        pair.executor
            .send(pair.now, &id("a"), bytes(20_000 + n))
            .unwrap();
        pair.run(Duration::from_secs(1));
    }
    assert!(pair.closed.is_empty() && pair.dead.is_empty());
    assert_eq!(pair.at_executor[&id("a")].len(), 200);
    assert_eq!(pair.at_harness[&id("a")].len(), 200);

    // The same if it drops them in one direction only: nobody relies on what does not arrive.
    let mut pair = Pair::configured(1, config, config);
    pair.down.eats_acks = true;
    let mut pair = pair.opened(&["a"]);
    for n in 0..200 {
        pair.harness
            .send(pair.now, &id("a"), bytes(100 + n))
            .unwrap();
        pair.executor
            .send(pair.now, &id("a"), bytes(20_000 + n))
            .unwrap();
        pair.run(Duration::from_secs(1));
    }
    assert!(pair.closed.is_empty() && pair.dead.is_empty());
    assert!(!pair.harness.is_reliable(&id("a")) && !pair.executor.is_reliable(&id("a")));
    assert_eq!(pair.at_harness[&id("a")].len(), 200);
}

#[test]
fn a_hello_that_is_lost_is_said_again_and_what_was_lost_before_it_is_sent_again() {
    let config = config(Reliability::Acknowledged);
    let mut pair = Pair::configured(1, config, config);
    pair.up.eats_acks = true;
    // The first record of each direction is lost, and nobody could know.
    pair.up.lose = vec![0];
    pair.down.lose = vec![0];
    let mut pair = pair.opened(&["a"]);
    for n in 0..3 {
        pair.harness
            .send(pair.now, &id("a"), bytes(100 + n))
            .unwrap();
        pair.executor
            .send(pair.now, &id("a"), bytes(200 + n))
            .unwrap();
    }
    pair.run(Duration::from_millis(300));
    assert!(!pair.executor.is_reliable(&id("a")));
    assert!(pair.at_executor.is_empty() && pair.at_harness.is_empty());
    pair.up.eats_acks = false;
    pair.run(Duration::from_secs(2));
    assert!(pair.executor.is_reliable(&id("a")) && pair.harness.is_reliable(&id("a")));
    assert_eq!(pair.at_executor[&id("a")].len(), 3);
    assert_eq!(pair.at_harness[&id("a")].len(), 3);
}

#[test]
fn what_was_lost_and_forgotten_before_the_hello_ends_the_stream_with_a_reason() {
    let config = config(Reliability::Acknowledged);
    let mut pair = Pair::configured(1, config, config);
    pair.up.eats_acks = true;
    let mut pair = pair.opened(&["a"]);
    pair.down.lose = vec![0];
    for n in 0..limits::UNCONFIRMED_RECORDS + 1 {
        pair.executor
            .send(pair.now, &id("a"), bytes(100 + n))
            .unwrap();
        pair.settle();
    }
    pair.up.eats_acks = false;
    pair.run(Duration::from_secs(1));
    assert!(pair.executor.is_reliable(&id("a")) && pair.closed.is_empty());
    pair.run(limits::GAP_TIMEOUT);
    let first = pair
        .closed
        .first()
        .map(|(side, _, reason)| (*side, *reason));
    let expected = crate::CloseReason::Stream(StreamError::BeyondRepair);
    assert_eq!(first, Some(("executor", expected)));
    assert!(pair.at_harness.is_empty(), "nothing is passed over");
}
