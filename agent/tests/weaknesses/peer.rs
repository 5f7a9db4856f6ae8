//! A client of the executor over any transport, and executors to connect to.

use std::collections::{HashMap, VecDeque};
use std::net::SocketAddr;
use std::path::Path;
use std::process::Command;
use std::sync::Arc;
use std::time::Duration;

use agent::environment::ExecutorEnvironment;
use agent::http::{HeaderVariables, HttpClient};
use agent::listener::{Keepalive, Listener, ListenerConfig};
use agent::rpc::{PeerLabel, Transport};
use agent::session::{Sessions, SessionsConfig};
use bytes::Bytes;
use futures_util::{SinkExt as _, StreamExt as _};
use registry_client::ConnectorConfig;
use serde_json::{Value, json};
use tokio::io::AsyncReadExt as _;
use tokio::net::TcpStream;
use tokio::net::unix::pipe;
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio::time::Instant;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::Message;
use tokio_util::sync::{CancellationToken, DropGuard};

use crate::support::{DEADLINE, Executor, exec_server};

/// The real program, listening on a port of its own.
pub(crate) struct Program {
    pub(crate) executor: Executor,
    pub(crate) address: SocketAddr,
}

impl Program {
    pub(crate) fn start(arguments: &[&str]) -> Self {
        Self::spawn(exec_server(&[&LISTEN, arguments].concat()))
    }

    /// `command` must end up as the program, listening as [`LISTEN`] says.
    pub(crate) fn spawn(command: Command) -> Self {
        let mut executor = Executor::spawn(command);
        let url = executor.output_line();
        let address = url.strip_prefix("ws://").unwrap().parse().unwrap();
        Self { executor, address }
    }

    /// A connection with a session.
    pub(crate) async fn connect(&self) -> Peer {
        let mut peer = Peer::over(websocket(self.address).await);
        peer.open().await;
        peer
    }

    /// Memory that the program has in use, in bytes.
    pub(crate) fn memory(&self) -> u64 {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.executor.id()));
        let status = status.unwrap();
        let line = status.lines().find(|line| line.starts_with("VmRSS:"));
        let kibibytes = line.unwrap().split_whitespace().nth(1).unwrap();
        kibibytes.parse::<u64>().unwrap() * 1024
    }
}

pub(crate) const LISTEN: [&str; 2] = ["--listen", "ws://127.0.0.1:0"];

/// Sessions in this process, as the program would make them.
pub(crate) fn sessions() -> Arc<Sessions> {
    let variables = [("PATH", "/usr/local/bin:/usr/bin:/bin")];
    let variables = variables.map(|(name, value)| (name.into(), value.into()));
    let environment = ExecutorEnvironment::from_parts(variables, "/".into());
    let headers = HeaderVariables::new(|_| None, []);
    let http = HttpClient::new(ConnectorConfig::default(), headers);
    let config = SessionsConfig::new(Arc::new(environment), Arc::new(http));
    Sessions::new(config).unwrap()
}

/// A listener in this process in front of `sessions`, until the guard is dropped.
pub(crate) async fn listen(
    sessions: &Arc<Sessions>,
    keepalive: Keepalive,
) -> (SocketAddr, DropGuard) {
    let config = ListenerConfig {
        address: SocketAddr::from(([127, 0, 0, 1], 0)),
        auth: None,
        keepalive,
    };
    let listener = Listener::bind(config).await.unwrap();
    let address = listener.url().strip_prefix("ws://").unwrap().parse();
    let cancel = CancellationToken::new();
    tokio::spawn(listener.run(Arc::clone(sessions), cancel.clone()));
    (address.unwrap(), cancel.drop_guard())
}

/// A websocket with the limits that the reference's client has too: 16 MiB a frame, 64 MiB a message.
pub(crate) async fn websocket(address: SocketAddr) -> WebSocketStream<TcpStream> {
    let tcp = TcpStream::connect(address).await.unwrap();
    let connect = tokio_tungstenite::client_async(format!("ws://{address}/"), tcp);
    connect.await.unwrap().0
}

/// The client's end of one connection.
pub(crate) struct Peer {
    outgoing: mpsc::Sender<Bytes>,
    incoming: mpsc::Receiver<Bytes>,
    notifications: VecDeque<Value>,
    answers: HashMap<i64, Value>,
    last_id: i64,
    _tasks: JoinSet<()>,
}

/// What a process did until its end.
#[derive(Debug, Default)]
pub(crate) struct Story {
    pub(crate) output: Vec<u8>,
    /// Notifications with output.
    pub(crate) pieces: u32,
    pub(crate) exit_code: Option<i64>,
    pub(crate) closed: bool,
}

/// The code and the text of an error.
pub(crate) type Refusal = (i64, String);

impl Peer {
    /// Over a websocket. While nobody takes messages from the peer, the socket is not read.
    pub(crate) fn over(socket: WebSocketStream<TcpStream>) -> Self {
        let (outgoing, mut to_socket) = mpsc::channel::<Bytes>(8);
        let (from_socket, incoming) = mpsc::channel(8);
        let (mut sink, mut stream) = socket.split();
        let mut tasks = JoinSet::new();
        tasks.spawn(async move {
            while let Some(message) = to_socket.recv().await {
                let text = String::from_utf8(message.into()).unwrap();
                if sink.send(Message::text(text)).await.is_err() {
                    return;
                }
            }
        });
        tasks.spawn(async move {
            while let Some(Ok(message)) = stream.next().await {
                if let Message::Text(text) = message
                    && from_socket.send(text.into()).await.is_err()
                {
                    return;
                }
            }
        });
        Self::new(outgoing, incoming, tasks)
    }

    /// Without a socket.
    pub(crate) fn in_process(sessions: &Arc<Sessions>) -> Self {
        let (outgoing, to_session) = mpsc::channel(8);
        let (from_session, incoming) = mpsc::channel(8);
        let mut tasks = JoinSet::new();
        serve(&mut tasks, sessions, to_session, from_session);
        Self::new(outgoing, incoming, tasks)
    }

    /// Without a socket; every message takes `delay`, and any number is under way at once.
    pub(crate) fn far_away(sessions: &Arc<Sessions>, delay: Duration) -> Self {
        let mut tasks = JoinSet::new();
        let (outgoing, departing) = mpsc::channel(UNDER_WAY);
        let (arriving, to_session) = mpsc::channel(UNDER_WAY);
        link(&mut tasks, delay, departing, arriving);
        let (from_session, departing) = mpsc::channel(8);
        let (arriving, incoming) = mpsc::channel(UNDER_WAY);
        link(&mut tasks, delay, departing, arriving);
        serve(&mut tasks, sessions, to_session, from_session);
        Self::new(outgoing, incoming, tasks)
    }

    fn new(
        outgoing: mpsc::Sender<Bytes>,
        incoming: mpsc::Receiver<Bytes>,
        tasks: JoinSet<()>,
    ) -> Self {
        Self {
            outgoing,
            incoming,
            notifications: VecDeque::new(),
            answers: HashMap::new(),
            last_id: 0,
            _tasks: tasks,
        }
    }

    /// Opens a session and returns its id.
    pub(crate) async fn open(&mut self) -> String {
        let result = self.ok("initialize", json!({"clientName": "test"})).await;
        self.raw(r#"{"method":"initialized"}"#).await;
        result["sessionId"].as_str().unwrap().to_owned()
    }

    /// Tries to resume a session.
    pub(crate) async fn resume(&mut self, id: &str) -> Result<(), Refusal> {
        let params = json!({"clientName": "test", "resumeSessionId": id});
        self.call("initialize", params).await?;
        self.raw(r#"{"method":"initialized"}"#).await;
        Ok(())
    }

    pub(crate) async fn raw(&self, text: &str) {
        let message = Bytes::copy_from_slice(text.as_bytes());
        let sent = tokio::time::timeout(DEADLINE, self.outgoing.send(message));
        sent.await.expect("the executor does not read").unwrap();
    }

    /// Sends a request and returns its id.
    pub(crate) async fn send(&mut self, method: &str, params: Value) -> i64 {
        let text = self.request(method, params);
        self.raw(&text).await;
        self.last_id
    }

    /// Sends a request if there is room for it now.
    pub(crate) fn try_send(&mut self, method: &str, params: Value) -> bool {
        let text = self.request(method, params);
        self.outgoing.try_send(text.into()).is_ok()
    }

    fn request(&mut self, method: &str, params: Value) -> String {
        self.last_id += 1;
        json!({"id": self.last_id, "method": method, "params": params}).to_string()
    }

    /// The next message.
    pub(crate) async fn receive(&mut self) -> Value {
        let message = tokio::time::timeout(DEADLINE, self.incoming.recv()).await;
        let message = message.expect("no message before the deadline");
        serde_json::from_slice(&message.expect("the executor closed the connection")).unwrap()
    }

    async fn sort_one(&mut self) {
        let message = self.receive().await;
        match message["id"].as_i64() {
            Some(id) if message.get("method").is_none() => drop(self.answers.insert(id, message)),
            _ => self.notifications.push_back(message),
        }
    }

    /// Whether the answer has arrived and was not taken.
    pub(crate) fn is_answered(&self, id: i64) -> bool {
        self.answers.contains_key(&id)
    }

    /// Waits for the answer to a request.
    pub(crate) async fn answer(&mut self, id: i64) -> Result<Value, Refusal> {
        while !self.answers.contains_key(&id) {
            self.sort_one().await;
        }
        let mut answer = self.answers.remove(&id).unwrap();
        match answer.get("error") {
            Some(error) => Err((
                error["code"].as_i64().unwrap(),
                error["message"].as_str().unwrap().to_owned(),
            )),
            None => Ok(answer["result"].take()),
        }
    }

    pub(crate) async fn call(&mut self, method: &str, params: Value) -> Result<Value, Refusal> {
        let id = self.send(method, params).await;
        self.answer(id).await
    }

    pub(crate) async fn ok(&mut self, method: &str, params: Value) -> Value {
        let result = self.call(method, params).await;
        result.unwrap_or_else(|error| panic!("{method}: {error:?}"))
    }

    pub(crate) async fn err(&mut self, method: &str, params: Value) -> Refusal {
        self.call(method, params).await.expect_err(method)
    }

    /// Starts a program and waits for the answer.
    pub(crate) async fn start(&mut self, params: Value) {
        self.ok("process/start", params).await;
    }

    /// Follows a process until `until` is content.
    pub(crate) async fn follow(&mut self, id: &str, until: impl Fn(&Story) -> bool) -> Story {
        let mut story = Story::default();
        while !until(&story) {
            let position = self
                .notifications
                .iter()
                .position(|event| event["params"]["processId"] == id);
            let Some(event) = position.and_then(|position| self.notifications.remove(position))
            else {
                self.sort_one().await;
                continue;
            };
            assert!(!story.closed, "an event after the last one: {event}");
            story.add(&event);
        }
        story
    }

    /// Follows a process to its end.
    pub(crate) async fn collect(&mut self, id: &str) -> Story {
        self.follow(id, |story| story.closed).await
    }
}

impl Story {
    fn add(&mut self, event: &Value) {
        let params = &event["params"];
        match event["method"].as_str().unwrap() {
            "process/output" => {
                let chunk = params["chunk"].as_str().unwrap();
                self.output
                    .extend(exec_proto::base64::decode(chunk).unwrap());
                self.pieces += 1;
            }
            "process/exited" => self.exit_code = params["exitCode"].as_i64(),
            "process/closed" => self.closed = true,
            other => panic!("unexpected {other}"),
        }
    }

    pub(crate) fn text(&self) -> String {
        String::from_utf8_lossy(&self.output).into_owned()
    }
}

/// Parameters of a start without a terminal.
pub(crate) fn start(id: &str, argv: &[&str]) -> Value {
    json!({
        "processId": id, "argv": argv, "cwd": "file:///", "tty": false,
        "env": {"PATH": "/usr/local/bin:/usr/bin:/bin"},
    })
}

/// The same for a script of the shell.
pub(crate) fn script(id: &str, text: &str) -> Value {
    start(id, &["/bin/sh", "-c", text])
}

pub(crate) fn with(mut params: Value, name: &str, value: impl Into<Value>) -> Value {
    params[name] = value.into();
    params
}

/// Parameters of a write; its id is the `number`.
pub(crate) fn write(id: &str, number: u32, data: &[u8]) -> Value {
    let chunk = exec_proto::base64::encode(data);
    json!({"processId": id, "writeId": number.to_string(), "chunk": chunk})
}

pub(crate) fn uri(path: &Path) -> Value {
    let uri = exec_proto::PathUri::from_native(&path.canonicalize().unwrap()).unwrap();
    serde_json::to_value(uri).unwrap()
}

/// A FIFO that programs hold open, so that their end can be waited for.
pub(crate) struct Held {
    fifo: pipe::Receiver,
}

impl Held {
    /// Makes a FIFO at `path`, for programs to open for writing.
    pub(crate) fn new(path: &Path) -> Self {
        let mode = rustix::fs::Mode::RUSR | rustix::fs::Mode::WUSR;
        let kind = rustix::fs::FileType::Fifo;
        rustix::fs::mknodat(rustix::fs::CWD, path, kind, mode, 0).unwrap();
        let fifo = pipe::OpenOptions::new().open_receiver(path).unwrap();
        Self { fifo }
    }

    /// Waits until every program that had the FIFO open has let go of it. At least one must have it
    /// open by now, or have had it.
    pub(crate) async fn released(mut self) {
        let mut nothing = Vec::new();
        let end = tokio::time::timeout(DEADLINE, self.fifo.read_to_end(&mut nothing));
        end.await.expect("a program still runs").unwrap();
    }
}

fn serve(
    tasks: &mut JoinSet<()>,
    sessions: &Arc<Sessions>,
    incoming: mpsc::Receiver<Bytes>,
    outgoing: mpsc::Sender<Bytes>,
) {
    let peer = PeerLabel::Stdio;
    let transport = Transport::new(incoming, outgoing, peer);
    tasks.spawn(Arc::clone(sessions).serve(transport, CancellationToken::new()));
}

/// Carries messages in order, each for `delay`.
fn link(
    tasks: &mut JoinSet<()>,
    delay: Duration,
    mut departing: mpsc::Receiver<Bytes>,
    arriving: mpsc::Sender<Bytes>,
) {
    let (enter, mut leave) = mpsc::channel(UNDER_WAY);
    tasks.spawn(async move {
        while let Some(message) = departing.recv().await {
            if enter.send((Instant::now() + delay, message)).await.is_err() {
                return;
            }
        }
    });
    tasks.spawn(async move {
        while let Some((arrival, message)) = leave.recv().await {
            tokio::time::sleep_until(arrival).await;
            if arriving.send(message).await.is_err() {
                return;
            }
        }
    });
}

/// More messages than any test sends at once.
const UNDER_WAY: usize = 1024;
