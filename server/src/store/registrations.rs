//! Environments and their current registrations.

use relay_proto::ids::{EnvironmentId, RegistrationId};
use relay_proto::keys::PublicKey;
use sqlx::Row as _;
use sqlx::sqlite::SqliteRow;

use super::{Store, StoreError, TokenId};
use crate::clock::Timestamp;
use crate::{limits, secret};

/// The current registration of an environment.
#[derive(Clone, Debug)]
pub(crate) struct Registration {
    /// Grows with every registration of any environment.
    pub(crate) ordinal: i64,
    /// Its name on the wire.
    pub(crate) id: RegistrationId,
    /// The executor's public key.
    pub(crate) executor_key: PublicKey,
    /// The token that registered; absent in development mode.
    pub(crate) token: Option<TokenId>,
}

/// What is known about an environment.
#[derive(Debug)]
pub(crate) enum Lookup {
    /// No executor ever registered for it.
    UnknownEnvironment,
    /// Its current registration.
    Registered(Box<Registration>),
}

impl Lookup {
    /// The registration, if there is one.
    pub(crate) fn registered(self) -> Option<Registration> {
        match self {
            Self::Registered(registration) => Some(*registration),
            Self::UnknownEnvironment => None,
        }
    }
}

impl Store {
    /// Makes a new registration and the current one of `environment`, which is created if needed.
    pub(crate) async fn register(
        &self,
        environment: &EnvironmentId,
        executor_key: &PublicKey,
        token: Option<&TokenId>,
        now: Timestamp,
    ) -> Result<Registration, StoreError> {
        let id = format!("reg_{}{}", secret::random_hex()?, secret::random_hex()?);
        // Taking the write lock first avoids a failed upgrade of a read lock.
        let mut transaction = self.pool.begin_with("BEGIN IMMEDIATE").await?;
        let known: i64 = sqlx::query_scalar("SELECT COUNT(*) FROM environments WHERE id = ?1")
            .bind(environment.as_str())
            .fetch_one(&mut *transaction)
            .await?;
        if known == 0 {
            let count: i64 = sqlx::query_scalar("SELECT COUNT(*) FROM environments")
                .fetch_one(&mut *transaction)
                .await?;
            if count >= limits::ENVIRONMENTS {
                return Err(StoreError::TooManyEnvironments {
                    limit: limits::ENVIRONMENTS,
                });
            }
            sqlx::query("INSERT INTO environments (id, created_at) VALUES (?1, ?2)")
                .bind(environment.as_str())
                .bind(now.as_unix_seconds())
                .execute(&mut *transaction)
                .await?;
        }
        sqlx::query("DELETE FROM registrations WHERE environment_id = ?1")
            .bind(environment.as_str())
            .execute(&mut *transaction)
            .await?;
        let ordinal = sqlx::query(
            "INSERT INTO registrations
                 (id, environment_id, x25519_public_key, mlkem768_public_key, token_id, created_at)
             VALUES (?1, ?2, ?3, ?4, ?5, ?6)",
        )
        .bind(&id)
        .bind(environment.as_str())
        .bind(&executor_key.x25519()[..])
        .bind(&executor_key.mlkem768()[..])
        .bind(token.map(TokenId::as_str))
        .bind(now.as_unix_seconds())
        .execute(&mut *transaction)
        .await?
        .last_insert_rowid();
        transaction.commit().await?;
        Ok(Registration {
            ordinal,
            id: registration_id(id)?,
            executor_key: executor_key.clone(),
            token: token.cloned(),
        })
    }

    /// Looks an environment up.
    pub(crate) async fn environment(
        &self,
        environment: &EnvironmentId,
    ) -> Result<Lookup, StoreError> {
        sqlx::query("SELECT * FROM registrations WHERE environment_id = ?1")
            .bind(environment.as_str())
            .fetch_optional(&self.pool)
            .await?
            .map_or(Ok(Lookup::UnknownEnvironment), |row| {
                Ok(Lookup::Registered(Box::new(registration(&row)?)))
            })
    }
}

fn registration(row: &SqliteRow) -> Result<Registration, StoreError> {
    let x25519: Vec<u8> = row.try_get("x25519_public_key")?;
    let mlkem768: Vec<u8> = row.try_get("mlkem768_public_key")?;
    Ok(Registration {
        ordinal: row.try_get("ordinal")?,
        id: registration_id(row.try_get("id")?)?,
        executor_key: PublicKey::from_parts(&x25519, &mlkem768).map_err(|_| {
            StoreError::Corrupt {
                what: "public key of a registration",
            }
        })?,
        token: row
            .try_get::<Option<String>, _>("token_id")?
            .map(TokenId::from),
    })
}

fn registration_id(text: String) -> Result<RegistrationId, StoreError> {
    RegistrationId::new(text).map_err(|_| StoreError::Corrupt {
        what: "id of a registration",
    })
}
