//! The audit log: who did what, when, from where. Never payloads, secrets or keys.
//!
//! Records are only ever added; the database itself refuses to change them, and to remove them before
//! they are old. What is written here has happened, or was refused.

use std::net::IpAddr;

use relay_proto::ids::{EnvironmentId, RegistrationId};
use sqlx::Row as _;
use sqlx::sqlite::SqliteRow;

use super::{Store, StoreError, TokenId};
use crate::clock::Timestamp;
use crate::limits;

/// What was done, or tried.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Action {
    /// An executor announced itself.
    Register,
    /// A harness asked for a bundle.
    Connect,
    /// An executor asked about a harness key.
    Validate,
    /// A websocket was asked for.
    Rendezvous,
    /// The server closed the sockets of a token that no longer works.
    Cut,
    /// A token was made.
    CreateToken,
    /// A token was revoked.
    RevokeToken,
}

impl Action {
    /// The name in the database and in lists.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Register => "register",
            Self::Connect => "connect",
            Self::Validate => "validate",
            Self::Rendezvous => "rendezvous",
            Self::Cut => "cut",
            Self::CreateToken => "create_token",
            Self::RevokeToken => "revoke_token",
        }
    }
}

/// One thing that happened.
#[derive(Clone, Debug)]
pub struct AuditEntry<'a> {
    /// When.
    pub at: Timestamp,
    /// What.
    pub action: Action,
    /// `ok`, or the code of the refusal.
    pub outcome: &'static str,
    /// Whose token; absent when it is none of ours.
    pub token: Option<&'a TokenId>,
    /// Who it was, where the token does not say it.
    pub actor: Option<&'a str>,
    /// For which environment.
    pub environment: Option<&'a EnvironmentId>,
    /// By which registration.
    pub registration: Option<&'a RegistrationId>,
    /// From where; absent for a command on the data directory, and for what the server does by itself.
    pub peer: Option<IpAddr>,
}

/// One thing that happened, as it is kept.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AuditRecord {
    /// Its number, which grows.
    pub id: i64,
    /// When.
    pub at: Timestamp,
    /// What.
    pub action: String,
    /// `ok`, or the code of the refusal.
    pub outcome: String,
    /// Whose token.
    pub token: Option<String>,
    /// Who it was, where the token does not say it.
    pub actor: Option<String>,
    /// For which environment.
    pub environment: Option<String>,
    /// By which registration.
    pub registration: Option<String>,
    /// From where.
    pub peer: Option<String>,
}

/// Which records are wanted.
#[derive(Clone, Debug, Default)]
pub struct AuditFilter {
    /// Only those with a greater number.
    pub after: i64,
    /// Only those from then on.
    pub since: Option<Timestamp>,
    /// Only those of this environment.
    pub environment: Option<String>,
    /// Only those of this token.
    pub token: Option<String>,
    /// Only those of who is called so.
    pub actor: Option<String>,
    /// Only what was refused.
    pub refused: bool,
}

impl Store {
    /// Adds a record. Whose the token of an identity provider is it finds out by itself, if that is
    /// remembered.
    ///
    /// # Errors
    ///
    /// [`StoreError`] if the database fails.
    pub async fn record(&self, entry: AuditEntry<'_>) -> Result<(), StoreError> {
        sqlx::query(
            "INSERT INTO audit
                 (at, action, outcome, token_id, environment_id, registration_id, peer, actor)
             VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, COALESCE(
                 ?8, (SELECT issuer || ' ' || subject FROM oidc_tokens WHERE id = ?4)))",
        )
        .bind(entry.at.as_unix_seconds())
        .bind(entry.action.as_str())
        .bind(entry.outcome)
        .bind(entry.token.map(TokenId::as_str))
        .bind(entry.environment.map(EnvironmentId::as_str))
        .bind(entry.registration.map(RegistrationId::as_str))
        .bind(entry.peer.map(|peer| peer.to_canonical().to_string()))
        .bind(entry.actor)
        .execute(&self.pool)
        .await?;
        Ok(())
    }

    /// Records in the order of events, at most [`limits::AUDIT_PAGE`].
    ///
    /// # Errors
    ///
    /// [`StoreError`] if the database fails.
    pub async fn audit(&self, filter: &AuditFilter) -> Result<Vec<AuditRecord>, StoreError> {
        sqlx::query(
            "SELECT * FROM audit
             WHERE id > ?1 AND (?2 IS NULL OR at >= ?2)
               AND (?3 IS NULL OR environment_id = ?3) AND (?4 IS NULL OR token_id = ?4)
               AND (NOT ?5 OR outcome <> 'ok') AND (?6 IS NULL OR actor = ?6)
             ORDER BY id LIMIT ?7",
        )
        .bind(filter.after)
        .bind(filter.since.map(Timestamp::as_unix_seconds))
        .bind(filter.environment.as_deref())
        .bind(filter.token.as_deref())
        .bind(filter.refused)
        .bind(filter.actor.as_deref())
        .bind(limits::AUDIT_PAGE)
        .fetch_all(&self.pool)
        .await?
        .iter()
        .map(record)
        .collect()
    }

    /// Removes records that are older than they are kept. Returns how many.
    pub(crate) async fn prune_audit(&self, now: Timestamp) -> Result<u64, StoreError> {
        let oldest = now.before(limits::AUDIT_RETENTION);
        Ok(sqlx::query("DELETE FROM audit WHERE at < ?1")
            .bind(oldest.as_unix_seconds())
            .execute(&self.pool)
            .await?
            .rows_affected())
    }
}

fn record(row: &SqliteRow) -> Result<AuditRecord, StoreError> {
    Ok(AuditRecord {
        id: row.try_get("id")?,
        at: Timestamp::from_unix_seconds(row.try_get("at")?),
        action: row.try_get("action")?,
        outcome: row.try_get("outcome")?,
        token: row.try_get("token_id")?,
        actor: row.try_get("actor")?,
        environment: row.try_get("environment_id")?,
        registration: row.try_get("registration_id")?,
        peer: row.try_get("peer")?,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::{Clock as _, SystemClock};

    fn entry(at: Timestamp, outcome: &'static str) -> AuditEntry<'static> {
        AuditEntry {
            at,
            action: Action::Connect,
            outcome,
            token: None,
            actor: None,
            environment: None,
            registration: None,
            peer: Some(IpAddr::from([192, 0, 2, 1])),
        }
    }

    #[tokio::test]
    async fn records_are_neither_changed_nor_removed_before_their_time() {
        let store = Store::in_memory().await.unwrap();
        let now = SystemClock.now();
        let old = now.before(limits::AUDIT_RETENTION + std::time::Duration::from_secs(60));
        for at in [old, now] {
            store.record(entry(at, "ok")).await.unwrap();
        }
        for statement in [
            "UPDATE audit SET outcome = 'forged'",
            "DELETE FROM audit WHERE id = 2",
            "DELETE FROM audit",
            "INSERT OR REPLACE INTO audit (id, at, action, outcome) VALUES (2, 0, 'x', 'forged')",
        ] {
            let refused = sqlx::query(statement).execute(&store.pool).await;
            assert!(refused.is_err(), "{statement}");
        }
        assert_eq!(store.prune_audit(now).await.unwrap(), 1);
        let left = store.audit(&AuditFilter::default()).await.unwrap();
        assert_eq!(left.len(), 1);
        assert_eq!((left[0].id, left[0].at), (2, now));
        assert_eq!(left[0].peer.as_deref(), Some("192.0.2.1"));
    }

    #[tokio::test]
    async fn filters_choose_and_pages_follow_each_other() {
        let store = Store::in_memory().await.unwrap();
        let at = Timestamp::from_unix_seconds;
        let environment = EnvironmentId::new("env").unwrap();
        let token = TokenId::from("t".to_owned());
        store.record(entry(at(1), "invalid_token")).await.unwrap();
        store
            .record(AuditEntry {
                environment: Some(&environment),
                token: Some(&token),
                ..entry(at(2), "ok")
            })
            .await
            .unwrap();
        let ids = async |filter: AuditFilter| -> Vec<i64> {
            let found = store.audit(&filter).await.unwrap();
            found.iter().map(|record| record.id).collect()
        };
        let all = AuditFilter::default;
        assert_eq!(ids(all()).await, [1, 2]);
        assert_eq!(ids(AuditFilter { after: 1, ..all() }).await, [2]);
        let since = Some(at(2));
        assert_eq!(ids(AuditFilter { since, ..all() }).await, [2]);
        let environment = Some("env".to_owned());
        assert_eq!(
            ids(AuditFilter {
                environment,
                ..all()
            })
            .await,
            [2]
        );
        let token = Some("t".to_owned());
        assert_eq!(ids(AuditFilter { token, ..all() }).await, [2]);
        let refused = true;
        assert_eq!(ids(AuditFilter { refused, ..all() }).await, [1]);
    }
}
