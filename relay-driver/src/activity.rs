//! What the application's ends of the channels do, as futures the driver polls together.
//!
//! Each future ends when its stream's token is cancelled, and then drops its end of the channel:
//! that is how the application learns of a stream's end.

use std::future::Future;
use std::pin::Pin;

use bytes::Bytes;
use relay_proto::ids::StreamId;
use relay_proto::{HandshakeToken, Priority};
use tokio::sync::mpsc::{self, OwnedPermit};
use tokio::sync::oneshot;
use tokio_util::sync::CancellationToken;

use crate::handles::Answer;

/// Something an application did.
pub(crate) enum Activity {
    /// It answered a handshake; dropping the request is an answer too.
    Answered(HandshakeToken, Option<Answer>),
    /// It sent a message of a class, or dropped the sender.
    Sent(StreamKey, Priority, mpsc::Receiver<Bytes>, Option<Bytes>),
    /// It made room for another message, or dropped its receiver.
    Room(StreamKey, Option<OwnedPermit<Bytes>>),
    /// It dropped its receiver.
    Deaf(StreamKey),
    /// The stream ended first.
    Over,
}

impl Activity {
    /// The stream whose application it was, if it is one.
    pub(crate) fn stream(&self) -> Option<&StreamKey> {
        match self {
            Self::Sent(key, ..) | Self::Room(key, _) | Self::Deaf(key) => Some(key),
            Self::Answered(..) | Self::Over => None,
        }
    }
}

/// A stream, and which one of those that used its id.
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct StreamKey {
    pub(crate) id: StreamId,
    pub(crate) serial: u64,
}

pub(crate) type Pending = Pin<Box<dyn Future<Output = Activity> + Send>>;

pub(crate) fn answer(
    token: HandshakeToken,
    answer: oneshot::Receiver<Answer>,
    over: CancellationToken,
) -> Pending {
    until(
        over,
        async move { Activity::Answered(token, answer.await.ok()) },
    )
}

pub(crate) fn outgoing(
    key: StreamKey,
    priority: Priority,
    mut receiver: mpsc::Receiver<Bytes>,
    over: CancellationToken,
) -> Pending {
    until(over, async move {
        let message = receiver.recv().await;
        Activity::Sent(key, priority, receiver, message)
    })
}

pub(crate) fn room(
    key: StreamKey,
    sender: mpsc::Sender<Bytes>,
    over: CancellationToken,
) -> Pending {
    until(over, async move {
        Activity::Room(key, sender.reserve_owned().await.ok())
    })
}

pub(crate) fn deaf(
    key: StreamKey,
    sender: mpsc::Sender<Bytes>,
    over: CancellationToken,
) -> Pending {
    until(over, async move {
        sender.closed().await;
        Activity::Deaf(key)
    })
}

fn until(
    over: CancellationToken,
    activity: impl Future<Output = Activity> + Send + 'static,
) -> Pending {
    Box::pin(async move {
        over.run_until_cancelled(activity)
            .await
            .unwrap_or(Activity::Over)
    })
}
