//! Relay protocol core: frames, Noise handshake and records, ordering, streams. No I/O.
//!
//! # Protocol in brief
//!
//! ```text
//! harness                      rendezvous                     executor
//!    | -- resume{0} -------------> | (claims the stream id) -----> |
//!    | -- handshake{message 1} --> | ----------------------------> |  authorization text inside
//!    | <------------------------- | <-- handshake{message 2} ---- |  only after approval
//!    | <== data{seq 0..} =======> | <== data{seq 0..} =========> |  AES-256-GCM records
//!    | -- reset / <- reset ------ | ---------------------------- |
//! ```
//!
//! Each websocket binary message is one [`frame::Frame`]. A stream is one harness's conversation with
//! the executor; an executor's websocket carries many. Inside a stream, each direction is a byte
//! stream of length-prefixed messages, cut into numbered, encrypted records.
//!
//! # Invariants
//!
//! - Nothing here reads a clock, opens a socket, spawns a task or draws global randomness: time and
//!   seeds are arguments.
//! - A record is encrypted once; a sequence number never repeats and never wraps. A record that is
//!   sent again has the same bytes.
//! - Nothing that is not authenticated makes a record count as arrived.
//! - Whatever a peer sends, nothing here panics, and everything a peer can make grow has a cap in
//!   [`limits`].
//! - Without the `noise` feature neither private keys nor the record cipher are part of the build. The
//!   rendezvous is built that way.
//!
//! # Map
//!
//! | module | content |
//! |---|---|
//! | [`limits`] | every number of the protocol |
//! | [`ids`] | stream, environment and registration ids; sequence numbers |
//! | [`keys`] | public keys |
//! | [`frame`] | the frame codec, and a view of a frame for a router |
//! | [`backoff`] | reconnect delays |
//! | [`keepalive`] | pings of one websocket, and when its path is dead |
//! | `noise` | identity, handshake, records (feature `noise`) |
//! | `segment`, `reorder`, `stream` | one stream's two directions (feature `noise`) |
//! | `link` | what a stream's ends tell each other about it: statements, paths (feature `noise`) |
//! | `ack`, `retransmit`, `flight`, `credit`, `liveness` | the parts of that (feature `noise`) |
//! | `connection` | all streams of one websocket: `Connection` (feature `noise`) |

#![forbid(unsafe_code)]
#![cfg_attr(not(test), warn(clippy::indexing_slicing))]

pub mod backoff;
pub mod frame;
pub mod ids;
pub mod keepalive;
pub mod keys;
pub mod limits;

#[cfg(feature = "noise")]
mod ack;
#[cfg(feature = "bench")]
#[allow(
    clippy::unwrap_used,
    clippy::missing_panics_doc,
    reason = "not part of the product"
)]
pub mod bench;
#[cfg(feature = "noise")]
pub mod connection;
#[cfg(feature = "noise")]
mod credit;
#[cfg(feature = "noise")]
mod flight;
#[cfg(all(feature = "noise", any(test, fuzzing)))]
#[allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::missing_panics_doc,
    reason = "checks, not part of the product"
)]
pub mod fuzzing;
#[cfg(feature = "noise")]
mod link;
#[cfg(feature = "noise")]
mod liveness;
#[cfg(feature = "noise")]
mod noise;
#[cfg(feature = "noise")]
mod reorder;
#[cfg(feature = "noise")]
mod retransmit;
#[cfg_attr(
    not(feature = "noise"),
    allow(dead_code, reason = "streams need the rest")
)]
mod rtt;
#[cfg(feature = "noise")]
mod segment;
#[cfg(feature = "noise")]
mod stream;

#[cfg(feature = "noise")]
pub use self::{
    connection::{
        CloseReason, Connection, ConnectionConfig, ConnectionError, ConnectionStats, Event,
        HandshakeToken, OpenError, SendError, Suspended, Transmit, Verdict,
    },
    link::Reliability,
    liveness::HeartbeatConfig,
    noise::{HandshakeError, Identity, RecordError},
    reorder::ReorderError,
    segment::{Priority, SegmentError},
    stream::StreamError,
};

#[cfg(test)]
mod testing;
