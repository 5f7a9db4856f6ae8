//! One rendezvous connection: lets harnesses in and serves their streams.
//!
//! ```text
//! relay_driver --IncomingStream--> registry validate --approved--> Stream = Transport --> Serve
//!                                                    --refused---> reset
//!                                                    --401-------> sentinel: this executor's credential is no good
//! ```
//!
//! Every stream has a task of its own, so a slow registry holds up nobody but the harness that
//! waits for it. All tasks end before [`serve`] returns.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use registry_client::{RegistryClient, RegistryError, Validation};
use relay_driver::{DisconnectReason, IncomingStream};
use relay_proto::{
    Connection, ConnectionConfig, Identity,
    ids::{EnvironmentId, RegistrationId},
};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    task::JoinSet,
    time::timeout,
};
use tokio_tungstenite::WebSocketStream;
use tokio_util::sync::CancellationToken;

use crate::{
    events,
    rpc::{PeerLabel, Transport},
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

/// Serves streams on `websocket` until it ends, what is served has come to its end, or `cancel`.
pub(crate) async fn serve<S, T>(
    attachment: Attachment<S>,
    websocket: WebSocketStream<T>,
    cancel: CancellationToken,
) -> DisconnectReason
where
    S: Serve,
    T: AsyncRead + AsyncWrite + Unpin,
{
    let connection = Connection::executor(
        ConnectionConfig::default(),
        Arc::clone(&attachment.identity),
        attachment.environment.clone(),
        attachment.registration.clone(),
        crate::random::seed(),
        Instant::now(),
    );
    let (driver, mut incoming) = relay_driver::executor(websocket, connection, cancel.clone());
    let driver = driver.finish_with(attachment.sessions.finishing());
    let attachment = Arc::new(attachment);
    let mut streams = JoinSet::new();
    let run = driver.run();
    tokio::pin!(run);
    let reason = loop {
        tokio::select! {
            reason = &mut run => break reason,
            Some(stream) = incoming.recv() => {
                streams.spawn(admit(Arc::clone(&attachment), stream, cancel.clone()));
            }
            Some(_) = streams.join_next() => {}
        }
    };
    // The driver has dropped its ends of the streams, so the sessions see the disconnect.
    drop(incoming);
    let drain = async { while streams.join_next().await.is_some() {} };
    let _ = timeout(DRAIN_TIMEOUT, drain).await;
    reason
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
    };
    Arc::clone(&attachment.sessions)
        .serve(transport, cancel)
        .await;
    events::stream_closed(&id);
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
/// How long the sessions may take to notice the end of a connection.
const DRAIN_TIMEOUT: Duration = Duration::from_secs(2);

#[cfg(test)]
mod tests;
