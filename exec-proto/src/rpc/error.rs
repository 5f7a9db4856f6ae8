//! Error codes and the error object.

use std::io;

use serde::{Deserialize, Serialize};

/// The codes of the protocol.
pub mod code {
    /// Handshake order, unknown ids, unparsable messages, invalid or forbidden file operations.
    pub const INVALID_REQUEST: i64 = -32600;
    /// No such method.
    pub const METHOD_NOT_FOUND: i64 = -32601;
    /// Parameters that do not decode or are refused as such.
    pub const INVALID_PARAMS: i64 = -32602;
    /// Spawn failures, other I/O errors, transport failures.
    pub const INTERNAL: i64 = -32603;
    /// An I/O error of kind not-found, or an unknown file handle.
    pub const NOT_FOUND: i64 = -32004;
    /// Resume of a session that another connection holds.
    pub const SESSION_ATTACHED: i64 = -32010;
    /// The executor is coming to its end and takes no new sessions and processes.
    pub const SHUTTING_DOWN: i64 = -32011;
    /// The request was given up by `rpc/cancel` or `session/close`, or a call of a batch was not
    /// begun. Sent only to clients that use these extensions.
    pub const REQUEST_CANCELLED: i64 = -32800;
}

/// The error object of an answer. Peers branch on `code`; `message` is for people.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
#[error("{message}")]
pub struct RpcError {
    /// One of [`code`], or whatever a newer peer sends.
    pub code: i64,
    /// Text for people.
    pub message: String,
}

impl RpcError {
    /// An error with a code of the caller's choice.
    pub fn new(code: i64, message: impl Into<String>) -> Self {
        Self {
            code,
            message: message.into(),
        }
    }

    /// `-32600`.
    pub fn invalid_request(message: impl Into<String>) -> Self {
        Self::new(code::INVALID_REQUEST, message)
    }

    /// `-32602`.
    pub fn invalid_params(message: impl Into<String>) -> Self {
        Self::new(code::INVALID_PARAMS, message)
    }

    /// `-32603`.
    pub fn internal(message: impl Into<String>) -> Self {
        Self::new(code::INTERNAL, message)
    }

    /// `-32004`.
    pub fn not_found(message: impl Into<String>) -> Self {
        Self::new(code::NOT_FOUND, message)
    }

    /// `-32010` for the session of that id.
    pub fn session_attached(session_id: &str) -> Self {
        Self::new(
            code::SESSION_ATTACHED,
            format!("session {session_id} is already attached to another connection"),
        )
    }

    /// `-32800`.
    pub fn cancelled(message: impl Into<String>) -> Self {
        Self::new(code::REQUEST_CANCELLED, message)
    }

    /// `-32601` with the text that the reference uses.
    pub fn method_not_found(method: &str) -> Self {
        Self::new(
            code::METHOD_NOT_FOUND,
            format!("exec-server stub does not implement `{method}` yet"),
        )
    }

    /// The error of a file operation: ENOENT is not-found; EACCES, EPERM and EINVAL are invalid
    /// requests; everything else is internal. The text is the operating system's, with its number.
    pub fn from_io(err: &io::Error) -> Self {
        let code = match err.kind() {
            io::ErrorKind::NotFound => code::NOT_FOUND,
            io::ErrorKind::PermissionDenied | io::ErrorKind::InvalidInput => code::INVALID_REQUEST,
            _ => code::INTERNAL,
        };
        Self::new(code, err.to_string())
    }
}
