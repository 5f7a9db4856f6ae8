//! A plain websocket to an executor that listens (`exec-server --listen ws://...`).
//!
//! One JSON message per websocket message. There is no registry, no relay and no encryption of our
//! own here: it is for executors on this machine, or behind a TLS terminator.

use std::{sync::Arc, time::Duration};

use bytes::Bytes;
use futures_util::{SinkExt, StreamExt};
use registry_client::{ConnectError, Connector, CredentialSource, RendezvousUrl};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    sync::mpsc,
    time::{MissedTickBehavior, interval, timeout},
};
use tokio_tungstenite::{
    WebSocketStream,
    tungstenite::{
        Message, Utf8Bytes,
        http::HeaderMap,
        protocol::{Role, WebSocketConfig},
    },
};

use super::connect_error;
use crate::{Dial, Error, Transport, limits, transport::DialFuture};

/// Dials one websocket URL.
pub(crate) struct DirectDial {
    connector: Connector,
    url: RendezvousUrl,
    credential: Option<Arc<dyn CredentialSource>>,
}

impl DirectDial {
    /// Checks the URL, and whether a credential may go there.
    pub(crate) fn new(
        connector: Connector,
        url: &str,
        credential: Option<Arc<dyn CredentialSource>>,
    ) -> Result<Self, Error> {
        let parsed = RendezvousUrl::parse(url).map_err(|error| {
            let text = error.to_string().replace("rendezvous url", "executor url");
            Error::Misuse(text)
        })?;
        if credential.is_some() && !parsed.is_protected() {
            return Err(Error::Misuse(
                "a token for an executor url needs wss:// or a loopback address".into(),
            ));
        }
        Ok(Self {
            connector,
            url: parsed,
            credential,
        })
    }

    async fn headers(&self) -> Result<HeaderMap, Error> {
        let mut headers = HeaderMap::new();
        if let Some(source) = &self.credential {
            let unusable = |error| Error::Refused(format!("the token cannot be used: {error}"));
            source
                .credential()
                .await
                .map_err(unusable)?
                .apply(&mut headers);
        }
        Ok(headers)
    }
}

impl Dial for DirectDial {
    fn dial<'a>(&'a self, _pinned: Option<&'a relay_proto::keys::PublicKey>) -> DialFuture<'a> {
        Box::pin(async {
            let context = format!("executor at {}", self.url.host());
            let headers = self.headers().await?;
            let socket =
                self.connector.websocket(&self.url, headers).await.map_err(
                    |error| match error {
                        // The address does not change, so neither does the answer.
                        ConnectError::Rejected {
                            status: 401 | 403, ..
                        } => Error::Refused(format!(
                            "{context} refused the connection: check the token"
                        )),
                        error => connect_error(&context, error),
                    },
                )?;
            // The connector's websocket has the relay's small message limit. Nothing was read from
            // it yet, so the raw stream can be wrapped anew with this protocol's own.
            let config = WebSocketConfig::default()
                .max_message_size(Some(limits::MESSAGE_BYTES))
                .max_frame_size(Some(limits::MESSAGE_BYTES));
            let socket =
                WebSocketStream::from_raw_socket(socket.into_inner(), Role::Client, Some(config))
                    .await;
            let (to_engine, incoming) = mpsc::channel(limits::TRANSPORT_MESSAGES);
            let (outgoing, from_engine) = mpsc::channel(limits::TRANSPORT_MESSAGES);
            let task = tokio::spawn(pump(
                socket,
                to_engine,
                from_engine,
                limits::KEEPALIVE_INTERVAL,
            ));
            Ok(Transport::new(incoming, outgoing).with_task(task))
        })
    }
}

/// Moves messages between a websocket and two channels until either side ends. Reading and writing do not wait for each other, so that
/// a reader that holds up the connection can still be told to stop.
pub(crate) async fn pump<S: AsyncRead + AsyncWrite + Unpin>(
    socket: WebSocketStream<S>,
    incoming: mpsc::Sender<Bytes>,
    mut outgoing: mpsc::Receiver<Bytes>,
    keepalive: Duration,
) {
    let (mut sink, mut stream) = socket.split();
    let read = async {
        // Whatever the other side does, it answers pings; the time counts only while this side reads.
        while let Ok(Some(Ok(message))) = timeout(2 * keepalive, stream.next()).await {
            let bytes = match message {
                Message::Text(text) => Bytes::from(text),
                Message::Binary(bytes) => bytes,
                Message::Close(_) => break,
                Message::Ping(_) | Message::Pong(_) | Message::Frame(_) => continue,
            };
            if bytes.is_empty() {
                // No JSON message, and nothing that a relay stream could carry.
                continue;
            }
            if incoming.send(bytes).await.is_err() {
                // The owner is about to end the outgoing side too, which says goodbye.
                std::future::pending::<()>().await;
            }
        }
    };
    let write = async {
        let mut ticks = interval(keepalive);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            let message = tokio::select! {
                bytes = outgoing.recv() => match bytes {
                    Some(bytes) => text(bytes),
                    None => break,
                },
                _ = ticks.tick() => Message::Ping(Bytes::new()),
            };
            if sink.send(message).await.is_err() {
                return;
            }
        }
        // The executor may have gone away already.
        let _ = sink.close().await;
    };
    tokio::select! {
        () = read => {}
        () = write => {}
    }
}

fn text(bytes: Bytes) -> Message {
    match Utf8Bytes::try_from(bytes.clone()) {
        Ok(text) => Message::Text(text),
        // JSON is UTF-8; the executor takes binary messages as well.
        Err(_) => Message::Binary(bytes),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn token_is_sent_only_where_nobody_can_listen() {
        let credential = registry_client::Credential::bearer("secret").unwrap();
        let bearer = || -> Arc<dyn CredentialSource> {
            Arc::new(registry_client::StaticBearer::new(credential.clone()))
        };
        for (url, allowed) in [
            ("ws://127.0.0.1:9", true),
            ("ws://[::1]:9", true),
            ("ws://localhost:9", true),
            ("wss://host.example", true),
            ("ws://host.example", false),
            ("ws://192.0.2.1:9", false),
        ] {
            let connector = Connector::new(registry_client::ConnectorConfig::default()).unwrap();
            let dial = DirectDial::new(connector, url, Some(bearer()));
            assert_eq!(dial.is_ok(), allowed, "{url}");
        }
    }

    #[tokio::test]
    async fn silent_connection_is_given_up() {
        let (near, far) = tokio::io::duplex(1024);
        let socket = WebSocketStream::from_raw_socket(near, Role::Client, None).await;
        let (to_engine, mut incoming) = mpsc::channel(1);
        let (_outgoing, from_engine) = mpsc::channel(1);
        pump(socket, to_engine, from_engine, Duration::from_millis(5)).await;
        assert!(incoming.recv().await.is_none());
        drop(far);
    }
}
