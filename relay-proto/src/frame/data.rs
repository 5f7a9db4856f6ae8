//! Data frames written in one buffer: header here, record sealed in place behind it.
//!
//! The payload is the last field of a frame without trace context, so a record can be encrypted
//! where it will be sent from; a statement follows it. The result has exactly the bytes of
//! [`Frame::encode`].
//!
//! [`Frame::encode`]: super::Frame::encode

use bytes::{BufMut, BytesMut};
use prost::Message;
use prost::encoding::{encode_varint, encoded_len_varint};

use super::{Statement, VERSION, wire};
use crate::ack::Acknowledgement;
use crate::ids::{Seq, StreamId};

/// Starts a data frame; the caller appends exactly `payload` bytes.
pub(crate) fn begin_data(stream: &StreamId, seq: Seq, payload: usize) -> BytesMut {
    begin(stream, seq, payload, Acknowledgement::default(), 0)
}

/// Starts a data frame with an acknowledgement; the caller appends exactly `payload` bytes, and then
/// calls [`end_acked_data`] with the same statement.
pub(crate) fn begin_acked_data(
    stream: &StreamId,
    seq: Seq,
    payload: usize,
    acknowledgement: Acknowledgement,
    statement: &Statement,
) -> BytesMut {
    let length = wire::Statement::from(*statement).encoded_len();
    let trailer = STATEMENT_KEY.len() + encoded_len_varint(length as u64) + length;
    begin(stream, seq, payload, acknowledgement, trailer)
}

/// Ends a frame begun with [`begin_acked_data`].
pub(crate) fn end_acked_data(out: &mut BytesMut, statement: &Statement) {
    let statement = wire::Statement::from(*statement);
    out.put_slice(&STATEMENT_KEY);
    encode_varint(statement.encoded_len() as u64, out);
    statement.encode_raw(out);
}

fn begin(
    stream: &StreamId,
    seq: Seq,
    payload: usize,
    acknowledgement: Acknowledgement,
    trailer: usize,
) -> BytesMut {
    let id = stream.as_str().as_bytes();
    let seq = u64::from(seq.0);
    let acks = [
        (ACK_KEY, u64::from(acknowledgement.ack)),
        (ACK_BITS_KEY, u64::from(acknowledgement.bits)),
    ];
    let payload_header = 1 + encoded_len_varint(payload as u64);
    let data = scalar_length(seq) + SEGMENT_COUNT_1.len() + payload_header + payload;
    let frame = 2 + 1 + encoded_len_varint(id.len() as u64) + id.len();
    let frame = frame
        + acks
            .iter()
            .map(|(_, value)| scalar_length(*value))
            .sum::<usize>();
    let frame = frame + 1 + encoded_len_varint(data as u64) + data + trailer;

    let mut out = BytesMut::with_capacity(frame);
    out.put_u8(0x08);
    encode_varint(u64::from(VERSION), &mut out);
    out.put_u8(0x12);
    encode_varint(id.len() as u64, &mut out);
    out.put_slice(id);
    for (key, value) in acks {
        put_scalar(&mut out, key, value);
    }
    out.put_u8(0x2a);
    encode_varint(data as u64, &mut out);
    put_scalar(&mut out, SEQ_KEY, seq);
    out.put_slice(&SEGMENT_COUNT_1);
    out.put_u8(0x22);
    encode_varint(payload as u64, &mut out);
    out
}

/// Length of a scalar field with a key of one byte; zero is left out.
fn scalar_length(value: u64) -> usize {
    if value == 0 {
        0
    } else {
        1 + encoded_len_varint(value)
    }
}

fn put_scalar(out: &mut BytesMut, key: u8, value: u64) {
    if value != 0 {
        out.put_u8(key);
        encode_varint(value, out);
    }
}

/// Field 3, `ack`.
const ACK_KEY: u8 = 0x18;

/// Field 4, `ack_bits`.
const ACK_BITS_KEY: u8 = 0x20;

/// Field 1 of the data, `seq`.
const SEQ_KEY: u8 = 0x08;

/// Field 3 of the data, `segment_count`, with value 1.
const SEGMENT_COUNT_1: [u8; 2] = [0x18, 0x01];

/// Field 1000, `statement`.
const STATEMENT_KEY: [u8; 2] = [0xc2, 0x3e];
