//! Golden handshake with fixed keys, and hostile input.

use std::collections::VecDeque;

use bytes::{Bytes, BytesMut};
use clatter::bytearray::ByteArray;
use clatter::traits::Handshaker;
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use sha2::{Digest, Sha256};

use super::rng::Source;
use super::*;
use crate::ack::Acknowledgement;
use crate::frame::{Body, BodyKind, Frame, Statement};
use crate::ids::Seq;
use crate::keys::PublicKey;
use crate::limits;
use crate::testing::{environment, hex, registration, stream_id, unhex};

/// Yields 32 times each byte, in order, then fails the test.
struct Script(VecDeque<u8>);

impl Source for Script {
    fn fill(&mut self, out: &mut [u8]) {
        assert_eq!(out.len(), 32, "every draw of the handshake is 32 bytes");
        out.fill(self.0.pop_front().expect("the script is long enough"));
    }
}

fn script(bytes: &[u8]) -> HandshakeRng {
    HandshakeRng::new(Script(bytes.iter().copied().collect()))
}

fn sha256(bytes: &[u8]) -> String {
    hex(&Sha256::digest(bytes))
}

fn golden_prologue() -> Vec<u8> {
    prologue(&environment(), &registration(), &stream_id())
}

/// X25519 private, then ML-KEM d and z.
fn responder() -> Identity {
    Identity::from_rng(script(&[1, 2, 3])).unwrap()
}

fn initiator() -> Identity {
    Identity::from_rng(script(&[4, 5, 6])).unwrap()
}

fn seeded(n: u8) -> HandshakeRng {
    HandshakeRng::seeded([n; 32])
}

fn pair() -> (Transport, Transport) {
    let (executor, harness) = (responder(), initiator());
    let prologue = golden_prologue();
    let (waiting, message) = Initiator::start(
        &harness,
        executor.public_key(),
        &prologue,
        "auth",
        seeded(1),
    )
    .unwrap();
    let heard = Unauthorized::read(&executor, &prologue, &message, seeded(2)).unwrap();
    assert_eq!(heard.authorization(), "auth");
    assert_eq!(heard.harness_key(), harness.public_key());
    let (at_executor, answer) = heard.approve().unwrap();
    (waiting.finish(&answer).unwrap(), at_executor)
}

fn seal(sealer: &mut Sealer, plaintext: &[u8]) -> Bytes {
    let mut buffer = BytesMut::from(plaintext);
    sealer.seal(&mut buffer, 0).unwrap();
    buffer.freeze()
}

const MESSAGE: &[u8] = br#"{"id":1,"method":"initialize","params":{"clientName":"codex-environment","resumeSessionId":null}}"#;

fn statements() -> StatementKeys {
    StatementKeys::derive(&[1; 32], &[2; 32], false)
}

#[test]
fn statements_are_verified_by_the_other_end_only() {
    let (harness, executor) = pair();
    let tag = harness.statements.sign(b"text");
    assert!(executor.statements.verify(b"text", &tag));
    assert!(!executor.statements.verify(b"texT", &tag));
    // Not as its own: what one end says cannot be sent back to it.
    assert!(!harness.statements.verify(b"text", &tag));
    let mut flipped = tag;
    flipped[15] ^= 1;
    assert!(!executor.statements.verify(b"text", &flipped));
    let (other, _) = pair();
    assert_eq!(other.statements.sign(b"text"), tag, "the pair is seeded");
}

#[test]
fn golden_statement_tags() {
    let keys = |initiator| {
        StatementKeys::derive(
            &unhex("eef88642ab33c820ef91ad3b42c63c1c438b341f4a516d87ed631591f4f6596d"),
            &unhex("24566117e1b4020645b5f0a11c99180d322c2c8cf03c1ddb963d3de6d09adc90"),
            initiator,
        )
    };
    assert_eq!(hex(&keys(true).sign(b"")), GOLDEN_HARNESS_TAG);
    assert_eq!(hex(&keys(false).sign(b"")), GOLDEN_EXECUTOR_TAG);
}

#[test]
fn golden_hello() {
    let keys = StatementKeys::derive(
        &unhex("eef88642ab33c820ef91ad3b42c63c1c438b341f4a516d87ed631591f4f6596d"),
        &unhex("24566117e1b4020645b5f0a11c99180d322c2c8cf03c1ddb963d3de6d09adc90"),
        true,
    );
    let mut statement = Statement {
        serial: 1,
        flags: Statement::ANSWER,
        max_seq: 512,
        max_bytes: 1_048_576,
        ..Statement::default()
    };
    let acknowledgement = Acknowledgement { ack: 5, bits: 6 };
    let text = statement.text(BodyKind::Ack, acknowledgement, 0);
    statement.tag = keys.sign(&text);
    let hello = Frame {
        ack: acknowledgement.ack,
        ack_bits: acknowledgement.bits,
        statement: Some(statement),
        ..Frame::new(stream_id(), Body::Ack)
    };
    let frame = hex(&hello.encode());
    let stream = hex(stream_id().as_str().as_bytes());
    assert_eq!(frame, format!("08011224{stream}{GOLDEN_HELLO}"));
}

#[test]
fn golden_prologue_bytes() {
    let prologue = golden_prologue();
    assert_eq!(
        hex(&prologue),
        "0000000000000020636f6465782d657865632d7365727665722d72656c61792d\
         6e6f6973652f76310000000000000008656e765f746573740000000000000008\
         7265675f30303031000000000000002433663164326334622d356136392d3437\
         38382d393930302d616162626363646465656666"
    );
    assert_eq!(
        sha256(&prologue),
        "53fbf5dfb4a3407d96a6e835942b12241b0552aec36b22f7add8ebaccdbc56be"
    );
}

#[test]
fn golden_handshake_and_records() {
    let (executor, harness) = (responder(), initiator());
    assert_eq!(
        hex(executor.public_key().x25519()),
        "a4e09292b651c278b9772c569f5fa9bb13d906b46ab68c9df9dc2b4409f8a209"
    );
    assert_eq!(
        hex(harness.public_key().x25519()),
        "ac01b2209e86354fb853237b5de0f4fab13c7fcbf433a61c019369617fecf10b"
    );
    assert_eq!(
        sha256(executor.public_key().mlkem768()),
        "718469495294b6b0b9875f0cd62f2b8fda0ac3852711a87d5c461d7d0d9df7a3"
    );
    assert_eq!(
        sha256(harness.public_key().mlkem768()),
        "120bc5fb90583af2dc7046c2aba38df128d8d683ffdc1d98c84d840d42ed6afa"
    );

    let prologue = golden_prologue();
    // skem m=10; e: X25519 7, ML-KEM d=8, z=9.
    let (waiting, message_1) = Initiator::start(
        &harness,
        executor.public_key(),
        &prologue,
        "auth-token-1",
        script(&[10, 7, 8, 9]),
    )
    .unwrap();
    assert_eq!(message_1.len(), 3_580);
    assert_eq!(hex(&message_1[..16]), "b21fc36896717c17c691678246ddcc21");
    assert_eq!(
        hex(&message_1[message_1.len() - 28..]),
        "07579855f7cb1c03a609155ba2377fb740b9028911b205f8ff0c8d40"
    );
    assert_eq!(
        sha256(&message_1),
        "3d66d23eaec225ce737c19d2056a19570843de2f69399ce775b256ab213f8e7d"
    );
    let state = waiting.handshake().get_state();
    assert_eq!(
        hex(state.get_hash().as_slice()),
        "069236b3bc47fc383d89f4381b14f1c88ae23d430e21b1d811dc437be4f2d363"
    );
    assert_eq!(
        hex(state.get_chaining_key().as_slice()),
        "1b3f618dee7020879fe1d8ed8b91910d5b664ca5e21fa47007d8af81042f43b2"
    );

    // ekem m=14, skem m=15; e: X25519 11, ML-KEM d=12, z=13.
    let heard = Unauthorized::read(
        &executor,
        &prologue,
        &message_1,
        script(&[14, 15, 11, 12, 13]),
    )
    .unwrap();
    assert_eq!(heard.authorization(), "auth-token-1");
    assert_eq!(heard.harness_key(), harness.public_key());
    let (mut at_executor, message_2) = heard.approve().unwrap();
    assert_eq!(message_2.len(), 3_424);
    assert_eq!(
        hex(&message_2[message_2.len() - 16..]),
        "689c6d8470170d284bdbcdb1fcefb89c"
    );
    assert_eq!(
        sha256(&message_2),
        "f183b3c3d6087054fab35011a333284362bef4ba2e322f7c0a3243b476999d3e"
    );

    let mut finished = waiting.handshake().clone();
    finished.read_message(&message_2, &mut []).unwrap();
    let state = finished.get_state();
    assert_eq!(
        hex(state.get_hash().as_slice()),
        "24566117e1b4020645b5f0a11c99180d322c2c8cf03c1ddb963d3de6d09adc90"
    );
    assert_eq!(
        hex(state.get_chaining_key().as_slice()),
        "eef88642ab33c820ef91ad3b42c63c1c438b341f4a516d87ed631591f4f6596d"
    );
    let mut at_harness = waiting.finish(&message_2).unwrap();
    let plaintext = [&[0, 0, 0, 97], MESSAGE].concat();
    let record = seal(&mut at_harness.sealer, &plaintext);
    assert_eq!(
        hex(&record),
        "64fbef319c3abfcb3e2372b7128a6ba4550060d5746c838607dbb130a3696e5437697fb9cc2c4250941c8482\
         31ff34732152b71fdb80429dc48b83cdff879fba7c0ad1a9f885dfacbb8fdba1470e861090d7803d085bd4de\
         5e68a9b9c5b5372ee754f4e1c602c7de5253b9302aacbc66b6610f5aaa"
    );
    assert_eq!(at_executor.opener.open(record).unwrap(), plaintext);
    let record = seal(&mut at_executor.sealer, &unhex("000000027b7d"));
    assert_eq!(hex(&record), "3ca84aa6ac135a3e6a3600455ed1e52ef8f08f1f1805");
    assert_eq!(
        at_harness.opener.open(record).unwrap(),
        &unhex("000000027b7d")[..]
    );
}

#[test]
fn the_golden_transport_keys_are_used() {
    // The same keys, put in by hand, give the same records: this pins the direction of each key.
    let to_responder = unhex("1872e61323ca379b742005a0a2dee83d4446b4982460be3294f80eba30242e8b");
    let to_initiator = unhex("89fffa48c6675df52f7fb51794a8786ae7ae8c413935112e18e3d4c97dce4cac");
    let mut at_executor = Transport::new(&to_initiator, &to_responder, statements()).unwrap();
    let record = seal(&mut at_executor.sealer, &unhex("000000027b7d"));
    assert_eq!(hex(&record), "3ca84aa6ac135a3e6a3600455ed1e52ef8f08f1f1805");
    let mut at_harness = Transport::new(&to_responder, &to_initiator, statements()).unwrap();
    let record = seal(&mut at_harness.sealer, &[&[0, 0, 0, 97], MESSAGE].concat());
    assert_eq!(hex(&record[..16]), "64fbef319c3abfcb3e2372b7128a6ba4");
}

#[test]
fn the_initial_hash_is_the_golden_one() {
    let message = |prologue: &[u8]| {
        let executor = responder();
        let (waiting, _) = Initiator::start(
            &initiator(),
            executor.public_key(),
            prologue,
            "",
            script(&[10, 7, 8, 9]),
        )
        .unwrap();
        waiting.handshake().get_name().to_string()
    };
    let name = message(&golden_prologue());
    assert_eq!(name, "Noise_hybridIK_25519+MLKEM768_AESGCM_SHA256");
    let initial = Sha256::digest(name.as_bytes());
    assert_eq!(
        hex(&initial),
        "646856ce6fda9f9f037c69557c3c9f5ada7d1bc70b0c4beea72befcaf862edfa"
    );
    let mut with_prologue = initial.to_vec();
    with_prologue.extend_from_slice(&golden_prologue());
    assert_eq!(
        sha256(&with_prologue),
        "ca83f7d8d4100fe499052dd5ad5b54e6fef187be6c258de9d10b52da0d1ad50a"
    );
}

#[test]
fn the_sentinel_names_rejected_credentials() {
    let (executor, harness) = (responder(), initiator());
    let prologue = golden_prologue();
    let (waiting, message) =
        Initiator::start(&harness, executor.public_key(), &prologue, "a", seeded(1)).unwrap();
    let answer = Unauthorized::read(&executor, &prologue, &message, seeded(2))
        .unwrap()
        .reject_credentials()
        .unwrap();
    assert_eq!(answer.len(), 3_465);
    assert_eq!(
        waiting.finish(&answer).err(),
        Some(HandshakeError::CredentialsRejected)
    );
}

#[test]
fn other_prologues_keys_and_changed_bytes_fail() {
    let (executor, harness) = (responder(), initiator());
    let prologue = golden_prologue();
    let start = || {
        Initiator::start(
            &harness,
            executor.public_key(),
            &prologue,
            "auth",
            seeded(1),
        )
        .unwrap()
    };
    let (_, message) = start();
    let other = Identity::from_rng(seeded(9)).unwrap();
    assert!(Unauthorized::read(&other, &prologue, &message, seeded(2)).is_err());
    assert!(Unauthorized::read(&executor, b"other", &message, seeded(2)).is_err());
    // Every region of the message: KEM ciphertext, ephemeral keys, static keys, payload, tag.
    for index in [
        0,
        1087,
        1088,
        1120,
        2303,
        2304,
        2352,
        3551,
        3552,
        message.len() - 1,
    ] {
        let mut changed = message.to_vec();
        changed[index] ^= 1;
        assert!(
            Unauthorized::read(&executor, &prologue, &changed, seeded(2)).is_err(),
            "byte {index}"
        );
    }
    let answer = || {
        let (waiting, message) = start();
        let heard = Unauthorized::read(&executor, &prologue, &message, seeded(2)).unwrap();
        (waiting, heard.approve().unwrap().1.to_vec())
    };
    let length = answer().1.len();
    for index in [0, 1087, 1088, 2191, 2192, 2224, length - 16, length - 1] {
        let (waiting, mut changed) = answer();
        changed[index] ^= 1;
        assert!(waiting.finish(&changed).is_err(), "byte {index}");
    }
}

#[test]
fn authorization_is_bounded_and_utf8() {
    let (executor, harness) = (responder(), initiator());
    let prologue = golden_prologue();
    let start = |authorization: &str| {
        Initiator::start(
            &harness,
            executor.public_key(),
            &prologue,
            authorization,
            seeded(1),
        )
    };
    let longest = "x".repeat(limits::AUTHORIZATION_BYTES);
    let (_, message) = start(&longest).unwrap();
    let heard = Unauthorized::read(&executor, &prologue, &message, seeded(2)).unwrap();
    assert_eq!(heard.authorization(), longest);
    let (_, message) = start("").unwrap();
    assert_eq!(
        Unauthorized::read(&executor, &prologue, &message, seeded(2))
            .unwrap()
            .authorization(),
        ""
    );
    assert_eq!(
        start(&format!("{longest}x")).err(),
        Some(HandshakeError::AuthorizationTooLong { length: 4_097 })
    );

    // What our own initiator would not send.
    let raw = |payload: &[u8]| {
        let (_, out) = Initiator::start_with(
            &harness,
            executor.public_key(),
            &prologue,
            payload,
            seeded(1),
        )
        .unwrap();
        Unauthorized::read(&executor, &prologue, &out, seeded(2)).err()
    };
    assert_eq!(
        raw(&[0xff, 0xfe]),
        Some(HandshakeError::AuthorizationNotUtf8)
    );
    assert_eq!(
        raw(&[b'x'; 4_097]),
        Some(HandshakeError::AuthorizationTooLong { length: 4_097 })
    );
    assert_eq!(raw(b"ok"), None);
}

#[test]
fn keys_of_low_order_and_not_canonical_are_refused() {
    let (executor, harness) = (responder(), initiator());
    let prologue = golden_prologue();
    let start = |key: &PublicKey| Initiator::start(&harness, key, &prologue, "", seeded(1)).err();
    let low_order = PublicKey::from_parts(&[0; 32], executor.public_key().mlkem768()).unwrap();
    assert_eq!(start(&low_order), Some(HandshakeError::Rejected));
    let not_canonical =
        PublicKey::from_parts(executor.public_key().x25519(), &[0xff; 1184]).unwrap();
    assert_eq!(start(&not_canonical), Some(HandshakeError::PublicKey));
    assert_eq!(start(executor.public_key()), None);
}

#[test]
fn garbage_of_any_length_never_panics() {
    let (executor, harness) = (responder(), initiator());
    let prologue = golden_prologue();
    let mut rng = StdRng::seed_from_u64(1);
    let lengths = [
        0, 1, 15, 16, 1_087, 1_088, 3_423, 3_424, 3_425, 3_567, 3_568, 3_569, 65_535, 65_536,
        262_144,
    ];
    for length in lengths {
        let garbage: Vec<u8> = (0..length).map(|_| rng.random()).collect();
        assert!(Unauthorized::read(&executor, &prologue, &garbage, seeded(2)).is_err());
        let (waiting, message) =
            Initiator::start(&harness, executor.public_key(), &prologue, "", seeded(1)).unwrap();
        assert!(waiting.finish(&garbage).is_err());
        let mut extended = message.to_vec();
        extended.resize(length, 0);
        if length != message.len() {
            assert!(Unauthorized::read(&executor, &prologue, &extended, seeded(2)).is_err());
        }
    }
}

#[test]
fn records_of_any_length_never_panic() {
    let (mut harness, mut executor) = pair();
    for length in [0, 1, 15, 16, 17, 61_456, 61_457, 262_144] {
        let error = executor.opener.open(vec![7; length].into()).unwrap_err();
        let expected = if (16..=61_456).contains(&length) {
            RecordError::Failed
        } else {
            RecordError::Length { length }
        };
        assert_eq!(error, expected);
    }
    // None of them moved the counter.
    let record = seal(&mut harness.sealer, b"");
    assert_eq!(record.len(), 16);
    assert_eq!(executor.opener.open(record).unwrap(), &b""[..]);
}

#[test]
fn the_largest_record_is_sealed_and_a_larger_one_is_not() {
    let (mut harness, mut executor) = pair();
    let largest = vec![1; limits::RECORD_PLAINTEXT_BYTES];
    let record = seal(&mut harness.sealer, &largest);
    assert_eq!(record.len(), limits::RECORD_CIPHERTEXT_BYTES);
    assert_eq!(executor.opener.open(record).unwrap(), largest);
    let mut buffer = BytesMut::from(&vec![1; limits::RECORD_PLAINTEXT_BYTES + 1][..]);
    assert_eq!(
        harness.sealer.seal(&mut buffer, 0),
        Err(RecordError::Length {
            length: limits::RECORD_CIPHERTEXT_BYTES + 1
        })
    );
    assert_eq!(harness.sealer.next_seq(), Some(Seq(1)));
}

#[test]
fn sequence_numbers_end_and_are_never_used_twice() {
    let (mut harness, _) = pair();
    harness.sealer.skip_to(Seq(u32::MAX - 1));
    seal(&mut harness.sealer, b"last");
    assert_eq!(harness.sealer.next_seq(), None);
    let mut buffer = BytesMut::from(&b"one too many"[..]);
    assert_eq!(
        harness.sealer.seal(&mut buffer, 0),
        Err(RecordError::Exhausted)
    );
    assert_eq!(buffer, &b"one too many"[..]);
}

#[test]
fn records_open_only_in_order_and_once() {
    let (mut harness, mut executor) = pair();
    let records: Vec<_> = (0..3).map(|n| seal(&mut harness.sealer, &[n])).collect();
    assert_eq!(
        executor.opener.open(records[1].clone()),
        Err(RecordError::Failed)
    );
    assert_eq!(executor.opener.open(records[0].clone()).unwrap(), &[0][..]);
    assert_eq!(
        executor.opener.open(records[0].clone()),
        Err(RecordError::Failed)
    );
    assert_eq!(executor.opener.open(records[1].clone()).unwrap(), &[1][..]);
}

#[test]
fn seeds_decide_everything() {
    let start = |seed| {
        Initiator::start(
            &initiator(),
            responder().public_key(),
            &[],
            "",
            seeded(seed),
        )
        .unwrap()
        .1
    };
    assert_eq!(start(1), start(1));
    assert_ne!(start(1), start(2));
    let identity = |seed| Identity::generate(&mut StdRng::seed_from_u64(seed)).unwrap();
    assert_eq!(identity(1).public_key(), identity(1).public_key());
    assert_ne!(identity(1).public_key(), identity(2).public_key());
}

#[test]
fn a_generator_that_was_not_provided_is_not_predictable() {
    use clatter::rand_core::RngCore;
    let draw = || HandshakeRng::default().next_u64();
    assert_ne!(draw(), draw());
}

#[test]
fn debug_of_an_identity_shows_no_secret() {
    let identity = responder();
    assert_eq!(
        format!("{identity:?}"),
        "Identity { public_key: PublicKey(a4e09292..), .. }"
    );
}

/// Tags of the empty text under the keys of the golden handshake, computed independently.
const GOLDEN_HARNESS_TAG: &str = "2ac98db2b8c67a55ff03fac7b195649d";
const GOLDEN_EXECUTOR_TAG: &str = "6b62687a1681a34639076afe029822ff";

/// A hello after the stream id, computed independently: acknowledgement, empty body, statement.
const GOLDEN_HELLO: &str =
    "180520063200c23e1d08011001188004208080403210cbabd916b60364c592f8752911d0decc";
