//! A JSON value that is not decoded yet, with the payloads that it refers to.

use std::fmt;

use serde::de::{DeserializeOwned, Deserializer};
use serde::{Deserialize, Serialize, Serializer};
use serde_json::value::RawValue;

use crate::payload::Payloads;

/// A result, or parameters, as they arrived.
#[derive(Clone)]
pub struct Value {
    json: Box<RawValue>,
    payloads: Payloads,
}

impl Value {
    /// Serializes `value`, with all bytes as base64 in the text.
    ///
    /// # Errors
    ///
    /// If `value` does not serialize.
    pub fn encode<T: Serialize + ?Sized>(value: &T) -> Result<Self, serde_json::Error> {
        serde_json::value::to_raw_value(value).map(Self::from)
    }

    /// Decodes the value.
    ///
    /// # Errors
    ///
    /// If the value has another shape, or refers to a payload that is not there. The error may quote
    /// values; do not show it to a peer.
    pub fn decode<T: DeserializeOwned>(&self) -> Result<T, serde_json::Error> {
        self.payloads
            .within(|| serde_json::from_str(self.json.get()))
    }

    /// The text, in which numbers may stand for payloads.
    pub fn get(&self) -> &str {
        self.json.get()
    }

    pub(super) fn attach(&mut self, payloads: &Payloads) {
        self.payloads = payloads.clone();
    }
}

impl From<Box<RawValue>> for Value {
    fn from(json: Box<RawValue>) -> Self {
        Self {
            json,
            payloads: Payloads::default(),
        }
    }
}

impl Serialize for Value {
    /// What refers to payloads of a message that arrived cannot be told from other numbers, so this
    /// is for [encoded](Self::encode) values.
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        self.json.serialize(serializer)
    }
}

impl<'de> Deserialize<'de> for Value {
    /// For values inside of values, which may refer to the same payloads; works with the JSON parser
    /// only.
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Ok(Self {
            json: Box::<RawValue>::deserialize(deserializer)?,
            payloads: Payloads::current(),
        })
    }
}

impl fmt::Debug for Value {
    /// Shows the size only: values hold argv, environments and file contents.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Value({} bytes)", self.json.get().len())
    }
}
