//! One token: its form, its signature and the claims that every token has to have.
//!
//! The library checks the signature, `iss` and `aud`, and that what is required is there; times are
//! checked here, by the server's clock. Nothing of a token is believed before its signature is good,
//! except for which key it asks for.

use std::collections::HashSet;

use aws_lc_rs::digest;
use base64::prelude::{BASE64_URL_SAFE_NO_PAD, Engine as _};
use jsonwebtoken::errors::ErrorKind;
use jsonwebtoken::{Algorithm, DecodingKey, Validation};
use serde::Deserialize;
use serde_json::Value;

use super::keys::{self, NoKey};
use super::rules::Claims;
use crate::clock::Timestamp;
use crate::limits;
use crate::store::TokenId;

/// What tokens have to say.
#[derive(Clone, Debug)]
pub(super) struct Expected {
    pub(super) issuer: String,
    pub(super) audiences: Vec<String>,
}

/// A token whose signature is still to be checked. Holds a secret, so it is not `Debug`.
pub(super) struct Unverified<'a> {
    text: &'a str,
    /// The algorithm that it names, which is one that is taken.
    pub(super) algorithm: Algorithm,
    /// The key that it names.
    pub(super) key_id: Option<String>,
}

/// A token whose signature, issuer and audience are good.
#[derive(Clone, Debug)]
pub(super) struct Verified {
    /// Stands for the token.
    pub(super) id: TokenId,
    pub(super) subject: String,
    /// When it stops working.
    pub(super) expires_at: Timestamp,
    not_before: Option<Timestamp>,
    pub(super) claims: Claims,
}

/// Why a token is not taken. The text goes to the caller.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum TokenError {
    #[error("the bearer token is not a JSON web token")]
    Malformed,
    #[error("the bearer token is signed with an algorithm that is not taken")]
    Algorithm,
    #[error("the bearer token is signed with a key that the issuer does not publish")]
    UnknownKey,
    #[error("the bearer token does not say which of the issuer's keys it is signed with")]
    NoKeyId,
    #[error("the signature of the bearer token is wrong")]
    Signature,
    #[error("the bearer token is from another issuer")]
    Issuer,
    #[error("the bearer token is for another audience")]
    Audience,
    #[error("the bearer token has no usable claim `{claim}`")]
    Claim { claim: &'static str },
    #[error("the bearer token has expired")]
    Expired,
    #[error("the bearer token is not valid yet")]
    NotYet,
}

#[derive(Deserialize)]
struct Header {
    alg: String,
    kid: Option<String>,
    typ: Option<String>,
    /// Extensions that have to be understood; none are.
    crit: Option<Value>,
}

/// Whether a bearer token has the form of a JSON web token.
pub(crate) fn looks_like_one(text: &str) -> bool {
    // The header is a JSON object, whose first character is `{`.
    text.starts_with("ey") && text.bytes().filter(|byte| *byte == b'.').count() == 2
}

impl<'a> Unverified<'a> {
    pub(super) fn parse(text: &'a str) -> Result<Self, TokenError> {
        if text.len() > limits::OIDC_TOKEN_BYTES {
            return Err(TokenError::Malformed);
        }
        let (header, _) = text.split_once('.').ok_or(TokenError::Malformed)?;
        let header = BASE64_URL_SAFE_NO_PAD
            .decode(header)
            .map_err(|_| TokenError::Malformed)?;
        let header: Header = serde_json::from_slice(&header).map_err(|_| TokenError::Malformed)?;
        let algorithm = keys::algorithm(&header.alg).ok_or(TokenError::Algorithm)?;
        // Issuers sign other things with the same keys, such as notices of logouts.
        let is_token = |typ: &str| {
            let short = typ.strip_prefix("application/").unwrap_or(typ);
            short.eq_ignore_ascii_case("jwt") || short.eq_ignore_ascii_case("at+jwt")
        };
        if header.crit.is_some() || !header.typ.as_deref().is_none_or(is_token) {
            return Err(TokenError::Malformed);
        }
        Ok(Self {
            text,
            algorithm,
            key_id: header.kid,
        })
    }

    /// Checks everything but the times.
    pub(super) fn verify(
        &self,
        key: &DecodingKey,
        expected: &Expected,
    ) -> Result<Verified, TokenError> {
        let mut validation = Validation::new(self.algorithm);
        validation.required_spec_claims =
            HashSet::from(["exp", "iss", "aud", "sub"].map(str::to_owned));
        validation.set_issuer(&[&expected.issuer]);
        validation.set_audience(&expected.audiences);
        // By another clock, below.
        validation.validate_exp = false;
        validation.validate_nbf = false;
        let claims = jsonwebtoken::decode::<Claims>(self.text, key, &validation)
            .map_err(|error| TokenError::of(error.kind()))?
            .claims;
        let subject = claims
            .get("sub")
            .and_then(Value::as_str)
            .filter(|subject| is_name(subject))
            .ok_or(TokenError::Claim { claim: "sub" })?
            .to_owned();
        let expires_at = time(&claims, "exp")?.ok_or(TokenError::Claim { claim: "exp" })?;
        Ok(Verified {
            id: self.id(),
            subject,
            expires_at: expires_at.after(limits::OIDC_LEEWAY),
            not_before: time(&claims, "nbf")?.map(|time| time.before(limits::OIDC_LEEWAY)),
            claims,
        })
    }

    /// Stands for the token: a hash of what is signed, since signatures of one text can differ.
    fn id(&self) -> TokenId {
        let signed = self
            .text
            .rsplit_once('.')
            .map_or(self.text, |(signed, _)| signed);
        let digest = digest::digest(&digest::SHA256, signed.as_bytes());
        short_id("oidc_", digest.as_ref())
    }
}

impl Verified {
    /// Checks the times.
    pub(super) fn check_times(&self, now: Timestamp) -> Result<(), TokenError> {
        if now >= self.expires_at {
            return Err(TokenError::Expired);
        }
        if self.not_before.is_some_and(|time| now < time) {
            return Err(TokenError::NotYet);
        }
        Ok(())
    }
}

impl TokenError {
    fn of(kind: &ErrorKind) -> Self {
        match kind {
            ErrorKind::InvalidSignature => Self::Signature,
            ErrorKind::InvalidAlgorithm | ErrorKind::InvalidKeyFormat => Self::Algorithm,
            ErrorKind::InvalidIssuer => Self::Issuer,
            ErrorKind::InvalidAudience => Self::Audience,
            ErrorKind::MissingRequiredClaim(claim) => Self::Claim {
                claim: match claim.as_str() {
                    "exp" => "exp",
                    "iss" => "iss",
                    "aud" => "aud",
                    _ => "sub",
                },
            },
            _ => Self::Malformed,
        }
    }

    /// The code of the error body, and of the audit log.
    pub(crate) fn code(&self) -> &'static str {
        match self {
            Self::Malformed => "invalid_token",
            Self::Algorithm => "token_algorithm",
            Self::UnknownKey | Self::NoKeyId => "token_key",
            Self::Signature => "token_signature",
            Self::Issuer => "token_issuer",
            Self::Audience => "token_audience",
            Self::Claim { .. } => "token_claim",
            Self::Expired => "expired_token",
            Self::NotYet => "token_not_yet_valid",
        }
    }
}

impl From<NoKey> for TokenError {
    fn from(reason: NoKey) -> Self {
        match reason {
            NoKey::Unknown => Self::UnknownKey,
            NoKey::Algorithm => Self::Algorithm,
            NoKey::Ambiguous => Self::NoKeyId,
        }
    }
}

/// An id of 128 bits.
pub(super) fn short_id(prefix: &str, digest: &[u8]) -> TokenId {
    let hex = digest.iter().take(16).map(|byte| format!("{byte:02x}"));
    TokenId::from(format!("{prefix}{}", hex.collect::<String>()))
}

/// Whether a subject can stand in a log.
fn is_name(text: &str) -> bool {
    !text.is_empty()
        && text.len() <= limits::OIDC_SUBJECT_BYTES
        && !text.chars().any(char::is_control)
}

/// A claim that is a moment, in seconds and perhaps fractions of them.
fn time(claims: &Claims, claim: &'static str) -> Result<Option<Timestamp>, TokenError> {
    let Some(value) = claims.get(claim) else {
        return Ok(None);
    };
    let whole = value.as_i64().or_else(|| {
        let seconds = value.as_f64()?.floor();
        format!("{seconds:.0}").parse().ok()
    });
    whole
        .map(|seconds| Some(Timestamp::from_unix_seconds(seconds)))
        .ok_or(TokenError::Claim { claim })
}
