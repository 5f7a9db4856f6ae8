//! The extensions of the protocol towards an executor that has them and one that does not: the
//! reference. A peer looks at the flags first; here the extensions are used all the same, to show that
//! using one by mistake does no harm.

use std::net::SocketAddr;

use anyhow::{Context as _, Result, bail};
use serde_json::{Value, json};
use testkit::{
    faults::RawWebSocket,
    processes::{CodexListener, Listener},
    workspace::Workspace,
};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpListener, TcpStream},
};

/// Says that it was asked to end, and does.
const POLITE: &str =
    "exec 2>/dev/null; trap 'echo asked; exit 5' TERM; echo ready; while :; do sleep 0.02; done";

/// Writes more than is retained.
const LOUD: &str = "head -c 3000000 /dev/zero | tr '\\0' x";

/// Flags of the extensions.
const FLAGS: [&str; 20] = [
    "fsAppend",
    "fsBatch",
    "fsBatchBulk",
    "fsRename",
    "fsSync",
    "fsUnwatchMissing",
    "httpCancel",
    "httpRequestBodyStream",
    "tcpStreams",
    "processList",
    "processReadEvicted",
    "processResize",
    "processSignalGroup",
    "processStdinClose",
    "processTerminateGrace",
    "requestCancel",
    "rpcBulk",
    "rpcBulkZstd",
    "sessionClose",
    "sessionKeep",
];

struct Peer {
    socket: RawWebSocket,
    next_id: i64,
    capabilities: Value,
}

impl Peer {
    async fn open(url: &str) -> Result<Self> {
        let socket = RawWebSocket::open(url)
            .await?
            .map_err(|refused| anyhow::anyhow!("{refused:?}"))?;
        let mut peer = Self {
            socket,
            next_id: 1,
            capabilities: Value::Null,
        };
        let opened = peer.ok("initialize", json!({"clientName": "test"})).await?;
        peer.capabilities = opened["environmentInfo"]["capabilities"].clone();
        peer.socket
            .send_text(&json!({"method": "initialized"}).to_string())
            .await?;
        Ok(peer)
    }

    async fn next(&mut self) -> Result<Value> {
        Ok(serde_json::from_str(&self.socket.next_text().await?)?)
    }

    /// Sends a request and returns its id.
    async fn send(&mut self, method: &str, params: Value) -> Result<i64> {
        let id = self.next_id;
        self.next_id += 1;
        let request = json!({"id": id, "method": method, "params": params});
        self.socket.send_text(&request.to_string()).await?;
        Ok(id)
    }

    /// Sends a request and waits for its answer; events and other answers before it are dropped.
    async fn call(&mut self, method: &str, params: Value) -> Result<Value> {
        let id = self.send(method, params).await?;
        loop {
            let message = self.next().await?;
            if message["id"] == id {
                return Ok(message);
            }
        }
    }

    async fn ok(&mut self, method: &str, params: Value) -> Result<Value> {
        let answer = self.call(method, params).await?;
        match answer.get("result") {
            Some(result) => Ok(result.clone()),
            None => bail!("{method}: {answer}"),
        }
    }

    /// Starts a shell; `more` is laid over the parameters.
    async fn start(&mut self, id: &str, script: &str, more: Value) -> Result<()> {
        let mut params = json!({
            "processId": id, "argv": ["/bin/sh", "-c", script], "cwd": "file:///", "tty": false,
            "env": {"PATH": "/usr/local/bin:/usr/bin:/bin"},
        });
        for (name, value) in more.as_object().context("an object")? {
            params[name] = value.clone();
        }
        self.ok("process/start", params).await?;
        Ok(())
    }

    /// Reads until the output contains `text` or the process is closed; returns output and the last
    /// answer.
    async fn read(&mut self, id: &str, text: &str) -> Result<(String, Value)> {
        loop {
            let params = json!({"processId": id, "afterSeq": 0, "waitMs": 50});
            let read = self.ok("process/read", params).await?;
            let mut output = Vec::new();
            for chunk in read["chunks"].as_array().context("chunks")? {
                output.extend(decode(chunk["chunk"].as_str().context("a chunk")?)?);
            }
            let output = String::from_utf8(output)?;
            if read["closed"] == true || (!text.is_empty() && output.contains(text)) {
                return Ok((output, read));
            }
        }
    }
}

fn decode(text: &str) -> Result<Vec<u8>> {
    use base64::Engine as _;
    Ok(base64::engine::general_purpose::STANDARD.decode(text)?)
}

/// What came of the members that an executor without the extensions ignores.
#[derive(Debug, PartialEq)]
struct Members {
    terminal: String,
    /// What the program still said, and its exit code.
    asked_before_the_kill: (String, Option<i64>),
    eviction_told: bool,
    /// Otherwise the request was sent without one, as if the member were not there.
    waited_for_a_body: bool,
}

async fn use_members(peer: &mut Peer) -> Result<Members> {
    let terminal = json!({"rows": 40, "cols": 132, "term": "vt100"});
    let more = json!({"tty": true, "terminal": terminal});
    peer.start("tty", "stty size; echo \"[$TERM]\"", more)
        .await?;
    let (terminal, _) = peer.read("tty", "").await?;

    peer.start("polite", POLITE, json!({})).await?;
    peer.read("polite", "ready").await?;
    // However long it takes to answer, it is given that time.
    let params = json!({"processId": "polite", "graceMs": 600_000});
    let answer = peer.ok("process/terminate", params).await?;
    assert_eq!(answer, json!({"running": true}));
    let (output, read) = peer.read("polite", "").await?;
    let asked = (output.replace("ready\n", ""), read["exitCode"].as_i64());

    peer.start("loud", LOUD, json!({})).await?;
    let (_, read) = peer.read("loud", "").await?;
    assert!(
        read["chunks"][0]["seq"].as_u64() > Some(1),
        "nothing evicted"
    );

    let server = TcpListener::bind("127.0.0.1:0").await?;
    let url = format!("http://{}/", server.local_addr()?);
    let params = json!({
        "method": "PUT", "url": url, "requestId": "body", "streamRequestBody": true,
        "streamResponse": true,
    });
    peer.send("http/request", params).await?;
    let (mut upstream, _) = server.accept().await?;
    let head = read_head(&mut upstream).await?;
    // Ends the request in both cases, whether or not a body was to follow.
    upstream
        .write_all(b"HTTP/1.1 204 No Content\r\nconnection: close\r\n\r\n")
        .await?;
    Ok(Members {
        terminal: terminal.replace('\r', ""),
        asked_before_the_kill: asked,
        eviction_told: read.get("evicted").is_some(),
        waited_for_a_body: head.contains("transfer-encoding: chunked"),
    })
}

async fn read_head(stream: &mut TcpStream) -> Result<String> {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        head.push(stream.read_u8().await?);
    }
    Ok(String::from_utf8(head)?)
}

/// Each method of the extensions with parameters that are right, and whether there is what they name:
/// otherwise an executor that has the method answers that there is not.
fn methods(directory: &str, server: SocketAddr) -> Vec<(&'static str, Value, bool)> {
    let file = format!("{directory}/f");
    let moved = json!({"sourcePath": file, "destinationPath": format!("{directory}/g")});
    let host = server.ip().to_string();
    let connect = json!({"streamId": "s", "host": host, "port": server.port()});
    vec![
        ("process/list", json!({}), true),
        (
            "process/signalGroup",
            json!({"processId": "x", "signal": "TERM"}),
            true,
        ),
        ("process/closeStdin", json!({"processId": "x"}), true),
        (
            "process/resize",
            json!({"processId": "terminal", "rows": 2, "cols": 2}),
            true,
        ),
        ("rpc/cancel", json!({"id": 1}), true),
        (
            "fs/append",
            json!({"path": file, "dataBase64": "aGk="}),
            true,
        ),
        ("fs/sync", json!({"path": file}), true),
        ("fs/rename", moved, true),
        ("fs/batch", json!({"calls": []}), true),
        ("fs/unwatchMissing", json!({"watchId": 1}), true),
        (
            "http/request/bodyChunk",
            json!({"requestId": "none", "seq": 1, "chunkBase64": "", "done": true}),
            false,
        ),
        ("http/cancel", json!({"requestId": "none"}), true),
        ("tcp/connect", connect, true),
        (
            "tcp/write",
            json!({"streamId": "s", "seq": 1, "chunkBase64": "aGk="}),
            true,
        ),
        ("tcp/shutdown", json!({"streamId": "s"}), true),
        (
            "tcp/window",
            json!({"streamId": "s", "throughBytes": 1}),
            true,
        ),
        ("tcp/close", json!({"streamId": "s"}), true),
        ("session/keep", json!({"detachedMs": 0}), true),
        ("session/close", json!({}), true),
    ]
}

#[tokio::test]
async fn executor_without_extensions_ignores_members_and_refuses_methods() -> Result<()> {
    let workspace = Workspace::new()?;
    let (executor, url) = CodexListener::start(&workspace, &[]).await?;
    let mut peer = Peer::open(&url).await?;
    for flag in FLAGS {
        assert_eq!(peer.capabilities.get(flag), None, "{flag}");
    }
    let expected = Members {
        terminal: "24 80\n[]\n".to_owned(),
        asked_before_the_kill: (String::new(), Some(137)),
        eviction_told: false,
        waited_for_a_body: false,
    };
    assert_eq!(use_members(&mut peer).await?, expected);
    let directory = format!("file://{}", workspace.path().display());
    let server = TcpListener::bind("127.0.0.1:0").await?;
    for (method, params, _) in methods(&directory, server.local_addr()?) {
        let answer = peer.call(method, params).await?;
        assert_eq!(answer["error"]["code"], -32601, "{method}: {answer}");
    }
    let status = peer.ok("environment/status", json!({})).await?;
    assert_eq!(status, json!({"status": "ready"}));
    executor.never_panicked()
}

#[tokio::test]
async fn executor_with_extensions_announces_and_honours_them() -> Result<()> {
    let workspace = Workspace::new()?;
    let (executor, url) = Listener::start(&workspace, &[]).await?;
    let mut peer = Peer::open(&url).await?;
    for flag in FLAGS {
        assert_eq!(peer.capabilities[flag], true, "{flag}");
    }
    let expected = Members {
        terminal: "40 132\n[vt100]\n".to_owned(),
        asked_before_the_kill: ("asked\n".to_owned(), Some(5)),
        eviction_told: true,
        waited_for_a_body: true,
    };
    assert_eq!(use_members(&mut peer).await?, expected);
    let more = json!({"tty": true});
    peer.start("terminal", "sleep 600", more).await?;
    let directory = format!("file://{}", workspace.path().display());
    let server = TcpListener::bind("127.0.0.1:0").await?;
    for (method, params, is_there) in methods(&directory, server.local_addr()?) {
        let answer = peer.call(method, params).await?;
        let code = if is_there { json!(null) } else { json!(-32004) };
        assert_eq!(answer["error"]["code"], code, "{method}: {answer}");
    }
    assert_eq!(std::fs::read(workspace.path().join("g"))?, b"hi");
    executor.never_panicked()
}
