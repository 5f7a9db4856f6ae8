//! Tokio shell of the relay protocol core: moves bytes between a websocket and a [`Connection`].
//!
//! Responsible for the socket, the clock and the channels to the application. Not responsible for
//! any protocol decision: those are made in `relay-proto`, which this crate only feeds and drains.
//!
//! ```text
//! websocket <──> Driver::run ──── Connection (state machine)
//!                  │  ├─ IncomingStream  (executor: a harness asks to come in)
//!                  │  └─ Stream { incoming, outgoing }  whole messages, one pair per stream
//! ```
//!
//! With connections that are [`Resumable`](relay_proto::Reliability::Resumable) at both ends, streams
//! outlive their websocket: [`Driver::run_resumable`] gives back a [`Resumable`], which the driver of
//! the next websocket takes. Their applications keep their channels.
//!
//! One task runs one driver; it spawns nothing. Reading and writing are polled together, so a write
//! that waits never keeps a pong from being read.

#![forbid(unsafe_code)]

mod activity;
mod driver;
mod farewell;
mod handles;
mod io;
mod resumable;
mod streams;

use std::time::Duration;

use relay_proto::limits;
use tokio_tungstenite::tungstenite::protocol::WebSocketConfig;

#[doc(no_inline)]
pub use relay_proto::{CloseReason, Connection};

pub use self::driver::{Driver, executor, executor_resuming, harness, harness_resuming};
pub use self::handles::{
    DisconnectReason, IncomingStream, OpenFailure, OpenRequest, Opening, Path, Stream, StreamGone,
};
pub use self::resumable::Resumable;

/// Configuration for every websocket that carries relay frames, at either end and at the rendezvous.
///
/// Messages and frames of at most [`limits::WEBSOCKET_MESSAGE_BYTES`], and a read buffer for about one
/// record; everything else as the library has it.
pub fn websocket_config() -> WebSocketConfig {
    WebSocketConfig::default()
        .read_buffer_size(READ_BUFFER_BYTES)
        .max_message_size(Some(limits::WEBSOCKET_MESSAGE_BYTES))
        .max_frame_size(Some(limits::WEBSOCKET_MESSAGE_BYTES))
}

/// The library fills as much as this with zeros before each read, however little comes.
const READ_BUFFER_BYTES: usize = 64 * 1024;

/// Messages between the driver and one stream's application, in each direction.
///
/// Small, because the state machine has windows of its own, counted in bytes: a full channel pauses
/// that stream and no other.
const STREAM_CHANNEL_MESSAGES: usize = 16;

/// Output handed to the websocket before it is flushed. Enough to keep system calls rare for small
/// frames, little enough that a reset or a ping does not wait behind much data.
const WRITE_BATCH_BYTES: usize = 65_536;

/// Time to send resets and a close frame when a driver ends on this side's wish.
const GOODBYE_TIMEOUT: Duration = Duration::from_secs(2);

#[cfg(test)]
mod tests;
