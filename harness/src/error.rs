//! What can go wrong, sorted by who has to act.

use std::{sync::Arc, time::Duration};

use exec_proto::rpc::code as codes;

/// Why an operation of this crate failed.
///
/// The text completes "failed to ..." and names the thing and the limit. It holds no arguments of
/// commands, no tokens and no signed URLs.
#[derive(Debug, Clone, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The executor sent something that the protocol does not allow.
    #[error("the executor broke the protocol: {0}")]
    Protocol(String),
    /// Output was produced that the executor had evicted before it could be read.
    #[error(
        "output events {first} to {last} of the process are lost: \
         the executor retains only the newest part of the output"
    )]
    OutputLost {
        /// The first event that is missing.
        first: u64,
        /// The last event that is missing.
        last: u64,
    },
    /// The executor cannot do this.
    #[error("the executor does not support {0}")]
    Unsupported(&'static str),
    /// Another executor answers in place of the one that holds the session.
    #[error("the executor's key changed: it was restarted, and the session is gone with it")]
    ExecutorKeyChanged,
    /// The executor answered with an error.
    #[error("{method}: {message}")]
    Rpc {
        /// The method that was called.
        method: &'static str,
        /// The JSON-RPC error code.
        code: i64,
        /// The executor's text.
        message: String,
    },
    /// The registry or the executor does not accept the credential.
    #[error("{0}")]
    Refused(String),
    /// The environment is not known to the registry.
    #[error("{0}")]
    UnknownEnvironment(String),
    /// The environment exists, but its executor is not connected.
    #[error("environment {0} is offline: its executor is not connected")]
    Offline(String),
    /// No connection could be made, for now.
    #[error("{context}: {detail}")]
    Unavailable {
        /// What was tried.
        context: String,
        /// What happened.
        detail: String,
        /// The least time to wait that the other side asked for.
        retry_after: Option<Duration>,
    },
    /// The connection was lost and could not be made again in time.
    #[error("the connection to the executor was lost and could not be restored within {}s", .after.as_secs())]
    RecoveryTimedOut {
        /// How long it was tried.
        after: Duration,
        /// Why the last attempt failed.
        #[source]
        last: Option<Arc<Self>>,
    },
    /// The executor does not know the session that was asked for.
    #[error(
        "the executor does not know the session: it has expired, or the executor was restarted"
    )]
    SessionUnknown,
    /// The session has ended; every operation on its client fails with this.
    #[error("the session with the executor has ended")]
    SessionLost(#[source] Arc<Self>),
    /// The connection was lost while the request was on its way, and repeating it could do it twice.
    #[error("the connection was lost during {method}: it may or may not have been done")]
    OutcomeUnknown {
        /// The method that was called.
        method: &'static str,
    },
    /// Something that lives as long as one connection, such as an open file, is gone.
    #[error("the connection was lost during {0}")]
    ConnectionLost(&'static str),
    /// The executor no longer knows the process.
    #[error("the executor no longer knows the process")]
    ProcessGone,
    /// The process does not read its standard input any more, or never did.
    #[error("the standard input of the process is closed")]
    StdinClosed,
    /// A bound of this crate was reached.
    #[error("{what} of {size} exceeds the limit of {limit}")]
    Limit {
        /// What is too large.
        what: &'static str,
        /// Its size.
        size: u64,
        /// The bound.
        limit: u64,
    },
    /// A file or stream on this machine failed.
    #[error("{context}")]
    Io {
        /// What was tried.
        context: String,
        /// The operating system's answer.
        #[source]
        source: Arc<std::io::Error>,
    },
    /// The caller asked for something that makes no sense.
    #[error("{0}")]
    Misuse(String),
    /// The client was closed by its owner.
    #[error("the client was closed")]
    Closed,
}

impl Error {
    /// Wraps an error of this machine with what was being done.
    pub fn io(context: impl Into<String>, source: std::io::Error) -> Self {
        Self::Io {
            context: context.into(),
            source: Arc::new(source),
        }
    }

    /// Whether the same operation may work later, without anything being changed.
    pub fn is_retryable(&self) -> bool {
        match self {
            Self::Offline(_) | Self::Unavailable { .. } | Self::ConnectionLost(_) => true,
            Self::Rpc { code, .. } => {
                matches!(*code, codes::SESSION_ATTACHED | codes::SHUTTING_DOWN)
            }
            _ => false,
        }
    }

    /// The least time to wait before trying again, when the other side named one.
    pub fn retry_after(&self) -> Option<Duration> {
        match self {
            Self::Unavailable { retry_after, .. } => *retry_after,
            _ => None,
        }
    }

    /// Whether the thing that was asked for does not exist.
    pub fn is_not_found(&self) -> bool {
        matches!(self, Self::Rpc { code, .. } if *code == codes::NOT_FOUND)
    }

    /// The name of the kind, from a closed set; fit for metric labels and `--json` output.
    pub fn reason(&self) -> &'static str {
        match self {
            Self::Protocol(_) => "protocol",
            Self::OutputLost { .. } => "output_lost",
            Self::Unsupported(_) => "unsupported",
            Self::ExecutorKeyChanged => "executor_key_changed",
            Self::Rpc { .. } => "rpc",
            Self::Refused(_) => "refused",
            Self::UnknownEnvironment(_) => "unknown_environment",
            Self::Offline(_) => "environment_offline",
            Self::Unavailable { .. } => "unavailable",
            Self::RecoveryTimedOut { .. } => "recovery_timed_out",
            Self::SessionUnknown => "session_unknown",
            Self::SessionLost(_) => "session_lost",
            Self::OutcomeUnknown { .. } => "outcome_unknown",
            Self::ConnectionLost(_) => "connection_lost",
            Self::ProcessGone => "process_gone",
            Self::StdinClosed => "stdin_closed",
            Self::Limit { .. } => "limit",
            Self::Io { .. } => "io",
            Self::Misuse(_) => "misuse",
            Self::Closed => "closed",
        }
    }

    /// The error at the bottom: what ended the session, or what made the last attempt fail.
    pub fn root(&self) -> &Self {
        match self {
            Self::SessionLost(inner) => inner.root(),
            Self::RecoveryTimedOut {
                last: Some(inner), ..
            } => inner.root(),
            other => other,
        }
    }
}
