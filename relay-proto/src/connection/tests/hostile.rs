//! Whatever a peer sends, nothing panics and nothing grows without a bound.

use std::time::Duration;

use bytes::{Bytes, BytesMut};
use proptest::prelude::*;
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};

use super::pair::{EXECUTOR, HARNESS, Pair, executor_with, frames, harness_with, id};
use crate::connection::{Connection, ConnectionConfig, Verdict};
use crate::frame::{Body, Frame};
use crate::ids::Seq;
use crate::limits;
use crate::link::Reliability;
use crate::noise::{HandshakeRng, Initiator, Transport, prologue};
use crate::testing::{environment, registration};

/// A harness that speaks the protocol but puts anything into records.
struct Raw {
    transport: Transport,
}

impl Raw {
    fn open(pair: &mut Pair, stream: &str) -> Self {
        let prologue = prologue(&environment(), &registration(), &id(stream));
        let rng = HandshakeRng::seeded([5; 32]);
        let (initiator, payload) = Initiator::start(
            &HARNESS,
            EXECUTOR.public_key(),
            &prologue,
            "authorization",
            rng,
        )
        .unwrap();
        pair.inject_up(&Frame::new(id(stream), Body::Handshake { payload }));
        let answer = pair.executor_frames().remove(0);
        let Body::Handshake { payload } = answer.body else {
            panic!("{answer:?}")
        };
        Self {
            transport: initiator.finish(&payload).unwrap(),
        }
    }

    fn record(&mut self, stream: &str, plaintext: &[u8]) -> Frame {
        let seq = self.transport.sealer.next_seq().unwrap();
        let mut payload = BytesMut::from(plaintext);
        self.transport.sealer.seal(&mut payload, 0).unwrap();
        Frame::new(
            id(stream),
            Body::Data {
                seq,
                payload: payload.freeze(),
            },
        )
    }
}

#[test]
fn ciphertexts_of_every_short_length_end_the_stream_without_a_panic() {
    for length in (1..40).chain([61_456, 61_457, 200_000]) {
        let mut pair = Pair::with_streams(&["a", "b"]);
        let payload = Bytes::from(vec![0; length]);
        let frame = Frame::new(
            id("a"),
            Body::Data {
                seq: Seq(0),
                payload,
            },
        );
        pair.inject_up(&frame);
        pair.inject_down(&frame);
        assert_eq!(
            pair.reasons(),
            [("executor", "record"), ("harness", "record")]
        );
        pair.harness
            .send(pair.now, &id("b"), Bytes::from_static(b"x"))
            .unwrap();
        pair.settle();
        assert_eq!(pair.at_executor[&id("b")].len(), 1);
    }
}

#[test]
fn impossible_length_prefixes_end_the_stream() {
    for prefix in [[0, 0, 0, 0], [4, 0, 0, 1], [255, 255, 255, 255]] {
        let mut pair = Pair::new();
        let mut raw = Raw::open(&mut pair, "a");
        // Half a prefix is nothing yet.
        let first = raw.record("a", &prefix[..3]);
        let second = raw.record("a", &prefix[3..]);
        pair.inject_up(&first);
        assert!(pair.closed.is_empty());
        pair.inject_up(&second);
        assert_eq!(pair.reasons(), [("executor", "segment")]);
    }
}

#[test]
fn any_cut_is_accepted() {
    let mut pair = Pair::new();
    let mut raw = Raw::open(&mut pair, "a");
    let pieces: [&[u8]; 6] = [
        b"",
        &[0],
        &[0, 0, 2, b'h'],
        b"i",
        b"",
        &[0, 0, 0, 1, b'x', 0, 0, 0, 1, b'y'],
    ];
    for piece in pieces {
        let frame = raw.record("a", piece);
        pair.inject_up(&frame);
    }
    assert_eq!(pair.at_executor[&id("a")], [&b"hi"[..], b"x", b"y"]);
}

#[test]
fn a_giant_prefix_costs_nothing() {
    let mut pair = Pair::new();
    let mut raw = Raw::open(&mut pair, "a");
    let frame = raw.record("a", &[4, 0, 0, 0, 1]);
    pair.inject_up(&frame);
    assert!(pair.closed.is_empty());
    assert_eq!(pair.executor.held_bytes, 1);
}

#[test]
fn resets_for_unknown_streams_are_bounded_and_sent_once_per_stream() {
    let mut pair = Pair::new();
    let data = |n: usize| {
        Frame::new(
            id(&format!("unknown{n}")),
            Body::Data {
                seq: Seq(0),
                payload: Bytes::from_static(b"x"),
            },
        )
    };
    for n in 0..1_000 {
        pair.inject_up(&data(n));
        pair.inject_up(&data(n));
    }
    assert_eq!(pair.executor_frames().len(), limits::CONTROL_FRAMES);
    assert!(pair.executor.stats().resets_dropped > 0);
}

#[test]
fn a_small_record_does_not_keep_a_large_message_in_memory() {
    let mut pair = Pair::with_streams(&["a"]);
    // A waiting record in a message padded with an unknown field.
    let frame = Frame::new(
        id("a"),
        Body::Data {
            seq: Seq(5),
            payload: Bytes::from(vec![1; 5_000]),
        },
    );
    let mut padded = frame.encode().to_vec();
    padded.extend_from_slice(&[0xa2, 0x06, 0x80, 0x80, 0x08]);
    padded.resize(padded.len() + 0x2_0000, 0);
    let message = Bytes::from(padded);
    pair.executor
        .handle_message(pair.now, message.clone())
        .unwrap();
    assert_eq!(pair.executor.stats().records_early, 1);
    assert!(message.is_unique(), "nothing else refers to it");
}

/// What a hostile rendezvous or harness may do.
#[derive(Clone, Debug)]
enum Act {
    Replay {
        up: bool,
        index: prop::sample::Index,
    },
    Flip {
        up: bool,
        index: prop::sample::Index,
        byte: prop::sample::Index,
        mask: u8,
    },
    Forge {
        up: bool,
        stream: u8,
        body: u8,
        seq: u32,
        length: usize,
    },
    Bytes {
        up: bool,
        bytes: Vec<u8>,
    },
    Send {
        up: bool,
        stream: u8,
        length: usize,
    },
    Open {
        stream: u8,
    },
    Reset {
        up: bool,
        stream: u8,
    },
    Pause {
        up: bool,
        stream: u8,
        paused: bool,
    },
    Close {
        up: bool,
        stream: u8,
    },
    Wait {
        millis: u64,
    },
    Verdict {
        verdict: u8,
    },
    Move {
        up: bool,
    },
}

fn any_act() -> impl Strategy<Value = Act> {
    let index = any::<prop::sample::Index>;
    prop_oneof![
        (any::<bool>(), index()).prop_map(|(up, index)| Act::Replay { up, index }),
        (any::<bool>(), index(), index(), 1_u8..).prop_map(|(up, index, byte, mask)| Act::Flip {
            up,
            index,
            byte,
            mask
        }),
        (
            any::<bool>(),
            0_u8..5,
            any::<u8>(),
            prop_oneof![0_u32..70, any::<u32>()],
            1_usize..5_000
        )
            .prop_map(|(up, stream, body, seq, length)| Act::Forge {
                up,
                stream,
                body,
                seq,
                length
            }),
        (any::<bool>(), proptest::collection::vec(any::<u8>(), 0..80))
            .prop_map(|(up, bytes)| Act::Bytes { up, bytes }),
        (any::<bool>(), 0_u8..5, 1_usize..150_000).prop_map(|(up, stream, length)| Act::Send {
            up,
            stream,
            length
        }),
        (0_u8..5).prop_map(|stream| Act::Open { stream }),
        (any::<bool>(), 0_u8..5).prop_map(|(up, stream)| Act::Reset { up, stream }),
        (any::<bool>(), 0_u8..5, any::<bool>()).prop_map(|(up, stream, paused)| Act::Pause {
            up,
            stream,
            paused
        }),
        (any::<bool>(), 0_u8..5).prop_map(|(up, stream)| Act::Close { up, stream }),
        (1_u64..20_000).prop_map(|millis| Act::Wait { millis }),
        (0_u8..4).prop_map(|verdict| Act::Verdict { verdict }),
        any::<bool>().prop_map(|up| Act::Move { up }),
    ]
}

fn apply(pair: &mut Pair, act: &Act) {
    let name = |stream: &u8| id(&format!("s{stream}"));
    match act {
        Act::Replay { up, index } => {
            let log = if *up { &pair.up.log } else { &pair.down.log };
            if log.is_empty() {
                return;
            }
            let frame = log[index.index(log.len())].clone();
            if *up {
                pair.inject_up(&frame)
            } else {
                pair.inject_down(&frame)
            }
        }
        Act::Flip {
            up,
            index,
            byte,
            mask,
        } => {
            let log = if *up { &pair.up.log } else { &pair.down.log };
            if log.is_empty() {
                return;
            }
            let mut bytes = log[index.index(log.len())].encode().to_vec();
            let byte = byte.index(bytes.len());
            bytes[byte] ^= mask;
            deliver(pair, *up, bytes.into());
        }
        Act::Forge {
            up,
            stream,
            body,
            seq,
            length,
        } => {
            let payload = Bytes::from(vec![0; *length]);
            let body = match body % 6 {
                0 | 1 => Body::Data {
                    seq: Seq(*seq),
                    payload,
                },
                2 => Body::Handshake { payload },
                3 => Body::Resume { next_seq: *seq },
                4 => Body::Heartbeat,
                _ => Body::Reset {
                    reason: "x".to_owned(),
                },
            };
            deliver(pair, *up, Frame::new(name(stream), body).encode());
        }
        Act::Bytes { up, bytes } => deliver(pair, *up, bytes.clone().into()),
        Act::Send { up, stream, length } => {
            let now = pair.now;
            let message = Bytes::from(vec![1; *length]);
            let _ = connection(pair, *up).send(now, &name(stream), message);
        }
        Act::Open { stream } => {
            let key = EXECUTOR.public_key().clone();
            let _ = pair
                .harness
                .open(pair.now, name(stream), key, "authorization");
        }
        Act::Reset { up, stream } => {
            let now = pair.now;
            connection(pair, *up).reset(now, &name(stream));
        }
        Act::Pause { up, stream, paused } => {
            let connection = connection(pair, *up);
            if *paused {
                connection.pause(&name(stream))
            } else {
                connection.resume(&name(stream))
            }
        }
        Act::Close { up, stream } => {
            let now = pair.now;
            connection(pair, *up).close(now, &name(stream));
        }
        Act::Move { up } => {
            let now = pair.now;
            let (config, before) = (pair.config, connection(pair, *up));
            let suspended = before.suspend(now);
            *before = if *up {
                harness_with(config, now)
            } else {
                executor_with(config, now)
            };
            before.adopt(now, suspended);
        }
        Act::Wait { millis } => pair.run(Duration::from_millis(*millis)),
        Act::Verdict { verdict } => {
            pair.verdict = match verdict {
                0 => None,
                1 => Some(Verdict::Refused),
                2 => Some(Verdict::CredentialsRejected),
                _ => Some(Verdict::Approved),
            };
            for token in std::mem::take(&mut pair.requests) {
                pair.executor.authorize(pair.now, &token, Verdict::Approved);
            }
        }
    }
}

fn connection(pair: &mut Pair, up: bool) -> &mut Connection {
    if up {
        &mut pair.harness
    } else {
        &mut pair.executor
    }
}

fn deliver(pair: &mut Pair, up: bool, bytes: Bytes) {
    let now = pair.now;
    let connection = if up {
        &mut pair.executor
    } else {
        &mut pair.harness
    };
    connection.handle_message(now, bytes).unwrap();
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(96))]

    #[test]
    fn any_sequence_of_acts_keeps_the_books(
        acts in proptest::collection::vec(any_act(), 1..60),
        reliability in prop_oneof![
            Just(Reliability::Off),
            Just(Reliability::Acknowledged),
            Just(Reliability::Resumable),
        ],
    ) {
        let config = ConnectionConfig { reliability, ..ConnectionConfig::default() };
        let mut pair = Pair::configured(1, config, config);
        pair.open("s0");
        pair.open("s1");
        pair.settle();
        for act in &acts {
            apply(&mut pair, act);
            pair.settle();
            pair.executor.check_books();
            pair.harness.check_books();
        }
        // The executor still serves a harness that does nothing wrong.
        pair.verdict = Some(Verdict::Approved);
        let mut other = super::pair::harness(pair.now);
        let key = EXECUTOR.public_key().clone();
        other.open(pair.now, id("honest"), key, "authorization").unwrap();
        for frame in frames(&mut other, pair.now) {
            pair.inject_up(&frame);
        }
        prop_assert!(pair.opened.contains(&("executor", id("honest"))));
    }
}

#[test]
fn random_bytes_for_a_long_time() {
    let mut rng = StdRng::seed_from_u64(3);
    let mut pair = Pair::with_streams(&["a"]);
    for _ in 0..20_000 {
        let length = rng.random_range(0..64);
        let bytes: Vec<u8> = (0..length).map(|_| rng.random()).collect();
        deliver(&mut pair, rng.random(), bytes.into());
    }
    pair.harness
        .send(pair.now, &id("a"), Bytes::from_static(b"still here"))
        .unwrap();
    pair.settle();
    assert_eq!(pair.at_executor[&id("a")].len(), 1);
}
