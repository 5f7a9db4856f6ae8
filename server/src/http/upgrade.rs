//! The websocket request of the rendezvous.
//!
//! ```text
//! 400  the URL is not of the right form
//! 401  it is no longer good, or never was: expired, used, superseded, forged, token revoked
//! 404  there is no such path
//! 503  it may be good again later: shutting down, no executor, a newer executor is connected
//! ```
//!
//! An executor answers a 4xx with a new registration, and a 5xx by trying the same URL again. Hence
//! an executor that was superseded gets 503 as long as the newer one is connected: two executors for
//! one environment would otherwise take it from each other for ever. A harness asks for one fresh
//! bundle after 401.

use std::future::Future;
use std::net::IpAddr;
use std::sync::Arc;

use axum::body::Body;
use axum::extract::ws::WebSocket;
use axum::extract::{FromRequestParts as _, WebSocketUpgrade};
use axum::response::IntoResponse as _;
use http::{HeaderMap, HeaderValue, Request, Response, StatusCode, header};
use registry_client::wire::{REJECTION_REASON_HEADER, REQUEST_ID_HEADER, RejectionReason};
use relay_proto::ids::{EnvironmentId, RegistrationId};

use super::printable;
use super::registry::decode_environment_id;
use crate::clock::Timestamp;
use crate::events;
use crate::limits;
use crate::rendezvous::outbox::Outbox;
use crate::rendezvous::routes::{AttachError, CloseCause};
use crate::rendezvous::socket::{self, FrameHandler};
use crate::rendezvous::url::{Claims, Role};
use crate::service::{ConnectionPermit, Service};
use crate::store::{Action, AuditEntry, HarnessOwner, Registration, StoreError, TokenId, UrlUse};

/// A rejection: the status decides what the peer does, the reason is for people.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Rejection {
    status: StatusCode,
    reason: RejectionReason,
}

/// Answers the websocket request for an environment.
pub(crate) async fn handle(
    service: &Arc<Service>,
    peer: IpAddr,
    environment: &str,
    request: Request<Body>,
) -> Response<Body> {
    let request_id = printable(request.headers(), REQUEST_ID_HEADER).to_owned();
    let mut found = Found::default();
    match accept(service, peer, environment, request, &request_id, &mut found).await {
        Ok(response) => response,
        Err(rejection) => {
            // Only a forged URL is the sign of an attempt; the others have been good once.
            let is_forged = rejection.reason == RejectionReason::InvalidSignature;
            let is_too_many = is_forged && !service.failures.note(peer);
            let status = if is_too_many {
                StatusCode::TOO_MANY_REQUESTS
            } else {
                rejection.status
            };
            if status == StatusCode::UNAUTHORIZED && service.refusals.note(peer) {
                let environment = decode_environment_id(environment).ok();
                let outcome = rejection.reason.as_str();
                if let Err(error) = found
                    .record(service, peer, environment.as_ref(), outcome)
                    .await
                {
                    events::internal_error("write the audit log", &error);
                }
            }
            reject(
                peer,
                Rejection {
                    status,
                    ..rejection
                },
                &request_id,
            )
        }
    }
}

/// What becomes known of a request while it is answered.
#[derive(Debug, Default)]
struct Found {
    token: Option<TokenId>,
    registration: Option<RegistrationId>,
}

impl Found {
    async fn record(
        &self,
        service: &Service,
        peer: IpAddr,
        environment: Option<&EnvironmentId>,
        outcome: &'static str,
    ) -> Result<(), StoreError> {
        let entry = AuditEntry {
            at: service.clock.now(),
            action: Action::Rendezvous,
            outcome,
            token: self.token.as_ref(),
            actor: None,
            environment,
            registration: self.registration.as_ref(),
            peer: Some(peer),
        };
        service.store.record(entry).await
    }
}

/// Answers a websocket request for a path that there is not.
pub(crate) fn unknown_route(peer: IpAddr, headers: &HeaderMap) -> Response<Body> {
    reject(
        peer,
        rejection(RejectionReason::UnknownRoute),
        printable(headers, REQUEST_ID_HEADER),
    )
}

async fn accept(
    service: &Arc<Service>,
    peer: IpAddr,
    environment: &str,
    request: Request<Body>,
    request_id: &str,
    found: &mut Found,
) -> Result<Response<Body>, Rejection> {
    if service.is_draining() {
        return Err(rejection(RejectionReason::PodDraining));
    }
    let environment =
        decode_environment_id(environment).map_err(|_| rejection(RejectionReason::UnknownRoute))?;
    let (mut parts, _) = request.into_parts();
    let query = parts.uri.query().unwrap_or_default();
    let now = service.clock.now();
    let claims = service
        .signer
        .verify(&environment, query, now)
        .map_err(rejection)?;
    found.registration = Some(claims.registration.clone());
    let registration = current_registration(service, &claims).await?;
    match claims.role {
        Role::Executor => {
            found.token.clone_from(&registration.token);
            if !service
                .store
                .is_token_valid(registration.token.as_ref(), now)
                .await?
            {
                return Err(rejection(RejectionReason::Expired));
            }
        }
        Role::Harness { .. } => {
            if !service.hub.has_room(&environment, &registration) {
                return Err(rejection(RejectionReason::RouteUnavailable));
            }
        }
    }
    // Before anything is used up: a request that is no websocket request must not cost a bundle.
    let upgrade = match WebSocketUpgrade::from_request_parts(&mut parts, &()).await {
        Ok(upgrade) => socket::with_limits(upgrade),
        Err(error) => return Ok(error.into_response()),
    };
    let opening = Opening {
        service: Arc::clone(service),
        _connection: parts.extensions.remove::<ConnectionPermit>(),
        environment,
        registration,
        peer,
        request_id: request_id.to_owned(),
    };
    match claims.role {
        Role::Executor => {
            opening.record(found).await?;
            Ok(opening.upgrade(upgrade, Opening::run_executor))
        }
        Role::Harness { nonce } => {
            let owner = opening.use_bundle_url(&nonce, now, found).await?;
            opening.record(found).await?;
            Ok(opening.upgrade(upgrade, |opening, socket| {
                opening.run_harness(socket, owner)
            }))
        }
    }
}

/// The registration that the URL is for, if it is still the current one.
async fn current_registration(
    service: &Service,
    claims: &Claims,
) -> Result<Registration, Rejection> {
    let superseded = rejection(RejectionReason::UnexpectedExecutorRegistrationId);
    let current = service
        .store
        .environment(&claims.environment)
        .await?
        .registered();
    match current {
        None => Err(superseded),
        Some(current) if current.id == claims.registration => Ok(current),
        Some(current) => {
            let newer_is_there = service.hub.is_online(&claims.environment, &current);
            if claims.role == Role::Executor && newer_is_there {
                return Err(Rejection {
                    status: StatusCode::SERVICE_UNAVAILABLE,
                    ..superseded
                });
            }
            Err(superseded)
        }
    }
}

/// A websocket between its request and its place in the hub.
struct Opening {
    service: Arc<Service>,
    /// An upgraded connection still counts as one.
    _connection: Option<ConnectionPermit>,
    environment: EnvironmentId,
    registration: Registration,
    peer: IpAddr,
    request_id: String,
}

impl Opening {
    fn upgrade<R, F>(self, upgrade: WebSocketUpgrade, run: R) -> Response<Body>
    where
        R: FnOnce(Self, WebSocket) -> F + Send + 'static,
        F: Future<Output = ()> + Send + 'static,
    {
        // The task is started by the web framework; tracking it is what makes it ours.
        let tracked = self.service.tasks.token();
        let abort = self.service.abort.clone();
        upgrade.on_upgrade(move |socket| async move {
            let _tracked = tracked;
            // In a place of its own: a future that is handed on would be held once at each stage, for
            // as long as the socket lives.
            let run = Box::pin(run(self, socket));
            abort.run_until_cancelled_owned(run).await;
        })
    }

    /// Uses a harness's URL up, and returns whom it was for.
    async fn use_bundle_url(
        &self,
        nonce: &str,
        now: Timestamp,
        found: &mut Found,
    ) -> Result<HarnessOwner, Rejection> {
        let store = &self.service.store;
        let registration = &self.registration.id;
        if let UrlUse::Accepted(owner) = store
            .use_bundle_url(nonce, &self.environment, registration, now)
            .await?
        {
            found.token.clone_from(&owner.token);
            if store.is_token_valid(owner.token.as_ref(), now).await? {
                return Ok(owner);
            }
        }
        Err(rejection(RejectionReason::Expired))
    }

    /// Records that the websocket is granted. Nobody gets one that the audit log does not know of.
    async fn record(&self, found: &Found) -> Result<(), Rejection> {
        let environment = Some(&self.environment);
        Ok(found
            .record(&self.service, self.peer, environment, "ok")
            .await?)
    }

    async fn run_executor(self, socket: WebSocket) {
        let hub = &self.service.hub;
        let place = match hub.attach_executor(&self.environment, &self.registration) {
            Ok(place) => place,
            Err(error) => return self.refuse(error),
        };
        // A registration may have been made since the URL was checked. One that is made from now on
        // finds the place in the hub.
        let is_current = match self.service.store.environment(&self.environment).await {
            Ok(lookup) => lookup
                .registered()
                .is_some_and(|current| current.id == self.registration.id),
            // The check before has passed, and taking over from nobody is harmless.
            Err(_) => true,
        };
        let outbox = place.outbox();
        if !is_current {
            outbox.close(CloseCause::Superseded);
        }
        self.run("executor", socket, outbox, place).await;
    }

    async fn run_harness(self, socket: WebSocket, owner: HarnessOwner) {
        let hub = &self.service.hub;
        match hub.attach_harness(&self.environment, &self.registration, owner) {
            Ok(place) => self.run("harness", socket, place.outbox(), place).await,
            Err(error) => self.refuse(error),
        }
    }

    /// The socket's life. Of what it was opened with, the future keeps little.
    fn run(
        self,
        role: &'static str,
        socket: WebSocket,
        outbox: Arc<Outbox>,
        place: impl FrameHandler,
    ) -> impl Future<Output = ()> {
        // Shutdown closes the sockets that there are; this one may have come just after.
        if self.service.is_draining() {
            outbox.close(CloseCause::ShuttingDown {
                retry_after: self.service.retry_after(),
            });
        }
        let Self {
            service,
            _connection,
            environment,
            registration,
            peer,
            request_id,
        } = self;
        let registration = registration.id;
        events::socket_opened(role, &environment, &registration, peer, &request_id);
        async move {
            let _connection = _connection;
            let ended = socket::run(socket, outbox, place, service.hub.limits()).await;
            events::socket_closed(role, &environment, &registration, ended);
        }
    }

    /// Drops a websocket that lost its place while it was opened. The peer comes back, and its next
    /// request is answered with what is the matter.
    fn refuse(&self, error: AttachError) {
        events::socket_refused(&self.environment, &self.registration.id, error);
    }
}

fn rejection(reason: RejectionReason) -> Rejection {
    let status = match reason {
        RejectionReason::Expired
        | RejectionReason::InvalidSignature
        | RejectionReason::UnexpectedExecutorRegistrationId => StatusCode::UNAUTHORIZED,
        RejectionReason::UnknownRoute => StatusCode::NOT_FOUND,
        RejectionReason::PodDraining
        | RejectionReason::RouteUnavailable
        | RejectionReason::InvalidSecret
        | RejectionReason::WrongRendezvousCluster => StatusCode::SERVICE_UNAVAILABLE,
        _ => StatusCode::BAD_REQUEST,
    };
    Rejection { status, reason }
}

fn reject(peer: IpAddr, rejection: Rejection, request_id: &str) -> Response<Body> {
    let Rejection { status, reason } = rejection;
    events::upgrade_rejected(peer, status.as_u16(), reason, request_id);
    let mut response = Response::new(Body::empty());
    *response.status_mut() = status;
    response.headers_mut().insert(
        REJECTION_REASON_HEADER,
        HeaderValue::from_static(reason.as_str()),
    );
    let retry_after = match (status, reason) {
        (StatusCode::TOO_MANY_REQUESTS, _) => Some(limits::FAILURE_PAUSE_SECS),
        (_, RejectionReason::PodDraining) => Some(1),
        _ => None,
    };
    if let Some(seconds) = retry_after {
        response
            .headers_mut()
            .insert(header::RETRY_AFTER, HeaderValue::from(seconds));
    }
    response
}

impl From<StoreError> for Rejection {
    fn from(error: StoreError) -> Self {
        events::internal_error("check a websocket request", &error);
        rejection(RejectionReason::RouteUnavailable)
    }
}

#[cfg(test)]
mod tests;
