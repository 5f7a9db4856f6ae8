//! `initialize` and `initialized`: open a session or take one over.

use serde::{Deserialize, Serialize};

use crate::environment;

/// Request: open or resume a session.
pub const METHOD: &str = "initialize";
/// Notification: the client has read the answer; other methods work from here on.
pub const INITIALIZED: &str = "initialized";

/// Parameters of `initialize`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct InitializeParams {
    /// Free text, may be empty.
    pub client_name: String,
    /// The session to re-attach to; `None` opens a new one.
    #[serde(default)]
    pub resume_session_id: Option<String>,
}

/// Parameters of `initialized`. The reference has none, and looks at none.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct InitializedParams {
    /// From here on both ends may send bulk messages on this connection. An extension of this
    /// project, announced by the capability
    /// [`rpc_bulk`](crate::environment::Capabilities::rpc_bulk).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub bulk: Option<BulkTerms>,
}

/// What the client understands in bulk messages.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct BulkTerms {
    /// Payloads may be compressed, announced by the capability
    /// [`rpc_bulk_zstd`](crate::environment::Capabilities::rpc_bulk_zstd).
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub zstd: bool,
}

/// Result of `initialize`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct InitializeResult {
    /// A lower-case hyphenated UUID; the same one after a resume.
    pub session_id: String,
    /// What `environment/info` would answer. Old executors leave it out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub environment_info: Option<environment::Info>,
}
