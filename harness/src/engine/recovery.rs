//! Getting a session back after its connection was lost.
//!
//! ```text
//! lost -> attempt at once -> wait 0.5 s -> attempt -> wait 1 s -> ... -> given up after the budget
//!          new bundle, new connection, new stream, same executor key, initialize with the session id
//! ```
//!
//! The first attempt is immediate unless the lost connection itself had just been made: a path that
//! drops every connection must not be hammered. An attempt that fails for good (another executor
//! key, unknown session, refused credential) ends the session at once.

use std::sync::{Arc, atomic::Ordering};

use exec_proto::{initialize, rpc};
use rand::{SeedableRng, rngs::StdRng};
use relay_proto::backoff::Backoff;
use tokio::time::{Instant, sleep, timeout_at};
use tokio_util::sync::CancellationToken;

use super::Shared;
use crate::{
    Bulk, Dial, Error,
    client::{RecoveryConfig, random_seed},
    generation::{Generation, Resume},
};

/// The schedule of one session's recoveries.
pub(super) struct Recovery {
    config: RecoveryConfig,
    backoff: Backoff,
    rng: StdRng,
    connected_at: Instant,
}

impl Recovery {
    pub(super) fn new(config: &RecoveryConfig) -> Self {
        Self {
            config: config.clone(),
            backoff: Backoff::new(config.backoff),
            rng: StdRng::from_seed(random_seed()),
            connected_at: Instant::now(),
        }
    }

    /// Notes that a connection is up.
    pub(super) fn connected(&mut self) {
        self.connected_at = Instant::now();
        self.backoff.connected(self.connected_at.into_std());
    }

    /// Makes a connection with the session attached.
    ///
    /// # Errors
    ///
    /// [`Error::RecoveryTimedOut`] after the budget; [`Error::Closed`] when cancelled; otherwise the
    /// error of an attempt that cannot be mended by another one.
    pub(super) async fn recover(
        &mut self,
        dial: &dyn Dial,
        bulk: Bulk,
        shared: &Shared,
        cancel: &CancellationToken,
    ) -> Result<Generation, Error> {
        let lost_at = Instant::now();
        let deadline = lost_at + self.config.budget;
        self.backoff.lost(lost_at.into_std());
        let mut wait_first =
            lost_at.duration_since(self.connected_at) < self.config.backoff.min_delay;
        let mut last: Option<Arc<Error>> = None;
        loop {
            if wait_first {
                let floor = last.as_ref().and_then(|error| error.retry_after());
                let delay = self.backoff.next_delay(&mut self.rng, floor);
                tokio::select! {
                    () = cancel.cancelled() => return Err(Error::Closed),
                    () = sleep(delay) => {}
                }
            }
            wait_first = true;
            let resume = Resume {
                session_id: &shared.session_id,
                executor_key: shared.executor_key.as_ref(),
            };
            let attempt = tokio::select! {
                () = cancel.cancelled() => return Err(Error::Closed),
                attempt = timeout_at(deadline, Generation::establish(dial, bulk, Some(resume))) => attempt,
            };
            match attempt {
                Ok(Ok(generation)) => return Ok(generation),
                Ok(Err(error)) if error.is_retryable() => {
                    tracing::debug!(
                        error = %error,
                        generation = shared.generation.load(Ordering::Relaxed),
                        "attempt to restore the connection failed"
                    );
                    last = Some(Arc::new(error));
                }
                // An executor without a key, a listener, says in this way that it was restarted.
                Ok(Err(Error::Rpc { method, code, .. }))
                    if method == initialize::METHOD && code == rpc::code::INVALID_REQUEST =>
                {
                    return Err(Error::SessionUnknown);
                }
                Ok(Err(error)) => return Err(error),
                Err(_) => {
                    return Err(Error::RecoveryTimedOut {
                        after: self.config.budget,
                        last,
                    });
                }
            }
            if Instant::now() >= deadline {
                return Err(Error::RecoveryTimedOut {
                    after: self.config.budget,
                    last,
                });
            }
        }
    }
}
