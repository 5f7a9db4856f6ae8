//! The checking pass: syntax, nesting, number of values, repeated keys.
//!
//! It walks the text with a visitor that keeps nothing but the keys of the objects that are open,
//! so a hostile message costs time proportional to its length and no more memory than its keys.

use std::borrow::Cow;
use std::cell::Cell;
use std::collections::HashSet;
use std::fmt;

use serde::de::{self, DeserializeSeed, Deserializer, MapAccess, SeqAccess, Visitor};

use super::MAX_VALUES;
use super::message::ParseError;

/// Longest part of a repeated key that the error text quotes.
const QUOTED_KEY_CHARS: usize = 64;

/// Checks that `bytes` is exactly one JSON object within the limits.
pub(super) fn check(bytes: &[u8]) -> Result<(), ParseError> {
    let values = Cell::new(0);
    let mut deserializer = serde_json::Deserializer::from_slice(bytes);
    let kind = Value { values: &values }
        .deserialize(&mut deserializer)
        .and_then(|kind| deserializer.end().map(|()| kind))
        .map_err(|err| ParseError::new(err.to_string()))?;
    match kind {
        Kind::Object => Ok(()),
        Kind::Other => Err(ParseError::new("expected a JSON-RPC object")),
    }
}

#[derive(Clone, Copy)]
enum Kind {
    Object,
    Other,
}

#[derive(Clone, Copy)]
struct Value<'a> {
    values: &'a Cell<usize>,
}

impl Value<'_> {
    fn count<E: de::Error>(self) -> Result<Kind, E> {
        let values = self.values.get() + 1;
        if values > MAX_VALUES {
            return Err(E::custom(format_args!(
                "JSON-RPC message exceeds the limit of {MAX_VALUES} JSON values"
            )));
        }
        self.values.set(values);
        Ok(Kind::Other)
    }
}

impl<'de> DeserializeSeed<'de> for Value<'_> {
    type Value = Kind;
    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Kind, D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Value<'_> {
    type Value = Kind;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a JSON value")
    }
    fn visit_bool<E: de::Error>(self, _: bool) -> Result<Kind, E> {
        self.count()
    }
    fn visit_i64<E: de::Error>(self, _: i64) -> Result<Kind, E> {
        self.count()
    }
    fn visit_u64<E: de::Error>(self, _: u64) -> Result<Kind, E> {
        self.count()
    }
    fn visit_f64<E: de::Error>(self, _: f64) -> Result<Kind, E> {
        self.count()
    }
    fn visit_str<E: de::Error>(self, _: &str) -> Result<Kind, E> {
        self.count()
    }
    fn visit_unit<E: de::Error>(self) -> Result<Kind, E> {
        self.count()
    }
    fn visit_seq<A: SeqAccess<'de>>(self, mut array: A) -> Result<Kind, A::Error> {
        self.count::<A::Error>()?;
        while array.next_element_seed(self)?.is_some() {}
        Ok(Kind::Other)
    }
    fn visit_map<A: MapAccess<'de>>(self, mut object: A) -> Result<Kind, A::Error> {
        self.count::<A::Error>()?;
        let mut keys = HashSet::new();
        while let Some(key) = object.next_key_seed(Key)? {
            if let Some(key) = keys.replace(key) {
                let quoted: String = key.chars().take(QUOTED_KEY_CHARS).collect();
                return Err(de::Error::custom(format_args!(
                    "duplicate JSON object key `{quoted}`"
                )));
            }
            object.next_value_seed(self)?;
        }
        Ok(Kind::Object)
    }
}

struct Key;

impl<'de> DeserializeSeed<'de> for Key {
    type Value = Cow<'de, str>;
    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Self::Value, D::Error> {
        deserializer.deserialize_str(self)
    }
}

impl<'de> Visitor<'de> for Key {
    type Value = Cow<'de, str>;
    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a string key")
    }
    fn visit_borrowed_str<E: de::Error>(self, key: &'de str) -> Result<Self::Value, E> {
        Ok(Cow::Borrowed(key))
    }
    fn visit_str<E: de::Error>(self, key: &str) -> Result<Self::Value, E> {
        Ok(Cow::Owned(key.to_owned()))
    }
}
