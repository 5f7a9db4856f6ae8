//! The protobuf messages, package `codex.exec_server.relay.v1`, proto3. Private to the codec.
//!
//! Written by hand with prost's derive rather than generated: the schema is small, fixed by the
//! deployed peers, and this way no protobuf compiler is needed to build.

use bytes::Bytes;

#[derive(Clone, PartialEq, prost::Message)]
pub(super) struct RelayMessageFrame {
    #[prost(uint32, tag = "1")]
    pub(super) version: u32,
    #[prost(string, tag = "2")]
    pub(super) stream_id: String,
    #[prost(uint32, tag = "3")]
    pub(super) ack: u32,
    #[prost(uint32, tag = "4")]
    pub(super) ack_bits: u32,
    #[prost(oneof = "Body", tags = "5, 6, 7, 8, 9, 10")]
    pub(super) body: Option<Body>,
    #[prost(string, optional, tag = "11")]
    pub(super) traceparent: Option<String>,
    #[prost(string, optional, tag = "12")]
    pub(super) tracestate: Option<String>,
    #[prost(message, optional, tag = "1000")]
    pub(super) statement: Option<Statement>,
}

/// Not part of the package: an extension that its peers ignore.
#[derive(Clone, PartialEq, prost::Message)]
pub(super) struct Statement {
    #[prost(uint64, tag = "1")]
    pub(super) serial: u64,
    #[prost(uint32, tag = "2")]
    pub(super) flags: u32,
    #[prost(uint32, tag = "3")]
    pub(super) max_seq: u32,
    #[prost(uint64, tag = "4")]
    pub(super) max_bytes: u64,
    #[prost(uint64, tag = "5")]
    pub(super) echo: u64,
    #[prost(bytes = "bytes", tag = "6")]
    pub(super) tag: Bytes,
}

#[derive(Clone, PartialEq, prost::Oneof)]
pub(super) enum Body {
    #[prost(message, tag = "5")]
    Data(RelayData),
    #[prost(message, tag = "6")]
    AckFrame(RelayAck),
    #[prost(message, tag = "7")]
    Resume(RelayResume),
    #[prost(message, tag = "8")]
    Reset(RelayReset),
    #[prost(message, tag = "9")]
    Heartbeat(RelayHeartbeat),
    #[prost(message, tag = "10")]
    Handshake(RelayHandshake),
}

#[derive(Clone, PartialEq, prost::Message)]
pub(super) struct RelayData {
    #[prost(uint32, tag = "1")]
    pub(super) seq: u32,
    #[prost(uint32, tag = "2")]
    pub(super) segment_index: u32,
    #[prost(uint32, tag = "3")]
    pub(super) segment_count: u32,
    #[prost(bytes = "bytes", tag = "4")]
    pub(super) payload: Bytes,
}

#[derive(Clone, PartialEq, prost::Message)]
pub(super) struct RelayAck {}

#[derive(Clone, PartialEq, prost::Message)]
pub(super) struct RelayResume {
    #[prost(uint32, tag = "1")]
    pub(super) next_seq: u32,
}

#[derive(Clone, PartialEq, prost::Message)]
pub(super) struct RelayReset {
    #[prost(string, tag = "1")]
    pub(super) reason: String,
}

#[derive(Clone, PartialEq, prost::Message)]
pub(super) struct RelayHeartbeat {}

#[derive(Clone, PartialEq, prost::Message)]
pub(super) struct RelayHandshake {
    #[prost(bytes = "bytes", tag = "1")]
    pub(super) payload: Bytes,
}
