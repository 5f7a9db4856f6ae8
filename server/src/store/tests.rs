use std::collections::HashSet;
use std::time::Duration;

use relay_proto::ids::{EnvironmentId, RegistrationId};
use relay_proto::keys::PublicKey;

use super::*;
use crate::auth::Role;
use crate::clock::Timestamp;
use crate::limits;

const NOW: Timestamp = Timestamp::from_unix_seconds(1_000_000);

fn key(byte: u8) -> PublicKey {
    PublicKey::from_parts(&[byte; 32], &[byte; 1_184]).unwrap()
}

fn environment(text: &str) -> EnvironmentId {
    EnvironmentId::new(text).unwrap()
}

fn new_token(ttl: Option<u64>) -> NewToken {
    NewToken {
        role: Role::Harness,
        environment: Some(environment("env")),
        label: Some("for tests".to_owned()),
        expires_at: ttl.map(|seconds| NOW.after(Duration::from_secs(seconds))),
    }
}

fn later(seconds: u64) -> Timestamp {
    NOW.after(Duration::from_secs(seconds))
}

#[tokio::test]
async fn token_is_found_by_its_text_only() {
    let store = Store::in_memory().await.unwrap();
    let created = store.create_token(new_token(None), NOW).await.unwrap();
    let found = store.find_token(&created.text).await.unwrap().unwrap();
    assert_eq!(found.id, created.record.id);
    assert_eq!(found.role, Role::Harness);
    assert_eq!(found.environment, Some(environment("env")));
    assert_eq!(found.label.as_deref(), Some("for tests"));

    let other = store.create_token(new_token(None), NOW).await.unwrap();
    let (id, secret) = (&created.text[..21], &other.text[21..]);
    for text in [
        format!("{id}{secret}"),
        created.text[1..].to_owned(),
        String::new(),
    ] {
        assert!(store.find_token(&text).await.unwrap().is_none());
    }
}

#[tokio::test]
async fn token_ends_by_expiry_or_revocation() {
    let store = Store::in_memory().await.unwrap();
    let eternal = store
        .create_token(new_token(None), NOW)
        .await
        .unwrap()
        .record;
    let brief = store
        .create_token(new_token(Some(10)), NOW)
        .await
        .unwrap()
        .record;
    let ids = HashSet::from([eternal.id.clone(), brief.id.clone()]);
    assert_eq!(store.valid_tokens(&ids, later(9)).await.unwrap(), ids);
    let left = store.valid_tokens(&ids, later(10)).await.unwrap();
    assert_eq!(left, HashSet::from([eternal.id.clone()]));
    assert!(brief.is_valid(later(9)) && !brief.is_valid(later(10)));

    let revoke = async || store.revoke_token(&eternal.id, NOW).await.unwrap();
    assert_eq!(revoke().await, RevokeOutcome::Revoked);
    assert_eq!(revoke().await, RevokeOutcome::AlreadyRevoked);
    assert!(store.valid_tokens(&ids, NOW).await.unwrap() == HashSet::from([brief.id]));
    let unknown = store
        .revoke_token(&TokenId::from("x".to_owned()), NOW)
        .await
        .unwrap();
    assert_eq!(unknown, RevokeOutcome::Unknown);
    assert_eq!(store.tokens().await.unwrap().len(), 2);
}

#[tokio::test]
async fn new_registration_takes_the_place_of_the_old_one() {
    let store = Store::in_memory().await.unwrap();
    let env = environment("env");
    assert!(
        store
            .environment(&env)
            .await
            .unwrap()
            .registered()
            .is_none()
    );
    let first = store.register(&env, &key(1), None, NOW).await.unwrap();
    let other = store
        .register(&environment("other"), &key(2), None, NOW)
        .await
        .unwrap();
    let second = store.register(&env, &key(1), None, NOW).await.unwrap();
    assert_ne!(first.id, second.id);
    assert!(first.ordinal < other.ordinal && other.ordinal < second.ordinal);
    let current = store.environment(&env).await.unwrap().registered().unwrap();
    assert_eq!((current.id, current.ordinal), (second.id, second.ordinal));
    assert_eq!(current.executor_key, key(1));
}

struct Issued {
    store: Store,
    env: EnvironmentId,
    registration: RegistrationId,
    bundle: authorizations::Bundle,
}

async fn issued(token: Option<&TokenId>) -> Issued {
    let store = Store::in_memory().await.unwrap();
    if let Some(token) = token {
        sqlx::query(
            "INSERT INTO tokens (id, hash, role, created_at) VALUES (?1, zeroblob(32), 'harness', 1)",
        )
        .bind(token.as_str())
        .execute(&store.pool)
        .await
        .unwrap();
    }
    let env = environment("env");
    let registration = store.register(&env, &key(1), None, NOW).await.unwrap().id;
    let bundle = store
        .create_bundle(&env, &registration, &key(9), token, NOW)
        .await
        .unwrap();
    Issued {
        store,
        env,
        registration,
        bundle,
    }
}

#[tokio::test]
async fn authorization_is_good_once_for_exactly_its_binding() {
    let Issued {
        store,
        env,
        registration,
        bundle,
    } = issued(None).await;
    store
        .register(&environment("env2"), &key(1), None, NOW)
        .await
        .unwrap();
    let text = bundle.authorization.as_str();
    let other_registration = RegistrationId::new("reg_other").unwrap();
    let other_x25519 = PublicKey::from_parts(&[8; 32], &[9; 1_184]).unwrap();
    let other_mlkem = PublicKey::from_parts(&[9; 32], &[8; 1_184]).unwrap();
    for (text, env, registration, key, at) in [
        (text, &environment("env2"), &registration, &key(9), NOW),
        (text, &env, &other_registration, &key(9), NOW),
        (text, &env, &registration, &other_x25519, NOW),
        (text, &env, &registration, &other_mlkem, NOW),
        (
            text,
            &env,
            &registration,
            &key(9),
            later(limits::AUTHORIZATION_TTL.as_secs()),
        ),
        (&text[..text.len() - 1], &env, &registration, &key(9), NOW),
        ("", &env, &registration, &key(9), NOW),
        (&bundle.url_nonce, &env, &registration, &key(9), NOW),
    ] {
        assert!(
            !store
                .use_authorization(text, env, registration, key, at)
                .await
                .unwrap()
        );
    }
    let right = async || {
        store
            .use_authorization(text, &env, &registration, &key(9), NOW)
            .await
            .unwrap()
    };
    assert!(right().await, "failed attempts must not use it up");
    assert!(!right().await, "used twice");
}

#[tokio::test]
async fn authorization_ends_with_the_token_that_asked_for_it() {
    let token = TokenId::from("0123456789abcdef".to_owned());
    let Issued {
        store,
        env,
        registration,
        bundle,
    } = issued(Some(&token)).await;
    store.revoke_token(&token, NOW).await.unwrap();
    let text = bundle.authorization.as_str();
    assert!(
        !store
            .use_authorization(text, &env, &registration, &key(9), NOW)
            .await
            .unwrap()
    );
}

#[tokio::test]
async fn bundle_url_is_good_once_for_its_registration() {
    let token = TokenId::from("0123456789abcdef".to_owned());
    let Issued {
        store,
        env,
        registration,
        bundle,
    } = issued(Some(&token)).await;
    let other = RegistrationId::new("reg_other").unwrap();
    let attempt = async |nonce: &str, registration: &RegistrationId, at| {
        store
            .use_bundle_url(nonce, &env, registration, at)
            .await
            .unwrap()
    };
    let nonce = bundle.url_nonce.as_str();
    let expired = later(limits::AUTHORIZATION_TTL.as_secs());
    assert!(matches!(
        attempt("", &registration, NOW).await,
        UrlUse::Refused
    ));
    assert!(matches!(attempt(nonce, &other, NOW).await, UrlUse::Refused));
    assert!(matches!(
        attempt(nonce, &registration, expired).await,
        UrlUse::Refused
    ));
    match attempt(nonce, &registration, NOW).await {
        UrlUse::Accepted(owner) => {
            assert_eq!(owner.token, Some(token));
            assert_eq!(owner.key_hash, authorizations::key_hash(&key(9)));
        }
        UrlUse::Refused => panic!("refused"),
    }
    assert!(matches!(
        attempt(nonce, &registration, NOW).await,
        UrlUse::Refused
    ));
}

#[tokio::test]
async fn outstanding_authorizations_are_limited_until_they_expire() {
    let Issued {
        store,
        env,
        registration,
        ..
    } = issued(None).await;
    let create = async |at| {
        store
            .create_bundle(&env, &registration, &key(9), None, at)
            .await
    };
    for _ in 1..limits::OUTSTANDING_AUTHORIZATIONS {
        create(NOW).await.unwrap();
    }
    assert!(matches!(
        create(NOW).await,
        Err(StoreError::TooManyAuthorizations { .. })
    ));
    let expired = later(limits::AUTHORIZATION_TTL.as_secs());
    create(expired).await.unwrap();
    let pruned = store.prune(expired).await.unwrap();
    assert_eq!(
        i64::try_from(pruned).unwrap(),
        limits::OUTSTANDING_AUTHORIZATIONS
    );
}

#[tokio::test]
async fn directory_and_files_are_private() {
    let parent = tempfile::tempdir().unwrap();
    let directory = parent.path().join("a/data");
    let store = Store::open(&directory).await.unwrap();
    let _claim = DirectoryClaim::take(&directory).unwrap().unwrap();
    store.create_token(new_token(None), NOW).await.unwrap();
    let mode = |path: &Path| std::fs::metadata(path).unwrap().permissions().mode() & 0o777;
    assert_eq!(mode(&directory), 0o700);
    let mut files = 0;
    for entry in std::fs::read_dir(&directory).unwrap() {
        let path = entry.unwrap().path();
        assert_eq!(mode(&path), 0o600, "{}", path.display());
        files += 1;
    }
    assert!(files >= 3, "database, its log and the lock");
}

#[tokio::test]
async fn readable_database_file_is_made_private() {
    let directory = tempfile::tempdir().unwrap();
    let file = database_file(directory.path());
    std::fs::write(&file, "").unwrap();
    std::fs::set_permissions(&file, Permissions::from_mode(0o644)).unwrap();
    Store::open(directory.path()).await.unwrap();
    assert_eq!(
        std::fs::metadata(&file).unwrap().permissions().mode() & 0o777,
        0o600
    );
}

#[tokio::test]
async fn what_another_process_writes_is_seen_at_once() {
    let directory = tempfile::tempdir().unwrap();
    let server = Store::open(directory.path()).await.unwrap();
    let command = Store::open(directory.path()).await.unwrap();
    let created = command.create_token(new_token(None), NOW).await.unwrap();
    let seen = async || server.find_token(&created.text).await.unwrap().unwrap();
    assert!(seen().await.is_valid(NOW));
    command.revoke_token(&created.record.id, NOW).await.unwrap();
    assert!(!seen().await.is_valid(NOW));
    assert_eq!(
        server.signing_secret().await.unwrap(),
        command.signing_secret().await.unwrap()
    );
}

#[tokio::test]
async fn no_secret_is_in_the_files() {
    let directory = tempfile::tempdir().unwrap();
    let store = Store::open(directory.path()).await.unwrap();
    let token = store.create_token(new_token(None), NOW).await.unwrap();
    let env = environment("env");
    let registration = store.register(&env, &key(1), None, NOW).await.unwrap().id;
    let bundle = store
        .create_bundle(&env, &registration, &key(9), None, NOW)
        .await
        .unwrap();
    let mut bytes = Vec::new();
    for entry in std::fs::read_dir(directory.path()).unwrap() {
        bytes.extend(std::fs::read(entry.unwrap().path()).unwrap());
    }
    let contains = |text: &str| {
        bytes
            .windows(text.len())
            .any(|window| window == text.as_bytes())
    };
    assert!(contains(token.record.id.as_str()), "the row is there");
    assert!(!contains(&token.text[21..]));
    assert!(!contains(&bundle.authorization[21..]));
}

#[tokio::test]
async fn directory_is_claimed_by_one_at_a_time() {
    let directory = tempfile::tempdir().unwrap();
    let claim = DirectoryClaim::take(directory.path()).unwrap().unwrap();
    assert!(DirectoryClaim::take(directory.path()).unwrap().is_none());
    drop(claim);
    assert!(DirectoryClaim::take(directory.path()).unwrap().is_some());
}

#[tokio::test]
async fn signing_secret_is_random_and_stays() {
    let store = Store::in_memory().await.unwrap();
    let secret = store.signing_secret().await.unwrap();
    assert_eq!(store.signing_secret().await.unwrap(), secret);
    let other = Store::in_memory().await.unwrap();
    assert_ne!(other.signing_secret().await.unwrap(), secret);
}
