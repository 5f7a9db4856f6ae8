//! Tokens, restarts and TLS of a server with a data directory.

#![allow(clippy::unwrap_used, reason = "failing is how a test reports")]

mod common;

use std::sync::Arc;
use std::time::Duration;

use common::{Peer, Rejected, TestServer, register_body, within};
use rustls_pki_types::ServerName;
use server::clock::{Clock as _, ManualClock, SystemClock, Timestamp};
use server::config::{Storage, TlsFiles};
use server::store::{AuditFilter, CreatedToken, NewToken, Store};
use server::{Access, Role, ServeConfig};
use tempfile::TempDir;
use tokio::net::TcpStream;

/// A data directory, and the store that a command on it would open.
struct Data {
    directory: TempDir,
    store: Store,
}

impl Data {
    async fn new() -> Self {
        let directory = tempfile::tempdir().unwrap();
        let store = Store::open(directory.path()).await.unwrap();
        Self { directory, store }
    }

    async fn token(&self, role: Role, expires_at: Option<Timestamp>) -> CreatedToken {
        let new = NewToken {
            role,
            environment: None,
            label: None,
            expires_at,
        };
        self.store
            .create_token(new, SystemClock.now())
            .await
            .unwrap()
    }

    async fn serve(&self) -> TestServer {
        TestServer::with(|config| self.configure(config)).await
    }

    fn configure(&self, config: &mut ServeConfig) {
        config.access = Access::Tokens;
        config.storage = Storage::Directory(self.directory.path().to_owned());
        config.revocation_interval = Duration::from_millis(50);
    }
}

#[tokio::test]
async fn revoking_a_harness_token_closes_its_sockets_only() {
    let data = Data::new().await;
    let server = data.serve().await;
    // Made while the server runs.
    let executor_token = data.token(Role::Executor, None).await;
    let good = data.token(Role::Harness, None).await;
    let bad = data.token(Role::Harness, None).await;
    let mut executor = server.executor("env", &executor_token.text).await;
    let mut good_harness = server.harness("env", &good.text).await;
    let mut bad_harness = server.harness("env", &bad.text).await;
    good_harness.claim("good", &mut executor).await;
    bad_harness.claim("bad", &mut executor).await;

    data.store
        .revoke_token(&bad.record.id, SystemClock.now())
        .await
        .unwrap();
    assert_eq!(bad_harness.close_code().await, Some(1008));
    executor.expect_reset("bad").await;
    assert_eq!(server.bundle("env", &bad.text).await.0, 401);
    good_harness.send(&common::data("good", 0, "on")).await;
    assert_eq!(executor.frame().await, common::data("good", 0, "on"));
    server.stop().await;
}

#[tokio::test]
async fn revoking_an_executor_token_closes_the_executor_and_its_harnesses() {
    let data = Data::new().await;
    let server = data.serve().await;
    let token = data.token(Role::Executor, None).await;
    let harness_token = data.token(Role::Harness, None).await;
    let mut executor = server.executor("env", &token.text).await;
    let mut harness = server.harness("env", &harness_token.text).await;
    harness.claim("s", &mut executor).await;

    data.store
        .revoke_token(&token.record.id, SystemClock.now())
        .await
        .unwrap();
    assert_eq!(executor.close_code().await, Some(1008));
    assert_eq!(harness.close_code().await, Some(1000));
    let rejected = Peer::open(&executor.url).await.unwrap_err();
    assert_eq!(
        rejected,
        Rejected {
            status: 401,
            reason: "expired".to_owned()
        }
    );
    let path = "/cloud/environment/env/register";
    assert_eq!(
        server.call(path, &token.text, &register_body()).await.0,
        401
    );
    server.stop().await;
}

#[tokio::test]
async fn expired_token_closes_its_sockets() {
    let data = Data::new().await;
    let clock = Arc::new(ManualClock::new(SystemClock.now()));
    let server = TestServer::with(|config| {
        data.configure(config);
        config.clock = clock.clone();
    })
    .await;
    let expiry = clock.now().after(Duration::from_secs(60));
    let token = data.token(Role::Executor, Some(expiry)).await;
    let mut executor = server.executor("env", &token.text).await;
    clock.advance(Duration::from_secs(60));
    assert_eq!(executor.close_code().await, Some(1008));
    server.stop().await;
}

#[tokio::test]
async fn bundle_of_a_revoked_token_opens_nothing() {
    let data = Data::new().await;
    let server = data.serve().await;
    let executor_token = data.token(Role::Executor, None).await;
    let harness_token = data.token(Role::Harness, None).await;
    let _executor = server.executor("env", &executor_token.text).await;
    let (_, bundle) = server.bundle("env", &harness_token.text).await;
    data.store
        .revoke_token(&harness_token.record.id, SystemClock.now())
        .await
        .unwrap();
    let rejected = Peer::open(bundle["url"].as_str().unwrap())
        .await
        .unwrap_err();
    assert_eq!(
        rejected,
        Rejected {
            status: 401,
            reason: "expired".to_owned()
        }
    );
    server.stop().await;
}

#[tokio::test]
async fn executor_reconnects_to_a_restarted_server_without_registering() {
    let data = Data::new().await;
    let token = data.token(Role::Executor, None).await;
    let harness_token = data.token(Role::Harness, None).await;
    let server = data.serve().await;
    let mut executor = server.executor("env", &token.text).await;
    let address = server.url.clone();
    let stopping = tokio::spawn(server.stop());
    assert_eq!(executor.close_code().await, Some(1001));
    let url = executor.url.clone();
    drop(executor);
    within(stopping).await.unwrap();

    let server = data.serve().await;
    // Another port, as the old one may linger; the signature does not cover it.
    let url = url.replace(
        &common::authority(&address),
        &common::authority(&server.url),
    );
    let mut executor = Peer::open(&url).await.unwrap().attached().await;
    let mut harness = server.harness("env", &harness_token.text).await;
    harness.claim("s", &mut executor).await;
    server.stop().await;
}

#[tokio::test]
async fn registry_and_rendezvous_work_over_tls() {
    let directory = tempfile::tempdir().unwrap();
    let issued = rcgen::generate_simple_self_signed(vec!["localhost".to_owned()]).unwrap();
    let files = TlsFiles {
        certificates: directory.path().join("cert.pem"),
        key: directory.path().join("key.pem"),
    };
    std::fs::write(&files.certificates, issued.cert.pem()).unwrap();
    std::fs::write(&files.key, issued.signing_key.serialize_pem()).unwrap();
    let server = TestServer::with(|config| config.tls = Some(files)).await;
    assert!(server.url.starts_with("https://127.0.0.1:"));

    let mut roots = rustls::RootCertStore::empty();
    roots.add(issued.cert.der().clone()).unwrap();
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let config = rustls::ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(roots)
        .with_no_client_auth();
    let connector = tokio_rustls::TlsConnector::from(Arc::new(config));
    let authority = common::authority(&server.url);
    let connect = async || {
        let stream = TcpStream::connect(&authority).await.unwrap();
        let name = ServerName::try_from("localhost").unwrap();
        within(connector.connect(name, stream)).await.unwrap()
    };
    let path = "/cloud/environment/env/register";
    let (status, answer) =
        common::call(connect().await, &authority, path, "t", &register_body()).await;
    assert_eq!(status, 200, "{answer}");
    let url = answer["url"].as_str().unwrap();
    assert!(url.starts_with("wss://127.0.0.1:"), "{url}");
    let (mut socket, _) = tokio_tungstenite::client_async(url, connect().await)
        .await
        .unwrap();
    within(socket.close(None)).await.unwrap();
    server.stop().await;
}

#[tokio::test]
async fn audit_log_tells_who_did_what_and_what_was_refused() {
    let data = Data::new().await;
    let server = data.serve().await;
    let executor = data.token(Role::Executor, None).await;
    let harness = data.token(Role::Harness, None).await;
    let _socket = server.executor("env", &executor.text).await;
    assert_eq!(server.bundle("env", &harness.text).await.0, 200);
    assert_eq!(server.bundle("env", &executor.text).await.0, 403);
    assert_eq!(server.bundle("env", "nonsense").await.0, 401);
    assert_eq!(server.bundle("nowhere", &harness.text).await.0, 404);

    let records = data.store.audit(&AuditFilter::default()).await.unwrap();
    let told: Vec<_> = records
        .iter()
        .map(|record| {
            let token = record.token.as_deref();
            let environment = record.environment.as_deref().unwrap();
            (
                record.action.as_str(),
                record.outcome.as_str(),
                token,
                environment,
            )
        })
        .collect();
    let (executor_id, harness_id) = (executor.record.id.as_str(), harness.record.id.as_str());
    assert_eq!(
        told,
        [
            ("register", "ok", Some(executor_id), "env"),
            ("rendezvous", "ok", Some(executor_id), "env"),
            ("connect", "ok", Some(harness_id), "env"),
            ("connect", "wrong_role", Some(executor_id), "env"),
            ("connect", "invalid_token", None, "env"),
            (
                "connect",
                "environment_not_found",
                Some(harness_id),
                "nowhere"
            ),
        ]
    );
    assert!(
        records
            .iter()
            .all(|record| record.peer.as_deref() == Some("127.0.0.1"))
    );
    for record in &records[1..3] {
        assert_eq!(records[0].registration, record.registration);
    }
    assert!(records[0].registration.is_some());
    let text = format!("{records:?}");
    for secret in [&executor.text, &harness.text] {
        assert!(!text.contains(secret.as_str()));
    }
    server.stop().await;
}

#[tokio::test]
async fn audit_log_names_the_token_that_was_revoked_or_has_expired() {
    let data = Data::new().await;
    let clock = Arc::new(ManualClock::new(SystemClock.now()));
    let server = TestServer::with(|config| {
        data.configure(config);
        config.clock = clock.clone();
    })
    .await;
    let expiry = clock.now().after(Duration::from_secs(60));
    let executor = data.token(Role::Executor, None).await;
    let revoked = data.token(Role::Harness, None).await;
    let expired = data.token(Role::Harness, Some(expiry)).await;
    let mut socket = server.executor("env", &executor.text).await;
    let mut harnesses = Vec::new();
    for (token, stream) in [(&revoked, "r"), (&expired, "e")] {
        let (_, bundle) = server.bundle("env", &token.text).await;
        let url = bundle["url"].as_str().unwrap().to_owned();
        let mut harness = Peer::open(&url).await.unwrap();
        harness.claim(stream, &mut socket).await;
        harnesses.push((harness, url));
    }
    let (_, used) = &harnesses[0];
    assert_eq!(Peer::open(used).await.unwrap_err().status, 401);
    data.store
        .revoke_token(&revoked.record.id, clock.now())
        .await
        .unwrap();
    assert_eq!(harnesses[0].0.close_code().await, Some(1008));
    clock.advance(Duration::from_secs(60));
    assert_eq!(harnesses[1].0.close_code().await, Some(1008));
    for token in [&revoked, &expired] {
        assert_eq!(server.bundle("env", &token.text).await.0, 401);
    }
    server.stop().await;

    let records = data.store.audit(&AuditFilter::default()).await.unwrap();
    let of = |token: &CreatedToken| -> Vec<_> {
        let id = token.record.id.as_str();
        let mine = records
            .iter()
            .filter(|record| record.token.as_deref() == Some(id));
        let mut told: Vec<_> = mine
            .map(|record| (record.action.as_str(), record.outcome.as_str()))
            .collect();
        // A cut is recorded when it is done, so somebody may have come back before.
        told.sort_unstable();
        told
    };
    let opened = [("connect", "ok"), ("rendezvous", "ok")];
    for (token, why) in [(&revoked, "revoked_token"), (&expired, "expired_token")] {
        let ended = [("cut", why), ("connect", why)];
        let mut all = [opened, ended].concat();
        all.sort_unstable();
        assert_eq!(of(token), all);
    }
    let unused = |record: &&server::store::AuditRecord| record.outcome == "expired";
    let used_twice = records.iter().find(unused).unwrap();
    assert_eq!(used_twice.action, "rendezvous");
    assert!(used_twice.registration.is_some());
}
