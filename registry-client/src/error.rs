//! Errors of registry calls.
//!
//! Where a user meets an error, its text is the one that users of the reference know. Whether to
//! try again is one table, [`RegistryError::is_retryable`]; how often and how long is the caller's
//! policy.

use std::fmt;
use std::time::Duration;

use http::StatusCode;
use relay_proto::ids::IdError;

use crate::auth::CredentialError;
use crate::bundle::RendezvousUrlError;
use crate::connector::{ProxyAddress, TransportError};
use crate::limits;
use crate::registry_url::RegistryUrlError;
use crate::wire::{PublicKeyTextError, code};

/// Why a registry call did not give what was asked for.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum RegistryError {
    /// The body of a successful answer is not the JSON of the call.
    #[error("environment registry returned an unusable answer to {call}")]
    Malformed {
        /// Name of the call.
        call: &'static str,
        /// What the JSON lacks. Never holds a value of the body.
        source: BodyError,
    },
    /// The body of a successful answer is too large.
    #[error(
        "environment registry answer to {call} exceeds limit of {} bytes",
        limits::MAX_RESPONSE_BYTES
    )]
    TooLarge {
        /// Name of the call.
        call: &'static str,
    },
    /// The answer is about another environment.
    #[error("environment registry returned a different environment id")]
    DifferentEnvironment,
    /// The answer holds an unusable registration id.
    #[error("environment registry returned an unusable registration id")]
    Registration(#[source] IdError),
    /// The answer holds no authorization text.
    #[error("environment registry returned a blank harness key authorization")]
    BlankAuthorization,
    /// The authorization text would not fit into the handshake.
    #[error(
        "environment registry returned a harness key authorization of {length} bytes, which \
         exceeds limit of {} bytes",
        relay_proto::limits::AUTHORIZATION_BYTES
    )]
    AuthorizationTooLong {
        /// Its length in bytes.
        length: usize,
    },
    /// The answer holds a URL that opens no websocket.
    #[error("environment registry returned an unusable rendezvous url")]
    RendezvousUrl(#[source] RendezvousUrlError),
    /// The answer names a security profile that is not the one there is.
    #[error("environment registry returned an unsupported security profile")]
    SecurityProfile,
    /// The answer holds a key of another suite or length.
    #[error("environment registry returned an unusable executor public key")]
    ExecutorKey(#[source] PublicKeyTextError),
    /// The registry does not accept the credential: 401 or 403.
    #[error(
        "environment registry authentication error: environment registry authentication failed {0}"
    )]
    Authentication(Failure),
    /// The registry answered with another status outside 2xx.
    #[error("environment registry request failed {0}")]
    Status(Failure),
    /// The registry could not be reached, or stopped answering.
    #[error("environment registry request failed")]
    Transport(#[from] TransportError),
    /// There is no usable credential.
    #[error("environment registry credential is not usable")]
    Credential(#[from] CredentialError),
    /// The environment id or the base URL does not make a request URL.
    #[error(transparent)]
    Url(#[from] RegistryUrlError),
}

/// Status, code and message of an answer outside 2xx.
///
/// Shown as `(404 Not Found, environment_not_found): no such environment`. The message comes from
/// the registry or something in between; control characters are replaced, and its length is
/// bounded.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Failure {
    /// The HTTP status.
    pub status: u16,
    /// The code of the body, if it had one.
    pub code: Option<String>,
    /// What to show of the body; absent where bodies are never shown.
    pub message: Option<String>,
    /// The time that the registry asks to wait.
    pub retry_after: Option<Duration>,
    /// The proxy that may have answered in the registry's place, which is so without TLS.
    pub proxy: Option<ProxyAddress>,
}

/// Where in a JSON text something is wrong: the values are left out, as they may be secret.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{kind} at line {line} column {column}")]
pub struct BodyError {
    kind: &'static str,
    line: usize,
    column: usize,
}

impl RegistryError {
    /// Returns whether the same call may succeed later without a change of configuration.
    ///
    /// True for connection failures, timeouts, broken bodies, 408, 429, every 5xx, and 409 with the
    /// code `environment_offline`. This is what a harness goes by. A long-lived executor that has
    /// registered before may be more patient, since giving up would end its sessions.
    pub fn is_retryable(&self) -> bool {
        match self {
            Self::Status(failure) => match failure.status {
                408 | 429 | 500..=599 => true,
                409 => failure.code.as_deref() == Some(code::ENVIRONMENT_OFFLINE),
                _ => false,
            },
            Self::Transport(error) => error.is_retryable(),
            Self::Credential(error) => error.is_retryable(),
            Self::Malformed { .. }
            | Self::TooLarge { .. }
            | Self::DifferentEnvironment
            | Self::Registration(_)
            | Self::BlankAuthorization
            | Self::AuthorizationTooLong { .. }
            | Self::RendezvousUrl(_)
            | Self::SecurityProfile
            | Self::ExecutorKey(_)
            | Self::Authentication(_)
            | Self::Url(_) => false,
        }
    }

    /// Returns the time that the registry asks to wait before the next call.
    pub fn retry_after(&self) -> Option<Duration> {
        self.failure().and_then(|failure| failure.retry_after)
    }

    /// Returns a fixed text for this kind of error, for metrics.
    pub fn reason(&self) -> &'static str {
        match self {
            Self::Malformed { .. } => "malformed",
            Self::TooLarge { .. } => "too_large",
            Self::DifferentEnvironment => "different_environment",
            Self::Registration(_) => "registration_id",
            Self::BlankAuthorization | Self::AuthorizationTooLong { .. } => "authorization",
            Self::RendezvousUrl(_) => "rendezvous_url",
            Self::SecurityProfile => "security_profile",
            Self::ExecutorKey(_) => "executor_key",
            Self::Authentication(_) => "authentication",
            Self::Status(failure) => failure.reason(),
            Self::Transport(error) => error.reason(),
            Self::Credential(_) => "credential",
            Self::Url(_) => "url",
        }
    }

    /// Returns the HTTP status, when the registry answered outside 2xx.
    pub fn status(&self) -> Option<u16> {
        self.failure().map(|failure| failure.status)
    }

    /// Returns the code of the error body, when there is one.
    pub fn code(&self) -> Option<&str> {
        self.failure().and_then(|failure| failure.code.as_deref())
    }

    fn failure(&self) -> Option<&Failure> {
        match self {
            Self::Authentication(failure) | Self::Status(failure) => Some(failure),
            _ => None,
        }
    }
}

impl Failure {
    fn reason(&self) -> &'static str {
        match (self.status, self.code.as_deref()) {
            (_, Some(code::ENVIRONMENT_OFFLINE)) => code::ENVIRONMENT_OFFLINE,
            (_, Some(code::REGISTRATION_CONFLICT)) => code::REGISTRATION_CONFLICT,
            (_, Some(code::AUTHENTICATION_SERVICE_UNAVAILABLE)) => {
                code::AUTHENTICATION_SERVICE_UNAVAILABLE
            }
            (300..=399, _) => "redirect",
            (404, _) => "not_found",
            (409, _) => "conflict",
            (429, _) => "rate_limited",
            (400..=499, _) => "request_refused",
            (500..=599, _) => "registry_unavailable",
            _ => "unexpected_status",
        }
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "({}", self.status)?;
        let status = StatusCode::from_u16(self.status).ok();
        if let Some(text) = status.and_then(|status| status.canonical_reason()) {
            write!(f, " {text}")?;
        }
        // The authentication text of the reference has no code, which this one follows.
        match self
            .code
            .as_deref()
            .filter(|_| !matches!(self.status, 401 | 403))
        {
            Some(code) => write!(f, ", {code})")?,
            None => f.write_str(")")?,
        }
        if let Some(proxy) = &self.proxy {
            write!(f, " through proxy {proxy}")?;
        }
        match &self.message {
            Some(message) => write!(f, ": {message}"),
            None => Ok(()),
        }
    }
}

impl From<serde_json::Error> for BodyError {
    fn from(error: serde_json::Error) -> Self {
        let kind = match error.classify() {
            serde_json::error::Category::Eof => "unexpected end of json",
            serde_json::error::Category::Data => "missing or wrong json member",
            _ => "invalid json",
        };
        Self {
            kind,
            line: error.line(),
            column: error.column(),
        }
    }
}
