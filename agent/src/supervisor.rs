//! Remote mode: register, dial, serve, wait, and again, for as long as the process lives.
//!
//! ```text
//!            +---------------- rejected with 4xx, or failed too often ----------------+
//!            v                                                                        |
//!      Registering --ok--> (Waiting, after a 4xx) --> Dialing --ok--> Serving --ended--> Waiting
//!        |    ^                                       |    ^                             |
//!        +-Waiting (registry trouble)                 +-Waiting (5xx, TCP, TLS) <--------+
//! ```
//!
//! Streams that can be resumed belong to no state: they wait while there is no websocket, go on with
//! the next one, and end when that takes too long.
//!
//! Trouble with the registry or the rendezvous never ends the process: running commands would be
//! lost with it, and whatever is wrong can usually be put right from outside. It is logged with
//! what to do, at most once a minute while it stays the same.
//!
//! Not responsible for what happens on a connection: [`crate::relay`] is.

mod advice;
mod pacing;
mod trouble;

use std::{sync::Arc, time::Duration};

use http::HeaderValue;
use registry_client::{
    ConnectError, Registration, RegistryClient, RegistryError, WebSocket, new_request_id, wire,
};
use relay_driver::DisconnectReason;
use relay_proto::{
    Identity,
    backoff::{BackoffConfig, Jitter},
    ids::EnvironmentId,
};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::{events, metrics::metrics, relay, serve::Serve, status};
use pacing::Pacing;
use trouble::{Trouble, TroubleLog};

/// Keeps one executor attached to one environment.
#[derive(Debug)]
pub struct Supervisor<S> {
    registry: RegistryClient,
    environment: EnvironmentId,
    identity: Arc<Identity>,
    sessions: Arc<S>,
    pacing: Pacing,
    log: TroubleLog,
    /// What operators are shown.
    shown: Arc<ops::state::State>,
    /// Failures to open a websocket with the current registration.
    failed_dials: u32,
}

/// What the supervisor does next.
#[derive(Debug)]
enum State {
    /// Ask the registry for a registration; then dial at once, or after a delay because the last
    /// URL was rejected.
    Registering { dial: Pace },
    /// Open the websocket of this registration.
    Dialing(Registration),
    /// Serve streams on it.
    Serving(Registration, Box<WebSocket>),
    /// It was lost; dial again after this time.
    Lost(Registration, Duration),
}

/// Whether to wait.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Pace {
    AtOnce,
    AfterDelay,
}

impl<S: Serve> Supervisor<S> {
    /// Starts unregistered. `backoff` is [`BACKOFF`] outside tests, `seed` is for its jitter.
    pub fn new(
        registry: RegistryClient,
        environment: EnvironmentId,
        identity: Arc<Identity>,
        sessions: Arc<S>,
        backoff: BackoffConfig,
        seed: [u8; 32],
    ) -> Self {
        Self {
            registry,
            environment,
            identity,
            sessions,
            pacing: Pacing::new(backoff, seed),
            log: TroubleLog::default(),
            shown: Arc::new(ops::state::State::new(status::STARTING)),
            failed_dials: 0,
        }
    }

    /// Says what it does there.
    #[must_use]
    pub fn showing(mut self, state: Arc<ops::state::State>) -> Self {
        self.shown = state;
        self
    }

    /// Runs until `cancel`, or until what is served comes to its end, then ends the connection in an
    /// orderly way.
    pub async fn run(mut self, cancel: CancellationToken) {
        let finishing = self.sessions.finishing();
        let mut streams = relay::Streams::default();
        let mut state = State::Registering { dial: Pace::AtOnce };
        while !cancel.is_cancelled() {
            state = match state {
                // This state ends by itself when cancelled, so that peers are told.
                State::Serving(registration, websocket) => {
                    self.serve(registration, *websocket, &mut streams, &cancel)
                        .await
                }
                // What is served may have to deliver something to its end.
                _ if finishing.is_cancelled() && !streams.any_lost() => break,
                other => tokio::select! {
                    next = self.step(other) => next,
                    () = cancel.cancelled() => break,
                    () = finishing.cancelled(), if !streams.any_lost() => break,
                    never = streams.tend() => match never {},
                },
            };
        }
        streams.end().await;
    }

    async fn step(&mut self, state: State) -> State {
        match state {
            State::Registering { dial } => self.register(dial).await,
            State::Dialing(registration) => self.dial(registration).await,
            State::Lost(registration, delay) => {
                events::reconnecting(delay);
                tokio::time::sleep(delay).await;
                State::Dialing(registration)
            }
            serving @ State::Serving(..) => serving,
        }
    }

    async fn register(&mut self, dial: Pace) -> State {
        self.shown.enter(status::REGISTERING);
        let key = self.identity.public_key();
        match self.registry.register(&self.environment, key).await {
            Ok(registration) => {
                self.failed_dials = 0;
                self.log.clear();
                events::registered(&self.environment, &registration.registration);
                if dial == Pace::AfterDelay {
                    let delay = self.pacing.failed(None);
                    tokio::time::sleep(delay).await;
                }
                State::Dialing(registration)
            }
            Err(error) => {
                self.registry_trouble(&error).await;
                State::Registering { dial }
            }
        }
    }

    async fn registry_trouble(&mut self, error: &RegistryError) {
        let delay = self.pacing.failed(error.retry_after());
        let trouble = Trouble {
            text: format!(
                "cannot register with {}: {}",
                self.registry.base().host(),
                events::Chain(error)
            ),
            advice: advice::for_registry(error),
        };
        self.waiting(&trouble.text, Some(delay));
        self.log.note(trouble, delay, Instant::now().into_std());
        tokio::time::sleep(delay).await;
    }

    async fn dial(&mut self, registration: Registration) -> State {
        self.shown.enter(status::CONNECTING);
        let connector = self.registry.connector();
        let request = new_request_id();
        let mut headers = connector.environment().websocket_headers();
        if let Ok(value) = HeaderValue::from_str(&request) {
            headers.insert(wire::REQUEST_ID_HEADER, value);
        }
        events::dialing(&registration.url.host(), &request);
        match connector.websocket(&registration.url, headers).await {
            Ok(websocket) => {
                self.failed_dials = 0;
                self.log.clear();
                self.pacing.connected(Instant::now().into_std());
                events::connected(&self.environment, &registration.url.host());
                self.shown.enter(status::CONNECTED);
                State::Serving(registration, Box::new(websocket))
            }
            Err(error) => self.dial_failed(registration, &error, &request).await,
        }
    }

    async fn dial_failed(
        &mut self,
        registration: Registration,
        error: &ConnectError,
        request: &str,
    ) -> State {
        self.failed_dials = self.failed_dials.saturating_add(1);
        let new_url = error.needs_new_url() || self.failed_dials >= MAX_FAILED_DIALS;
        let text = format!("cannot connect to the rendezvous: {}", events::Chain(error));
        let advice = advice::for_rendezvous(error);
        if new_url && error.retry_after().is_none() {
            // The delay comes between the registration and the next attempt.
            self.waiting(&text, None);
            self.log
                .note_unpaced(Trouble { text, advice }, request, Instant::now().into_std());
            return State::Registering {
                dial: Pace::AfterDelay,
            };
        }
        let delay = self.pacing.failed(error.retry_after());
        self.waiting(&text, Some(delay));
        self.log
            .note(Trouble { text, advice }, delay, Instant::now().into_std());
        tokio::time::sleep(delay).await;
        if new_url {
            return State::Registering { dial: Pace::AtOnce };
        }
        State::Dialing(registration)
    }

    async fn serve(
        &mut self,
        registration: Registration,
        websocket: WebSocket,
        streams: &mut relay::Streams,
        cancel: &CancellationToken,
    ) -> State {
        let start = Instant::now();
        let attachment = relay::Attachment {
            registry: self.registry.clone(),
            identity: Arc::clone(&self.identity),
            environment: self.environment.clone(),
            registration: registration.registration.clone(),
            sessions: Arc::clone(&self.sessions),
        };
        let reason = streams.serve(attachment, websocket, cancel.clone()).await;
        events::disconnected(&self.environment, reason.reason(), start.elapsed());
        let now = Instant::now().into_std();
        let delay = match reason {
            DisconnectReason::SentAway { retry_after } => self.pacing.sent_away(retry_after, now),
            _ => self.pacing.lost(now),
        };
        self.shown.enter_because(
            status::WAITING,
            format!("disconnected: {}", reason.reason()),
            Some(delay),
        );
        State::Lost(registration, delay)
    }

    /// Shows and counts a failed attempt.
    fn waiting(&self, why: &str, next_try: Option<Duration>) {
        metrics().troubles.inc();
        self.shown
            .enter_because(status::WAITING, why.to_owned(), next_try);
    }
}

/// The longest delay is a third of the 45 s for which a harness tries to get its session back, so
/// that an executor on a path that works again is there in time.
pub const BACKOFF: BackoffConfig = BackoffConfig {
    min_delay: Duration::from_secs(1),
    max_delay: Duration::from_secs(15),
    jitter: Jitter::HalfToFull,
    stable_after: Duration::from_secs(10),
};

/// Failures without a verdict on the URL, after which it is replaced all the same: it may name a
/// rendezvous that no longer exists.
const MAX_FAILED_DIALS: u32 = 5;

#[cfg(test)]
mod tests;
