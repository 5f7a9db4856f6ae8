//! The seam between transports and sessions: one JSON-RPC connection as two channels of messages.
//!
//! A websocket message, a line of standard input and a message of a relay stream all become the
//! [`Bytes`] of one JSON message here, and outgoing messages are the same. Framing, keepalive and
//! encryption belong to the transports; classification and answers belong to
//! [`session`](crate::session).

mod callback;
mod outbox;

use std::fmt;
use std::net::SocketAddr;

use bytes::Bytes;
use relay_driver::Path;
use relay_proto::ids::StreamId;
use relay_proto::keys::PublicKey;
use tokio::sync::{mpsc, watch};

pub(crate) use callback::Outcome;
pub(crate) use outbox::Lane;
pub use outbox::{Disconnected, Outbox};

/// One JSON-RPC connection. Either side dropping its channel ends means disconnected.
///
/// Both channels should be short (a handful of messages): bounds in bytes are kept by the
/// transport on the way in and by [`Outbox`] on the way out.
#[derive(Debug)]
pub struct Transport {
    /// Whole messages from the peer.
    pub incoming: mpsc::Receiver<Bytes>,
    /// Whole messages to the peer.
    pub outgoing: mpsc::Sender<Bytes>,
    /// Who the peer is, for texts.
    pub peer: PeerLabel,
    /// What only streams of the relay have.
    pub stream: Option<StreamSide>,
}

/// What a stream of the relay has beyond two channels.
#[derive(Debug, Clone)]
pub struct StreamSide {
    /// Takes messages that may overtake those in [`Transport::outgoing`].
    pub urgent: mpsc::Sender<Bytes>,
    /// Whether the peer can be reached at the moment. A stream outlives the path it came by.
    pub path: watch::Receiver<Path>,
}

impl Transport {
    /// A connection over any transport but a stream of the relay.
    pub fn new(
        incoming: mpsc::Receiver<Bytes>,
        outgoing: mpsc::Sender<Bytes>,
        peer: PeerLabel,
    ) -> Self {
        Self {
            incoming,
            outgoing,
            peer,
            stream: None,
        }
    }
}

/// Who is at the other end, as far as the transport knows.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum PeerLabel {
    /// A websocket client.
    WebSocket(SocketAddr),
    /// Standard input and output.
    Stdio,
    /// A stream of the relay.
    Relay {
        /// The stream's id.
        stream: StreamId,
        /// The static key that the harness proved to have in the handshake.
        key: PublicKey,
    },
}

impl PeerLabel {
    /// The key that the peer proved to have. Direct connections have none: whoever reaches them may
    /// be anybody.
    pub(crate) fn key(&self) -> Option<&PublicKey> {
        match self {
            Self::Relay { key, .. } => Some(key),
            Self::WebSocket(_) | Self::Stdio => None,
        }
    }

    /// The text before the detail of a parse error.
    pub(crate) fn parse_error_prefix(&self) -> String {
        match self {
            Self::WebSocket(peer) => format!(
                "failed to parse websocket JSON-RPC message from exec-server websocket {peer}"
            ),
            Self::Stdio => "failed to parse JSON-RPC message from exec-server stdio".to_owned(),
            Self::Relay { stream, .. } => {
                format!("failed to parse JSON-RPC message from exec-server relay stream {stream}")
            }
        }
    }
}

impl fmt::Display for PeerLabel {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::WebSocket(peer) => write!(f, "websocket {peer}"),
            Self::Stdio => f.write_str("stdio"),
            Self::Relay { stream, .. } => write!(f, "relay stream {stream}"),
        }
    }
}
