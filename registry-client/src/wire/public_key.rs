//! The JSON form of a public key.

use std::fmt;

use base64::prelude::{BASE64_STANDARD, Engine as _};
use relay_proto::keys::{PublicKey, SUITE};
use serde::{Deserialize, Serialize};

/// A public key as it appears in JSON: exactly three string members, unknown ones are an error.
///
/// Being well formed says nothing about the suite and the lengths: those are checked by the
/// conversion to [`PublicKey`].
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PublicKeyText {
    /// The Noise suite, [`SUITE`].
    pub suite: String,
    /// 32 bytes in standard base64 with padding.
    pub x25519_public_key: String,
    /// 1,184 bytes in standard base64 with padding.
    pub mlkem768_public_key: String,
}

/// Why a [`PublicKeyText`] is not a key of this suite.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum PublicKeyTextError {
    /// The suite is another one.
    #[error("public key suite is not {SUITE}")]
    UnknownSuite,
    /// A member is not standard base64 with padding.
    #[error("public key member {member} is not base64")]
    NotBase64 {
        /// Name of the JSON member.
        member: &'static str,
    },
    /// The decoded bytes do not make a key, because a length is wrong.
    #[error("public key has {x25519_bytes} and {mlkem768_bytes} bytes instead of 32 and 1184")]
    Invalid {
        /// Length of the decoded `x25519_public_key`.
        x25519_bytes: usize,
        /// Length of the decoded `mlkem768_public_key`.
        mlkem768_bytes: usize,
    },
}

impl From<&PublicKey> for PublicKeyText {
    fn from(key: &PublicKey) -> Self {
        Self {
            suite: SUITE.to_owned(),
            x25519_public_key: BASE64_STANDARD.encode(key.x25519()),
            mlkem768_public_key: BASE64_STANDARD.encode(key.mlkem768()),
        }
    }
}

impl TryFrom<&PublicKeyText> for PublicKey {
    type Error = PublicKeyTextError;

    fn try_from(text: &PublicKeyText) -> Result<Self, Self::Error> {
        if text.suite != SUITE {
            return Err(PublicKeyTextError::UnknownSuite);
        }
        let x25519 = decode("x25519_public_key", &text.x25519_public_key)?;
        let mlkem768 = decode("mlkem768_public_key", &text.mlkem768_public_key)?;
        Self::from_parts(&x25519, &mlkem768).map_err(|_| PublicKeyTextError::Invalid {
            x25519_bytes: x25519.len(),
            mlkem768_bytes: mlkem768.len(),
        })
    }
}

impl fmt::Debug for PublicKeyText {
    /// Shows the suite and the short half of the key: the long half is 1,580 characters of noise.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PublicKeyText")
            .field("suite", &self.suite)
            .field("x25519_public_key", &self.x25519_public_key)
            .finish_non_exhaustive()
    }
}

fn decode(member: &'static str, text: &str) -> Result<Vec<u8>, PublicKeyTextError> {
    BASE64_STANDARD
        .decode(text)
        .map_err(|_| PublicKeyTextError::NotBase64 { member })
}
