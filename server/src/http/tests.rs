//! Requests in, answers out, without a network.

use std::time::Duration;

use base64::prelude::{BASE64_STANDARD, Engine as _};
use relay_proto::ids::EnvironmentId;
use relay_proto::keys::SUITE;
use serde_json::{Value, json};

use super::*;
use crate::auth::Role;
use crate::clock::{Clock as _, ManualClock, Timestamp};
use crate::limits::{self, RendezvousLimits};
use crate::rendezvous::hub::ExecutorSocket;
use crate::rendezvous::routes::CloseCause;
use crate::rendezvous::url::PublicUrl;
use crate::service::ServiceParts;
use crate::store::{NewToken, Store, TokenId};

/// A service with one token for each role, all for environment `env1`, and one for all environments.
pub(super) struct Fixture {
    pub(super) service: Arc<Service>,
    pub(super) clock: Arc<ManualClock>,
    pub(super) executor: String,
    pub(super) harness: String,
    admin: String,
    everywhere: String,
}

impl Fixture {
    pub(super) async fn new() -> Self {
        Self::with_access(Access::Tokens).await
    }

    async fn with_access(access: Access) -> Self {
        let clock = Arc::new(ManualClock::new(Timestamp::from_unix_seconds(
            1_795_000_000,
        )));
        let service = Service::new(ServiceParts {
            store: Store::in_memory().await.unwrap(),
            public_url: PublicUrl::parse("https://exec.example/base").unwrap(),
            access,
            oidc: None,
            behind_proxy: false,
            clock: clock.clone(),
            limits: RendezvousLimits::default(),
        })
        .await
        .unwrap();
        let token = async |role, environment: Option<&str>| {
            let environment = environment.map(|id| EnvironmentId::new(id).unwrap());
            let new = NewToken {
                role,
                environment,
                label: None,
                expires_at: None,
            };
            service
                .store
                .create_token(new, clock.now())
                .await
                .unwrap()
                .text
        };
        let executor = token(Role::Executor, Some("env1")).await;
        let harness = token(Role::Harness, Some("env1")).await;
        let admin = token(Role::Admin, Some("env1")).await;
        let everywhere = token(Role::Executor, None).await;
        Self {
            service,
            clock,
            executor,
            harness,
            admin,
            everywhere,
        }
    }

    pub(super) async fn call(&self, path: &str, token: &str, body: &Value) -> (u16, Value) {
        let request = Request::post(path)
            .header("content-type", "application/json")
            .header("authorization", format!("Bearer {token}"))
            .body(Body::from(body.to_string()))
            .unwrap();
        self.send(request).await
    }

    async fn send(&self, request: Request<Body>) -> (u16, Value) {
        let response = self.raw(request).await;
        let status = response.status().as_u16();
        let bytes = axum::body::to_bytes(response.into_body(), 1 << 20)
            .await
            .unwrap();
        (
            status,
            serde_json::from_slice(&bytes).unwrap_or(Value::Null),
        )
    }

    pub(super) async fn raw(&self, request: Request<Body>) -> Response<Body> {
        handle(
            Arc::clone(&self.service),
            IpAddr::from([192, 0, 2, 1]),
            request,
        )
        .await
    }

    pub(super) async fn register(&self) -> Value {
        let (status, answer) = self
            .call(
                "/cloud/environment/env1/register",
                &self.executor,
                &register(),
            )
            .await;
        assert_eq!(status, 200, "{answer}");
        answer
    }

    /// Has the executor of the current registration connect.
    pub(super) async fn go_online(&self) -> ExecutorSocket {
        let env = EnvironmentId::new("env1").unwrap();
        let current = self
            .service
            .store
            .environment(&env)
            .await
            .unwrap()
            .registered()
            .unwrap();
        self.service.hub.attach_executor(&env, &current).unwrap()
    }

    pub(super) async fn connect(&self) -> (u16, Value) {
        self.call(
            "/cloud/environment/env1/connect",
            &self.harness,
            &connect(9),
        )
        .await
    }

    async fn validate(&self, body: &Value) -> Value {
        let (status, answer) = self
            .call("/cloud/environment/env1/validate", &self.executor, body)
            .await;
        assert_eq!(status, 200, "{answer}");
        answer["valid"].clone()
    }
}

fn key(byte: u8) -> Value {
    json!({
        "suite": SUITE,
        "x25519_public_key": BASE64_STANDARD.encode([byte; 32]),
        "mlkem768_public_key": BASE64_STANDARD.encode([byte; 1_184]),
    })
}

fn register() -> Value {
    json!({ "security_profile": "noise_hybrid_ik_v1", "executor_public_key": key(1) })
}

fn connect(byte: u8) -> Value {
    json!({ "harness_public_key": key(byte) })
}

fn validate(bundle: &Value, byte: u8) -> Value {
    json!({
        "executor_registration_id": bundle["executor_registration_id"],
        "harness_public_key": key(byte),
        "harness_key_authorization": bundle["harness_key_authorization"],
    })
}

fn changed(mut body: Value, pointer: &str, value: Value) -> Value {
    *body.pointer_mut(pointer).unwrap() = value;
    body
}

fn code(answer: &Value) -> &str {
    answer["error"]["code"].as_str().unwrap_or_default()
}

#[tokio::test]
async fn executor_registers_harness_connects_executor_validates() {
    let fixture = Fixture::new().await;
    let registration = fixture.register().await;
    assert_eq!(registration["environment_id"], "env1");
    assert_eq!(registration["security_profile"], "noise_hybrid_ik_v1");
    let url = registration["url"].as_str().unwrap();
    assert!(url.starts_with(
        "wss://exec.example/base/cloud-agent/default/ws/environment/env1?role=environment&"
    ));

    let _online = fixture.go_online().await;
    let (status, bundle) = fixture.connect().await;
    assert_eq!(status, 200);
    assert_eq!(bundle["environment_id"], "env1");
    assert_eq!(bundle["security_profile"], "noise_hybrid_ik_v1");
    assert_eq!(
        bundle["executor_registration_id"],
        registration["executor_registration_id"]
    );
    assert_eq!(bundle["executor_public_key"], key(1));
    let authorization = bundle["harness_key_authorization"].as_str().unwrap();
    assert!(authorization.len() <= 4_096);
    let url = bundle["url"].as_str().unwrap();
    assert!(url.contains("?role=harness&"));
    assert!(!url.contains(authorization.rsplit_once("exa_").unwrap().1));

    assert_eq!(fixture.validate(&validate(&bundle, 9)).await, json!(true));
    assert_eq!(
        fixture.validate(&validate(&bundle, 9)).await,
        json!(false),
        "used twice"
    );
}

#[tokio::test]
async fn validation_needs_the_key_the_registration_and_time() {
    let fixture = Fixture::new().await;
    fixture.register().await;
    let _online = fixture.go_online().await;
    let (_, bundle) = fixture.connect().await;
    let good = validate(&bundle, 9);
    for wrong in [
        validate(&bundle, 8),
        changed(good.clone(), "/harness_public_key/suite", json!("other")),
        changed(
            good.clone(),
            "/harness_public_key/x25519_public_key",
            json!("AAAA"),
        ),
        changed(
            good.clone(),
            "/executor_registration_id",
            json!("reg_other"),
        ),
        changed(good.clone(), "/executor_registration_id", json!("")),
        changed(good.clone(), "/harness_key_authorization", json!("")),
        changed(
            good.clone(),
            "/harness_key_authorization",
            json!("exa_0123456789abcdef_x"),
        ),
    ] {
        assert_eq!(fixture.validate(&wrong).await, json!(false));
    }
    fixture.clock.advance(limits::AUTHORIZATION_TTL);
    assert_eq!(fixture.validate(&good).await, json!(false), "expired");

    let (_, bundle) = fixture.connect().await;
    fixture.register().await;
    assert_eq!(
        fixture.validate(&validate(&bundle, 9)).await,
        json!(false),
        "superseded"
    );
}

#[tokio::test]
async fn every_refusal_has_its_status_and_code() {
    let fixture = Fixture::new().await;
    let Fixture {
        executor,
        harness,
        admin,
        everywhere,
        ..
    } = &fixture;
    let (register, connect) = (register(), connect(9));
    let validate = json!({
        "executor_registration_id": "reg",
        "harness_public_key": key(9),
        "harness_key_authorization": "x",
    });
    let truncated = "A".repeat(limits::ENVIRONMENT_ID_BYTES + 1);
    let long = format!("/cloud/environment/{truncated}/register");
    let large = json!({ "x": "y".repeat(limits::BODY_BYTES) });
    for (path, token, body, status, code_text) in [
        (
            "/cloud/environment/env1/register",
            "",
            &register,
            401,
            "missing_token",
        ),
        (
            "/cloud/environment/env1/register",
            "nonsense",
            &register,
            401,
            "invalid_token",
        ),
        (
            "/cloud/environment/env1/register",
            harness,
            &register,
            403,
            "wrong_role",
        ),
        (
            "/cloud/environment/env1/validate",
            harness,
            &validate,
            403,
            "wrong_role",
        ),
        (
            "/cloud/environment/env1/connect",
            executor,
            &connect,
            403,
            "wrong_role",
        ),
        (
            "/cloud/environment/env2/register",
            executor,
            &register,
            403,
            "wrong_environment",
        ),
        (
            "/cloud/environment/env2/register",
            admin,
            &register,
            403,
            "wrong_environment",
        ),
        (
            "/cloud/environment/env2/connect",
            harness,
            &connect,
            403,
            "wrong_environment",
        ),
        (
            "/cloud/environment/env1/connect",
            harness,
            &connect,
            404,
            "environment_not_found",
        ),
        (
            "/cloud/environment/env1/validate",
            executor,
            &validate,
            404,
            "environment_not_found",
        ),
        (
            "/cloud/environment/a%2Fb/register",
            everywhere,
            &register,
            400,
            "invalid_environment_id",
        ),
        (
            "/cloud/environment/%2e%2e/register",
            everywhere,
            &register,
            400,
            "invalid_environment_id",
        ),
        (
            "/cloud/environment/a%00b/register",
            everywhere,
            &register,
            400,
            "invalid_environment_id",
        ),
        (
            "/cloud/environment/%20/register",
            everywhere,
            &register,
            400,
            "invalid_environment_id",
        ),
        (
            "/cloud/environment/%20a/register",
            everywhere,
            &register,
            400,
            "invalid_environment_id",
        ),
        (
            "/cloud/environment/%ff/register",
            everywhere,
            &register,
            400,
            "invalid_environment_id",
        ),
        (
            "/cloud/environment//register",
            everywhere,
            &register,
            400,
            "invalid_environment_id",
        ),
        (&long, everywhere, &register, 400, "invalid_environment_id"),
        (
            "/cloud/environment/env1/register",
            executor,
            &connect,
            400,
            "invalid_request",
        ),
        (
            "/cloud/environment/env1/register",
            executor,
            &json!([]),
            400,
            "invalid_request",
        ),
        (
            "/cloud/environment/env1/register",
            executor,
            &changed(register.clone(), "/security_profile", json!("none")),
            400,
            "unsupported_security_profile",
        ),
        (
            "/cloud/environment/env1/register",
            executor,
            &changed(
                register.clone(),
                "/executor_public_key/suite",
                json!("none"),
            ),
            400,
            "invalid_public_key",
        ),
        (
            "/cloud/environment/env1/register",
            executor,
            &changed(
                register.clone(),
                "/executor_public_key/mlkem768_public_key",
                json!("AAAA"),
            ),
            400,
            "invalid_public_key",
        ),
        (
            "/cloud/environment/env1/connect",
            harness,
            &json!({ "harness_public_key": { "suite": SUITE, "extra": 1 } }),
            400,
            "invalid_request",
        ),
        (
            "/cloud/environment/env1/register",
            executor,
            &large,
            413,
            "body_too_large",
        ),
        (
            "/cloud/environment/env1",
            executor,
            &register,
            404,
            "not_found",
        ),
        ("/", executor, &register, 404, "not_found"),
    ] {
        let (got, answer) = fixture.call(path, token, body).await;
        assert_eq!((got, code(&answer)), (status, code_text), "{path} {answer}");
        assert!(!answer["error"]["message"].as_str().unwrap().is_empty());
    }
}

#[tokio::test]
async fn environment_without_an_executor_is_offline() {
    let fixture = Fixture::new().await;
    fixture.register().await;
    let offline = async || {
        let (status, answer) = fixture.connect().await;
        (status, code(&answer).to_owned()) == (409, "environment_offline".to_owned())
    };
    assert!(offline().await, "registered, not connected");
    let online = fixture.go_online().await;
    assert_eq!(fixture.connect().await.0, 200);
    drop(online);
    assert!(offline().await, "disconnected");
    let _online = fixture.go_online().await;
    fixture.register().await;
    assert!(
        offline().await,
        "the executor of an older registration does not count"
    );
}

#[tokio::test]
async fn new_registration_closes_the_older_executor_socket() {
    let fixture = Fixture::new().await;
    let first = fixture.register().await;
    let online = fixture.go_online().await;
    let second = fixture.register().await;
    assert_ne!(
        first["executor_registration_id"],
        second["executor_registration_id"]
    );
    assert_eq!(online.outbox().close_cause(), Some(CloseCause::Superseded));
}

#[tokio::test]
async fn executor_token_for_all_environments_creates_them() {
    let fixture = Fixture::new().await;
    for id in ["env2", "a%20b", "%C3%A4"] {
        let path = format!("/prefix/cloud/environment/{id}/register");
        let (status, answer) = fixture.call(&path, &fixture.everywhere, &register()).await;
        assert_eq!(status, 200, "{answer}");
    }
    let path = "/cloud/environment/a%20b/register";
    let (_, answer) = fixture.call(path, &fixture.everywhere, &register()).await;
    assert_eq!(answer["environment_id"], "a b");
}

#[tokio::test]
async fn token_stops_working_when_it_is_revoked_or_expires() {
    let fixture = Fixture::new().await;
    let now = fixture.clock.now();
    let new = NewToken {
        role: Role::Executor,
        environment: None,
        label: None,
        expires_at: Some(now.after(Duration::from_secs(60))),
    };
    let brief = fixture
        .service
        .store
        .create_token(new, now)
        .await
        .unwrap()
        .text;
    let path = "/cloud/environment/env1/register";
    assert_eq!(fixture.call(path, &brief, &register()).await.0, 200);
    fixture.clock.advance(Duration::from_secs(60));
    assert_eq!(fixture.call(path, &brief, &register()).await.0, 401);

    let id = TokenId::from(fixture.executor[4..20].to_owned());
    fixture.service.store.revoke_token(&id, now).await.unwrap();
    let (status, answer) = fixture.call(path, &fixture.executor, &register()).await;
    assert_eq!((status, code(&answer)), (401, "invalid_token"));
}

#[tokio::test]
async fn too_many_failures_are_answered_429_but_good_tokens_still_work() {
    let fixture = Fixture::new().await;
    let path = "/cloud/environment/env1/register";
    let mut answers = Vec::new();
    // One failure is forgiven each second, so a slow machine may need a few more.
    for _ in 0..limits::FAILURE_BURST * 4 {
        let (status, answer) = fixture.call(path, "nonsense", &register()).await;
        answers.push((status, code(&answer).to_owned()));
    }
    let burst = limits::FAILURE_BURST as usize;
    assert!(answers[..burst].iter().all(|(status, _)| *status == 401));
    assert!(answers.contains(&(429, "too_many_failures".to_owned())));
    fixture.register().await;
}

#[tokio::test]
async fn methods_other_than_post_are_refused() {
    let fixture = Fixture::new().await;
    for method in [Method::GET, Method::PUT, Method::DELETE, Method::OPTIONS] {
        let request = Request::builder()
            .method(method)
            .uri("/cloud/environment/env1/register")
            .body(Body::empty())
            .unwrap();
        let response = fixture.raw(request).await;
        assert_eq!(response.status(), 405);
        assert_eq!(response.headers()["allow"], "POST");
    }
}

#[tokio::test]
async fn unauthenticated_answer_names_the_scheme_and_is_not_kept() {
    let fixture = Fixture::new().await;
    let request = Request::post("/cloud/environment/env1/register")
        .body(Body::empty())
        .unwrap();
    let response = fixture.raw(request).await;
    assert_eq!(response.status(), 401);
    assert_eq!(response.headers()["www-authenticate"], "Bearer");
    assert_eq!(response.headers()["cache-control"], "no-store");
}

#[tokio::test]
async fn error_texts_do_not_repeat_what_was_sent() {
    let fixture = Fixture::new().await;
    for body in [
        "{\"security_profile\": hunter2",
        "{\"executor_public_key\": \"hunter2\"}",
    ] {
        let request = Request::post("/cloud/environment/env1/register")
            .header("authorization", format!("Bearer {}", fixture.executor))
            .body(Body::from(body))
            .unwrap();
        let (status, answer) = fixture.send(request).await;
        assert_eq!(status, 400);
        assert!(!answer.to_string().contains("hunter2"), "{answer}");
    }
}

#[tokio::test]
async fn health_is_about_the_process_and_readiness_about_service() {
    let fixture = Fixture::new().await;
    let get = async |path: &str| {
        let request = Request::get(path).body(Body::empty()).unwrap();
        fixture.raw(request).await.status().as_u16()
    };
    assert_eq!((get("/healthz").await, get("/readyz").await), (200, 200));
    fixture.service.draining.cancel();
    assert_eq!((get("/healthz").await, get("/readyz").await), (200, 503));
    let request = Request::post("/readyz").body(Body::empty()).unwrap();
    assert_eq!(fixture.raw(request).await.status(), 405);
}

#[tokio::test]
async fn register_reports_what_passes_by_itself_under_the_code_that_is_retried() {
    let fixture = Fixture::new().await;
    fixture.service.draining.cancel();
    let (status, answer) = fixture
        .call(
            "/cloud/environment/env1/register",
            &fixture.executor,
            &register(),
        )
        .await;
    assert_eq!((status, code(&answer)), (503, "registration_conflict"));
    let (status, answer) = fixture.connect().await;
    assert_eq!((status, code(&answer)), (503, "shutting_down"));

    let fixture = Fixture::new().await;
    fixture.service.store.close().await;
    let (status, answer) = fixture
        .call(
            "/cloud/environment/env1/register",
            &fixture.executor,
            &register(),
        )
        .await;
    assert_eq!((status, code(&answer)), (503, "registration_conflict"));
    let (status, answer) = fixture.connect().await;
    assert_eq!((status, code(&answer)), (503, "unavailable"));
}

#[tokio::test]
async fn development_mode_takes_any_token_but_wants_one() {
    let fixture = Fixture::with_access(Access::Anyone).await;
    let request = |token: &str| {
        Request::post("/cloud/environment/env1/register")
            .header("host", "127.0.0.1:7700")
            .header("authorization", format!("Bearer {token}"))
            .body(Body::from(register().to_string()))
            .unwrap()
    };
    assert_eq!(fixture.send(request("anything")).await.0, 200);
    assert_eq!(fixture.send(request("")).await.0, 401);
}

#[tokio::test]
async fn development_mode_keeps_web_pages_out() {
    let fixture = Fixture::with_access(Access::Anyone).await;
    for (host, origin, allowed) in [
        ("127.0.0.1:7700", None, true),
        ("localhost:7700", None, true),
        ("[::1]:7700", None, true),
        ("127.0.0.1", None, true),
        ("exec.example:7700", None, false),
        ("127.0.0.1.exec.example", None, false),
        ("192.0.2.1", None, false),
        ("", None, false),
        ("127.0.0.1:7700", Some("http://exec.example"), false),
        ("127.0.0.1:7700", Some("null"), false),
    ] {
        let mut request = Request::get("/healthz").header("host", host);
        if let Some(origin) = origin {
            request = request.header("origin", origin);
        }
        let status = fixture
            .raw(request.body(Body::empty()).unwrap())
            .await
            .status();
        assert_eq!(status == 200, allowed, "{host} {origin:?} {status}");
        assert!(allowed || status == 403);
    }
}

#[tokio::test]
async fn peer_behind_a_proxy_is_the_last_one_forwarded() {
    let mut fixture = Fixture::new().await;
    let headers = HeaderMap::from_iter([(
        "x-forwarded-for".parse::<header::HeaderName>().unwrap(),
        HeaderValue::from_static("203.0.113.9, 198.51.100.7"),
    )]);
    let proxy = IpAddr::from([127, 0, 0, 1]);
    assert_eq!(peer(&fixture.service, proxy, &headers), proxy);
    Arc::get_mut(&mut fixture.service).unwrap().behind_proxy = true;
    assert_eq!(
        peer(&fixture.service, proxy, &headers),
        IpAddr::from([198, 51, 100, 7])
    );
    assert_eq!(peer(&fixture.service, proxy, &HeaderMap::new()), proxy);
}

#[test]
fn only_plain_ids_are_logged() {
    let id = |text: &'static str| {
        let name = http::HeaderName::from_static("x-request-id");
        let headers = HeaderMap::from_iter([(name, HeaderValue::from_static(text))]);
        printable(&headers, "x-request-id").to_owned()
    };
    for plain in [
        "req_0123456789abcdef0123456789abcdef",
        "3f1d2c4b-5a69-4788-9900-aabbccddeeff",
    ] {
        assert_eq!(id(plain), plain);
    }
    assert_eq!(id("a b"), "");
    assert_eq!(id("x\t"), "");
    assert_eq!(printable(&HeaderMap::new(), "x-request-id"), "");
}

#[tokio::test]
async fn token_that_asks_without_end_is_told_when_to_come_back() {
    let fixture = Fixture::new().await;
    let environment = EnvironmentId::new("env1").unwrap();
    for (call, token, body, status, code) in [
        (
            "connect",
            &fixture.harness,
            connect(9),
            429,
            "too_many_calls",
        ),
        (
            "register",
            &fixture.executor,
            register(),
            503,
            "registration_conflict",
        ),
    ] {
        let found = fixture.service.store.find_token(token).await.unwrap();
        let id = found.unwrap().id;
        let path = format!("/cloud/environment/env1/{call}");
        // There is room for ten more each second, so the first call may find some.
        let refused = loop {
            while fixture.service.calls.note(&id, &environment, call).is_ok() {}
            let request = Request::post(&path)
                .header("authorization", format!("Bearer {token}"))
                .body(Body::from(body.to_string()))
                .unwrap();
            let response = fixture.raw(request).await;
            if response.headers().contains_key(header::RETRY_AFTER) {
                break response;
            }
        };
        assert_eq!(refused.status().as_u16(), status);
        assert_eq!(refused.headers()[header::RETRY_AFTER], "1");
        let bytes = axum::body::to_bytes(refused.into_body(), 1 << 20).await;
        let answer: Value = serde_json::from_slice(&bytes.unwrap()).unwrap();
        assert_eq!(answer["error"]["code"], code, "{answer}");
    }
    // An executor asks about its harnesses however busy it is.
    for _ in 0..limits::CALL_BURST * 2 {
        let path = "/cloud/environment/env1/validate";
        let (status, _) = fixture.call(path, &fixture.executor, &json!({})).await;
        assert_eq!(status, 400);
    }
}
