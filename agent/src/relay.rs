//! Rendezvous connections: lets harnesses in and serves their streams.
//!
//! ```text
//! relay_driver --IncomingStream--> registry validate --approved--> Stream = Transport --> Serve
//!                                                    --refused---> reset
//!                                                    --401-------> sentinel: this executor's credential is no good
//! ```
//!
//! Every stream has a task of its own, so a slow registry holds up nobody but the harness that
//! waits for it. The tasks belong to [`Streams`], which outlives the websockets: a stream whose peer
//! keeps streams as well goes on over the next one, also when that is of another registration. All
//! others end with their websocket, and those that wait for too long at their time.

use std::{convert::Infallible, sync::Arc, time::Duration};

use registry_client::{RegistryClient, RegistryError, Validation};
use relay_driver::{DisconnectReason, IncomingStream, Path, Resumable};
use relay_proto::{
    Connection, ConnectionConfig, Identity, Reliability,
    ids::{EnvironmentId, RegistrationId, StreamId},
};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    sync::watch,
    task::JoinSet,
    time::{Instant, timeout},
};
use tokio_tungstenite::WebSocketStream;
use tokio_util::{sync::CancellationToken, task::AbortOnDropHandle};

use crate::{
    events,
    rpc::{PeerLabel, StreamSide, Transport},
    serve::Serve,
};

/// What a connection is made for.
pub(crate) struct Attachment<S> {
    pub(crate) registry: RegistryClient,
    pub(crate) identity: Arc<Identity>,
    pub(crate) environment: EnvironmentId,
    pub(crate) registration: RegistrationId,
    pub(crate) sessions: Arc<S>,
}

/// The streams of one executor, over all its websockets. Dropping it ends them.
#[derive(Debug, Default)]
pub(crate) struct Streams {
    tasks: JoinSet<()>,
    /// Those that wait for the next websocket.
    lost: Option<Resumable>,
}

impl Streams {
    /// Serves streams on `websocket` until it ends, what is served has come to its end, or `cancel`.
    pub(crate) async fn serve<S, T>(
        &mut self,
        attachment: Attachment<S>,
        websocket: WebSocketStream<T>,
        cancel: CancellationToken,
    ) -> DisconnectReason
    where
        S: Serve,
        T: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        let connection = Connection::executor(
            ConnectionConfig {
                reliability: Reliability::Resumable,
                ..ConnectionConfig::default()
            },
            Arc::clone(&attachment.identity),
            attachment.environment.clone(),
            attachment.registration.clone(),
            crate::random::seed(),
            Instant::now().into_std(),
        );
        let (driver, mut incoming) = match self.lost.take() {
            Some(lost) => {
                relay_driver::executor_resuming(websocket, connection, lost, cancel.clone())
            }
            None => relay_driver::executor(websocket, connection, cancel.clone()),
        };
        let driver = driver.finish_with(attachment.sessions.finishing());
        let attachment = Arc::new(attachment);
        // A task of its own, which can follow that of a stream on the same thread: the main task of the
        // program is on one that no other task runs on, and has to be woken.
        let mut run = AbortOnDropHandle::new(tokio::spawn(driver.run_resumable()));
        let (reason, lost) = loop {
            tokio::select! {
                ended = &mut run => break match ended {
                    Ok((reason, lost)) => (reason, (!lost.is_empty()).then_some(lost)),
                    // It cannot panic; if it ever does, the websocket and its streams are lost.
                    Err(_) => (DisconnectReason::ReadError, None),
                },
                Some(stream) = incoming.recv() => {
                    self.tasks.spawn(admit(Arc::clone(&attachment), stream, cancel.clone()));
                }
                Some(_) = self.tasks.join_next() => {}
            }
        };
        self.lost = lost;
        reason
    }

    /// Whether there are streams that wait for a websocket.
    pub(crate) fn any_lost(&self) -> bool {
        self.lost.is_some()
    }

    /// Ends what has waited for too long, for ever. To be polled while there is no websocket.
    ///
    /// # Cancel safety
    ///
    /// Cancel safe.
    pub(crate) async fn tend(&mut self) -> Infallible {
        loop {
            let expired = async {
                match &mut self.lost {
                    Some(lost) => lost.expired().await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                () = expired => self.lost = None,
                Some(_) = self.tasks.join_next() => {}
            }
        }
    }

    /// Ends all streams, and waits a moment for whoever serves them.
    pub(crate) async fn end(mut self) {
        self.lost = None;
        let drain = async { while self.tasks.join_next().await.is_some() {} };
        let _ = timeout(DRAIN_TIMEOUT, drain).await;
    }
}

/// Asks the registry about a harness and serves it if it may enter.
async fn admit<S: Serve>(
    attachment: Arc<Attachment<S>>,
    stream: IncomingStream,
    cancel: CancellationToken,
) {
    let id = stream.id.clone();
    let key = stream.harness_key.clone();
    let verdict = validate(&attachment, &stream).await;
    match verdict {
        Ok(Validation::Approved) => {}
        Ok(Validation::Refused) => {
            events::stream_refused(&id, &"the registry does not accept this harness");
            return stream.refuse();
        }
        Ok(Validation::CredentialsRejected) => {
            events::stream_refused(&id, &"the registry does not accept this executor's token");
            return stream.reject_credentials();
        }
        Err(error) => {
            events::stream_refused(&id, &error);
            return stream.refuse();
        }
    }
    let Ok(stream) = stream.approve().await else {
        events::stream_refused(&id, &"the harness has given up meanwhile");
        return;
    };
    events::stream_opened(&id);
    let transport = Transport {
        incoming: stream.incoming,
        outgoing: stream.outgoing,
        peer: PeerLabel::Relay {
            stream: id.clone(),
            key,
        },
        stream: Some(StreamSide {
            urgent: stream.urgent,
            path: stream.path.clone(),
        }),
    };
    tokio::select! {
        () = Arc::clone(&attachment.sessions).serve(transport, cancel) => {}
        never = tell_of_path(&id, stream.path) => match never {},
    }
    events::stream_closed(&id);
}

/// Logs when a stream loses its path and gets another one.
async fn tell_of_path(id: &StreamId, mut path: watch::Receiver<Path>) -> Infallible {
    while path.changed().await.is_ok() {
        match *path.borrow_and_update() {
            Path::Lost => events::stream_suspended(id),
            Path::Live => events::stream_resumed(id),
        }
    }
    // The stream has ended, which whoever serves it sees.
    std::future::pending().await
}

/// Why there is no verdict.
#[derive(Debug, thiserror::Error)]
enum ValidateError {
    #[error("the registry gave no verdict within {VALIDATE_TIMEOUT:?}")]
    Timeout,
    #[error("{0}")]
    Registry(#[from] RegistryError),
}

/// Asks once, and once more when the registry has trouble of its own.
async fn validate<S>(
    attachment: &Attachment<S>,
    stream: &IncomingStream,
) -> Result<Validation, ValidateError> {
    let ask = || {
        attachment.registry.validate(
            &attachment.environment,
            &attachment.registration,
            &stream.harness_key,
            &stream.authorization,
            &stream.id,
        )
    };
    let verdict = async {
        match ask().await {
            Err(error) if error.status().is_some_and(|status| status >= 500) => {
                tokio::time::sleep(VALIDATE_RETRY_DELAY).await;
                ask().await
            }
            verdict => verdict,
        }
    };
    Ok(timeout(VALIDATE_TIMEOUT, verdict)
        .await
        .map_err(|_| ValidateError::Timeout)??)
}

/// For both tries together; the harness waits no longer for its handshake.
const VALIDATE_TIMEOUT: Duration = Duration::from_secs(10);
const VALIDATE_RETRY_DELAY: Duration = Duration::from_millis(200);
/// How long the sessions may take to notice the end of their streams.
const DRAIN_TIMEOUT: Duration = Duration::from_secs(2);

#[cfg(test)]
mod tests;
