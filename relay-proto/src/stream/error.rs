//! Why a stream ends on this side.

use crate::limits;
use crate::noise::RecordError;
use crate::reorder::ReorderError;
use crate::segment::SegmentError;

/// Why an open stream ended on this side.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum StreamError {
    /// The peer's records cannot be put in order.
    #[error(transparent)]
    Reorder(#[from] ReorderError),
    /// The peer's record does not open, or our numbers are used up.
    #[error(transparent)]
    Record(#[from] RecordError),
    /// The peer's message has an impossible length.
    #[error(transparent)]
    Segment(#[from] SegmentError),
    /// The peer sent data before its handshake was answered.
    #[error("data before the handshake was answered")]
    EarlyData,
    /// A missing record did not arrive.
    #[error("missing record did not arrive within {:?}", limits::GAP_TIMEOUT)]
    GapTimeout,
    /// The peer says that it has a record which was never sent.
    #[error("peer acknowledges a record that was never sent")]
    FalseAcknowledgement,
    /// The peer misses a record from the time before it was known to acknowledge.
    #[error("peer misses a record that is no longer kept")]
    BeyondRepair,
    /// The path to the peer is dead, and no other was found in time.
    #[error("no path to the peer")]
    PathLost,
    /// What was queued when the stream was closed could not be sent.
    #[error(
        "closed stream could not be drained within {:?}",
        limits::DRAIN_TIMEOUT
    )]
    DrainTimeout,
    /// The application does not take messages as fast as the peer sends them.
    #[error("received messages exceed the limit of one stream")]
    TooSlow,
    /// It held room for a large message, did not get on, and others waited for the room.
    #[error(
        "large message not taken for {:?} while others wait",
        limits::LARGE_WAIT
    )]
    RoomNeeded,
    /// All streams together hold too much, and this one the most.
    #[error(
        "received data exceeds the connection's limit of {limit} bytes",
        limit = limits::CONNECTION_RECEIVE_BYTES
    )]
    ConnectionFull,
    /// A new stream needed the place of this one, which had been silent the longest.
    #[error(
        "silent for {:?} and its place is needed",
        limits::STREAM_EVICTION_IDLE
    )]
    Evicted,
}

impl StreamError {
    /// A name from a closed set, usable as a metric label.
    pub fn reason(&self) -> &'static str {
        match self {
            Self::Reorder(ReorderError::TooFar { .. }) => "reorder_distance",
            Self::Reorder(ReorderError::TooMuch { .. }) => "reorder_bytes",
            Self::Record(RecordError::Exhausted) => "sequence_exhausted",
            Self::Record(_) => "record",
            Self::Segment(_) => "segment",
            Self::EarlyData => "data_before_handshake",
            Self::GapTimeout => "gap_timeout",
            Self::FalseAcknowledgement => "false_acknowledgement",
            Self::BeyondRepair => "beyond_repair",
            Self::PathLost => "path_lost",
            Self::DrainTimeout => "drain_timeout",
            Self::TooSlow => "too_slow",
            Self::RoomNeeded => "room_needed",
            Self::ConnectionFull => "connection_full",
            Self::Evicted => "evicted",
        }
    }
}
