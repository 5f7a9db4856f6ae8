//! Relay frames: nothing panics, encoding is stable, and the router's view agrees with the ends'.
//!
//! The router refuses protobuf groups among the unknown fields, which the ends skip. Nobody sends any.

#![no_main]

use bytes::Bytes;
use libfuzzer_sys::fuzz_target;
use relay_proto::frame::{Frame, Peek, peek};

fn assert_same(peeked: Peek<'_>, frame: &Frame) {
    assert_eq!(peeked.stream_id, frame.stream_id.as_str());
    assert_eq!(peeked.kind, frame.body.kind());
}

fuzz_target!(|data: &[u8]| {
    let peeked = peek(data);
    let Ok(frame) = Frame::decode(Bytes::copy_from_slice(data)) else {
        return;
    };
    if let Ok(peeked) = peeked {
        assert_same(peeked, &frame);
    }
    let encoded = frame.encode();
    assert_same(
        peek(&encoded).expect("a router forwards what the ends send"),
        &frame,
    );
    let again = Frame::decode(encoded.clone()).expect("what was encoded decodes");
    assert_eq!(again.encode(), encoded);
    assert_eq!(format!("{frame:?}"), format!("{again:?}"));
});
