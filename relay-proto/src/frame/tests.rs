//! Golden bytes of every frame kind, the validity table, and properties.

use proptest::prelude::*;

use super::*;
#[cfg(feature = "noise")]
use crate::ack::Acknowledgement;
use crate::testing::{STREAM, hex, stream_id, unhex};

const PREFIX: &str =
    "0801122433663164326334622d356136392d343738382d393930302d616162626363646465656666";
const TRACE: &str = "5a3730302d30313233343536373839616263646566303132333435363738396162636465662d303132\
                     333435363738396162636465662d30316203613d62";

fn frame(body: Body) -> Frame {
    Frame::new(stream_id(), body)
}

fn payload() -> Bytes {
    Bytes::from_static(&[0xde, 0xad, 0xbe, 0xef])
}

/// Bytes of each kind, as an implementation that talks to Codex 0.169 in both roles sends them.
fn golden() -> Vec<(Frame, String)> {
    let handshake = Bytes::from(unhex("00112233445566778899aabbccddeeff"));
    let traced = Frame {
        traceparent: Some("00-0123456789abcdef0123456789abcdef-0123456789abcdef-01".to_owned()),
        tracestate: Some("a=b".to_owned()),
        ..frame(Body::Data {
            seq: Seq(1),
            payload: payload(),
        })
    };
    let acked = Frame {
        ack: 5,
        ack_bits: 6,
        ..frame(Body::Ack)
    };
    let reset = "421c0a1a6e6f6973655f72656c61795f70726f746f636f6c5f6572726f72";
    [
        (frame(Body::Resume { next_seq: 0 }), "3a00".to_owned()),
        (
            frame(Body::Handshake { payload: handshake }),
            "52120a1000112233445566778899aabbccddeeff".to_owned(),
        ),
        (
            frame(Body::Data {
                seq: Seq(0),
                payload: payload(),
            }),
            "2a0818012204deadbeef".to_owned(),
        ),
        (
            frame(Body::Data {
                seq: Seq(300),
                payload: payload(),
            }),
            "2a0b08ac0218012204deadbeef".to_owned(),
        ),
        (traced, format!("2a0a080118012204deadbeef{TRACE}")),
        (acked, "180520063200".to_owned()),
        (Frame::reset(stream_id()), reset.to_owned()),
        (frame(Body::Heartbeat), "4a00".to_owned()),
    ]
    .into_iter()
    .map(|(frame, tail)| (frame, format!("{PREFIX}{tail}")))
    .collect()
}

#[test]
fn every_kind_has_its_golden_bytes() {
    for (frame, bytes) in golden() {
        assert_eq!(hex(&frame.encode()), bytes);
        assert_eq!(Frame::decode(unhex(&bytes).into()), Ok(frame.clone()));
        let bytes = unhex(&bytes);
        let peek = peek(&bytes).unwrap();
        assert_eq!((peek.stream_id, peek.kind), (STREAM, frame.body.kind()));
    }
}

#[test]
fn invalid_frames_are_named() {
    let version = |tail: &str| format!("1224{}{tail}", &PREFIX[8..]);
    let table = [
        (version("4a00"), "version"),
        (format!("0802{}4a00", version("")), "version"),
        ("08014a00".to_owned(), "stream_id"),
        ("080112004a00".to_owned(), "stream_id"),
        ("080112012a4a00".to_owned(), ""),
        ("08011202200a4a00".to_owned(), "stream_id"),
        (PREFIX.to_owned(), "no_body"),
        (format!("{PREFIX}6a00"), "no_body"),
        // segment_count 0, 2; segment_index 1; empty payload
        (format!("{PREFIX}2a062204deadbeef"), "segmented"),
        (format!("{PREFIX}2a0818022204deadbeef"), "segmented"),
        (format!("{PREFIX}2a0a100118012204deadbeef"), "segmented"),
        (format!("{PREFIX}2a021801"), "empty_payload"),
        (format!("{PREFIX}5200"), "empty_payload"),
        (format!("{PREFIX}4200"), "no_reason"),
        (format!("{PREFIX}2a08"), "malformed"),
        ("ff".to_owned(), "malformed"),
        (format!("{PREFIX}4a00"), ""),
        (format!("{PREFIX}3200"), ""),
        // Unknown fields, as varint, fixed and bytes, do no harm.
        (
            format!("{PREFIX}4a00e8070ae9070102030405060708ea0701ffed0701020304"),
            "",
        ),
    ];
    for (bytes, reason) in table {
        let result = Frame::decode(unhex(&bytes).into());
        let got = result.as_ref().err().map_or("", FrameError::reason);
        assert_eq!(got, reason, "{bytes} gave {result:?}");
    }
    let long = vec![0; limits::WEBSOCKET_MESSAGE_BYTES + 1];
    assert_eq!(Frame::decode(long.into()).unwrap_err().reason(), "too_long");
}

#[test]
fn a_router_sees_past_unknown_versions_and_bodies() {
    let unknown_body = unhex(&format!("0802{}a20601ff", &PREFIX[4..]));
    let peeked = peek(&unknown_body).unwrap();
    assert_eq!((peeked.stream_id, peeked.kind), (STREAM, BodyKind::Unknown));
}

#[test]
fn a_router_refuses_what_is_not_a_frame() {
    for bytes in [
        "",
        "0801",                       // no stream id
        "120120",                     // blank
        "1201ff",                     // not UTF-8
        "1205aa",                     // cut short
        "12ffffffffffffffffff01",     // length of 2^64 - 1
        "12ffffffffffffffffff7f",     // length over 64 bits
        "1201612801",                 // body as a varint
        "12016113",                   // group
        "12016100",                   // field 0
        "120161f8ffffffffffffffffff", // endless key
    ] {
        assert!(peek(&unhex(bytes)).is_err(), "{bytes}");
    }
}

#[test]
fn decoding_does_not_copy_the_payload() {
    let message = Frame::new(
        stream_id(),
        Body::Data {
            seq: Seq(7),
            payload: vec![9; 5000].into(),
        },
    )
    .encode();
    let range = message.as_ptr_range();
    let Body::Data { payload, .. } = Frame::decode(message.clone()).unwrap().body else {
        panic!("not data")
    };
    assert!(range.contains(&payload.as_ptr()));
}

#[cfg(feature = "noise")]
#[test]
fn data_frames_written_in_place_have_the_same_bytes() {
    for seq in [0, 1, 127, 128, 300, u32::MAX] {
        for length in [1, 16, 100, 127, 128, 5_000, limits::RECORD_CIPHERTEXT_BYTES] {
            let payload = Bytes::from(vec![7; length]);
            let mut in_place = begin_data(&stream_id(), Seq(seq), length);
            in_place.extend_from_slice(&payload);
            assert_eq!(
                in_place,
                frame(Body::Data {
                    seq: Seq(seq),
                    payload
                })
                .encode()
            );
            assert_eq!(in_place.len(), in_place.capacity(), "one exact allocation");
        }
    }
}

#[cfg(feature = "noise")]
#[test]
fn acknowledged_data_frames_written_in_place_have_the_same_bytes() {
    for (ack, bits, serial) in [(0, 0, 1), (1, 0, 200), (300, u32::MAX, u64::MAX)] {
        for length in [1, 127, 128, 5_000, limits::RECORD_CIPHERTEXT_BYTES] {
            let statement = Statement {
                serial,
                flags: 7,
                max_seq: ack,
                max_bytes: serial,
                echo: serial - 1,
                tag: [9; 16],
            };
            let payload = Bytes::from(vec![7; length]);
            let acknowledgement = Acknowledgement { ack, bits };
            let mut in_place =
                begin_acked_data(&stream_id(), Seq(ack), length, acknowledgement, &statement);
            in_place.extend_from_slice(&payload);
            end_acked_data(&mut in_place, &statement);
            let whole = Frame {
                ack,
                ack_bits: bits,
                statement: Some(statement),
                ..frame(Body::Data {
                    seq: Seq(ack),
                    payload,
                })
            };
            assert_eq!(in_place, whole.encode());
            assert_eq!(in_place.len(), in_place.capacity(), "one exact allocation");
        }
    }
}

#[test]
fn a_statement_is_an_unknown_field_to_everybody_else() {
    let statement = Statement {
        serial: 1,
        flags: 2,
        max_seq: 3,
        max_bytes: 4,
        echo: 5,
        tag: [0xaa; 16],
    };
    let said = Frame {
        statement: Some(statement),
        ..frame(Body::Ack)
    };
    let tag = "aa".repeat(16);
    let expected = format!("{PREFIX}3200c23e1c0801100218032004280532{:02x}{tag}", 16);
    assert_eq!(hex(&said.encode()), expected);
    // A tag of another length is not one: the rest of the frame counts.
    let odd = format!("{PREFIX}3200c23e050801320100");
    assert_eq!(Frame::decode(unhex(&odd).into()), Ok(frame(Body::Ack)));
}

fn any_body() -> impl Strategy<Value = Body> {
    let bytes = || proptest::collection::vec(any::<u8>(), 1..300).prop_map(Bytes::from);
    prop_oneof![
        (any::<u32>(), bytes()).prop_map(|(seq, payload)| Body::Data {
            seq: Seq(seq),
            payload
        }),
        Just(Body::Ack),
        any::<u32>().prop_map(|next_seq| Body::Resume { next_seq }),
        ".{1,40}".prop_map(|reason| Body::Reset { reason }),
        Just(Body::Heartbeat),
        bytes().prop_map(|payload| Body::Handshake { payload }),
    ]
}

fn any_statement() -> impl Strategy<Value = Statement> {
    (
        any::<u64>(),
        any::<u32>(),
        any::<u32>(),
        any::<u64>(),
        any::<u64>(),
        any::<[u8; 16]>(),
    )
        .prop_map(|(serial, flags, max_seq, max_bytes, echo, tag)| Statement {
            serial,
            flags,
            max_seq,
            max_bytes,
            echo,
            tag,
        })
}

fn any_frame() -> impl Strategy<Value = Frame> {
    let text = || proptest::option::of(".{0,60}");
    (
        "[!-~]{1,60}",
        any::<u32>(),
        any::<u32>(),
        any_body(),
        text(),
        text(),
        proptest::option::of(any_statement()),
    )
        .prop_map(
            |(stream, ack, ack_bits, body, traceparent, tracestate, statement)| Frame {
                stream_id: StreamId::new(stream).unwrap(),
                ack,
                ack_bits,
                body,
                traceparent,
                tracestate,
                statement,
            },
        )
}

proptest! {
    #[test]
    fn frames_round_trip(frame in any_frame()) {
        let bytes = frame.encode();
        let peeked = peek(&bytes).unwrap();
        prop_assert_eq!(peeked.stream_id, frame.stream_id.as_str());
        prop_assert_eq!(peeked.kind, frame.body.kind());
        prop_assert_eq!(Frame::decode(bytes).unwrap(), frame);
    }

    #[test]
    fn a_router_agrees_with_the_decoder_on_any_bytes(
        frame in any_frame(),
        cut in any::<prop::sample::Index>(),
        flip in any::<(prop::sample::Index, u8)>(),
    ) {
        let mut bytes = frame.encode().to_vec();
        bytes.truncate(cut.index(bytes.len() + 1));
        if !bytes.is_empty() {
            let index = flip.0.index(bytes.len());
            bytes[index] ^= flip.1;
        }
        let decoded = Frame::decode(bytes.clone().into());
        let peeked = peek(&bytes);
        if let Ok(frame) = decoded {
            // A group is the one shape that the decoder skips and the router refuses.
            if let Ok(peeked) = peeked {
                prop_assert_eq!(peeked.stream_id, frame.stream_id.as_str());
                prop_assert_eq!(peeked.kind, frame.body.kind());
            }
        }
    }

    #[test]
    fn garbage_never_panics(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
        let _ = peek(&bytes);
        let _ = Frame::decode(bytes.into());
    }
}
