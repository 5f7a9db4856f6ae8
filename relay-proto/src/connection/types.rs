//! What goes in and out of a [`Connection`](super::Connection) besides bytes and time.

use bytes::Bytes;

use crate::ids::StreamId;
use crate::keepalive::KeepaliveConfig;
use crate::keys::PublicKey;
use crate::limits;
use crate::link::Reliability;
use crate::liveness::HeartbeatConfig;
use crate::noise::HandshakeError;
use crate::stream::StreamError;

/// Parameters of a connection. Everything else is in [`limits`].
#[derive(Clone, Copy, Debug, Default)]
pub struct ConnectionConfig {
    /// Pings.
    pub keepalive: KeepaliveConfig,
    /// What is done for streams to survive loss.
    pub reliability: Reliability,
    /// Signs of life between the ends.
    pub heartbeat: HeartbeatConfig,
}

/// Something for the application.
#[non_exhaustive]
pub enum Event {
    /// Executor: a harness wants to open a stream. Answer with
    /// [`Connection::authorize`](super::Connection::authorize) within
    /// [`limits::AUTHORIZATION_TIMEOUT`].
    HandshakeRequested {
        /// Names the handshake, and the stream it would open.
        token: HandshakeToken,
        /// Who it is: the key that the registry has to know.
        harness_key: PublicKey,
        /// What it showed. Secret: not to be logged.
        authorization: String,
    },
    /// A stream is open.
    Opened {
        /// Which.
        stream: StreamId,
    },
    /// A message arrived, complete and in order.
    Message {
        /// On which stream.
        stream: StreamId,
        /// The message.
        message: Bytes,
    },
    /// A send that would have blocked may be tried again.
    Writable {
        /// On which stream.
        stream: StreamId,
    },
    /// A stream has no path to its peer at the moment. It stays open: messages may be sent, as far as
    /// they fit its window, and wait.
    Suspended {
        /// Which.
        stream: StreamId,
    },
    /// A suspended stream has a path again.
    Resumed {
        /// Which.
        stream: StreamId,
    },
    /// A stream, or a handshake on its way to one, is gone. Nothing follows for it.
    Closed {
        /// Which.
        stream: StreamId,
        /// Why.
        reason: CloseReason,
    },
}

impl std::fmt::Debug for Event {
    // Neither authorization texts nor messages belong in a log.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::HandshakeRequested {
                token, harness_key, ..
            } => f
                .debug_struct("HandshakeRequested")
                .field("token", token)
                .field("harness_key", harness_key)
                .finish_non_exhaustive(),
            Self::Opened { stream } => f.debug_struct("Opened").field("stream", stream).finish(),
            Self::Message { stream, message } => f
                .debug_struct("Message")
                .field("stream", stream)
                .field("bytes", &message.len())
                .finish(),
            Self::Writable { stream } => {
                f.debug_struct("Writable").field("stream", stream).finish()
            }
            Self::Suspended { stream } => {
                f.debug_struct("Suspended").field("stream", stream).finish()
            }
            Self::Resumed { stream } => f.debug_struct("Resumed").field("stream", stream).finish(),
            Self::Closed { stream, reason } => f
                .debug_struct("Closed")
                .field("stream", stream)
                .field("reason", reason)
                .finish(),
        }
    }
}

/// Names one handshake, even among several with the same stream id.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HandshakeToken {
    stream: StreamId,
    serial: u64,
}

impl HandshakeToken {
    pub(super) fn new(stream: StreamId, serial: u64) -> Self {
        Self { stream, serial }
    }

    /// The stream it would open.
    pub fn stream(&self) -> &StreamId {
        &self.stream
    }

    pub(super) fn serial(&self) -> u64 {
        self.serial
    }
}

/// Answer to [`Event::HandshakeRequested`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// The registry knows the harness: open the stream.
    Approved,
    /// It may not enter, or nobody could tell.
    Refused,
    /// The registry does not accept the executor's own credentials; the harness is told so.
    CredentialsRejected,
}

/// Why a stream is gone.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum CloseReason {
    /// The peer, or the rendezvous, ended it. Resets are not authenticated.
    #[error("reset by peer")]
    ResetByPeer,
    /// The application ended it.
    #[error("closed locally")]
    Local,
    /// Executor: the verdict, or a limit, was against it.
    #[error("handshake refused")]
    Refused,
    /// The registry rejected the executor's credentials.
    #[error("environment registry rejected executor credentials")]
    CredentialsRejected,
    /// Executor: no verdict in time.
    #[error("no verdict within {:?}", limits::AUTHORIZATION_TIMEOUT)]
    AuthorizationTimeout,
    /// Harness: no answer in time.
    #[error("no handshake answer within {:?}", limits::HANDSHAKE_TIMEOUT)]
    HandshakeTimeout,
    /// The handshake failed.
    #[error(transparent)]
    Handshake(HandshakeError),
    /// The open stream failed.
    #[error(transparent)]
    Stream(StreamError),
}

impl CloseReason {
    /// A name from a closed set, usable as a metric label.
    pub fn reason(&self) -> &'static str {
        match self {
            Self::ResetByPeer => "reset_by_peer",
            Self::Local => "local",
            Self::Refused => "refused",
            Self::CredentialsRejected => "credentials_rejected",
            Self::AuthorizationTimeout => "validation_timeout",
            Self::HandshakeTimeout => "handshake_timeout",
            Self::Handshake(error) => error.reason(),
            Self::Stream(error) => error.reason(),
        }
    }

    /// Whether messages that arrived before the end are still for the application.
    pub(super) fn leaves_messages(&self) -> bool {
        !matches!(
            self,
            Self::Local
                | Self::Stream(
                    StreamError::TooSlow | StreamError::RoomNeeded | StreamError::ConnectionFull
                )
        )
    }

    /// Whether opening another stream may go better.
    pub fn is_retryable(&self) -> bool {
        !matches!(
            self,
            Self::Local
                | Self::CredentialsRejected
                | Self::Handshake(
                    HandshakeError::PublicKey | HandshakeError::AuthorizationTooLong { .. }
                )
        )
    }
}

/// Something for the websocket.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Transmit {
    /// A binary message.
    Frame(Bytes),
    /// A ping with an empty payload.
    Ping,
}

/// Why the websocket is to be dropped.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ConnectionError {
    /// The path is dead.
    #[error("no sign of life after a ping")]
    PongTimeout,
    /// Harness: the websocket may work, but the executor does not answer.
    #[error("no sign of life from the executor")]
    PathDead,
    /// The peer sent more than a websocket message may hold.
    #[error(
        "websocket message of {length} bytes exceeds limit of {limit} bytes",
        limit = limits::WEBSOCKET_MESSAGE_BYTES
    )]
    MessageTooLong {
        /// Its length in bytes.
        length: usize,
    },
}

/// Why a stream could not be opened.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum OpenError {
    /// The executor's key or the authorization cannot be used.
    #[error(transparent)]
    Handshake(#[from] HandshakeError),
    /// The stream id is in use on this connection.
    #[error("stream id is in use")]
    InUse,
    /// The connection carries as many streams as it may.
    #[error("connection carries {} streams already", limits::ACTIVE_STREAMS)]
    TooManyStreams,
    /// Only a harness opens streams.
    #[error("executor cannot open a stream")]
    WrongRole,
}

/// Why a message was not queued.
#[derive(Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum SendError {
    /// The window is full; here is the message back.
    #[error("send window is full")]
    WouldBlock(Bytes),
    /// The stream is not open.
    #[error("stream is not open")]
    Closed,
    /// The message is empty or too long.
    #[error(
        "message of {length} bytes, expected 1 to {} bytes",
        limits::MESSAGE_BYTES
    )]
    Length {
        /// Its length in bytes.
        length: usize,
    },
}

impl std::fmt::Debug for SendError {
    // The message that comes back does not belong in a log.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::WouldBlock(message) => write!(f, "WouldBlock({} bytes)", message.len()),
            Self::Closed => f.write_str("Closed"),
            Self::Length { length } => write!(f, "Length({length} bytes)"),
        }
    }
}

/// Plain counters of one connection, for the shell to export.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ConnectionStats {
    /// Websocket binary messages taken, valid or not.
    pub frames_received: u64,
    /// Websocket binary messages handed out.
    pub frames_sent: u64,
    /// Of the received ones, those that were not valid frames and were ignored.
    pub frames_malformed: u64,
    /// Statements that are not from the peer and were ignored.
    pub statements_forged: u64,
    /// Frames handed out for nothing but a statement.
    pub statements_sent: u64,
    /// Records handed out again.
    pub records_repeated: u64,
    /// Records that were dropped because they have to come again: they do not open, or are further
    /// ahead than the peer may go.
    pub records_dropped: u64,
    /// Records that had arrived before and were ignored.
    pub records_duplicate: u64,
    /// Records that arrived before their turn.
    pub records_early: u64,
    /// Streams that became open.
    pub streams_opened: u64,
    /// Of those, the ones that are not open any more.
    pub streams_closed: u64,
    /// Streams and handshakes ended because a rule or a limit was broken; resets sent for it.
    pub streams_failed: u64,
    /// How often a stream lost its path and was kept.
    pub streams_suspended: u64,
    /// How often one got a path again.
    pub streams_resumed: u64,
    /// Handshakes whose cryptography failed.
    pub handshakes_failed: u64,
    /// Handshakes refused by verdict or limit.
    pub handshakes_refused: u64,
    /// Handshake frames for streams that had one already.
    pub handshakes_ignored: u64,
    /// Reset frames received.
    pub resets_received: u64,
    /// Reset frames handed out.
    pub resets_sent: u64,
    /// Reset frames not sent because the websocket took nothing for too long.
    pub resets_dropped: u64,
}
