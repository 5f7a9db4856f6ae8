//! Signed rendezvous URLs: the capability to open one websocket.
//!
//! ```text
//! {base}/cloud-agent/default/ws/environment/{environment_id}
//!     ?role=environment|harness
//!     &version=1
//!     &expires={unix seconds}
//!     &executor_registration_id={id}
//!     &nonce={32 hex digits}            harness only: the URL is good for one websocket
//!     &sig={HMAC-SHA-256, base64url}
//! ```
//!
//! The signature covers the environment id and every parameter, each with its length, but not the
//! host and the base path, which proxies may change. Whether a registration is still the current one
//! and a nonce still unused is not decided here.

use std::fmt;

use aws_lc_rs::hmac;
use base64::prelude::{BASE64_URL_SAFE_NO_PAD, Engine as _};
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, percent_decode_str, utf8_percent_encode};
use registry_client::wire::RejectionReason;
use relay_proto::ids::{EnvironmentId, RegistrationId};
use url::Url;

use crate::clock::Timestamp;

/// Which end a websocket is for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Role {
    /// The executor; the URL may be used again after a disconnect.
    Executor,
    /// A harness; the nonce may be used once.
    Harness {
        /// Names the bundle.
        nonce: String,
    },
}

impl Role {
    fn as_str(&self) -> &'static str {
        match self {
            Self::Executor => "environment",
            Self::Harness { .. } => "harness",
        }
    }
}

/// What a URL allows.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Claims {
    /// For which end.
    pub(crate) role: Role,
    /// Of which environment.
    pub(crate) environment: EnvironmentId,
    /// Of which registration of it.
    pub(crate) registration: RegistrationId,
    /// Until when.
    pub(crate) expires_at: Timestamp,
}

/// Makes and checks signed URLs.
pub(crate) struct UrlSigner {
    key: hmac::Key,
}

impl fmt::Debug for UrlSigner {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("UrlSigner").finish_non_exhaustive()
    }
}

impl UrlSigner {
    /// A signer with this key.
    pub(crate) fn new(secret: &[u8; 32]) -> Self {
        Self {
            key: hmac::Key::new(hmac::HMAC_SHA256, secret),
        }
    }

    /// Returns the URL for `claims`: a secret.
    pub(crate) fn sign(&self, base: &PublicUrl, claims: &Claims) -> String {
        let tag = hmac::sign(&self.key, &signed_bytes(claims));
        let encode = |text: &str| utf8_percent_encode(text, ENCODED).to_string();
        let nonce = match &claims.role {
            Role::Executor => String::new(),
            Role::Harness { nonce } => format!("&nonce={}", encode(nonce)),
        };
        format!(
            "{}{ROUTE}{}?role={}&version={VERSION}&expires={}&executor_registration_id={}{nonce}&sig={}",
            base.websocket_base(),
            encode(claims.environment.as_str()),
            claims.role.as_str(),
            claims.expires_at.as_unix_seconds(),
            encode(claims.registration.as_str()),
            BASE64_URL_SAFE_NO_PAD.encode(tag),
        )
    }

    /// Checks the query of a URL for `environment`.
    ///
    /// # Errors
    ///
    /// The first thing that is wrong, in the order: form, role, version, expiry, registration id,
    /// signature, time.
    pub(crate) fn verify(
        &self,
        environment: &EnvironmentId,
        query: &str,
        now: Timestamp,
    ) -> Result<Claims, RejectionReason> {
        let query = Query::parse(query)?;
        let role = query.role.ok_or(RejectionReason::MissingRole)?;
        let role = match (role.as_str(), query.nonce) {
            ("environment", None) => Role::Executor,
            ("environment", Some(_)) => return Err(RejectionReason::ExtraQueryParam),
            // Without its nonce nothing of the URL is what was signed.
            ("harness", nonce) => Role::Harness {
                nonce: nonce.unwrap_or_default(),
            },
            _ => return Err(RejectionReason::InvalidRole),
        };
        let version = query.version.ok_or(RejectionReason::MissingVersion)?;
        let expires_at = query.expires.ok_or(RejectionReason::MissingExpiry)?;
        let expires_at = canonical_integer(&expires_at).ok_or(RejectionReason::InvalidExpiry)?;
        let registration = query
            .registration
            .ok_or(RejectionReason::MissingExecutorRegistrationId)?;
        // A blank id was never signed.
        let registration =
            RegistrationId::new(registration).map_err(|_| RejectionReason::InvalidSignature)?;
        let signature = query.signature.ok_or(RejectionReason::MissingSignature)?;
        let signature = BASE64_URL_SAFE_NO_PAD
            .decode(signature)
            .map_err(|_| RejectionReason::InvalidSignature)?;
        let expires_at = Timestamp::from_unix_seconds(expires_at);
        let claims = Claims {
            role,
            environment: environment.clone(),
            registration,
            expires_at,
        };
        // There is no reason of its own for an unknown version; its signature means nothing here.
        if version != VERSION {
            return Err(RejectionReason::InvalidSignature);
        }
        hmac::verify(&self.key, &signed_bytes(&claims), &signature)
            .map_err(|_| RejectionReason::InvalidSignature)?;
        if now >= claims.expires_at {
            return Err(RejectionReason::Expired);
        }
        Ok(claims)
    }
}

/// Where clients reach the server: scheme, host, and the path that a proxy may put in front.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PublicUrl {
    http_base: String,
    websocket_base: String,
}

impl PublicUrl {
    /// Checks and takes the text.
    ///
    /// # Errors
    ///
    /// What is wrong with it, if it is no `http` or `https` URL with a host and nothing behind its
    /// path, nor user information.
    pub fn parse(text: &str) -> Result<Self, &'static str> {
        let url = Url::parse(text.trim()).map_err(|_| "it is not a URL")?;
        let websocket_scheme = match url.scheme() {
            "http" => "ws",
            "https" => "wss",
            _ => return Err("its scheme is neither http nor https"),
        };
        if !url.username().is_empty() || url.password().is_some() {
            return Err("it holds a user name or password");
        }
        if url.query().is_some() || url.fragment().is_some() {
            return Err("it has a query or fragment");
        }
        let http_base = url.as_str().trim_end_matches('/').to_owned();
        let rest = http_base.split_once(':').map_or("", |(_, rest)| rest);
        Ok(Self {
            websocket_base: format!("{websocket_scheme}:{rest}"),
            http_base,
        })
    }

    /// The base URL of the registry, without a slash at its end.
    pub fn as_str(&self) -> &str {
        &self.http_base
    }

    fn websocket_base(&self) -> &str {
        &self.websocket_base
    }
}

impl fmt::Display for PublicUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.http_base)
    }
}

/// The parameters that there are, each at most once.
#[derive(Default)]
struct Query {
    role: Option<String>,
    version: Option<String>,
    expires: Option<String>,
    registration: Option<String>,
    nonce: Option<String>,
    signature: Option<String>,
}

impl Query {
    fn parse(text: &str) -> Result<Self, RejectionReason> {
        let mut query = Self::default();
        for pair in text.split('&').filter(|pair| !pair.is_empty()) {
            let (name, value) = pair
                .split_once('=')
                .ok_or(RejectionReason::MalformedQuery)?;
            let value = percent_decode_str(value)
                .decode_utf8()
                .map_err(|_| RejectionReason::MalformedQuery)?
                .into_owned();
            let place = match name {
                "role" => &mut query.role,
                "version" => &mut query.version,
                "expires" => &mut query.expires,
                "executor_registration_id" => &mut query.registration,
                "nonce" => &mut query.nonce,
                "sig" => &mut query.signature,
                _ => return Err(RejectionReason::ExtraQueryParam),
            };
            if place.replace(value).is_some() {
                return Err(RejectionReason::MalformedQuery);
            }
        }
        Ok(query)
    }
}

/// A number as it is written when it is signed: no sign, no leading zeros.
fn canonical_integer(text: &str) -> Option<i64> {
    let number: i64 = text.parse().ok()?;
    (number >= 0 && number.to_string() == text).then_some(number)
}

fn signed_bytes(claims: &Claims) -> Vec<u8> {
    let expires_at = claims.expires_at.as_unix_seconds().to_be_bytes();
    let nonce = match &claims.role {
        Role::Executor => "",
        Role::Harness { nonce } => nonce,
    };
    let parts: [&[u8]; 7] = [
        DOMAIN,
        VERSION.as_bytes(),
        claims.role.as_str().as_bytes(),
        claims.environment.as_str().as_bytes(),
        claims.registration.as_str().as_bytes(),
        &expires_at,
        nonce.as_bytes(),
    ];
    let mut bytes = Vec::with_capacity(256);
    for part in parts {
        // `usize` has at most 64 bits.
        bytes.extend_from_slice(&(part.len() as u64).to_be_bytes());
        bytes.extend_from_slice(part);
    }
    bytes
}

/// Path in front of the environment id, below the base URL.
pub(crate) const ROUTE: &str = "/cloud-agent/default/ws/environment/";

/// Keeps signatures of this use apart from any other use of the key.
const DOMAIN: &[u8] = b"exec-cloud rendezvous url";
const VERSION: &str = "1";

/// Everything but the unreserved characters of a URL.
const ENCODED: &AsciiSet = &NON_ALPHANUMERIC
    .remove(b'-')
    .remove(b'.')
    .remove(b'_')
    .remove(b'~');

#[cfg(test)]
mod tests;
