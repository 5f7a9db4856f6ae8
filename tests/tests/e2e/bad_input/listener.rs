//! Our executor as a listener, faced with a peer that breaks the rules.

use anyhow::Result;
use serde_json::{Value, json};
use testkit::{
    faults::RawWebSocket,
    processes::{Child, Listener},
    workspace::Workspace,
};

async fn start() -> Result<(Child, String, Workspace)> {
    let workspace = Workspace::new()?;
    let (executor, url) = Listener::start(&workspace, &[]).await?;
    Ok((executor, url, workspace))
}

async fn open(url: &str) -> Result<RawWebSocket> {
    RawWebSocket::open(url)
        .await?
        .map_err(|refused| anyhow::anyhow!("{refused:?}"))
}

async fn answer(socket: &mut RawWebSocket) -> Result<Value> {
    Ok(serde_json::from_str(&socket.next_text().await?)?)
}

/// A well-behaved peer gets its answer, and nothing panicked.
async fn unharmed(mut executor: Child, url: &str) -> Result<()> {
    let mut socket = open(url).await?;
    let initialize = json!({"id": 1, "method": "initialize", "params": {"clientName": "test"}});
    socket.send_text(&initialize.to_string()).await?;
    let answer = answer(&mut socket).await?;
    assert!(answer["result"]["sessionId"].is_string(), "{answer}");
    executor.still_runs()?;
    executor.never_panicked()
}

#[tokio::test]
async fn message_that_does_not_parse_is_answered_and_the_connection_goes_on() -> Result<()> {
    let (executor, url, _workspace) = start().await?;
    let mut socket = open(&url).await?;
    let deep = format!("{}{}", "[".repeat(100_000), "]".repeat(100_000));
    let nonsense = [
        "",
        "no json",
        "{",
        "[]",
        "{\"id\":1e400,\"method\":\"x\"}",
        &deep,
    ];
    for text in nonsense {
        socket.send_text(text).await?;
        let answer = answer(&mut socket).await?;
        assert_eq!(answer["id"], json!(-1), "{answer}");
        assert_eq!(answer["error"]["code"], json!(-32600), "{answer}");
        let message = answer["error"]["message"].as_str().unwrap_or_default();
        let start =
            "failed to parse websocket JSON-RPC message from exec-server websocket 127.0.0.1:";
        assert!(message.starts_with(start), "{message}");
        assert_eq!(message.lines().count(), 1, "{message}");
    }
    socket.send_binary(b"\xff\xfe").await?;
    let refused = answer(&mut socket).await?;
    assert_eq!(refused["error"]["code"], json!(-32600), "{refused}");
    let initialize = json!({"id": 7, "method": "initialize", "params": {"clientName": "test"}});
    socket.send_text(&initialize.to_string()).await?;
    let accepted = answer(&mut socket).await?;
    assert_eq!(accepted["id"], json!(7), "{accepted}");
    unharmed(executor, &url).await
}

#[tokio::test]
async fn message_over_the_limit_closes_the_connection() -> Result<()> {
    let (executor, url, _workspace) = start().await?;
    let mut socket = open(&url).await?;
    // Sending may fail half way, since the listener hangs up when it sees the length.
    drop(
        socket
            .send_binary(&vec![b' '; MESSAGE_LIMIT_BYTES + 1])
            .await,
    );
    socket.ended().await?;
    unharmed(executor, &url).await
}

#[tokio::test]
async fn method_before_the_handshake_is_refused() -> Result<()> {
    let (executor, url, _workspace) = start().await?;
    let mut socket = open(&url).await?;
    let early = json!({"id": "early", "method": "fs/readFile", "params": {"path": "file:///"}});
    socket.send_text(&early.to_string()).await?;
    let answer = answer(&mut socket).await?;
    assert_eq!(answer["id"], json!("early"), "{answer}");
    assert_eq!(answer["error"]["code"], json!(-32600), "{answer}");
    unharmed(executor, &url).await
}

/// Of one JSON message on a listener.
const MESSAGE_LIMIT_BYTES: usize = 64 << 20;
