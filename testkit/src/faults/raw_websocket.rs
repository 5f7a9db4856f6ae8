//! A websocket client that sends whatever a test wants.

use anyhow::{Context as _, Result, bail};
use futures_util::{SinkExt as _, StreamExt as _};
use tokio::{net::TcpStream, time::timeout};
use tokio_tungstenite::{
    WebSocketStream, client_async,
    tungstenite::{Error, Message},
};

use crate::processes::DEADLINE;

/// An open websocket without any protocol on top.
#[derive(Debug)]
pub struct RawWebSocket {
    socket: WebSocketStream<TcpStream>,
}

/// The HTTP answer to an upgrade that was refused.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refused {
    /// Status code.
    pub status: u16,
    /// Why, as the rendezvous says it in a header; empty when it does not.
    pub reason: String,
}

impl RawWebSocket {
    /// Opens `url`; the outer error is a transport failure, the inner one an HTTP refusal.
    ///
    /// # Errors
    ///
    /// When the address cannot be reached or does not speak HTTP.
    pub async fn open(url: &str) -> Result<Result<Self, Refused>> {
        let authority = url
            .strip_prefix("ws://")
            .and_then(|rest| rest.split(['/', '?']).next())
            .with_context(|| format!("not a ws:// address: {url}"))?;
        let stream = TcpStream::connect(authority).await.context("connect")?;
        match client_async(url, stream).await {
            Ok((socket, _)) => Ok(Ok(Self { socket })),
            Err(Error::Http(response)) => {
                let header = response
                    .headers()
                    .get("x-codex-rendezvous-rejection-reason");
                let reason = header
                    .and_then(|value| value.to_str().ok())
                    .unwrap_or_default();
                let status = response.status().as_u16();
                Ok(Err(Refused {
                    status,
                    reason: reason.to_owned(),
                }))
            }
            Err(error) => Err(error).context("the upgrade failed"),
        }
    }

    /// Sends a binary message.
    ///
    /// # Errors
    ///
    /// When the connection is gone.
    pub async fn send_binary(&mut self, bytes: &[u8]) -> Result<()> {
        self.socket
            .send(Message::Binary(bytes.to_vec().into()))
            .await
            .context("send")
    }

    /// Sends a text message.
    ///
    /// # Errors
    ///
    /// When the connection is gone.
    pub async fn send_text(&mut self, text: &str) -> Result<()> {
        self.socket
            .send(Message::Text(text.into()))
            .await
            .context("send")
    }

    /// The next text message.
    ///
    /// # Errors
    ///
    /// When the connection ends first or nothing comes in time.
    pub async fn next_text(&mut self) -> Result<String> {
        loop {
            match self.next().await? {
                Some(Message::Text(text)) => return Ok(text.to_string()),
                Some(Message::Close(frame)) => bail!("closed by the peer: {frame:?}"),
                Some(_) => {}
                None => bail!("the connection ended"),
            }
        }
    }

    /// The next binary message.
    ///
    /// # Errors
    ///
    /// When the connection ends first or nothing comes in time.
    pub async fn next_binary(&mut self) -> Result<Vec<u8>> {
        loop {
            match self.next().await? {
                Some(Message::Binary(bytes)) => return Ok(bytes.to_vec()),
                Some(Message::Close(frame)) => bail!("closed by the peer: {frame:?}"),
                Some(_) => {}
                None => bail!("the connection ended"),
            }
        }
    }

    /// Waits until the peer ends the connection, and returns code and reason of its close frame
    /// if it sent one.
    ///
    /// # Errors
    ///
    /// When the connection is still open at the deadline.
    pub async fn ended(&mut self) -> Result<Option<(u16, String)>> {
        loop {
            match self.next().await {
                Ok(Some(Message::Close(frame))) => {
                    return Ok(frame.map(|frame| (frame.code.into(), frame.reason.to_string())));
                }
                Ok(Some(_)) => {}
                Err(error) if error.is::<Silent>() => return Err(error),
                // Broken instead of closed.
                Ok(None) | Err(_) => return Ok(None),
            }
        }
    }

    async fn next(&mut self) -> Result<Option<Message>> {
        match timeout(DEADLINE, self.socket.next()).await {
            Ok(message) => Ok(message.transpose()?),
            Err(_) => Err(Silent.into()),
        }
    }
}

/// Nothing came from the peer in time.
#[derive(Debug)]
struct Silent;

impl std::fmt::Display for Silent {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "nothing from the peer within {DEADLINE:?}")
    }
}

impl std::error::Error for Silent {}
