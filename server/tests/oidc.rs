//! Tokens of an identity provider beside the server's own, and what hangs on them.

#![allow(clippy::unwrap_used, reason = "failing is how a test reports")]

mod common;

use std::sync::Arc;
use std::time::Duration;

use common::{Peer, TestServer, register_body};
use serde_json::{Value, json};
use server::clock::{Clock as _, ManualClock, SystemClock};
use server::config::{KeySource, OidcConfig, Rule, Storage};
use server::store::{AuditFilter, NewToken, Store};
use server::{Access, Role, limits};
use settings::Value as _;
use tempfile::TempDir;
use testkit::issuer::{SigningKey, key_set};

const ISSUER: &str = "https://id.example";

struct World {
    data: TempDir,
    store: Store,
    key: SigningKey,
    clock: Arc<ManualClock>,
    server: TestServer,
}

impl World {
    async fn start() -> Self {
        let data = tempfile::tempdir().unwrap();
        let store = Store::open(data.path()).await.unwrap();
        let key = SigningKey::es256("k").unwrap();
        let keys = data.path().join("keys.json");
        std::fs::write(&keys, key_set(&[&key]).unwrap().to_string()).unwrap();
        let clock = Arc::new(ManualClock::new(SystemClock.now()));
        let rules = [
            "sub=machine -> executor:env",
            "sub=alice -> harness:e*",
            "sub=bob -> harness",
        ];
        let server = TestServer::with(|config| {
            config.access = Access::Tokens;
            config.storage = Storage::Directory(data.path().to_owned());
            config.revocation_interval = Duration::from_millis(50);
            config.clock = clock.clone();
            config.oidc = Some(OidcConfig {
                issuer: ISSUER.to_owned(),
                audiences: vec!["exec-cloud".to_owned()],
                keys: Some(KeySource::File(keys)),
                rules: rules.map(|rule| Rule::parse(rule).unwrap()).to_vec(),
                ca_file: None,
            });
        })
        .await;
        Self {
            data,
            store,
            key,
            clock,
            server,
        }
    }

    /// A token that is good for this many seconds.
    fn token(&self, subject: &str, life: i64) -> String {
        let now = self.clock.now().as_unix_seconds();
        let claims =
            json!({ "iss": ISSUER, "sub": subject, "aud": "exec-cloud", "exp": now + life });
        self.key.token(&claims).unwrap()
    }
}

/// What the audit log says of somebody: actions and outcomes, sorted, since a cut is recorded when it is
/// done and somebody may have come back before.
async fn deeds(store: &Store, subject: &str) -> Vec<(String, String)> {
    let filter = AuditFilter {
        actor: Some(format!("{ISSUER} {subject}")),
        ..AuditFilter::default()
    };
    let records = store.audit(&filter).await.unwrap().into_iter();
    let mut deeds: Vec<_> = records
        .map(|record| (record.action, record.outcome))
        .collect();
    deeds.sort_unstable();
    deeds
}

fn sorted(deeds: &[(&str, &str)]) -> Vec<(String, String)> {
    let mut deeds: Vec<_> = deeds
        .iter()
        .map(|(action, outcome)| ((*action).to_owned(), (*outcome).to_owned()))
        .collect();
    deeds.sort_unstable();
    deeds
}

fn code(answer: &Value) -> &str {
    answer["error"]["code"].as_str().unwrap_or_default()
}

#[tokio::test]
async fn rules_open_calls_and_environments() {
    let world = World::start().await;
    let server = &world.server;
    let [machine, alice, bob, mallory] =
        ["machine", "alice", "bob", "mallory"].map(|subject| world.token(subject, 600));
    let path = |environment: &str| format!("/cloud/environment/{environment}/register");
    for (token, environment, status, expected) in [
        (&machine, "env", 200, ""),
        (&machine, "env2", 403, "wrong_environment"),
        (&alice, "env", 403, "wrong_role"),
        (&mallory, "env", 403, "no_role"),
    ] {
        let (found, answer) = server
            .call(&path(environment), token, &register_body())
            .await;
        assert_eq!((found, code(&answer)), (status, expected), "{answer}");
    }
    let _executor = server.executor("env", &machine).await;
    for (token, environment, status, expected) in [
        (&alice, "env", 200, ""),
        (&bob, "env", 200, ""),
        (&alice, "other", 403, "wrong_environment"),
        (&bob, "other", 404, "environment_not_found"),
        (&machine, "env", 403, "wrong_role"),
    ] {
        let (found, answer) = server.bundle(environment, token).await;
        assert_eq!((found, code(&answer)), (status, expected), "{answer}");
    }
    // The server's own tokens work beside them.
    let new = NewToken {
        role: Role::Harness,
        environment: None,
        label: None,
        expires_at: None,
    };
    let own = world
        .store
        .create_token(new, world.clock.now())
        .await
        .unwrap();
    assert_eq!(server.bundle("env", &own.text).await.0, 200);
    world.server.stop().await;
}

#[tokio::test]
async fn expiry_of_a_token_closes_what_it_has_opened() {
    let world = World::start().await;
    let server = &world.server;
    let mut executor = server.executor("env", &world.token("machine", 6000)).await;
    let brief = world.token("alice", 60);
    let mut harness = server.harness("env", &brief).await;
    harness.claim("s", &mut executor).await;
    // A later token of the same person does not prolong what the first one has opened.
    let later = world.token("alice", 6000);
    let mut other = server.harness("env", &later).await;
    other.claim("t", &mut executor).await;

    world
        .clock
        .advance(Duration::from_secs(60) + limits::OIDC_LEEWAY);
    assert_eq!(harness.close_code().await, Some(1008));
    executor.expect_reset("s").await;
    let (status, answer) = server.bundle("env", &brief).await;
    assert_eq!((status, code(&answer)), (401, "expired_token"));
    other.send(&common::data("t", 0, "on")).await;
    assert_eq!(executor.frame().await, common::data("t", 0, "on"));

    world.clock.advance(Duration::from_secs(6000));
    assert_eq!(executor.close_code().await, Some(1008));
    let rejected = Peer::open(&executor.url).await.unwrap_err();
    assert_eq!(
        (rejected.status, rejected.reason.as_str()),
        (401, "expired")
    );
    world.server.stop().await;
    let opened = [("connect", "ok"), ("rendezvous", "ok")];
    let cut = [("cut", "expired_token"); 2];
    let refused = [("connect", "expired_token")];
    let all = [&opened[..], &opened, &cut, &refused].concat();
    assert_eq!(deeds(&world.store, "alice").await, sorted(&all));
}

#[tokio::test]
async fn token_can_be_revoked_by_the_id_in_the_audit_log() {
    let world = World::start().await;
    let server = &world.server;
    let machine = world.token("machine", 6000);
    let mut executor = server.executor("env", &machine).await;
    let alice = world.token("alice", 6000);
    let mut harness = server.harness("env", &alice).await;
    harness.claim("s", &mut executor).await;
    let tokens = world.store.oidc_tokens().await.unwrap();
    let id = &tokens
        .iter()
        .find(|token| token.subject == "alice")
        .unwrap()
        .id;
    world
        .store
        .revoke_token(id, world.clock.now())
        .await
        .unwrap();
    assert_eq!(harness.close_code().await, Some(1008));
    let (status, answer) = server.bundle("env", &alice).await;
    assert_eq!((status, code(&answer)), (401, "invalid_token"));
    let database = std::fs::read(world.data.path().join("exec-cloud.db")).unwrap();
    let journal = std::fs::read(world.data.path().join("exec-cloud.db-wal")).unwrap();
    for token in [&machine, &alice] {
        let (_, signature) = token.rsplit_once('.').unwrap();
        for file in [&database, &journal] {
            let mut windows = file.windows(signature.len());
            assert!(!windows.any(|window| window == signature.as_bytes()));
        }
    }
    // It is the one token that is revoked, not the person.
    let another = world.token("alice", 5999);
    assert_eq!(server.bundle("env", &another).await.0, 200);
    world.server.stop().await;
    let all = [
        ("connect", "ok"),
        ("rendezvous", "ok"),
        ("cut", "revoked_token"),
        ("connect", "revoked_token"),
        ("connect", "ok"),
    ];
    assert_eq!(deeds(&world.store, "alice").await, sorted(&all));
}
