//! What the server remembers: tokens, registrations, authorizations, the audit log and the signing
//! key, in SQLite.
//!
//! Several processes may open one data directory at a time: a running server, and the `token`
//! commands that change its tokens. Nothing is cached, so a change counts from the next query on.
//! Not responsible for who may do what, nor for live sockets.

mod audit;
mod authorizations;
mod oidc_tokens;
mod registrations;
mod tokens;

use std::fs::{DirBuilder, OpenOptions, Permissions};
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};
use std::time::Duration;

use sqlx::sqlite::{
    SqliteConnectOptions, SqliteJournalMode, SqlitePool, SqlitePoolOptions, SqliteSynchronous,
};

pub use audit::{Action, AuditEntry, AuditFilter, AuditRecord};
pub(crate) use authorizations::{HarnessOwner, UrlUse};
pub use oidc_tokens::OidcTokenRecord;
pub(crate) use registrations::{Lookup, Registration};
pub use tokens::{CreatedToken, NewToken, RevokeOutcome, TokenId, TokenRecord};

use crate::secret;

/// The database. Cheap to clone; clones share their connections.
#[derive(Clone, Debug)]
pub struct Store {
    pool: SqlitePool,
}

impl Store {
    /// Opens the database in `directory`, and creates both when they are missing.
    ///
    /// A directory that is created gets mode 0700, files get mode 0600.
    ///
    /// # Errors
    ///
    /// [`StoreError`] if the directory or the database cannot be used.
    pub async fn open(directory: &Path) -> Result<Self, StoreError> {
        create_private_directory(directory).map_err(StoreError::Directory)?;
        let file = directory.join(DATABASE_FILE);
        create_private_file(&file).map_err(StoreError::File)?;
        // SQLite gives its side files the mode of the main one.
        let options = SqliteConnectOptions::new()
            .filename(file)
            .journal_mode(SqliteJournalMode::Wal)
            .synchronous(SqliteSynchronous::Normal)
            .busy_timeout(Duration::from_secs(5))
            .foreign_keys(true);
        let pool = pool_options().max_connections(CONNECTIONS);
        Self::migrated(pool.connect_with(options).await?).await
    }

    /// Opens an empty database that is gone with the last clone.
    ///
    /// # Errors
    ///
    /// [`StoreError`] if SQLite fails.
    pub async fn in_memory() -> Result<Self, StoreError> {
        let options = SqliteConnectOptions::new()
            .in_memory(true)
            .foreign_keys(true);
        // The database lives as long as its one connection.
        let pool = pool_options()
            .min_connections(1)
            .max_connections(1)
            .idle_timeout(None)
            .max_lifetime(None);
        Self::migrated(pool.connect_with(options).await?).await
    }

    /// The key of the rendezvous URLs; made on first use.
    ///
    /// # Errors
    ///
    /// [`StoreError`] if the database or the random number source fails.
    pub(crate) async fn signing_secret(&self) -> Result<[u8; 32], StoreError> {
        let fresh = secret::random_bytes()?;
        sqlx::query("INSERT OR IGNORE INTO signing_keys (id, secret) VALUES (1, ?1)")
            .bind(&fresh[..])
            .execute(&self.pool)
            .await?;
        let kept: Vec<u8> = sqlx::query_scalar("SELECT secret FROM signing_keys WHERE id = 1")
            .fetch_one(&self.pool)
            .await?;
        kept.try_into().map_err(|_| StoreError::Corrupt {
            what: "signing key",
        })
    }

    /// Whether the database answers.
    pub(crate) async fn is_ready(&self) -> bool {
        sqlx::query("SELECT 1").execute(&self.pool).await.is_ok()
    }

    /// Whether nobody waits for the database: its answers come from threads of its own.
    pub fn is_idle(&self) -> bool {
        usize::try_from(self.pool.size()).is_ok_and(|size| size == self.pool.num_idle())
    }

    /// Closes all connections.
    pub async fn close(&self) {
        self.pool.close().await;
    }

    async fn migrated(pool: SqlitePool) -> Result<Self, StoreError> {
        sqlx::migrate!("./migrations").run(&pool).await?;
        Ok(Self { pool })
    }
}

/// A connection to a file cannot be lost, so none is asked before each use whether it is still there:
/// that would double the ways to its thread and back.
fn pool_options() -> SqlitePoolOptions {
    SqlitePoolOptions::new().test_before_acquire(false)
}

/// Why the store failed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StoreError {
    /// The data directory cannot be used.
    #[error("cannot use the data directory")]
    Directory(#[source] io::Error),
    /// The database file cannot be used.
    #[error("cannot use the database file")]
    File(#[source] io::Error),
    /// The database failed.
    #[error("database failed")]
    Database(#[from] sqlx::Error),
    /// The database could not be brought to this version's form.
    #[error("database cannot be migrated")]
    Migration(#[from] sqlx::migrate::MigrateError),
    /// No random numbers.
    #[error("random number source failed")]
    Random(#[from] getrandom::Error),
    /// A row holds what was never written.
    #[error("{what} in the database is damaged")]
    Corrupt {
        /// What is damaged.
        what: &'static str,
    },
    /// The limit on environments.
    #[error("limit of {limit} environments reached")]
    TooManyEnvironments {
        /// The limit.
        limit: i64,
    },
    /// The limit on outstanding authorizations.
    #[error("limit of {limit} outstanding authorizations of the environment reached")]
    TooManyAuthorizations {
        /// The limit.
        limit: i64,
    },
}

/// An exclusive claim to a data directory, held by a running server.
///
/// Two servers on one directory would each route for half of the sockets. The claim ends with the
/// process, however that ends.
#[derive(Debug)]
pub(crate) struct DirectoryClaim {
    file: std::fs::File,
}

impl DirectoryClaim {
    /// The claim that another process has shared. It is held until both have let go of it.
    pub(crate) fn inherited(descriptor: OwnedFd) -> Self {
        Self {
            file: descriptor.into(),
        }
    }

    /// A second descriptor of the claim, to be shared with another process.
    pub(crate) fn share(&self) -> io::Result<OwnedFd> {
        Ok(self.file.try_clone()?.into())
    }

    /// Claims `directory`; `None` if another process holds it.
    pub(crate) fn take(directory: &Path) -> io::Result<Option<Self>> {
        create_private_directory(directory)?;
        let file = private_options().open(directory.join(LOCK_FILE))?;
        match file.try_lock() {
            Ok(()) => Ok(Some(Self { file })),
            Err(std::fs::TryLockError::WouldBlock) => Ok(None),
            Err(std::fs::TryLockError::Error(error)) => Err(error),
        }
    }
}

/// Where the database of `directory` is.
pub(crate) fn database_file(directory: &Path) -> PathBuf {
    directory.join(DATABASE_FILE)
}

fn create_private_directory(directory: &Path) -> io::Result<()> {
    if directory.is_dir() {
        return Ok(());
    }
    if let Some(parent) = directory.parent() {
        std::fs::create_dir_all(parent)?;
    }
    match DirBuilder::new().mode(0o700).create(directory) {
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists && directory.is_dir() => Ok(()),
        result => result,
    }
}

fn create_private_file(path: &Path) -> io::Result<()> {
    let file = private_options().open(path)?;
    if file.metadata()?.permissions().mode() & 0o077 != 0 {
        file.set_permissions(Permissions::from_mode(0o600))?;
    }
    Ok(())
}

fn private_options() -> OpenOptions {
    let mut options = OpenOptions::new();
    options
        .read(true)
        .write(true)
        .create(true)
        .truncate(false)
        .mode(0o600);
    options
}

const DATABASE_FILE: &str = "exec-cloud.db";
const LOCK_FILE: &str = "serve.lock";

/// SQLite writes one at a time; a few connections let readers pass.
const CONNECTIONS: u32 = 4;

#[cfg(test)]
mod tests;
