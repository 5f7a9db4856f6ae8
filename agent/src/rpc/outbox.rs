//! Outgoing messages of one connection: two bounded lanes in front of the transport.
//!
//! ```text
//! control answers  --[CONTROL_MESSAGES]--------------\
//!                                                     writer --> Transport::outgoing
//! answers, events  --[MESSAGES, BUDGET_BYTES]--------/
//! ```
//!
//! Ordinary messages keep their order and wait for room: that wait is the backpressure that fills
//! a child's pipe when the client stops reading. Control answers (status, signal, terminate) have
//! a lane of their own that goes first, so that a client behind a wall of output can still end its
//! process.

use std::sync::Arc;

use bytes::Bytes;
use exec_proto::rpc::encode_notification;
use serde::Serialize;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc};
use tokio_util::sync::CancellationToken;

/// Messages in the ordinary lane. Enough to keep a socket busy; the byte budget is the real bound.
const MESSAGES: usize = 128;

/// Bytes of ordinary messages that wait for the transport. About three full output chunks in
/// base64, so that reading a pipe and writing a socket overlap. A larger message takes all of it.
const BUDGET_BYTES: usize = 4 << 20;

/// Messages in the control lane. A client has at most 1024 calls in flight.
const CONTROL_MESSAGES: usize = 1024;

/// The connection is gone; nothing can be sent any more.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the connection is closed")]
pub struct Disconnected;

/// Which lane a message takes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Lane {
    /// In order with all others, after room was found.
    Ordinary,
    /// Ahead of ordinary messages.
    Control,
}

/// Sends messages on one connection. Clones share the lanes.
#[derive(Debug, Clone)]
pub struct Outbox {
    ordinary: mpsc::Sender<Queued>,
    control: mpsc::Sender<Bytes>,
    budget: Arc<Semaphore>,
    /// Cancelled when the writer has ended; makes waiting senders give up.
    closed: CancellationToken,
}

/// A message and its share of the byte budget.
#[derive(Debug)]
struct Queued {
    message: Bytes,
    _share: OwnedSemaphorePermit,
}

impl Outbox {
    /// An outbox whose messages come out of the returned channel, without a connection behind it.
    /// For tests of code that sends notifications.
    #[cfg(test)]
    pub(crate) fn detached() -> (Self, mpsc::Receiver<Bytes>) {
        let (outgoing, messages) = mpsc::channel(MESSAGES);
        let (outbox, writer) = Self::new(outgoing);
        tokio::spawn(writer.run(CancellationToken::new()));
        (outbox, messages)
    }

    pub(crate) fn new(outgoing: mpsc::Sender<Bytes>) -> (Self, OutboxWriter) {
        let (ordinary, ordinary_rx) = mpsc::channel(MESSAGES);
        let (control, control_rx) = mpsc::channel(CONTROL_MESSAGES);
        let closed = CancellationToken::new();
        let writer = OutboxWriter {
            ordinary: ordinary_rx,
            control: control_rx,
            outgoing,
            closed: closed.clone(),
        };
        (
            Self {
                ordinary,
                control,
                budget: Arc::new(Semaphore::new(BUDGET_BYTES)),
                closed,
            },
            writer,
        )
    }

    /// Sends a notification after all earlier ordinary messages, waiting for room.
    ///
    /// # Errors
    ///
    /// [`Disconnected`] when the connection has ended, also while waiting.
    ///
    /// # Cancel safety
    ///
    /// A cancelled call has sent either the whole notification or nothing.
    pub async fn notify<P: Serialize>(
        &self,
        method: &'static str,
        params: &P,
    ) -> Result<(), Disconnected> {
        let Ok(message) = encode_notification(method, params) else {
            tracing::error!(method, "notification does not serialize");
            return Ok(());
        };
        self.send(Lane::Ordinary, message).await
    }

    /// Sends an encoded message.
    ///
    /// # Cancel safety
    ///
    /// A cancelled call has sent either the whole message or nothing.
    pub(crate) async fn send(&self, lane: Lane, message: Bytes) -> Result<(), Disconnected> {
        let send = async {
            match lane {
                Lane::Ordinary => {
                    let bytes = message.len().clamp(1, BUDGET_BYTES);
                    let bytes = u32::try_from(bytes).unwrap_or(u32::MAX);
                    let share = Arc::clone(&self.budget).acquire_many_owned(bytes).await;
                    let queued = Queued {
                        message,
                        _share: share.map_err(|_| Disconnected)?,
                    };
                    self.ordinary.send(queued).await.map_err(|_| Disconnected)
                }
                Lane::Control => self.control.send(message).await.map_err(|_| Disconnected),
            }
        };
        tokio::select! {
            sent = send => sent,
            () = self.closed.cancelled() => Err(Disconnected),
        }
    }

    /// Whether the connection has ended.
    pub fn is_closed(&self) -> bool {
        self.closed.is_cancelled()
    }
}

/// Moves messages from the lanes to the transport. One per connection, owned by its task.
#[derive(Debug)]
pub(crate) struct OutboxWriter {
    ordinary: mpsc::Receiver<Queued>,
    control: mpsc::Receiver<Bytes>,
    outgoing: mpsc::Sender<Bytes>,
    closed: CancellationToken,
}

impl OutboxWriter {
    /// Runs until the transport is gone, or until `finish` is cancelled and the lanes are empty.
    pub(crate) async fn run(mut self, finish: CancellationToken) {
        let _closed = self.closed.clone().drop_guard();
        loop {
            let sent = tokio::select! {
                // Control answers overtake; the rest of the order does not matter.
                biased;
                Some(message) = self.control.recv() => self.outgoing.send(message).await,
                Some(queued) = self.ordinary.recv() => {
                    // The share goes back only after the transport has taken the message.
                    let Queued { message, _share } = queued;
                    self.outgoing.send(message).await
                }
                () = finish.cancelled() => return,
                () = self.outgoing.closed() => return,
                else => return,
            };
            if sent.is_err() {
                return;
            }
        }
    }
}

#[cfg(test)]
mod tests;
