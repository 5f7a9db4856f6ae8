//! Local TCP ports that lead through an executor, like those of `ssh -L`.
//!
//! Each local connection becomes one [`TcpStream`](crate::TcpStream). Bytes pass unchanged, each
//! direction ends by itself, and one that is not read stops its own writer only. When one side
//! breaks, the other is reset, so that nobody takes what came for whole.
//!
//! Whoever reaches the listener reaches the target. Listen on loopback unless that is meant.

use std::{fmt, net::SocketAddr, num::NonZeroU16, str::FromStr, sync::Arc};

use bytes::BytesMut;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{
        TcpListener, TcpStream as LocalStream,
        tcp::{ReadHalf, WriteHalf},
    },
    sync::Mutex,
    task::JoinSet,
};
use tokio_util::sync::CancellationToken;

use crate::{Client, Error, TcpReader, TcpWriter, limits};

/// Where local connections lead, as the executor sees it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Target {
    /// A name, which the executor resolves, or an address.
    pub host: String,
    /// The port.
    pub port: NonZeroU16,
}

/// What happens to local connections.
#[derive(Debug)]
#[non_exhaustive]
pub enum Event<'a> {
    /// The executor is connected to the target on behalf of this peer.
    Connected(SocketAddr),
    /// The connection of this peer failed, or broke, and was reset.
    Failed(SocketAddr, &'a Error),
    /// Both directions of this peer's connection have ended in order.
    Ended(SocketAddr),
}

/// The client of a forward. When its session is lost, the next connection opens another one.
#[derive(Debug)]
pub struct Session {
    client: Mutex<Client>,
}

impl Session {
    /// Takes the client of a session.
    ///
    /// # Errors
    ///
    /// [`Error::Unsupported`] when its executor offers no TCP connections.
    pub fn new(client: Client) -> Result<Self, Error> {
        if !client.capabilities().tcp_streams {
            return Err(Error::Unsupported(NEEDED));
        }
        Ok(Self {
            client: Mutex::new(client),
        })
    }

    /// The present client.
    pub async fn client(&self) -> Client {
        self.client.lock().await.clone()
    }

    async fn connect(&self, target: &Target) -> Result<crate::TcpStream, Error> {
        let client = self.client().await;
        let outcome = client.tcp(&target.host, target.port, None).await;
        if !matches!(outcome, Err(Error::SessionLost(_))) {
            return outcome;
        }
        let mut current = self.client.lock().await;
        // Another connection may have opened the new session.
        if current.session_id() == client.session_id() {
            *current = client.sibling().await?;
        }
        let client = current.clone();
        drop(current);
        client.tcp(&target.host, target.port, None).await
    }
}

/// Serves local connections until `cancel`, which also resets those that are open.
///
/// # Errors
///
/// [`Error::Io`] if the listener fails. Failures of single connections are events.
///
/// # Cancel safety
///
/// Dropping the future drops all connections.
pub async fn serve(
    listener: TcpListener,
    session: Arc<Session>,
    target: Target,
    observe: impl Fn(Event<'_>) + Send + Sync + 'static,
    cancel: CancellationToken,
) -> Result<(), Error> {
    let (target, observe) = (Arc::new(target), Arc::new(observe));
    let mut connections = JoinSet::new();
    loop {
        tokio::select! {
            accepted = listener.accept(), if connections.len() < limits::FORWARD_CONNECTIONS => {
                let (socket, peer) = match accepted {
                    Ok(accepted) => accepted,
                    // The peer gave up, which says nothing about the next one.
                    Err(error) if error.kind() == std::io::ErrorKind::ConnectionAborted => continue,
                    Err(error) => {
                        return Err(Error::io("failed to accept local connections", error));
                    }
                };
                let (session, target) = (session.clone(), target.clone());
                let observe = observe.clone();
                connections.spawn(async move {
                    match connection(socket, &session, &target, || observe(Event::Connected(peer))).await {
                        Ok(()) => observe(Event::Ended(peer)),
                        Err(error) => observe(Event::Failed(peer, &error)),
                    }
                });
            }
            Some(_) = connections.join_next() => {}
            () = cancel.cancelled() => break,
        }
    }
    connections.shutdown().await;
    Ok(())
}

async fn connection(
    socket: LocalStream,
    session: &Session,
    target: &Target,
    connected: impl FnOnce(),
) -> Result<(), Error> {
    let mut local = Local {
        socket,
        is_over: false,
    };
    // Small requests must not wait for the peer's acknowledgement of earlier ones.
    let nodelay = local.socket.set_nodelay(true);
    nodelay.map_err(|error| Error::io("failed to use the local connection", error))?;
    let remote = session.connect(target).await?;
    connected();
    let (mut reader, mut writer) = remote.into_split();
    {
        let (from, to) = local.socket.split();
        let sending = send(from, &mut writer);
        let receiving = receive(&mut reader, to);
        tokio::pin!(sending, receiving);
        let (mut is_sent, mut is_received) = (false, false);
        let mut refused = None;
        while !(is_sent && is_received) {
            tokio::select! {
                sent = &mut sending, if !is_sent => {
                    is_sent = true;
                    match sent {
                        Ok(()) => {}
                        Err(Sending::Local(error)) => return Err(error),
                        // Who takes no more may still have something to say, or will say why.
                        Err(Sending::Remote(error)) => refused = Some(error),
                    }
                }
                received = &mut receiving, if !is_received => {
                    received?;
                    is_received = true;
                }
            }
        }
        if let Some(error) = refused {
            return Err(error);
        }
    }
    local.is_over = true;
    Ok(())
}

/// A local connection, which is reset unless it has ended in order.
struct Local {
    socket: LocalStream,
    is_over: bool,
}

impl Drop for Local {
    fn drop(&mut self) {
        if !self.is_over {
            // Without it the peer sees an end in order, which is the worst that can happen.
            let _ = self.socket.set_zero_linger();
        }
    }
}

/// Why nothing more is sent to the target.
enum Sending {
    /// The local peer broke.
    Local(Error),
    /// The executor or the target takes no more.
    Remote(Error),
}

/// Passes on what the local peer sends, and its end.
async fn send(mut from: ReadHalf<'_>, to: &mut TcpWriter) -> Result<(), Sending> {
    let local = |error| Sending::Local(Error::io("failed to read the local connection", error));
    loop {
        // No memory is set aside for a connection on which nothing arrives.
        from.readable().await.map_err(local)?;
        let mut piece = BytesMut::with_capacity(limits::TCP_WRITE_BYTES);
        match from.read_buf(&mut piece).await.map_err(local)? {
            0 => break,
            _ => to.write(piece.freeze()).await.map_err(Sending::Remote)?,
        }
    }
    to.shutdown().await.map_err(Sending::Remote)
}

/// Passes on what the target sends, and its end.
async fn receive(from: &mut TcpReader, mut to: WriteHalf<'_>) -> Result<(), Error> {
    let local = |error| Error::io("failed to write to the local connection", error);
    while let Some(chunk) = from.next_chunk().await? {
        to.write_all(&chunk).await.map_err(local)?;
    }
    to.shutdown().await.map_err(local)
}

impl FromStr for Target {
    type Err = &'static str;

    /// Reads `HOST:PORT`; an IPv6 address is in brackets.
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let wrong = "a target is HOST:PORT, with an IPv6 address in brackets";
        let (host, port) = text.rsplit_once(':').ok_or(wrong)?;
        let bracketed = host
            .strip_prefix('[')
            .and_then(|host| host.strip_suffix(']'));
        let bare = bracketed.unwrap_or(host);
        if bare.is_empty()
            || bare.contains(['[', ']'])
            || (bracketed.is_none() && host.contains(':'))
        {
            return Err(wrong);
        }
        Ok(Self {
            host: bare.to_owned(),
            port: port
                .parse()
                .map_err(|_| "a port is a number of 1 to 65535")?,
        })
    }
}

impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.host.contains(':') {
            write!(f, "[{}]:{}", self.host, self.port)
        } else {
            write!(f, "{}:{}", self.host, self.port)
        }
    }
}

/// What a forward needs of an executor.
const NEEDED: &str =
    "TCP connections: Codex 0.169 has none, and exec-server --no-tcp switches them off";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn targets_are_read_and_shown() {
        for text in ["db:5432", "127.0.0.1:1", "[::1]:65535"] {
            assert_eq!(text.parse::<Target>().unwrap().to_string(), text);
        }
        assert_eq!("[::1]:80".parse::<Target>().unwrap().host, "::1");
        for text in [
            "db", "db:0", "db:65536", ":80", "::1:80", "[::1:80", "[]:80", "db:", "db:x",
        ] {
            assert!(text.parse::<Target>().is_err(), "{text}");
        }
    }
}
