//! Base64 as the protocol writes it: standard alphabet, padding required, canonical trailing bits.
//!
//! Use the module itself with `#[serde(with = "exec_proto::base64")]` on a [`Bytes`] field, and
//! [`option`] on an `Option<Bytes>` field. In a bulk message such a field is a number instead, which
//! stands for bytes beside the text; the field does not see the difference.

use std::fmt;
use std::sync::LazyLock;

use ::base64::Engine as _;
use ::base64::engine::Simd;
use ::base64::engine::general_purpose::PAD;
use bytes::Bytes;
use serde::de::{self, Visitor};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::payload;

/// With the best instructions that this processor has, which are looked for once.
pub(crate) static STANDARD: LazyLock<Simd> = LazyLock::new(|| Simd::standard(PAD));

/// Text that is not base64. Names the offending symbol's code and place, never the text.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Base64Error {
    /// A symbol outside the alphabet, or padding in the wrong place.
    #[error("Invalid symbol {symbol}, offset {offset}.")]
    Symbol {
        /// The byte found.
        symbol: u8,
        /// Its offset in the text.
        offset: usize,
    },
    /// The last symbol carries bits that do not belong to a byte.
    #[error("Invalid last symbol {symbol}, offset {offset}.")]
    LastSymbol {
        /// The byte found.
        symbol: u8,
        /// Its offset in the text.
        offset: usize,
    },
    /// The text has a length that no encoding has.
    #[error("Invalid input length: {0}")]
    Length(usize),
    /// Padding is missing or superfluous.
    #[error("Invalid padding")]
    Padding,
}

/// Decodes `text`.
///
/// # Errors
///
/// [`Base64Error`] if the text is not canonical standard base64.
pub fn decode(text: &str) -> Result<Bytes, Base64Error> {
    use ::base64::DecodeError;
    STANDARD
        .decode(text)
        .map(Bytes::from)
        .map_err(|err| match err {
            DecodeError::InvalidByte(offset, symbol) => Base64Error::Symbol { symbol, offset },
            DecodeError::InvalidLength(length) => Base64Error::Length(length),
            DecodeError::InvalidLastSymbol { offset, symbol, .. } => {
                Base64Error::LastSymbol { symbol, offset }
            }
            DecodeError::InvalidPadding => Base64Error::Padding,
        })
}

/// Encodes `bytes`.
pub fn encode(bytes: &[u8]) -> String {
    STANDARD.encode(bytes)
}

/// Serializes bytes as base64, for `#[serde(with)]`. No intermediate string is built.
pub fn serialize<S: Serializer>(bytes: &Bytes, serializer: S) -> Result<S::Ok, S::Error> {
    if let Some(number) = payload::place(bytes) {
        return serializer.serialize_u64(number as u64);
    }
    serializer.collect_str(&::base64::display::Base64Display::new(bytes, &*STANDARD))
}

/// Deserializes bytes from base64, for `#[serde(with)]`.
pub fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Bytes, D::Error> {
    deserialize_with(deserializer, decode)
}

fn deserialize_with<'de, D: Deserializer<'de>, T: From<Bytes>>(
    deserializer: D,
    text: impl FnOnce(&str) -> Result<T, Base64Error>,
) -> Result<T, D::Error> {
    struct Contents<F>(F);
    impl<T: From<Bytes>, F: FnOnce(&str) -> Result<T, Base64Error>> Visitor<'_> for Contents<F> {
        type Value = T;
        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("a string")
        }
        fn visit_str<E: de::Error>(self, text: &str) -> Result<T, E> {
            (self.0)(text).map_err(E::custom)
        }
        fn visit_u64<E: de::Error>(self, number: u64) -> Result<T, E> {
            let payload = payload::find(number);
            let payload = payload.ok_or_else(|| E::custom("the payload does not exist"))?;
            Ok(payload.into())
        }
    }
    // Asked for a string, the parser refuses numbers without looking at them.
    if payload::are_there() {
        deserializer.deserialize_any(Contents(text))
    } else {
        deserializer.deserialize_str(Contents(text))
    }
}

/// Bytes whose base64 text is not decoded yet, for a method that answers wrong text in its own way.
#[derive(Clone, PartialEq, Eq)]
pub enum Undecoded {
    /// Text that may not be base64.
    Text(String),
    /// Bytes that never were text.
    Bytes(Bytes),
}

impl Undecoded {
    /// The bytes.
    ///
    /// # Errors
    ///
    /// As [`decode`].
    pub fn decode(&self) -> Result<Bytes, Base64Error> {
        match self {
            Self::Text(text) => decode(text),
            Self::Bytes(bytes) => Ok(bytes.clone()),
        }
    }
}

impl fmt::Debug for Undecoded {
    /// Shows nothing: contents of files are not for logs.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Undecoded")
    }
}

impl From<Bytes> for Undecoded {
    fn from(bytes: Bytes) -> Self {
        Self::Bytes(bytes)
    }
}

impl Serialize for Undecoded {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::Text(text) => serializer.serialize_str(text),
            Self::Bytes(bytes) => serialize(bytes, serializer),
        }
    }
}

impl<'de> Deserialize<'de> for Undecoded {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserialize_with(deserializer, |text| Ok(Self::Text(text.to_owned())))
    }
}

/// The same for fields that may be null or absent (add `#[serde(default)]`).
pub mod option {
    use bytes::Bytes;
    use serde::{Deserialize, Deserializer, Serializer};

    /// Serializes bytes as base64 or null.
    pub fn serialize<S: Serializer>(
        bytes: &Option<Bytes>,
        serializer: S,
    ) -> Result<S::Ok, S::Error> {
        match bytes {
            Some(bytes) => super::serialize(bytes, serializer),
            None => serializer.serialize_none(),
        }
    }

    /// Deserializes bytes from base64 or null.
    pub fn deserialize<'de, D: Deserializer<'de>>(
        deserializer: D,
    ) -> Result<Option<Bytes>, D::Error> {
        #[derive(Deserialize)]
        struct Text(#[serde(with = "super")] Bytes);
        Ok(Option::<Text>::deserialize(deserializer)?.map(|text| text.0))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_of_errors_are_those_of_the_protocol() {
        assert_eq!(
            decode("!!!!").unwrap_err().to_string(),
            "Invalid symbol 33, offset 0."
        );
        assert_eq!(decode("YQ").unwrap_err().to_string(), "Invalid padding");
        assert_eq!(
            decode("YR==").unwrap_err().to_string(),
            "Invalid last symbol 82, offset 1."
        );
        assert!(decode("YWI\n").is_err());
    }

    #[test]
    fn the_place_of_a_wrong_symbol_is_told_wherever_it_is() {
        let text = encode(&[0xa5; 300]);
        for offset in 0..text.len() {
            let mut wrong = text.clone();
            wrong.replace_range(offset..=offset, "!");
            let expected = Base64Error::Symbol { symbol: 33, offset };
            assert_eq!(decode(&wrong), Err(expected));
        }
    }

    #[test]
    fn texts_of_any_length_are_those_of_the_plain_engine() {
        use ::base64::engine::general_purpose::STANDARD as PLAIN;
        let bytes: Vec<u8> = (0..=255).cycle().take(500).collect();
        for length in 0..bytes.len() {
            let text = encode(&bytes[..length]);
            assert_eq!(text, PLAIN.encode(&bytes[..length]));
            assert_eq!(decode(&text).unwrap(), bytes[..length]);
        }
    }

    #[test]
    fn every_byte_survives_a_round_trip() {
        let all: Vec<u8> = (0..=255).collect();
        assert_eq!(decode(&encode(&all)).unwrap(), all);
        assert!(decode("").unwrap().is_empty());
    }
}
