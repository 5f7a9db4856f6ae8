//! Harness authorizations: one row for each connect bundle.
//!
//! A bundle has two parts that are used once each, in this order: its URL opens one websocket, its
//! authorization text lets one handshake pass.

use relay_proto::ids::{EnvironmentId, RegistrationId};
use relay_proto::keys::{PublicKey, SUITE};
use sqlx::Row as _;

use super::{Store, StoreError, TokenId};
use crate::clock::Timestamp;
use crate::limits;
use crate::secret::{self, Issued, Kind, Presented};

/// The parts of a new bundle that are secret or random.
pub(crate) struct Bundle {
    /// Names the bundle in its URL.
    pub(crate) url_nonce: String,
    /// Single-use text for the handshake.
    pub(crate) authorization: String,
}

/// For whom a harness's socket is: one key, by the right of one token.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct HarnessOwner {
    /// The token that asked for the bundle; absent in development mode.
    pub(crate) token: Option<TokenId>,
    /// Stands for the harness's key.
    pub(crate) key_hash: [u8; secret::HASH_BYTES],
}

/// What using a bundle's URL did.
#[derive(Debug)]
pub(crate) enum UrlUse {
    /// It was good, and is used up now. Who may use the socket hangs on.
    Accepted(HarnessOwner),
    /// Unknown, used before, or expired.
    Refused,
}

impl Store {
    /// Makes a bundle for one connection of the harness with `harness_key`.
    pub(crate) async fn create_bundle(
        &self,
        environment: &EnvironmentId,
        registration: &RegistrationId,
        harness_key: &PublicKey,
        token: Option<&TokenId>,
        now: Timestamp,
    ) -> Result<Bundle, StoreError> {
        let issued = Issued::new(Kind::Authorization)?;
        let url_nonce = format!("{}{}", secret::random_hex()?, secret::random_hex()?);
        let limit = limits::OUTSTANDING_AUTHORIZATIONS;
        // One statement, so that the limit holds without a transaction.
        let inserted = sqlx::query(
            "INSERT INTO authorizations (id, hash, url_nonce, environment_id, registration_id,
                                         harness_key_hash, token_id, expires_at)
             SELECT ?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8
             WHERE (SELECT COUNT(*) FROM authorizations
                    WHERE environment_id = ?4 AND expires_at > ?9 AND used_at IS NULL) < ?10",
        )
        .bind(&issued.id)
        .bind(&issued.hash[..])
        .bind(&url_nonce)
        .bind(environment.as_str())
        .bind(registration.as_str())
        .bind(&key_hash(harness_key)[..])
        .bind(token.map(TokenId::as_str))
        .bind(now.after(limits::AUTHORIZATION_TTL).as_unix_seconds())
        .bind(now.as_unix_seconds())
        .bind(limit)
        .execute(&self.pool)
        .await?
        .rows_affected();
        if inserted == 0 {
            return Err(StoreError::TooManyAuthorizations { limit });
        }
        Ok(Bundle {
            url_nonce,
            authorization: issued.text,
        })
    }

    /// Uses the URL of a bundle up.
    pub(crate) async fn use_bundle_url(
        &self,
        url_nonce: &str,
        environment: &EnvironmentId,
        registration: &RegistrationId,
        now: Timestamp,
    ) -> Result<UrlUse, StoreError> {
        let row = sqlx::query(
            "UPDATE authorizations SET url_used_at = ?4
             WHERE url_nonce = ?1 AND environment_id = ?2 AND registration_id = ?3
               AND url_used_at IS NULL AND expires_at > ?4
             RETURNING token_id, harness_key_hash",
        )
        .bind(url_nonce)
        .bind(environment.as_str())
        .bind(registration.as_str())
        .bind(now.as_unix_seconds())
        .fetch_optional(&self.pool)
        .await?;
        let Some(row) = row else {
            return Ok(UrlUse::Refused);
        };
        let token = row
            .try_get::<Option<String>, _>("token_id")?
            .map(TokenId::from);
        let key_hash: Vec<u8> = row.try_get("harness_key_hash")?;
        let key_hash = key_hash.try_into().map_err(|_| StoreError::Corrupt {
            what: "key hash of an authorization",
        })?;
        Ok(UrlUse::Accepted(HarnessOwner { token, key_hash }))
    }

    /// Uses an authorization text up. True only if it was issued for exactly this environment,
    /// registration and key, has not expired, and was not used before.
    ///
    /// A text that fails because of its binding is not used up: whoever presents it for another key
    /// must not be able to spoil it.
    pub(crate) async fn use_authorization(
        &self,
        text: &str,
        environment: &EnvironmentId,
        registration: &RegistrationId,
        harness_key: &PublicKey,
        now: Timestamp,
    ) -> Result<bool, StoreError> {
        let Some(presented) = Presented::parse(Kind::Authorization, text) else {
            return Ok(false);
        };
        let Some(row) = sqlx::query("SELECT hash, token_id FROM authorizations WHERE id = ?1")
            .bind(presented.id)
            .fetch_optional(&self.pool)
            .await?
        else {
            return Ok(false);
        };
        let hash: Vec<u8> = row.try_get("hash")?;
        let token = row
            .try_get::<Option<String>, _>("token_id")?
            .map(TokenId::from);
        if !presented.matches(&hash) || !self.is_token_valid(token.as_ref(), now).await? {
            return Ok(false);
        }
        let used = sqlx::query(
            "UPDATE authorizations SET used_at = ?5
             WHERE id = ?1 AND environment_id = ?2 AND registration_id = ?3
               AND harness_key_hash = ?4 AND used_at IS NULL AND expires_at > ?5",
        )
        .bind(presented.id)
        .bind(environment.as_str())
        .bind(registration.as_str())
        .bind(&key_hash(harness_key)[..])
        .bind(now.as_unix_seconds())
        .execute(&self.pool)
        .await?
        .rows_affected();
        Ok(used == 1)
    }

    /// Removes authorizations that expired.
    pub(crate) async fn prune(&self, now: Timestamp) -> Result<u64, StoreError> {
        Ok(
            sqlx::query("DELETE FROM authorizations WHERE expires_at <= ?1")
                .bind(now.as_unix_seconds())
                .execute(&self.pool)
                .await?
                .rows_affected(),
        )
    }
}

/// Stands for all three members of a public key. The suite has only one value.
pub(super) fn key_hash(key: &PublicKey) -> [u8; secret::HASH_BYTES] {
    secret::sha256_of_parts(&[SUITE.as_bytes(), key.x25519(), key.mlkem768()])
}
