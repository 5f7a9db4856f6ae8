//! The websocket server: accepts TCP, speaks HTTP until the upgrade, then runs the pump.
//!
//! Owns one task per connection. Answers are decided in [`super::answer`].

use std::{
    convert::Infallible,
    io,
    net::SocketAddr,
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, SystemTime},
};

use bytes::Bytes;
use http::{HeaderValue, Response, StatusCode, header};
use http_body_util::Full;
use hyper::{server::conn::http1, service::service_fn, upgrade::OnUpgrade};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::{
    net::{TcpListener, TcpStream},
    sync::mpsc,
    task::JoinSet,
};
use tokio_tungstenite::{WebSocketStream, tungstenite::protocol::Role};
use tokio_util::{sync::CancellationToken, task::AbortOnDropHandle};

use super::{
    ListenAddress,
    answer::{Answer, answer},
    auth::WebSocketAuth,
    budget::Inbox,
    websocket::{self, Keepalive},
};
use crate::{
    events,
    rpc::{PeerLabel, Transport},
    serve::Serve,
};

/// What a [`Listener`] needs to know.
#[derive(Debug)]
pub struct ListenerConfig {
    /// Where to listen.
    pub address: SocketAddr,
    /// How peers prove who they are. Required unless the address is loopback.
    pub auth: Option<WebSocketAuth>,
    /// When a silent peer counts as gone.
    pub keepalive: Keepalive,
}

/// A bound websocket listener.
#[derive(Debug)]
pub struct Listener {
    tcp: TcpListener,
    address: SocketAddr,
    auth: Option<Arc<WebSocketAuth>>,
    keepalive: Keepalive,
}

/// A listener that cannot be opened.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ListenError {
    /// Whoever reaches the address would get a shell.
    #[error(
        "refusing to listen on {0} without authentication, because other machines can reach it; \
         add `--ws-auth`, or listen on 127.0.0.1"
    )]
    Exposed(SocketAddr),
    /// The system refused.
    #[error("failed to listen on {address}")]
    Bind {
        /// What was asked for.
        address: SocketAddr,
        /// The system's reason.
        source: io::Error,
    },
}

impl Listener {
    /// Opens the socket.
    ///
    /// # Errors
    ///
    /// [`ListenError::Exposed`] for an address that is not loopback when there is no
    /// authentication; [`ListenError::Bind`] when the system refuses.
    pub async fn bind(config: ListenerConfig) -> Result<Self, ListenError> {
        let ListenerConfig {
            address,
            auth,
            keepalive,
        } = config;
        if auth.is_none() && ListenAddress::WebSocket(address).is_exposed() {
            return Err(ListenError::Exposed(address));
        }
        let bind = async {
            let tcp = TcpListener::bind(address).await?;
            let address = tcp.local_addr()?;
            Ok((tcp, address))
        };
        let (tcp, address) = bind
            .await
            .map_err(|source| ListenError::Bind { address, source })?;
        Ok(Self {
            tcp,
            address,
            auth: auth.map(Arc::new),
            keepalive,
        })
    }

    /// The address with the real port, as `ws://IP:PORT`.
    pub fn url(&self) -> String {
        format!("ws://{}", self.address)
    }

    /// Serves connections until `cancel`, or until what is served comes to its end, then ends them with a
    /// close frame.
    pub async fn run<S: Serve>(self, sessions: Arc<S>, cancel: CancellationToken) {
        let finishing = sessions.finishing();
        let mut connections = JoinSet::new();
        loop {
            let accepted = tokio::select! {
                () = cancel.cancelled() => break,
                () = finishing.cancelled() => break,
                Some(_) = connections.join_next() => continue,
                accepted = self.tcp.accept(), if connections.len() < MAX_CONNECTIONS => accepted,
            };
            match accepted {
                Ok((tcp, peer)) => {
                    let connection = Connection {
                        peer,
                        auth: self.auth.clone(),
                        keepalive: self.keepalive,
                        sessions: Arc::clone(&sessions),
                        cancel: cancel.clone(),
                    };
                    connections.spawn(connection.run(tcp));
                }
                Err(error) => {
                    // Out of descriptors, most likely; accepting again at once would spin.
                    events::accept_failed(&error);
                    tokio::time::sleep(ACCEPT_PAUSE).await;
                }
            }
        }
        drop(self.tcp);
        let drain = async { while connections.join_next().await.is_some() {} };
        // Those that deliver what is left may take as long as their owner lets them.
        let time_is_up = async {
            cancel.cancelled().await;
            tokio::time::sleep(DRAIN_TIMEOUT).await;
        };
        tokio::select! {
            () = drain => {}
            () = time_is_up => {}
        }
    }
}

/// One accepted TCP connection.
struct Connection<S> {
    peer: SocketAddr,
    auth: Option<Arc<WebSocketAuth>>,
    keepalive: Keepalive,
    sessions: Arc<S>,
    cancel: CancellationToken,
}

impl<S: Serve> Connection<S> {
    async fn run(self, tcp: TcpStream) {
        // Small messages both ways: with Nagle's algorithm an event right after a response waits
        // for the peer's delayed acknowledgement.
        let _ = tcp.set_nodelay(true);
        let finishing = self.sessions.finishing();
        let upgrade = tokio::select! {
            upgrade = self.http(tcp) => upgrade,
            () = self.cancel.cancelled() => None,
            () = finishing.cancelled() => None,
        };
        if let Some(upgrade) = upgrade {
            self.websocket(upgrade).await;
        }
    }

    /// Answers requests until one of them upgrades.
    async fn http(&self, tcp: TcpStream) -> Option<OnUpgrade> {
        let upgrade = Mutex::new(None);
        let service = service_fn(|mut request: http::Request<hyper::body::Incoming>| {
            let on_upgrade = hyper::upgrade::on(&mut request);
            let (parts, _) = request.into_parts();
            let response = match answer(
                &parts,
                self.auth.as_deref(),
                self.sessions.is_ready(),
                SystemTime::now(),
            ) {
                Answer::Upgrade(accept) => {
                    *upgrade.lock().unwrap_or_else(PoisonError::into_inner) = Some(on_upgrade);
                    switching_protocols(accept)
                }
                Answer::Reply(status, text) => {
                    if status == StatusCode::UNAUTHORIZED || status == StatusCode::FORBIDDEN {
                        events::peer_refused(self.peer, status);
                    }
                    reply(status, text.into_owned())
                }
            };
            async { Ok::<_, Infallible>(response) }
        });
        let served = http1::Builder::new()
            .timer(TokioTimer::new())
            .header_read_timeout(HEADER_TIMEOUT)
            .serve_connection(TokioIo::new(tcp), service)
            .with_upgrades()
            .await;
        served.ok()?;
        upgrade.into_inner().unwrap_or_else(PoisonError::into_inner)
    }

    async fn websocket(self, upgrade: OnUpgrade) {
        let Ok(upgraded) = upgrade.await else { return };
        let Ok(parts) = upgraded.downcast::<TokioIo<TcpStream>>() else {
            return;
        };
        let socket = WebSocketStream::from_partially_read(
            parts.io.into_inner(),
            parts.read_buf.to_vec(),
            Role::Server,
            Some(websocket::config()),
        )
        .await;

        let (incoming, to_session) = Inbox::new();
        let (from_session, outgoing) = mpsc::channel(QUEUED_MESSAGES);
        let transport = Transport::new(to_session, from_session, PeerLabel::WebSocket(self.peer));
        events::peer_connected(self.peer);
        let session = AbortOnDropHandle::new(tokio::spawn(
            Arc::clone(&self.sessions).serve(transport, self.cancel.clone()),
        ));
        let end = websocket::End {
            finishing: self.sessions.finishing(),
            cancel: self.cancel,
        };
        let ended = websocket::run(socket, incoming, outgoing, self.keepalive, end).await;
        events::peer_disconnected(self.peer, ended.reason());
        let _ = session.await;
    }
}

fn switching_protocols(accept: HeaderValue) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::default());
    *response.status_mut() = StatusCode::SWITCHING_PROTOCOLS;
    let headers = response.headers_mut();
    headers.insert(header::CONNECTION, HeaderValue::from_static("upgrade"));
    headers.insert(header::UPGRADE, HeaderValue::from_static("websocket"));
    headers.insert(header::SEC_WEBSOCKET_ACCEPT, accept);
    response
}

fn reply(status: StatusCode, text: String) -> Response<Full<Bytes>> {
    let has_text = !text.is_empty();
    let mut response = Response::new(Full::from(text));
    *response.status_mut() = status;
    if has_text {
        response.headers_mut().insert(
            header::CONTENT_TYPE,
            HeaderValue::from_static("text/plain; charset=utf-8"),
        );
    }
    response
}

/// Connections at a time; further ones wait in the backlog of the socket.
const MAX_CONNECTIONS: usize = 4096;
/// Messages that wait for the socket; the session bounds their bytes, and waits when there are more.
const QUEUED_MESSAGES: usize = 16;
/// How long a peer may take for its request head.
const HEADER_TIMEOUT: Duration = Duration::from_secs(10);
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);
/// How long the connections may take to end at shutdown; a little more than the closing handshake.
const DRAIN_TIMEOUT: Duration = Duration::from_secs(2);

#[cfg(test)]
#[path = "accept/tests.rs"]
mod tests;
