//! A rendezvous that makes things up, repeats and withholds, and a peer that breaks the rules.

use std::time::Duration;

use bytes::Bytes;

use super::pair::{EXECUTOR, HARNESS, Pair, id};
use crate::ack::Acknowledgement;
use crate::connection::ConnectionConfig;
use crate::frame::{Body, BodyKind, Frame, Statement};
use crate::limits;
use crate::link::Reliability;
use crate::noise::{HandshakeRng, Initiator, Transport, prologue};
use crate::testing::{environment, registration};

fn bytes(length: usize) -> Bytes {
    vec![0x5a; length].into()
}

fn kept(connection: &crate::Connection) -> usize {
    connection.streams[&id("a")].link.retransmit.bytes()
}

/// A pair in which the executor has sent a record that the harness has not got.
fn with_a_record_under_way() -> Pair {
    let mut pair = Pair::reliable(Reliability::Resumable, &["a"]);
    pair.executor.send(pair.now, &id("a"), bytes(100)).unwrap();
    assert_eq!(pair.executor_frames().len(), 1);
    assert!(kept(&pair.executor) > 0);
    pair
}

#[test]
fn an_acknowledgement_that_is_made_up_is_not_believed() {
    let mut pair = with_a_record_under_way();
    let said = pair.up.log.last().unwrap().clone();
    let statement = said.statement.unwrap();
    let next = Statement {
        serial: statement.serial + 1,
        ..statement
    };
    let bare = Frame {
        ack: 1,
        statement: None,
        ..said.clone()
    };
    let lies = [
        // Without proof, with an old one, with one for something else, for another kind.
        bare.clone(),
        Frame {
            ack: 1,
            ..said.clone()
        },
        Frame {
            ack: 1,
            statement: Some(next),
            ..said.clone()
        },
        Frame {
            ack_bits: 1,
            statement: Some(next),
            ..said.clone()
        },
        Frame {
            ack: 1,
            statement: Some(Statement {
                tag: [0; 16],
                ..next
            }),
            ..said.clone()
        },
        Frame {
            statement: Some(Statement {
                max_seq: u32::MAX,
                max_bytes: u64::MAX,
                ..next
            }),
            ..said.clone()
        },
        Frame {
            body: Body::Heartbeat,
            statement: Some(next),
            ..said.clone()
        },
    ];
    for lie in &lies {
        pair.inject_up(lie);
        assert!(kept(&pair.executor) > 0, "{lie:?}");
    }
    assert!(pair.executor.stats().statements_forged >= 5);
    // And it comes, as if nothing had been said.
    pair.run(Duration::from_secs(2));
    assert_eq!(pair.at_harness[&id("a")], [bytes(100)]);
    assert_eq!(kept(&pair.executor), 0);
    assert!(pair.closed.is_empty());
}

#[test]
fn what_one_end_says_is_not_taken_from_the_other() {
    let mut pair = with_a_record_under_way();
    pair.harness.send(pair.now, &id("a"), bytes(5)).unwrap();
    let from_harness = pair.harness_frames().remove(0);
    // Reflected to where it came from.
    let before = pair.harness.stats().statements_forged;
    pair.inject_down(&from_harness);
    assert_eq!(pair.harness.stats().statements_forged, before + 1);
}

#[test]
fn old_statements_change_nothing_and_are_no_sign_of_life() {
    let mut pair = Pair::reliable(Reliability::Acknowledged, &["a"]);
    for n in 0..20 {
        pair.harness.send(pair.now, &id("a"), bytes(n + 1)).unwrap();
        pair.executor
            .send(pair.now, &id("a"), bytes(n + 1))
            .unwrap();
        pair.run(Duration::from_millis(100));
    }
    let old: Vec<_> = pair.down.log.clone();
    let start = pair.now;
    while pair.harness.handle_timeout(pair.now).is_ok() {
        assert!(pair.now - start < Duration::from_secs(5), "kept alive");
        for frame in &old {
            pair.inject_down(frame);
        }
        pair.harness_frames();
        pair.now += Duration::from_millis(100);
    }
}

#[test]
fn a_forged_record_in_place_of_a_lost_one_is_not_acknowledged() {
    let mut pair = Pair::reliable(Reliability::Acknowledged, &["a"]);
    pair.executor.send(pair.now, &id("a"), bytes(100)).unwrap();
    pair.executor.send(pair.now, &id("a"), bytes(101)).unwrap();
    let sent = pair.executor_frames();
    // The rendezvous keeps both, and sends others under their numbers, the second one first.
    for frame in sent.iter().rev() {
        let Body::Data { seq, payload } = &frame.body else {
            panic!("{frame:?}")
        };
        let payload = vec![7; payload.len()].into();
        pair.inject_down(&Frame::new(id("a"), Body::Data { seq: *seq, payload }));
    }
    let told = pair.harness_frames();
    assert!(
        told.iter()
            .all(|frame| frame.ack == 0 && frame.ack_bits == 0)
    );
    pair.run(Duration::from_secs(2));
    assert_eq!(pair.at_harness[&id("a")], [bytes(100), bytes(101)]);
    assert_eq!(pair.harness.stats().records_dropped, 2);
}

#[test]
fn a_record_far_ahead_is_dropped_without_harm() {
    let mut pair = Pair::reliable(Reliability::Acknowledged, &["a"]);
    for seq in [limits::STREAM_WINDOW_RECORDS + 1, u32::MAX] {
        let body = Body::Data {
            seq: crate::ids::Seq(seq),
            payload: bytes(100),
        };
        pair.inject_up(&Frame::new(id("a"), body));
    }
    assert_eq!(pair.executor.stats().records_dropped, 2);
    assert_eq!(pair.executor.held_bytes, 0);
    pair.harness.send(pair.now, &id("a"), bytes(1)).unwrap();
    pair.settle();
    assert_eq!(pair.at_executor[&id("a")].len(), 1);
}

/// A harness with the keys that says anything.
struct Raw {
    transport: Transport,
    serial: u64,
}

impl Raw {
    fn open(pair: &mut Pair) -> Self {
        let prologue = prologue(&environment(), &registration(), &id("a"));
        let rng = HandshakeRng::seeded([5; 32]);
        let key = EXECUTOR.public_key();
        let (initiator, payload) =
            Initiator::start(&HARNESS, key, &prologue, "authorization", rng).unwrap();
        pair.inject_up(&Frame::new(id("a"), Body::Handshake { payload }));
        let answer = pair.executor_frames().remove(0);
        let Body::Handshake { payload } = answer.body else {
            panic!("{answer:?}")
        };
        Self {
            transport: initiator.finish(&payload).unwrap(),
            serial: 0,
        }
    }

    fn say(&mut self, acknowledgement: Acknowledgement, mut statement: Statement) -> Frame {
        self.serial += 1;
        statement.serial = self.serial;
        let text = statement.text(BodyKind::Ack, acknowledgement, 0);
        statement.tag = self.transport.statements.sign(&text);
        Frame {
            ack: acknowledgement.ack,
            ack_bits: acknowledgement.bits,
            statement: Some(statement),
            ..Frame::new(id("a"), Body::Ack)
        }
    }
}

#[test]
fn a_peer_that_acknowledges_what_was_never_sent_loses_its_stream() {
    let all = Statement {
        flags: Statement::CONFIRMED,
        max_seq: u32::MAX,
        max_bytes: u64::MAX,
        ..Statement::default()
    };
    for (ack, bits) in [(1, 0), (u32::MAX, 0), (0, 1)] {
        let config = ConnectionConfig::default();
        let mut pair = Pair::configured(1, config, config);
        let mut raw = Raw::open(&mut pair);
        let hello = raw.say(Acknowledgement::default(), all);
        pair.inject_up(&hello);
        assert!(pair.executor.is_reliable(&id("a")));
        let lie = raw.say(Acknowledgement { ack, bits }, all);
        pair.inject_up(&lie);
        assert_eq!(pair.reasons(), [("executor", "false_acknowledgement")]);
    }
}

#[test]
fn a_peer_that_promises_everything_does_not_fill_this_end() {
    let config = ConnectionConfig::default();
    let mut pair = Pair::configured(1, config, config);
    let mut raw = Raw::open(&mut pair);
    let all = Statement {
        flags: Statement::CONFIRMED,
        max_seq: u32::MAX,
        max_bytes: u64::MAX,
        ..Statement::default()
    };
    let hello = raw.say(Acknowledgement::default(), all);
    pair.inject_up(&hello);
    // It never acknowledges: what is kept for it, and what waits, stays within the limits.
    for _ in 0..100 {
        let _ = pair.executor.send(pair.now, &id("a"), bytes(500_000));
        pair.executor_frames();
    }
    assert!(kept(&pair.executor) <= limits::STREAM_UNACKED_BYTES);
    assert!(pair.executor.send_bytes <= limits::STREAM_SEND_BYTES);
    // In small records too.
    let mut pair = Pair::configured(1, config, config);
    let mut raw = Raw::open(&mut pair);
    let hello = raw.say(Acknowledgement::default(), all);
    pair.inject_up(&hello);
    let mut frames = 0;
    for _ in 0..10_000 {
        let _ = pair.executor.send(pair.now, &id("a"), bytes(1));
        frames += pair
            .executor_frames()
            .iter()
            .filter(|frame| matches!(frame.body, Body::Data { .. }))
            .count();
    }
    assert_eq!(frames, limits::STREAM_UNACKED_RECORDS);
}

#[test]
fn a_peer_that_ignores_its_window_loses_its_stream() {
    use bytes::BytesMut;
    let config = ConnectionConfig::default();
    let mut pair = Pair::configured(1, config, config);
    let mut raw = Raw::open(&mut pair);
    let confirmed = Statement {
        flags: Statement::CONFIRMED,
        ..Statement::default()
    };
    let hello = raw.say(Acknowledgement::default(), confirmed);
    pair.inject_up(&hello);
    pair.executor.pause(&id("a"));
    let message = [&60_000_u32.to_be_bytes()[..], &[1; 60_000]].concat();
    let mut sent = 0;
    while pair.closed.is_empty() {
        let seq = raw.transport.sealer.next_seq().unwrap();
        let mut payload = BytesMut::from(&message[..]);
        raw.transport.sealer.seal(&mut payload, 0).unwrap();
        let payload = payload.freeze();
        pair.inject_up(&Frame::new(id("a"), Body::Data { seq, payload }));
        sent += message.len();
        assert!(sent < 2 * limits::STREAM_RECEIVE_BYTES, "never ended");
    }
    assert_eq!(pair.reasons(), [("executor", "too_slow")]);
}
