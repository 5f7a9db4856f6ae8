//! Standard input: a bounded queue in front of a pipe or terminal, and the memory of write ids.
//!
//! A write is accepted when it is queued. When the queue is full the request waits, so a program
//! that does not read holds back its writer and nobody else. A write id that was accepted before is
//! accepted again and not queued, which makes a retry after a lost connection harmless.

use std::collections::{HashSet, VecDeque};
use std::os::fd::OwnedFd;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use bytes::Bytes;
use exec_proto::RpcError;
use exec_proto::process::WriteStatus;
use tokio::io::Interest;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc};

use super::watched::{WatchedFd, watch};

/// Queued writes.
const MAX_WRITES: usize = 128;

/// Queued bytes. A larger single write takes all of it.
const MAX_BYTES: usize = 8 << 20;

/// Remembered ids; the oldest is forgotten first.
pub(super) const REMEMBERED_IDS: usize = 4096;

/// Longest write id. With [`REMEMBERED_IDS`] it bounds the memory of ids to 1 MiB.
pub(super) const MAX_WRITE_ID_BYTES: usize = 256;

/// The requests' side of standard input.
#[derive(Debug)]
pub(super) struct Stdin {
    kind: Kind,
    terminated: AtomicBool,
    /// The process is closed.
    ended: AtomicBool,
    /// Writes that the program got, or is about to.
    fed: Arc<AtomicU64>,
}

#[derive(Debug)]
enum Kind {
    /// The null device.
    Absent,
    Open {
        is_terminal: bool,
        queue: Queue,
    },
}

#[derive(Debug)]
struct Queue {
    writes: mpsc::Sender<Queued>,
    budget: Arc<Semaphore>,
    accepted: Mutex<Accepted>,
}

#[derive(Debug, Default)]
struct Accepted {
    order: VecDeque<Arc<str>>,
    ids: HashSet<Arc<str>>,
    /// Set by a close; writes after it are refused.
    closed: bool,
}

/// A write in the queue; `None` ends the input.
#[derive(Debug)]
struct Queued {
    chunk: Option<Bytes>,
    _share: Option<OwnedSemaphorePermit>,
}

/// The program's side: moves the queue into the descriptor.
#[derive(Debug)]
pub(super) struct StdinWriter {
    queue: mpsc::Receiver<Queued>,
    fd: OwnedFd,
    fed: Arc<AtomicU64>,
}

impl Stdin {
    /// Standard input at its end.
    pub(super) fn absent() -> Self {
        Self {
            kind: Kind::Absent,
            terminated: AtomicBool::new(false),
            ended: AtomicBool::new(false),
            fed: Arc::default(),
        }
    }

    /// Standard input behind `fd`, which must be non-blocking.
    pub(super) fn open(fd: OwnedFd, is_terminal: bool) -> (Self, StdinWriter) {
        let (writes, queue) = mpsc::channel(MAX_WRITES);
        let kind = Kind::Open {
            is_terminal,
            queue: Queue {
                writes,
                budget: Arc::new(Semaphore::new(MAX_BYTES)),
                accepted: Mutex::default(),
            },
        };
        let fed = Arc::<AtomicU64>::default();
        (
            Self {
                kind,
                terminated: AtomicBool::new(false),
                ended: AtomicBool::new(false),
                fed: Arc::clone(&fed),
            },
            StdinWriter { queue, fd, fed },
        )
    }

    /// How many writes the program has got: what it says next may be the answer to a new one.
    pub(super) fn fed(&self) -> u64 {
        self.fed.load(Ordering::Relaxed)
    }

    /// Queues a write once per id.
    ///
    /// # Cancel safety
    ///
    /// A cancelled call has either queued the write and remembered its id, or done nothing.
    pub(super) async fn write(&self, chunk: Bytes, id: String) -> Result<WriteStatus, RpcError> {
        let Kind::Open { queue, .. } = &self.kind else {
            return Ok(WriteStatus::StdinClosed);
        };
        if let Some(status) = queue.known(&id) {
            return Ok(status);
        }
        if self.terminated.load(Ordering::Acquire) {
            return Err(RpcError::internal("failed to write to process stdin"));
        }
        if self.ended.load(Ordering::Acquire) {
            return Ok(WriteStatus::StdinClosed);
        }
        let bytes = u32::try_from(chunk.len().min(MAX_BYTES)).unwrap_or(u32::MAX);
        let share = Arc::clone(&queue.budget)
            .acquire_many_owned(bytes)
            .await
            .ok();
        // The writer is gone when the program has ended or closed its input.
        let place = queue.writes.reserve().await.ok();
        if self.terminated.load(Ordering::Acquire) {
            return Err(RpcError::internal("failed to write to process stdin"));
        }
        let mut accepted = queue
            .accepted
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        if let Some(status) = accepted.status(&id) {
            return Ok(status);
        }
        let Some(place) = place else {
            return Ok(WriteStatus::StdinClosed);
        };
        accepted.remember(id.into());
        place.send(Queued {
            chunk: Some(chunk),
            _share: share,
        });
        Ok(WriteStatus::Accepted)
    }

    /// Ends the input after the writes accepted so far.
    pub(super) async fn close(&self) -> Result<(), RpcError> {
        match &self.kind {
            Kind::Absent => Ok(()),
            Kind::Open {
                is_terminal: true, ..
            } => Err(RpcError::invalid_params(
                "standard input of a terminal cannot be closed; write byte 4 instead",
            )),
            Kind::Open { queue, .. } => {
                let place = queue.writes.reserve().await.ok();
                queue
                    .accepted
                    .lock()
                    .unwrap_or_else(PoisonError::into_inner)
                    .closed = true;
                if let Some(place) = place {
                    place.send(Queued {
                        chunk: None,
                        _share: None,
                    });
                }
                Ok(())
            }
        }
    }

    /// Makes later writes find the input closed. The writer, which tells those that wait, may end
    /// a little later.
    pub(super) fn end(&self) {
        self.ended.store(true, Ordering::Release);
    }

    /// Makes later writes fail and waiting ones give up.
    pub(super) fn terminate(&self) {
        self.terminated.store(true, Ordering::Release);
    }
}

impl Queue {
    fn known(&self, id: &str) -> Option<WriteStatus> {
        self.accepted
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .status(id)
    }
}

impl Accepted {
    /// What a write is answered without being queued, if so.
    fn status(&self, id: &str) -> Option<WriteStatus> {
        if self.ids.contains(id) {
            Some(WriteStatus::Accepted)
        } else {
            self.closed.then_some(WriteStatus::StdinClosed)
        }
    }

    fn remember(&mut self, id: Arc<str>) {
        if self.order.len() == REMEMBERED_IDS
            && let Some(oldest) = self.order.pop_front()
        {
            self.ids.remove(&oldest);
        }
        self.order.push_back(Arc::clone(&id));
        self.ids.insert(id);
    }
}

impl StdinWriter {
    /// Runs until the input is closed by either side. Dropping the future closes the descriptor.
    pub(super) async fn run(mut self) {
        let Ok(fd) = watch(self.fd, Interest::WRITABLE.add(Interest::ERROR)) else {
            return;
        };
        // The kernel says so when the last reader of a pipe is gone, also while nothing is written.
        let unread = async {
            if let Ok(ready) = fd.ready(Interest::ERROR).await {
                drop(ready);
            }
        };
        let feed = async {
            while let Some(Queued {
                chunk: Some(chunk),
                _share,
            }) = self.queue.recv().await
            {
                self.fed.fetch_add(1, Ordering::Relaxed);
                if write_all(&fd, &chunk).await.is_err() {
                    return;
                }
            }
        };
        tokio::select! {
            () = feed => {}
            () = unread => {}
        }
    }
}

async fn write_all(fd: &WatchedFd, mut rest: &[u8]) -> std::io::Result<()> {
    while !rest.is_empty() {
        let mut ready = fd.writable().await?;
        let written = ready.try_io(|fd| Ok(rustix::io::write(fd, rest)?));
        match written {
            Ok(Ok(count)) => rest = rest.get(count..).unwrap_or_default(),
            Ok(Err(err)) if err.kind() == std::io::ErrorKind::Interrupted => {}
            Ok(Err(err)) => return Err(err),
            // Not ready after all.
            Err(_) => {}
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests;
