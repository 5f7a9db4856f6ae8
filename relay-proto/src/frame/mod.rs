//! Relay frames: one websocket binary message is one frame.
//!
//! Decoding is parsing plus checking in one step: a [`Frame`] that exists is valid. The payload of a
//! decoded frame shares the memory of the message it came from.
//!
//! A router that only needs to know where a frame goes uses [`peek()`] and forwards the bytes as they
//! came, so that fields it does not know survive.
//!
//! ```text
//! field  1 version       uint32   must be 1
//! field  2 stream_id     string   must not be blank
//! field  3 ack           uint32   not used by Codex 0.169
//! field  4 ack_bits      uint32   not used by Codex 0.169
//! field  5 data          { 1 seq, 2 segment_index = 0, 3 segment_count = 1, 4 payload, not empty }
//! field  6 ack_frame     {}
//! field  7 resume        { 1 next_seq }
//! field  8 reset         { 1 reason, not empty }
//! field  9 heartbeat     {}
//! field 10 handshake     { 1 payload, not empty }
//! field 11 traceparent   optional string
//! field 12 tracestate    optional string
//! field 1000 statement   what ends of this project add, see [`Statement`]; ignored by others
//! ```

#[cfg(feature = "noise")]
mod data;
mod peek;
mod statement;
mod wire;

use bytes::Bytes;
use prost::Message;

#[cfg(feature = "noise")]
pub(crate) use self::data::{begin_acked_data, begin_data, end_acked_data};
pub use self::peek::{BodyKind, Peek, peek};
pub use self::statement::Statement;
use crate::ids::{IdError, Seq, StreamId};
use crate::limits;

/// The only frame version.
pub const VERSION: u32 = 1;

/// One valid relay frame.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Frame {
    /// The stream it belongs to.
    pub stream_id: StreamId,
    /// Every record with a lower number has arrived; always 0 from Codex 0.169.
    pub ack: u32,
    /// Bit `i`: record `ack + 1 + i` has arrived; always 0 from Codex 0.169.
    pub ack_bits: u32,
    /// What it carries.
    pub body: Body,
    /// Trace context, visible to the rendezvous and not authenticated.
    pub traceparent: Option<String>,
    /// Trace context, visible to the rendezvous and not authenticated.
    pub tracestate: Option<String>,
    /// What its sender says about its receiving side; never from Codex 0.169.
    pub statement: Option<Statement>,
}

/// What a frame carries.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Body {
    /// One encrypted record.
    Data {
        /// Its number in this direction of the stream.
        seq: Seq,
        /// Ciphertext and tag.
        payload: Bytes,
    },
    /// Carries only the acknowledgement fields.
    Ack,
    /// Claims the stream id for the sending socket.
    Resume {
        /// Always 0 from Codex 0.169.
        next_seq: u32,
    },
    /// Ends the stream.
    Reset {
        /// Any text; untrusted.
        reason: String,
    },
    /// Does nothing.
    Heartbeat,
    /// One handshake message.
    Handshake {
        /// The Noise message.
        payload: Bytes,
    },
}

impl Body {
    /// Which kind of body this is.
    pub fn kind(&self) -> BodyKind {
        match self {
            Self::Data { .. } => BodyKind::Data,
            Self::Ack => BodyKind::Ack,
            Self::Resume { .. } => BodyKind::Resume,
            Self::Reset { .. } => BodyKind::Reset,
            Self::Heartbeat => BodyKind::Heartbeat,
            Self::Handshake { .. } => BodyKind::Handshake,
        }
    }
}

impl Frame {
    /// A frame without acknowledgement and trace context.
    pub fn new(stream_id: StreamId, body: Body) -> Self {
        Self {
            stream_id,
            ack: 0,
            ack_bits: 0,
            body,
            traceparent: None,
            tracestate: None,
            statement: None,
        }
    }

    /// A reset with the fixed reason, [`limits::RESET_REASON`].
    pub fn reset(stream_id: StreamId) -> Self {
        Self::new(
            stream_id,
            Body::Reset {
                reason: limits::RESET_REASON.to_owned(),
            },
        )
    }

    /// Parses and checks one websocket message.
    ///
    /// Unknown fields are ignored. Cost: no copy of the payload, which keeps `message` alive.
    ///
    /// # Errors
    ///
    /// [`FrameError`] if it is not a frame or not a valid one.
    pub fn decode(message: Bytes) -> Result<Self, FrameError> {
        if message.len() > limits::WEBSOCKET_MESSAGE_BYTES {
            return Err(FrameError::TooLong {
                length: message.len(),
            });
        }
        let frame = wire::RelayMessageFrame::decode(message)?;
        if frame.version != VERSION {
            return Err(FrameError::Version(frame.version));
        }
        Ok(Self {
            stream_id: StreamId::new(frame.stream_id)?,
            ack: frame.ack,
            ack_bits: frame.ack_bits,
            body: frame.body.ok_or(FrameError::NoBody)?.try_into()?,
            traceparent: frame.traceparent,
            tracestate: frame.tracestate,
            statement: frame.statement.as_ref().and_then(statement::from_wire),
        })
    }

    /// The frame as one websocket message: fields in number order, zero scalars left out.
    ///
    /// Cost: copies the payload once.
    pub fn encode(&self) -> Bytes {
        wire::RelayMessageFrame {
            version: VERSION,
            stream_id: self.stream_id.as_str().to_owned(),
            ack: self.ack,
            ack_bits: self.ack_bits,
            body: Some(self.body.clone().into()),
            traceparent: self.traceparent.clone(),
            tracestate: self.tracestate.clone(),
            statement: self.statement.map(Into::into),
        }
        .encode_to_vec()
        .into()
    }
}

impl TryFrom<wire::Body> for Body {
    type Error = FrameError;

    fn try_from(body: wire::Body) -> Result<Self, FrameError> {
        Ok(match body {
            wire::Body::Data(data) => {
                if data.segment_index != 0 || data.segment_count != 1 {
                    return Err(FrameError::Segmented {
                        index: data.segment_index,
                        count: data.segment_count,
                    });
                }
                Self::Data {
                    seq: Seq(data.seq),
                    payload: not_empty(data.payload, "data")?,
                }
            }
            wire::Body::AckFrame(_) => Self::Ack,
            wire::Body::Resume(resume) => Self::Resume {
                next_seq: resume.next_seq,
            },
            wire::Body::Reset(reset) if reset.reason.is_empty() => {
                return Err(FrameError::NoReason);
            }
            wire::Body::Reset(reset) => Self::Reset {
                reason: reset.reason,
            },
            wire::Body::Heartbeat(_) => Self::Heartbeat,
            wire::Body::Handshake(handshake) => Self::Handshake {
                payload: not_empty(handshake.payload, "handshake")?,
            },
        })
    }
}

impl From<Body> for wire::Body {
    fn from(body: Body) -> Self {
        match body {
            Body::Data { seq, payload } => Self::Data(wire::RelayData {
                seq: seq.0,
                segment_index: 0,
                segment_count: 1,
                payload,
            }),
            Body::Ack => Self::AckFrame(wire::RelayAck {}),
            Body::Resume { next_seq } => Self::Resume(wire::RelayResume { next_seq }),
            Body::Reset { reason } => Self::Reset(wire::RelayReset { reason }),
            Body::Heartbeat => Self::Heartbeat(wire::RelayHeartbeat {}),
            Body::Handshake { payload } => Self::Handshake(wire::RelayHandshake { payload }),
        }
    }
}

/// Why a message is not a valid frame.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum FrameError {
    /// Not this protobuf message.
    #[error("malformed relay frame")]
    Malformed(#[source] Option<prost::DecodeError>),
    /// Version is not [`VERSION`].
    #[error("relay frame version {0}, expected {VERSION}")]
    Version(u32),
    /// The stream id is blank or too long.
    #[error("bad stream id in relay frame")]
    StreamId(#[from] IdError),
    /// No body, or one of an unknown kind.
    #[error("relay frame without a body")]
    NoBody,
    /// A segmented data frame; segmentation is done under encryption only.
    #[error("data frame is segment {index} of {count}, expected 0 of 1")]
    Segmented {
        /// `segment_index`.
        index: u32,
        /// `segment_count`.
        count: u32,
    },
    /// An empty payload.
    #[error("{kind} frame with an empty payload")]
    EmptyPayload {
        /// Kind of the body.
        kind: &'static str,
    },
    /// A reset without a reason.
    #[error("reset frame without a reason")]
    NoReason,
    /// Longer than a websocket message may be.
    #[error(
        "relay frame of {length} bytes exceeds limit of {limit} bytes",
        limit = limits::WEBSOCKET_MESSAGE_BYTES
    )]
    TooLong {
        /// Its length in bytes.
        length: usize,
    },
}

impl FrameError {
    /// A name from a closed set, usable as a metric label.
    pub fn reason(&self) -> &'static str {
        match self {
            Self::Malformed(_) => "malformed",
            Self::Version(_) => "version",
            Self::StreamId(_) => "stream_id",
            Self::NoBody => "no_body",
            Self::Segmented { .. } => "segmented",
            Self::EmptyPayload { .. } => "empty_payload",
            Self::NoReason => "no_reason",
            Self::TooLong { .. } => "too_long",
        }
    }
}

impl From<prost::DecodeError> for FrameError {
    fn from(error: prost::DecodeError) -> Self {
        Self::Malformed(Some(error))
    }
}

fn not_empty(payload: Bytes, kind: &'static str) -> Result<Bytes, FrameError> {
    if payload.is_empty() {
        Err(FrameError::EmptyPayload { kind })
    } else {
        Ok(payload)
    }
}

#[cfg(test)]
mod tests;
