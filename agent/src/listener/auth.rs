//! Authentication of websocket peers: `--ws-auth` and its flags.
//!
//! Responsible for checking the flags at start and the `Authorization` header at each upgrade.
//! A token in the query is never looked at, because queries end up in logs.

use std::{
    fmt,
    path::PathBuf,
    time::{Duration, SystemTime},
};

use aws_lc_rs::{constant_time::verify_slices_are_equal, digest};
use http::{HeaderMap, header};

use super::{
    jwt::{JwtError, Verifier},
    secret::SecretFile,
};

/// The value of `--ws-auth`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum AuthMode {
    /// One fixed token.
    CapabilityToken,
    /// A JSON web token signed with a shared secret (HS256).
    SignedBearerToken,
}

impl settings::Value for AuthMode {
    fn parse(text: &str) -> Result<Self, String> {
        settings::value::parse_choice(text)
    }

    fn show(&self) -> String {
        settings::value::show_choice(self)
    }
}

/// The `--ws-*` flags as given, before they are checked.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct AuthOptions {
    /// `--ws-auth`
    pub mode: Option<AuthMode>,
    /// `--ws-token-file`
    pub token_file: Option<PathBuf>,
    /// `--ws-token-sha256`
    pub token_sha256: Option<String>,
    /// `--ws-shared-secret-file`
    pub shared_secret_file: Option<PathBuf>,
    /// `--ws-issuer`
    pub issuer: Option<String>,
    /// `--ws-audience`
    pub audience: Option<String>,
    /// `--ws-max-clock-skew-seconds`
    pub max_clock_skew_secs: Option<u64>,
}

/// How the listener tells its peers from others. Holds secrets; `Debug` shows the mode only.
pub struct WebSocketAuth(Check);

enum Check {
    /// Digest of the one token. Comparing digests makes the comparison independent of the
    /// lengths, and the token itself need not be kept.
    CapabilityToken(Digest),
    /// The same, of a token in a file.
    CapabilityTokenFile(SecretFile<Digest>),
    SignedBearerToken(SecretFile<Verifier>),
}

type Digest = [u8; DIGEST_BYTES];

/// Why an upgrade was refused. The text goes to the peer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(super) enum Refusal {
    #[error("missing websocket bearer token")]
    Missing,
    #[error("invalid authorization header")]
    Malformed,
    #[error("invalid websocket bearer token")]
    Token,
    #[error(transparent)]
    Jwt(#[from] JwtError),
}

impl AuthOptions {
    /// Whether any flag was given.
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }

    /// Checks the flags against each other and reads the files.
    ///
    /// # Errors
    ///
    /// All problems at once, one line each.
    pub fn resolve(self) -> Result<Option<WebSocketAuth>, Vec<String>> {
        match self.mode {
            None if self.is_empty() => Ok(None),
            None => Err(vec![NO_MODE.to_owned()]),
            Some(AuthMode::CapabilityToken) => self.capability_token().map(Some),
            Some(AuthMode::SignedBearerToken) => self.signed_bearer_token().map(Some),
        }
    }

    fn capability_token(self) -> Result<WebSocketAuth, Vec<String>> {
        let mut problems = Vec::new();
        for (given, flag) in [
            (self.shared_secret_file.is_some(), "--ws-shared-secret-file"),
            (self.issuer.is_some(), "--ws-issuer"),
            (self.audience.is_some(), "--ws-audience"),
            (
                self.max_clock_skew_secs.is_some(),
                "--ws-max-clock-skew-seconds",
            ),
        ] {
            if given {
                problems.push(format!("`{flag}` requires `--ws-auth signed-bearer-token`"));
            }
        }
        let check = match (self.token_file, self.token_sha256) {
            (Some(_), Some(_)) => Err(BOTH_TOKENS.to_owned()),
            (None, None) => Err(NO_TOKEN.to_owned()),
            (None, Some(hex)) => parse_digest(&hex).map(Check::CapabilityToken),
            (Some(path), None) => SecretFile::open("--ws-token-file", path, |token| {
                if token.is_empty() {
                    return Err("`--ws-token-file` names an empty file".to_owned());
                }
                Ok(sha256(token))
            })
            .map(Check::CapabilityTokenFile),
        };
        match check {
            Ok(check) if problems.is_empty() => Ok(WebSocketAuth(check)),
            Ok(_) => Err(problems),
            Err(problem) => {
                problems.push(problem);
                Err(problems)
            }
        }
    }

    fn signed_bearer_token(self) -> Result<WebSocketAuth, Vec<String>> {
        let mut problems = Vec::new();
        for (given, flag) in [
            (self.token_file.is_some(), "--ws-token-file"),
            (self.token_sha256.is_some(), "--ws-token-sha256"),
        ] {
            if given {
                problems.push(format!("`{flag}` requires `--ws-auth capability-token`"));
            }
        }
        let skew = self
            .max_clock_skew_secs
            .map_or(DEFAULT_CLOCK_SKEW, Duration::from_secs);
        let (issuer, audience) = (self.issuer, self.audience);
        let verifier = match self.shared_secret_file {
            None => Err(NO_SECRET.to_owned()),
            Some(path) => SecretFile::open("--ws-shared-secret-file", path, move |secret| {
                if secret.len() < MIN_SECRET_BYTES {
                    return Err(format!(
                        "`--ws-shared-secret-file` holds {} bytes; at least {MIN_SECRET_BYTES} are required",
                        secret.len()
                    ));
                }
                let (issuer, audience) = (issuer.clone(), audience.clone());
                Ok(Verifier::new(secret, issuer, audience, skew))
            }),
        };
        match verifier {
            Ok(verifier) if problems.is_empty() => {
                Ok(WebSocketAuth(Check::SignedBearerToken(verifier)))
            }
            Ok(_) => Err(problems),
            Err(problem) => {
                problems.push(problem);
                Err(problems)
            }
        }
    }
}

impl WebSocketAuth {
    /// Accepts the `Authorization` header of an upgrade request.
    pub(super) fn check(&self, headers: &HeaderMap, now: SystemTime) -> Result<(), Refusal> {
        let token = bearer(headers)?;
        let compare = |expected: &Digest| {
            verify_slices_are_equal(&sha256(token.as_bytes()), expected).map_err(|_| Refusal::Token)
        };
        match &self.0 {
            Check::CapabilityToken(expected) => compare(expected),
            Check::CapabilityTokenFile(file) => compare(&file.current()),
            Check::SignedBearerToken(file) => Ok(file.current().check(token, now)?),
        }
    }
}

impl fmt::Debug for WebSocketAuth {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self.0 {
            Check::CapabilityToken(_) | Check::CapabilityTokenFile(_) => {
                "WebSocketAuth(capability token)"
            }
            Check::SignedBearerToken(_) => "WebSocketAuth(signed bearer token)",
        })
    }
}

/// The token of the one `Authorization: Bearer` header.
fn bearer(headers: &HeaderMap) -> Result<&str, Refusal> {
    let mut values = headers.get_all(header::AUTHORIZATION).iter();
    let value = values.next().ok_or(Refusal::Missing)?;
    if values.next().is_some() {
        return Err(Refusal::Malformed);
    }
    let (scheme, token) = value
        .to_str()
        .ok()
        .and_then(|value| value.split_once(' '))
        .ok_or(Refusal::Malformed)?;
    if !scheme.eq_ignore_ascii_case("bearer") {
        return Err(Refusal::Malformed);
    }
    match token.trim() {
        "" => Err(Refusal::Missing),
        token => Ok(token),
    }
}

fn parse_digest(hex: &str) -> Result<Digest, String> {
    let problem = || {
        format!(
            "`--ws-token-sha256` must be {} hexadecimal digits",
            2 * DIGEST_BYTES
        )
    };
    if hex.len() != 2 * DIGEST_BYTES || !hex.bytes().all(|byte| byte.is_ascii_hexdigit()) {
        return Err(problem());
    }
    let mut digest = [0; DIGEST_BYTES];
    for (byte, pair) in digest.iter_mut().zip(hex.as_bytes().chunks_exact(2)) {
        let pair = str::from_utf8(pair).map_err(|_| problem())?;
        *byte = u8::from_str_radix(pair, 16).map_err(|_| problem())?;
    }
    Ok(digest)
}

fn sha256(data: &[u8]) -> Digest {
    let mut digest = [0; DIGEST_BYTES];
    digest.copy_from_slice(digest::digest(&digest::SHA256, data).as_ref());
    digest
}

const DIGEST_BYTES: usize = digest::SHA256_OUTPUT_LEN;
/// As long as the output of the hash, so that guessing the key is no easier than forging a tag.
const MIN_SECRET_BYTES: usize = 32;
const DEFAULT_CLOCK_SKEW: Duration = Duration::from_secs(30);

const NO_MODE: &str =
    "websocket auth flags require `--ws-auth capability-token` or `--ws-auth signed-bearer-token`";
const NO_TOKEN: &str =
    "`--ws-token-file` or `--ws-token-sha256` is required when `--ws-auth capability-token` is set";
const BOTH_TOKENS: &str = "`--ws-token-file` and `--ws-token-sha256` are mutually exclusive";
const NO_SECRET: &str =
    "`--ws-shared-secret-file` is required when `--ws-auth signed-bearer-token` is set";

#[cfg(test)]
#[path = "auth/tests.rs"]
mod tests;
