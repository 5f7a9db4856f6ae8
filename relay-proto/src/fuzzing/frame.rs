//! Frames as anybody on the path can send them.

use bytes::Bytes;

use crate::frame::{Frame, Peek, peek};

/// Decodes `data`; what decodes encodes stably, and the router's view agrees with the ends'.
///
/// The router refuses protobuf groups among the unknown fields, which the ends skip. Nobody sends
/// any.
///
/// # Panics
///
/// If one of that does not hold.
pub fn frame(data: &[u8]) {
    let peeked = peek(data);
    let Ok(frame) = Frame::decode(Bytes::copy_from_slice(data)) else {
        return;
    };
    if let Ok(peeked) = peeked {
        assert_same(peeked, &frame);
    }
    let encoded = frame.encode();
    let peeked = peek(&encoded).expect("a router forwards what the ends send");
    assert_same(peeked, &frame);
    let again = Frame::decode(encoded.clone()).expect("what was encoded decodes");
    assert_eq!(again.encode(), encoded);
    assert_eq!(format!("{frame:?}"), format!("{again:?}"));
}

fn assert_same(peeked: Peek<'_>, frame: &Frame) {
    assert_eq!(peeked.stream_id, frame.stream_id.as_str());
    assert_eq!(peeked.kind, frame.body.kind());
}
