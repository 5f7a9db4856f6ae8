use super::*;

const NOW: Timestamp = Timestamp::from_unix_seconds(1_000);

fn signer() -> UrlSigner {
    UrlSigner::new(&[7; 32])
}

fn environment() -> EnvironmentId {
    EnvironmentId::new("env ä1").unwrap()
}

fn executor() -> Claims {
    Claims {
        role: Role::Executor,
        environment: environment(),
        registration: RegistrationId::new("reg_1").unwrap(),
        expires_at: Timestamp::from_unix_seconds(2_000),
    }
}

fn harness() -> Claims {
    Claims {
        role: Role::Harness {
            nonce: "abc123".to_owned(),
        },
        ..executor()
    }
}

fn sign(claims: &Claims) -> Url {
    let base = PublicUrl::parse("https://exec.example/base/").unwrap();
    Url::parse(&signer().sign(&base, claims)).unwrap()
}

fn verify(query: &str) -> Result<Claims, RejectionReason> {
    signer().verify(&environment(), query, NOW)
}

/// The query of an executor's or a harness's URL, changed by `change`.
fn changed(claims: &Claims, change: impl Fn(&mut Vec<(String, String)>)) -> String {
    let mut pairs: Vec<(String, String)> = sign(claims)
        .query_pairs()
        .map(|(name, value)| (name.into(), value.into()))
        .collect();
    change(&mut pairs);
    pairs
        .iter()
        .map(|(name, value)| format!("{name}={value}"))
        .collect::<Vec<_>>()
        .join("&")
}

fn without(claims: &Claims, name: &str) -> String {
    changed(claims, |pairs| pairs.retain(|(known, _)| known != name))
}

fn with(claims: &Claims, name: &str, value: &str) -> String {
    changed(claims, |pairs| {
        for (known, old) in pairs.iter_mut() {
            if known == name {
                value.clone_into(old);
            }
        }
    })
}

#[test]
fn url_has_the_form_of_the_reference_below_the_public_base() {
    let url = sign(&executor());
    assert_eq!(url.scheme(), "wss");
    assert_eq!(
        url.path(),
        "/base/cloud-agent/default/ws/environment/env%20%C3%A41"
    );
    assert!(url.query().unwrap().starts_with("role=environment&"));
    assert!(
        sign(&harness())
            .query()
            .unwrap()
            .starts_with("role=harness&")
    );
}

#[test]
fn signed_url_is_accepted_with_what_was_signed() {
    for claims in [executor(), harness()] {
        assert_eq!(verify(sign(&claims).query().unwrap()), Ok(claims));
    }
}

#[test]
fn order_of_the_parameters_does_not_matter() {
    let reversed = changed(&harness(), |pairs| pairs.reverse());
    assert_eq!(verify(&reversed), Ok(harness()));
}

#[test]
fn each_missing_parameter_has_its_reason() {
    for (name, reason) in [
        ("role", RejectionReason::MissingRole),
        ("version", RejectionReason::MissingVersion),
        ("expires", RejectionReason::MissingExpiry),
        (
            "executor_registration_id",
            RejectionReason::MissingExecutorRegistrationId,
        ),
        ("sig", RejectionReason::MissingSignature),
    ] {
        for claims in [executor(), harness()] {
            assert_eq!(verify(&without(&claims, name)), Err(reason), "{name}");
        }
    }
    assert_eq!(verify(""), Err(RejectionReason::MissingRole));
    assert_eq!(
        verify(&without(&harness(), "nonce")),
        Err(RejectionReason::InvalidSignature)
    );
}

#[test]
fn each_altered_parameter_has_its_reason() {
    let signature = |claims: &Claims| {
        sign(claims)
            .query_pairs()
            .find(|(name, _)| name == "sig")
            .unwrap()
            .1
            .into_owned()
    };
    let own = signature(&executor());
    let flipped = format!(
        "{}{}",
        if own.starts_with('A') { 'B' } else { 'A' },
        &own[1..]
    );
    for (name, value, reason) in [
        ("role", "owner", RejectionReason::InvalidRole),
        ("role", "", RejectionReason::InvalidRole),
        ("role", "harness", RejectionReason::InvalidSignature),
        ("version", "2", RejectionReason::InvalidSignature),
        ("expires", "soon", RejectionReason::InvalidExpiry),
        ("expires", "-1", RejectionReason::InvalidExpiry),
        ("expires", "+2000", RejectionReason::InvalidExpiry),
        ("expires", "02000", RejectionReason::InvalidExpiry),
        (
            "expires",
            "99999999999999999999",
            RejectionReason::InvalidExpiry,
        ),
        ("expires", "2001", RejectionReason::InvalidSignature),
        (
            "executor_registration_id",
            "reg_2",
            RejectionReason::InvalidSignature,
        ),
        (
            "executor_registration_id",
            "",
            RejectionReason::InvalidSignature,
        ),
        ("sig", "", RejectionReason::InvalidSignature),
        ("sig", "!!", RejectionReason::InvalidSignature),
        ("sig", &own[1..], RejectionReason::InvalidSignature),
        ("sig", &flipped, RejectionReason::InvalidSignature),
        (
            "sig",
            &signature(&harness()),
            RejectionReason::InvalidSignature,
        ),
    ] {
        assert_eq!(
            verify(&with(&executor(), name, value)),
            Err(reason),
            "{name}={value}"
        );
    }
    assert_eq!(
        verify(&with(&harness(), "nonce", "abc124")),
        Err(RejectionReason::InvalidSignature)
    );
}

#[test]
fn url_of_another_environment_or_server_is_refused() {
    let query = sign(&executor());
    let query = query.query().unwrap();
    let other = EnvironmentId::new("env2").unwrap();
    assert_eq!(
        signer().verify(&other, query, NOW),
        Err(RejectionReason::InvalidSignature)
    );
    let stranger = UrlSigner::new(&[8; 32]);
    assert_eq!(
        stranger.verify(&environment(), query, NOW),
        Err(RejectionReason::InvalidSignature)
    );
}

#[test]
fn expired_url_is_refused_from_its_last_second_on() {
    let query = sign(&executor());
    let query = query.query().unwrap();
    let at =
        |seconds| signer().verify(&environment(), query, Timestamp::from_unix_seconds(seconds));
    assert!(at(1_999).is_ok());
    assert_eq!(at(2_000), Err(RejectionReason::Expired));
    // A forged URL does not even learn that it would be too late.
    let forged = with(&executor(), "expires", "999");
    assert_eq!(verify(&forged), Err(RejectionReason::InvalidSignature));
}

#[test]
fn extra_and_malformed_parameters_have_their_reasons() {
    let good = sign(&executor());
    let good = good.query().unwrap();
    for (query, reason) in [
        (format!("{good}&x=1"), RejectionReason::ExtraQueryParam),
        (format!("{good}&nonce=1"), RejectionReason::ExtraQueryParam),
        (
            format!("{good}&Role=harness"),
            RejectionReason::ExtraQueryParam,
        ),
        (
            format!("{good}&role=environment"),
            RejectionReason::MalformedQuery,
        ),
        (format!("{good}&role"), RejectionReason::MalformedQuery),
        ("role=%ff".to_owned(), RejectionReason::MalformedQuery),
    ] {
        assert_eq!(verify(&query), Err(reason), "{query}");
    }
}

#[test]
fn signed_bytes_separate_their_parts() {
    let one = Claims {
        environment: EnvironmentId::new("ab").unwrap(),
        registration: RegistrationId::new("c").unwrap(),
        ..executor()
    };
    let two = Claims {
        environment: EnvironmentId::new("a").unwrap(),
        registration: RegistrationId::new("bc").unwrap(),
        ..executor()
    };
    assert_ne!(signed_bytes(&one), signed_bytes(&two));
}

#[test]
fn public_url_keeps_its_path_and_refuses_what_is_no_base() {
    for (text, http, websocket) in [
        (
            "http://127.0.0.1:7700",
            "http://127.0.0.1:7700",
            "ws://127.0.0.1:7700",
        ),
        (
            " https://Exec.Example/ ",
            "https://exec.example",
            "wss://exec.example",
        ),
        (
            "https://h:8443/a/b//",
            "https://h:8443/a/b",
            "wss://h:8443/a/b",
        ),
        ("http://[::1]:80/x", "http://[::1]/x", "ws://[::1]/x"),
    ] {
        let url = PublicUrl::parse(text).unwrap();
        assert_eq!((url.as_str(), url.websocket_base()), (http, websocket));
    }
    for text in [
        "",
        "exec.example",
        "ws://exec.example",
        "https://",
        "https://user@exec.example",
        "https://user:word@exec.example",
        "https://exec.example?x",
        "https://exec.example#x",
    ] {
        assert!(PublicUrl::parse(text).is_err(), "{text}");
    }
}

proptest::proptest! {
    #[test]
    fn any_query_is_answered_without_panic(query in ".{0,200}") {
        proptest::prop_assert!(verify(&query).is_err());
    }

    #[test]
    fn any_single_changed_byte_is_refused(position in 0..200_usize, byte in 0x21..0x7f_u8) {
        let url = sign(&harness());
        let mut query = url.query().unwrap().as_bytes().to_vec();
        let position = position % query.len();
        proptest::prop_assume!(query[position] != byte);
        query[position] = byte;
        proptest::prop_assert!(verify(&String::from_utf8(query).unwrap()).is_err());
    }
}
