//! The parts by themselves.

use std::hint::black_box;

use bytes::{Bytes, BytesMut};

use super::Work;
use crate::ack::Acknowledgement;
use crate::frame::{Body, Frame, Statement, begin_acked_data, end_acked_data, peek};
use crate::ids::{Seq, StreamId};
use crate::limits;
use crate::noise::Transport;
use crate::reorder::Reorder;
use crate::segment::{Priority, Reassembler, Segmenter};

/// So many arrive in one run.
pub(super) const RECORDS: usize = 512;

/// Records that come in the opposite order.
const GROUP: usize = 8;

pub(super) fn seal(length: usize) -> Work {
    let [mut transport, _] = Transport::known_pair().unwrap();
    let mut buffer = BytesMut::from(&*text(length));
    buffer.reserve(limits::RECORD_TAG_BYTES);
    Box::new(move || {
        buffer.truncate(length);
        transport.sealer.seal(&mut buffer, 0).unwrap();
        black_box(&buffer);
    })
}

/// Includes the copy that a record is opened in.
pub(super) fn open(length: usize) -> Work {
    let [mut sender, receiver] = Transport::known_pair().unwrap();
    let mut record = BytesMut::from(&*text(length));
    sender.sealer.seal(&mut record, 0).unwrap();
    let record = record.freeze();
    Box::new(move || {
        let arrived = Bytes::copy_from_slice(&record);
        let plaintext = receiver.opener.open_at(Seq::ZERO, arrived).unwrap();
        black_box(plaintext);
    })
}

/// As it is done for all frames but those with data.
pub(super) fn encode_frame(length: usize) -> Work {
    let frame = data_frame(length);
    Box::new(move || {
        black_box(frame.encode());
    })
}

/// As it is done for frames with data, whose record is sealed in its place.
pub(super) fn begin_frame(length: usize) -> Work {
    let payload = text(length);
    Box::new(move || {
        let acknowledgement = Acknowledgement { ack: 5, bits: 9 };
        let mut frame = begin_acked_data(
            &stream_id(),
            Seq(70_000),
            payload.len(),
            acknowledgement,
            &STATEMENT,
        );
        frame.extend_from_slice(&payload);
        end_acked_data(&mut frame, &STATEMENT);
        black_box(frame.freeze());
    })
}

pub(super) fn decode_frame(length: usize) -> Work {
    let encoded = data_frame(length).encode();
    Box::new(move || {
        black_box(Frame::decode(encoded.clone()).unwrap());
    })
}

pub(super) fn peek_frame(length: usize) -> Work {
    let encoded = data_frame(length).encode();
    Box::new(move || {
        black_box(peek(black_box(&encoded)).unwrap());
    })
}

pub(super) fn in_turn() -> Work {
    arrive((0..RECORDS).collect())
}

pub(super) fn mixed_up() -> Work {
    let groups = (0..RECORDS / GROUP).map(|group| group * GROUP);
    arrive(
        groups
            .flat_map(|first| (first..first + GROUP).rev())
            .collect(),
    )
}

fn arrive(numbers: Vec<usize>) -> Work {
    let record = text(super::SMALL);
    let numbers: Vec<_> = numbers
        .into_iter()
        .map(|number| Seq(u32::try_from(number).unwrap()))
        .collect();
    Box::new(move || {
        let mut reorder = Reorder::new();
        let mut left = 0;
        for number in &numbers {
            reorder.insert(*number, record.clone()).unwrap();
            black_box(reorder.acknowledgement());
            while let Some(record) = reorder.pop() {
                left += usize::from(!record.is_empty());
            }
        }
        assert_eq!(left, RECORDS);
    })
}

pub(super) fn cut(length: usize, count: usize) -> Work {
    let message = text(length);
    let mut plaintext = BytesMut::with_capacity(limits::RECORD_PLAINTEXT_BYTES);
    Box::new(move || {
        let mut segmenter = Segmenter::default();
        for _ in 0..count {
            segmenter.push(message.clone(), Priority::Ordinary);
        }
        while segmenter.next_length() > 0 {
            plaintext.clear();
            segmenter.fill(&mut plaintext);
            black_box(&plaintext);
        }
    })
}

pub(super) fn join(length: usize, count: usize) -> Work {
    let mut segmenter = Segmenter::default();
    for _ in 0..count {
        segmenter.push(text(length), Priority::Ordinary);
    }
    let mut plaintexts = Vec::new();
    while segmenter.next_length() > 0 {
        let mut plaintext = BytesMut::new();
        segmenter.fill(&mut plaintext);
        plaintexts.push(plaintext.freeze());
    }
    Box::new(move || {
        let mut reassembler = Reassembler::default();
        let mut messages = 0;
        for plaintext in &plaintexts {
            let deliver = |message: Bytes| messages += usize::from(message.len() == length);
            reassembler.push(plaintext.clone(), deliver).unwrap();
        }
        assert_eq!(messages, count);
    })
}

fn data_frame(length: usize) -> Frame {
    let seq = Seq(70_000);
    let payload = text(length);
    Frame {
        ack: 5,
        ack_bits: 9,
        statement: Some(STATEMENT),
        ..Frame::new(stream_id(), Body::Data { seq, payload })
    }
}

const STATEMENT: Statement = Statement {
    serial: 300,
    flags: Statement::RESUMABLE,
    max_seq: 70_512,
    max_bytes: 5_000_000_000,
    echo: 299,
    tag: [7; 16],
};

/// As long as those of real streams.
pub(super) fn stream_id() -> StreamId {
    StreamId::new("3f1d2c4b-5a69-4788-9900-aabbccddeeff").unwrap()
}

pub(super) fn text(length: usize) -> Bytes {
    (b'a'..=b'z').cycle().take(length).collect()
}
