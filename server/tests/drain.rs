//! What a server that drains says to whom.

#![allow(clippy::unwrap_used, reason = "failing is how a test reports")]

mod common;

use std::time::Duration;

use common::{Peer, TestServer, authority, key, register_body, resume, within};
use hyper_util::rt::TokioIo;
use serde_json::json;
use server::{DrainConfig, ServeConfig, Server};
use tokio::net::TcpStream;
use tokio_util::sync::CancellationToken;

#[tokio::test]
async fn peers_are_told_when_to_come_back_and_harnesses_a_little_later() {
    let server = TestServer::with(|config| {
        config.drain.retry_after = Duration::from_millis(750);
    })
    .await;
    let mut executor = server.executor("env1", "t").await;
    let mut harness = server.harness("env1", "t").await;
    let stopping = tokio::spawn(server.stop());
    assert_eq!(
        executor.close_reason().await.as_deref(),
        Some("shutting_down; retry-after-ms=750")
    );
    assert_eq!(
        harness.close_reason().await.as_deref(),
        Some("shutting_down; retry-after-ms=850")
    );
    within(stopping).await.unwrap();
}

#[tokio::test]
async fn readiness_drops_first_and_what_is_under_way_goes_on() {
    let mut config = ServeConfig::development("127.0.0.1:0".parse().unwrap());
    config.drain = DrainConfig {
        // The test ends it.
        delay: Duration::from_secs(3600),
        ..DrainConfig::default()
    };
    let server = Server::bind(config).await.unwrap();
    let url = server.url().to_owned();
    let (shutdown, force) = (CancellationToken::new(), CancellationToken::new());
    let running = tokio::spawn(server.run_until(shutdown.clone(), force.clone()));

    assert_eq!(get(&url, "/readyz").await, (200, None));
    let (status, registered) =
        post(&url, "/cloud/environment/env1/register", &register_body()).await;
    assert_eq!(status.0, 200);
    let executor = Peer::open(registered["url"].as_str().unwrap()).await;
    let mut executor = executor.unwrap().attached().await;
    let connect = json!({ "harness_public_key": key(9) });
    let (status, bundle) = post(&url, "/cloud/environment/env1/connect", &connect).await;
    assert_eq!(status.0, 200);
    let mut harness = Peer::open(bundle["url"].as_str().unwrap()).await.unwrap();

    shutdown.cancel();
    while get(&url, "/readyz").await.0 == 200 {}
    assert_eq!(get(&url, "/readyz").await.0, 503);
    assert_eq!(get(&url, "/livez").await.0, 200);
    // New ones are told to come back.
    for (path, body) in [
        ("/cloud/environment/env2/register", register_body()),
        ("/cloud/environment/env1/connect", connect),
    ] {
        let (status, _) = post(&url, path, &body).await;
        assert_eq!(status, (503, Some("1".to_owned())), "{path}");
    }
    let rejected = Peer::open(registered["url"].as_str().unwrap())
        .await
        .unwrap_err();
    assert_eq!(rejected.reason, "pod_draining");
    // A handshake that has begun is validated all the same, and frames still pass.
    let validate = json!({
        "executor_registration_id": registered["executor_registration_id"],
        "harness_public_key": key(9),
        "harness_key_authorization": bundle["harness_key_authorization"],
    });
    let (status, verdict) = post(&url, "/cloud/environment/env1/validate", &validate).await;
    assert_eq!(
        (status.0, &verdict["valid"]),
        (200, &json!(true)),
        "{verdict}"
    );
    harness.send(&resume("s")).await;
    assert_eq!(executor.frame().await, resume("s"));

    force.cancel();
    within(running).await.unwrap();
}

/// Status and `Retry-After` of a request of its own connection.
async fn get(url: &str, path: &str) -> (u16, Option<String>) {
    let request = http::Request::get(path).body(axum::body::Body::empty());
    send(url, request.unwrap()).await.0
}

async fn post(
    url: &str,
    path: &str,
    body: &serde_json::Value,
) -> ((u16, Option<String>), serde_json::Value) {
    let request = http::Request::post(path)
        .header("authorization", "Bearer t")
        .body(axum::body::Body::from(body.to_string()));
    send(url, request.unwrap()).await
}

async fn send(
    url: &str,
    mut request: http::Request<axum::body::Body>,
) -> ((u16, Option<String>), serde_json::Value) {
    let host = authority(url);
    let stream = TcpStream::connect(&host).await.unwrap();
    request.headers_mut().insert("host", host.parse().unwrap());
    let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream))
        .await
        .unwrap();
    let connection = tokio::spawn(connection);
    let response = within(sender.send_request(request)).await.unwrap();
    let retry_after = response.headers().get("retry-after");
    let retry_after = retry_after.map(|value| value.to_str().unwrap().to_owned());
    let status = response.status().as_u16();
    let body = axum::body::to_bytes(axum::body::Body::new(response.into_body()), 1 << 20)
        .await
        .unwrap();
    connection.abort();
    let body = serde_json::from_slice(&body).unwrap_or(serde_json::Value::Null);
    ((status, retry_after), body)
}
