//! The tables: which frame does what in which state, for both roles; verdicts, limits, timers.

use std::time::Duration;

use bytes::Bytes;

use super::pair::{EXECUTOR, Pair, id};
use crate::connection::{CloseReason, OpenError, Verdict};
use crate::frame::{Body, Frame};
use crate::ids::Seq;
use crate::keys::PublicKey;
use crate::limits;
use crate::noise::HandshakeError;
use crate::stream::StreamError;

fn frame(stream: &str, body: Body) -> Frame {
    Frame::new(id(stream), body)
}

fn data(stream: &str, seq: u32) -> Frame {
    frame(
        stream,
        Body::Data {
            seq: Seq(seq),
            payload: Bytes::from_static(&[7; 40]),
        },
    )
}

fn handshake(stream: &str) -> Frame {
    frame(
        stream,
        Body::Handshake {
            payload: Bytes::from_static(&[7; 40]),
        },
    )
}

fn control(stream: &str) -> [Frame; 3] {
    [Body::Resume { next_seq: 0 }, Body::Ack, Body::Heartbeat].map(|body| frame(stream, body))
}

fn kinds(frames: &[Frame]) -> Vec<&'static str> {
    frames
        .iter()
        .map(|frame| frame.body.kind().as_str())
        .collect()
}

/// Both directions still carry messages.
fn assert_works(pair: &mut Pair, stream: &str) {
    let stream = id(stream);
    let (up, down) = (Bytes::from_static(b"up"), Bytes::from_static(b"down"));
    pair.harness.send(pair.now, &stream, up.clone()).unwrap();
    pair.executor.send(pair.now, &stream, down.clone()).unwrap();
    pair.settle();
    assert_eq!(pair.at_executor[&stream].last(), Some(&up));
    assert_eq!(pair.at_harness[&stream].last(), Some(&down));
}

#[test]
fn a_stream_opens_with_resume_and_handshake_and_carries_messages() {
    let mut pair = Pair::with_streams(&["a"]);
    assert_eq!(pair.up.kinds(), ["resume", "handshake"]);
    assert_eq!(pair.up.log[0].body, Body::Resume { next_seq: 0 });
    assert_eq!(pair.down.kinds(), ["handshake"]);
    assert_works(&mut pair, "a");
    let seqs: Vec<_> = [&pair.up, &pair.down]
        .iter()
        .flat_map(|link| &link.log)
        .filter_map(|frame| match frame.body {
            Body::Data { seq, .. } => Some(seq),
            _ => None,
        })
        .collect();
    assert_eq!(seqs, [Seq(0), Seq(0)]);
    assert!(
        pair.up
            .log
            .iter()
            .chain(&pair.down.log)
            .all(|frame| { frame.ack == 0 && frame.ack_bits == 0 && frame.traceparent.is_none() })
    );
}

#[test]
fn executor_unknown_stream() {
    let mut pair = Pair::new();
    pair.inject_up(&data("x", 0));
    assert_eq!(kinds(&pair.executor_frames()), ["reset"]);
    pair.inject_up(&handshake("x"));
    let sent = pair.executor_frames();
    assert_eq!(sent, [Frame::reset(id("x"))]);
    pair.inject_up(&Frame::reset(id("x")));
    for frame in control("x") {
        pair.inject_up(&frame);
    }
    assert!(pair.executor_frames().is_empty());
    assert!(pair.closed.is_empty());
}

#[test]
fn executor_pending_stream() {
    let pending = || {
        let mut pair = Pair::new();
        pair.verdict = None;
        pair.open("a");
        pair.settle();
        assert_eq!(pair.requests.len(), 1);
        pair
    };
    // Ignored, and the handshake can still be approved.
    let mut pair = pending();
    for frame in control("a") {
        pair.inject_up(&frame);
    }
    pair.inject_up(&handshake("a"));
    let duplicate = pair.up.log[1].clone();
    pair.inject_up(&duplicate);
    assert!(pair.executor_frames().is_empty());
    let token = pair.requests[0].clone();
    pair.executor.authorize(pair.now, &token, Verdict::Approved);
    pair.settle();
    assert_works(&mut pair, "a");

    // Data before the answer.
    let mut pair = pending();
    pair.inject_up(&data("a", 0));
    assert_eq!(kinds(&pair.executor_frames()), ["reset"]);
    assert_eq!(pair.reasons(), [("executor", "data_before_handshake")]);
    let token = pair.requests[0].clone();
    pair.executor.authorize(pair.now, &token, Verdict::Approved);
    assert!(
        pair.executor_frames().is_empty(),
        "a late verdict is ignored"
    );

    // Reset.
    let mut pair = pending();
    pair.inject_up(&Frame::reset(id("a")));
    assert!(pair.executor_frames().is_empty());
    assert_eq!(pair.reasons(), [("executor", "reset_by_peer")]);
    assert!(pair.executor.is_idle());
}

#[test]
fn executor_open_stream() {
    let mut pair = Pair::with_streams(&["a"]);
    for frame in control("a") {
        pair.inject_up(&frame);
    }
    // The reference answers this with a reset, with which a forger could end the stream.
    pair.inject_up(&handshake("a"));
    assert!(pair.executor_frames().is_empty());
    assert_works(&mut pair, "a");
    // Acknowledgements of any value are ignored.
    pair.inject_up(&Frame {
        ack: 77,
        ack_bits: u32::MAX,
        ..frame("a", Body::Ack)
    });
    assert_works(&mut pair, "a");

    pair.inject_up(&Frame::reset(id("a")));
    assert!(pair.executor_frames().is_empty());
    assert_eq!(pair.reasons(), [("executor", "reset_by_peer")]);
}

#[test]
fn harness_opening_stream() {
    let opening = || {
        let mut pair = Pair::new();
        pair.open("a");
        pair.harness_frames();
        pair
    };
    let mut pair = opening();
    for frame in control("a") {
        pair.inject_down(&frame);
    }
    for other in [data("b", 0), handshake("b"), Frame::reset(id("b"))] {
        pair.inject_down(&other);
    }
    assert!(pair.closed.is_empty());
    assert!(pair.harness_frames().is_empty());
    pair.inject_down(&handshake("a"));
    assert_eq!(pair.reasons(), [("harness", "handshake_request")]);
    assert_eq!(kinds(&pair.harness_frames()), ["reset"]);

    let mut pair = opening();
    pair.inject_down(&Frame::reset(id("a")));
    assert_eq!(pair.reasons(), [("harness", "reset_by_peer")]);
    assert!(pair.harness_frames().is_empty());
}

#[test]
fn harness_open_stream() {
    let mut pair = Pair::with_streams(&["a"]);
    for frame in control("a") {
        pair.inject_down(&frame);
    }
    for other in [
        data("b", 0),
        handshake("b"),
        handshake("a"),
        Frame::reset(id("b")),
    ] {
        pair.inject_down(&other);
    }
    assert!(pair.harness_frames().is_empty());
    assert_works(&mut pair, "a");
    pair.inject_down(&Frame::reset(id("a")));
    assert_eq!(pair.reasons(), [("harness", "reset_by_peer")]);
    assert!(pair.harness_frames().is_empty());
}

#[test]
fn invalid_frames_are_ignored_by_both_ends_in_every_state() {
    let invalid: Vec<Vec<u8>> = vec![
        vec![],
        b"not protobuf".to_vec(),
        // version 2
        [&[0x08, 2][..], &[0x12, 1, b'a', 0x4a, 0]].concat(),
        // no body
        [&[0x08, 1][..], &[0x12, 1, b'a']].concat(),
        // data: segment_count 2, segment_index 1, empty payload
        [
            &[0x08, 1][..],
            &[0x12, 1, b'a', 0x2a, 5, 0x18, 2, 0x22, 1, 9],
        ]
        .concat(),
        [
            &[0x08, 1][..],
            &[0x12, 1, b'a', 0x2a, 7, 0x10, 1, 0x18, 1, 0x22, 1, 9],
        ]
        .concat(),
        [&[0x08, 1][..], &[0x12, 1, b'a', 0x2a, 2, 0x18, 1]].concat(),
        // handshake and reset, empty
        [&[0x08, 1][..], &[0x12, 1, b'a', 0x52, 0]].concat(),
        [&[0x08, 1][..], &[0x12, 1, b'a', 0x42, 0]].concat(),
        // blank stream id
        [&[0x08, 1][..], &[0x12, 1, b' ', 0x4a, 0]].concat(),
    ];
    let mut pair = Pair::new();
    let inject = |pair: &mut Pair| {
        for bytes in &invalid {
            pair.executor
                .handle_message(pair.now, bytes.clone().into())
                .unwrap();
            pair.harness
                .handle_message(pair.now, bytes.clone().into())
                .unwrap();
        }
    };
    inject(&mut pair);
    pair.verdict = None;
    pair.open("a");
    inject(&mut pair);
    pair.settle();
    inject(&mut pair);
    let token = pair.requests[0].clone();
    pair.executor.authorize(pair.now, &token, Verdict::Approved);
    inject(&mut pair);
    pair.settle();
    inject(&mut pair);
    assert_works(&mut pair, "a");
    assert!(pair.closed.is_empty());
    let expected = 5 * invalid.len() as u64;
    assert_eq!(pair.executor.stats().frames_malformed, expected);
    assert_eq!(pair.harness.stats().frames_malformed, expected);
}

#[test]
fn a_message_over_the_websocket_limit_ends_the_connection() {
    let mut pair = Pair::new();
    let long = Bytes::from(vec![0; limits::WEBSOCKET_MESSAGE_BYTES + 1]);
    assert!(
        pair.executor
            .handle_message(pair.now, long.clone())
            .is_err()
    );
    assert!(pair.harness.handle_message(pair.now, long).is_err());
}

#[test]
fn verdicts_other_than_approval_open_nothing() {
    let mut pair = Pair::new();
    pair.verdict = Some(Verdict::Refused);
    pair.open("a");
    pair.settle();
    assert_eq!(pair.down.kinds(), ["reset"]);
    assert_eq!(
        pair.reasons(),
        [("executor", "refused"), ("harness", "reset_by_peer")]
    );

    let mut pair = Pair::new();
    pair.verdict = Some(Verdict::CredentialsRejected);
    pair.open("a");
    pair.settle();
    assert_eq!(pair.down.kinds(), ["handshake"]);
    assert_eq!(
        pair.reasons(),
        [
            ("executor", "credentials_rejected"),
            ("harness", "credentials_rejected")
        ]
    );
    assert!(!pair.closed[1].2.is_retryable());
    // No stream is kept: data is answered with a reset.
    pair.inject_up(&data("a", 0));
    assert_eq!(kinds(&pair.executor_frames()), ["reset"]);
}

#[test]
fn a_verdict_for_an_earlier_handshake_of_the_same_stream_is_ignored() {
    let mut pair = Pair::new();
    pair.verdict = None;
    pair.open("a");
    pair.settle();
    let first = pair.up.log[1].clone();
    pair.inject_up(&Frame::reset(id("a")));
    pair.inject_up(&first);
    assert_eq!(pair.requests.len(), 2);
    let [old, new] = [pair.requests[0].clone(), pair.requests[1].clone()];
    assert_eq!(old.stream(), new.stream());
    pair.executor.authorize(pair.now, &old, Verdict::Approved);
    assert!(pair.executor_frames().is_empty());
    pair.executor.authorize(pair.now, &new, Verdict::Approved);
    pair.settle();
    assert_works(&mut pair, "a");
}

#[test]
fn verdict_and_answer_have_ten_seconds() {
    let mut pair = Pair::new();
    pair.verdict = None;
    pair.down.cut = true;
    pair.open("a");
    pair.run(Duration::from_millis(9_999));
    assert!(pair.closed.is_empty());
    pair.run(Duration::from_millis(1));
    let mut reasons = pair.reasons();
    reasons.sort_unstable();
    assert_eq!(
        reasons,
        [
            ("executor", "validation_timeout"),
            ("harness", "handshake_timeout")
        ]
    );
    assert_eq!(pair.up.kinds().last(), Some(&"reset"));
    assert_eq!(pair.down.kinds(), ["reset"]);
}

#[test]
fn a_wrong_executor_key_fails() {
    let mut pair = Pair::new();
    let other = super::pair::HARNESS.public_key().clone();
    pair.harness
        .open(pair.now, id("a"), other, "authorization")
        .unwrap();
    pair.settle();
    assert_eq!(pair.reasons(), [("harness", "reset_by_peer")]);
    assert_eq!(pair.executor.stats().handshakes_failed, 1);
}

#[test]
fn opening_is_checked() {
    let mut pair = Pair::with_streams(&["a"]);
    let key = EXECUTOR.public_key().clone();
    let mut open = |stream: &str, key: &PublicKey, authorization: &str| {
        pair.harness
            .open(pair.now, id(stream), key.clone(), authorization)
            .err()
    };
    assert_eq!(open("a", &key, ""), Some(OpenError::InUse));
    let bad = PublicKey::from_parts(&[1; 32], &[0xff; 1184]).unwrap();
    assert_eq!(
        open("b", &bad, ""),
        Some(OpenError::Handshake(HandshakeError::PublicKey))
    );
    assert_eq!(
        open("b", &key, &"x".repeat(4_097)),
        Some(OpenError::Handshake(HandshakeError::AuthorizationTooLong {
            length: 4_097
        }))
    );
    assert_eq!(open("b", &key, ""), None);
    assert_eq!(open("b", &key, ""), Some(OpenError::InUse));
    let wrong_role = pair.executor.open(pair.now, id("c"), key, "");
    assert_eq!(wrong_role, Err(OpenError::WrongRole));
}

#[test]
fn local_reset_is_told_to_the_peer() {
    let mut pair = Pair::with_streams(&["a", "b"]);
    pair.harness.reset(pair.now, &id("a"));
    pair.executor.reset(pair.now, &id("b"));
    pair.settle();
    let mut closed: Vec<_> = pair
        .closed
        .iter()
        .map(|(side, id, why)| (*side, id.as_str(), why.reason()))
        .collect();
    closed.sort_unstable();
    assert_eq!(
        closed,
        [
            ("executor", "a", "reset_by_peer"),
            ("executor", "b", "local"),
            ("harness", "a", "local"),
            ("harness", "b", "reset_by_peer"),
        ]
    );
    assert!(pair.executor.is_idle() && pair.harness.is_idle());
}

#[test]
fn reset_all_ends_streams_in_every_state() {
    let mut pair = Pair::with_streams(&["a", "b"]);
    pair.verdict = None;
    pair.open("c");
    pair.settle();
    pair.executor.reset_all(pair.now);
    pair.settle();
    assert_eq!(
        pair.down
            .kinds()
            .iter()
            .filter(|kind| **kind == "reset")
            .count(),
        3
    );
    assert_eq!(pair.closed.len(), 6);
    assert!(pair.executor.is_idle() && pair.harness.is_idle());
}

#[test]
fn at_most_32_handshakes_wait() {
    let mut pair = Pair::new();
    pair.verdict = None;
    for n in 0..33 {
        pair.open(&format!("s{n}"));
    }
    pair.settle();
    assert_eq!(pair.requests.len(), 32);
    assert_eq!(
        pair.closed,
        [("harness", id("s32"), CloseReason::ResetByPeer)]
    );
}

#[test]
fn the_129th_stream_is_refused_unless_one_has_been_silent() {
    let mut pair = Pair::new();
    let names: Vec<_> = (0..limits::ACTIVE_STREAMS)
        .map(|n| format!("s{n:03}"))
        .collect();
    for name in &names {
        pair.open(name);
        pair.settle();
    }
    assert_eq!(pair.executor.stream_count(), limits::ACTIVE_STREAMS);
    // The harness side of this test counts too, so the 129th comes from another harness.
    let mut other = super::pair::harness(pair.now);
    let key = EXECUTOR.public_key().clone();
    other
        .open(pair.now, id("new"), key.clone(), "authorization")
        .unwrap();
    let request = super::pair::frames(&mut other, pair.now);
    pair.inject_up(&request[1]);
    assert_eq!(pair.executor_frames(), [Frame::reset(id("new"))]);

    // All but one stay in touch.
    pair.run(limits::STREAM_EVICTION_IDLE);
    for name in names.iter().filter(|name| *name != "s077") {
        pair.harness
            .send(pair.now, &id(name), Bytes::from_static(b"x"))
            .unwrap();
    }
    pair.settle();
    pair.inject_up(&request[1]);
    assert_eq!(
        pair.closed,
        [(
            "executor",
            id("s077"),
            CloseReason::Stream(StreamError::Evicted)
        )]
    );
    assert_eq!(kinds(&pair.executor_frames()), ["reset", "handshake"]);
    assert_eq!(pair.executor.stream_count(), limits::ACTIVE_STREAMS);
}

#[test]
fn bad_handshakes_never_lock_out_a_good_one_for_long() {
    let mut pair = Pair::new();
    for n in 0..limits::HANDSHAKE_FAILURE_BURST {
        pair.inject_up(&handshake(&format!("bad{n}")));
    }
    assert_eq!(pair.executor.stats().handshakes_failed, 256);
    pair.inject_up(&handshake("bad"));
    assert_eq!(
        pair.executor.stats().handshakes_refused,
        1,
        "no cryptography any more"
    );
    pair.executor_frames();
    pair.now += limits::HANDSHAKE_FAILURE_INTERVAL;
    pair.open("good");
    pair.settle();
    assert_works(&mut pair, "good");
}

#[test]
fn refusals_and_open_streams_do_not_use_the_failure_budget() {
    let mut pair = Pair::with_streams(&["a"]);
    for n in 0..limits::HANDSHAKE_FAILURE_BURST + 10 {
        pair.verdict = Some(Verdict::Refused);
        pair.open(&format!("refused{n}"));
        pair.settle();
    }
    pair.verdict = Some(Verdict::Approved);
    pair.open("good");
    pair.settle();
    assert_works(&mut pair, "good");
    assert_works(&mut pair, "a");
}
