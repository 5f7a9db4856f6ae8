//! HS256 JSON web tokens (RFC 7515, RFC 7519), as much of them as the listener needs.
//!
//! One algorithm and one key, so there is nothing to negotiate: a token that names another
//! algorithm is refused before its signature is looked at. The signature covers the text
//! `header.claims` as received, so it is checked before the claims are parsed.

use std::time::{Duration, SystemTime};

use aws_lc_rs::hmac;
use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use serde::Deserialize;

/// Checks tokens against one shared secret. Holds key material, so it is not `Debug`.
pub(super) struct Verifier {
    key: hmac::Key,
    issuer: Option<String>,
    audience: Option<String>,
    max_clock_skew: Duration,
}

/// Why a token was refused. The text goes to the peer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(super) enum JwtError {
    #[error("invalid websocket jwt")]
    Invalid,
    #[error("expired websocket jwt")]
    Expired,
    #[error("websocket jwt is not valid yet")]
    NotYet,
    #[error("websocket jwt issuer mismatch")]
    Issuer,
    #[error("websocket jwt audience mismatch")]
    Audience,
}

#[derive(Deserialize)]
struct Header {
    alg: String,
    /// Extensions that a verifier must understand; none are.
    crit: Option<serde_json::Value>,
}

#[derive(Deserialize)]
struct Claims {
    exp: f64,
    nbf: Option<f64>,
    iss: Option<String>,
    aud: Option<Audience>,
}

#[derive(Deserialize)]
#[serde(untagged)]
enum Audience {
    One(String),
    Many(Vec<String>),
}

impl Audience {
    fn includes(&self, wanted: &str) -> bool {
        match self {
            Self::One(audience) => audience == wanted,
            Self::Many(audiences) => audiences.iter().any(|audience| audience == wanted),
        }
    }
}

impl Verifier {
    pub(super) fn new(
        secret: &[u8],
        issuer: Option<String>,
        audience: Option<String>,
        max_clock_skew: Duration,
    ) -> Self {
        Self {
            key: hmac::Key::new(hmac::HMAC_SHA256, secret),
            issuer,
            audience,
            max_clock_skew,
        }
    }

    /// Accepts a token that is signed with the secret and valid at `now`.
    pub(super) fn check(&self, token: &str, now: SystemTime) -> Result<(), JwtError> {
        let claims = self.verified_claims(token).ok_or(JwtError::Invalid)?;
        let now = now
            .duration_since(SystemTime::UNIX_EPOCH)
            .map_or(0.0, |since_epoch| since_epoch.as_secs_f64());
        let skew = self.max_clock_skew.as_secs_f64();
        // JSON has no NaN, so every comparison has an answer.
        if now > claims.exp + skew {
            return Err(JwtError::Expired);
        }
        if claims.nbf.is_some_and(|not_before| now + skew < not_before) {
            return Err(JwtError::NotYet);
        }
        if self.issuer.is_some() && claims.iss != self.issuer {
            return Err(JwtError::Issuer);
        }
        if let Some(wanted) = &self.audience
            && !claims.aud.is_some_and(|audience| audience.includes(wanted))
        {
            return Err(JwtError::Audience);
        }
        Ok(())
    }

    fn verified_claims(&self, token: &str) -> Option<Claims> {
        let (signed, signature) = token.rsplit_once('.')?;
        let (header, claims) = signed.split_once('.')?;
        let header: Header = serde_json::from_slice(&URL_SAFE_NO_PAD.decode(header).ok()?).ok()?;
        if header.alg != "HS256" || header.crit.is_some() {
            return None;
        }
        let signature = URL_SAFE_NO_PAD.decode(signature).ok()?;
        hmac::verify(&self.key, signed.as_bytes(), &signature).ok()?;
        serde_json::from_slice(&URL_SAFE_NO_PAD.decode(claims).ok()?).ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECRET: &[u8] = b"0123456789abcdef0123456789abcdef";
    const NOW: u64 = 1_795_000_000;

    fn token_with(key: &[u8], header: &str, claims: &str) -> String {
        let signed = format!(
            "{}.{}",
            URL_SAFE_NO_PAD.encode(header),
            URL_SAFE_NO_PAD.encode(claims)
        );
        let tag = hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, key), signed.as_bytes());
        format!("{signed}.{}", URL_SAFE_NO_PAD.encode(tag.as_ref()))
    }

    fn token(claims: &str) -> String {
        token_with(SECRET, r#"{"alg":"HS256","typ":"JWT"}"#, claims)
    }

    fn check(token: &str, issuer: Option<&str>, audience: Option<&str>) -> Result<(), JwtError> {
        Verifier::new(
            SECRET,
            issuer.map(str::to_owned),
            audience.map(str::to_owned),
            Duration::from_secs(30),
        )
        .check(token, SystemTime::UNIX_EPOCH + Duration::from_secs(NOW))
    }

    #[test]
    fn times_are_checked_with_the_skew() {
        for (claims, expected) in [
            (format!(r#"{{"exp":{}}}"#, NOW + 60), Ok(())),
            (format!(r#"{{"exp":{}}}"#, NOW - 20), Ok(())),
            (format!(r#"{{"exp":{}.5}}"#, NOW - 20), Ok(())),
            (
                format!(r#"{{"exp":{}}}"#, NOW - 100),
                Err(JwtError::Expired),
            ),
            (r#"{"exp":-1e300}"#.to_owned(), Err(JwtError::Expired)),
            (
                format!(r#"{{"exp":{},"nbf":{}}}"#, NOW + 900, NOW + 20),
                Ok(()),
            ),
            (
                format!(r#"{{"exp":{},"nbf":{}}}"#, NOW + 900, NOW + 200),
                Err(JwtError::NotYet),
            ),
            ("{}".to_owned(), Err(JwtError::Invalid)),
            (
                format!(r#"{{"exp":"{}"}}"#, NOW + 60),
                Err(JwtError::Invalid),
            ),
            (
                format!(r#"{{"exp":1,"exp":{}}}"#, NOW + 60),
                Err(JwtError::Invalid),
            ),
        ] {
            assert_eq!(check(&token(&claims), None, None), expected, "{claims}");
        }
    }

    #[test]
    fn issuer_and_audience_are_compared_when_asked_for() {
        let with = |more: &str| token(&format!(r#"{{"exp":{}{more}}}"#, NOW + 60));
        for (more, expected) in [
            (r#","iss":"me","aud":"it""#, Ok(())),
            (r#","iss":"me","aud":["other","it"]"#, Ok(())),
            (r#","iss":"you","aud":"it""#, Err(JwtError::Issuer)),
            (r#","aud":"it""#, Err(JwtError::Issuer)),
            (r#","iss":"me","aud":[]"#, Err(JwtError::Audience)),
            (r#","iss":"me""#, Err(JwtError::Audience)),
            (r#","iss":"me","aud":7"#, Err(JwtError::Invalid)),
        ] {
            assert_eq!(
                check(&with(more), Some("me"), Some("it")),
                expected,
                "{more}"
            );
        }
    }

    #[test]
    fn other_keys_algorithms_and_shapes_are_refused() {
        let claims = format!(r#"{{"exp":{}}}"#, NOW + 60);
        let unsigned = format!(
            "{}.{}.",
            URL_SAFE_NO_PAD.encode(r#"{"alg":"none"}"#),
            URL_SAFE_NO_PAD.encode(&claims)
        );
        for text in [
            token_with(
                b"another key, of thirty-two bytes",
                r#"{"alg":"HS256"}"#,
                &claims,
            ),
            token_with(SECRET, r#"{"alg":"HS512"}"#, &claims),
            token_with(SECRET, r#"{"alg":"none"}"#, &claims),
            token_with(SECRET, r#"{"alg":"HS256","crit":["x"]}"#, &claims),
            token_with(SECRET, r#"{}"#, &claims),
            unsigned,
            format!("{}=", token(&claims)),
            format!("{}.x", token(&claims)),
            String::new(),
            "..".to_owned(),
            "a.b.c".to_owned(),
        ] {
            assert_eq!(check(&text, None, None), Err(JwtError::Invalid), "{text}");
        }
    }
}
