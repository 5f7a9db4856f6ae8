//! Bulk messages: a JSON-RPC message whose payloads follow the text as they are.
//!
//! ```text
//! 0       1  0xB1, which begins no JSON text and no UTF-8 text
//! 1       4  h, length of the text
//! 5       4  n, number of payloads, at least 1
//! 9       h  the message, with numbers 0 to n - 1 where payloads would be in base64
//! 9 + h  9n  for each payload: coding (1), bytes here (4), bytes when decoded (4)
//!            the payloads, one after another, to the end of the message
//! ```
//!
//! All numbers are unsigned and big endian. Coding 0 leaves a payload as it is; coding 1 is a zstd
//! frame, between ends that have agreed on that.

use bytes::{Buf as _, BufMut as _, Bytes, BytesMut};

use super::{Form, Message, ParseError, message, zstd};
use crate::payload::Payloads;

/// First byte of every bulk message.
pub const MARKER: u8 = 0xB1;

/// Most payloads of one message.
pub const MAX_PAYLOADS: usize = 65_536;

/// Most bytes of all payloads of one message, as they are when decoded.
pub const MAX_PAYLOAD_BYTES: usize = 64 << 20;

/// Most bytes of all compressed payloads of one message when decoded. Few bytes can stand for many,
/// so this is what a message can make its receiver hold beyond its own length.
pub const MAX_UNPACKED_BYTES: usize = 4 << 20;

/// Marker, length of the text, number of payloads.
const HEAD_BYTES: usize = 9;

/// What the table says of one payload.
const ENTRY_BYTES: usize = 9;

/// The payload is as it is.
const PLAIN: u8 = 0;

/// The payload is a zstd frame.
const ZSTD: u8 = 1;

/// Puts a message together; `None` if it is beyond a limit.
pub(super) fn join(text: &[u8], payloads: &[Bytes], form: Form) -> Option<Bytes> {
    let bytes: usize = payloads.iter().map(Bytes::len).sum();
    if payloads.len() > MAX_PAYLOADS || bytes > MAX_PAYLOAD_BYTES {
        return None;
    }
    let packed = match form {
        Form::Compressed => pack(payloads),
        Form::Bulk | Form::Json => Vec::new(),
    };
    let packed = |number: usize| packed.get(number).and_then(Option::as_deref);
    let sent = |(number, payload)| packed(number).map_or_else(|| Bytes::len(payload), <[u8]>::len);
    let bytes: usize = payloads.iter().enumerate().map(sent).sum();
    let size = HEAD_BYTES + text.len() + payloads.len() * ENTRY_BYTES + bytes;
    let mut message = BytesMut::with_capacity(size);
    message.put_u8(MARKER);
    message.put_u32(u32::try_from(text.len()).ok()?);
    message.put_u32(u32::try_from(payloads.len()).ok()?);
    message.put_slice(text);
    for (number, payload) in payloads.iter().enumerate() {
        let (coding, length) = match packed(number) {
            Some(packed) => (ZSTD, packed.len()),
            None => (PLAIN, payload.len()),
        };
        message.put_u8(coding);
        message.put_u32(u32::try_from(length).ok()?);
        message.put_u32(u32::try_from(payload.len()).ok()?);
    }
    for (number, payload) in payloads.iter().enumerate() {
        message.put_slice(packed(number).unwrap_or(payload));
    }
    Some(message.freeze())
}

/// Compresses the payloads for which that pays, as many as one message may have.
fn pack(payloads: &[Bytes]) -> Vec<Option<Vec<u8>>> {
    let mut room = MAX_UNPACKED_BYTES;
    let pack = |payload: &Bytes| {
        let left = room.checked_sub(payload.len())?;
        let packed = zstd::pack(payload)?;
        room = left;
        Some(packed)
    };
    payloads.iter().map(pack).collect()
}

/// What its compressed payloads say that they are when decoded, if it has a table that says so.
pub(super) fn unpacked(message: &[u8]) -> usize {
    let number = |from: usize| {
        let bytes = message.get(from..from + 4)?.try_into().ok()?;
        usize::try_from(u32::from_be_bytes(bytes)).ok()
    };
    let table = || {
        let from = HEAD_BYTES.checked_add(number(1)?)?;
        let count = number(5).filter(|count| *count <= MAX_PAYLOADS)?;
        message.get(from..)?.get(..count * ENTRY_BYTES)
    };
    // More than that is refused.
    unpacked_of(table().unwrap_or_default()).min(MAX_UNPACKED_BYTES)
}

/// The same of a table.
fn unpacked_of(table: &[u8]) -> usize {
    let compressed = entries(table).filter(|(coding, ..)| *coding == ZSTD);
    compressed.fold(0, |sum, (.., decoded)| sum.saturating_add(decoded))
}

/// What a table says of each payload: its coding, its bytes here and when decoded.
fn entries(table: &[u8]) -> impl Iterator<Item = (u8, usize, usize)> {
    table.chunks_exact(ENTRY_BYTES).map(|mut entry| {
        let coding = entry.get_u8();
        (coding, entry.get_u32() as usize, entry.get_u32() as usize)
    })
}

/// Takes a message apart and parses its text.
///
/// Cost: payloads that are as they are are not copied; they keep the message's memory as long as they
/// live.
pub(super) fn parse(message: &Bytes, form: Form) -> Result<Message, ParseError> {
    let (text, payloads) = split(message, form).map_err(|err| ParseError::new(err.to_string()))?;
    let mut parsed = message::parse(&text)?;
    parsed.attach(&Payloads::new(payloads));
    Ok(parsed)
}

/// Takes a message apart: its text and its payloads.
fn split(message: &Bytes, form: Form) -> Result<(Bytes, Vec<Bytes>), BulkError> {
    let mut rest = message.clone();
    if rest.len() < HEAD_BYTES {
        return Err(BulkError::Ends { part: "head" });
    }
    if rest.get_u8() != MARKER {
        return Err(BulkError::Marker);
    }
    let text = rest.get_u32() as usize;
    let count = rest.get_u32() as usize;
    if !(1..=MAX_PAYLOADS).contains(&count) {
        return Err(BulkError::Count { count });
    }
    if rest.len() < text {
        return Err(BulkError::Ends { part: "text" });
    }
    let text = rest.split_to(text);
    // Both are bounded, so this cannot overflow.
    if rest.len() < count * ENTRY_BYTES {
        return Err(BulkError::Ends { part: "table" });
    }
    let table = rest.split_to(count * ENTRY_BYTES);
    let bytes = unpacked_of(&table);
    if form == Form::Compressed && bytes > MAX_UNPACKED_BYTES {
        return Err(BulkError::Unpacked { bytes });
    }
    let mut payloads = Vec::with_capacity(count);
    let mut bytes = 0usize;
    for (coding, length, decoded) in entries(&table) {
        match (coding, form) {
            (PLAIN, _) if length == decoded => {}
            (PLAIN, _) => return Err(BulkError::Length { length, decoded }),
            (ZSTD, Form::Compressed) => {}
            _ => return Err(BulkError::Coding { coding }),
        }
        bytes = bytes.saturating_add(decoded);
        if bytes > MAX_PAYLOAD_BYTES {
            return Err(BulkError::Payloads { bytes });
        }
        if rest.len() < length {
            return Err(BulkError::Ends { part: "payloads" });
        }
        let payload = rest.split_to(length);
        payloads.push(match coding {
            ZSTD => zstd::unpack(&payload, decoded).ok_or(BulkError::Packed { decoded })?,
            _ => payload,
        });
    }
    if !rest.is_empty() {
        return Err(BulkError::Rest { bytes: rest.len() });
    }
    Ok((text, payloads))
}

/// Why bytes are not a bulk message.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
enum BulkError {
    #[error("bulk message ends within its {part}")]
    Ends { part: &'static str },
    #[error("bulk message does not begin with its marker")]
    Marker,
    #[error("bulk message of {count} payloads, expected 1 to {MAX_PAYLOADS}")]
    Count { count: usize },
    #[error("bulk message with a payload of unknown coding {coding}")]
    Coding { coding: u8 },
    #[error("bulk message with a payload of {length} bytes that says {decoded}")]
    Length { length: usize, decoded: usize },
    #[error("bulk message with a compressed payload that does not give {decoded} bytes")]
    Packed { decoded: usize },
    #[error(
        "bulk message with {bytes} bytes in compressed payloads, expected at most {MAX_UNPACKED_BYTES}"
    )]
    Unpacked { bytes: usize },
    #[error(
        "bulk message with {bytes} bytes or more in payloads, expected at most {MAX_PAYLOAD_BYTES}"
    )]
    Payloads { bytes: usize },
    #[error("bulk message with {bytes} bytes behind its payloads")]
    Rest { bytes: usize },
}

#[cfg(test)]
mod tests;
