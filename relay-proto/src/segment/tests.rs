//! The golden framing, the limits, and any cut.

use proptest::prelude::*;

use super::*;
use crate::testing::{hex, unhex};

const MESSAGE: &[u8] = br#"{"id":1,"method":"initialize","params":{"clientName":"codex-environment","resumeSessionId":null}}"#;

fn records(messages: &[Bytes]) -> Vec<Bytes> {
    let mut segmenter = Segmenter::default();
    for message in messages {
        segmenter.push(message.clone(), Priority::Ordinary);
    }
    let mut records = Vec::new();
    while segmenter.next_length() > 0 {
        let expected = segmenter.next_length();
        let mut out = BytesMut::new();
        segmenter.fill(&mut out);
        assert_eq!(out.len(), expected);
        records.push(out.freeze());
    }
    assert!(segmenter.is_empty());
    assert_eq!(segmenter.bytes(), 0);
    records
}

fn reassemble(pieces: impl IntoIterator<Item = Bytes>) -> Result<Vec<Bytes>, SegmentError> {
    let mut reassembler = Reassembler::default();
    let mut messages = Vec::new();
    for piece in pieces {
        reassembler.push(piece, |message| messages.push(message))?;
    }
    Ok(messages)
}

#[test]
fn golden_framing_of_one_message() {
    let records = records(&[Bytes::from_static(MESSAGE)]);
    assert_eq!(records.len(), 1);
    assert_eq!(
        hex(&records[0]),
        "000000617b226964223a312c226d6574686f64223a22696e697469616c697a65222c22706172616d73223a7b\
         22636c69656e744e616d65223a22636f6465782d656e7669726f6e6d656e74222c22726573756d6553657373\
         696f6e4964223a6e756c6c7d7d"
    );
    assert_eq!(reassemble(records).unwrap(), [MESSAGE]);
}

#[test]
fn a_message_starts_a_new_record_and_fills_records() {
    let largest_single = limits::RECORD_PLAINTEXT_BYTES - limits::MESSAGE_PREFIX_BYTES;
    let lengths = |messages: &[usize]| {
        let messages: Vec<_> = messages.iter().map(|&n| Bytes::from(vec![1; n])).collect();
        records(&messages)
            .iter()
            .map(Bytes::len)
            .collect::<Vec<_>>()
    };
    assert_eq!(lengths(&[1, 2]), [5, 6]);
    assert_eq!(lengths(&[largest_single]), [61_440]);
    assert_eq!(lengths(&[largest_single + 1, 1]), [61_440, 1, 5]);
    assert_eq!(
        lengths(&[200_000]),
        [61_440, 61_440, 61_440, 200_004 - 3 * 61_440]
    );
}

#[test]
fn impossible_lengths_are_errors_as_soon_as_read() {
    for (prefix, length) in [
        ("00000000", 0),
        ("04000001", 67_108_865),
        ("ffffffff", u32::MAX),
    ] {
        assert_eq!(
            reassemble([unhex(prefix).into()]),
            Err(SegmentError { length })
        );
    }
    assert_eq!(reassemble([unhex("04000000").into()]), Ok(vec![]));
    assert_eq!(
        SegmentError { length: 0 }.to_string(),
        "message of 0 bytes, expected 1 to 67108864 bytes"
    );
}

#[test]
fn a_giant_prefix_reserves_nothing() {
    let mut reassembler = Reassembler::default();
    reassembler
        .push(unhex("04000000aa").into(), |_| panic!("no message"))
        .unwrap();
    assert_eq!(reassembler.held_bytes(), 1);
    assert!(reassembler.body.capacity() < 1_024);
}

#[test]
fn a_message_in_one_record_is_not_copied() {
    let record = records(&[Bytes::from(vec![5; 1000])]).remove(0);
    let range = record.as_ptr_range();
    let messages = reassemble([record.clone()]).unwrap();
    assert!(range.contains(&messages[0].as_ptr()));
}

#[test]
fn room_is_limited_in_messages_and_bytes() {
    let mut segmenter = Segmenter::default();
    assert!(segmenter.has_room_for(limits::MESSAGE_BYTES, Priority::Ordinary));
    segmenter.push(
        Bytes::from(vec![0; limits::STREAM_SEND_BYTES - 1]),
        Priority::Ordinary,
    );
    assert!(segmenter.has_room_for(1, Priority::Ordinary));
    assert!(!segmenter.has_room_for(2, Priority::Ordinary));
    assert!(!segmenter.is_half_empty());
    let mut segmenter = Segmenter::default();
    for _ in 0..limits::STREAM_SEND_MESSAGES {
        assert!(segmenter.has_room_for(1, Priority::Ordinary));
        segmenter.push(Bytes::from_static(b"x"), Priority::Ordinary);
    }
    assert!(!segmenter.has_room_for(1, Priority::Ordinary));
    for _ in 0..limits::STREAM_SEND_MESSAGES / 2 {
        assert!(!segmenter.is_half_empty());
        segmenter.fill(&mut BytesMut::new());
    }
    assert!(segmenter.is_half_empty());
}

proptest! {
    #[test]
    fn any_cut_gives_the_same_messages(
        lengths in proptest::collection::vec(1_usize..5_000, 0..12),
        cuts in proptest::collection::vec(any::<prop::sample::Index>(), 0..40),
        empties in any::<bool>(),
    ) {
        let messages: Vec<Bytes> = lengths
            .iter()
            .zip(0_u8..)
            .map(|(&length, fill)| Bytes::from(vec![fill; length]))
            .collect();
        let stream: Vec<u8> = records(&messages).concat();
        let mut cuts: Vec<usize> = cuts.iter().map(|cut| cut.index(stream.len() + 1)).collect();
        cuts.extend([0, stream.len()]);
        cuts.sort_unstable();
        if !empties {
            cuts.dedup();
        }
        let pieces = cuts.windows(2).map(|cut| Bytes::copy_from_slice(&stream[cut[0]..cut[1]]));
        prop_assert_eq!(reassemble(pieces).unwrap(), messages);
    }

    #[test]
    fn any_bytes_are_messages_or_an_error(bytes in proptest::collection::vec(any::<u8>(), 0..500)) {
        let _ = reassemble([bytes.into()]);
    }
}
