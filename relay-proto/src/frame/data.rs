//! Data frames written in one buffer: header here, record sealed in place behind it.
//!
//! The payload is the last field of a frame without trace context, so a record can be encrypted
//! where it will be sent from. The result has exactly the bytes of [`Frame::encode`].
//!
//! [`Frame::encode`]: super::Frame::encode

use bytes::{BufMut, BytesMut};
use prost::encoding::{encode_varint, encoded_len_varint};

use super::VERSION;
use crate::ids::{Seq, StreamId};

/// Starts a data frame; the caller appends exactly `payload` bytes.
pub(crate) fn begin_data(stream: &StreamId, seq: Seq, payload: usize) -> BytesMut {
    let id = stream.as_str().as_bytes();
    let seq = u64::from(seq.0);
    let payload_header = 1 + encoded_len_varint(payload as u64);
    let seq_field = if seq == 0 {
        0
    } else {
        1 + encoded_len_varint(seq)
    };
    let data = seq_field + SEGMENT_COUNT_1.len() + payload_header + payload;
    let frame = 2 + 1 + encoded_len_varint(id.len() as u64) + id.len();
    let frame = frame + 1 + encoded_len_varint(data as u64) + data;

    let mut out = BytesMut::with_capacity(frame);
    out.put_u8(0x08);
    encode_varint(u64::from(VERSION), &mut out);
    out.put_u8(0x12);
    encode_varint(id.len() as u64, &mut out);
    out.put_slice(id);
    out.put_u8(0x2a);
    encode_varint(data as u64, &mut out);
    if seq != 0 {
        out.put_u8(0x08);
        encode_varint(seq, &mut out);
    }
    out.put_slice(&SEGMENT_COUNT_1);
    out.put_u8(0x22);
    encode_varint(payload as u64, &mut out);
    out
}

/// Field 3, `segment_count`, with value 1.
const SEGMENT_COUNT_1: [u8; 2] = [0x18, 0x01];
