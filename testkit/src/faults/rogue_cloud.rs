//! A registry and rendezvous that registers every executor and then misbehaves.

use std::sync::Arc;

use anyhow::{Context as _, Result};
use axum::{
    Router,
    extract::{
        Path, State,
        ws::{Message, WebSocket, WebSocketUpgrade},
    },
    response::{IntoResponse as _, Response},
    routing::{get, post},
};
use serde_json::json;
use tokio::{
    sync::{Mutex, mpsc},
    task::JoinSet,
    time::timeout,
};

use crate::{processes::DEADLINE, web};

/// The misbehaving server. Dropping it stops it.
#[derive(Debug)]
pub struct RogueCloud {
    url: String,
    visits: Mutex<mpsc::Receiver<Visit>>,
    _server: JoinSet<()>,
}

/// One websocket of an executor. Dropping it closes the connection.
#[derive(Debug)]
pub struct Visit {
    socket: WebSocket,
}

impl RogueCloud {
    /// Starts it on a free port.
    ///
    /// # Errors
    ///
    /// When no port can be bound.
    pub async fn start() -> Result<Self> {
        let (listener, url) = web::bind().await?;
        let (sender, visits) = mpsc::channel(VISITS);
        let shared = Arc::new(Shared {
            websocket: format!("{}/ws", url.replacen("http", "ws", 1)),
            sender,
        });
        let router = Router::new()
            .route("/cloud/environment/{id}/register", post(register))
            .route("/ws", get(accept))
            .with_state(shared);
        Ok(Self {
            url,
            visits: Mutex::new(visits),
            _server: web::serve(listener, router),
        })
    }

    /// Base URL of the registry.
    pub fn url(&self) -> &str {
        &self.url
    }

    /// Waits for the next websocket of an executor.
    ///
    /// # Errors
    ///
    /// When none comes in time.
    pub async fn visit(&self) -> Result<Visit> {
        let mut visits = self.visits.lock().await;
        let visit = timeout(DEADLINE, visits.recv())
            .await
            .context("no executor connects")?;
        visit.context("the rogue server has stopped")
    }
}

impl Visit {
    /// Sends a binary message to the executor.
    ///
    /// # Errors
    ///
    /// When the connection is gone.
    pub async fn send_binary(&mut self, bytes: &[u8]) -> Result<()> {
        self.send(Message::Binary(bytes.to_vec().into())).await
    }

    /// Sends a text message to the executor.
    ///
    /// # Errors
    ///
    /// When the connection is gone.
    pub async fn send_text(&mut self, text: &str) -> Result<()> {
        self.send(Message::Text(text.into())).await
    }

    async fn send(&mut self, message: Message) -> Result<()> {
        self.socket
            .send(message)
            .await
            .context("send to the executor")
    }

    /// Checks that the executor still reads: it answers a ping with these `bytes`. Returns the
    /// binary messages that it sent before.
    ///
    /// # Errors
    ///
    /// When the connection ends first or nothing comes in time.
    pub async fn still_open(&mut self, bytes: &'static [u8]) -> Result<Vec<Vec<u8>>> {
        self.send(Message::Ping(bytes.into())).await?;
        let mut seen = Vec::new();
        loop {
            let next = timeout(DEADLINE, self.socket.recv())
                .await
                .context("no pong in time")?;
            match next.context("the executor ended the connection")?? {
                Message::Pong(pong) if pong == bytes => return Ok(seen),
                Message::Binary(message) => seen.push(message.to_vec()),
                Message::Close(frame) => anyhow::bail!("closed by the executor: {frame:?}"),
                _ => {}
            }
        }
    }

    /// Waits until the executor ends the connection.
    ///
    /// # Errors
    ///
    /// When it is still open at the deadline.
    pub async fn ended(&mut self) -> Result<()> {
        let drain = async {
            while let Some(Ok(message)) = self.socket.recv().await {
                if matches!(message, Message::Close(_)) {
                    return;
                }
            }
        };
        timeout(DEADLINE, drain)
            .await
            .context("the executor did not end the connection")
    }
}

struct Shared {
    websocket: String,
    sender: mpsc::Sender<Visit>,
}

async fn register(State(shared): State<Arc<Shared>>, Path(id): Path<String>) -> Response {
    axum::Json(json!({
        "environment_id": id,
        "security_profile": "noise_hybrid_ik_v1",
        "executor_registration_id": "rogue",
        "url": shared.websocket,
    }))
    .into_response()
}

async fn accept(State(shared): State<Arc<Shared>>, upgrade: WebSocketUpgrade) -> Response {
    let sender = shared.sender.clone();
    upgrade.on_upgrade(async move |socket| {
        // Nobody waits for it any more when this fails: the test is over.
        drop(sender.send(Visit { socket }).await);
    })
}

/// More than an executor makes while a test looks at one of them.
const VISITS: usize = 16;
