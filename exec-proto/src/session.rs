//! `session/close`, `session/keep` and `rpc/cancel`: how long what a connection began lives.
//! Extensions of this project.
//!
//! All are requests, because a notification that an executor does not know makes it close the
//! connection, while a request that it does not know is answered with `-32601`.

use serde::{Deserialize, Serialize};

use crate::rpc::RequestId;

/// Request without parameters, answered with an empty object: end the session at once.
pub const CLOSE: &str = "session/close";
/// Request: how long the session lives without a connection.
pub const KEEP: &str = "session/keep";
/// Request: give up another request of the same connection.
pub const CANCEL: &str = "rpc/cancel";

/// Parameters of `session/keep`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct KeepParams {
    /// How long the session shall live without a connection, from now on and each time. Records of
    /// processes that close are kept as long. 0 asks for the executor's default.
    pub detached_ms: u64,
}

/// Result of `session/keep`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct KeepResult {
    /// What was granted: what was asked for, within the executor's default and its maximum.
    pub detached_ms: u64,
}

/// Parameters of `rpc/cancel`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct CancelParams {
    /// The other request's id.
    pub id: RequestId,
}

/// Result of `rpc/cancel`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct CancelResult {
    /// Whether the other request was given up. It is then answered with
    /// [`REQUEST_CANCELLED`](crate::rpc::code::REQUEST_CANCELLED); otherwise it was answered before,
    /// will be answered as if nothing had happened, or was never sent.
    pub cancelled: bool,
}
