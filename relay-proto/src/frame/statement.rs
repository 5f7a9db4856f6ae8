//! What one end says about its receiving side, with proof of origin: field 1000 of a frame.
//!
//! ```text
//! field 1 serial     uint64  1, 2, 3 ... in each direction of a stream, whatever websocket it is on
//! field 2 flags      uint32  bit 0: answer this; bit 1: this end keeps streams that lose their path;
//!                            bit 2: this is the answer to `echo`; bit 3: such frames pass both ways
//! field 3 max_seq    uint32  records with a lower number may be sent
//! field 4 max_bytes  uint64  so many bytes of record plaintext may be sent, from the beginning on
//! field 5 echo       uint64  highest serial so far that was to be answered
//! field 6 tag        bytes   16 bytes, over all of this and the frame's acknowledgement and kind
//! ```
//!
//! Peers that do not know the field ignore it, and a rendezvous forwards it. Everything said is
//! cumulative, so only the newest statement counts, and one that is lost is made good by the next.

use bytes::Bytes;

#[cfg(feature = "noise")]
use super::BodyKind;
use super::wire;
#[cfg(feature = "noise")]
use crate::ack::Acknowledgement;

/// An end's statement. Only the ends can make and check the tag.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Statement {
    /// Number of this statement.
    pub serial: u64,
    /// [`Statement::ANSWER`], [`Statement::RESUMABLE`], [`Statement::ANSWERS`],
    /// [`Statement::CONFIRMED`]; other bits are ignored.
    pub flags: u32,
    /// Records with a lower number may be sent.
    pub max_seq: u32,
    /// So many bytes of record plaintext may be sent, counted from the beginning.
    pub max_bytes: u64,
    /// Highest serial so far that was to be answered; 0 for none.
    pub echo: u64,
    /// Proof of origin.
    pub tag: [u8; 16],
}

impl Statement {
    /// Flag: the other end is to say something at once.
    pub const ANSWER: u32 = 1;
    /// Flag: a stream whose path is lost is kept for a while.
    pub const RESUMABLE: u32 = 2;
    /// Flag: this is the answer to the statement with the serial `echo`, made at once.
    pub const ANSWERS: u32 = 4;
    /// Flag: this end has heard the other one in a frame of its own, so both know that such frames
    /// pass both ways.
    pub const CONFIRMED: u32 = 8;

    /// What the tag is made of: everything the frame says besides its payload. `next_seq` is that of
    /// a resume frame, else 0.
    #[cfg(feature = "noise")]
    pub(crate) fn text(
        &self,
        kind: BodyKind,
        acknowledgement: Acknowledgement,
        next_seq: u32,
    ) -> [u8; TEXT_BYTES] {
        let kind = match kind {
            BodyKind::Data => 5,
            BodyKind::Ack => 6,
            BodyKind::Resume => 7,
            BodyKind::Reset => 8,
            BodyKind::Heartbeat => 9,
            BodyKind::Handshake => 10,
            BodyKind::Unknown => 0,
        };
        let mut text = [0; TEXT_BYTES];
        let parts: [&[u8]; 9] = [
            &[kind],
            &acknowledgement.ack.to_be_bytes(),
            &acknowledgement.bits.to_be_bytes(),
            &next_seq.to_be_bytes(),
            &self.serial.to_be_bytes(),
            &self.flags.to_be_bytes(),
            &self.max_seq.to_be_bytes(),
            &self.max_bytes.to_be_bytes(),
            &self.echo.to_be_bytes(),
        ];
        for (out, byte) in text.iter_mut().zip(parts.into_iter().flatten()) {
            *out = *byte;
        }
        text
    }
}

impl From<Statement> for wire::Statement {
    fn from(statement: Statement) -> Self {
        Self {
            serial: statement.serial,
            flags: statement.flags,
            max_seq: statement.max_seq,
            max_bytes: statement.max_bytes,
            echo: statement.echo,
            tag: Bytes::copy_from_slice(&statement.tag),
        }
    }
}

/// `None` for a tag of another length, which nobody here can have made: as good as an unknown field.
pub(super) fn from_wire(statement: &wire::Statement) -> Option<Statement> {
    Some(Statement {
        serial: statement.serial,
        flags: statement.flags,
        max_seq: statement.max_seq,
        max_bytes: statement.max_bytes,
        echo: statement.echo,
        tag: statement.tag.as_ref().try_into().ok()?,
    })
}

#[cfg(feature = "noise")]
const TEXT_BYTES: usize = 1 + 3 * 4 + 8 + 4 + 4 + 8 + 8;
