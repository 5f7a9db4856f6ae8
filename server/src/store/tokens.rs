//! Bearer tokens: only their hashes are kept. Revocation and validity are those of all tokens, the ones
//! of an identity provider included.

use std::collections::HashSet;
use std::fmt;

use relay_proto::ids::EnvironmentId;
use sqlx::Row as _;
use sqlx::sqlite::SqliteRow;

use super::{Store, StoreError};
use crate::auth::Role;
use crate::clock::Timestamp;
use crate::secret::{Issued, Kind, Presented};

/// Public name of a token; not a secret.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct TokenId(String);

impl TokenId {
    /// The id as it is shown.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl From<String> for TokenId {
    fn from(text: String) -> Self {
        Self(text)
    }
}

impl fmt::Display for TokenId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// What a new token is to be good for.
#[derive(Clone, Debug)]
pub struct NewToken {
    /// What its bearer may do.
    pub role: Role,
    /// The only environment it is good for; all if absent.
    pub environment: Option<EnvironmentId>,
    /// A name for people.
    pub label: Option<String>,
    /// When it stops working; never if absent.
    pub expires_at: Option<Timestamp>,
}

/// A token as it is kept.
#[derive(Clone, Debug)]
pub struct TokenRecord {
    /// Public name.
    pub id: TokenId,
    /// What its bearer may do.
    pub role: Role,
    /// The only environment it is good for; all if absent.
    pub environment: Option<EnvironmentId>,
    /// A name for people.
    pub label: Option<String>,
    /// When it was made.
    pub created_at: Timestamp,
    /// When it stops working; never if absent.
    pub expires_at: Option<Timestamp>,
    /// When it was revoked.
    pub revoked_at: Option<Timestamp>,
}

impl TokenRecord {
    /// Whether it works at `now`.
    pub fn is_valid(&self, now: Timestamp) -> bool {
        self.revoked_at.is_none() && self.expires_at.is_none_or(|expiry| now < expiry)
    }
}

/// A token just made, with its text.
pub struct CreatedToken {
    /// What is kept.
    pub record: TokenRecord,
    /// The secret; it cannot be shown again.
    pub text: String,
}

impl fmt::Debug for CreatedToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("CreatedToken")
            .field("record", &self.record)
            .finish_non_exhaustive()
    }
}

/// What revoking did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RevokeOutcome {
    /// The token no longer works.
    Revoked,
    /// It had been revoked before.
    AlreadyRevoked,
    /// There is no such token.
    Unknown,
}

impl Store {
    /// Makes a token.
    ///
    /// # Errors
    ///
    /// [`StoreError`] if the database or the random number source fails.
    pub async fn create_token(
        &self,
        new: NewToken,
        now: Timestamp,
    ) -> Result<CreatedToken, StoreError> {
        let issued = Issued::new(Kind::Token)?;
        sqlx::query(
            "INSERT INTO tokens (id, hash, role, environment_id, label, created_at, expires_at)
             VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7)",
        )
        .bind(&issued.id)
        .bind(&issued.hash[..])
        .bind(new.role.as_str())
        .bind(new.environment.as_ref().map(EnvironmentId::as_str))
        .bind(new.label.as_deref())
        .bind(now.as_unix_seconds())
        .bind(new.expires_at.map(Timestamp::as_unix_seconds))
        .execute(&self.pool)
        .await?;
        Ok(CreatedToken {
            record: TokenRecord {
                id: TokenId(issued.id),
                role: new.role,
                environment: new.environment,
                label: new.label,
                created_at: now,
                expires_at: new.expires_at,
                revoked_at: None,
            },
            text: issued.text,
        })
    }

    /// All tokens, the oldest first, revoked and expired ones included.
    ///
    /// # Errors
    ///
    /// [`StoreError`] if the database fails.
    pub async fn tokens(&self) -> Result<Vec<TokenRecord>, StoreError> {
        sqlx::query("SELECT * FROM tokens ORDER BY created_at, id")
            .fetch_all(&self.pool)
            .await?
            .iter()
            .map(record)
            .collect()
    }

    /// Revokes a token for good.
    ///
    /// # Errors
    ///
    /// [`StoreError`] if the database fails.
    pub async fn revoke_token(
        &self,
        id: &TokenId,
        now: Timestamp,
    ) -> Result<RevokeOutcome, StoreError> {
        for statement in [
            "UPDATE tokens SET revoked_at = ?2 WHERE id = ?1 AND revoked_at IS NULL",
            "UPDATE oidc_tokens SET revoked_at = ?2 WHERE id = ?1 AND revoked_at IS NULL",
        ] {
            let revoked = sqlx::query(statement)
                .bind(id.as_str())
                .bind(now.as_unix_seconds())
                .execute(&self.pool)
                .await?
                .rows_affected();
            if revoked > 0 {
                return Ok(RevokeOutcome::Revoked);
            }
        }
        let known: i64 = sqlx::query_scalar(
            "SELECT (SELECT COUNT(*) FROM tokens WHERE id = ?1)
                  + (SELECT COUNT(*) FROM oidc_tokens WHERE id = ?1)",
        )
        .bind(id.as_str())
        .fetch_one(&self.pool)
        .await?;
        Ok(if known > 0 {
            RevokeOutcome::AlreadyRevoked
        } else {
            RevokeOutcome::Unknown
        })
    }

    /// Finds the token with this text, whether it is still valid or not.
    pub(crate) async fn find_token(&self, text: &str) -> Result<Option<TokenRecord>, StoreError> {
        let Some(presented) = Presented::parse(Kind::Token, text) else {
            return Ok(None);
        };
        let Some(row) = sqlx::query("SELECT * FROM tokens WHERE id = ?1")
            .bind(presented.id)
            .fetch_optional(&self.pool)
            .await?
        else {
            return Ok(None);
        };
        let hash: Vec<u8> = row.try_get("hash")?;
        if presented.matches(&hash) {
            record(&row).map(Some)
        } else {
            Ok(None)
        }
    }

    /// Of `ids`, those that are valid at `now`.
    pub(crate) async fn valid_tokens(
        &self,
        ids: &HashSet<TokenId>,
        now: Timestamp,
    ) -> Result<HashSet<TokenId>, StoreError> {
        // Ids are hexadecimal, or at least came out of the database: JSON carries them unchanged.
        let list = serde_json::Value::from_iter(ids.iter().map(TokenId::as_str)).to_string();
        let valid: Vec<String> = sqlx::query_scalar(
            "SELECT id FROM tokens
             WHERE id IN (SELECT value FROM json_each(?1))
               AND revoked_at IS NULL AND (expires_at IS NULL OR expires_at > ?2)
             UNION ALL
             SELECT id FROM oidc_tokens
             WHERE id IN (SELECT value FROM json_each(?1))
               AND revoked_at IS NULL AND expires_at > ?2",
        )
        .bind(list)
        .bind(now.as_unix_seconds())
        .fetch_all(&self.pool)
        .await?;
        Ok(valid.into_iter().map(TokenId).collect())
    }

    /// Whether a token was revoked, as opposed to expired.
    pub(crate) async fn is_token_revoked(&self, id: &TokenId) -> Result<bool, StoreError> {
        let found: i64 = sqlx::query_scalar(
            "SELECT (SELECT COUNT(*) FROM tokens WHERE id = ?1 AND revoked_at IS NOT NULL)
                  + (SELECT COUNT(*) FROM oidc_tokens WHERE id = ?1 AND revoked_at IS NOT NULL)",
        )
        .bind(id.as_str())
        .fetch_one(&self.pool)
        .await?;
        Ok(found > 0)
    }

    /// Whether the token that something hangs on is valid at `now`. Development mode has none.
    pub(crate) async fn is_token_valid(
        &self,
        id: Option<&TokenId>,
        now: Timestamp,
    ) -> Result<bool, StoreError> {
        let Some(id) = id else { return Ok(true) };
        let ids = HashSet::from([id.clone()]);
        Ok(!self.valid_tokens(&ids, now).await?.is_empty())
    }
}

fn record(row: &SqliteRow) -> Result<TokenRecord, StoreError> {
    let role: String = row.try_get("role")?;
    let environment: Option<String> = row.try_get("environment_id")?;
    let seconds = |column| -> Result<_, StoreError> {
        Ok(row
            .try_get::<Option<i64>, _>(column)?
            .map(Timestamp::from_unix_seconds))
    };
    Ok(TokenRecord {
        id: TokenId(row.try_get("id")?),
        role: Role::parse(&role).ok_or(StoreError::Corrupt {
            what: "role of a token",
        })?,
        environment: environment
            .map(EnvironmentId::new)
            .transpose()
            .map_err(|_| StoreError::Corrupt {
                what: "environment of a token",
            })?,
        label: row.try_get("label")?,
        created_at: Timestamp::from_unix_seconds(row.try_get("created_at")?),
        expires_at: seconds("expires_at")?,
        revoked_at: seconds("revoked_at")?,
    })
}
