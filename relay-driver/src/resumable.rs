//! Streams between two websockets, with their applications' channels.

use std::collections::HashMap;

use futures_util::FutureExt;
use futures_util::StreamExt;
use futures_util::stream::FuturesUnordered;
use relay_proto::Suspended;
use relay_proto::ids::StreamId;

use crate::activity::Pending;
use crate::handles::Path;
use crate::io::now;
use crate::streams::Attached;

/// What is left of a driver whose websocket has ended: streams that wait for another one.
///
/// Their applications notice only that nothing moves. Dropping it ends the streams.
pub struct Resumable {
    /// Taken by the next driver.
    suspended: Option<Suspended>,
    pub(crate) streams: HashMap<StreamId, Attached>,
    pub(crate) activities: FuturesUnordered<Pending>,
    pub(crate) next_serial: u64,
}

impl Resumable {
    pub(crate) fn new(
        suspended: Suspended,
        mut streams: HashMap<StreamId, Attached>,
        activities: FuturesUnordered<Pending>,
        next_serial: u64,
    ) -> Self {
        streams.retain(|id, attached| {
            let is_kept = suspended.ids().any(|kept| kept == id);
            if is_kept {
                attached.set_path(Path::Lost);
            } else {
                attached.end();
            }
            is_kept
        });
        let mut resumable = Self {
            suspended: Some(suspended),
            streams,
            activities,
            next_serial,
        };
        resumable.reap();
        resumable
    }

    /// Lets go of the channels of streams that have ended, which tells their applications.
    fn reap(&mut self) {
        let mut others = Vec::new();
        while let Some(Some(activity)) = self.activities.next().now_or_never() {
            let is_kept = activity.stream().is_some_and(|key| {
                self.streams
                    .get(&key.id)
                    .is_some_and(|attached| attached.is(key))
            });
            if is_kept {
                others.push(activity);
            }
        }
        // What the applications of the other streams did is for the next driver.
        for activity in others {
            self.activities.push(Box::pin(std::future::ready(activity)));
        }
    }

    /// Whether there is no stream to go on with.
    pub fn is_empty(&self) -> bool {
        self.suspended.as_ref().is_none_or(Suspended::is_empty)
    }

    /// The streams.
    pub fn ids(&self) -> impl Iterator<Item = &StreamId> {
        self.suspended.iter().flat_map(Suspended::ids)
    }

    /// Ends streams whose time is up, and returns when none is left.
    ///
    /// To be polled beside the search for another websocket.
    ///
    /// # Cancel safety
    ///
    /// Cancel safe.
    pub async fn expired(&mut self) {
        while let Some(suspended) = &mut self.suspended
            && let Some(deadline) = suspended.deadline()
        {
            tokio::time::sleep_until(deadline.into()).await;
            for id in suspended.expire(now()) {
                tracing::debug!(stream = %id, "stream without a path given up");
                if let Some(attached) = self.streams.remove(&id) {
                    attached.end();
                }
            }
            self.reap();
        }
    }
}

impl Resumable {
    /// Takes the streams out, for the next connection.
    pub(crate) fn take(&mut self) -> Option<Suspended> {
        self.suspended.take()
    }
}

impl Drop for Resumable {
    fn drop(&mut self) {
        for attached in self.streams.values() {
            attached.end();
        }
    }
}

impl std::fmt::Debug for Resumable {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Resumable")
            .field("streams", &self.streams.len())
            .finish_non_exhaustive()
    }
}
