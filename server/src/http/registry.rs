//! The calls of the registry: register, connect, validate.

use std::net::IpAddr;
use std::sync::Arc;

use axum::body::Body;
use http::{Method, Request, Response, StatusCode};
use percent_encoding::percent_decode_str;
use registry_client::wire::{
    ConnectRequest, ConnectResponse, NOISE_STREAM_ID_HEADER, PublicKeyText, RegisterRequest,
    RegisterResponse, SECURITY_PROFILE, ValidateRequest, ValidateResponse,
};
use relay_proto::ids::{EnvironmentId, RegistrationId};
use relay_proto::keys::PublicKey;
use serde::de::DeserializeOwned;
use tokio::time::timeout;

use super::error::{ApiError, json};
use super::printable;
use crate::auth::{self, AuthError, Call, Principal};
use crate::oidc::Identity;
use crate::rendezvous::url::{Claims, Role};
use crate::service::Service;
use crate::store::{Action, AuditEntry, Lookup, TokenId};
use crate::{events, limits};

/// Answers one call, and records it.
///
/// A call that succeeded and cannot be recorded is not answered as a success: nothing is handed out
/// that the audit log does not know of.
pub(crate) async fn handle(
    service: &Arc<Service>,
    peer: IpAddr,
    environment: &str,
    call: Call,
    request: Request<Body>,
) -> Result<Response<Body>, ApiError> {
    let mut found = Found::default();
    let result = answer(service, peer, environment, call, request, &mut found).await;
    let outcome = match &result {
        Ok(_) => found.outcome,
        Err(error) if !error.is_recorded() => return result,
        Err(error) => {
            if let Some(token) = error.token() {
                found.token = Some(token.clone());
                found.actor = error.actor().map(str::to_owned);
            }
            error.outcome(call)
        }
    };
    let environment = decode_environment_id(environment).ok();
    let entry = AuditEntry {
        at: service.clock.now(),
        action: match call {
            Call::Register => Action::Register,
            Call::Connect => Action::Connect,
            Call::Validate => Action::Validate,
        },
        outcome,
        token: found.token.as_ref(),
        actor: found.actor.as_deref(),
        environment: environment.as_ref(),
        registration: found.registration.as_ref(),
        peer: Some(peer),
    };
    match service.store.record(entry).await {
        Ok(()) => result,
        Err(error) => {
            events::internal_error("write the audit log", &error);
            result.and(Err(ApiError::Unavailable))
        }
    }
}

/// What becomes known of a call while it is answered.
#[derive(Debug)]
struct Found {
    token: Option<TokenId>,
    actor: Option<String>,
    registration: Option<RegistrationId>,
    outcome: &'static str,
}

impl Default for Found {
    fn default() -> Self {
        Self {
            token: None,
            actor: None,
            registration: None,
            outcome: "ok",
        }
    }
}

async fn answer(
    service: &Arc<Service>,
    peer: IpAddr,
    environment: &str,
    call: Call,
    request: Request<Body>,
    found: &mut Found,
) -> Result<Response<Body>, ApiError> {
    if request.method() != Method::POST {
        return Err(ApiError::MethodNotAllowed { allow: "POST" });
    }
    // Handshakes that are under way on the sockets that there still are come to their end.
    if service.is_draining() && call != Call::Validate {
        return Err(ApiError::ShuttingDown);
    }
    let now = service.clock.now();
    // Who calls is found out before anything else of the request is looked at.
    let (parts, body) = request.into_parts();
    let oidc = service.oidc.as_deref();
    let principal = auth::authenticate(&service.store, service.access, oidc, &parts.headers, now)
        .await
        .map_err(|error| refused(service, peer, error))?;
    found.token = principal.token().cloned();
    found.actor = principal.identity().map(|identity| identity.bearer().actor);
    let environment = decode_environment_id(environment)?;
    principal
        .authorize(call, &environment)
        .map_err(|error| refused(service, peer, error))?;
    if let Some(account) = principal.account().filter(|_| call != Call::Validate) {
        service
            .calls
            .note(account, &environment, call.as_str())
            .map_err(|retry_after| ApiError::TooManyCalls { call, retry_after })?;
    }
    if let Some(identity) = principal.identity().filter(|_| call != Call::Validate) {
        let Identity {
            id,
            issuer,
            subject,
            expires_at,
            ..
        } = identity;
        let store = &service.store;
        store
            .remember_oidc_token(id, issuer, subject, *expires_at)
            .await?;
    }
    match call {
        Call::Register => {
            register(service, &principal, &environment, read(body).await?, found).await
        }
        Call::Connect => connect(service, &principal, &environment, read(body).await?, found).await,
        Call::Validate => {
            let stream = printable(&parts.headers, NOISE_STREAM_ID_HEADER);
            validate(service, &environment, stream, read(body).await?, found).await
        }
    }
}

/// Makes a new registration, which takes the place of any earlier one.
async fn register(
    service: &Arc<Service>,
    principal: &Principal,
    environment: &EnvironmentId,
    request: RegisterRequest,
    found: &mut Found,
) -> Result<Response<Body>, ApiError> {
    if request.security_profile != SECURITY_PROFILE {
        return Err(ApiError::UnsupportedSecurityProfile);
    }
    let key = PublicKey::try_from(&request.executor_public_key)?;
    let now = service.clock.now();
    let registration = service
        .store
        .register(environment, &key, principal.token(), now)
        .await?;
    found.registration = Some(registration.id.clone());
    service.hub.supersede(environment, &registration);
    events::registered(environment, &registration.id);
    let url = service.signer.sign(
        &service.public_url,
        &Claims {
            role: Role::Executor,
            environment: environment.clone(),
            registration: registration.id.clone(),
            expires_at: now.after(limits::EXECUTOR_URL_TTL),
        },
    );
    Ok(json(
        StatusCode::OK,
        &RegisterResponse {
            environment_id: environment.as_str().to_owned(),
            security_profile: SECURITY_PROFILE.to_owned(),
            executor_registration_id: registration.id.as_str().to_owned(),
            url,
        },
    ))
}

/// Hands out a bundle, if there is an executor to connect to.
async fn connect(
    service: &Arc<Service>,
    principal: &Principal,
    environment: &EnvironmentId,
    request: ConnectRequest,
    found: &mut Found,
) -> Result<Response<Body>, ApiError> {
    let key = PublicKey::try_from(&request.harness_public_key)?;
    let Lookup::Registered(registration) = service.store.environment(environment).await? else {
        return Err(ApiError::EnvironmentNotFound);
    };
    found.registration = Some(registration.id.clone());
    if !service.hub.is_online(environment, &registration) {
        return Err(ApiError::EnvironmentOffline);
    }
    let now = service.clock.now();
    let token = principal.token();
    let bundle = service
        .store
        .create_bundle(environment, &registration.id, &key, token, now)
        .await?;
    events::bundle_issued(environment, &registration.id);
    let url = service.signer.sign(
        &service.public_url,
        &Claims {
            role: Role::Harness {
                nonce: bundle.url_nonce,
            },
            environment: environment.clone(),
            registration: registration.id.clone(),
            expires_at: now.after(limits::HARNESS_URL_TTL),
        },
    );
    Ok(json(
        StatusCode::OK,
        &ConnectResponse {
            environment_id: environment.as_str().to_owned(),
            security_profile: SECURITY_PROFILE.to_owned(),
            executor_registration_id: registration.id.as_str().to_owned(),
            executor_public_key: PublicKeyText::from(&registration.executor_key),
            harness_key_authorization: bundle.authorization,
            url,
        },
    ))
}

/// Says whether a harness key may enter. Whatever does not fit is simply not valid.
async fn validate(
    service: &Arc<Service>,
    environment: &EnvironmentId,
    stream: &str,
    request: ValidateRequest,
    found: &mut Found,
) -> Result<Response<Body>, ApiError> {
    let Lookup::Registered(registration) = service.store.environment(environment).await? else {
        return Err(ApiError::EnvironmentNotFound);
    };
    found.registration = Some(registration.id.clone());
    let named = RegistrationId::new(request.executor_registration_id.as_str()).ok();
    let key = PublicKey::try_from(&request.harness_public_key).ok();
    let valid = match (named, key) {
        (Some(named), Some(key)) if named == registration.id => {
            let text = &request.harness_key_authorization;
            let now = service.clock.now();
            service
                .store
                .use_authorization(text, environment, &named, &key, now)
                .await?
        }
        _ => false,
    };
    if !valid {
        found.outcome = "not_valid";
    }
    events::validated(environment, &registration.id, stream, valid);
    Ok(json(StatusCode::OK, &ValidateResponse { valid }))
}

/// Decodes and checks the id in a path.
pub(super) fn decode_environment_id(segment: &str) -> Result<EnvironmentId, ApiError> {
    let text = percent_decode_str(segment)
        .decode_utf8()
        .map_err(|_| ApiError::InvalidEnvironmentId("the environment id is not UTF-8"))?;
    environment_id(&text)
}

/// Checks an id.
///
/// Clients of the reference put ids into paths as they are, so an id that changes the path when that
/// is done is refused here: it would work with some clients only.
pub(crate) fn environment_id(text: &str) -> Result<EnvironmentId, ApiError> {
    if text.len() > limits::ENVIRONMENT_ID_BYTES {
        return Err(ApiError::InvalidEnvironmentId(
            "the environment id is too long",
        ));
    }
    if text.trim() != text || text.is_empty() {
        return Err(ApiError::InvalidEnvironmentId(
            "the environment id is blank or has blanks around it",
        ));
    }
    let has_forbidden = text.contains(['/', '\\', '?', '#', '%']);
    if has_forbidden || text.chars().any(char::is_control) || matches!(text, "." | "..") {
        return Err(ApiError::InvalidEnvironmentId(
            "the environment id has a character that cannot stand in a path",
        ));
    }
    EnvironmentId::new(text)
        .map_err(|_| ApiError::InvalidEnvironmentId("the environment id is not usable"))
}

async fn read<T: DeserializeOwned>(body: Body) -> Result<T, ApiError> {
    let bytes = timeout(
        limits::BODY_TIMEOUT,
        axum::body::to_bytes(body, limits::BODY_BYTES),
    )
    .await
    .map_err(|_| ApiError::Timeout)?
    .map_err(|_| ApiError::BodyTooLarge)?;
    serde_json::from_slice(&bytes).map_err(|error| ApiError::InvalidRequest(description(&error)))
}

/// What is wrong with JSON, without any of its text: that may be a secret.
fn description(error: &serde_json::Error) -> String {
    let what = match error.classify() {
        serde_json::error::Category::Data => "a member is missing, unknown or of the wrong type",
        serde_json::error::Category::Eof => "it ends too early",
        serde_json::error::Category::Syntax | serde_json::error::Category::Io => "it is not JSON",
    };
    format!("{what} (line {}, column {})", error.line(), error.column())
}

fn refused(service: &Service, peer: IpAddr, error: AuthError) -> ApiError {
    let is_failure = !matches!(error, AuthError::Store(_) | AuthError::NoKeys);
    if is_failure && !service.failures.note(peer) {
        return ApiError::TooManyFailures;
    }
    error.into()
}
