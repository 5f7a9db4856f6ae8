//! Answers outside 2xx, and no answer at all: texts, retry rules, limits.

use std::time::Duration;

use registry_client::wire::code;
use registry_client::{ErrorBodies, RegistryError};
use relay_proto::ids::{RegistrationId, StreamId};
use serde_json::json;
use tokio::io::AsyncWriteExt;
use wiremock::matchers::{method, path};
use wiremock::{Mock, MockServer, ResponseTemplate};

use crate::support::{
    PATIENCE, Server, chain, client, environment, http_answer, key, read_request, register_answer,
};

/// Returns the error of a connect call that gets this answer.
async fn connect_error(answer: ResponseTemplate) -> RegistryError {
    let server = MockServer::start().await;
    Mock::given(method("POST"))
        .respond_with(answer)
        .mount(&server)
        .await;
    let result = client(&server.uri())
        .connect(&environment("env1"), &key(1))
        .await;
    result.expect_err("an error status")
}

#[tokio::test]
async fn error_texts_are_the_known_ones() {
    let detail = |form: &str| json!({form: {"code": "environment_not_found", "message": "no env"}});
    let long = "x".repeat(5000);
    for (answer, expected) in [
        (
            ResponseTemplate::new(404).set_body_json(detail("error")),
            "environment registry request failed (404 Not Found, environment_not_found): no env",
        ),
        (
            ResponseTemplate::new(404).set_body_json(detail("detail")),
            "environment registry request failed (404 Not Found, environment_not_found): no env",
        ),
        (
            ResponseTemplate::new(401).set_body_json(json!({"error": {"message": "bad token"}})),
            "environment registry authentication error: environment registry authentication \
             failed (401 Unauthorized): bad token",
        ),
        (
            ResponseTemplate::new(403)
                .set_body_json(json!({"detail": {"code": "forbidden", "message": "not you"}})),
            "environment registry authentication error: environment registry authentication \
             failed (403 Forbidden): not you",
        ),
        (
            ResponseTemplate::new(500),
            "environment registry request failed (500 Internal Server Error): \
             empty or malformed error body",
        ),
        (
            ResponseTemplate::new(502).set_body_string("<html>bad\r\ngateway\u{1b}[31m</html>"),
            "environment registry request failed (502 Bad Gateway): \
             <html>bad  gateway [31m</html>",
        ),
        (
            ResponseTemplate::new(503).set_body_string(long.clone()),
            &format!(
                "environment registry request failed (503 Service Unavailable): {}",
                &long[..4096]
            ),
        ),
        (
            ResponseTemplate::new(599).set_body_json(json!({"error": {"code": "c"}})),
            r#"environment registry request failed (599, c): {"error":{"code":"c"}}"#,
        ),
    ] {
        assert_eq!(connect_error(answer).await.to_string(), expected);
    }
}

#[tokio::test]
async fn retry_rules_follow_status_and_code() {
    for (status, body_code, retryable, reason) in [
        (408, None, true, "request_refused"),
        (
            409,
            Some(code::ENVIRONMENT_OFFLINE),
            true,
            "environment_offline",
        ),
        (409, Some("other"), false, "conflict"),
        (409, None, false, "conflict"),
        (429, None, true, "rate_limited"),
        (500, None, true, "registry_unavailable"),
        (
            502,
            Some(code::AUTHENTICATION_SERVICE_UNAVAILABLE),
            true,
            "authentication_service_unavailable",
        ),
        (
            503,
            Some(code::REGISTRATION_CONFLICT),
            true,
            "registration_conflict",
        ),
        (599, None, true, "registry_unavailable"),
        (400, None, false, "request_refused"),
        (401, None, false, "authentication"),
        (403, None, false, "authentication"),
        (
            404,
            Some(code::ENVIRONMENT_OFFLINE),
            false,
            "environment_offline",
        ),
        (404, None, false, "not_found"),
        (304, None, false, "redirect"),
    ] {
        let body = json!({"detail": {"code": body_code, "message": "text"}});
        let error = connect_error(ResponseTemplate::new(status).set_body_json(body)).await;
        assert_eq!(error.status(), Some(status));
        assert_eq!(error.code(), body_code, "{status}");
        assert_eq!(error.is_retryable(), retryable, "{status} {body_code:?}");
        assert_eq!(error.reason(), reason, "{status} {body_code:?}");
        assert_eq!(error.retry_after(), None);
    }
}

#[tokio::test]
async fn retry_after_is_read_from_the_answer() {
    let answer = ResponseTemplate::new(503).insert_header("retry-after", "7");
    assert_eq!(
        connect_error(answer).await.retry_after(),
        Some(Duration::from_secs(7))
    );
    let answer = ResponseTemplate::new(401).insert_header("retry-after", "1000000");
    assert_eq!(
        connect_error(answer).await.retry_after(),
        Some(Duration::from_secs(300))
    );
}

#[tokio::test]
async fn redirects_are_not_followed() {
    let server = MockServer::start().await;
    for status in [301, 302, 303, 307, 308] {
        let location = format!("{}/elsewhere", server.uri());
        Mock::given(path(format!("/{status}/cloud/environment/env1/register")))
            .respond_with(ResponseTemplate::new(status).insert_header("location", location))
            .expect(1)
            .mount(&server)
            .await;
    }
    Mock::given(path("/elsewhere"))
        .respond_with(ResponseTemplate::new(200).set_body_json(register_answer("env1")))
        .expect(0)
        .mount(&server)
        .await;
    for status in [301, 302, 303, 307, 308] {
        let client = client(&format!("{}/{status}", server.uri()));
        let error = client
            .register(&environment("env1"), &key(1))
            .await
            .expect_err("a redirect");
        assert_eq!(
            (error.status(), error.is_retryable()),
            (Some(status), false)
        );
    }
    server.verify().await;
}

#[tokio::test]
async fn validate_shows_the_status_and_nothing_of_the_body() {
    let registration = RegistrationId::new("reg-1").expect("id");
    let stream = StreamId::new("stream-1").expect("id");
    for (status, expected) in [
        (
            403,
            "environment registry authentication error: environment registry authentication \
               failed (403 Forbidden)",
        ),
        (404, "environment registry request failed (404 Not Found)"),
        (
            500,
            "environment registry request failed (500 Internal Server Error)",
        ),
    ] {
        let server = MockServer::start().await;
        let body = json!({"error": {"code": "code-s3cr3t", "message": "echo s3cr3t"}});
        Mock::given(method("POST"))
            .respond_with(ResponseTemplate::new(status).set_body_json(body))
            .mount(&server)
            .await;
        let result = client(&server.uri())
            .validate(
                &environment("env1"),
                &registration,
                &key(1),
                "s3cr3t",
                &stream,
            )
            .await;
        let error = result.expect_err("an error status");
        assert_eq!(error.to_string(), expected);
        assert!(!chain(&error).contains("s3cr3t"), "{}", chain(&error));
    }
}

#[tokio::test]
async fn error_bodies_can_be_omitted_and_known_codes_still_work() {
    for (status, body_code, expected) in [
        (
            401,
            "s3cr3t",
            "environment registry authentication error: environment registry authentication \
             failed (401 Unauthorized): response body omitted",
        ),
        (
            500,
            "s3cr3t",
            "environment registry request failed (500 Internal Server Error): \
             environment registry executor registration failed",
        ),
        (
            503,
            code::REGISTRATION_CONFLICT,
            "environment registry request failed (503 Service Unavailable, \
             registration_conflict): environment registry executor registration failed",
        ),
    ] {
        let server = MockServer::start().await;
        let body = json!({"error": {"code": body_code, "message": "echo s3cr3t"}});
        Mock::given(method("POST"))
            .respond_with(ResponseTemplate::new(status).set_body_json(body))
            .mount(&server)
            .await;
        let client = client(&server.uri()).with_error_bodies(ErrorBodies::Omitted);
        let error = client
            .register(&environment("env1"), &key(1))
            .await
            .expect_err("an error");
        assert_eq!(error.to_string(), expected);
        assert!(!chain(&error).contains("s3cr3t"), "{}", chain(&error));
    }
}

#[tokio::test]
async fn a_refused_connection_is_retryable_and_names_the_host() {
    let server = Server::canned("").await;
    let (base, host) = (server.url("http"), server.address.to_string());
    drop(server);
    let error = client(&base)
        .register(&environment("env1"), &key(1))
        .await
        .expect_err("nobody there");
    assert!(error.is_retryable());
    assert_eq!((error.reason(), error.status()), ("connect", None));
    assert!(
        chain(&error).contains(&format!("failed to connect to {host}")),
        "{}",
        chain(&error)
    );
}

#[tokio::test]
async fn silence_before_and_within_the_body_ends_at_the_timeout() {
    let half = "HTTP/1.1 200 OK\r\ncontent-length: 100\r\n\r\n{\"environment_id\":";
    for answer in ["", half] {
        let server = Server::canned(answer).await;
        let client = client(&server.url("http")).with_timeout(Duration::from_millis(200));
        let (environment, key) = (environment("env1"), key(1));
        let call = client.register(&environment, &key);
        let result = tokio::time::timeout(PATIENCE, call)
            .await
            .expect("ends by itself");
        let error = result.expect_err("no answer");
        assert_eq!((error.reason(), error.is_retryable()), ("timeout", true));
        let expected = format!("no answer from {} within 200ms", server.address);
        assert!(chain(&error).contains(&expected), "{}", chain(&error));
    }
}

#[tokio::test]
async fn a_body_that_breaks_off_is_retryable() {
    let server = Server::start(|mut stream| async move {
        read_request(&mut stream).await;
        let half = b"HTTP/1.1 200 OK\r\ncontent-length: 100\r\n\r\n{\"environment_id\":";
        stream.write_all(half).await.expect("written");
    })
    .await;
    let result = client(&server.url("http"))
        .connect(&environment("env1"), &key(1))
        .await;
    let error = result.expect_err("half an answer");
    assert_eq!(
        (error.reason(), error.is_retryable()),
        ("broken", true),
        "{}",
        chain(&error)
    );
}

#[tokio::test]
async fn bodies_are_read_up_to_the_limit() {
    let large = format!(r#"{{"valid": true, "more": "{}"}}"#, "x".repeat(64 * 1024));
    let server = Server::canned(http_answer("200 OK", "", &large)).await;
    let result = client(&server.url("http"))
        .connect(&environment("env1"), &key(1))
        .await;
    let error = result.expect_err("too large");
    assert_eq!((error.reason(), error.is_retryable()), ("too_large", false));
    assert_eq!(
        error.to_string(),
        "environment registry answer to connect exceeds limit of 65536 bytes"
    );
}

#[tokio::test]
async fn an_endless_error_body_still_gives_the_status() {
    let server = Server::start(|mut stream| async move {
        read_request(&mut stream).await;
        let head = b"HTTP/1.1 503 Service Unavailable\r\ntransfer-encoding: chunked\r\n\r\n";
        stream.write_all(head).await.expect("written");
        let chunk = format!("1000\r\n{}\r\n", "x".repeat(0x1000));
        while stream.write_all(chunk.as_bytes()).await.is_ok() {}
    })
    .await;
    let (client, environment, key) = (client(&server.url("http")), environment("env1"), key(1));
    let call = client.connect(&environment, &key);
    let error = tokio::time::timeout(PATIENCE, call)
        .await
        .expect("ends")
        .expect_err("a status");
    assert_eq!(error.status(), Some(503));
    assert!(error.to_string().ends_with(&"x".repeat(4096)));
}
