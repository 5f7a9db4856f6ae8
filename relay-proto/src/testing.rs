//! Constants and small functions that several test modules share.

use crate::ids::StreamId;
#[cfg(feature = "noise")]
use crate::ids::{EnvironmentId, RegistrationId};

/// The stream of the golden vectors.
pub(crate) const STREAM: &str = "3f1d2c4b-5a69-4788-9900-aabbccddeeff";

pub(crate) fn stream_id() -> StreamId {
    StreamId::new(STREAM).unwrap()
}

#[cfg(feature = "noise")]
/// The environment of the golden vectors.
pub(crate) fn environment() -> EnvironmentId {
    EnvironmentId::new("env_test").unwrap()
}

#[cfg(feature = "noise")]
/// The registration of the golden vectors.
pub(crate) fn registration() -> RegistrationId {
    RegistrationId::new("reg_0001").unwrap()
}

pub(crate) fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

pub(crate) fn unhex(text: &str) -> Vec<u8> {
    assert!(text.len().is_multiple_of(2), "odd hex length");
    (0..text.len() / 2)
        .map(|i| u8::from_str_radix(&text[2 * i..2 * i + 2], 16).unwrap())
        .collect()
}
