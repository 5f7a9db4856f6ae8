//! Why a sandbox that a client asked for is not given. Nothing runs then.

use exec_proto::RpcError;

/// A refused sandbox.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Refusal {
    /// A URI that names no path on this host, with the text of the protocol.
    #[error("{0}")]
    ForeignPath(String),
    /// A context that lacks something, or asks for a mechanism of another platform.
    #[error("{0}")]
    Context(String),
    /// The policy is clear, and this executor or host cannot enforce it.
    #[error("{0}")]
    Unenforceable(String),
}

impl Refusal {
    /// The error of `process/start`.
    pub(crate) fn for_process(self) -> RpcError {
        match self {
            Self::ForeignPath(text) => RpcError::invalid_request(text),
            Self::Context(text) => RpcError::invalid_params(text),
            Self::Unenforceable(text) => RpcError::invalid_params(format!(
                "sandbox intent cannot be enforced on this executor: {text}"
            )),
        }
    }

    /// The error of a file request.
    pub(crate) fn for_files(self) -> RpcError {
        match self {
            Self::ForeignPath(text) => RpcError::invalid_request(text),
            Self::Context(text) => RpcError::invalid_params(text),
            Self::Unenforceable(text) => RpcError::invalid_request(format!(
                "filesystem sandbox cannot be enforced on this executor: {text}"
            )),
        }
    }
}
