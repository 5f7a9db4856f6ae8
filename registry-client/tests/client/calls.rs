//! What the calls send, and which answers they accept.

use std::sync::Arc;

use registry_client::wire::{PublicKeyText, SECURITY_PROFILE};
use registry_client::{
    Credential, FileBearer, RegistryClient, RegistryError, RegistryUrl, StaticBearer, Validation,
};
use relay_proto::ids::{RegistrationId, StreamId};
use serde_json::{Value, json};
use wiremock::matchers::{header, method, path};
use wiremock::{Mock, MockServer, Request, ResponseTemplate};

use crate::support::{TOKEN, chain, client, connector, environment, key, register_answer};

fn key_json(byte: u8) -> Value {
    serde_json::to_value(PublicKeyText::from(&key(byte))).expect("serializes")
}

fn connect_answer() -> Value {
    json!({
        "environment_id": "env1",
        "security_profile": SECURITY_PROFILE,
        "executor_registration_id": "reg-1",
        "executor_public_key": key_json(2),
        "harness_key_authorization": "auth-s3cr3t",
        "url": "wss://host/ws/env1?role=harness&sig=s3cr3t",
    })
}

async fn server(answer: ResponseTemplate) -> MockServer {
    let server = MockServer::start().await;
    Mock::given(method("POST"))
        .respond_with(answer)
        .mount(&server)
        .await;
    server
}

async fn single_request(server: &MockServer) -> Request {
    let mut requests = server.received_requests().await.expect("recorded");
    assert_eq!(requests.len(), 1);
    requests.remove(0)
}

fn body(request: &Request) -> Value {
    serde_json::from_slice(&request.body).expect("json")
}

async fn validate(client: &RegistryClient) -> Result<Validation, RegistryError> {
    let registration = RegistrationId::new("reg-1").expect("id");
    let stream = StreamId::new("stream-1").expect("id");
    client
        .validate(
            &environment("env1"),
            &registration,
            &key(1),
            "auth-s3cr3t",
            &stream,
        )
        .await
}

#[tokio::test]
async fn register_sends_the_key_and_returns_the_registration() {
    let answer = ResponseTemplate::new(200).set_body_json(register_answer("env1"));
    let server = server(answer).await;
    let base = format!("{}/prefix/", server.uri());
    let registration = client(&base)
        .register(&environment(" env1 "), &key(1))
        .await
        .expect("registered");
    assert_eq!(registration.environment.as_str(), "env1");
    assert_eq!(registration.registration.as_str(), "reg-1");
    assert_eq!(
        registration.url.expose(),
        "wss://host/ws/env1?role=environment&sig=s3cr3t"
    );

    let request = single_request(&server).await;
    assert_eq!(
        request.url.path(),
        "/prefix/cloud/environment/env1/register"
    );
    assert_eq!(
        body(&request),
        json!({"security_profile": SECURITY_PROFILE, "executor_public_key": key_json(1)})
    );
    assert_eq!(request.headers["content-type"], "application/json");
    assert_eq!(request.headers["authorization"], format!("Bearer {TOKEN}"));
    for absent in [
        "user-agent",
        "cookie",
        "referer",
        "chatgpt-account-id",
        "traceparent",
    ] {
        assert!(!request.headers.contains_key(absent), "{absent}");
    }
}

#[tokio::test]
async fn connect_sends_the_key_and_returns_the_bundle() {
    let server = server(ResponseTemplate::new(200).set_body_json(connect_answer())).await;
    let bundle = client(&server.uri())
        .connect(&environment("env1"), &key(1))
        .await
        .expect("a bundle");
    assert_eq!(bundle.registration.as_str(), "reg-1");
    assert_eq!(bundle.executor_key, key(2));
    assert_eq!(bundle.authorization.expose(), "auth-s3cr3t");
    assert_eq!(
        bundle.url.expose(),
        "wss://host/ws/env1?role=harness&sig=s3cr3t"
    );

    let request = single_request(&server).await;
    assert_eq!(request.url.path(), "/cloud/environment/env1/connect");
    assert_eq!(body(&request), json!({"harness_public_key": key_json(1)}));
}

#[tokio::test]
async fn validate_sends_the_authorization_and_returns_the_verdict() {
    for (answer, expected) in [
        (
            ResponseTemplate::new(200).set_body_json(json!({"valid": true})),
            Validation::Approved,
        ),
        (
            ResponseTemplate::new(202).set_body_json(json!({"valid": true})),
            Validation::Approved,
        ),
        (
            ResponseTemplate::new(200).set_body_json(json!({"valid": false, "why": "expired"})),
            Validation::Refused,
        ),
        (ResponseTemplate::new(401), Validation::CredentialsRejected),
    ] {
        let server = server(answer).await;
        assert_eq!(
            validate(&client(&server.uri())).await.expect("a verdict"),
            expected
        );

        let request = single_request(&server).await;
        assert_eq!(request.url.path(), "/cloud/environment/env1/validate");
        assert_eq!(request.headers["x-codex-noise-stream-id"], "stream-1");
        assert_eq!(
            body(&request),
            json!({"executor_registration_id": "reg-1", "harness_public_key": key_json(1),
                "harness_key_authorization": "auth-s3cr3t"})
        );
    }
}

#[tokio::test]
async fn validate_works_for_a_stream_id_that_no_header_can_carry() {
    let answer = ResponseTemplate::new(200).set_body_json(json!({"valid": true}));
    let server = server(answer).await;
    let registration = RegistrationId::new("reg-1").expect("id");
    let stream = StreamId::new("stream\n1").expect("id");
    let verdict = client(&server.uri())
        .validate(
            &environment("env1"),
            &registration,
            &key(1),
            "auth",
            &stream,
        )
        .await;
    assert_eq!(verdict.expect("a verdict"), Validation::Approved);
    assert!(
        !single_request(&server)
            .await
            .headers
            .contains_key("x-codex-noise-stream-id")
    );
}

#[tokio::test]
async fn account_id_is_sent_when_there_is_one() {
    let answer = ResponseTemplate::new(200).set_body_json(register_answer("env1"));
    let server = server(answer).await;
    let credential = Credential::bearer(TOKEN).expect("usable");
    let credential = credential.with_account_id("account-1").expect("usable");
    let base = RegistryUrl::parse(&server.uri()).expect("usable");
    let client = RegistryClient::new(connector(), base, Arc::new(StaticBearer::new(credential)));
    client
        .register(&environment("env1"), &key(1))
        .await
        .expect("registered");
    assert_eq!(
        single_request(&server).await.headers["chatgpt-account-id"],
        "account-1"
    );
}

#[tokio::test]
async fn environment_id_cannot_leave_its_path_segment() {
    let answer = ResponseTemplate::new(200).set_body_json(register_answer("../x?y=1#z"));
    let server = server(answer).await;
    client(&server.uri())
        .register(&environment("../x?y=1#z"), &key(1))
        .await
        .expect("registered");
    let request = single_request(&server).await;
    assert_eq!(
        request.url.path(),
        "/cloud/environment/..%2Fx%3Fy=1%23z/register"
    );
    assert_eq!(request.url.query(), None);
}

#[tokio::test]
async fn a_rotated_credential_is_used_from_the_next_call_on() {
    let directory = tempfile::tempdir().expect("temporary directory");
    let file = directory.path().join("token");
    let server = MockServer::start().await;
    for token in ["tok-1", "tok-2"] {
        Mock::given(path("/cloud/environment/env1/register"))
            .and(header("authorization", format!("Bearer {token}")))
            .respond_with(ResponseTemplate::new(200).set_body_json(register_answer("env1")))
            .expect(1)
            .mount(&server)
            .await;
    }
    let base = RegistryUrl::parse(&server.uri()).expect("usable");
    let client = RegistryClient::new(connector(), base, Arc::new(FileBearer::new(&file)));

    let error = client
        .register(&environment("env1"), &key(1))
        .await
        .expect_err("no file");
    assert!(matches!(error, RegistryError::Credential(_)) && error.is_retryable());
    assert_eq!(error.reason(), "credential");
    for token in ["tok-1", "tok-2\n"] {
        std::fs::write(&file, token).expect("written");
        client
            .register(&environment("env1"), &key(1))
            .await
            .expect("registered");
    }
}

#[tokio::test]
async fn register_refuses_answers_that_cannot_work() {
    for (member, value, expected) in [
        (
            "environment_id",
            json!("env2"),
            "environment registry returned a different environment id",
        ),
        (
            "security_profile",
            json!("noise_hybrid_ik_v2"),
            "environment registry returned an unsupported security profile",
        ),
        (
            "executor_registration_id",
            json!(" "),
            "environment registry returned an unusable registration id: registration id is blank",
        ),
        (
            "url",
            json!("http://host/?sig=s3cr3t"),
            "environment registry returned an unusable rendezvous url: \
             rendezvous url has scheme http instead of ws or wss",
        ),
        (
            "url",
            json!(""),
            "environment registry returned an unusable rendezvous url: rendezvous url is blank",
        ),
        (
            "url",
            Value::Null,
            "environment registry returned an unusable answer to register: \
             missing or wrong json member",
        ),
    ] {
        let mut answer = register_answer("env1");
        answer[member] = value;
        let server = server(ResponseTemplate::new(200).set_body_json(answer)).await;
        let result = client(&server.uri())
            .register(&environment("env1"), &key(1))
            .await;
        let error = result.expect_err(expected);
        let text = chain(&error);
        assert!(text.contains(expected), "{text}");
        assert!(!text.contains("s3cr3t"), "{text}");
        assert!(!error.is_retryable(), "{text}");
    }
}

#[tokio::test]
async fn connect_refuses_answers_that_cannot_work() {
    let long = "a".repeat(4097);
    let mut extra_member = key_json(2);
    extra_member["extra"] = json!(1);
    let mut other_suite = key_json(2);
    other_suite["suite"] = json!("Noise_IK");
    for (member, value, reason) in [
        ("environment_id", json!("env2"), "different_environment"),
        ("security_profile", json!("other"), "security_profile"),
        ("executor_registration_id", json!(""), "registration_id"),
        ("executor_public_key", extra_member, "malformed"),
        ("executor_public_key", other_suite, "executor_key"),
        ("harness_key_authorization", json!("\t"), "authorization"),
        ("harness_key_authorization", json!(long), "authorization"),
        ("url", json!("  "), "rendezvous_url"),
    ] {
        let mut answer = connect_answer();
        answer[member] = value;
        let server = server(ResponseTemplate::new(200).set_body_json(answer)).await;
        let result = client(&server.uri())
            .connect(&environment("env1"), &key(1))
            .await;
        let error = result.expect_err(member);
        assert_eq!(error.reason(), reason, "{member}");
        assert!(!error.is_retryable(), "{member}");
        assert!(!chain(&error).contains("s3cr3t"), "{member}");
    }
}

#[tokio::test]
async fn every_member_of_an_answer_is_required() {
    let environment = environment("env1");
    for member in connect_answer().as_object().expect("object").keys() {
        let mut answer = connect_answer();
        answer.as_object_mut().expect("object").remove(member);
        let server = server(ResponseTemplate::new(200).set_body_json(answer)).await;
        let result = client(&server.uri()).connect(&environment, &key(1)).await;
        assert_eq!(result.expect_err(member).reason(), "malformed", "{member}");
    }
    for answer in ["", "{}", "not json: s3cr3t", r#"{"valid": "s3cr3t"}"#] {
        let server = server(ResponseTemplate::new(200).set_body_string(answer)).await;
        let error = validate(&client(&server.uri())).await.expect_err(answer);
        assert_eq!(error.reason(), "malformed");
        assert!(!error.is_retryable());
        assert!(!chain(&error).contains("s3cr3t"), "{}", chain(&error));
    }
}

#[test]
fn debug_output_of_a_client_shows_no_secret() {
    let client = client("https://host/prefix");
    let text = format!("{client:?} {:?}", client.connector());
    assert!(text.contains("https://host/prefix"), "{text}");
    assert!(!text.contains("s3cr3t"), "{text}");
}
