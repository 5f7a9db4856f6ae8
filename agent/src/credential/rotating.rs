//! Credentials that expire and are replaced: `--executor-credential-stdin`.
//!
//! Standard input carries one JSON object a line, from whoever started the executor:
//!
//! ```text
//! {"version": 1, "environment_id": "env1", "token": "...", "expires_at": 1795217091}
//! ```
//!
//! The first line has to come within 30 s. Each further one replaces the credential, which counts
//! from the next registry call on. The end of standard input ends the executor in an orderly way; a
//! line that is none of these ends it as well, as a failure: whoever writes there is mistaken about
//! what runs here. All of this and its texts are those of the reference.
//!
//! Not so what happens when a credential expires and no new one has come: calls wait for it a little
//! and then fail, as if the registry were away, and the executor keeps trying.

use std::{
    fmt,
    io::{self, BufRead, Read as _},
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use futures_util::future::BoxFuture;
use registry_client::{Credential, CredentialError, CredentialSource};
use relay_proto::ids::EnvironmentId;
use serde::Deserialize;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use zeroize::Zeroizing;

use crate::events;

/// What is wrong on standard input.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum RotationError {
    /// A line is not a credential.
    #[error("invalid exec-server executor credential frame")]
    Invalid,
    /// A line is too long.
    #[error("exec-server executor credential frame exceeds the size limit")]
    TooLong,
    /// A credential is for another environment.
    #[error("exec-server executor credential is for a different environment")]
    Environment,
    /// A credential has expired before it came.
    #[error("exec-server executor credential is expired")]
    Expired,
    /// Nothing came.
    #[error("timed out waiting for the initial exec-server executor credential")]
    TimedOut,
    /// Standard input ended before the first credential.
    #[error("exec-server executor credential pipe closed")]
    Closed,
    /// Standard input cannot be read.
    #[error("failed to read the exec-server executor credential pipe")]
    Read(#[from] io::Error),
}

/// The newest credential of standard input.
pub struct Rotating {
    newest: watch::Receiver<Option<Timed>>,
    failure: Arc<Mutex<Option<RotationError>>>,
}

/// A credential and the second of its end.
#[derive(Clone)]
struct Timed {
    credential: Credential,
    expires_at: i64,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Frame {
    version: u64,
    environment_id: String,
    token: String,
    expires_at: i64,
}

impl Rotating {
    /// Reads standard input from now on. Cancels `end` when it ends or something is wrong with it.
    ///
    /// # Errors
    ///
    /// When no thread can be started.
    pub fn start(environment: EnvironmentId, end: CancellationToken) -> io::Result<Self> {
        Self::read(|| io::stdin().lock(), environment, end)
    }

    /// A thread of its own: it may block for the life of the process, and ends with it.
    fn read<R: BufRead>(
        input: impl FnOnce() -> R + Send + 'static,
        environment: EnvironmentId,
        end: CancellationToken,
    ) -> io::Result<Self> {
        let (sender, newest) = watch::channel(None);
        let failure = Arc::new(Mutex::new(None));
        let reported = Arc::clone(&failure);
        std::thread::Builder::new()
            .name("stdin".to_owned())
            .spawn(move || {
                let error = follow(&mut input(), &environment, &sender).err();
                let failed = error.is_some();
                *reported.lock().unwrap_or_else(PoisonError::into_inner) = error;
                if sender.borrow().is_none() {
                    // Whoever waits for the first one hears of it by the end of the sender.
                    return;
                }
                events::stopping(match failed {
                    true => "unusable credential on standard input",
                    false => "standard input closed",
                });
                end.cancel();
            })?;
        Ok(Self { newest, failure })
    }

    /// Waits for the first credential.
    ///
    /// # Errors
    ///
    /// [`RotationError`] when it does not come, or is none.
    ///
    /// # Cancel safety
    ///
    /// Nothing is lost.
    pub async fn first(&self) -> Result<(), RotationError> {
        let mut newest = self.newest.clone();
        let come = newest.wait_for(Option::is_some);
        match tokio::time::timeout(FIRST_TIMEOUT, come).await {
            Err(_) => Err(RotationError::TimedOut),
            Ok(Ok(_)) => Ok(()),
            // The thread has ended.
            Ok(Err(_)) => Err(self.failure().unwrap_or(RotationError::Closed)),
        }
    }

    /// What was wrong on standard input, if that has ended the executor.
    pub fn failure(&self) -> Option<RotationError> {
        self.failure
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .take()
    }

    async fn valid(&self) -> Result<Credential, CredentialError> {
        let mut newest = self.newest.clone();
        let valid = newest.wait_for(|timed| {
            timed
                .as_ref()
                .is_some_and(|timed| timed.expires_at > unix_seconds())
        });
        match tokio::time::timeout(RENEWAL_TIMEOUT, valid).await {
            Ok(Ok(timed)) => timed.as_ref().map(|timed| timed.credential.clone()),
            Ok(Err(_)) | Err(_) => None,
        }
        .ok_or(CredentialError::Unavailable {
            reason: "it has expired, and no new one has come on standard input",
        })
    }
}

impl CredentialSource for Rotating {
    fn credential(&self) -> BoxFuture<'_, Result<Credential, CredentialError>> {
        Box::pin(self.valid())
    }
}

impl fmt::Debug for Rotating {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Rotating")
    }
}

/// Reads credentials until the end of `input`.
fn follow(
    input: &mut impl BufRead,
    environment: &EnvironmentId,
    newest: &watch::Sender<Option<Timed>>,
) -> Result<(), RotationError> {
    while let Some(line) = next_line(input)? {
        let timed = accept(&line, environment, unix_seconds())?;
        let first = newest.send_replace(Some(timed)).is_none();
        events::executor_credential(first);
    }
    match newest.borrow().is_some() {
        true => Ok(()),
        false => Err(RotationError::Closed),
    }
}

/// The next complete line, without its end.
fn next_line(input: &mut impl BufRead) -> Result<Option<Zeroizing<Vec<u8>>>, RotationError> {
    let mut line = Zeroizing::new(Vec::with_capacity(MAX_LINE_BYTES));
    let limit = u64::try_from(MAX_LINE_BYTES).unwrap_or(u64::MAX);
    input.by_ref().take(limit).read_until(b'\n', &mut line)?;
    if line.last() != Some(&b'\n') {
        return match line.len() == MAX_LINE_BYTES {
            true => Err(RotationError::TooLong),
            // What is incomplete when its writer goes away was not meant to be used.
            false => Ok(None),
        };
    }
    line.pop();
    if line.last() == Some(&b'\r') {
        line.pop();
    }
    Ok(Some(line))
}

fn accept(line: &[u8], environment: &EnvironmentId, now: i64) -> Result<Timed, RotationError> {
    // What the parser would say may quote the line.
    let frame: Frame = serde_json::from_slice(line).map_err(|_| RotationError::Invalid)?;
    let token = Zeroizing::new(frame.token);
    if frame.version != 1 || token.chars().any(char::is_whitespace) {
        return Err(RotationError::Invalid);
    }
    let credential = Credential::bearer(&token).map_err(|_| RotationError::Invalid)?;
    if frame.environment_id != environment.as_str() {
        return Err(RotationError::Environment);
    }
    if frame.expires_at <= now {
        return Err(RotationError::Expired);
    }
    Ok(Timed {
        credential,
        expires_at: frame.expires_at,
    })
}

fn unix_seconds() -> i64 {
    let elapsed = SystemTime::now().duration_since(UNIX_EPOCH);
    elapsed.map_or(0, |elapsed| {
        i64::try_from(elapsed.as_secs()).unwrap_or(i64::MAX)
    })
}

/// Longest line, with its end.
const MAX_LINE_BYTES: usize = 16_384;
/// For the first credential.
const FIRST_TIMEOUT: Duration = Duration::from_secs(30);
/// How long a call waits for a new credential when the last one has expired: half of its time.
const RENEWAL_TIMEOUT: Duration = Duration::from_secs(5);

#[cfg(test)]
#[path = "rotating/tests.rs"]
mod tests;
