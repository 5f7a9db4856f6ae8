//! Raw parameters and the texts of `-32602` errors.
//!
//! The texts name types and members but no values: `invalid type: string, expected a boolean`
//! instead of the string itself, which may be a secret or a megabyte. Exceptions, because the
//! protocol has them: unknown names of enum variants, and URIs that no path can have.

use serde::de::DeserializeOwned;
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use serde_json::value::RawValue;

use super::{RpcError, Value};
use crate::payload::Payloads;

/// The parameters of a request or notification, not decoded yet. Absent params mean `null`.
#[derive(Clone, Default)]
pub struct Params(Option<Value>);

impl Params {
    /// Serializes `params`, with all bytes as base64, for calls inside of parameters and for tests.
    ///
    /// # Errors
    ///
    /// If `params` does not serialize.
    pub fn encode<P: Serialize>(params: &P) -> Result<Self, serde_json::Error> {
        Value::encode(params).map(|value| Self(Some(value)))
    }

    /// Decodes the parameters of a method that has some.
    ///
    /// # Errors
    ///
    /// `-32602` with a text that names the member or the types.
    pub fn decode<T: DeserializeOwned>(&self) -> Result<T, RpcError> {
        let decoded = match &self.0 {
            Some(value) => value.decode(),
            None => serde_json::from_str("null"),
        };
        decoded.map_err(|err| RpcError::invalid_params(plain_text(&err)))
    }

    /// Accepts absent params, `null` and `{}` for a method that has none.
    ///
    /// # Errors
    ///
    /// `-32602` for everything else.
    pub fn decode_none(&self) -> Result<(), RpcError> {
        let text = self.text().trim();
        if text == "null" {
            return Ok(());
        }
        let kind = match text.as_bytes().first() {
            Some(b'{') if text.get(1..).is_some_and(|rest| rest.trim_start() == "}") => {
                return Ok(());
            }
            Some(b'{') => "map",
            Some(b'[') => "sequence",
            Some(b'"') => "string",
            Some(b't' | b'f') => "boolean",
            _ => "number",
        };
        Err(RpcError::invalid_params(format!(
            "invalid type: {kind}, expected unit"
        )))
    }

    fn text(&self) -> &str {
        self.0.as_ref().map_or("null", Value::get)
    }

    pub(super) fn attach(&mut self, payloads: &Payloads) {
        if let Some(value) = &mut self.0 {
            value.attach(payloads);
        }
    }
}

impl From<Option<Box<RawValue>>> for Params {
    fn from(raw: Option<Box<RawValue>>) -> Self {
        Self(raw.map(Value::from))
    }
}

impl Serialize for Params {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        self.0.serialize(serializer)
    }
}

impl<'de> Deserialize<'de> for Params {
    /// For calls inside of parameters; works with the JSON parser only.
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Value::deserialize(deserializer).map(|value| Self(Some(value)))
    }
}

impl std::fmt::Debug for Params {
    /// Shows the size only: parameters hold argv, environments and file contents.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Params({} bytes)", self.text().len())
    }
}

/// Decodes raw JSON, for the members of an envelope.
///
/// # Errors
///
/// If the value has another shape. The error may quote values; do not show it to a peer.
pub(super) fn from_json<'a, T: Deserialize<'a>>(raw: &'a RawValue) -> Result<T, serde_json::Error> {
    serde_json::from_str(raw.get())
}

/// The protocol's text for a decoding failure: no position, no values.
pub(super) fn plain_text(err: &serde_json::Error) -> String {
    let text = err.to_string();
    let position = format!(" at line {} column {}", err.line(), err.column());
    let text = text.strip_suffix(&position).unwrap_or(&text);
    let (is_type, rest) = if let Some(rest) = text.strip_prefix("invalid type: ") {
        (true, rest)
    } else if let Some(rest) = text.strip_prefix("invalid value: ") {
        (false, rest)
    } else {
        return text.to_owned();
    };
    let Some((found, expected)) = rest.rsplit_once(", expected ") else {
        return "invalid value".to_owned();
    };
    let is_number = found.starts_with("integer `") || found.starts_with("floating point `");
    if is_number && is_integer_type(expected) {
        return "invalid number".to_owned();
    }
    if !is_type {
        // Such as a zero where a nonzero integer is needed; numbers are harmless to repeat.
        return if is_number {
            text.to_owned()
        } else {
            format!("invalid value, expected {expected}")
        };
    }
    let kind = match found {
        _ if is_number => "number",
        _ if found.starts_with("string ") => "string",
        _ if found.starts_with("boolean ") => "boolean",
        "null" | "unit value" | "Option value" => "null",
        "map" => "map",
        "sequence" => "sequence",
        _ => "value",
    };
    format!("invalid type: {kind}, expected {expected}")
}

fn is_integer_type(expected: &str) -> bool {
    matches!(
        expected,
        "u8" | "u16" | "u32" | "u64" | "usize" | "i8" | "i16" | "i32" | "i64"
    )
}
