//! The three registry calls: register, connect, validate.
//!
//! Each is one POST with a JSON body, and one try: whether to call again is the caller's decision,
//! see [`connect_with_retry`](crate::connect_with_retry) for the harness's.
//!
//! ```text
//! POST {base}/cloud/environment/{environment id}/register    executor
//! POST {base}/cloud/environment/{environment id}/connect     harness
//! POST {base}/cloud/environment/{environment id}/validate    executor
//! ```
//!
//! Everything in an answer is checked before it is handed on: an answer about another environment,
//! an unknown profile, a blank authorization or a URL that opens no websocket is an error here and
//! never a connection that cannot work. Redirects are not followed, bodies are read up to a limit.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use http::header::HeaderMap;
use http::{HeaderName, HeaderValue, StatusCode};
use relay_proto::ids::{EnvironmentId, RegistrationId, StreamId};
use relay_proto::keys::PublicKey;
use serde::Serialize;
use serde::de::DeserializeOwned;
use tracing::Instrument as _;
use tracing::field::Empty;

use crate::auth::CredentialSource;
use crate::bundle::{Authorization, Bundle, Registration, RendezvousUrl, Validation};
use crate::connector::{Connector, Route, TransportError, trace_headers};
use crate::error::{Failure, RegistryError};
use crate::limits;
use crate::registry_url::{Call, RegistryUrl};
use crate::retry_after;
use crate::wire::{
    ConnectRequest, ConnectResponse, ErrorBody, NOISE_STREAM_ID_HEADER, RegisterRequest,
    RegisterResponse, SECURITY_PROFILE, ValidateRequest, ValidateResponse, code,
};

/// What errors of register and connect show of the registry's error bodies.
///
/// Bodies of validate are never shown: they could echo the authorization text.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum ErrorBodies {
    /// The message, or the beginning of the body.
    #[default]
    Shown,
    /// A fixed text: for credentials that a registry could echo.
    Omitted,
}

/// Calls one registry with one credential source; cheap to clone.
#[derive(Clone)]
pub struct RegistryClient {
    connector: Connector,
    base: RegistryUrl,
    credentials: Arc<dyn CredentialSource>,
    timeout: Duration,
    error_bodies: ErrorBodies,
}

impl RegistryClient {
    /// Names the registry and the credential.
    ///
    /// Does not judge whether the credential may be sent there: see
    /// [`RegistryUrl::require_protection`].
    pub fn new(
        connector: Connector,
        base: RegistryUrl,
        credentials: Arc<dyn CredentialSource>,
    ) -> Self {
        Self {
            connector,
            base,
            credentials,
            timeout: limits::REQUEST_TIMEOUT,
            error_bodies: ErrorBodies::default(),
        }
    }

    /// Sets the time for one call. Default: [`limits::REQUEST_TIMEOUT`].
    #[must_use]
    pub fn with_timeout(mut self, timeout: Duration) -> Self {
        self.timeout = timeout;
        self
    }

    /// Sets what errors show of error bodies. Default: [`ErrorBodies::Shown`].
    #[must_use]
    pub fn with_error_bodies(mut self, error_bodies: ErrorBodies) -> Self {
        self.error_bodies = error_bodies;
        self
    }

    /// Returns the connector, which opens the websockets that the answers name.
    pub fn connector(&self) -> &Connector {
        &self.connector
    }

    /// Returns the registry's base URL.
    pub fn base(&self) -> &RegistryUrl {
        &self.base
    }

    /// Returns the time for one call.
    pub fn timeout(&self) -> Duration {
        self.timeout
    }

    /// Registers an executor's key, which replaces the environment's earlier registration.
    ///
    /// # Errors
    ///
    /// [`RegistryError`]. After a timeout or a broken answer the registration may have happened.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future abandons the call, which may have happened all the same.
    pub async fn register(
        &self,
        environment: &EnvironmentId,
        executor_key: &PublicKey,
    ) -> Result<Registration, RegistryError> {
        let request = RegisterRequest {
            security_profile: SECURITY_PROFILE.to_owned(),
            executor_public_key: executor_key.into(),
        };
        let response: RegisterResponse = self
            .call(Call::Register, environment, HeaderMap::new(), &request)
            .await?;
        check_subject(
            environment,
            &response.environment_id,
            &response.security_profile,
        )?;
        Ok(Registration {
            environment: environment.clone(),
            registration: RegistrationId::new(response.executor_registration_id)
                .map_err(RegistryError::Registration)?,
            url: RendezvousUrl::parse(&response.url).map_err(RegistryError::RendezvousUrl)?,
        })
    }

    /// Asks for a bundle: good for one connection of a harness with this key.
    ///
    /// # Errors
    ///
    /// [`RegistryError`].
    ///
    /// # Cancel safety
    ///
    /// Dropping the future abandons the call; an unused bundle expires.
    pub async fn connect(
        &self,
        environment: &EnvironmentId,
        harness_key: &PublicKey,
    ) -> Result<Bundle, RegistryError> {
        let request = ConnectRequest {
            harness_public_key: harness_key.into(),
        };
        let response: ConnectResponse = self
            .call(Call::Connect, environment, HeaderMap::new(), &request)
            .await?;
        check_subject(
            environment,
            &response.environment_id,
            &response.security_profile,
        )?;
        let authorization = response.harness_key_authorization;
        if authorization.trim().is_empty() {
            return Err(RegistryError::BlankAuthorization);
        }
        if authorization.len() > relay_proto::limits::AUTHORIZATION_BYTES {
            return Err(RegistryError::AuthorizationTooLong {
                length: authorization.len(),
            });
        }
        Ok(Bundle {
            environment: environment.clone(),
            registration: RegistrationId::new(response.executor_registration_id)
                .map_err(RegistryError::Registration)?,
            executor_key: PublicKey::try_from(&response.executor_public_key)
                .map_err(RegistryError::ExecutorKey)?,
            authorization: Authorization::new(authorization),
            url: RendezvousUrl::parse(&response.url).map_err(RegistryError::RendezvousUrl)?,
        })
    }

    /// Asks whether a harness key may enter, with the text from its first handshake message.
    ///
    /// # Errors
    ///
    /// [`RegistryError`], never with anything of the answer's body. A 401 is no error but
    /// [`Validation::CredentialsRejected`].
    ///
    /// # Cancel safety
    ///
    /// Dropping the future abandons the call; the authorization may have been used up.
    pub async fn validate(
        &self,
        environment: &EnvironmentId,
        registration: &RegistrationId,
        harness_key: &PublicKey,
        authorization: &str,
        stream: &StreamId,
    ) -> Result<Validation, RegistryError> {
        let request = ValidateRequest {
            executor_registration_id: registration.as_str().to_owned(),
            harness_public_key: harness_key.into(),
            harness_key_authorization: authorization.to_owned(),
        };
        let mut headers = HeaderMap::new();
        // The id is the harness's choice and only for diagnosis: one that cannot be a header value
        // is left out.
        if let Ok(stream) = HeaderValue::from_str(stream.as_str()) {
            headers.insert(HeaderName::from_static(NOISE_STREAM_ID_HEADER), stream);
        }
        let result: Result<ValidateResponse, _> = self
            .call(Call::Validate, environment, headers, &request)
            .await;
        match result {
            Ok(ValidateResponse { valid: true }) => Ok(Validation::Approved),
            Ok(ValidateResponse { valid: false }) => Ok(Validation::Refused),
            Err(error) if error.status() == Some(401) => Ok(Validation::CredentialsRejected),
            Err(error) => Err(error),
        }
    }

    async fn call<T: DeserializeOwned>(
        &self,
        call: Call,
        environment: &EnvironmentId,
        headers: HeaderMap,
        request: &impl Serialize,
    ) -> Result<T, RegistryError> {
        let span = telemetry::span!("client", call.as_str(), otel.status_code = Empty);
        let mut headers = headers;
        trace_headers(&span, &mut headers);
        let result = self.bounded(call, environment, headers, request);
        result.instrument(span.clone()).await.inspect_err(|_| {
            span.record("otel.status_code", "ERROR");
        })
    }

    /// Makes one call, within the time that it may take.
    async fn bounded<T: DeserializeOwned>(
        &self,
        call: Call,
        environment: &EnvironmentId,
        headers: HeaderMap,
        request: &impl Serialize,
    ) -> Result<T, RegistryError> {
        let exchange = self.exchange(call, environment, headers, request);
        let Ok(result) = tokio::time::timeout(self.timeout, exchange).await else {
            let (route, limit) = (self.route(), self.timeout);
            return Err(TransportError::Timeout { route, limit }.into());
        };
        serde_json::from_slice(&result?).map_err(|error| RegistryError::Malformed {
            call: call.as_str(),
            source: error.into(),
        })
    }

    /// Returns the body of a successful answer.
    async fn exchange(
        &self,
        call: Call,
        environment: &EnvironmentId,
        mut headers: HeaderMap,
        request: &impl Serialize,
    ) -> Result<Vec<u8>, RegistryError> {
        let broken = |error| TransportError::from_reqwest(self.route(), error);
        let url = self.base.call(call, environment)?;
        self.credentials.credential().await?.apply(&mut headers);
        let request = self
            .connector
            .http()
            .post(url)
            .headers(headers)
            .json(request)
            .build()
            .map_err(broken)?;
        let mut response = self.connector.send(request).await?;

        let status = response.status();
        if status == StatusCode::PROXY_AUTHENTICATION_REQUIRED {
            let route = self.route();
            return Err(TransportError::ProxyCredentials { route }.into());
        }
        let mut body = Vec::new();
        let mut complete = true;
        loop {
            match response.chunk().await {
                Ok(Some(chunk)) if body.len() + chunk.len() <= limits::MAX_RESPONSE_BYTES => {
                    body.extend_from_slice(&chunk);
                }
                Ok(Some(chunk)) => {
                    let room = limits::MAX_RESPONSE_BYTES - body.len();
                    body.extend(chunk.into_iter().take(room));
                    complete = false;
                    break;
                }
                Ok(None) => break,
                // The status alone says enough when it is not a success.
                Err(_) if !status.is_success() => break,
                Err(error) => return Err(broken(error).into()),
            }
        }
        if !status.is_success() {
            let failure = self.failure(call, status, response.headers(), &body);
            return Err(match status {
                StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN => {
                    RegistryError::Authentication(failure)
                }
                _ => RegistryError::Status(failure),
            });
        }
        if !complete {
            return Err(RegistryError::TooLarge {
                call: call.as_str(),
            });
        }
        Ok(body)
    }

    fn route(&self) -> Route {
        self.connector.route(self.base.url())
    }

    fn failure(&self, call: Call, status: StatusCode, headers: &HeaderMap, body: &[u8]) -> Failure {
        let detail = serde_json::from_slice::<ErrorBody>(body)
            .ok()
            .and_then(ErrorBody::into_detail);
        let (code, message) = detail
            .map(|detail| (detail.code, detail.message))
            .unwrap_or_default();
        let code = code.map(|code| printable(&code, limits::MAX_ERROR_TEXT_CHARS));
        // Codes that are not in the closed set are as much the registry's text as a message.
        let known = code
            .clone()
            .filter(|code| KNOWN_CODES.contains(&code.as_str()));
        let (code, message) = match (call, self.error_bodies) {
            (Call::Validate, _) => (known, None),
            (_, ErrorBodies::Omitted) if status == StatusCode::UNAUTHORIZED => {
                (known, Some("response body omitted".to_owned()))
            }
            (_, ErrorBodies::Omitted) => (
                known,
                Some("environment registry executor registration failed".to_owned()),
            ),
            (_, ErrorBodies::Shown) => {
                let text = message.unwrap_or_else(|| String::from_utf8_lossy(body).into_owned());
                let text = printable(&text, limits::MAX_ERROR_TEXT_CHARS);
                let empty = text.trim().is_empty();
                let message = if empty {
                    "empty or malformed error body".to_owned()
                } else {
                    text
                };
                (code, Some(message))
            }
        };
        let retry_after = retry_after::from_headers(headers);
        // Over TLS nobody on the way can answer.
        let by_proxy = !self.base.is_tls();
        let proxy = by_proxy.then(|| self.connector.proxy_for(self.base.url()));
        Failure {
            status: status.as_u16(),
            code,
            message,
            retry_after,
            proxy: proxy.flatten(),
        }
    }
}

impl fmt::Debug for RegistryClient {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RegistryClient")
            .field("base", &self.base)
            .field("credentials", &self.credentials)
            .field("timeout", &self.timeout)
            .field("error_bodies", &self.error_bodies)
            .finish_non_exhaustive()
    }
}

/// Refuses an answer about something else than what was asked for.
fn check_subject(
    environment: &EnvironmentId,
    answered: &str,
    profile: &str,
) -> Result<(), RegistryError> {
    if answered != environment.as_str() {
        return Err(RegistryError::DifferentEnvironment);
    }
    if profile != SECURITY_PROFILE {
        return Err(RegistryError::SecurityProfile);
    }
    Ok(())
}

/// Returns the beginning of an untrusted text, without control characters.
fn printable(text: &str, limit: usize) -> String {
    text.chars()
        .take(limit)
        .map(|c| if c.is_control() { ' ' } else { c })
        .collect()
}

const KNOWN_CODES: [&str; 3] = [
    code::ENVIRONMENT_OFFLINE,
    code::REGISTRATION_CONFLICT,
    code::AUTHENTICATION_SERVICE_UNAVAILABLE,
];
