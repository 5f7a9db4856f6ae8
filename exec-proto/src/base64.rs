//! Base64 as the protocol writes it: standard alphabet, padding required, canonical trailing bits.
//!
//! Use the module itself with `#[serde(with = "exec_proto::base64")]` on a [`Bytes`] field, and
//! [`option`] on an `Option<Bytes>` field.

use std::fmt;

use ::base64::Engine as _;
use ::base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use serde::de::{self, Visitor};
use serde::{Deserializer, Serializer};

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
    serializer.collect_str(&::base64::display::Base64Display::new(bytes, &STANDARD))
}

/// Deserializes bytes from base64, for `#[serde(with)]`.
pub fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Bytes, D::Error> {
    struct Text;
    impl Visitor<'_> for Text {
        type Value = Bytes;
        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("a string")
        }
        fn visit_str<E: de::Error>(self, text: &str) -> Result<Bytes, E> {
            decode(text).map_err(E::custom)
        }
    }
    deserializer.deserialize_str(Text)
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
    fn every_byte_survives_a_round_trip() {
        let all: Vec<u8> = (0..=255).collect();
        assert_eq!(decode(&encode(&all)).unwrap(), all);
        assert!(decode("").unwrap().is_empty());
    }
}
