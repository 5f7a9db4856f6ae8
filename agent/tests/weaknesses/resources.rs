//! Weaknesses 27 to 32: peers that vanish, and too much of anything.

use std::time::Duration;

use agent::listener::Keepalive;
use futures_util::{SinkExt as _, StreamExt as _};
use serde_json::{Value, json};
use tokio_tungstenite::tungstenite::Message;

use crate::peer::{LISTEN, Peer, Program, listen, script, sessions, start, websocket, with};
use crate::support::{DEADLINE, exec_server};

/// 27: a peer that is gone without a word is never noticed; its session cannot be resumed, and its
/// programs stand still because nobody takes their output.
#[tokio::test]
async fn a_half_open_peer_is_noticed_and_its_session_can_be_resumed() {
    let sessions = sessions();
    let keepalive = Keepalive {
        ping_interval: Duration::from_millis(50),
        pong_timeout: Duration::from_millis(200),
        write_timeout: Duration::from_millis(200),
    };
    let (address, _listening) = listen(&sessions, keepalive).await;
    let mut gone = websocket(address).await;
    let initialize = json!({"id": 1, "method": "initialize", "params": {"clientName": "gone"}});
    gone.send(Message::text(initialize.to_string()))
        .await
        .unwrap();
    let answer = gone.next().await.unwrap().unwrap().into_text().unwrap();
    let answer: Value = serde_json::from_str(&answer).unwrap();
    let id = answer["result"]["sessionId"].as_str().unwrap();
    // Far more than all buffers on the way hold.
    let start = start("p", &["head", "-c", "60000000", "/dev/zero"]);
    let start = json!({"id": 2, "method": "process/start", "params": start});
    for message in [json!({"method": "initialized"}), start] {
        gone.send(Message::text(message.to_string())).await.unwrap();
    }

    // From here on the socket is open, and nobody reads it or answers a ping.
    let (address, _listening_too) = listen(&sessions, Keepalive::default()).await;
    let mut peer = Peer::over(websocket(address).await);
    let deadline = std::time::Instant::now() + DEADLINE;
    while let Err((code, text)) = peer.resume(id).await {
        assert_eq!(code, -32010, "{text}");
        assert!(std::time::Instant::now() < deadline, "never noticed");
        tokio::task::yield_now().await;
    }
    let mut after = 0;
    loop {
        let params = json!({"processId": "p", "afterSeq": after, "waitMs": 10_000});
        let read = peer.ok("process/read", params).await;
        if read["closed"] == true {
            assert_eq!(read["exitCode"], 0, "the program ran on");
            break;
        }
        after = read["nextSeq"].as_u64().unwrap() - 1;
    }
    drop(gone);
}

/// 28: 500 idle connections cost 90 MB, 180 kB each.
#[tokio::test]
async fn idle_connections_cost_little_memory() {
    const CONNECTIONS: u32 = 500;
    let program = Program::start(&[]);
    let mut peers = vec![program.connect().await];
    let before = program.memory();
    for _ in 0..CONNECTIONS {
        peers.push(program.connect().await);
    }
    let each = program.memory().saturating_sub(before) / u64::from(CONNECTIONS);
    assert!(each < 60_000, "{each} bytes each");
}

/// 28: there is no limit on sessions.
#[tokio::test]
async fn sessions_beyond_the_limit_are_refused_and_the_others_go_on() {
    let sessions = sessions();
    let mut peers = Vec::new();
    for _ in 0..1024 {
        let mut peer = Peer::in_process(&sessions);
        peer.open().await;
        peers.push(peer);
    }
    let mut peer = Peer::in_process(&sessions);
    let refused = peer.err("initialize", json!({"clientName": "test"})).await;
    assert_eq!(refused, (-32600, "at most 1024 sessions may exist".into()));
    peers[0].ok("environment/status", json!(null)).await;
}

/// 28: requests that wait are queued without bound.
#[tokio::test]
async fn requests_beyond_the_limit_stay_with_the_transport() {
    let sessions = sessions();
    let mut peer = Peer::in_process(&sessions);
    peer.open().await;
    peer.start(start("p", &["sleep", "600"])).await;
    let poll = json!({"processId": "p", "waitMs": 600_000});
    let mut sent = 0;
    let mut refused = 0;
    while refused < 100 {
        if peer.try_send("process/read", poll.clone()) {
            sent += 1;
            refused = 0;
        } else {
            refused += 1;
            tokio::task::yield_now().await;
        }
        assert!(sent < 1100, "all were taken");
    }
    assert!(sent >= 1024, "{sent}");
}

/// 29: from the 512th terminal on every filesystem call hangs, and ends are not reported.
#[tokio::test]
async fn a_thousand_terminals_hold_up_neither_files_nor_exits() {
    let count = terminals();
    // As after a login: the soft limit is far below what this takes.
    let arguments = ["-c", "ulimit -Sn 256 && exec \"$0\" \"$@\""];
    let mut command = exec_server(&[]);
    let server = command.get_program().to_owned();
    let variables = command
        .get_envs()
        .map(|(name, value)| (name.to_owned(), value.map(ToOwned::to_owned)));
    let variables: Vec<_> = variables.collect();
    command = std::process::Command::new("/bin/sh");
    command.args(arguments).arg(server).args(LISTEN);
    for (name, _) in variables {
        command.env_remove(name);
    }
    let program = Program::spawn(command);
    let mut peer = program.connect().await;
    let mut starts = Vec::new();
    for number in 0..count {
        let params = with(start(&number.to_string(), &["sleep", "600"]), "tty", true);
        starts.push(peer.send("process/start", params).await);
    }
    for id in starts {
        peer.answer(id).await.unwrap();
    }

    let mut other = program.connect().await;
    other
        .ok("fs/readDirectory", json!({"path": "file:///"}))
        .await;
    peer.ok("fs/getMetadata", json!({"path": "file:///"})).await;
    // Children have the limit that the executor was started with.
    peer.start(script("limit", "ulimit -n")).await;
    assert_eq!(peer.collect("limit").await.text(), "256\n");
    for number in 0..count {
        peer.send(
            "process/terminate",
            json!({"processId": number.to_string()}),
        )
        .await;
    }
    for number in 0..count {
        let story = peer.collect(&number.to_string()).await;
        assert_eq!(story.exit_code, Some(137));
    }
}

/// As many as the machine lets one have, up to a thousand.
fn terminals() -> u32 {
    let read = |name: &str| -> u32 {
        let text = std::fs::read_to_string(format!("/proc/sys/kernel/pty/{name}")).unwrap();
        text.trim().parse().unwrap()
    };
    let descriptors = rustix::process::getrlimit(rustix::process::Resource::Nofile).maximum;
    let descriptors = u32::try_from(descriptors.unwrap_or(u64::from(u32::MAX))).unwrap_or(u32::MAX);
    // Three for each terminal, and some for the rest.
    let possible = (read("max") - read("nr")).min((descriptors - 100) / 3);
    assert!(
        possible >= 600,
        "only {possible} terminals are possible here"
    );
    possible.min(1000)
}

/// 32: an error about a message that does not parse has the id -1, whichever message it was.
#[tokio::test]
async fn an_unparsable_message_can_be_told_from_others() {
    let sessions = sessions();
    let mut peer = Peer::in_process(&sessions);
    // Two messages.
    peer.open().await;
    for text in ["{", r#"{"id":1,"method":"environment/status"}"#, "[]"] {
        peer.raw(text).await;
    }
    let mut told = Vec::new();
    for _ in 0..3 {
        let message = peer.receive().await;
        if message["id"] == -1 {
            told.push(message["error"]["data"]["message"].clone());
        }
    }
    assert_eq!(told, [3, 5]);
}
