//! Tokens of an identity provider that opened something: what hangs on them ends with them.
//!
//! Whether such a token is good is not decided here; see [`crate::oidc`].

use sqlx::Row as _;
use sqlx::sqlite::SqliteRow;

use super::{Store, StoreError, TokenId};
use crate::clock::Timestamp;
use crate::limits;

/// A token of an identity provider, as it is kept.
#[derive(Clone, Debug)]
pub struct OidcTokenRecord {
    /// Stands for the token.
    pub id: TokenId,
    /// Who issued it.
    pub issuer: String,
    /// Whom it is about.
    pub subject: String,
    /// When it stops working.
    pub expires_at: Timestamp,
    /// When it was revoked here.
    pub revoked_at: Option<Timestamp>,
}

impl Store {
    /// Remembers a token that is about to open something.
    pub(crate) async fn remember_oidc_token(
        &self,
        id: &TokenId,
        issuer: &str,
        subject: &str,
        expires_at: Timestamp,
    ) -> Result<(), StoreError> {
        sqlx::query(
            "INSERT OR IGNORE INTO oidc_tokens (id, issuer, subject, expires_at)
             VALUES (?1, ?2, ?3, ?4)",
        )
        .bind(id.as_str())
        .bind(issuer)
        .bind(subject)
        .bind(expires_at.as_unix_seconds())
        .execute(&self.pool)
        .await?;
        Ok(())
    }

    /// The tokens of identity providers that are remembered.
    ///
    /// # Errors
    ///
    /// [`StoreError`] if the database fails.
    pub async fn oidc_tokens(&self) -> Result<Vec<OidcTokenRecord>, StoreError> {
        sqlx::query("SELECT * FROM oidc_tokens ORDER BY expires_at, id")
            .fetch_all(&self.pool)
            .await?
            .iter()
            .map(record)
            .collect()
    }

    /// Forgets tokens that have long expired. Returns how many.
    pub(crate) async fn prune_oidc_tokens(&self, now: Timestamp) -> Result<u64, StoreError> {
        let oldest = now.before(limits::OIDC_TOKEN_RETENTION);
        let pruned = sqlx::query("DELETE FROM oidc_tokens WHERE expires_at < ?1")
            .bind(oldest.as_unix_seconds())
            .execute(&self.pool)
            .await?;
        Ok(pruned.rows_affected())
    }
}

fn record(row: &SqliteRow) -> Result<OidcTokenRecord, StoreError> {
    let revoked_at: Option<i64> = row.try_get("revoked_at")?;
    Ok(OidcTokenRecord {
        id: TokenId::from(row.try_get::<String, _>("id")?),
        issuer: row.try_get("issuer")?,
        subject: row.try_get("subject")?,
        expires_at: Timestamp::from_unix_seconds(row.try_get("expires_at")?),
        revoked_at: revoked_at.map(Timestamp::from_unix_seconds),
    })
}
