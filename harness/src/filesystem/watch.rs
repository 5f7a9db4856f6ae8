//! Waiting until something appears where nothing is.

use std::sync::Arc;

use exec_proto::{
    PathUri,
    fs::{self as wire, WatchMissingParams, WatchMissingResult},
};

use crate::{
    Error, Filesystem,
    engine::{
        Job,
        call::{Asker, Retry},
        route::WatchRoute,
    },
    queue::Queue,
};

/// A watch on paths that do not exist. It fires once. Dropping it takes it back at the executor.
#[derive(Debug)]
pub struct MissingWatch {
    queue: Arc<Queue<Result<(), Error>>>,
}

impl Filesystem {
    /// Watches until one of `missing`, at most 64 paths that do not exist, or an ancestor of one, is
    /// made, or `present`, which exists, is changed.
    ///
    /// A client has one watch at a time: another one takes its place. `None` when the executor does
    /// not watch, which it does not say why: a path exists already, or its file system cannot be
    /// watched. So look at the paths after this returns.
    ///
    /// # Errors
    ///
    /// [`Error::Unsupported`]; [`Error::ConnectionLost`], as watches end with their connection.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future takes the watch back.
    pub async fn watch_missing(
        &self,
        missing: &[PathUri],
        present: Option<&PathUri>,
    ) -> Result<Option<MissingWatch>, Error> {
        if !self.client.capabilities().fs_watch_missing {
            return Err(Error::Unsupported("watching paths"));
        }
        let queue = Queue::new(usize::MAX, self.client.drained());
        let watch = MissingWatch {
            queue: queue.clone(),
        };
        let mut last = self.client.last_watch().lock().await;
        *last += 1;
        let params = WatchMissingParams {
            watch_id: *last,
            missing: missing.to_vec(),
            present: present.cloned(),
        };
        let route = WatchRoute::new(*last, queue);
        let retry = Retry::Within(self.client.generation());
        let begun = self.client.begin(
            wire::WATCH_MISSING,
            &params,
            retry,
            None,
            Asker::Caller,
            |call| Job::Watch { call, route },
        );
        let answer = begun.await?;
        drop(last);
        let result: WatchMissingResult = answer.wait().await?;
        Ok(result.watching.then_some(watch))
    }
}

impl MissingWatch {
    /// Waits until something has changed. Afterwards the watch is over.
    ///
    /// # Errors
    ///
    /// [`Error::ConnectionLost`]: something may have changed, look again. [`Error::Misuse`] when
    /// another watch has taken its place, or it has fired before.
    ///
    /// # Cancel safety
    ///
    /// Nothing is lost when the future is dropped.
    pub async fn changed(&mut self) -> Result<(), Error> {
        let over = || Err(Error::Misuse("the watch has fired before".into()));
        self.queue.pop().await.unwrap_or_else(over)
    }
}

impl Drop for MissingWatch {
    fn drop(&mut self) {
        self.queue.abandon();
    }
}
