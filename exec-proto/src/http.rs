//! `http/request`: HTTP from where the executor is, buffered or streamed.

use bytes::Bytes;
use serde::{Deserialize, Serialize};

/// Request.
pub const REQUEST: &str = "http/request";
/// Notification from executor to client: a part of a streamed body.
pub const BODY_DELTA: &str = "http/request/bodyDelta";

/// Request, an extension of this project: a part of a streamed request body.
pub const BODY_CHUNK: &str = "http/request/bodyChunk";
/// Request, an extension of this project: end a streamed request or response early.
pub const CANCEL: &str = "http/cancel";

/// Most decoded bytes in one part of a request body, and in all that wait of one request.
pub const MAX_CHUNK_BYTES: usize = 1 << 20;

/// Most decoded bytes in one delta that a client accepts.
pub const MAX_DELTA_BYTES: usize = 1 << 20;

/// Parameters of `http/request`.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct RequestParams {
    /// Sent as given.
    pub method: String,
    /// Absolute `http:` or `https:`.
    pub url: String,
    /// In order, repetition kept.
    #[serde(default)]
    pub headers: Vec<RequestHeader>,
    /// The body; `None` sends none.
    #[serde(
        default,
        with = "crate::base64::option",
        skip_serializing_if = "Option::is_none"
    )]
    pub body_base64: Option<Bytes>,
    /// Covers connection, headers and body.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub timeout_ms: Option<u64>,
    /// What to do with a redirect.
    #[serde(default)]
    pub redirect_policy: RedirectPolicy,
    /// Names the stream; ignored when the body is buffered.
    pub request_id: String,
    /// Whether the body comes as [`BodyDelta`]s.
    #[serde(default)]
    pub stream_response: bool,
    /// Whether the body of the request follows as [`BodyChunkParams`]; an extension.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub stream_request_body: bool,
}
redacted_debug!(RequestParams {
    method,
    request_id,
    stream_response
});

/// Parameters of `http/request/bodyChunk`, answered with an empty object when it was taken.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct BodyChunkParams {
    /// The request.
    pub request_id: String,
    /// From 1, without gaps.
    pub seq: u64,
    /// At most [`MAX_CHUNK_BYTES`].
    #[serde(with = "crate::base64")]
    pub chunk_base64: Bytes,
    /// Whether this is the last part.
    #[serde(default)]
    pub done: bool,
}
redacted_debug!(BodyChunkParams {
    request_id,
    seq,
    done
});

/// Parameters of `http/cancel`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct CancelParams {
    /// The request.
    pub request_id: String,
}

/// Result of `http/cancel`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct CancelResult {
    /// Whether there was such a stream.
    pub cancelled: bool,
}

/// A header to send.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct RequestHeader {
    /// Its name.
    pub name: String,
    /// Its value, or what comes before the variable's.
    pub value: String,
    /// A variable of the executor whose value is appended.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub value_env_var: Option<String>,
}
redacted_debug!(RequestHeader {
    name,
    value_env_var
});

/// What to do with a redirect.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum RedirectPolicy {
    /// Follow up to ten.
    #[default]
    Follow,
    /// Return it.
    Stop,
}

/// Result of `http/request`; any HTTP status is one.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct RequestResult {
    /// HTTP status.
    pub status: u16,
    /// In order, lower-case names.
    pub headers: Vec<ResponseHeader>,
    /// The body; empty when it is streamed.
    #[serde(with = "crate::base64")]
    pub body_base64: Bytes,
}
redacted_debug!(RequestResult { status });

/// A header received.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ResponseHeader {
    /// Its name.
    pub name: String,
    /// Its value.
    pub value: String,
}
redacted_debug!(ResponseHeader { name });

/// Parameters of `http/request/bodyDelta`.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct BodyDelta {
    /// The stream.
    pub request_id: String,
    /// From 1, without gaps.
    pub seq: u64,
    /// At most [`MAX_DELTA_BYTES`].
    #[serde(with = "crate::base64")]
    pub delta_base64: Bytes,
    /// Whether this is the last delta.
    pub done: bool,
    /// Why the body is incomplete; only in the last delta.
    pub error: Option<String>,
}
redacted_debug!(BodyDelta {
    request_id,
    seq,
    done,
    error
});
