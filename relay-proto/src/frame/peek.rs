//! A router's view of a frame: which stream, which kind. Nothing is copied, nothing else is checked.

use super::FrameError;
use crate::ids;

/// Where a frame goes and what kind it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Peek<'a> {
    /// The stream id: not blank, at most [`ID_BYTES`](crate::limits::ID_BYTES) long.
    pub stream_id: &'a str,
    /// The kind of body.
    pub kind: BodyKind,
}

/// Kind of a frame's body.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum BodyKind {
    /// An encrypted record.
    Data,
    /// Acknowledgement fields only.
    Ack,
    /// Claims a stream id.
    Resume,
    /// Ends a stream.
    Reset,
    /// Nothing.
    Heartbeat,
    /// A handshake message.
    Handshake,
    /// No body this version knows; a router forwards it like any other.
    Unknown,
}

impl BodyKind {
    /// The name, usable as a metric label.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Data => "data",
            Self::Ack => "ack",
            Self::Resume => "resume",
            Self::Reset => "reset",
            Self::Heartbeat => "heartbeat",
            Self::Handshake => "handshake",
            Self::Unknown => "unknown",
        }
    }
}

/// Finds the stream id and the kind of body of a frame.
///
/// The ends check the rest: version, payload and unknown fields do not concern a router. When a
/// field repeats, the last one counts, as protobuf says.
///
/// Cost: a walk over the top-level fields, no allocation.
///
/// # Errors
///
/// [`FrameError`] if the bytes are not protobuf fields or carry no usable stream id.
pub fn peek(message: &[u8]) -> Result<Peek<'_>, FrameError> {
    let mut fields = Fields { rest: message };
    let mut stream_id: &[u8] = &[];
    let mut kind = BodyKind::Unknown;
    while let Some(field) = fields.next()? {
        match field {
            (2, Value::Bytes(bytes)) => stream_id = bytes,
            (5, Value::Bytes(_)) => kind = BodyKind::Data,
            (6, Value::Bytes(_)) => kind = BodyKind::Ack,
            (7, Value::Bytes(_)) => kind = BodyKind::Resume,
            (8, Value::Bytes(_)) => kind = BodyKind::Reset,
            (9, Value::Bytes(_)) => kind = BodyKind::Heartbeat,
            (10, Value::Bytes(_)) => kind = BodyKind::Handshake,
            (1..=12, value) if !value.fits(field.0) => return Err(MALFORMED),
            _ => {}
        }
    }
    let stream_id = std::str::from_utf8(stream_id).map_err(|_| MALFORMED)?;
    ids::check_stream_id(stream_id)?;
    Ok(Peek { stream_id, kind })
}

/// One field's value; only its shape is of interest, except for bytes.
#[derive(Clone, Copy)]
enum Value<'a> {
    Varint,
    Fixed,
    Bytes(&'a [u8]),
}

impl Value<'_> {
    /// Whether a known field has its own wire type.
    fn fits(self, number: u32) -> bool {
        match self {
            Self::Varint => matches!(number, 1 | 3 | 4),
            Self::Fixed => false,
            Self::Bytes(_) => !matches!(number, 1 | 3 | 4),
        }
    }
}

struct Fields<'a> {
    rest: &'a [u8],
}

impl<'a> Fields<'a> {
    fn next(&mut self) -> Result<Option<(u32, Value<'a>)>, FrameError> {
        if self.rest.is_empty() {
            return Ok(None);
        }
        let key = u32::try_from(self.varint()?).map_err(|_| MALFORMED)?;
        let value = match key & 7 {
            0 => {
                self.varint()?;
                Value::Varint
            }
            1 => {
                self.take(8)?;
                Value::Fixed
            }
            2 => {
                let length = usize::try_from(self.varint()?).map_err(|_| MALFORMED)?;
                Value::Bytes(self.take(length)?)
            }
            5 => {
                self.take(4)?;
                Value::Fixed
            }
            // Groups are long gone from protobuf; nothing here ever had one.
            _ => return Err(MALFORMED),
        };
        match key >> 3 {
            0 => Err(MALFORMED),
            number => Ok(Some((number, value))),
        }
    }

    fn take(&mut self, length: usize) -> Result<&'a [u8], FrameError> {
        let (taken, rest) = self.rest.split_at_checked(length).ok_or(MALFORMED)?;
        self.rest = rest;
        Ok(taken)
    }

    fn varint(&mut self) -> Result<u64, FrameError> {
        let mut value = 0_u64;
        for shift in (0..70).step_by(7) {
            let (&byte, rest) = self.rest.split_first().ok_or(MALFORMED)?;
            self.rest = rest;
            // The tenth byte holds one bit only.
            if shift == 63 && byte > 1 {
                return Err(MALFORMED);
            }
            value |= u64::from(byte & 0x7f) << shift;
            if byte & 0x80 == 0 {
                return Ok(value);
            }
        }
        Err(MALFORMED)
    }
}

const MALFORMED: FrameError = FrameError::Malformed(None);
