use std::path::Path;
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use settings::Value as _;
use testkit::issuer::{Issuer, SigningKey, key_set};

use super::*;
use crate::auth::Role;
use crate::limits;

const NOW: u64 = 1_795_000_000;
const ISSUER: &str = "https://id.example/tenant";

fn now() -> Timestamp {
    Timestamp::from_unix_seconds(i64::try_from(NOW).unwrap())
}

fn config(issuer: &str, keys: Option<KeySource>) -> OidcConfig {
    OidcConfig {
        issuer: issuer.to_owned(),
        audiences: vec!["exec-cloud".to_owned(), "other".to_owned()],
        keys,
        rules: vec![Rule::parse("role=runner -> executor").unwrap()],
        ca_file: None,
    }
}

fn claims() -> Value {
    json!({ "iss": ISSUER, "sub": "alice", "aud": "exec-cloud", "exp": NOW + 600, "role": "runner" })
}

fn changed(claim: &str, value: Value) -> Value {
    let mut claims = claims();
    claims[claim] = value;
    claims
}

fn without(claim: &str) -> Value {
    let mut claims = claims();
    claims.as_object_mut().unwrap().remove(claim);
    claims
}

/// With these keys in a file.
struct Fixture {
    oidc: Oidc,
    file: tempfile::NamedTempFile,
}

impl Fixture {
    fn new(keys: &[&SigningKey]) -> Self {
        let file = tempfile::NamedTempFile::new().unwrap();
        let oidc = Oidc::new(config(
            ISSUER,
            Some(KeySource::File(file.path().to_owned())),
        ));
        let fixture = Self {
            oidc: oidc.unwrap(),
            file,
        };
        fixture.write(keys);
        fixture
    }

    fn write(&self, keys: &[&SigningKey]) {
        write(self.file.path(), &key_set(keys).unwrap());
    }

    async fn check(&self, token: &str) -> Result<Identity, OidcError> {
        self.oidc.authenticate(token, now()).await
    }

    async fn problem(&self, token: &str) -> TokenError {
        problem(self.check(token).await)
    }
}

fn write(path: &Path, document: &Value) {
    std::fs::write(path, document.to_string()).unwrap();
}

fn problem(result: Result<Identity, OidcError>) -> TokenError {
    match result {
        Err(OidcError::Token { error, .. }) => error,
        other => panic!("refused as a token: {other:?}"),
    }
}

#[tokio::test]
async fn tokens_of_all_algorithms_on_the_list_are_taken() {
    let mut rsa = SigningKey::rsa("rsa", "RS256").unwrap();
    let others = [
        SigningKey::es256("p256").unwrap(),
        SigningKey::es384("p384").unwrap(),
        SigningKey::eddsa("ed").unwrap(),
    ];
    let [p256, p384, ed] = &others;
    let fixture = Fixture::new(&[&rsa, p256, p384, ed]);
    for algorithm in ["RS256", "RS384", "RS512", "PS256", "PS384", "PS512"] {
        rsa = rsa.with_algorithm(algorithm).unwrap();
        let token = rsa.token(&claims()).unwrap();
        assert!(fixture.check(&token).await.is_ok(), "{algorithm}");
    }
    for key in &others {
        let identity = fixture.check(&key.token(&claims()).unwrap()).await.unwrap();
        assert_eq!(
            (identity.issuer.as_str(), identity.subject.as_str()),
            (ISSUER, "alice")
        );
        assert_eq!(
            identity.expires_at,
            now().after(Duration::from_secs(600) + limits::OIDC_LEEWAY)
        );
        assert_eq!(identity.grants.len(), 1);
        assert_eq!(identity.grants[0].role, Role::Executor);
    }
}

#[tokio::test]
async fn only_the_algorithms_of_the_key_are_taken() {
    let rsa = SigningKey::rsa("rsa", "RS256").unwrap();
    let ec = SigningKey::es256("ec").unwrap();
    let fixture = Fixture::new(&[&rsa, &ec]);
    // The public key, which everybody has, as a shared secret.
    for key in [&rsa, &ec] {
        let confused = key.confused_token(&claims()).unwrap();
        assert_eq!(fixture.problem(&confused).await, TokenError::Algorithm);
    }
    for algorithm in [
        "none", "None", "HS256", "HS512", "ES512", "ES256K", "RSA-OAEP", "",
    ] {
        let header = json!({ "alg": algorithm, "kid": "ec" });
        let token = ec.token_with(&header, &claims()).unwrap();
        assert_eq!(
            fixture.problem(&token).await,
            TokenError::Algorithm,
            "{algorithm}"
        );
        let unsigned = format!("{}.", token.rsplit_once('.').unwrap().0);
        assert_eq!(
            fixture.problem(&unsigned).await,
            TokenError::Algorithm,
            "{algorithm}"
        );
    }
    for (algorithm, id) in [
        ("ES256", "rsa"),
        ("RS256", "ec"),
        ("ES384", "ec"),
        ("EdDSA", "ec"),
    ] {
        let token = ec.token_with(&json!({ "alg": algorithm, "kid": id }), &claims());
        assert_eq!(
            fixture.problem(&token.unwrap()).await,
            TokenError::Algorithm,
            "{algorithm}"
        );
    }
    let mut restricted = key_set(&[&rsa]).unwrap();
    restricted["keys"][0]["alg"] = json!("PS256");
    write(fixture.file.path(), &restricted);
    let fixture = Fixture {
        oidc: Oidc::new(config(
            ISSUER,
            Some(KeySource::File(fixture.file.path().to_owned())),
        ))
        .unwrap(),
        file: fixture.file,
    };
    let token = rsa.token(&claims()).unwrap();
    assert_eq!(fixture.problem(&token).await, TokenError::Algorithm);
    let rsa = rsa.with_algorithm("PS256").unwrap();
    assert!(fixture.check(&rsa.token(&claims()).unwrap()).await.is_ok());
}

#[tokio::test]
async fn issuer_audience_expiry_and_subject_are_required_and_checked() {
    let key = SigningKey::eddsa("k").unwrap();
    let fixture = Fixture::new(&[&key]);
    let missing = |claim| TokenError::Claim { claim };
    let (leeway, late) = (limits::OIDC_LEEWAY.as_secs(), NOW + 600);
    for (claims, expected) in [
        (claims(), None),
        (changed("aud", json!(["x", "other"])), None),
        (changed("exp", json!(NOW - leeway + 1)), None),
        (changed("exp", json!(f64::from(1_795_000_000) + 0.5)), None),
        (changed("nbf", json!(NOW + leeway)), None),
        (without("exp"), Some(missing("exp"))),
        (without("iss"), Some(missing("iss"))),
        (without("aud"), Some(missing("aud"))),
        (without("sub"), Some(missing("sub"))),
        (changed("sub", json!("")), Some(missing("sub"))),
        (changed("sub", json!(7)), Some(missing("sub"))),
        (changed("sub", json!("a\nb")), Some(missing("sub"))),
        (changed("sub", json!("x".repeat(256))), Some(missing("sub"))),
        (
            changed("exp", json!(late.to_string())),
            Some(missing("exp")),
        ),
        (changed("nbf", json!(NOW.to_string())), Some(missing("nbf"))),
        (
            changed("iss", json!("https://id.example/tenant/")),
            Some(TokenError::Issuer),
        ),
        (
            changed("iss", json!("https://evil.example")),
            Some(TokenError::Issuer),
        ),
        (
            changed("aud", json!("exec-cloud2")),
            Some(TokenError::Audience),
        ),
        (changed("aud", json!(["x"])), Some(TokenError::Audience)),
        (
            changed("exp", json!(NOW - leeway)),
            Some(TokenError::Expired),
        ),
        (changed("exp", json!(0)), Some(TokenError::Expired)),
        (
            changed("nbf", json!(NOW + leeway + 1)),
            Some(TokenError::NotYet),
        ),
    ] {
        let found = fixture.check(&key.token(&claims).unwrap()).await;
        match expected {
            None => assert!(found.is_ok(), "{claims}: {found:?}"),
            Some(expected) => assert_eq!(problem(found), expected, "{claims}"),
        }
    }
}

#[tokio::test]
async fn altered_tokens_and_other_things_with_a_signature_are_refused() {
    let key = SigningKey::es256("k").unwrap();
    let fixture = Fixture::new(&[&key]);
    let token = key.token(&claims()).unwrap();
    let other = key.token(&changed("role", json!("admin"))).unwrap();
    let [head, _, signature] = token.split('.').collect::<Vec<_>>().try_into().unwrap();
    let [_, body, _] = other.split('.').collect::<Vec<_>>().try_into().unwrap();
    let forged = format!("{head}.{body}.{signature}");
    assert_eq!(fixture.problem(&forged).await, TokenError::Signature);
    let imitation = SigningKey::es256("k").unwrap().token(&claims()).unwrap();
    assert_eq!(fixture.problem(&imitation).await, TokenError::Signature);
    for header in [
        json!({ "alg": "ES256", "kid": "k", "typ": "logout+jwt" }),
        json!({ "alg": "ES256", "kid": "k", "crit": ["b64"], "b64": false }),
        json!({ "kid": "k" }),
    ] {
        let token = key.token_with(&header, &claims()).unwrap();
        assert_eq!(
            fixture.problem(&token).await,
            TokenError::Malformed,
            "{header}"
        );
    }
    let long = key.token(&changed(
        "more",
        json!("x".repeat(limits::OIDC_TOKEN_BYTES)),
    ));
    for text in ["ey..", "eyJ.x.y", "eyJhbGciOiJFUzI1NiJ9..", &long.unwrap()] {
        let problem = fixture.problem(text).await;
        assert!(
            matches!(problem, TokenError::Malformed | TokenError::Signature),
            "{problem:?}"
        );
    }
    let access = json!({ "alg": "ES256", "kid": "k", "typ": "at+jwt" });
    let access = key.token_with(&access, &claims()).unwrap();
    assert!(fixture.check(&access).await.is_ok());
}

#[tokio::test]
async fn key_is_chosen_by_its_id_or_by_being_the_only_one() {
    let keys = [
        SigningKey::es256("a").unwrap(),
        SigningKey::es256("b").unwrap(),
    ];
    let [a, b] = &keys;
    let fixture = Fixture::new(&[a, b]);
    let nameless = json!({ "alg": "ES256" });
    for key in &keys {
        assert!(fixture.check(&key.token(&claims()).unwrap()).await.is_ok());
        let nameless = key.token_with(&nameless, &claims()).unwrap();
        assert_eq!(fixture.problem(&nameless).await, TokenError::NoKeyId);
    }
    let unknown = SigningKey::es256("c").unwrap().token(&claims()).unwrap();
    assert_eq!(fixture.problem(&unknown).await, TokenError::UnknownKey);
    let fixture = Fixture::new(&[a]);
    let nameless = a.token_with(&nameless, &claims()).unwrap();
    assert!(fixture.check(&nameless).await.is_ok());
}

#[tokio::test]
async fn keys_that_cannot_check_signatures_are_left_out() {
    let key = SigningKey::eddsa("k").unwrap();
    let fixture = Fixture::new(&[]);
    let symmetric = json!({ "kty": "oct", "kid": "k", "k": "AAAA", "alg": "HS256" });
    let mut for_encryption = key.public().unwrap();
    for_encryption["use"] = json!("enc");
    let strange = json!({ "kty": "AKP", "alg": "ML-DSA-65", "pub": "AAAA" });
    let useless = [symmetric, for_encryption, strange, json!(7)];
    write(fixture.file.path(), &json!({ "keys": useless }));
    let token = key.token(&claims()).unwrap();
    let refused = fixture.check(&token).await;
    assert!(
        matches!(refused, Err(OidcError::KeysUnavailable)),
        "{refused:?}"
    );
    let with_one = [&useless[..], &[key.public().unwrap()]].concat();
    write(fixture.file.path(), &json!({ "keys": with_one }));
    assert!(fixture.check(&token).await.is_ok());
    assert_eq!(fixture.oidc.key_count(), 1);
}

#[test]
fn signatures_of_one_text_stand_for_one_token() {
    let key = SigningKey::es256("k").unwrap();
    // Every signature of this kind of key is another one.
    let [one, two] = [(); 2].map(|()| key.token(&claims()).unwrap());
    assert_ne!(one, two);
    let set = key_set(&[&key]).unwrap().to_string();
    let set = keys::KeySet::parse(set.as_bytes()).unwrap();
    let expected = Expected {
        issuer: ISSUER.to_owned(),
        audiences: vec!["exec-cloud".to_owned()],
    };
    let id = |text: &str| {
        let token = Unverified::parse(text).unwrap();
        let key = set.find(Some("k"), token.algorithm).unwrap();
        token.verify(key, &expected).unwrap().id
    };
    assert_eq!(id(&one), id(&two));
    assert_ne!(
        id(&one),
        id(&key.token(&changed("jti", json!("x"))).unwrap())
    );
}

#[tokio::test(start_paused = true)]
async fn key_file_is_read_again_when_it_changes_and_last_good_keys_stay() {
    let [old, new] = ["old", "new"].map(|id| SigningKey::eddsa(id).unwrap());
    let [old_token, new_token] = [&old, &new].map(|key| key.token(&claims()).unwrap());
    let fixture = Fixture::new(&[&old]);
    // Not when the file is looked at anyway: for a moment after that nobody looks again.
    let a_while = limits::OIDC_FILE_INTERVAL * 3 + limits::OIDC_FILE_PAUSE * 2;
    let look = async {
        tokio::time::sleep(a_while).await;
        assert!(fixture.check(&old_token).await.is_ok());
        // A new key counts at once.
        fixture.write(&[&old, &new]);
        assert!(fixture.check(&new_token).await.is_ok());
        // One that is withdrawn soon does not count any more.
        fixture.write(&[&new]);
        tokio::time::sleep(a_while).await;
        assert_eq!(fixture.problem(&old_token).await, TokenError::UnknownKey);
        for broken in ["{", "{\"keys\": []}"] {
            std::fs::write(fixture.file.path(), broken).unwrap();
            tokio::time::sleep(a_while).await;
            assert!(fixture.check(&new_token).await.is_ok());
            let refused = fixture.check(&old_token).await;
            assert!(
                matches!(refused, Err(OidcError::KeysUnavailable)),
                "{refused:?}"
            );
        }
        fixture.write(&[&old]);
        tokio::time::sleep(a_while).await;
        assert!(fixture.check(&old_token).await.is_ok());
    };
    tokio::select! {
        () = look => {}
        never = fixture.oidc.run() => match never {},
    }
}

#[tokio::test]
async fn keys_are_fetched_from_a_url_or_where_the_issuer_says() {
    let issuer = Issuer::start().await.unwrap();
    let key = SigningKey::es256("k").unwrap();
    let mut claims = claims();
    claims["iss"] = json!(issuer.url());
    let token = key.token(&claims).unwrap();
    let url = KeySource::parse(&issuer.keys_url()).unwrap();
    for source in [Some(url), None] {
        issuer.answer(None);
        let oidc = Oidc::new(config(issuer.url(), source)).unwrap();
        let refused = oidc.authenticate(&token, now()).await;
        assert!(
            matches!(refused, Err(OidcError::KeysUnavailable)),
            "{refused:?}"
        );
        issuer.publish(&[&key]).unwrap();
        assert!(oidc.authenticate(&token, now()).await.is_ok());
        // Good keys outlive the provider's troubles, also answers that are too long.
        issuer.answer(Some(json!("x".repeat(limits::OIDC_DOCUMENT_BYTES))));
        let unknown = SigningKey::es256("other").unwrap().token(&claims).unwrap();
        let refused = oidc.authenticate(&unknown, now()).await;
        assert!(
            matches!(refused, Err(OidcError::KeysUnavailable)),
            "{refused:?}"
        );
        assert!(oidc.authenticate(&token, now()).await.is_ok());
    }
}

#[tokio::test]
async fn tokens_with_unknown_keys_cannot_have_keys_fetched_without_end() {
    let issuer = Issuer::start().await.unwrap();
    let key = SigningKey::es256("k").unwrap();
    issuer.publish(&[&key]).unwrap();
    let url = KeySource::parse(&issuer.keys_url()).unwrap();
    let oidc = Oidc::new(config(issuer.url(), Some(url))).unwrap();
    let started = Instant::now();
    let tries: usize = 50;
    for number in 0..tries {
        let header = json!({ "alg": "ES256", "kid": format!("unknown {number}") });
        let token = key.token_with(&header, &claims()).unwrap();
        let found = problem(oidc.authenticate(&token, now()).await);
        assert_eq!(found, TokenError::UnknownKey);
    }
    let periods = started.elapsed().as_secs() / limits::OIDC_FETCH_PAUSE.as_secs() + 1;
    let allowed = usize::try_from(u64::from(limits::OIDC_LOOKS.get()) + periods).unwrap();
    assert!(issuer.asked() <= allowed, "{} of {allowed}", issuer.asked());
    // With 50 tries in 10 s for each one that is allowed it would say nothing.
    assert!(allowed < tries, "{allowed}");
}

#[test]
fn issuer_without_a_url_needs_a_place_for_its_keys() {
    let error = Oidc::new(config("our-issuer", None)).unwrap_err();
    assert!(error.to_string().contains("--oidc-jwks"), "{error}");
    let error = Oidc::new(config("http://id.example", None)).unwrap_err();
    assert!(error.to_string().contains("https://"), "{error}");
    let file = Some(KeySource::File("keys.json".into()));
    assert!(Oidc::new(config("our-issuer", file)).is_ok());
}
