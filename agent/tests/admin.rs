//! What operators and systemd are told.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

mod support;

use std::{
    io::{Read as _, Write as _},
    net::TcpStream,
    os::unix::net::UnixDatagram,
};

use rustix::process::Signal;
use serde_json::{Value, json};
use support::{Executor, exec_server, handshake};

/// Waits until the admin listener has said where it is.
fn address(executor: &mut Executor) -> String {
    let line = executor.log_line("admin listener");
    let (_, rest) = line.split_once("address=").unwrap();
    rest.trim().to_owned()
}

fn get(address: &str, path: &str) -> (u16, String) {
    let mut stream = TcpStream::connect(address).unwrap();
    write!(stream, "GET {path} HTTP/1.0\r\nhost: {address}\r\n\r\n").unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    let (head, body) = answer.split_once("\r\n\r\n").unwrap();
    let status = head.split(' ').nth(1).unwrap().parse().unwrap();
    (status, body.to_owned())
}

fn status(address: &str) -> Value {
    serde_json::from_str(&get(address, "/status").1).unwrap()
}

#[test]
fn a_registry_that_is_away_is_a_state_with_a_reason_and_a_next_try() {
    let reserved = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let registry = format!("http://{}", reserved.local_addr().unwrap());
    drop(reserved);
    let mut command = exec_server(&["--remote", &registry, "--environment-id", "env1"]);
    command
        .env("EXEC_SERVER_TOKEN", "s3cr3t-token")
        .env("EXEC_SERVER_ADMIN_LISTEN", "0");
    let mut executor = Executor::spawn(command);
    let address = address(&mut executor);
    assert!(address.starts_with("127.0.0.1:"), "{address}");
    executor.log_line("cannot register");
    // The next attempt may be under way just now, and fails as well.
    let seen = loop {
        let seen = status(&address);
        if seen["state"] == "waiting" {
            break seen;
        }
    };
    let why = seen["why"].as_str().unwrap();
    assert!(why.starts_with("cannot register with 127.0.0.1"), "{why}");
    assert!(seen["next_try_secs"].as_f64().is_some(), "{seen}");
    assert!(
        seen["since_unix_secs"].as_u64().unwrap() > 1_700_000_000,
        "{seen}"
    );
    assert_eq!(seen["ready"], false);
    assert_eq!(get(&address, "/readyz").0, 503);
    assert_eq!(get(&address, "/livez").0, 200);
    let (_, metrics) = get(&address, "/metrics");
    for line in [
        "agent_ready 0\n",
        "agent_connected 0\n",
        "agent_registrations_total 0\n",
    ] {
        assert!(metrics.contains(line), "{line} in {metrics}");
    }
    assert!(!metrics.contains("agent_troubles_total 0\n"), "{metrics}");
    for text in [seen.to_string(), metrics] {
        assert!(!text.contains("s3cr3t"), "{text}");
    }
}

#[test]
fn an_executor_that_drains_is_alive_and_not_ready_and_systemd_is_told() {
    let directory = tempfile::tempdir().unwrap();
    let (go, notified) = (directory.path().join("go"), directory.path().join("notify"));
    let socket = UnixDatagram::bind(&notified).unwrap();
    let word = || {
        let mut buffer = [0; 100];
        let length = socket.recv(&mut buffer).unwrap();
        String::from_utf8(buffer[..length].to_vec()).unwrap()
    };
    let mut command = exec_server(&[
        "--listen",
        "stdio",
        "--admin-listen",
        "127.0.0.1:0",
        "--grace-period",
        "1h",
    ]);
    command.env("NOTIFY_SOCKET", &notified);
    let mut executor = Executor::spawn(command);
    assert_eq!(word(), "READY=1");
    handshake(&mut executor);
    let address = address(&mut executor);
    assert_eq!(get(&address, "/readyz"), (200, "ready\n".to_owned()));
    let seen = status(&address);
    assert_eq!(
        (&seen["state"], &seen["sessions"]),
        (&json!("listening"), &json!(1))
    );
    // A command has nothing to say to systemd.
    let script = format!(
        "echo ${{NOTIFY_SOCKET-none}}; while [ ! -e {} ]; do sleep 0.05; done",
        go.display()
    );
    executor.send(&json!({"id": 2, "method": "process/start", "params": {
        "processId": "p", "argv": ["/bin/sh", "-c", script], "cwd": "file:///",
        "envPolicy": {"inherit": "all", "ignoreDefaultExcludes": true, "exclude": [],
            "set": {}, "includeOnly": []}, "env": {}, "tty": false}}));
    let started = executor.answer(2);
    assert!(started["result"].is_object(), "{started}");
    let chunk = executor.receive(|message| {
        (message["method"] == "process/output").then(|| message["params"]["chunk"].clone())
    });
    assert_eq!(chunk, "bm9uZQo=", "not `none`");

    executor.signal(Signal::TERM);
    executor.log_line("taking no new sessions");
    assert_eq!(word(), "STOPPING=1");
    assert_eq!(get(&address, "/readyz").0, 503);
    assert_eq!(status(&address)["state"], "draining");
    assert_eq!(get(&address, "/livez").0, 200);
    assert!(get(&address, "/metrics").1.contains("agent_ready 0\n"));
    std::fs::write(&go, "").unwrap();
    let (code, _, log) = executor.finish();
    assert_eq!(code, Some(0), "{log}");
}

#[test]
fn a_request_that_does_not_name_the_listener_is_refused() {
    let mut executor = Executor::spawn(exec_server(&["--listen", "stdio", "--admin-listen", "0"]));
    let address = address(&mut executor);
    let mut stream = TcpStream::connect(&address).unwrap();
    write!(
        stream,
        "GET /status HTTP/1.1\r\nhost: attacker.example\r\nconnection: close\r\n\r\n"
    )
    .unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    assert!(answer.starts_with("HTTP/1.1 403 "), "{answer}");
}
