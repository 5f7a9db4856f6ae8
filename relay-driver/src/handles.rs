//! What a driver gives to its application.

use std::time::Duration;

use bytes::Bytes;
use relay_proto::ids::StreamId;
use relay_proto::keys::PublicKey;
use relay_proto::{CloseReason, OpenError, Verdict};
use tokio::sync::{mpsc, oneshot, watch};

/// One open stream: whole messages in both directions.
///
/// When the stream ends, for whatever reason, `incoming` ends and the senders are closed. Dropping
/// `incoming` and `outgoing` ends the stream after what is queued has been sent.
#[derive(Debug)]
pub struct Stream {
    /// Which stream.
    pub id: StreamId,
    /// Messages from the peer. While it is full this stream waits, up to its window; no other does.
    pub incoming: mpsc::Receiver<Bytes>,
    /// Messages to the peer, of 1 to [`MESSAGE_BYTES`](relay_proto::limits::MESSAGE_BYTES) bytes
    /// each; any other length resets the stream. Waits while the stream's window is full.
    pub outgoing: mpsc::Sender<Bytes>,
    /// The same, for messages that may overtake those of `outgoing` which have not begun to be sent;
    /// see [`Priority::Urgent`](relay_proto::Priority::Urgent) for what that means for their order.
    pub urgent: mpsc::Sender<Bytes>,
    /// Whether the stream has a path to its peer; see [`Path`].
    pub path: watch::Receiver<Path>,
}

/// Whether an open stream can be used at the moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Path {
    /// As far as is known, yes.
    Live,
    /// Not at the moment: its websocket has ended, or its peer does not answer. Messages wait. It
    /// becomes live again, or the stream ends within
    /// [`SUSPENDED_TIME`](relay_proto::limits::SUSPENDED_TIME).
    ///
    /// An executor may let the same harness go on with its session over another stream meanwhile, and
    /// should then drop this one.
    Lost,
}

/// A harness that asks to come in. Dropping it refuses.
pub struct IncomingStream {
    /// The stream it would open.
    pub id: StreamId,
    /// Who it is.
    pub harness_key: PublicKey,
    /// What it showed; secret.
    pub authorization: String,
    pub(crate) answer: oneshot::Sender<Answer>,
}

impl IncomingStream {
    /// Lets it in.
    ///
    /// # Errors
    ///
    /// [`StreamGone`] if the handshake timed out or was reset meanwhile, or a limit is reached.
    ///
    /// # Cancel safety
    ///
    /// If the future is dropped after its first poll, the stream may open and is then reset at once.
    pub async fn approve(self) -> Result<Stream, StreamGone> {
        let (opened, stream) = oneshot::channel();
        self.answer
            .send(Answer::Approve(opened))
            .map_err(|_| StreamGone)?;
        stream.await.map_err(|_| StreamGone)
    }

    /// Refuses it.
    pub fn refuse(self) {
        // Nobody to tell if the handshake is gone.
        let _ = self.answer.send(Answer::Verdict(Verdict::Refused));
    }

    /// Tells it that the registry no longer accepts this executor's credentials.
    pub fn reject_credentials(self) {
        let _ = self
            .answer
            .send(Answer::Verdict(Verdict::CredentialsRejected));
    }

    /// Waits until the answer no longer matters: the handshake timed out or was reset.
    ///
    /// # Cancel safety
    ///
    /// Cancel safe.
    pub async fn gone(&mut self) {
        self.answer.closed().await;
    }
}

impl std::fmt::Debug for IncomingStream {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("IncomingStream")
            .field("id", &self.id)
            .field("harness_key", &self.harness_key)
            .finish_non_exhaustive()
    }
}

/// Answer to a handshake, on its way to the driver.
pub(crate) enum Answer {
    Approve(oneshot::Sender<Stream>),
    Verdict(Verdict),
}

/// The handshake that was to be approved is gone.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("stream is gone")]
pub struct StreamGone;

/// What a harness opens its stream with.
pub struct OpenRequest {
    /// A fresh id; a UUID is expected.
    pub stream: StreamId,
    /// The executor's key, from the registry.
    pub executor_key: PublicKey,
    /// The authorization text, from the registry; secret.
    pub authorization: String,
}

impl std::fmt::Debug for OpenRequest {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("OpenRequest")
            .field("stream", &self.stream)
            .field("executor_key", &self.executor_key)
            .finish_non_exhaustive()
    }
}

/// A harness's stream that is being opened while its driver runs.
#[derive(Debug)]
pub struct Opening(pub(crate) oneshot::Receiver<Result<Stream, OpenFailure>>);

impl Opening {
    /// Waits for the executor's answer. The driver must be running.
    ///
    /// # Errors
    ///
    /// [`OpenFailure`]
    ///
    /// # Cancel safety
    ///
    /// If dropped, the stream is reset as soon as it opens.
    pub async fn opened(self) -> Result<Stream, OpenFailure> {
        self.0.await.unwrap_or(Err(OpenFailure::Disconnected(
            DisconnectReason::LocalShutdown,
        )))
    }
}

/// Why a harness's stream did not open.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum OpenFailure {
    /// It could not even be asked for.
    #[error(transparent)]
    Invalid(#[from] OpenError),
    /// The handshake ended without success.
    #[error("stream did not open")]
    Closed(#[source] CloseReason),
    /// The websocket ended first.
    #[error("disconnected before the stream opened: {}", .0.reason())]
    Disconnected(DisconnectReason),
}

impl OpenFailure {
    /// A name from a closed set, usable as a metric label.
    pub fn reason(&self) -> &'static str {
        match self {
            Self::Invalid(_) => "invalid",
            Self::Closed(reason) => reason.reason(),
            Self::Disconnected(reason) => reason.reason(),
        }
    }
}

/// Why a driver ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum DisconnectReason {
    /// The other end closed the websocket.
    PeerClose,
    /// The other end closed the websocket because it is about to stop, and said when to come back.
    SentAway {
        /// The time to wait, instead of the delay that another loss would have.
        retry_after: Duration,
    },
    /// Reading failed, or the socket ended without a close frame.
    ReadError,
    /// Writing failed, or took longer than [`WRITE_TIMEOUT`](relay_proto::limits::WRITE_TIMEOUT).
    WriteError,
    /// No sign of life after a ping.
    PongTimeout,
    /// Harness: the websocket may work, but the executor does not answer.
    PathDead,
    /// The other end sent a message longer than allowed.
    MessageTooLong,
    /// This side cancelled.
    LocalShutdown,
    /// Harness: the one stream ended, or did not open.
    StreamClosed(CloseReason),
    /// Harness: the stream could not be asked for.
    OpenInvalid,
}

impl DisconnectReason {
    /// A name from a closed set, usable as a metric label.
    pub fn reason(&self) -> &'static str {
        match self {
            Self::PeerClose => "peer_close",
            Self::SentAway { .. } => "sent_away",
            Self::ReadError => "read_error",
            Self::WriteError => "write_error",
            Self::PongTimeout => "pong_timeout",
            Self::PathDead => "path_dead",
            Self::MessageTooLong => "message_too_long",
            Self::LocalShutdown => "local_shutdown",
            Self::StreamClosed(reason) => reason.reason(),
            Self::OpenInvalid => "open_invalid",
        }
    }

    /// Whether this end wants no more of the streams, so that there is nothing to resume.
    pub(crate) fn is_final(self) -> bool {
        matches!(
            self,
            Self::LocalShutdown | Self::StreamClosed(_) | Self::OpenInvalid
        )
    }

    /// Whether the websocket still works and deserves a goodbye.
    pub(crate) fn is_orderly(self) -> bool {
        matches!(
            self,
            Self::PeerClose
                | Self::SentAway { .. }
                | Self::LocalShutdown
                | Self::StreamClosed(_)
                | Self::OpenInvalid
        )
    }
}
