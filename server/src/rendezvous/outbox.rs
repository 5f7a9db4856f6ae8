//! The bounded queue in front of one websocket.
//!
//! A frame needs a [`Reservation`] before it may be queued: of one place and its length in bytes.
//! Getting one and queueing are two steps, because the first may wait and the second happens under
//! the environment's lock, together with the routing decision. Reservations are granted in the order
//! in which they were asked for and end when the frame has been handed to the socket.
//!
//! Resets have places of their own but the same order as frames: a reset that overtook the frames of
//! its stream would let them open it anew.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::Bytes;
use tokio::sync::{Notify, OwnedSemaphorePermit, Semaphore};
use tokio_util::sync::CancellationToken;

use super::routes::CloseCause;
use crate::limits;

/// Room that is shared by the queues of all harness sockets, in bytes.
#[derive(Clone, Debug)]
pub(crate) struct SharedRoom(Arc<Semaphore>);

impl SharedRoom {
    /// Room for `bytes` bytes.
    pub(crate) fn new(bytes: usize) -> Self {
        Self(Arc::new(Semaphore::new(bytes)))
    }
}

/// Limits of one queue.
#[derive(Clone, Debug)]
pub(crate) struct OutboxLimits {
    /// Bytes of frames.
    pub(crate) bytes: usize,
    /// Number of frames.
    pub(crate) frames: usize,
    /// Number of resets.
    pub(crate) resets: usize,
    /// Bytes that are this queue's own; what goes beyond comes out of the shared room.
    pub(crate) own: Option<(usize, SharedRoom)>,
}

/// The queue. One consumer, the socket's writer.
#[derive(Debug)]
pub(crate) struct Outbox {
    queue: Mutex<Queue>,
    ready: Notify,
    attention: Notify,
    closing: CancellationToken,
    byte_limit: usize,
    reset_limit: usize,
    bytes: Arc<Semaphore>,
    frames: Arc<Semaphore>,
    own: Option<(Arc<Semaphore>, SharedRoom)>,
}

#[derive(Debug, Default)]
struct Queue {
    entries: VecDeque<Entry>,
    resets: usize,
    ping: bool,
    is_suspected: bool,
    close: Option<CloseCause>,
}

#[derive(Debug)]
enum Entry {
    Frame(Bytes, Reservation),
    Reset(Bytes),
}

/// What the writer is to do next.
#[derive(Debug)]
pub(crate) enum Next {
    /// Write this frame; the reservation ends afterwards.
    Frame(Bytes, Option<Reservation>),
    /// Send a ping.
    Ping,
    /// Send a close frame; nothing follows.
    Close(CloseCause),
}

/// The right to queue one frame.
#[derive(Debug)]
pub(crate) struct Reservation {
    _bytes: OwnedSemaphorePermit,
    _frame: OwnedSemaphorePermit,
    _memory: Option<OwnedSemaphorePermit>,
}

/// There is no room.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Full;

impl Outbox {
    /// An empty queue.
    pub(crate) fn new(limits: OutboxLimits) -> Self {
        Self {
            queue: Mutex::default(),
            ready: Notify::new(),
            attention: Notify::new(),
            closing: CancellationToken::new(),
            byte_limit: limits.bytes,
            reset_limit: limits.resets,
            bytes: Arc::new(Semaphore::new(limits.bytes)),
            frames: Arc::new(Semaphore::new(limits.frames)),
            own: limits
                .own
                .map(|(bytes, shared)| (Arc::new(Semaphore::new(bytes)), shared)),
        }
    }

    /// Waits for room for a frame of `length` bytes, in turn.
    ///
    /// # Cancel safety
    ///
    /// The place in the line is lost, nothing else.
    pub(crate) async fn reserve(&self, length: usize) -> Result<Reservation, Full> {
        let frame = Arc::clone(&self.frames)
            .acquire_owned()
            .await
            .map_err(|_| Full)?;
        let bytes = Arc::clone(&self.bytes)
            .acquire_many_owned(self.cost(length))
            .await
            .map_err(|_| Full)?;
        Ok(Reservation {
            _bytes: bytes,
            _frame: frame,
            _memory: None,
        })
    }

    /// Takes room for a frame of `length` bytes if there is some.
    pub(crate) fn try_reserve(&self, length: usize) -> Result<Reservation, Full> {
        let cost = self.cost(length);
        let frame = Arc::clone(&self.frames)
            .try_acquire_owned()
            .map_err(|_| Full)?;
        let bytes = Arc::clone(&self.bytes)
            .try_acquire_many_owned(cost)
            .map_err(|_| Full)?;
        let memory = match &self.own {
            None => None,
            Some((own, shared)) => Some(
                Arc::clone(own)
                    .try_acquire_many_owned(cost)
                    .or_else(|_| Arc::clone(&shared.0).try_acquire_many_owned(cost))
                    .map_err(|_| Full)?,
            ),
        };
        Ok(Reservation {
            _bytes: bytes,
            _frame: frame,
            _memory: memory,
        })
    }

    /// Queues a frame.
    pub(crate) fn push(&self, frame: Bytes, reservation: Reservation) {
        let frame = if frame.len() < limits::COPY_BELOW_BYTES {
            Bytes::copy_from_slice(&frame)
        } else {
            frame
        };
        self.lock()
            .entries
            .push_back(Entry::Frame(frame, reservation));
        self.ready.notify_one();
    }

    /// Queues a reset.
    pub(crate) fn push_reset(&self, frame: Bytes) -> Result<(), Full> {
        {
            let mut queue = self.lock();
            if queue.resets >= self.reset_limit {
                return Err(Full);
            }
            queue.resets += 1;
            queue.entries.push_back(Entry::Reset(frame));
        }
        self.ready.notify_one();
        Ok(())
    }

    /// Has a ping sent before anything else.
    pub(crate) fn ping(&self) {
        self.lock().ping = true;
        self.ready.notify_one();
    }

    /// Says that it matters more or less than before whether the peer is there.
    pub(crate) fn draw_attention(&self) {
        self.attention.notify_one();
    }

    /// Says that the peer may be gone.
    pub(crate) fn suspect(&self) {
        self.lock().is_suspected = true;
        self.attention.notify_one();
    }

    /// Completes once after [`Outbox::draw_attention`] and [`Outbox::suspect`], and says whether it was
    /// the latter. Only one caller may wait.
    ///
    /// # Cancel safety
    ///
    /// Nothing is lost.
    pub(crate) async fn attention(&self) -> bool {
        self.attention.notified().await;
        std::mem::take(&mut self.lock().is_suspected)
    }

    /// Has the socket closed; the first cause counts.
    ///
    /// What is queued is still written, as far as time allows, unless the peer has lost its right to
    /// it or shows no sign of reading.
    pub(crate) fn close(&self, cause: CloseCause) {
        {
            let mut queue = self.lock();
            if queue.close.is_some() {
                return;
            }
            queue.close = Some(cause);
            if !drains(cause) {
                queue.entries.clear();
            }
        }
        self.ready.notify_one();
        self.closing.cancel();
    }

    /// Why the socket is to be closed, if it is.
    pub(crate) fn close_cause(&self) -> Option<CloseCause> {
        self.lock().close
    }

    /// Completes when the socket is to be closed.
    ///
    /// # Cancel safety
    ///
    /// Nothing is lost.
    pub(crate) async fn closing(&self) {
        self.closing.cancelled().await;
    }

    /// What to do next, waiting for something to do. Only one caller may wait.
    ///
    /// # Cancel safety
    ///
    /// Nothing is lost.
    pub(crate) async fn next(&self) -> Next {
        loop {
            if let Some(next) = self.try_next() {
                return next;
            }
            self.ready.notified().await;
        }
    }

    /// What to do next, if there is something.
    pub(crate) fn try_next(&self) -> Option<Next> {
        let mut queue = self.lock();
        if queue.ping && queue.close.is_none() {
            queue.ping = false;
            return Some(Next::Ping);
        }
        match queue.entries.pop_front() {
            Some(Entry::Frame(frame, reservation)) => Some(Next::Frame(frame, Some(reservation))),
            Some(Entry::Reset(frame)) => {
                queue.resets = queue.resets.saturating_sub(1);
                Some(Next::Frame(frame, None))
            }
            None => queue.close.map(Next::Close),
        }
    }

    /// A frame above the limit costs all of it, so that it fits when nothing else is there.
    fn cost(&self, length: usize) -> u32 {
        u32::try_from(length.min(self.byte_limit)).unwrap_or(u32::MAX)
    }

    fn lock(&self) -> MutexGuard<'_, Queue> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Whether what is queued is written before the socket is closed for this cause.
fn drains(cause: CloseCause) -> bool {
    match cause {
        CloseCause::ExecutorGone | CloseCause::ShuttingDown { .. } => true,
        CloseCause::Superseded
        | CloseCause::TooSlow
        | CloseCause::Stalled
        | CloseCause::Malformed
        | CloseCause::TooLarge
        | CloseCause::Unauthorized => false,
    }
}

#[cfg(test)]
mod tests;
