//! Signals by name, ends with a grace period, and the end of a session.

use super::*;

fn signal(id: &str, name: &str) -> Value {
    json!({"processId": id, "signal": name})
}

fn terminate(id: &str, grace_ms: u64) -> Value {
    json!({"processId": id, "graceMs": grace_ms})
}

/// A program that says which signals it gets and lives on.
const REPORTING: &str = "for s in HUP INT QUIT USR1 USR2 TERM; do trap \"echo got $s\" $s; done; \
                         echo ready; while :; do sleep 0.02; done";

/// Waits until the kernel's letter for the state of process `pid` is `state`.
async fn until_state(pid: &str, state: char) {
    let deadline = std::time::Instant::now() + DEADLINE;
    loop {
        let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap();
        if stat.rsplit_once(") ").unwrap().1.starts_with(state) {
            return;
        }
        assert!(std::time::Instant::now() < deadline, "{stat}");
        tokio::task::yield_now().await;
    }
}

#[tokio::test]
async fn signals_arrive_by_name() {
    let sessions = sessions();
    let (mut client, _) = Client::open(&sessions).await;
    client.start("p", &sh(REPORTING)).await;
    client.until("p", "ready").await;
    for name in ["HUP", "INT", "QUIT", "USR1", "USR2", "TERM"] {
        let answer = client.ok("process/signalGroup", signal("p", name)).await;
        assert_eq!(answer, json!({"running": true}));
        client.until("p", &format!("got {name}\n")).await;
    }
    client.ok("process/signalGroup", signal("p", "KILL")).await;
    assert_eq!(client.collect("p").await.exit_code, Some(137));
    for id in ["p", "nobody"] {
        let answer = client.ok("process/signalGroup", signal(id, "TERM")).await;
        assert_eq!(answer, json!({"running": false}));
    }
}

#[tokio::test]
async fn group_is_stopped_and_continued() {
    let sessions = sessions();
    let (mut client, _) = Client::open(&sessions).await;
    let params = start("p", &sh("echo $$; read x; exit 5"));
    client
        .ok("process/start", with(params, "pipeStdin", true))
        .await;
    let pid = client.until("p", "\n").await.stdout.trim().to_owned();
    client.ok("process/signalGroup", signal("p", "STOP")).await;
    until_state(&pid, 'T').await;
    client.ok("process/signalGroup", signal("p", "CONT")).await;
    client
        .ok("process/closeStdin", json!({"processId": "p"}))
        .await;
    assert_eq!(client.collect("p").await.exit_code, Some(5));
}

#[tokio::test]
async fn signal_after_the_exit_reaches_what_was_left_in_the_group() {
    let sessions = sessions();
    let (mut client, _) = Client::open(&sessions).await;
    client.start("p", &sh("sleep 600 & exit 4")).await;
    let exited = client.next_notification().await;
    assert_eq!(exited["method"], "process/exited");
    let answer = client.ok("process/signalGroup", signal("p", "TERM")).await;
    assert_eq!(answer, json!({"running": false}));
    assert_eq!(client.next_notification().await["method"], "process/closed");
}

#[tokio::test]
async fn signals_that_overtake_the_start_are_not_lost() {
    let sessions = sessions();
    let (mut client, _) = Client::open(&sessions).await;
    client
        .send("process/start", start("p", &["sleep", "600"]))
        .await;
    client
        .send("process/signalGroup", signal("p", "USR1"))
        .await;
    let code = loop {
        let message = client.recv().await.unwrap();
        if message["method"] == "process/exited" {
            break message["params"]["exitCode"].as_i64();
        }
    };
    assert_eq!(code, Some(138));
}

#[tokio::test]
async fn grace_lets_a_program_clean_up() {
    let sessions = sessions();
    let (mut client, _) = Client::open(&sessions).await;
    let script = "trap 'echo bye; exit 7' TERM; echo ready; while :; do sleep 0.02; done";
    client.start("p", &sh(script)).await;
    client.until("p", "ready").await;
    let answer = client.ok("process/terminate", terminate("p", 60_000)).await;
    assert_eq!(answer, json!({"running": true}));
    let rest = client.collect("p").await;
    assert_eq!((rest.stdout.as_str(), rest.exit_code), ("bye\n", Some(7)));
    let answer = client.ok("process/terminate", terminate("p", 60_000)).await;
    assert_eq!(answer, json!({"running": false}));
}

#[tokio::test]
async fn grace_wakes_a_stopped_program() {
    let sessions = sessions();
    let (mut client, _) = Client::open(&sessions).await;
    // Without children: one that is stopped between fork and exec would hold its parent in a state
    // of its own.
    let params = start("p", &sh("trap 'exit 7' TERM; echo $$; read x"));
    client
        .ok("process/start", with(params, "pipeStdin", true))
        .await;
    let pid = client.until("p", "\n").await.stdout.trim().to_owned();
    client.ok("process/signalGroup", signal("p", "STOP")).await;
    until_state(&pid, 'T').await;
    client.ok("process/terminate", terminate("p", 60_000)).await;
    assert_eq!(client.collect("p").await.exit_code, Some(7));
}

#[tokio::test]
async fn end_of_the_grace_kills_and_later_ones_do_not_put_it_off() {
    let sessions = sessions();
    let (mut client, _) = Client::open(&sessions).await;
    let dir = tempfile::tempdir().unwrap();
    // The output after the first may come together with it, so the shell says in a file that it is
    // deaf.
    let deaf = dir.path().join("deaf");
    let script = format!("trap '' TERM; > {}; sleep 600 & sleep 600", deaf.display());
    let end = start_with_fifo(&mut client, dir.path(), &script).await;
    while !deaf.exists() {
        tokio::task::yield_now().await;
    }
    let before = std::time::Instant::now();
    client
        .ok("process/terminate", terminate("p", 600_000))
        .await;
    client.ok("process/terminate", terminate("p", 200)).await;
    client
        .ok("process/terminate", terminate("p", 600_000))
        .await;
    assert_eq!(client.collect("p").await.exit_code, Some(137));
    assert!(before.elapsed() >= Duration::from_millis(200), "too early");
    let killed = tokio::time::timeout(DEADLINE, end).await;
    killed.expect("a part of the group lives").unwrap();
}

#[tokio::test]
async fn end_of_the_grace_does_not_wait_for_the_client() {
    let sessions = sessions();
    let (mut client, _) = Client::open(&sessions).await;
    let dir = tempfile::tempdir().unwrap();
    let end = start_with_fifo(&mut client, dir.path(), "trap '' TERM; yes").await;
    // Nothing is read from here on.
    client.send("process/terminate", terminate("p", 100)).await;
    let killed = tokio::time::timeout(DEADLINE, end).await;
    killed.expect("the group lives").unwrap();
}

#[tokio::test]
async fn terminate_with_grace_that_overtakes_the_start_is_not_lost() {
    let sessions = sessions();
    let (mut client, _) = Client::open(&sessions).await;
    client
        .send("process/start", start("p", &["sleep", "600"]))
        .await;
    client
        .send("process/terminate", terminate("p", 60_000))
        .await;
    let code = loop {
        let message = client.recv().await.unwrap();
        if message["method"] == "process/exited" {
            break message["params"]["exitCode"].as_i64();
        }
    };
    assert_eq!(code, Some(143));
}

#[tokio::test]
async fn grace_has_a_limit() {
    let sessions = sessions();
    let (mut client, _) = Client::open(&sessions).await;
    let err = client
        .err("process/terminate", terminate("p", 600_001))
        .await;
    assert_eq!(err, (-32602, "graceMs must be at most 600000".into()));
}

#[tokio::test]
async fn closed_session_is_gone_with_everything_in_it() {
    let sessions = sessions();
    let (mut client, id) = Client::open(&sessions).await;
    let dir = tempfile::tempdir().unwrap();
    let end = start_with_fifo(&mut client, dir.path(), "sleep 600 & sleep 600").await;
    let read = json!({"processId": "p", "afterSeq": 100, "waitMs": 600_000});
    let poll = client.send("process/read", read).await;
    let close = client.send("session/close", json!(null)).await;
    let mut answers = Vec::new();
    while answers.len() < 2 {
        let message = client.recv().await.unwrap();
        if message.get("method").is_none() {
            answers.push(message);
        }
    }
    answers.sort_by_key(|answer| answer["id"].as_i64());
    let error = json!({"code": -32800, "message": "the request was cancelled"});
    assert_eq!(answers[0], json!({"id": poll, "error": error}));
    assert_eq!(answers[1], json!({"id": close, "result": {}}));
    let killed = tokio::time::timeout(DEADLINE, end).await;
    killed.expect("the group lives").unwrap();
    assert_eq!(sessions.session_count(), 0);

    let closed = (
        -32600,
        "the session of this connection has been closed".to_owned(),
    );
    for (method, params) in [
        ("session/close", json!({})),
        ("initialize", json!({"clientName": "x"})),
        ("process/start", start("q", &["true"])),
        ("environment/status", json!({})),
    ] {
        assert_eq!(client.err(method, params).await, closed, "{method}");
    }
    client.notify("initialized").await;
    assert_eq!(client.err("environment/info", json!({})).await, closed);
    let mut other = Client::connect(&sessions);
    let params = json!({"clientName": "x", "resumeSessionId": id});
    let err = other.err("initialize", params).await;
    assert_eq!(err, (-32600, format!("unknown session id {id}")));
    client.disconnect().await;
    // Nothing waits for the retention of what the session held.
    tokio::time::timeout(DEADLINE, sessions.shutdown())
        .await
        .expect("something was left");
}

#[tokio::test]
async fn start_that_a_close_overtakes_does_not_live_on() {
    let sessions = sessions();
    let (mut client, _) = Client::open(&sessions).await;
    let dir = tempfile::tempdir().unwrap();
    let marker = dir.path().join("marker");
    let script = format!("sleep 600 && touch {}", marker.display());
    let started = client.send("process/start", start("p", &sh(&script))).await;
    let closed = client.send("session/close", json!({})).await;
    let mut answered = Vec::new();
    while answered.len() < 2 {
        let message = client.recv().await.unwrap();
        if message.get("method").is_none() {
            answered.push(message["id"].as_i64().unwrap());
        }
    }
    answered.sort_unstable();
    assert_eq!(answered, [started, closed]);
    client.disconnect().await;
    // Waits for every process of the executor.
    tokio::time::timeout(DEADLINE, sessions.shutdown())
        .await
        .expect("the process lives");
}
