//! Bearer tokens of an identity provider (OpenID Connect), beside the server's own.
//!
//! ```text
//! token     form and algorithm, signature, issuer, audience, times
//! keys      the provider's key set, and which key is for which token
//! keyring   the keys in use, read again in time
//! source    a file, a URL, or the provider's discovery document
//! rules     from claims to roles and environments
//! ```
//!
//! A token that opens something is remembered by a hash until it expires, so that what it has opened
//! ends with it, and so that it can be revoked here.
//! Not responsible for logins: how people and programs get their tokens is between them and the provider.

mod keyring;
mod keys;
mod rules;
mod source;
mod token;

use std::convert::Infallible;
use std::path::PathBuf;

use aws_lc_rs::digest;

use self::keyring::Keyring;
use self::keys::NoKey;
pub(crate) use self::rules::Pattern;
pub use self::rules::Rule;
use self::source::Source;
pub use self::source::{KeySource, SourceConfigError};
use self::token::{Expected, Unverified, Verified, short_id};
pub(crate) use self::token::{TokenError, looks_like_one};
use crate::auth::Grant;
use crate::clock::Timestamp;
use crate::store::TokenId;

/// Which tokens of which identity provider are taken, and what for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OidcConfig {
    /// What tokens have to say in `iss`, to the letter.
    pub issuer: String,
    /// What tokens have to say in `aud`: one of these. At least one.
    pub audiences: Vec<String>,
    /// Where the keys are. If absent, where the issuer's discovery document says.
    pub keys: Option<KeySource>,
    /// What bearers may do. At least one.
    pub rules: Vec<Rule>,
    /// Authorities (PEM) that are trusted besides the usual ones when keys are fetched.
    pub ca_file: Option<PathBuf>,
}

/// Checks tokens.
#[derive(Debug)]
pub(crate) struct Oidc {
    expected: Expected,
    rules: Vec<Rule>,
    keyring: Keyring,
}

/// The bearer of a good token.
#[derive(Clone, Debug)]
pub(crate) struct Identity {
    /// Stands for the token.
    pub(crate) id: TokenId,
    /// Stands for issuer and subject, whichever token they use.
    pub(crate) account: TokenId,
    pub(crate) issuer: String,
    pub(crate) subject: String,
    /// When the token stops working.
    pub(crate) expires_at: Timestamp,
    /// What the rules give.
    pub(crate) grants: Vec<Grant>,
}

/// Why a token is not taken.
#[derive(Debug)]
pub(crate) enum OidcError {
    /// There are no keys yet, or newer ones cannot be had.
    KeysUnavailable,
    /// There is something wrong with it.
    Token {
        /// What.
        error: TokenError,
        /// Whose it is, if its signature is good.
        bearer: Option<Bearer>,
    },
}

/// Whom a token is about.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Bearer {
    /// Stands for the token.
    pub(crate) token: TokenId,
    /// Issuer and subject.
    pub(crate) actor: String,
}

impl Identity {
    /// Whom the token is about.
    pub(crate) fn bearer(&self) -> Bearer {
        Bearer {
            token: self.id.clone(),
            actor: actor(&self.issuer, &self.subject),
        }
    }
}

impl Oidc {
    /// Nothing is fetched yet.
    pub(crate) fn new(config: OidcConfig) -> Result<Self, SourceConfigError> {
        let source = Source::new(&config.issuer, config.keys, config.ca_file.as_deref())?;
        Ok(Self {
            keyring: Keyring::new(source, config.issuer.clone()),
            expected: Expected {
                issuer: config.issuer,
                audiences: config.audiences,
            },
            rules: config.rules,
        })
    }

    /// Keeps the keys fresh for ever.
    pub(crate) async fn run(&self) -> Infallible {
        self.keyring.run().await
    }

    /// How many keys there are.
    pub(crate) fn key_count(&self) -> usize {
        self.keyring.current().map_or(0, |keys| keys.len())
    }

    /// Finds out whose token this is, and what its bearer may do. Waits for newer keys, for a bounded
    /// time, if the token needs them.
    pub(crate) async fn authenticate(
        &self,
        text: &str,
        now: Timestamp,
    ) -> Result<Identity, OidcError> {
        let unverified = Unverified::parse(text)?;
        let verified = self.verify(&unverified).await?;
        if let Err(error) = verified.check_times(now) {
            return Err(OidcError::Token {
                error,
                bearer: Some(Bearer {
                    actor: actor(&self.expected.issuer, &verified.subject),
                    token: verified.id,
                }),
            });
        }
        let issuer = self.expected.issuer.clone();
        Ok(Identity {
            account: account(&issuer, &verified.subject),
            grants: rules::grants(&self.rules, &verified.claims),
            id: verified.id,
            issuer,
            subject: verified.subject,
            expires_at: verified.expires_at,
        })
    }

    async fn verify(&self, token: &Unverified<'_>) -> Result<Verified, OidcError> {
        let mut looked_again = false;
        loop {
            let keys = self.keyring.current();
            let id = token.key_id.as_deref();
            let found = keys.as_ref().map(|keys| keys.find(id, token.algorithm));
            match found {
                Some(Ok(key)) => return Ok(token.verify(key, &self.expected)?),
                None | Some(Err(NoKey::Unknown)) if !looked_again => {
                    looked_again = true;
                    self.keyring.look_again().await;
                }
                None => return Err(OidcError::KeysUnavailable),
                Some(Err(NoKey::Unknown)) if self.keyring.is_failing() => {
                    return Err(OidcError::KeysUnavailable);
                }
                Some(Err(reason)) => return Err(TokenError::from(reason).into()),
            }
        }
    }
}

impl From<TokenError> for OidcError {
    fn from(error: TokenError) -> Self {
        Self::Token {
            error,
            bearer: None,
        }
    }
}

/// How somebody is called in the audit log.
fn actor(issuer: &str, subject: &str) -> String {
    format!("{issuer} {subject}")
}

fn account(issuer: &str, subject: &str) -> TokenId {
    let mut context = digest::Context::new(&digest::SHA256);
    // A line break can be in neither.
    for part in [issuer, "\n", subject] {
        context.update(part.as_bytes());
    }
    short_id("account_", context.finish().as_ref())
}

#[cfg(test)]
mod tests;
