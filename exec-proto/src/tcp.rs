//! `tcp/*`: TCP connections from where the executor is. An extension of this project, announced by
//! [`Capabilities::tcp_streams`](crate::environment::Capabilities::tcp_streams).
//!
//! ```text
//! connect --> write* --> shutdown     bytes to the other side, in order
//!    `------> data*  --> data (empty) bytes from the other side, then its end
//!             window*                 how many of them the client takes
//! both ends, or a failure --> closed; or close, after which nothing comes
//! ```

use std::num::NonZeroU16;

use bytes::Bytes;
use serde::{Deserialize, Serialize};

use crate::sandbox::SandboxContext;

/// Request: open a connection.
pub const CONNECT: &str = "tcp/connect";
/// Request: send bytes.
pub const WRITE: &str = "tcp/write";
/// Request: no more bytes will be sent.
pub const SHUTDOWN: &str = "tcp/shutdown";
/// Request: more bytes may come from the other side.
pub const WINDOW: &str = "tcp/window";
/// Request: end the connection at once.
pub const CLOSE: &str = "tcp/close";
/// Notification from executor to client: bytes that arrived.
pub const DATA: &str = "tcp/data";
/// Notification from executor to client: the stream is over.
pub const CLOSED: &str = "tcp/closed";

/// Most decoded bytes in one write.
pub const MAX_WRITE_BYTES: usize = 256 << 10;
/// Most decoded bytes in one [`DataNotification`].
pub const MAX_DATA_BYTES: usize = 64 << 10;
/// Most bytes of a stream id.
pub const MAX_STREAM_ID_BYTES: usize = 256;
/// Most bytes of a host.
pub const MAX_HOST_BYTES: usize = 255;
/// Streams of one connection at the same time.
pub const MAX_STREAMS: usize = 128;
/// Longest and default time for connecting.
pub const MAX_TIMEOUT_MS: u64 = 600_000;
/// Time for connecting if none is given.
pub const DEFAULT_TIMEOUT_MS: u64 = 30_000;

/// Parameters of `tcp/connect`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ConnectParams {
    /// Chosen by the client; free again when the stream is over.
    pub stream_id: String,
    /// A name, which the executor resolves, or an address.
    pub host: String,
    /// The port.
    pub port: NonZeroU16,
    /// Covers the resolution and all attempts.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub timeout_ms: Option<u64>,
    /// Bytes from the other side that may come before [`WindowParams`] allows more; unbounded if
    /// absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub window_bytes: Option<u64>,
    /// Restrictions.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sandbox: Option<SandboxContext>,
}

/// Result of `tcp/connect`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ConnectResult {
    /// The executor's end.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub local_addr: Option<String>,
    /// The other end.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub peer_addr: Option<String>,
}

/// Parameters of `tcp/write`, answered with an empty object when the bytes were taken.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct WriteParams {
    /// The stream.
    pub stream_id: String,
    /// From 1, without gaps.
    pub seq: u64,
    /// At most [`MAX_WRITE_BYTES`].
    #[serde(with = "crate::base64")]
    pub chunk_base64: Bytes,
}
redacted_debug!(WriteParams { stream_id, seq });

/// Parameters of `tcp/shutdown`, answered with an empty object.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ShutdownParams {
    /// The stream.
    pub stream_id: String,
}

/// Parameters of `tcp/window`, answered with an empty object.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct WindowParams {
    /// The stream; one that is not there is fine.
    pub stream_id: String,
    /// So many bytes may come from the other side, counted from the beginning of the stream. Less
    /// than before changes nothing.
    pub through_bytes: u64,
}

/// Parameters of `tcp/close`, answered with an empty object.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct CloseParams {
    /// The stream; one that is not there is fine.
    pub stream_id: String,
}

/// Parameters of `tcp/data`.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct DataNotification {
    /// The stream.
    pub stream_id: String,
    /// From 1, without gaps, counted together with [`ClosedNotification`].
    pub seq: u64,
    /// At most [`MAX_DATA_BYTES`]; empty exactly once, when the other side sends no more.
    #[serde(with = "crate::base64")]
    pub chunk_base64: Bytes,
}
redacted_debug!(DataNotification { stream_id, seq });

/// Parameters of `tcp/closed`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ClosedNotification {
    /// The stream.
    pub stream_id: String,
    /// Follows that of the last [`DataNotification`].
    pub seq: u64,
    /// Why it ended before both sides had said so.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
}
