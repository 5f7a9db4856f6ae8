//! What must not be in the log, even when everything else is.

#![allow(clippy::unwrap_used, reason = "failing is how a test reports")]

mod common;

use std::io::{BufRead as _, BufReader, Read as _};
use std::process::{Command, Stdio};

use common::{Peer, authority, call, data, key, register_body, resume, within};
use serde_json::{Value, json};
use tokio::net::TcpStream;

#[tokio::test]
async fn secrets_are_in_no_log_line_at_any_level() {
    let mut child = Command::new(assert_cmd::cargo::cargo_bin!("exec-cloud"))
        .args(["serve", "--dev", "--listen", "127.0.0.1:0"])
        .env(
            "RUST_LOG",
            "trace,hyper=trace,axum=trace,tungstenite=trace,sqlx=trace",
        )
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut first_line = String::new();
    BufReader::new(child.stdout.as_mut().unwrap())
        .read_line(&mut first_line)
        .unwrap();
    let mut stderr = child.stderr.take().unwrap();
    let log = std::thread::spawn(move || {
        let mut log = String::new();
        stderr.read_to_string(&mut log).unwrap();
        log
    });
    let url = first_line
        .trim()
        .strip_prefix("listening on ")
        .unwrap()
        .to_owned();
    let ask = async |name: &str, body: &Value| {
        let stream = TcpStream::connect(authority(&url)).await.unwrap();
        let path = format!("/cloud/environment/env-in-log/{name}");
        call(stream, &authority(&url), &path, "bearer-secret", body)
            .await
            .1
    };
    let registration = ask("register", &register_body()).await;
    let executor_url = registration["url"].as_str().unwrap().to_owned();
    let executor = Peer::open(&executor_url).await.unwrap();
    let mut executor = executor.attached().await;
    let bundle = ask("connect", &json!({ "harness_public_key": key(9) })).await;
    let harness_url = bundle["url"].as_str().unwrap().to_owned();
    let authorization = bundle["harness_key_authorization"]
        .as_str()
        .unwrap()
        .to_owned();
    let mut harness = Peer::open(&harness_url).await.unwrap();
    harness.send(&resume("s")).await;
    harness.send(&data("s", 0, "payload-secret")).await;
    executor.frame().await;
    executor.frame().await;
    let validation = json!({
        "executor_registration_id": bundle["executor_registration_id"],
        "harness_public_key": key(9),
        "harness_key_authorization": authorization,
    });
    assert_eq!(ask("validate", &validation).await["valid"], true);
    Peer::open(&harness_url).await.unwrap_err();
    drop((executor, harness));
    child.kill().unwrap();
    child.wait().unwrap();
    let log = within(tokio::task::spawn_blocking(|| log.join().unwrap()))
        .await
        .unwrap();

    assert!(
        log.contains("env-in-log") && log.contains("socket opened"),
        "{log}"
    );
    let query = |url: &str, name: &str| {
        let url = url::Url::parse(url).unwrap();
        url.query_pairs()
            .find(|(known, _)| known == name)
            .unwrap()
            .1
            .into_owned()
    };
    for (what, secret) in [
        ("bearer token", "bearer-secret"),
        ("authorization", authorization.as_str()),
        ("executor signature", &query(&executor_url, "sig")),
        ("harness signature", &query(&harness_url, "sig")),
        ("nonce", &query(&harness_url, "nonce")),
        ("query", "role=environment"),
        ("payload", "payload-secret"),
    ] {
        for line in log.lines() {
            assert!(!line.contains(secret), "{what} in: {line}");
        }
    }
}
