//! How long a harness keeps asking for a bundle.

use std::time::{Duration, Instant};

use rand::SeedableRng;
use rand::rngs::StdRng;
use registry_client::wire::{ErrorBody, PublicKeyText, SECURITY_PROFILE, code};
use registry_client::{Bundle, ConnectRetry, RegistryError, connect_with_retry};
use relay_proto::backoff::BackoffConfig;
use serde_json::json;
use wiremock::matchers::method;
use wiremock::{Mock, MockServer, ResponseTemplate};

use crate::support::{client, environment, key};

fn offline() -> ResponseTemplate {
    let body = ErrorBody::new(code::ENVIRONMENT_OFFLINE, "no executor is connected");
    ResponseTemplate::new(409).set_body_json(body)
}

fn bundle() -> ResponseTemplate {
    ResponseTemplate::new(200).set_body_json(json!({
        "environment_id": "env1",
        "security_profile": SECURITY_PROFILE,
        "executor_registration_id": "reg-1",
        "executor_public_key": PublicKeyText::from(&key(2)),
        "harness_key_authorization": "auth",
        "url": "wss://host/",
    }))
}

fn quick(deadline: Duration) -> ConnectRetry {
    let backoff = BackoffConfig {
        min_delay: Duration::from_millis(2),
        max_delay: Duration::from_millis(10),
        ..ConnectRetry::default().backoff
    };
    ConnectRetry {
        deadline,
        backoff,
        ..ConnectRetry::default()
    }
}

async fn connect(server: &MockServer, policy: ConnectRetry) -> Result<Bundle, RegistryError> {
    let mut rng = StdRng::seed_from_u64(1);
    let client = client(&server.uri());
    connect_with_retry(&client, &environment("env1"), &key(1), policy, &mut rng).await
}

async fn tries(server: &MockServer) -> usize {
    server.received_requests().await.expect("recorded").len()
}

#[tokio::test]
async fn offline_and_unavailable_are_tried_again_until_there_is_a_bundle() {
    let server = MockServer::start().await;
    for answer in [
        offline(),
        ResponseTemplate::new(503),
        ResponseTemplate::new(429),
    ] {
        Mock::given(method("POST"))
            .respond_with(answer)
            .up_to_n_times(3)
            .mount(&server)
            .await;
    }
    Mock::given(method("POST"))
        .respond_with(bundle())
        .mount(&server)
        .await;
    let bundle = connect(&server, quick(Duration::from_secs(10)))
        .await
        .expect("a bundle");
    assert_eq!(bundle.registration.as_str(), "reg-1");
    assert_eq!(tries(&server).await, 10);
}

#[tokio::test]
async fn an_answer_that_will_not_change_ends_it_at_once() {
    for status in [401, 403, 404, 409, 302] {
        let server = MockServer::start().await;
        Mock::given(method("POST"))
            .respond_with(ResponseTemplate::new(status))
            .mount(&server)
            .await;
        let error = connect(&server, quick(Duration::from_secs(10)))
            .await
            .expect_err("refused");
        assert_eq!((error.status(), tries(&server).await), (Some(status), 1));
    }
}

#[tokio::test]
async fn the_last_error_is_returned_at_the_deadline() {
    let server = MockServer::start().await;
    Mock::given(method("POST"))
        .respond_with(offline())
        .mount(&server)
        .await;
    let started = Instant::now();
    let error = connect(&server, quick(Duration::from_millis(300)))
        .await
        .expect_err("offline");
    assert_eq!(error.reason(), "environment_offline");
    assert!(tries(&server).await > 5);
    assert!(started.elapsed() < Duration::from_secs(3));
}

#[tokio::test]
async fn a_silent_registry_ends_a_try_and_then_the_whole_attempt() {
    let server = MockServer::start().await;
    Mock::given(method("POST"))
        .respond_with(offline().set_delay(Duration::from_secs(60)))
        .mount(&server)
        .await;
    let policy = ConnectRetry {
        try_timeout: Duration::from_millis(50),
        ..quick(Duration::from_millis(400))
    };
    let started = Instant::now();
    let error = connect(&server, policy).await.expect_err("silent");
    assert_eq!(error.reason(), "timeout");
    assert!(tries(&server).await > 2);
    assert!(started.elapsed() < Duration::from_secs(3));
}

#[tokio::test]
async fn a_retry_after_beyond_the_deadline_ends_it_without_the_wait() {
    let server = MockServer::start().await;
    Mock::given(method("POST"))
        .respond_with(ResponseTemplate::new(503).insert_header("retry-after", "60"))
        .mount(&server)
        .await;
    let started = Instant::now();
    let error = connect(&server, quick(Duration::from_secs(20)))
        .await
        .expect_err("busy");
    assert_eq!((error.status(), tries(&server).await), (Some(503), 1));
    assert!(started.elapsed() < Duration::from_secs(3));
}

#[tokio::test]
async fn a_retry_after_within_the_deadline_is_waited_for() {
    let server = MockServer::start().await;
    Mock::given(method("POST"))
        .respond_with(ResponseTemplate::new(503).insert_header("retry-after", "1"))
        .up_to_n_times(1)
        .mount(&server)
        .await;
    Mock::given(method("POST"))
        .respond_with(bundle())
        .mount(&server)
        .await;
    let started = Instant::now();
    connect(&server, quick(Duration::from_secs(20)))
        .await
        .expect("a bundle");
    assert!(started.elapsed() >= Duration::from_secs(1));
    assert_eq!(tries(&server).await, 2);
}

#[test]
fn the_default_deadline_outlasts_the_longest_reconnect_delay() {
    assert!(ConnectRetry::default().deadline >= BackoffConfig::default().max_delay);
}
