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
//! All numbers are unsigned and big endian. Only coding 0 exists, which leaves a payload as it is.

use bytes::{Buf as _, BufMut as _, Bytes, BytesMut};

use super::{Message, ParseError, message};
use crate::payload::Payloads;

/// First byte of every bulk message.
pub const MARKER: u8 = 0xB1;

/// Most payloads of one message.
pub const MAX_PAYLOADS: usize = 65_536;

/// Most bytes of all payloads of one message, as they are when decoded.
pub const MAX_PAYLOAD_BYTES: usize = 64 << 20;

/// Marker, length of the text, number of payloads.
const HEAD_BYTES: usize = 9;

/// What the table says of one payload.
const ENTRY_BYTES: usize = 9;

/// The payload is as it is.
const PLAIN: u8 = 0;

/// Puts a message together; `None` if it is beyond a limit.
pub(super) fn join(text: &[u8], payloads: &[Bytes]) -> Option<Bytes> {
    let bytes: usize = payloads.iter().map(Bytes::len).sum();
    if payloads.len() > MAX_PAYLOADS || bytes > MAX_PAYLOAD_BYTES {
        return None;
    }
    let size = HEAD_BYTES + text.len() + payloads.len() * ENTRY_BYTES + bytes;
    let mut message = BytesMut::with_capacity(size);
    message.put_u8(MARKER);
    message.put_u32(u32::try_from(text.len()).ok()?);
    message.put_u32(u32::try_from(payloads.len()).ok()?);
    message.put_slice(text);
    for payload in payloads {
        let length = u32::try_from(payload.len()).ok()?;
        message.put_u8(PLAIN);
        message.put_u32(length);
        message.put_u32(length);
    }
    for payload in payloads {
        message.put_slice(payload);
    }
    Some(message.freeze())
}

/// Takes a message apart and parses its text.
///
/// Cost: payloads are not copied; they keep the message's memory as long as they live.
pub(super) fn parse(message: &Bytes) -> Result<Message, ParseError> {
    let (text, payloads) = split(message).map_err(|err| ParseError::new(err.to_string()))?;
    let mut parsed = message::parse(&text)?;
    parsed.attach(&Payloads::new(payloads));
    Ok(parsed)
}

/// Takes a message apart: its text and its payloads.
fn split(message: &Bytes) -> Result<(Bytes, Vec<Bytes>), BulkError> {
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
    let mut table = rest.split_to(count * ENTRY_BYTES);
    let mut payloads = Vec::with_capacity(count);
    while !table.is_empty() {
        let coding = table.get_u8();
        let length = table.get_u32() as usize;
        let decoded = table.get_u32() as usize;
        if coding != PLAIN {
            return Err(BulkError::Coding { coding });
        }
        if length != decoded {
            return Err(BulkError::Length { length, decoded });
        }
        if rest.len() < length {
            return Err(BulkError::Ends { part: "payloads" });
        }
        payloads.push(rest.split_to(length));
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
    #[error("bulk message with {bytes} bytes behind its payloads")]
    Rest { bytes: usize },
}

#[cfg(test)]
mod tests;
