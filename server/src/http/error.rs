//! Errors of HTTP calls: status, code and message, in one table.

use axum::body::Body;
use http::{HeaderValue, Response, StatusCode, header};
use registry_client::wire::{ErrorBody, code};

use crate::auth::{AuthError, Call, Unusable};
use crate::limits;
use crate::store::{StoreError, TokenId};

/// Why a call is answered with an error.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ApiError {
    /// Not the JSON of this call.
    #[error("the body is not the JSON of this call: {0}")]
    InvalidRequest(String),
    /// An id that cannot be the name of an environment.
    #[error("{0}")]
    InvalidEnvironmentId(&'static str),
    /// Another security profile.
    #[error("the security profile is not supported")]
    UnsupportedSecurityProfile,
    /// Not a public key of the suite.
    #[error("{0}")]
    InvalidPublicKey(#[from] registry_client::wire::PublicKeyTextError),
    /// Who is calling, or may they?
    #[error(transparent)]
    Auth(AuthError),
    /// A request in development mode that did not come from this machine.
    #[error("development mode answers programs on this machine only")]
    NotLocal,
    /// No such path.
    #[error("there is nothing at this path")]
    NotFound,
    /// Nobody ever registered for it.
    #[error("the environment is not known")]
    EnvironmentNotFound,
    /// Another method.
    #[error("only {allow} is allowed here")]
    MethodNotAllowed {
        /// The method that is.
        allow: &'static str,
    },
    /// The body took too long.
    #[error("the body did not arrive in {} s", limits::BODY_TIMEOUT.as_secs())]
    Timeout,
    /// No executor is connected.
    #[error("no executor is connected for the environment")]
    EnvironmentOffline,
    /// The body is too long.
    #[error("the body exceeds the limit of {} bytes", limits::BODY_BYTES)]
    BodyTooLarge,
    /// Too many failures.
    #[error("too many failed attempts from this address")]
    TooManyFailures,
    /// Too many calls of one token.
    #[error("too many calls with this token for this environment")]
    TooManyCalls {
        /// The call.
        call: Call,
        /// Seconds until there is room.
        retry_after: u64,
    },
    /// A quota of the store.
    #[error("{0}")]
    QuotaExceeded(String),
    /// The server stops.
    #[error("the server is shutting down")]
    ShuttingDown,
    /// The database failed, which may pass.
    #[error("the registry cannot reach its database")]
    Unavailable,
}

impl ApiError {
    /// The HTTP status.
    pub(crate) fn status(&self) -> StatusCode {
        match self {
            Self::InvalidRequest(_)
            | Self::InvalidEnvironmentId(_)
            | Self::UnsupportedSecurityProfile
            | Self::InvalidPublicKey(_) => StatusCode::BAD_REQUEST,
            Self::Auth(
                AuthError::MissingToken
                | AuthError::InvalidToken(_)
                | AuthError::IdentityToken { .. },
            ) => StatusCode::UNAUTHORIZED,
            Self::Auth(
                AuthError::NoRole | AuthError::WrongRole { .. } | AuthError::WrongEnvironment,
            )
            | Self::NotLocal => StatusCode::FORBIDDEN,
            Self::NotFound | Self::EnvironmentNotFound => StatusCode::NOT_FOUND,
            Self::MethodNotAllowed { .. } => StatusCode::METHOD_NOT_ALLOWED,
            Self::Timeout => StatusCode::REQUEST_TIMEOUT,
            Self::EnvironmentOffline => StatusCode::CONFLICT,
            Self::BodyTooLarge => StatusCode::PAYLOAD_TOO_LARGE,
            // An executor ends its process after a 429, and its commands with it.
            Self::TooManyCalls {
                call: Call::Register,
                ..
            } => StatusCode::SERVICE_UNAVAILABLE,
            Self::TooManyFailures | Self::TooManyCalls { .. } | Self::QuotaExceeded(_) => {
                StatusCode::TOO_MANY_REQUESTS
            }
            Self::Auth(AuthError::Store(_) | AuthError::NoKeys)
            | Self::ShuttingDown
            | Self::Unavailable => StatusCode::SERVICE_UNAVAILABLE,
        }
    }

    /// Whether the audit log has it: what was refused to somebody, as far as that does not repeat
    /// itself without end.
    pub(crate) fn is_recorded(&self) -> bool {
        match self {
            Self::Auth(AuthError::Store(_) | AuthError::NoKeys)
            | Self::TooManyFailures
            | Self::TooManyCalls { .. }
            | Self::ShuttingDown
            | Self::Unavailable
            | Self::MethodNotAllowed { .. }
            | Self::NotFound
            | Self::Timeout => false,
            Self::Auth(_)
            | Self::InvalidRequest(_)
            | Self::InvalidEnvironmentId(_)
            | Self::UnsupportedSecurityProfile
            | Self::InvalidPublicKey(_)
            | Self::NotLocal
            | Self::EnvironmentNotFound
            | Self::EnvironmentOffline
            | Self::BodyTooLarge
            | Self::QuotaExceeded(_) => true,
        }
    }

    /// What the audit log says of a refused `call`: more than the caller gets to know.
    pub(crate) fn outcome(&self, call: Call) -> &'static str {
        match self {
            Self::Auth(AuthError::InvalidToken(Unusable::Revoked(_))) => "revoked_token",
            Self::Auth(AuthError::InvalidToken(Unusable::Expired(_))) => "expired_token",
            _ => self.code(call),
        }
    }

    /// The token that a refused call was made with, if it was one of ours.
    pub(crate) fn token(&self) -> Option<&TokenId> {
        match self {
            Self::Auth(AuthError::InvalidToken(Unusable::Revoked(id) | Unusable::Expired(id))) => {
                Some(id)
            }
            Self::Auth(AuthError::IdentityToken {
                bearer: Some(bearer),
                ..
            }) => Some(&bearer.token),
            _ => None,
        }
    }

    /// Whom that token is about, if an identity provider says so.
    pub(crate) fn actor(&self) -> Option<&str> {
        match self {
            Self::Auth(AuthError::IdentityToken {
                bearer: Some(bearer),
                ..
            }) => Some(&bearer.actor),
            _ => None,
        }
    }

    /// The code of the error body in an answer to `call`.
    ///
    /// An executor ends its process after a failed register, except for one code. What passes by
    /// itself is reported under that code: a database that is busy must not cost running commands.
    pub(crate) fn code(&self, call: Call) -> &'static str {
        if call == Call::Register && self.status() == StatusCode::SERVICE_UNAVAILABLE {
            return code::REGISTRATION_CONFLICT;
        }
        self.plain_code()
    }

    /// The answer to a registry call.
    pub(crate) fn into_response_to(self, call: Call) -> Response<Body> {
        let code = self.code(call);
        self.with_code(code)
    }

    /// The answer to any other request.
    pub(crate) fn into_response(self) -> Response<Body> {
        let code = self.plain_code();
        self.with_code(code)
    }

    fn plain_code(&self) -> &'static str {
        match self {
            Self::InvalidRequest(_) => "invalid_request",
            Self::InvalidEnvironmentId(_) => "invalid_environment_id",
            Self::UnsupportedSecurityProfile => "unsupported_security_profile",
            Self::InvalidPublicKey(_) => "invalid_public_key",
            Self::Auth(AuthError::MissingToken) => "missing_token",
            Self::Auth(AuthError::InvalidToken(_)) => "invalid_token",
            Self::Auth(AuthError::IdentityToken { error, .. }) => error.code(),
            Self::Auth(AuthError::NoKeys) => "token_keys_unavailable",
            Self::Auth(AuthError::NoRole) => "no_role",
            Self::Auth(AuthError::WrongRole { .. }) => "wrong_role",
            Self::Auth(AuthError::WrongEnvironment) => "wrong_environment",
            Self::NotLocal => "not_local",
            Self::NotFound => "not_found",
            Self::EnvironmentNotFound => "environment_not_found",
            Self::MethodNotAllowed { .. } => "method_not_allowed",
            Self::Timeout => "request_timeout",
            Self::EnvironmentOffline => code::ENVIRONMENT_OFFLINE,
            Self::BodyTooLarge => "body_too_large",
            Self::TooManyFailures => "too_many_failures",
            Self::TooManyCalls { .. } => "too_many_calls",
            Self::QuotaExceeded(_) => "quota_exceeded",
            Self::ShuttingDown => "shutting_down",
            Self::Auth(AuthError::Store(_)) | Self::Unavailable => "unavailable",
        }
    }

    fn with_code(self, code: &'static str) -> Response<Body> {
        let status = self.status();
        let mut response = json(status, &ErrorBody::new(code, self.to_string()));
        let headers = response.headers_mut();
        match self {
            Self::MethodNotAllowed { allow } => {
                headers.insert(header::ALLOW, HeaderValue::from_static(allow));
            }
            Self::Auth(_) if status == StatusCode::UNAUTHORIZED => {
                headers.insert(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
            }
            Self::Auth(AuthError::NoKeys) => {
                let seconds = HeaderValue::from(limits::OIDC_RETRY_AFTER_SECS);
                headers.insert(header::RETRY_AFTER, seconds);
            }
            Self::TooManyFailures | Self::QuotaExceeded(_) => {
                headers.insert(
                    header::RETRY_AFTER,
                    HeaderValue::from(limits::FAILURE_PAUSE_SECS),
                );
            }
            Self::TooManyCalls { retry_after, .. } => {
                headers.insert(header::RETRY_AFTER, HeaderValue::from(retry_after));
            }
            Self::ShuttingDown | Self::Unavailable => {
                headers.insert(header::RETRY_AFTER, HeaderValue::from_static("1"));
            }
            _ => {}
        }
        response
    }
}

impl From<StoreError> for ApiError {
    fn from(error: StoreError) -> Self {
        match error {
            StoreError::TooManyEnvironments { .. } | StoreError::TooManyAuthorizations { .. } => {
                Self::QuotaExceeded(error.to_string())
            }
            _ => {
                crate::events::internal_error("use the store", &error);
                Self::Unavailable
            }
        }
    }
}

impl From<AuthError> for ApiError {
    fn from(error: AuthError) -> Self {
        match error {
            AuthError::Store(error) => error.into(),
            error => Self::Auth(error),
        }
    }
}

/// A JSON answer that nobody may keep.
pub(crate) fn json(status: StatusCode, body: &impl serde::Serialize) -> Response<Body> {
    let Ok(text) = serde_json::to_vec(body) else {
        // Bodies are structs of texts, which always serialize.
        let mut response = Response::new(Body::empty());
        *response.status_mut() = StatusCode::INTERNAL_SERVER_ERROR;
        return response;
    };
    let mut response = Response::new(Body::from(text));
    *response.status_mut() = status;
    let headers = response.headers_mut();
    headers.insert(
        header::CONTENT_TYPE,
        HeaderValue::from_static("application/json"),
    );
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    response
}
