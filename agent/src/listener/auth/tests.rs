use std::io::Write as _;

use super::*;

const NOW: SystemTime = SystemTime::UNIX_EPOCH;

fn file(content: &str) -> tempfile::NamedTempFile {
    let mut file = tempfile::NamedTempFile::new().unwrap();
    file.write_all(content.as_bytes()).unwrap();
    file
}

fn path(file: &tempfile::NamedTempFile) -> Option<PathBuf> {
    Some(file.path().to_owned())
}

fn headers(values: &[&str]) -> HeaderMap {
    let mut headers = HeaderMap::new();
    for value in values {
        headers.append(header::AUTHORIZATION, value.parse().unwrap());
    }
    headers
}

fn capability(options: AuthOptions) -> WebSocketAuth {
    AuthOptions {
        mode: Some(AuthMode::CapabilityToken),
        ..options
    }
    .resolve()
    .unwrap()
    .unwrap()
}

#[test]
fn capability_token_table() {
    let token = file("s3cret\r\n");
    let auth = capability(AuthOptions {
        token_file: path(&token),
        ..AuthOptions::default()
    });
    for (values, expected) in [
        (&["Bearer s3cret"][..], Ok(())),
        (&["bEARER s3cret"], Ok(())),
        (&["Bearer  s3cret"], Ok(())),
        (&["Bearer S3cret"], Err(Refusal::Token)),
        (&["Bearer s3cre"], Err(Refusal::Token)),
        (&["Bearer s3cret2"], Err(Refusal::Token)),
        (&[], Err(Refusal::Missing)),
        (&["Bearer "], Err(Refusal::Missing)),
        (&["Bearer"], Err(Refusal::Malformed)),
        (&["Basic s3cret"], Err(Refusal::Malformed)),
        (&["s3cret"], Err(Refusal::Malformed)),
        (&["Bearer s3cret", "Bearer s3cret"], Err(Refusal::Malformed)),
    ] {
        assert_eq!(auth.check(&headers(values), NOW), expected, "{values:?}");
    }
}

#[test]
fn a_replaced_token_file_counts_at_once_and_a_broken_one_does_not() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("token");
    std::fs::write(&path, "first").unwrap();
    let auth = capability(AuthOptions {
        token_file: Some(path.clone()),
        ..AuthOptions::default()
    });
    let check = |token: &str| auth.check(&headers(&[&format!("Bearer {token}")]), NOW);
    assert_eq!(check("first"), Ok(()));
    std::fs::write(&path, "second").unwrap();
    assert_eq!(check("first"), Err(Refusal::Token));
    assert_eq!(check("second"), Ok(()));
    for broken in [Some(""), Some("  "), None] {
        match broken {
            Some(text) => std::fs::write(&path, text).unwrap(),
            None => std::fs::remove_file(&path).unwrap(),
        }
        assert_eq!(check("second"), Ok(()));
        assert_eq!(check(""), Err(Refusal::Missing));
    }
    std::fs::write(&path, "third").unwrap();
    assert_eq!(check("second"), Err(Refusal::Token));
    assert_eq!(check("third"), Ok(()));
}

#[test]
fn digest_of_the_token_works_in_any_case() {
    // printf 'correct horse' | sha256sum
    let hex = "4104d36f8da2c254349f85836793ebe029e0c957063a34c91c2e9203187b5631";
    for hex in [hex.to_owned(), hex.to_uppercase()] {
        let auth = capability(AuthOptions {
            token_sha256: Some(hex),
            ..AuthOptions::default()
        });
        assert_eq!(auth.check(&headers(&["Bearer correct horse"]), NOW), Ok(()));
        assert_eq!(
            auth.check(&headers(&["Bearer battery"]), NOW),
            Err(Refusal::Token)
        );
    }
}

#[test]
fn refusal_texts_are_those_of_the_reference() {
    assert_eq!(
        Refusal::Missing.to_string(),
        "missing websocket bearer token"
    );
    assert_eq!(Refusal::Token.to_string(), "invalid websocket bearer token");
    assert_eq!(
        Refusal::Malformed.to_string(),
        "invalid authorization header"
    );
    assert_eq!(
        Refusal::from(JwtError::Invalid).to_string(),
        "invalid websocket jwt"
    );
}

#[test]
fn startup_errors_name_the_flags() {
    let token = file("token");
    let short = file("short secret");
    let empty = file(" \n");
    let capability = AuthOptions {
        mode: Some(AuthMode::CapabilityToken),
        ..AuthOptions::default()
    };
    let signed = AuthOptions {
        mode: Some(AuthMode::SignedBearerToken),
        ..AuthOptions::default()
    };
    for (options, expected) in [
        (
            AuthOptions {
                issuer: Some("me".into()),
                ..AuthOptions::default()
            },
            vec![NO_MODE],
        ),
        (
            AuthOptions {
                token_file: path(&token),
                ..AuthOptions::default()
            },
            vec![NO_MODE],
        ),
        (capability.clone(), vec![NO_TOKEN]),
        (
            AuthOptions {
                token_file: path(&token),
                token_sha256: Some("0".repeat(64)),
                ..capability.clone()
            },
            vec![BOTH_TOKENS],
        ),
        (
            AuthOptions {
                token_sha256: Some("0".repeat(63)),
                ..capability.clone()
            },
            vec!["`--ws-token-sha256` must be 64 hexadecimal digits"],
        ),
        (
            AuthOptions {
                token_sha256: Some("é".repeat(32)),
                ..capability.clone()
            },
            vec!["`--ws-token-sha256` must be 64 hexadecimal digits"],
        ),
        (
            AuthOptions {
                token_file: path(&empty),
                ..capability.clone()
            },
            vec!["`--ws-token-file` names an empty file"],
        ),
        (
            AuthOptions {
                token_file: Some("/nonexistent/token".into()),
                ..capability.clone()
            },
            vec!["`--ws-token-file` cannot be read: entity not found"],
        ),
        (
            AuthOptions {
                audience: Some("x".into()),
                max_clock_skew_secs: Some(1),
                ..capability
            },
            vec![
                "`--ws-audience` requires `--ws-auth signed-bearer-token`",
                "`--ws-max-clock-skew-seconds` requires `--ws-auth signed-bearer-token`",
                NO_TOKEN,
            ],
        ),
        (signed.clone(), vec![NO_SECRET]),
        (
            AuthOptions {
                shared_secret_file: path(&short),
                ..signed.clone()
            },
            vec!["`--ws-shared-secret-file` holds 12 bytes; at least 32 are required"],
        ),
        (
            AuthOptions {
                token_file: path(&token),
                ..signed
            },
            vec![
                "`--ws-token-file` requires `--ws-auth capability-token`",
                NO_SECRET,
            ],
        ),
    ] {
        assert_eq!(
            options.clone().resolve().unwrap_err(),
            expected,
            "{options:?}"
        );
    }
}

#[test]
fn no_flags_mean_no_authentication() {
    assert!(AuthOptions::default().resolve().unwrap().is_none());
}

#[test]
fn signed_tokens_are_checked_with_the_trimmed_secret() {
    let secret = file("0123456789abcdef0123456789abcdef\n");
    let auth = AuthOptions {
        mode: Some(AuthMode::SignedBearerToken),
        shared_secret_file: path(&secret),
        ..AuthOptions::default()
    }
    .resolve()
    .unwrap()
    .unwrap();
    // {"alg":"HS256"} . {"exp":4102444800}, signed with the 32 bytes above.
    let signed = "eyJhbGciOiJIUzI1NiJ9.eyJleHAiOjQxMDI0NDQ4MDB9";
    let key = aws_lc_rs::hmac::Key::new(
        aws_lc_rs::hmac::HMAC_SHA256,
        b"0123456789abcdef0123456789abcdef",
    );
    let tag = aws_lc_rs::hmac::sign(&key, signed.as_bytes());
    let tag = base64::Engine::encode(
        &base64::engine::general_purpose::URL_SAFE_NO_PAD,
        tag.as_ref(),
    );
    assert_eq!(
        auth.check(&headers(&[&format!("Bearer {signed}.{tag}")]), NOW),
        Ok(())
    );
    assert_eq!(
        auth.check(&headers(&["Bearer nonsense"]), NOW),
        Err(Refusal::Jwt(JwtError::Invalid))
    );
}
