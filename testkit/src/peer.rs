//! A bare client of an executor that listens: requests as JSON, nothing of our client in between.

use std::collections::HashMap;

use anyhow::{Context as _, Result, bail};
use base64::{Engine as _, engine::general_purpose::STANDARD};
use futures_util::{SinkExt as _, StreamExt as _};
use serde_json::{Value, json};
use tokio::{net::TcpStream, time::timeout};
use tokio_tungstenite::{WebSocketStream, client_async, tungstenite::Message};

use crate::processes::DEADLINE;

/// A connection with a session.
#[derive(Debug)]
pub struct Peer {
    socket: WebSocketStream<TcpStream>,
    last_id: u64,
    running: HashMap<String, Ended>,
}

/// An error answer: its code and its text.
pub type Refusal = (i64, String);

/// What a process did until its end.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub struct Ended {
    /// As the answer to its start says.
    pub sandbox: String,
    /// Its exit code.
    pub code: Option<i64>,
    /// Whether its sandbox is said to have stopped it.
    pub denied: bool,
    /// All of its output, in the order of arrival.
    pub output: String,
    closed: bool,
}

impl Peer {
    /// Opens a session at a `ws://` address.
    ///
    /// # Errors
    ///
    /// When there is no executor.
    pub async fn connect(url: &str) -> Result<Self> {
        let address = url.strip_prefix("ws://").context("no ws:// address")?;
        let address = address.split('/').next().unwrap_or(address);
        let stream = TcpStream::connect(address).await.context("connect")?;
        let (socket, _) = client_async(url, stream).await.context("upgrade")?;
        let mut peer = Self {
            socket,
            last_id: 0,
            running: HashMap::new(),
        };
        let hello = peer.call("initialize", json!({"clientName": "peer"}));
        if let Err((_, text)) = hello.await? {
            bail!("no session: {text}");
        }
        let initialized = json!({"method": "initialized", "params": {}});
        peer.socket
            .send(Message::text(initialized.to_string()))
            .await?;
        Ok(peer)
    }

    /// Makes a call and waits for its answer.
    ///
    /// # Errors
    ///
    /// When there is none.
    pub async fn call(&mut self, method: &str, params: Value) -> Result<Result<Value, Refusal>> {
        self.last_id += 1;
        let id = self.last_id;
        let request = json!({"id": id, "method": method, "params": params});
        self.socket.send(Message::text(request.to_string())).await?;
        loop {
            let message = self.receive().await?;
            if message.get("method").is_some() {
                self.note(&message)?;
            } else if message["id"] == id {
                let Some(error) = message.get("error") else {
                    return Ok(Ok(message["result"].clone()));
                };
                let code = error["code"].as_i64().context("an error without code")?;
                let text = error["message"].as_str().unwrap_or_default();
                return Ok(Err((code, text.to_owned())));
            }
        }
    }

    /// Starts a process and waits until everything about it is known.
    ///
    /// # Errors
    ///
    /// When there is no answer, or no end.
    pub async fn run(&mut self, params: Value) -> Result<Result<Ended, Refusal>> {
        let id = params["processId"].as_str().context("no id")?.to_owned();
        self.running.insert(id.clone(), Ended::default());
        let started = match self.call("process/start", params).await? {
            Ok(started) => started,
            Err(refusal) => return Ok(Err(refusal)),
        };
        while !self.running.get(&id).is_some_and(|ended| ended.closed) {
            let message = self.receive().await?;
            self.note(&message)?;
        }
        let mut ended = self.running.remove(&id).unwrap_or_default();
        ended.sandbox = started["sandboxType"]
            .as_str()
            .unwrap_or_default()
            .to_owned();
        Ok(Ok(ended))
    }

    /// Keeps what a notification tells of a process.
    fn note(&mut self, message: &Value) -> Result<()> {
        let params = &message["params"];
        let id = params["processId"].as_str().unwrap_or_default();
        let Some(process) = self.running.get_mut(id) else {
            return Ok(());
        };
        match message["method"].as_str() {
            Some("process/output") => {
                let chunk = params["chunk"].as_str().context("output without bytes")?;
                let chunk = STANDARD.decode(chunk)?;
                process.output.push_str(&String::from_utf8_lossy(&chunk));
            }
            Some("process/exited") => {
                process.code = params["exitCode"].as_i64();
                process.denied = params["sandboxDenied"] == true;
            }
            Some("process/closed") => process.closed = true,
            _ => {}
        }
        Ok(())
    }

    async fn receive(&mut self) -> Result<Value> {
        loop {
            let message = timeout(DEADLINE, self.socket.next()).await;
            let message = message.context("the executor says nothing")?;
            match message.context("the executor closed the connection")?? {
                Message::Text(text) => return Ok(serde_json::from_str(&text)?),
                Message::Close(_) => bail!("the executor closed the connection"),
                _ => {}
            }
        }
    }
}
