//! The JSON body of an error answer.

use serde::{Deserialize, Deserializer, Serialize};
use serde_json::Value;

/// Codes that change what a caller does; all others are only shown.
pub mod code {
    /// 409 of connect: no executor is connected to the rendezvous.
    pub const ENVIRONMENT_OFFLINE: &str = "environment_offline";
    /// 503 of register: another registration of the environment is in progress.
    pub const REGISTRATION_CONFLICT: &str = "registration_conflict";
    /// 502 of register: the registry could not check the credential.
    pub const AUTHENTICATION_SERVICE_UNAVAILABLE: &str = "authentication_service_unavailable";
}

/// Body of an answer outside 2xx, in either of its two forms; `error` wins when both are present.
///
/// ```text
/// {"error":  {"code": "environment_offline", "message": "text"}}
/// {"detail": {"code": "environment_offline", "message": "text"}}
/// ```
///
/// Decoding is lenient: a member of another type counts as absent, so that an error page of some
/// proxy in between still leaves the status to go by.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ErrorBody {
    /// The form that this project's registry writes.
    #[serde(
        default,
        deserialize_with = "lenient",
        skip_serializing_if = "Option::is_none"
    )]
    pub error: Option<ErrorDetail>,
    /// The form of some web frameworks.
    #[serde(
        default,
        deserialize_with = "lenient",
        skip_serializing_if = "Option::is_none"
    )]
    pub detail: Option<ErrorDetail>,
}

/// Code and message of an [`ErrorBody`], both optional.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ErrorDetail {
    /// Machine-readable code; see [`code`].
    #[serde(
        default,
        deserialize_with = "lenient",
        skip_serializing_if = "Option::is_none"
    )]
    pub code: Option<String>,
    /// Text for people.
    #[serde(
        default,
        deserialize_with = "lenient",
        skip_serializing_if = "Option::is_none"
    )]
    pub message: Option<String>,
}

impl ErrorBody {
    /// Returns the body with `code` and `message` in the `error` form.
    pub fn new(code: impl Into<String>, message: impl Into<String>) -> Self {
        let detail = ErrorDetail {
            code: Some(code.into()),
            message: Some(message.into()),
        };
        Self {
            error: Some(detail),
            detail: None,
        }
    }

    /// Returns the detail that counts.
    pub fn into_detail(self) -> Option<ErrorDetail> {
        self.error.or(self.detail)
    }
}

/// Reads a member as `T`, or as absent when it is something else.
fn lenient<'de, D, T>(deserializer: D) -> Result<Option<T>, D::Error>
where
    D: Deserializer<'de>,
    T: serde::de::DeserializeOwned,
{
    Ok(T::deserialize(Value::deserialize(deserializer)?).ok())
}
