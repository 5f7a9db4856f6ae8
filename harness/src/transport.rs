//! What carries JSON messages: two channels, and how a new pair of them is made.
//!
//! One [`Transport`] is one physical connection. It says nothing about sessions or requests; it ends
//! by its `incoming` channel ending, and is ended by being dropped. [`Dial`] makes one, and is asked
//! again for each reconnect, so everything that is valid for one connection only (bundles, signed
//! URLs, stream ids) is obtained inside it.

use std::{fmt, future::Future, pin::Pin};

use bytes::Bytes;
use registry_client::ConnectError;
use relay_proto::keys::PublicKey;
use tokio::{sync::mpsc, task::JoinHandle};

pub(crate) use self::relay::Resumptions;
use crate::{Error, limits};

pub(crate) mod direct;
pub(crate) mod relay;

/// One connection to an executor. Each `Bytes` is one whole JSON message.
pub struct Transport {
    /// Messages of the executor. The channel ends when the connection does.
    pub incoming: mpsc::Receiver<Bytes>,
    /// Messages to the executor. Sending fails when the connection has ended.
    pub outgoing: mpsc::Sender<Bytes>,
    /// The executor's static key, if the transport authenticates one. It is pinned for the session.
    pub executor_key: Option<PublicKey>,
    /// How often the connection went on over another path without anybody noticing.
    resumptions: Resumptions,
    /// What moves the bytes; stopped when the transport is dropped.
    task: Option<AbortOnDrop>,
}

impl Transport {
    /// Makes a transport of two channels, for tests and for carriers of one's own.
    pub fn new(incoming: mpsc::Receiver<Bytes>, outgoing: mpsc::Sender<Bytes>) -> Self {
        Self {
            incoming,
            outgoing,
            executor_key: None,
            resumptions: Resumptions::default(),
            task: None,
        }
    }

    /// Says which key the executor proved to hold.
    #[must_use]
    pub fn with_executor_key(mut self, key: PublicKey) -> Self {
        self.executor_key = Some(key);
        self
    }

    /// Ties the task that moves the bytes to the life of the transport.
    #[must_use]
    pub fn with_task(self, task: JoinHandle<()>) -> Self {
        self.with_owner(AbortOnDrop::new(task))
    }

    /// The channels, and what has to live as long as they are used.
    pub(crate) fn into_parts(
        self,
    ) -> (
        mpsc::Receiver<Bytes>,
        mpsc::Sender<Bytes>,
        Option<AbortOnDrop>,
    ) {
        (self.incoming, self.outgoing, self.task)
    }

    pub(crate) fn with_resumptions(mut self, resumptions: Resumptions) -> Self {
        self.resumptions = resumptions;
        self
    }

    pub(crate) fn resumptions(&self) -> Resumptions {
        self.resumptions.clone()
    }

    pub(crate) fn with_owner(mut self, task: AbortOnDrop) -> Self {
        self.task = Some(task);
        self
    }

    /// Ends the connection, with a goodbye if the carrier has one and does not take long over it.
    pub(crate) async fn close(self) {
        let (incoming, outgoing, task) = self.into_parts();
        drop(outgoing);
        drop(incoming);
        if let Some(mut task) = task {
            let _ = tokio::time::timeout(limits::CLOSE_TIMEOUT, task.ended()).await;
        }
    }
}

impl fmt::Debug for Transport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Transport")
            .field("executor_key", &self.executor_key)
            .finish_non_exhaustive()
    }
}

/// The future of [`Dial::dial`].
pub type DialFuture<'a> = Pin<Box<dyn Future<Output = Result<Transport, Error>> + Send + 'a>>;

/// Makes connections to one executor.
pub trait Dial: Send + Sync + 'static {
    /// Makes a new connection.
    ///
    /// `pinned` is the key that the executor of the session holds. An implementation that learns of
    /// another key must fail with [`Error::ExecutorKeyChanged`] before it sends anything to it.
    fn dial<'a>(&'a self, pinned: Option<&'a PublicKey>) -> DialFuture<'a>;
}

/// A task that does not outlive its owner.
#[derive(Debug)]
pub(crate) struct AbortOnDrop(JoinHandle<()>);

impl AbortOnDrop {
    pub(crate) fn new(task: JoinHandle<()>) -> Self {
        Self(task)
    }

    /// Waits for the task. One that panicked has ended too.
    pub(crate) async fn ended(&mut self) {
        let _ = (&mut self.0).await;
    }
}

impl Drop for AbortOnDrop {
    fn drop(&mut self) {
        self.0.abort();
    }
}

/// Says what a refused or failed websocket means.
pub(crate) fn connect_error(context: &str, error: ConnectError) -> Error {
    match &error {
        ConnectError::Url(_) => Error::Misuse(chain(&error)),
        // Whatever it is, another attempt may go better: a rendezvous sees a new URL then.
        _ => Error::Unavailable {
            context: context.to_owned(),
            detail: chain(&error),
            retry_after: error.retry_after(),
        },
    }
}

/// An error with its causes, in one line.
pub(crate) fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        let cause_text = cause.to_string();
        if !text.ends_with(&cause_text) {
            text.push_str(": ");
            text.push_str(&cause_text);
        }
        source = cause.source();
    }
    text
}
