//! Messages to bytes, in two steps: a draft with the payloads apart, then the form that the peer
//! understands.

use std::fmt;

use ::base64::Engine as _;
use bytes::Bytes;
use serde::Serialize;

use super::bulk;
use super::encode::EncodeError;
use crate::base64::STANDARD;
use crate::payload::{self, Placed};

/// How payloads travel on a connection.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Form {
    /// As base64 in the JSON text.
    #[default]
    Json,
    /// As they are, beside the JSON text. Messages without large payloads are JSON nevertheless.
    Bulk,
    /// Beside the JSON text, and compressed where that makes them smaller.
    Compressed,
}

/// A value as JSON text, with its large payloads apart.
///
/// Serialized once, it can become part of a message in either form.
#[derive(Clone)]
pub struct Draft {
    text: Vec<u8>,
    payloads: Vec<Placed>,
}

impl Draft {
    /// Serializes `value`.
    ///
    /// Cost: payloads are not copied.
    ///
    /// # Errors
    ///
    /// [`EncodeError`] if `value` does not serialize; the protocol's own types always do.
    pub fn new<T: Serialize + ?Sized>(value: &T) -> Result<Self, EncodeError> {
        let collected = payload::collect(|text| serde_json::to_writer(text, value))?;
        Ok(Self {
            text: collected.text,
            payloads: collected.payloads,
        })
    }

    /// Bytes of text and payloads, which is about what the message will take.
    pub fn size(&self) -> usize {
        let payloads: usize = self.payloads.iter().map(|it| it.bytes.len()).sum();
        self.text.len() + payloads
    }

    /// The same value between two pieces of text.
    pub(super) fn between(&self, before: &[u8], after: &[u8]) -> Self {
        let payloads = self.payloads.iter().map(|payload| Placed {
            at: payload.at + before.len(),
            bytes: payload.bytes.clone(),
        });
        Self {
            text: [before, &self.text, after].concat(),
            payloads: payloads.collect(),
        }
    }

    /// The message in the form that the peer understands.
    pub fn into_message(self, form: Form) -> Bytes {
        if self.payloads.is_empty() {
            return self.text.into();
        }
        let bulk = match form {
            Form::Json => None,
            Form::Bulk | Form::Compressed => {
                let payloads: Vec<_> = self.payloads.iter().map(|it| it.bytes.clone()).collect();
                bulk::join(&self.text, &payloads, form)
            }
        };
        bulk.unwrap_or_else(|| self.into_json())
    }

    /// Writes base64 where the numbers are: payloads are read once and written once.
    fn into_json(self) -> Bytes {
        let encoded: usize = self
            .payloads
            .iter()
            .map(|payload| payload.bytes.len().div_ceil(3) * 4 + QUOTES)
            .sum();
        let mut message = Vec::with_capacity(self.text.len() + encoded);
        let mut rest = self.text.as_slice();
        let mut before = 0;
        for (number, Placed { at, bytes }) in self.payloads.iter().enumerate() {
            let (text, after) = rest.split_at_checked(at - before).unwrap_or((rest, &[]));
            message.extend_from_slice(text);
            message.push(b'"');
            let start = message.len();
            message.resize(start + bytes.len().div_ceil(3) * 4, 0);
            let room = message.get_mut(start..).unwrap_or_default();
            let written = STANDARD.encode_slice(bytes, room).unwrap_or_default();
            message.truncate(start + written);
            message.push(b'"');
            let digits = number.checked_ilog10().unwrap_or(0) as usize + 1;
            rest = after.get(digits..).unwrap_or_default();
            before = at + digits;
        }
        message.extend_from_slice(rest);
        message.into()
    }
}

impl fmt::Debug for Draft {
    /// Shows sizes only: messages hold argv, environments and file contents.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Draft({} bytes)", self.size())
    }
}

/// Around a string.
const QUOTES: usize = 2;
