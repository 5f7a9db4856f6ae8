//! Outgoing messages of one connection: bounded lanes in front of the transport.
//!
//! ```text
//! control answers        --[CONTROL_MESSAGES]-----------------\
//! small answers,         --[MESSAGES, PROMPT_BYTES]------------> Transport::stream.urgent
//!   terminals' events
//! other answers, events  --[MESSAGES, BUDGET_BYTES]------------> Transport::outgoing
//! ```
//!
//! Messages of one lane keep their order and wait for room: that wait is the backpressure that fills
//! a child's pipe when the client stops reading. Control answers (status, signal, terminate) have
//! a lane of their own that goes first, so that a client behind a wall of output can still end its
//! process.
//!
//! A stream of the relay carries two classes of messages, of which the urgent one may overtake: there
//! somebody at a terminal does not wait behind a download either. On other transports all lanes
//! share one way, and what is only prompt is ordinary.

use std::sync::{Arc, OnceLock};

use bytes::Bytes;
use exec_proto::rpc::{Form, RequestId, encode_notification, encode_request};
use serde::Serialize;
use serde::de::DeserializeOwned;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc};
use tokio_util::sync::CancellationToken;

use super::callback::{Callbacks, Outcome};

/// Messages in the ordinary lane. Enough to keep a socket busy; the byte budget is the real bound.
const MESSAGES: usize = 128;

/// Bytes of ordinary messages that wait for the transport. About three full output chunks in
/// base64, so that reading a pipe and writing a socket overlap. A larger message takes all of it.
const BUDGET_BYTES: usize = 4 << 20;

/// Bytes of prompt messages that wait for the transport: what is urgent is little.
const PROMPT_BYTES: usize = 256 << 10;

/// Places in the ordinary lane that are left for messages that may not be dropped.
const RESERVED_MESSAGES: usize = MESSAGES / 4;

/// Messages in the control lane. A client has at most 1024 calls in flight.
const CONTROL_MESSAGES: usize = 1024;

/// The connection is gone; nothing can be sent any more.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the connection is closed")]
pub struct Disconnected;

/// Which lane a message takes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Lane {
    /// In order with all others of this lane, after room was found.
    Ordinary,
    /// The same, and ahead of ordinary ones where the transport can do that. For what somebody waits
    /// for, and what means the same whichever ordinary messages come before it.
    Prompt,
    /// Ahead of ordinary messages.
    Control,
}

/// Sends messages on one connection. Clones share the lanes.
#[derive(Debug, Clone)]
pub struct Outbox {
    ordinary: Way,
    /// Only where the transport tells prompt messages from others.
    prompt: Option<Way>,
    control: mpsc::Sender<Bytes>,
    /// Cancelled when the writer has ended; makes waiting senders give up.
    closed: CancellationToken,
    /// Requests to the client.
    callbacks: Arc<Callbacks>,
    /// What the client has asked for.
    form: Arc<OnceLock<Form>>,
}

/// Why a request to the client has no result.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum AskError {
    /// The connection is gone.
    #[error(transparent)]
    Disconnected(#[from] Disconnected),
    /// Too many requests wait for an answer.
    #[error("too many requests to the client wait for an answer")]
    TooMany,
    /// The client refused, or answered something else.
    #[error("the client gave no result")]
    NoResult,
}

/// A lane with a budget.
#[derive(Debug, Clone)]
struct Way {
    messages: mpsc::Sender<Queued>,
    budget: Arc<Semaphore>,
    budget_bytes: usize,
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
        let (outbox, writer) = Self::new(outgoing, None);
        tokio::spawn(writer.run(CancellationToken::new()));
        (outbox, messages)
    }

    pub(crate) fn new(
        outgoing: mpsc::Sender<Bytes>,
        urgent: Option<mpsc::Sender<Bytes>>,
    ) -> (Self, OutboxWriter) {
        let (ordinary, ordinary_rx) = Way::new(BUDGET_BYTES);
        let (prompt, urgent) = urgent.map_or((None, None), |transport| {
            let (prompt, messages) = Way::new(PROMPT_BYTES);
            (Some(prompt), Some((messages, transport)))
        });
        let (control, control_rx) = mpsc::channel(CONTROL_MESSAGES);
        let closed = CancellationToken::new();
        let writer = OutboxWriter {
            ordinary: ordinary_rx,
            outgoing,
            urgent,
            control: control_rx,
            closed: closed.clone(),
        };
        (
            Self {
                ordinary,
                prompt,
                control,
                closed,
                callbacks: Arc::default(),
                form: Arc::default(),
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
        self.notify_in(Lane::Ordinary, method, params).await
    }

    /// As [`Outbox::notify`], in a lane.
    pub(crate) async fn notify_in<P: Serialize>(
        &self,
        lane: Lane,
        method: &'static str,
        params: &P,
    ) -> Result<(), Disconnected> {
        let Ok(message) = encode_notification(method, params, self.form()) else {
            tracing::error!(method, "notification does not serialize");
            return Ok(());
        };
        self.send(lane, message).await
    }

    /// Sends a notification only if there is room at once, and leaves some for others. Returns
    /// whether it was sent.
    pub(crate) fn try_notify<P: Serialize>(&self, method: &'static str, params: &P) -> bool {
        let Ok(message) = encode_notification(method, params, self.form()) else {
            return false;
        };
        let bytes = u32::try_from(message.len().max(1)).unwrap_or(u32::MAX);
        let Way {
            messages, budget, ..
        } = &self.ordinary;
        let share = Arc::clone(budget).try_acquire_many_owned(bytes);
        let (Ok(share), true) = (share, messages.capacity() > RESERVED_MESSAGES) else {
            return false;
        };
        let queued = Queued {
            message,
            _share: share,
        };
        messages.try_send(queued).is_ok()
    }

    /// Makes a request to the client, ahead of ordinary messages, and waits for its result.
    ///
    /// # Errors
    ///
    /// [`AskError`], also when the connection ends meanwhile. There is no time limit here.
    ///
    /// # Cancel safety
    ///
    /// The answer to a request that was given up is dropped.
    pub(crate) async fn ask<P: Serialize, R: DeserializeOwned>(
        &self,
        method: &'static str,
        params: &P,
    ) -> Result<R, AskError> {
        let mut waiting = self.callbacks.begin().ok_or(AskError::TooMany)?;
        let request = encode_request(&waiting.id.into(), method, params, None, self.form());
        let request = request.map_err(|_| AskError::NoResult)?;
        self.send(Lane::Control, request).await?;
        let answer = tokio::select! {
            answer = &mut waiting.answer => answer,
            () = self.closed.cancelled() => return Err(Disconnected.into()),
        };
        let result = answer.map_err(|_| Disconnected)?;
        let result = result.map_err(|_| AskError::NoResult)?;
        result.decode().map_err(|_| AskError::NoResult)
    }

    /// Takes the client's answer to a request of ours. Returns whether there was such a request.
    pub(crate) fn answered(&self, id: &RequestId, outcome: Outcome) -> bool {
        self.callbacks.answered(id, outcome)
    }

    /// Sends an encoded message.
    ///
    /// # Cancel safety
    ///
    /// A cancelled call has sent either the whole message or nothing.
    pub(crate) async fn send(&self, lane: Lane, message: Bytes) -> Result<(), Disconnected> {
        let send = async {
            match lane {
                Lane::Ordinary => self.ordinary.send(message).await,
                Lane::Prompt => {
                    let way = self.prompt.as_ref().unwrap_or(&self.ordinary);
                    way.send(message).await
                }
                Lane::Control => self.control.send(message).await.map_err(|_| Disconnected),
            }
        };
        tokio::select! {
            sent = send => sent,
            () = self.closed.cancelled() => Err(Disconnected),
        }
    }

    /// From now on payloads travel beside the text. What is encoded already stays as it is.
    /// Once only: a client speaks of it once.
    pub(crate) fn use_form(&self, form: Form) {
        // The first one stays.
        let _ = self.form.set(form);
    }

    /// How messages are to be encoded, and may arrive.
    pub(crate) fn form(&self) -> Form {
        self.form.get().copied().unwrap_or_default()
    }

    /// Whether the connection has ended.
    pub fn is_closed(&self) -> bool {
        self.closed.is_cancelled()
    }
}

impl Way {
    fn new(budget_bytes: usize) -> (Self, mpsc::Receiver<Queued>) {
        let (messages, queue) = mpsc::channel(MESSAGES);
        let way = Self {
            messages,
            budget: Arc::new(Semaphore::new(budget_bytes)),
            budget_bytes,
        };
        (way, queue)
    }

    async fn send(&self, message: Bytes) -> Result<(), Disconnected> {
        let bytes = message.len().clamp(1, self.budget_bytes);
        let bytes = u32::try_from(bytes).unwrap_or(u32::MAX);
        let share = Arc::clone(&self.budget).acquire_many_owned(bytes).await;
        let queued = Queued {
            message,
            _share: share.map_err(|_| Disconnected)?,
        };
        self.messages.send(queued).await.map_err(|_| Disconnected)
    }
}

/// Moves messages from the lanes to the transport. One per connection, owned by its task.
#[derive(Debug)]
pub(crate) struct OutboxWriter {
    ordinary: mpsc::Receiver<Queued>,
    outgoing: mpsc::Sender<Bytes>,
    urgent: Option<(mpsc::Receiver<Queued>, mpsc::Sender<Bytes>)>,
    control: mpsc::Receiver<Bytes>,
    closed: CancellationToken,
}

impl OutboxWriter {
    /// Runs until the transport is gone, or until `finish` is cancelled and the lanes are empty.
    pub(crate) async fn run(self, finish: CancellationToken) {
        let _closed = self.closed.drop_guard();
        let control = Some(self.control);
        match self.urgent {
            None => drop(carry(control, self.ordinary, self.outgoing, &finish).await),
            Some((prompt, urgent)) => {
                let urgent = carry(control, prompt, urgent, &finish);
                let ordinary = carry(None, self.ordinary, self.outgoing, &finish);
                // Ends with the first that has lost its transport.
                let _ = tokio::try_join!(urgent, ordinary);
            }
        }
    }
}

/// Carries messages until `finish` is cancelled and there is none.
async fn carry(
    mut control: Option<mpsc::Receiver<Bytes>>,
    mut others: mpsc::Receiver<Queued>,
    transport: mpsc::Sender<Bytes>,
    finish: &CancellationToken,
) -> Result<(), Disconnected> {
    loop {
        let first = async {
            match &mut control {
                Some(control) => control.recv().await,
                None => None,
            }
        };
        let sent = tokio::select! {
            // Control answers overtake; the rest of the order does not matter.
            biased;
            Some(message) = first => transport.send(message).await,
            Some(queued) = others.recv() => {
                // The share goes back only after the transport has taken the message.
                let Queued { message, _share } = queued;
                transport.send(message).await
            }
            () = finish.cancelled() => return Ok(()),
            () = transport.closed() => return Err(Disconnected),
        };
        sent.map_err(|_| Disconnected)?;
    }
}

#[cfg(test)]
mod tests;
