//! JSON bodies, paths, header names and codes of the registry and the rendezvous upgrade.
//!
//! Serde types only: what is well formed here may still be refused by the caller's checks (equal
//! environment id, known security profile, usable URL), which live in the client and in the
//! registry. Types that carry an authorization text or a signed URL redact it in `Debug`.

mod error_body;
mod public_key;
mod rejection;

use std::fmt;

use serde::{Deserialize, Serialize};

pub use error_body::{ErrorBody, ErrorDetail, code};
pub use public_key::{PublicKeyText, PublicKeyTextError};
pub use rejection::RejectionReason;

/// The security profile that register and connect name; the only one there is.
pub const SECURITY_PROFILE: &str = "noise_hybrid_ik_v1";

/// Path of the register call below the base URL, with the environment id as a template segment.
pub const REGISTER_ROUTE: &str = "/cloud/environment/{environment_id}/register";

/// Path of the connect call below the base URL, with the environment id as a template segment.
pub const CONNECT_ROUTE: &str = "/cloud/environment/{environment_id}/connect";

/// Path of the validate call below the base URL, with the environment id as a template segment.
pub const VALIDATE_ROUTE: &str = "/cloud/environment/{environment_id}/validate";

/// Request header of a validate call: the stream id, chosen by the harness, for diagnosis only.
pub const NOISE_STREAM_ID_HEADER: &str = "x-codex-noise-stream-id";

/// Response header of a rejected websocket request; see [`RejectionReason`].
pub const REJECTION_REASON_HEADER: &str = "x-codex-rendezvous-rejection-reason";

/// Request header that names the account which a bearer belongs to.
pub const ACCOUNT_ID_HEADER: &str = "chatgpt-account-id";

/// Request header of an executor's websocket request: `req_` and 32 lower-case hex digits.
pub const REQUEST_ID_HEADER: &str = "x-request-id";

/// Request header of a websocket request: the value of the variable `OPENAI_CLUSTER`.
pub const CLUSTER_NAME_HEADER: &str = "x-cluster-name";

/// Request header of a websocket request: the value of the variable `DD_SERVICE`.
pub const INTERNAL_CALLER_HEADER: &str = "x-openai-internal-caller";

/// Body of `POST .../register`, from an executor.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RegisterRequest {
    /// [`SECURITY_PROFILE`].
    pub security_profile: String,
    /// The executor's static public key, the same for the life of its process.
    pub executor_public_key: PublicKeyText,
}

/// Answer to a register call.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RegisterResponse {
    /// The environment id of the request.
    pub environment_id: String,
    /// [`SECURITY_PROFILE`].
    pub security_profile: String,
    /// The new registration, which replaces any earlier one of the environment.
    pub executor_registration_id: String,
    /// Signed rendezvous URL with `role=environment`: a capability, so a secret.
    pub url: String,
}

/// Body of `POST .../connect`, from a harness.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ConnectRequest {
    /// The harness's static public key.
    pub harness_public_key: PublicKeyText,
}

/// Answer to a connect call: the bundle for one websocket.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ConnectResponse {
    /// The environment id of the request.
    pub environment_id: String,
    /// [`SECURITY_PROFILE`].
    pub security_profile: String,
    /// The executor's current registration.
    pub executor_registration_id: String,
    /// The key to pin in the handshake.
    pub executor_public_key: PublicKeyText,
    /// Single-use text for the first handshake message, at most 4,096 bytes: a secret.
    pub harness_key_authorization: String,
    /// Signed rendezvous URL with `role=harness`: a capability, so a secret.
    pub url: String,
}

/// Body of `POST .../validate`, from an executor.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ValidateRequest {
    /// The registration that the harness's handshake named.
    pub executor_registration_id: String,
    /// The key that the handshake proved possession of.
    pub harness_public_key: PublicKeyText,
    /// The text from the first handshake message: a secret.
    pub harness_key_authorization: String,
}

/// Answer to a validate call.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ValidateResponse {
    /// Whether the harness may enter.
    pub valid: bool,
}

impl fmt::Debug for RegisterResponse {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RegisterResponse")
            .field("environment_id", &self.environment_id)
            .field("security_profile", &self.security_profile)
            .field("executor_registration_id", &self.executor_registration_id)
            .field("url", &Redacted)
            .finish()
    }
}

impl fmt::Debug for ConnectResponse {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ConnectResponse")
            .field("environment_id", &self.environment_id)
            .field("security_profile", &self.security_profile)
            .field("executor_registration_id", &self.executor_registration_id)
            .field("executor_public_key", &self.executor_public_key)
            .field("harness_key_authorization", &Redacted)
            .field("url", &Redacted)
            .finish()
    }
}

impl fmt::Debug for ValidateRequest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ValidateRequest")
            .field("executor_registration_id", &self.executor_registration_id)
            .field("harness_public_key", &self.harness_public_key)
            .field("harness_key_authorization", &Redacted)
            .finish()
    }
}

/// Stands for a secret in `Debug` output.
pub(crate) struct Redacted;

impl fmt::Debug for Redacted {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("[redacted]")
    }
}

#[cfg(test)]
mod tests;
