//! Input that nobody should send. Each test asserts the one answer that it gets, and that nothing
//! panicked and nobody else noticed.

mod configuration;
mod listener;
mod registry;
mod rendezvous;
mod rogue_rendezvous;

use anyhow::Result;
use bytes::Bytes;
use relay_proto::{
    frame::{Body, Frame},
    ids::StreamId,
    limits,
};

/// A relay frame that opens `stream` with `payload` as handshake.
fn handshake_frame(stream: &str, payload: &'static [u8]) -> Result<Vec<u8>> {
    let body = Body::Handshake {
        payload: Bytes::from_static(payload),
    };
    Ok(Frame::new(StreamId::new(stream)?, body).encode().to_vec())
}

/// One byte more than a relay websocket may carry in a message.
fn oversize_message() -> Vec<u8> {
    vec![0; limits::WEBSOCKET_MESSAGE_BYTES + 1]
}
