//! Where blocking filesystem work runs, and how much of it at once.
//!
//! A filesystem can hang for ever (a network mount whose server is gone), and a blocked call cannot
//! be interrupted. So each connection has few permits, and the whole process a limited number: a
//! hanging mount stops the calls of the connection that uses it, not those of others, and never uses
//! up the threads that the rest of the executor needs. A permit is held until the work itself ends,
//! even when nobody waits for it any more.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use tokio::sync::Semaphore;

use super::FsError;
use super::limits::{CALLS_PER_CONNECTION, CALLS_PER_PROCESS};

/// The permits of one connection.
#[derive(Debug, Clone)]
pub(crate) struct BlockingPool {
    connection: Arc<Semaphore>,
}

impl BlockingPool {
    /// Permits for a new connection.
    pub(crate) fn new() -> Self {
        Self {
            connection: Arc::new(Semaphore::new(CALLS_PER_CONNECTION)),
        }
    }

    /// Runs `work` on a thread for blocking work once there is a permit.
    ///
    /// # Cancel safety
    ///
    /// When the future is dropped before `work` began, `work` does not run. After that it runs on,
    /// and long loops in it stop when they look at [`Cancelled`].
    pub(crate) async fn run<T, F>(&self, work: F) -> Result<T, FsError>
    where
        T: Send + 'static,
        F: FnOnce(&Cancelled) -> Result<T, FsError> + Send + 'static,
    {
        let permit = Arc::clone(&self.connection).acquire_owned().await;
        let connection = permit.map_err(|_| FsError::Cancelled)?;
        let process = PROCESS.acquire().await.map_err(|_| FsError::Cancelled)?;
        let flag = Arc::new(AtomicBool::new(false));
        let guard = CancelOnDrop(Arc::clone(&flag));
        let task = tokio::task::spawn_blocking(move || {
            let result = work(&Cancelled(flag));
            drop((connection, process));
            result
        });
        let result = task.await.map_err(|_| FsError::Panicked)?;
        drop(guard);
        result
    }
}

/// Tells a long loop that nobody waits for its result.
#[derive(Debug)]
pub(crate) struct Cancelled(Arc<AtomicBool>);

impl Cancelled {
    /// Fails once the request was abandoned.
    pub(crate) fn check(&self) -> Result<(), FsError> {
        if self.0.load(Ordering::Relaxed) {
            Err(FsError::Cancelled)
        } else {
            Ok(())
        }
    }

    /// One that never fires.
    #[cfg(test)]
    pub(crate) fn never() -> Self {
        Self(Arc::new(AtomicBool::new(false)))
    }
}

struct CancelOnDrop(Arc<AtomicBool>);

impl Drop for CancelOnDrop {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

static PROCESS: Semaphore = Semaphore::const_new(CALLS_PER_PROCESS);

#[cfg(test)]
mod tests {
    use std::sync::mpsc;
    use std::time::Duration;

    use super::*;

    #[tokio::test]
    async fn a_connection_with_hanging_calls_does_not_stop_another() {
        let stuck = BlockingPool::new();
        let (release, gate) = mpsc::channel::<()>();
        let gate = Arc::new(std::sync::Mutex::new(gate));
        let hanging: Vec<_> = (0..2 * CALLS_PER_CONNECTION)
            .map(|_| {
                let (pool, gate) = (stuck.clone(), Arc::clone(&gate));
                tokio::spawn(async move {
                    let hang = move |_: &Cancelled| {
                        let _ = gate.lock().unwrap().recv();
                        Ok(())
                    };
                    pool.run(hang).await
                })
            })
            .collect();
        while stuck.connection.available_permits() > 0 {
            tokio::task::yield_now().await;
        }
        let other = BlockingPool::new();
        let other = tokio::time::timeout(Duration::from_secs(5), other.run(|_| Ok(7)));
        assert_eq!(other.await.unwrap().unwrap(), 7);
        drop(release);
        for task in hanging {
            task.await.unwrap().unwrap();
        }
    }

    #[tokio::test]
    async fn work_sees_that_its_request_was_abandoned() {
        let (started, begin) = tokio::sync::oneshot::channel();
        let (report, ended) = tokio::sync::oneshot::channel();
        let pool = BlockingPool::new();
        let task = tokio::spawn(async move {
            pool.run(move |cancelled| {
                let _ = started.send(());
                while cancelled.check().is_ok() {
                    std::thread::yield_now();
                }
                let _ = report.send(());
                Ok(())
            })
            .await
        });
        begin.await.unwrap();
        task.abort();
        tokio::time::timeout(Duration::from_secs(5), ended)
            .await
            .unwrap()
            .unwrap();
    }
}
