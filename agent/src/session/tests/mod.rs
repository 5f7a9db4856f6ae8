//! Sessions through their real seam: messages in, messages out, real programs, no sockets.

mod bulk;
mod cancelling;
mod control;
mod draining;
mod files;
mod handshake;
mod lifetime;
mod listing;
mod model;
mod network;
mod old_client;
mod processes;
mod snapshots;
mod takeover;
mod terminals;

use std::collections::VecDeque;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use registry_client::ConnectorConfig;
use serde_json::{Value, json};
use tokio::sync::{mpsc, watch};
use tokio::task::JoinHandle;
use tokio_util::sync::{CancellationToken, DropGuard};

use super::{Sessions, SessionsConfig};
use crate::environment::ExecutorEnvironment;
use crate::http::{HeaderVariables, HttpClient};
use crate::rpc::{PeerLabel, StreamSide, Transport};

/// Longest wait for any one message.
const DEADLINE: Duration = Duration::from_secs(20);

fn config() -> SessionsConfig {
    let variables = [
        ("PATH", "/usr/bin:/bin"),
        ("INHERITED", "yes"),
        ("CODEX_API_KEY", "secret"),
    ];
    let environment = ExecutorEnvironment::from_parts(
        variables.map(|(name, value)| (name.into(), value.into())),
        "/".into(),
    );
    let http = HttpClient::new(
        ConnectorConfig::default(),
        HeaderVariables::new(|_| None, []),
    );
    SessionsConfig {
        // A busy machine must not be taken for a slow profile.
        snapshot_time: Duration::from_secs(60),
        ..SessionsConfig::new(Arc::new(environment), Arc::new(http))
    }
}

fn sessions() -> Arc<Sessions> {
    Sessions::new(config()).unwrap()
}

/// The client's end of one connection.
struct Client {
    to_server: mpsc::Sender<Bytes>,
    from_server: mpsc::Receiver<Bytes>,
    notifications: VecDeque<Value>,
    next_id: i64,
    served: JoinHandle<()>,
    _cancel: DropGuard,
}

/// Everything a process said.
#[derive(Debug, Default, PartialEq)]
struct Collected {
    stdout: String,
    stderr: String,
    pty: String,
    exit_code: Option<i64>,
    chunks: usize,
    seqs: Vec<u64>,
}

impl Client {
    /// Connects without a handshake.
    fn connect(sessions: &Arc<Sessions>) -> Self {
        Self::connect_as(sessions, PeerLabel::Stdio)
    }

    /// Connects as a certain peer, without a handshake.
    fn connect_as(sessions: &Arc<Sessions>, peer: PeerLabel) -> Self {
        Self::connect_over(sessions, peer, None)
    }

    /// Connects over a stream of the relay, whose two classes of messages come out here as one.
    fn connect_stream(
        sessions: &Arc<Sessions>,
        peer: PeerLabel,
        path: watch::Receiver<relay_driver::Path>,
    ) -> Self {
        Self::connect_over(sessions, peer, Some(path))
    }

    fn connect_over(
        sessions: &Arc<Sessions>,
        peer: PeerLabel,
        path: Option<watch::Receiver<relay_driver::Path>>,
    ) -> Self {
        let (to_server, incoming) = mpsc::channel(8);
        let (outgoing, from_server) = mpsc::channel(8);
        let stream = path.map(|path| StreamSide {
            urgent: outgoing.clone(),
            path,
        });
        let transport = Transport {
            stream,
            ..Transport::new(incoming, outgoing, peer)
        };
        let cancel = CancellationToken::new();
        let served = tokio::spawn(Arc::clone(sessions).serve(transport, cancel.clone()));
        Self {
            to_server,
            from_server,
            notifications: VecDeque::new(),
            next_id: 1,
            served,
            _cancel: cancel.drop_guard(),
        }
    }

    /// Connects and opens a session, whose id is returned.
    async fn open(sessions: &Arc<Sessions>) -> (Self, String) {
        let mut client = Self::connect(sessions);
        let result = client.ok("initialize", json!({"clientName": "test"})).await;
        client.notify("initialized").await;
        (client, result["sessionId"].as_str().unwrap().to_owned())
    }

    /// Connects and resumes a session.
    async fn resume(sessions: &Arc<Sessions>, id: &str) -> Self {
        let mut client = Self::connect(sessions);
        let params = json!({"clientName": "test", "resumeSessionId": id});
        client.ok("initialize", params).await;
        client.notify("initialized").await;
        client
    }

    async fn raw(&self, text: &str) {
        self.to_server
            .send(Bytes::copy_from_slice(text.as_bytes()))
            .await
            .unwrap();
    }

    async fn notify(&self, method: &str) {
        self.raw(&json!({"method": method}).to_string()).await;
    }

    /// Sends a request and returns its id.
    async fn send(&mut self, method: &str, params: Value) -> i64 {
        let id = self.next_id;
        self.next_id += 1;
        self.raw(&json!({"id": id, "method": method, "params": params}).to_string())
            .await;
        id
    }

    async fn recv(&mut self) -> Option<Value> {
        let message = tokio::time::timeout(DEADLINE, self.from_server.recv());
        let message = message.await.expect("no message before the deadline")?;
        Some(serde_json::from_slice(&message).unwrap())
    }

    /// Waits for the answer to a request; notifications before it are kept.
    async fn answer(&mut self, id: i64) -> Result<Value, (i64, String)> {
        loop {
            let message = self.recv().await.expect("the server closed the connection");
            if message.get("method").is_some() {
                self.notifications.push_back(message);
                continue;
            }
            assert_eq!(message["id"], id, "{message}");
            return match message.get("error") {
                Some(error) => Err((
                    error["code"].as_i64().unwrap(),
                    error["message"].as_str().unwrap().to_owned(),
                )),
                None => Ok(message["result"].clone()),
            };
        }
    }

    async fn call(&mut self, method: &str, params: Value) -> Result<Value, (i64, String)> {
        let id = self.send(method, params).await;
        self.answer(id).await
    }

    async fn ok(&mut self, method: &str, params: Value) -> Value {
        self.call(method, params)
            .await
            .unwrap_or_else(|err| panic!("{method}: {err:?}"))
    }

    async fn err(&mut self, method: &str, params: Value) -> (i64, String) {
        self.call(method, params).await.expect_err(method)
    }

    async fn start(&mut self, id: &str, argv: &[&str]) {
        self.ok("process/start", start(id, argv)).await;
    }

    async fn next_notification(&mut self) -> Value {
        match self.notifications.pop_front() {
            Some(notification) => notification,
            None => self.recv().await.expect("the server closed the connection"),
        }
    }

    /// Follows a process until it is closed.
    async fn collect(&mut self, id: &str) -> Collected {
        let mut collected = Collected::default();
        while !self.collect_one(id, &mut collected).await {}
        collected
    }

    /// Follows a process until its output contains a text.
    async fn until(&mut self, id: &str, text: &str) -> Collected {
        let mut collected = Collected::default();
        while ![&collected.stdout, &collected.pty]
            .iter()
            .any(|out| out.contains(text))
        {
            assert!(
                !self.collect_one(id, &mut collected).await,
                "closed: {collected:?}"
            );
        }
        collected
    }

    /// Takes one event; returns whether it was the last.
    async fn collect_one(&mut self, id: &str, collected: &mut Collected) -> bool {
        let event = self.next_notification().await;
        let params = &event["params"];
        assert_eq!(params["processId"], id, "{event}");
        collected.seqs.push(params["seq"].as_u64().unwrap());
        match event["method"].as_str().unwrap() {
            "process/output" => {
                let chunk = exec_proto::base64::decode(params["chunk"].as_str().unwrap()).unwrap();
                let text = String::from_utf8_lossy(&chunk).into_owned();
                match params["stream"].as_str().unwrap() {
                    "stdout" => collected.stdout.push_str(&text),
                    "stderr" => collected.stderr.push_str(&text),
                    _ => collected.pty.push_str(&text),
                }
                collected.chunks += 1;
            }
            "process/exited" => collected.exit_code = params["exitCode"].as_i64(),
            "process/closed" => return true,
            other => panic!("unexpected {other}"),
        }
        false
    }

    /// Ends the connection and waits until the server has noticed.
    async fn disconnect(self) {
        drop(self.to_server);
        drop(self.from_server);
        self.served.await.unwrap();
    }
}

/// A peer that is not on standard input.
fn websocket() -> PeerLabel {
    PeerLabel::WebSocket(([127, 0, 0, 1], 1).into())
}

fn start(id: &str, argv: &[&str]) -> Value {
    json!({
        "processId": id, "argv": argv, "cwd": "file:///", "tty": false,
        "env": {"PATH": "/usr/local/bin:/usr/bin:/bin"},
    })
}

fn with(mut params: Value, name: &str, value: impl Into<Value>) -> Value {
    params[name] = value.into();
    params
}

fn sh(script: &str) -> [&str; 3] {
    ["/bin/sh", "-c", script]
}

fn write(id: &str, write_id: &str, text: &str) -> Value {
    let chunk = exec_proto::base64::encode(text.as_bytes());
    json!({"processId": id, "writeId": write_id, "chunk": chunk})
}

/// Starts `script` as process `p`, holding a FIFO open for as long as any of its processes lives.
/// Returns a task that ends when nobody holds it any more.
async fn start_with_fifo(client: &mut Client, dir: &Path, script: &str) -> JoinHandle<Vec<u8>> {
    let fifo = dir.join("fifo");
    rustix::fs::mknodat(
        rustix::fs::CWD,
        &fifo,
        rustix::fs::FileType::Fifo,
        rustix::fs::Mode::RUSR | rustix::fs::Mode::WUSR,
        0,
    )
    .unwrap();
    let script = format!("exec 9>{}; echo started; {script}", fifo.display());
    client.start("p", &sh(&script)).await;
    let end = tokio::task::spawn_blocking(move || std::fs::read(fifo).unwrap());
    client.until("p", "started").await;
    end
}
