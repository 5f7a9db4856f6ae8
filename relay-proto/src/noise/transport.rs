//! Records: sealing and opening in order, with the key schedule expanded once per stream.
//!
//! The library's own transport expands the AES key for every record, so the split keys are taken
//! from it and used directly. The counter of a record is its sequence number; associated data is
//! empty. There is no rekeying and no padding.

use bytes::{Bytes, BytesMut};

use super::statement::StatementKeys;
use super::suite::RecordKey;
use crate::ids::Seq;
use crate::limits;

/// Both directions of a finished handshake.
pub(crate) struct Transport {
    pub(crate) sealer: Sealer,
    pub(crate) opener: Opener,
    pub(crate) statements: StatementKeys,
}

impl Transport {
    /// `None` if a key does not have 32 bytes.
    pub(super) fn new(seal: &[u8], open: &[u8], statements: StatementKeys) -> Option<Self> {
        Some(Self {
            sealer: Sealer {
                key: RecordKey::new(seal)?,
                next: Some(Seq::ZERO),
            },
            opener: Opener {
                key: RecordKey::new(open)?,
                next: Some(Seq::ZERO),
            },
            statements,
        })
    }
}

#[cfg(any(test, fuzzing, feature = "bench"))]
impl Transport {
    /// Those of a harness and its executor, with keys that everybody knows.
    pub(crate) fn known_pair() -> Option<[Self; 2]> {
        let statements = |initiator| StatementKeys::derive(&[3; 32], &[4; 32], initiator);
        Some([
            Self::new(&[1; 32], &[2; 32], statements(true))?,
            Self::new(&[2; 32], &[1; 32], statements(false))?,
        ])
    }
}

/// Encrypts the records of one direction.
pub(crate) struct Sealer {
    key: RecordKey,
    next: Option<Seq>,
}

impl Sealer {
    /// Number of the next record; `None` when the numbers are used up.
    pub(crate) fn next_seq(&self) -> Option<Seq> {
        self.next
    }

    /// Turns the plaintext that `buffer` holds from `start` on into the next record, in place.
    pub(crate) fn seal(&mut self, buffer: &mut BytesMut, start: usize) -> Result<(), RecordError> {
        let seq = self.next.ok_or(RecordError::Exhausted)?;
        let text = buffer.get_mut(start..).ok_or(RecordError::Failed)?;
        if text.len() > limits::RECORD_PLAINTEXT_BYTES {
            return Err(RecordError::Length {
                length: text.len() + limits::RECORD_TAG_BYTES,
            });
        }
        // Taken before use: whatever happens next, this number is not used again.
        self.next = seq.next();
        let tag = self
            .key
            .seal(u64::from(seq.0), &[], text)
            .ok_or(RecordError::Failed)?;
        buffer.extend_from_slice(&tag);
        Ok(())
    }

    #[cfg(any(test, fuzzing))]
    pub(crate) fn skip_to(&mut self, seq: Seq) {
        self.next = Some(seq);
    }
}

/// Decrypts the records of one direction.
pub(crate) struct Opener {
    key: RecordKey,
    next: Option<Seq>,
}

impl Opener {
    /// Opens the next record. Its plaintext may be empty.
    ///
    /// Cost: in place if nobody else holds the record's memory, else one copy.
    pub(crate) fn open(&mut self, record: Bytes) -> Result<Bytes, RecordError> {
        let seq = self.next.ok_or(RecordError::Exhausted)?;
        let plaintext = self.open_at(seq, record)?;
        self.next = seq.next();
        Ok(plaintext)
    }

    /// Opens the record with this number, whenever it comes. That none is used twice is up to the
    /// caller.
    pub(crate) fn open_at(&self, seq: Seq, record: Bytes) -> Result<Bytes, RecordError> {
        let length = record.len();
        if !(limits::RECORD_TAG_BYTES..=limits::RECORD_CIPHERTEXT_BYTES).contains(&length) {
            return Err(RecordError::Length { length });
        }
        let mut buffer = record
            .try_into_mut()
            .unwrap_or_else(|shared| BytesMut::from(&*shared));
        let plaintext = self
            .key
            .open(u64::from(seq.0), &[], &mut buffer)
            .ok_or(RecordError::Failed)?;
        buffer.truncate(plaintext);
        Ok(buffer.freeze())
    }
}

/// Why a record could not be sealed or opened.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum RecordError {
    /// Shorter than a tag, or longer than a record may be.
    #[error(
        "record of {length} bytes, expected {minimum} to {maximum} bytes",
        minimum = limits::RECORD_TAG_BYTES,
        maximum = limits::RECORD_CIPHERTEXT_BYTES
    )]
    Length {
        /// Its length in bytes, with tag.
        length: usize,
    },
    /// It does not decrypt.
    #[error("record rejected")]
    Failed,
    /// The sequence numbers of this direction are used up.
    #[error("sequence numbers are used up")]
    Exhausted,
}
