//! `session/close` and `rpc/cancel`: ending what a connection began. Extensions of this project.
//!
//! Both are requests, because a notification that an executor does not know makes it close the
//! connection, while a request that it does not know is answered with `-32601`.

use serde::{Deserialize, Serialize};

use crate::rpc::RequestId;

/// Request without parameters, answered with an empty object: end the session at once.
pub const CLOSE: &str = "session/close";
/// Request: give up another request of the same connection.
pub const CANCEL: &str = "rpc/cancel";

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
