//! A websocket client that sends whatever a test wants.

use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use futures_util::{SinkExt as _, StreamExt as _};
use tokio::{net::TcpStream, time::timeout};
use tokio_tungstenite::{
    WebSocketStream, client_async,
    tungstenite::{Error, Message, protocol::CloseFrame},
};

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
    /// Body text.
    pub body: String,
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
                let body = response.body().as_deref().unwrap_or_default();
                let body = String::from_utf8_lossy(body).into_owned();
                Ok(Err(Refused {
                    status: response.status().as_u16(),
                    body,
                }))
            }
            Err(error) => Err(error).context("the upgrade failed"),
        }
    }

    /// Sends `message` as it is.
    ///
    /// # Errors
    ///
    /// When the connection is gone.
    pub async fn send(&mut self, message: Message) -> Result<()> {
        self.socket.send(message).await.context("send")
    }

    /// The next text or binary message.
    ///
    /// # Errors
    ///
    /// When the connection ends first or nothing comes in time.
    pub async fn next(&mut self, deadline: Duration) -> Result<Message> {
        loop {
            match timeout(deadline, self.socket.next()).await {
                Ok(Some(Ok(message @ (Message::Text(_) | Message::Binary(_))))) => {
                    return Ok(message);
                }
                Ok(Some(Ok(Message::Close(frame)))) => bail!("closed by the peer: {frame:?}"),
                Ok(Some(Ok(_))) => {}
                Ok(Some(Err(error))) => return Err(error).context("receive"),
                Ok(None) => bail!("the connection ended"),
                Err(_) => bail!("no message within {deadline:?}"),
            }
        }
    }

    /// Waits until the peer ends the connection, and returns its close frame if it sent one.
    ///
    /// # Errors
    ///
    /// When the connection is still open at the deadline.
    pub async fn ended(&mut self, deadline: Duration) -> Result<Option<CloseFrame>> {
        let drain = async {
            loop {
                match self.socket.next().await {
                    Some(Ok(Message::Close(frame))) => return frame,
                    Some(Ok(_)) => {}
                    Some(Err(_)) | None => return None,
                }
            }
        };
        timeout(deadline, drain)
            .await
            .context("the peer did not end the connection")
    }
}
