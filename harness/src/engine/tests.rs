//! A client against a scripted executor over channels.

mod bulk;
mod extensions;
mod questions;
mod streams;

use std::{
    collections::VecDeque,
    sync::{
        Arc, Mutex,
        atomic::{AtomicU32, Ordering},
    },
    time::Duration,
};

use bytes::Bytes;
use relay_proto::keys::PublicKey;
use serde_json::{Value, json};
use tokio::sync::mpsc;

use crate::{
    Client, ClientConfig, Command, Dial, DialFuture, Error, ExitStatus, OutputStream, Overflow,
    PathUri, Process, ProcessEvent, Recursion, Transport, limits,
};

const SESSION: &str = "session-1";

/// The executor's end of one connection.
struct Peer {
    from_client: mpsc::Receiver<Bytes>,
    to_client: mpsc::Sender<Bytes>,
}

impl Peer {
    async fn receive(&mut self) -> Value {
        let bytes = tokio::time::timeout(Duration::from_secs(120), self.from_client.recv());
        let bytes = bytes
            .await
            .expect("a message in time")
            .expect("a connection");
        serde_json::from_slice(&bytes).unwrap()
    }

    /// Waits for a request and returns its id and parameters.
    async fn expect(&mut self, method: &str) -> (i64, Value) {
        let message = self.receive().await;
        assert_eq!(message["method"], method, "{message}");
        (
            message["id"].as_i64().unwrap_or_default(),
            message["params"].clone(),
        )
    }

    async fn send(&self, message: Value) {
        self.to_client
            .send(Bytes::from(message.to_string()))
            .await
            .unwrap();
    }

    async fn answer(&self, id: i64, result: Value) {
        self.send(json!({ "id": id, "result": result })).await;
    }

    async fn refuse(&self, id: i64, code: i64, message: &str) {
        self.send(json!({ "id": id, "error": { "code": code, "message": message } }))
            .await;
    }

    async fn output(&self, process: &str, seq: u64, text: &str) {
        let chunk = exec_proto::base64::encode(text.as_bytes());
        let params =
            json!({ "processId": process, "seq": seq, "stream": "stdout", "chunk": chunk });
        self.send(json!({ "method": "process/output", "params": params }))
            .await;
    }

    async fn exited(&self, process: &str, seq: u64, code: i32) {
        let params =
            json!({ "processId": process, "seq": seq, "exitCode": code, "sandboxDenied": false });
        self.send(json!({ "method": "process/exited", "params": params }))
            .await;
    }

    async fn closed(&self, process: &str, seq: u64) {
        let params = json!({ "processId": process, "seq": seq });
        self.send(json!({ "method": "process/closed", "params": params }))
            .await;
    }

    /// Answers `initialize` and returns the session that was asked for.
    async fn handshake(&mut self) -> Value {
        self.handshake_with(&[]).await
    }

    /// The same, with extensions.
    async fn handshake_with(&mut self, extensions: &[&str]) -> Value {
        let mut capabilities = json!({ "fileWriteStreaming": true });
        for extension in extensions {
            capabilities[*extension] = json!(true);
        }
        let (id, params) = self.expect("initialize").await;
        let info = json!({
            "shell": { "name": "sh", "path": "/bin/sh" }, "cwd": "file:///work",
            "userHomeDir": "file:///home/me", "capabilities": capabilities,
        });
        self.answer(id, json!({ "sessionId": SESSION, "environmentInfo": info }))
            .await;
        self.expect("initialized").await;
        params["resumeSessionId"].clone()
    }

    /// Answers `process/start` and returns the process id.
    async fn start(&mut self) -> String {
        let (id, params) = self.expect("process/start").await;
        let process = params["processId"].as_str().unwrap().to_owned();
        self.answer(id, json!({ "processId": process, "sandboxType": "none" }))
            .await;
        process
    }
}

fn page(chunks: &[(u64, &str)], next_seq: u64, exit: Option<i32>, closed: bool) -> Value {
    let chunks: Vec<_> = chunks
        .iter()
        .map(|(seq, text)| {
            let chunk = exec_proto::base64::encode(text.as_bytes());
            json!({ "seq": seq, "stream": "stdout", "chunk": chunk })
        })
        .collect();
    json!({
        "chunks": chunks, "nextSeq": next_seq, "exited": exit.is_some(), "exitCode": exit,
        "closed": closed, "failure": null, "sandboxDenied": false,
    })
}

/// Hands each new connection to the test.
struct Script {
    peers: mpsc::Sender<Peer>,
    failures: Mutex<VecDeque<Error>>,
    key: Mutex<Option<PublicKey>>,
    dials: AtomicU32,
}

impl Dial for Script {
    fn dial<'a>(&'a self, _pinned: Option<&'a PublicKey>) -> DialFuture<'a> {
        Box::pin(async {
            self.dials.fetch_add(1, Ordering::SeqCst);
            if let Some(error) = self.failures.lock().unwrap().pop_front() {
                return Err(error);
            }
            let (to_client, incoming) = mpsc::channel(4);
            let (outgoing, from_client) = mpsc::channel(4);
            self.peers
                .send(Peer {
                    from_client,
                    to_client,
                })
                .await
                .unwrap();
            let transport = Transport::new(incoming, outgoing);
            Ok(match self.key.lock().unwrap().clone() {
                Some(key) => transport.with_executor_key(key),
                None => transport,
            })
        })
    }
}

fn script() -> (Arc<Script>, mpsc::Receiver<Peer>) {
    let (peers, connections) = mpsc::channel(4);
    let script = Script {
        peers,
        failures: Mutex::default(),
        key: Mutex::default(),
        dials: AtomicU32::new(0),
    };
    (Arc::new(script), connections)
}

async fn connected() -> (Client, Peer, Arc<Script>, mpsc::Receiver<Peer>) {
    let (script, mut connections) = script();
    let (client, peer) = connect(&script, &mut connections).await;
    (client, peer, script, connections)
}

async fn connect(script: &Arc<Script>, connections: &mut mpsc::Receiver<Peer>) -> (Client, Peer) {
    let client = Client::connect_with(script.clone(), ClientConfig::default());
    let peer = async {
        let mut peer = connections.recv().await.unwrap();
        assert_eq!(peer.handshake().await, Value::Null);
        peer
    };
    let (client, peer) = tokio::join!(client, peer);
    (client.unwrap(), peer)
}

async fn started(client: &Client, peer: &mut Peer, overflow: Overflow) -> (Process, String) {
    let command = Command::new(["program"]).overflow(overflow);
    let (process, id) = tokio::join!(client.start(command), peer.start());
    (process.unwrap(), id)
}

/// The next connection, with the session resumed on it.
async fn resumed(connections: &mut mpsc::Receiver<Peer>) -> Peer {
    let mut peer = connections.recv().await.unwrap();
    assert_eq!(peer.handshake().await, SESSION);
    peer
}

async fn next(process: &mut Process) -> ProcessEvent {
    process.next_event().await.unwrap().unwrap()
}

fn out(text: &str) -> ProcessEvent {
    let chunk = Bytes::copy_from_slice(text.as_bytes());
    ProcessEvent::Output {
        stream: OutputStream::Stdout,
        chunk,
    }
}

fn exit(code: i32) -> ProcessEvent {
    ProcessEvent::Exited(ExitStatus {
        code,
        sandbox_denied: false,
    })
}

fn path(text: &str) -> PathUri {
    PathUri::parse(text).unwrap()
}

#[tokio::test(start_paused = true)]
async fn output_continues_over_a_lost_connection_without_hole_or_duplicate() {
    let (client, mut peer, script, mut connections) = connected().await;
    let (mut process, id) = started(&client, &mut peer, Overflow::ReadBack).await;
    tokio::time::advance(Duration::from_secs(60)).await;
    peer.output(&id, 1, "a").await;
    assert_eq!(next(&mut process).await, out("a"));
    drop(peer);

    let mut peer = resumed(&mut connections).await;
    // Pushed events may come before the page, and the page may contain them too.
    peer.output(&id, 3, "c").await;
    let (request, params) = peer.expect("process/read").await;
    assert_eq!(params["afterSeq"], 1);
    assert_eq!(params["processId"], id);
    peer.answer(request, page(&[(2, "b"), (3, "c")], 4, None, false))
        .await;
    peer.output(&id, 4, "d").await;
    peer.exited(&id, 5, 3).await;
    peer.closed(&id, 6).await;
    for expected in [out("b"), out("c"), out("d"), exit(3), ProcessEvent::Closed] {
        assert_eq!(next(&mut process).await, expected);
    }
    assert!(process.next_event().await.is_none());
    assert_eq!(script.dials.load(Ordering::SeqCst), 2);
    assert_eq!(client.generation(), 2);
}

#[tokio::test(start_paused = true)]
async fn process_that_ended_meanwhile_is_told_from_the_page_alone() {
    let (client, mut peer, _script, mut connections) = connected().await;
    let (mut process, _id) = started(&client, &mut peer, Overflow::ReadBack).await;
    drop(peer);
    let mut peer = resumed(&mut connections).await;
    let (request, _) = peer.expect("process/read").await;
    peer.answer(request, page(&[(1, "x")], 4, Some(9), true))
        .await;
    assert_eq!(process.wait().await.unwrap().code, 9);
}

#[tokio::test(start_paused = true)]
async fn evicted_output_is_an_explicit_error_and_the_rest_follows() {
    let (client, mut peer, _script, mut connections) = connected().await;
    let (mut process, _id) = started(&client, &mut peer, Overflow::ReadBack).await;
    drop(peer);
    let mut peer = resumed(&mut connections).await;
    let (request, _) = peer.expect("process/read").await;
    peer.answer(request, page(&[(4, "d")], 5, None, false))
        .await;
    let lost = process.next_event().await.unwrap();
    assert!(
        matches!(lost, Err(Error::OutputLost { first: 1, last: 3 })),
        "{lost:?}"
    );
    assert_eq!(next(&mut process).await, out("d"));
}

#[tokio::test(start_paused = true)]
async fn process_that_the_executor_forgot_fails_its_stream() {
    let (client, mut peer, _script, mut connections) = connected().await;
    let (mut process, _id) = started(&client, &mut peer, Overflow::ReadBack).await;
    drop(peer);
    let mut peer = resumed(&mut connections).await;
    let (request, _) = peer.expect("process/read").await;
    peer.refuse(request, -32600, "unknown process id").await;
    assert!(matches!(
        process.next_event().await,
        Some(Err(Error::ProcessGone))
    ));
    assert!(process.next_event().await.is_none());
}

#[tokio::test(start_paused = true)]
async fn repeatable_request_is_repeated_and_a_change_has_an_unknown_outcome() {
    let (client, mut peer, _script, mut connections) = connected().await;
    let fs = client.filesystem();
    let file = path("file:///f");
    let write = fs.write(&file, b"new");
    let read = fs.read(&file);
    let script = async {
        peer.expect("fs/writeFile").await;
        peer.expect("fs/readFile").await;
        drop(peer);
        let mut peer = resumed(&mut connections).await;
        let (request, _) = peer.expect("fs/readFile").await;
        peer.answer(request, json!({ "dataBase64": "aGk=" })).await;
        peer
    };
    let (write, read, _peer) = tokio::join!(write, read, script);
    assert!(
        matches!(
            write,
            Err(Error::OutcomeUnknown {
                method: "fs/writeFile"
            })
        ),
        "{write:?}"
    );
    assert_eq!(read.unwrap(), "hi");
}

#[tokio::test(start_paused = true)]
async fn repeated_write_has_the_same_write_id() {
    let (client, mut peer, _script, mut connections) = connected().await;
    let command = Command::new(["cat"]).stdin(crate::Stdin::PipedWithoutEnd);
    let (process, _id) = tokio::join!(client.start(command), peer.start());
    let process = process.unwrap();
    let script = async {
        let (_, first) = peer.expect("process/write").await;
        drop(peer);
        let mut peer = resumed(&mut connections).await;
        // The order between the repeated write and the page does not matter.
        let mut again = None;
        for _ in 0..2 {
            let message = peer.receive().await;
            let id = message["id"].as_i64().unwrap();
            if message["method"] == "process/write" {
                again = Some(message["params"].clone());
                peer.answer(id, json!({ "status": "accepted" })).await;
            } else {
                peer.answer(id, page(&[], 1, None, false)).await;
            }
        }
        assert_eq!(again.unwrap(), first);
        let (id, second) = peer.expect("process/write").await;
        assert_ne!(second["writeId"], first["writeId"]);
        peer.answer(id, json!({ "status": "stdinClosed" })).await;
        peer
    };
    let writes = async {
        process.control().write("hello").await.unwrap();
        process.control().write("again").await
    };
    let (second, _peer) = tokio::join!(writes, script);
    assert!(matches!(second, Err(Error::StdinClosed)));
}

#[tokio::test(start_paused = true)]
async fn start_whose_answer_was_lost_happens_once() {
    let (client, mut peer, _script, mut connections) = connected().await;
    let script = async {
        let (_, first) = peer.expect("process/start").await;
        drop(peer);
        let mut peer = resumed(&mut connections).await;
        let (request, second) = peer.expect("process/start").await;
        assert_eq!(first, second);
        peer.refuse(request, -32600, "process already exists").await;
        let (request, params) = peer.expect("process/read").await;
        assert_eq!(params["afterSeq"], 0);
        peer.answer(request, page(&[(1, "once")], 4, Some(0), true))
            .await;
        peer
    };
    let (process, _peer) = tokio::join!(client.start(Command::new(["program"])), script);
    let output = process.unwrap().output(100).await.unwrap();
    assert_eq!(output.stdout, b"once");
}

#[tokio::test(start_paused = true)]
async fn start_that_was_not_done_when_asked_again_is_waited_for() {
    let (client, mut peer, _script, mut connections) = connected().await;
    let script = async {
        let (_, params) = peer.expect("process/start").await;
        let starting = format!("process id {} is starting", params["processId"]);
        drop(peer);
        let mut peer = resumed(&mut connections).await;
        let (request, _) = peer.expect("process/start").await;
        peer.refuse(request, -32600, "process already exists").await;
        for _ in 0..3 {
            let (request, _) = peer.expect("process/read").await;
            peer.refuse(request, -32600, &starting).await;
        }
        drop(peer);
        let mut peer = resumed(&mut connections).await;
        let (request, _) = peer.expect("process/read").await;
        peer.refuse(request, -32600, &starting).await;
        let (request, _) = peer.expect("process/read").await;
        peer.answer(request, page(&[(1, "once")], 4, Some(0), true))
            .await;
        peer
    };
    let (process, _peer) = tokio::join!(client.start(Command::new(["program"])), script);
    let output = process.unwrap().output(100).await.unwrap();
    assert_eq!(output.stdout, b"once");
}

/// As the reference executor does it when it loses a connection within a start.
#[tokio::test(start_paused = true)]
async fn start_that_is_never_done_has_an_unknown_outcome() {
    let (client, mut peer, _script, mut connections) = connected().await;
    let script = async {
        let (_, params) = peer.expect("process/start").await;
        let starting = format!("process id {} is starting", params["processId"]);
        drop(peer);
        let mut peer = resumed(&mut connections).await;
        let (request, _) = peer.expect("process/start").await;
        peer.refuse(request, -32600, "process already exists").await;
        loop {
            let (request, _) = peer.expect("process/read").await;
            peer.refuse(request, -32600, &starting).await;
        }
    };
    let command = Command::new(["program"]);
    let process = tokio::select! {
        process = client.start(command) => process,
        () = script => unreachable!("it asks for ever"),
    };
    let Err(Error::OutcomeUnknown { method }) = process else {
        panic!("{process:?}");
    };
    assert_eq!(method, "process/start");
}

#[tokio::test(start_paused = true)]
async fn start_that_the_executor_may_have_forgotten_is_not_asked_for_again() {
    let (client, mut peer, _script, mut connections) = connected().await;
    let script = async {
        peer.expect("process/start").await;
        let lost = tokio::time::Instant::now();
        drop(peer);
        // No attempt gets further than this for almost as long as a session is pursued.
        while lost.elapsed() < Duration::from_secs(75) {
            drop(connections.recv().await.unwrap());
        }
        let mut peer = resumed(&mut connections).await;
        // The next request that comes is not the start.
        let (request, _) = peer.expect("environment/status").await;
        peer.answer(request, json!({ "status": "ready" })).await;
        peer
    };
    let later = async {
        let start = client.start(Command::new(["program"])).await;
        (start, client.status().await)
    };
    let ((start, status), _peer) = tokio::join!(later, script);
    assert_eq!(status.unwrap(), "ready");
    assert!(matches!(start, Err(Error::OutcomeUnknown { method }) if method == "process/start"));
}

#[tokio::test(start_paused = true)]
async fn start_that_is_refused_the_second_time_is_refused() {
    let (client, mut peer, _script, mut connections) = connected().await;
    let script = async {
        peer.expect("process/start").await;
        drop(peer);
        let mut peer = resumed(&mut connections).await;
        let (request, _) = peer.expect("process/start").await;
        peer.refuse(request, -32600, "no").await;
        let (request, _) = peer.expect("process/read").await;
        peer.refuse(request, -32600, "unknown process id").await;
        peer
    };
    let (process, _peer) = tokio::join!(client.start(Command::new(["program"])), script);
    assert!(matches!(process, Err(Error::Rpc { code: -32600, message, .. }) if message == "no"));
}

#[tokio::test(start_paused = true)]
async fn session_still_attached_is_tried_again_and_unknown_session_is_not() {
    let (client, mut peer, script, mut connections) = connected().await;
    let (mut process, _id) = started(&client, &mut peer, Overflow::ReadBack).await;
    drop(peer);
    for (code, message) in [(-32010, "already attached"), (-32600, "unknown session id")] {
        let mut peer = connections.recv().await.unwrap();
        let (request, _) = peer.expect("initialize").await;
        peer.refuse(request, code, message).await;
    }
    let lost = process.next_event().await.unwrap().unwrap_err();
    assert!(matches!(lost.root(), Error::SessionUnknown), "{lost:?}");
    assert!(matches!(client.status().await, Err(Error::SessionLost(_))));
    assert_eq!(script.dials.load(Ordering::SeqCst), 3);
}

#[tokio::test(start_paused = true)]
async fn another_executor_key_ends_the_session_before_anything_is_sent() {
    let (script, mut connections) = script();
    *script.key.lock().unwrap() = Some(PublicKey::from_parts(&[1; 32], &[1; 1184]).unwrap());
    let (client, mut peer) = connect(&script, &mut connections).await;
    let (mut process, _id) = started(&client, &mut peer, Overflow::ReadBack).await;
    *script.key.lock().unwrap() = Some(PublicKey::from_parts(&[2; 32], &[2; 1184]).unwrap());
    drop(peer);
    let lost = process.next_event().await.unwrap();
    let Err(Error::SessionLost(reason)) = lost else {
        panic!("{lost:?}")
    };
    assert!(matches!(*reason, Error::ExecutorKeyChanged));
    let mut other = connections.recv().await.unwrap();
    assert!(other.from_client.recv().await.is_none());
}

#[tokio::test(start_paused = true)]
async fn recovery_outlasts_the_life_of_a_session_and_then_gives_up() {
    let (client, peer, script, _connections) = connected().await;
    script
        .failures
        .lock()
        .unwrap()
        .extend((0..200).map(|_| Error::Offline("env".into())));
    let lost_at = tokio::time::Instant::now();
    drop(peer);
    let Err(Error::SessionLost(reason)) = client.status().await else {
        panic!("no error")
    };
    assert!(
        matches!(*reason, Error::RecoveryTimedOut { last: Some(_), .. }),
        "{reason:?}"
    );
    assert!(
        lost_at.elapsed() >= Duration::from_secs(80),
        "{:?}",
        lost_at.elapsed()
    );
    let dials = script.dials.load(Ordering::SeqCst);
    assert!((15..40).contains(&dials), "{dials} attempts");
}

#[tokio::test(start_paused = true)]
async fn first_connection_waits_for_an_executor_that_is_offline() {
    let (script, mut connections) = script();
    script
        .failures
        .lock()
        .unwrap()
        .push_back(Error::Offline("env".into()));
    let (_client, _peer) = connect(&script, &mut connections).await;
    assert_eq!(script.dials.load(Ordering::SeqCst), 2);
}

#[tokio::test(start_paused = true)]
async fn refused_credential_is_not_tried_again() {
    let (script, _connections) = script();
    script
        .failures
        .lock()
        .unwrap()
        .push_back(Error::Refused("no".into()));
    let refused = Client::connect_with(script.clone(), ClientConfig::default()).await;
    assert!(matches!(refused, Err(Error::Refused(_))));
    assert_eq!(script.dials.load(Ordering::SeqCst), 1);
}

#[tokio::test(start_paused = true)]
async fn handshake_without_answer_is_given_up_after_its_time() {
    let (script, mut connections) = script();
    let config = ClientConfig {
        connect_budget: Duration::ZERO,
        ..ClientConfig::default()
    };
    let (outcome, _peer) = tokio::join!(Client::connect_with(script, config), connections.recv());
    assert!(matches!(outcome, Err(Error::Unavailable { .. })));
}

#[tokio::test(start_paused = true)]
async fn request_of_the_executor_that_is_not_known_is_refused() {
    let (_client, mut peer, _script, _connections) = connected().await;
    peer.send(json!({ "id": 7, "method": "network/unheardOf", "params": {} }))
        .await;
    let refusal = peer.receive().await;
    assert_eq!(refusal["id"], 7);
    assert_eq!(refusal["error"]["code"], -32601);
}

#[tokio::test(start_paused = true)]
async fn event_that_does_not_decode_is_read_back_on_a_new_connection() {
    let (client, mut peer, _script, mut connections) = connected().await;
    let (mut process, id) = started(&client, &mut peer, Overflow::ReadBack).await;
    let params = json!({ "processId": id, "seq": 1, "stream": "sideways", "chunk": "" });
    peer.send(json!({ "method": "process/output", "params": params }))
        .await;
    let mut peer = resumed(&mut connections).await;
    let (request, _) = peer.expect("process/read").await;
    peer.answer(request, page(&[(1, "fine")], 2, None, false))
        .await;
    assert_eq!(next(&mut process).await, out("fine"));
}

#[tokio::test(start_paused = true)]
async fn hole_between_pushed_events_is_read_back() {
    let (client, mut peer, _script, _connections) = connected().await;
    let (mut process, id) = started(&client, &mut peer, Overflow::ReadBack).await;
    peer.output(&id, 2, "b").await;
    let (request, params) = peer.expect("process/read").await;
    assert_eq!(params["afterSeq"], 0);
    peer.answer(request, page(&[(1, "a"), (2, "b")], 3, None, false))
        .await;
    assert_eq!(next(&mut process).await, out("a"));
    assert_eq!(next(&mut process).await, out("b"));
}

#[tokio::test(start_paused = true)]
async fn slow_reader_delays_only_its_own_process_and_reads_back() {
    let (client, mut peer, _script, _connections) = connected().await;
    let (mut slow, slow_id) = started(&client, &mut peer, Overflow::ReadBack).await;
    let (mut fast, fast_id) = started(&client, &mut peer, Overflow::ReadBack).await;
    let big = "x".repeat(limits::EVENT_QUEUE_BYTES / 2);
    for seq in 1..=2 {
        peer.output(&slow_id, seq, &big).await;
    }
    peer.output(&slow_id, 3, "discarded").await;
    peer.output(&fast_id, 1, "fast").await;
    assert_eq!(next(&mut fast).await, out("fast"));
    assert_eq!(next(&mut slow).await, out(&big));
    let (request, params) = peer.expect("process/read").await;
    assert_eq!(
        (&params["processId"], &params["afterSeq"]),
        (&json!(slow_id), &json!(2))
    );
    peer.answer(request, page(&[(3, "read back")], 4, None, false))
        .await;
    assert_eq!(next(&mut slow).await, out(&big));
    assert_eq!(next(&mut slow).await, out("read back"));
}

#[tokio::test(start_paused = true)]
async fn blocking_reader_stops_the_connection_until_it_reads() {
    let (client, mut peer, _script, _connections) = connected().await;
    let (mut process, id) = started(&client, &mut peer, Overflow::Block).await;
    let big = "x".repeat(limits::BLOCKING_QUEUE_BYTES);
    peer.output(&id, 1, &big).await;
    // The channel of the transport takes a few messages; beyond them the executor has to wait.
    let flood = async {
        for seq in 2..40 {
            peer.output(&id, seq, "y").await;
        }
    };
    tokio::pin!(flood);
    let stalled = tokio::time::timeout(Duration::from_secs(5), &mut flood).await;
    assert!(stalled.is_err());
    let reader = async {
        assert_eq!(next(&mut process).await, out(&big));
        for _ in 2..40 {
            assert_eq!(next(&mut process).await, out("y"));
        }
    };
    tokio::join!(flood, reader);
}

#[tokio::test(start_paused = true)]
async fn dropped_process_does_not_hold_up_the_client() {
    let (client, mut peer, _script, _connections) = connected().await;
    let (process, id) = started(&client, &mut peer, Overflow::Block).await;
    peer.output(&id, 1, &"x".repeat(limits::EVENT_QUEUE_BYTES))
        .await;
    drop(process);
    for seq in 2..40 {
        peer.output(&id, seq, "y").await;
    }
    let (status, ()) = tokio::join!(client.status(), async {
        let (request, _) = peer.expect("environment/status").await;
        peer.answer(request, json!({ "status": "ready" })).await;
    });
    assert_eq!(status.unwrap(), "ready");
}

#[tokio::test(start_paused = true)]
async fn open_file_continues_where_it_was_on_the_next_connection() {
    let (client, mut peer, _script, mut connections) = connected().await;
    let fs = client.filesystem();
    let block = "b".repeat(limits::BLOCK_BYTES);
    let size = limits::BLOCK_BYTES + 3;
    let metadata = json!({
        "isDirectory": false, "isFile": true, "isSymlink": false, "size": size,
        "createdAtMs": 0, "modifiedAtMs": 5,
    });
    let read = async {
        let mut reader = fs.open(&path("file:///f")).await.unwrap();
        let mut contents = Vec::new();
        while let Some(block) = reader.next_block().await.unwrap() {
            contents.extend_from_slice(&block);
        }
        contents
    };
    /// Answers the requests of one connection until the condition says to cut it.
    async fn serve(peer: &mut Peer, metadata: &Value, block: &str, cut_after_first: bool) {
        while let Some(bytes) = peer.from_client.recv().await {
            let message: Value = serde_json::from_slice(&bytes).unwrap();
            let id = message["id"].as_i64().unwrap();
            let offset = message["params"]["offset"].as_u64().unwrap_or_default();
            let result = match message["method"].as_str().unwrap() {
                "fs/open" => json!({ "handleId": message["params"]["handleId"] }),
                "fs/getMetadata" => metadata.clone(),
                "fs/readBlock" if offset == 0 => {
                    json!({ "chunk": exec_proto::base64::encode(block.as_bytes()), "eof": false })
                }
                "fs/readBlock" if cut_after_first => return,
                "fs/readBlock" => json!({ "chunk": "ZW5k", "eof": true }),
                "fs/close" => json!({}),
                other => panic!("unexpected {other}"),
            };
            let last = message["method"] == "fs/close";
            peer.answer(id, result).await;
            if last {
                return;
            }
        }
    }
    let script = async {
        serve(&mut peer, &metadata, &block, true).await;
        drop(peer);
        let mut peer = resumed(&mut connections).await;
        serve(&mut peer, &metadata, &block, false).await;
        peer
    };
    let (contents, _peer) = tokio::join!(read, script);
    assert_eq!(contents.len(), size);
    assert!(contents.ends_with(b"bend"));
}

#[tokio::test(start_paused = true)]
async fn response_body_fails_with_the_connection_it_came_on() {
    let (client, mut peer, _script, mut connections) = connected().await;
    let request = crate::HttpRequest::new("GET", "http://host/");
    let (response, name) = tokio::join!(client.http(request), async {
        let (id, params) = peer.expect("http/request").await;
        let name = params["requestId"].clone();
        peer.answer(
            id,
            json!({ "status": 200, "headers": [], "bodyBase64": "" }),
        )
        .await;
        let delta = json!({ "requestId": name, "seq": 1, "deltaBase64": "aGk=", "done": false, "error": null });
        peer.send(json!({ "method": "http/request/bodyDelta", "params": delta }))
            .await;
        name
    });
    assert!(name.is_string());
    let mut response = response.unwrap();
    assert_eq!(response.status, 200);
    assert_eq!(response.next_chunk().await.unwrap().unwrap(), "hi");
    drop(peer);
    let _peer = resumed(&mut connections).await;
    assert!(matches!(
        response.next_chunk().await,
        Err(Error::ConnectionLost(_))
    ));
}

#[tokio::test(start_paused = true)]
async fn closed_client_fails_everything_with_closed() {
    let (client, peer, _script, _connections) = connected().await;
    let other = client.clone();
    client.close().await;
    assert!(matches!(other.status().await, Err(Error::Closed)));
    drop(peer);
}

#[tokio::test(start_paused = true)]
async fn paths_are_resolved_against_the_executors_directories() {
    let (client, _peer, _script, _connections) = connected().await;
    for (text, expected) in [
        ("/a b", "file:///a%20b"),
        ("x/y", "file:///work/x/y"),
        (".", "file:///work"),
        ("~", "file:///home/me"),
        ("~/z", "file:///home/me/z"),
        ("file:///u%20v", "file:///u%20v"),
    ] {
        assert_eq!(client.resolve(text).unwrap().as_str(), expected, "{text}");
    }
    assert!(client.resolve("").is_err());
    assert!(client.resolve("file://host/x?y").is_err());
    let create = client.filesystem();
    drop(create.create_directory(&path("file:///x"), Recursion::Single));
}
