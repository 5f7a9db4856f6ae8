//! Forwarding: streams of the relay are handed to another executor instead of being served here.
//!
//! ```text
//! harness ==relay stream==> this program --websocket of its own--> the other executor's listener
//! ```
//!
//! Sessions belong to the other executor; nothing is kept here. Messages are passed on as they are.
//! When either side of a stream ends, the other ends at once.
//!
//! An environment whose executor cannot be reached is not offered: this program registers when the
//! destination takes connections, and leaves the rendezvous again when it does not any more, so that
//! harnesses are told `environment_offline` and not a broken stream. A destination that is silent is
//! noticed by pings while streams lead to it, and by attempts to connect while none do.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use http::HeaderMap;
use registry_client::{
    ConnectError, Connector, CredentialError, CredentialSource, RendezvousUrl, WebSocket,
};
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;

use crate::{
    events,
    listener::{self, CarryEnd, Keepalive},
    rpc::Transport,
    serve::Serve,
};

/// Hands each connection to the executor at one address.
pub(crate) struct Forwarder {
    connector: Connector,
    destination: RendezvousUrl,
    credential: Option<Arc<dyn CredentialSource>>,
    keepalive: Keepalive,
    finishing: CancellationToken,
    /// Streams that lead to the destination.
    live: AtomicUsize,
    /// A stream could not be handed over.
    failed: Notify,
}

/// Why the other executor cannot be used.
#[derive(Debug, thiserror::Error)]
enum ForwardError {
    /// The token for it cannot be had.
    #[error("the token for the destination cannot be used")]
    Credential(#[from] CredentialError),
    /// It cannot be reached, or it refuses.
    #[error("the destination cannot be reached")]
    Connect(#[from] ConnectError),
}

impl Forwarder {
    /// Starts without connections. `credential` is asked for each connection.
    pub(crate) fn new(
        connector: Connector,
        destination: RendezvousUrl,
        credential: Option<Arc<dyn CredentialSource>>,
        finishing: CancellationToken,
    ) -> Self {
        Self {
            connector,
            destination,
            credential,
            keepalive: KEEPALIVE,
            finishing,
            live: AtomicUsize::new(0),
            failed: Notify::new(),
        }
    }

    /// Waits until the destination takes connections.
    ///
    /// # Cancel safety
    ///
    /// Nothing is lost.
    pub(crate) async fn reached(&self) {
        let mut told = false;
        while let Err(error) = self.connect().await {
            events::destination_unavailable(&self.destination.host(), &error, !told);
            told = true;
            tokio::time::sleep(PROBE_INTERVAL).await;
        }
        events::destination_reached(&self.destination.host());
    }

    /// Waits until the destination takes no connections any more, and no stream leads to it.
    ///
    /// # Cancel safety
    ///
    /// Nothing is lost.
    pub(crate) async fn lost(&self) {
        let mut failures = 0;
        while failures < FAILURES_OF_A_LOSS {
            let pause = match failures {
                0 => IDLE_INTERVAL,
                _ => PROBE_INTERVAL,
            };
            tokio::select! {
                () = self.failed.notified() => {}
                () = tokio::time::sleep(pause) => {}
            }
            let idle = self.live.load(Ordering::Relaxed) == 0;
            failures = match idle && !self.answers().await {
                true => failures + 1,
                false => 0,
            };
        }
        events::destination_lost(&self.destination.host());
    }

    /// Whether a connection can be had within a time in which a destination that works gives one.
    async fn answers(&self) -> bool {
        let answer = tokio::time::timeout(PROBE_TIMEOUT, self.connect()).await;
        answer.is_ok_and(|connected| connected.is_ok())
    }

    async fn connect(&self) -> Result<WebSocket, ForwardError> {
        let mut headers = HeaderMap::new();
        if let Some(credential) = &self.credential {
            credential.credential().await?.apply(&mut headers);
        }
        Ok(self.connector.websocket(&self.destination, headers).await?)
    }
}

impl Serve for Forwarder {
    async fn serve(self: Arc<Self>, transport: Transport, cancel: CancellationToken) {
        let connected = tokio::select! {
            connected = self.connect() => connected,
            () = cancel.cancelled() => return,
            // The harness has given up meanwhile.
            () = transport.outgoing.closed() => return,
        };
        match connected {
            // Dropping the transport resets the stream.
            Err(error) => {
                events::destination_unavailable(&self.destination.host(), &error, true);
                self.failed.notify_one();
            }
            Ok(socket) => {
                let live = Live::count(&self.live);
                let end = listener::carry(socket, transport, self.keepalive, cancel).await;
                drop(live);
                if end == CarryEnd::Failed {
                    // Better known now than at the next look.
                    self.failed.notify_one();
                }
            }
        }
    }

    fn finishing(&self) -> CancellationToken {
        self.finishing.clone()
    }
}

impl fmt::Debug for Forwarder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Forwarder")
            .field("destination", &self.destination.host())
            .finish_non_exhaustive()
    }
}

/// Counts one stream for as long as it lives.
struct Live<'a>(&'a AtomicUsize);

impl<'a> Live<'a> {
    fn count(live: &'a AtomicUsize) -> Self {
        live.fetch_add(1, Ordering::Relaxed);
        Self(live)
    }
}

impl Drop for Live<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

/// Between attempts to reach a destination that does not answer.
const PROBE_INTERVAL: Duration = Duration::from_secs(1);
/// Between looks at one that nobody uses.
const IDLE_INTERVAL: Duration = Duration::from_secs(10);
/// For one such look; silence is no answer.
const PROBE_TIMEOUT: Duration = Duration::from_secs(5);
/// A destination that leads nowhere is noticed within 15 s: a harness waits for it meanwhile, in vain.
const KEEPALIVE: Keepalive = Keepalive {
    ping_interval: Duration::from_secs(5),
    pong_timeout: Duration::from_secs(10),
    write_timeout: Duration::from_secs(30),
};
/// Attempts in a row that fail before it counts as lost: it may just be starting again.
const FAILURES_OF_A_LOSS: u32 = 2;
