//! The way through registry and rendezvous: bundle, websocket, encrypted stream.
//!
//! ```text
//! registry:   POST .../connect {our public key} -> bundle {url, executor key, authorization}
//! rendezvous: websocket to the bundle's url
//! executor:   Noise hybrid IK over relay frames, with the authorization in the first message
//! ```
//!
//! Each part is good for one websocket, so each websocket needs all of it. A stream may outlive its
//! websocket: then the [`Carrier`] fetches the first two parts anew and goes on with it, and whoever
//! has the [`Transport`] notices nothing. Only our own key is kept. Neither registry nor rendezvous
//! can read what passes.

mod carrier;

use std::sync::Arc;

use rand::{SeedableRng, rngs::StdRng};
use registry_client::{Bundle, Connector, Failure, RegistryClient, RegistryError, WebSocket, wire};
use relay_driver::{OpenFailure, OpenRequest};
use relay_proto::{
    CloseReason, Connection, ConnectionConfig, Identity, Reliability,
    ids::{EnvironmentId, RegistrationId, StreamId},
    keys::PublicKey,
};
use tokio::{sync::oneshot, time::Instant};
use tokio_tungstenite::tungstenite::http::HeaderMap;
use tokio_util::sync::CancellationToken;

use self::carrier::Carrier;
pub(crate) use self::carrier::Resumptions;
use crate::{
    Dial, Error, RecoveryConfig, Transport,
    transport::{AbortOnDrop, DialFuture, chain, connect_error},
};

/// Dials one environment of one registry.
pub(crate) struct RelayDial {
    route: Arc<Route>,
    /// How a stream whose path is lost gets another one.
    recovery: RecoveryConfig,
}

/// What leads to the executor of an environment.
struct Route {
    registry: RegistryClient,
    connector: Connector,
    environment: EnvironmentId,
    identity: Arc<Identity>,
}

impl RelayDial {
    /// Makes a key of our own, which lives as long as the client.
    pub(crate) fn new(
        registry: RegistryClient,
        connector: Connector,
        environment: EnvironmentId,
        recovery: RecoveryConfig,
    ) -> Result<Self, Error> {
        let identity = Identity::generate(&mut StdRng::from_seed(secret_seed()?))
            .map_err(|error| Error::Protocol(error.to_string()))?;
        Ok(Self {
            route: Arc::new(Route {
                registry,
                connector,
                environment,
                identity: Arc::new(identity),
            }),
            recovery,
        })
    }

    async fn connect(&self, pinned: Option<&PublicKey>) -> Result<Transport, Error> {
        let route = &self.route;
        let (bundle, socket) = route.websocket(pinned).await?;
        let connection = route.connection(bundle.registration)?;
        let stream = StreamId::new(uuid::Uuid::new_v4().to_string())
            .map_err(|error| Error::Misuse(error.to_string()))?;
        let request = OpenRequest {
            stream,
            executor_key: bundle.executor_key.clone(),
            authorization: bundle.authorization.expose().to_owned(),
        };
        let (driver, opening) =
            relay_driver::harness(socket, connection, request, CancellationToken::new());
        let resumptions = Resumptions::default();
        let (opened, path) = oneshot::channel();
        let carrier = Carrier::new(
            Arc::clone(route),
            bundle.executor_key.clone(),
            self.recovery.clone(),
            resumptions.clone(),
        );
        let carrier = AbortOnDrop::new(tokio::spawn(carrier.run(driver, path)));
        let stream = opening
            .opened()
            .await
            .map_err(|failure| route.open_error(failure))?;
        // The carrier has ended if the connection has, which the channels tell.
        let _ = opened.send(stream.path);
        Ok(Transport::new(stream.incoming, stream.outgoing)
            .with_executor_key(bundle.executor_key)
            .with_resumptions(resumptions)
            .with_owner(carrier))
    }
}

impl Route {
    /// Gets a bundle and opens its websocket. Fails if the executor has another key than `pinned`.
    async fn websocket(&self, pinned: Option<&PublicKey>) -> Result<(Bundle, WebSocket), Error> {
        let mut fresh_bundle_allowed = true;
        loop {
            let bundle = self
                .registry
                .connect(&self.environment, self.identity.public_key())
                .await
                .map_err(|error| self.registry_error(error))?;
            if pinned.is_some_and(|pinned| *pinned != bundle.executor_key) {
                return Err(Error::ExecutorKeyChanged);
            }
            match self
                .connector
                .websocket(&bundle.url, HeaderMap::new())
                .await
            {
                Ok(socket) => return Ok((bundle, socket)),
                // A bundle is short-lived; it may have expired on the way.
                Err(error) if error.needs_new_url() && fresh_bundle_allowed => {
                    fresh_bundle_allowed = false;
                }
                Err(error) => {
                    let context = format!("rendezvous at {}", bundle.url.host());
                    return Err(connect_error(&context, error));
                }
            }
        }
    }

    /// Our end of a websocket.
    fn connection(&self, registration: RegistrationId) -> Result<Connection, Error> {
        let config = ConnectionConfig {
            reliability: Reliability::Resumable,
            ..ConnectionConfig::default()
        };
        Ok(Connection::harness(
            config,
            Arc::clone(&self.identity),
            self.environment.clone(),
            registration,
            secret_seed()?,
            Instant::now().into_std(),
        ))
    }

    /// Says what a stream that did not open means.
    fn open_error(&self, failure: OpenFailure) -> Error {
        match failure {
            // Another bundle leads to the same executor, with the same credentials.
            OpenFailure::Closed(CloseReason::CredentialsRejected) => Error::Refused(format!(
                "the registry no longer accepts the executor's own credential for environment {}: \
                 renew it where the executor runs",
                self.environment
            )),
            OpenFailure::Invalid(error) => Error::Protocol(error.to_string()),
            // A key that is not the executor's cannot be told from other refusals: only the executor
            // knows that the first message was not for it.
            OpenFailure::Closed(CloseReason::ResetByPeer) => Error::Unavailable {
                context: format!("environment {}", self.environment),
                detail: "the executor refused the connection, most likely because the registry \
                         named a key that is not, or no longer, the executor's, or because \
                         the registry did not confirm the authorization to it: try again, then see \
                         the executor's log"
                    .to_owned(),
                retry_after: None,
            },
            // A reset by the rendezvous looks like a refusal, so nothing else is final.
            failure => Error::Unavailable {
                context: format!("environment {}", self.environment),
                detail: chain(&failure),
                retry_after: None,
            },
        }
    }

    fn registry_error(&self, error: RegistryError) -> Error {
        registry_error(&self.registry.base().to_string(), &self.environment, error)
    }
}

/// Says what the registry's answer means to the person who asked for this environment.
fn registry_error(host: &str, environment: &EnvironmentId, error: RegistryError) -> Error {
    match &error {
        RegistryError::Authentication(failure) => {
            let why = failure.message.as_ref().map(|why| format!("{why}; "));
            Error::Refused(format!(
                "the registry refused the token ({}): {}check that it is a harness token for {host}{}",
                failure.status,
                why.unwrap_or_default(),
                or_proxy(failure)
            ))
        }
        RegistryError::Status(failure) if failure.status == 404 => {
            Error::UnknownEnvironment(format!(
                "environment {environment} is not known to the registry at {host}{}",
                or_proxy(failure)
            ))
        }
        RegistryError::Status(failure)
            if failure.code.as_deref() == Some(wire::code::ENVIRONMENT_OFFLINE) =>
        {
            Error::Offline(environment.to_string())
        }
        RegistryError::Credential(_) => Error::Refused(chain(&error)),
        _ if error.is_retryable() => Error::Unavailable {
            context: format!("registry at {host}"),
            detail: chain(&error),
            retry_after: error.retry_after(),
        },
        RegistryError::Url(_) => Error::Misuse(chain(&error)),
        _ => Error::Protocol(chain(&error)),
    }
}

/// Who else may have answered.
fn or_proxy(failure: &Failure) -> String {
    match &failure.proxy {
        Some(proxy) => format!(" (or proxy {proxy} has answered in its place)"),
        None => String::new(),
    }
}

impl Dial for RelayDial {
    fn dial<'a>(&'a self, pinned: Option<&'a PublicKey>) -> DialFuture<'a> {
        Box::pin(self.connect(pinned))
    }
}

/// Randomness for keys. Without any there must be no connection.
fn secret_seed() -> Result<[u8; 32], Error> {
    let mut seed = [0; 32];
    getrandom::fill(&mut seed)
        .map_err(|error| Error::io("failed to get randomness", std::io::Error::other(error)))?;
    Ok(seed)
}

#[cfg(test)]
mod tests {

    use super::*;

    fn failure(status: u16, code: Option<&str>) -> Failure {
        let code = code.map(str::to_owned);
        Failure {
            status,
            code,
            message: None,
            retry_after: None,
            proxy: None,
        }
    }

    #[test]
    fn registry_says_why_it_refuses_a_token() {
        let environment = EnvironmentId::new("box").unwrap();
        let refused = Failure {
            message: Some("the bearer token has expired".to_owned()),
            ..failure(401, None)
        };
        let error = RegistryError::Authentication(refused);
        let told = registry_error("http://registry", &environment, error).to_string();
        let expected = "(401): the bearer token has expired; check that it is a harness token";
        assert!(told.contains(expected), "{told}");
    }

    #[test]
    fn answers_of_the_registry_are_told_apart() {
        let environment = EnvironmentId::new("box").unwrap();
        let offline = Some(wire::code::ENVIRONMENT_OFFLINE);
        for (error, reason, retryable) in [
            (
                RegistryError::Authentication(failure(401, None)),
                "refused",
                false,
            ),
            (
                RegistryError::Authentication(failure(403, None)),
                "refused",
                false,
            ),
            (
                RegistryError::Status(failure(404, None)),
                "unknown_environment",
                false,
            ),
            (
                RegistryError::Status(failure(409, offline)),
                "environment_offline",
                true,
            ),
            (RegistryError::Status(failure(409, None)), "protocol", false),
            (
                RegistryError::Status(failure(429, None)),
                "unavailable",
                true,
            ),
            (
                RegistryError::Status(failure(503, None)),
                "unavailable",
                true,
            ),
            (RegistryError::SecurityProfile, "protocol", false),
        ] {
            let text = error.to_string();
            let told = registry_error("http://registry", &environment, error);
            assert_eq!(
                (told.reason(), told.is_retryable()),
                (reason, retryable),
                "{text}"
            );
        }
    }
}
