//! What the programs said to the registry and the rendezvous, where that is not encrypted.

use std::sync::{Arc, Mutex, PoisonError};

use anyhow::{Context as _, Result};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpListener, TcpStream},
    task::JoinSet,
};

/// Passes connections on, byte for byte, and keeps the beginning of each direction. Dropping it cuts
/// them.
#[derive(Debug)]
pub struct Wiretap {
    listener: Option<TcpListener>,
    url: String,
    heard: Arc<Mutex<Vec<Heard>>>,
    tasks: JoinSet<()>,
}

/// One direction of one connection.
type Heard = Arc<Mutex<Vec<u8>>>;

impl Wiretap {
    /// Binds a free loopback port; connections wait until [`Wiretap::lead_to`].
    ///
    /// # Errors
    ///
    /// When no port can be bound.
    pub async fn start() -> Result<Self> {
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let url = format!("http://{}", listener.local_addr()?);
        Ok(Self {
            listener: Some(listener),
            url,
            heard: Arc::default(),
            tasks: JoinSet::new(),
        })
    }

    /// Base URL for those who are listened to.
    pub fn url(&self) -> &str {
        &self.url
    }

    /// Leads connections to this port of loopback.
    ///
    /// # Errors
    ///
    /// When they are led somewhere already.
    pub fn lead_to(&mut self, port: u16) -> Result<()> {
        let listener = self.listener.take().context("it leads somewhere")?;
        let heard = Arc::clone(&self.heard);
        self.tasks.spawn(async move {
            let mut connections = JoinSet::new();
            while let Ok((client, _)) = listener.accept().await {
                let directions = [Heard::default(), Heard::default()];
                heard
                    .lock()
                    .unwrap_or_else(PoisonError::into_inner)
                    .extend(directions.iter().cloned());
                connections.spawn(pass_on(client, port, directions));
            }
        });
        Ok(())
    }

    /// Everything that was kept so far, as text.
    pub fn text(&self) -> String {
        let heard = self.heard.lock().unwrap_or_else(PoisonError::into_inner);
        let texts = heard.iter().map(|heard| {
            let bytes = heard.lock().unwrap_or_else(PoisonError::into_inner);
            String::from_utf8_lossy(&bytes).into_owned()
        });
        texts.collect::<Vec<_>>().join("\n")
    }
}

async fn pass_on(client: TcpStream, port: u16, [up, down]: [Heard; 2]) {
    let Ok(server) = TcpStream::connect(("127.0.0.1", port)).await else {
        return;
    };
    let (mut from_client, mut to_client) = client.into_split();
    let (mut from_server, mut to_server) = server.into_split();
    tokio::join!(
        copy(&mut from_client, &mut to_server, &up),
        copy(&mut from_server, &mut to_client, &down),
    );
}

async fn copy(
    from: &mut tokio::net::tcp::OwnedReadHalf,
    to: &mut tokio::net::tcp::OwnedWriteHalf,
    heard: &Heard,
) {
    let mut buffer = vec![0; 16 * 1024];
    while let Ok(length @ 1..) = from.read(&mut buffer).await {
        let bytes = &buffer[..length];
        {
            let mut kept = heard.lock().unwrap_or_else(PoisonError::into_inner);
            let room = KEPT_BYTES.saturating_sub(kept.len());
            kept.extend_from_slice(&bytes[..length.min(room)]);
        }
        if to.write_all(bytes).await.is_err() {
            return;
        }
    }
    // The other side may have gone first.
    drop(to.shutdown().await);
}

/// Several calls of the registry, or the upgrade of a websocket.
const KEPT_BYTES: usize = 256 * 1024;
