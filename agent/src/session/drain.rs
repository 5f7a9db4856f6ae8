//! The graceful end of all sessions.
//!
//! ```text
//! begin     no new session, no new process; sessions can still be resumed
//! grace     what runs goes on: commands, and requests that work on something
//! then      TERM to every group that is left, KILL when it has not ended after that
//! finish    connections end by themselves, once their answers and events are out
//! ```
//!
//! Each step is skipped when there is nothing left to wait for. Not responsible for what ends
//! without a grace period: that is [`Sessions::shutdown`], which may come at any time.

use std::time::Duration;

use exec_proto::RpcError;
use exec_proto::rpc::code;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::registry::Sessions;

/// Between TERM and KILL.
pub(crate) const KILL_AFTER: Duration = Duration::from_secs(2);

/// How long the last output of killed processes may take to be on its way.
const LAST_OUTPUT: Duration = Duration::from_secs(1);

/// How far the end has come. Clones share it.
#[derive(Debug, Clone, Default)]
pub(crate) struct Ending {
    /// Nothing new from now on.
    begun: CancellationToken,
    /// Connections end by themselves from now on.
    finishing: CancellationToken,
    /// One token for each process that is not closed, and for each request that does something.
    busy: TaskTracker,
}

impl Ending {
    /// Something that the graceful end waits for, until the token is dropped.
    pub(crate) fn busy(&self) -> tokio_util::task::task_tracker::TaskTrackerToken {
        self.busy.token()
    }

    /// Whether nothing new is taken.
    pub(crate) fn has_begun(&self) -> bool {
        self.begun.is_cancelled()
    }

    /// Cancelled when connections are to end by themselves.
    pub(super) fn finishing(&self) -> &CancellationToken {
        &self.finishing
    }

    /// Refuses what is new once the end has begun.
    ///
    /// # Errors
    ///
    /// [`code::SHUTTING_DOWN`].
    pub(crate) fn check(&self, what: &'static str) -> Result<(), RpcError> {
        if self.has_begun() {
            return Err(RpcError::new(
                code::SHUTTING_DOWN,
                format!("the executor is shutting down and {what}"),
            ));
        }
        Ok(())
    }

    /// Waits until nothing is busy; says whether that came in time.
    async fn idle_within(&self, time: Duration) -> bool {
        tokio::time::timeout(time, self.busy.wait()).await.is_ok()
    }
}

impl Sessions {
    /// Ends everything gracefully: takes nothing new, gives what runs `grace` to end by itself, asks
    /// and then forces the rest to end, and has the connections deliver what is left. Returns when
    /// they have been told to; they end on their own from there.
    ///
    /// # Cancel safety
    ///
    /// A dropped call stays where it was; calling again goes on.
    pub async fn drain(&self, grace: Duration) {
        let ending = self.ending();
        ending.begun.cancel();
        ending.busy.close();
        tracing::info!(
            grace_secs = grace.as_secs_f64(),
            "taking no new sessions and processes"
        );
        if !ending.idle_within(grace).await {
            let processes = self.end_processes(KILL_AFTER);
            tracing::info!(processes, "grace period is over, ending what still runs");
            ending.idle_within(KILL_AFTER + LAST_OUTPUT).await;
        }
        ending.finishing.cancel();
    }

    /// Whether the end has begun: no new session and no new process is taken.
    pub fn is_draining(&self) -> bool {
        self.ending().has_begun()
    }
}
