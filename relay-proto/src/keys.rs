//! Public keys of the two ends.
//!
//! Only the raw parts live here; the JSON form belongs to the registry's wire types, private keys to
//! the handshake.

use std::fmt;

/// Name of the suite in the JSON form of a public key.
///
/// It is not the protocol name that is hashed into the handshake: that one says `25519`.
pub const SUITE: &str = "Noise_hybridIK_X25519+MLKEM768_AESGCM_SHA256";

/// Length of an X25519 public key, in bytes.
pub const X25519_BYTES: usize = 32;

/// Length of an ML-KEM-768 encapsulation key, in bytes.
pub const MLKEM768_BYTES: usize = 1_184;

/// Static public key of an executor or a harness: one X25519 and one ML-KEM-768 key.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct PublicKey {
    x25519: [u8; X25519_BYTES],
    mlkem768: Box<[u8; MLKEM768_BYTES]>,
}

impl PublicKey {
    /// Takes the raw keys.
    ///
    /// # Errors
    ///
    /// [`KeyError`] if a length is wrong.
    pub fn from_parts(x25519: &[u8], mlkem768: &[u8]) -> Result<Self, KeyError> {
        let wrong = |part, expected, length| KeyError {
            part,
            expected,
            length,
        };
        Ok(Self {
            x25519: x25519
                .try_into()
                .map_err(|_| wrong("x25519", X25519_BYTES, x25519.len()))?,
            mlkem768: Box::new(
                mlkem768
                    .try_into()
                    .map_err(|_| wrong("mlkem768", MLKEM768_BYTES, mlkem768.len()))?,
            ),
        })
    }

    /// The X25519 public key.
    pub fn x25519(&self) -> &[u8; X25519_BYTES] {
        &self.x25519
    }

    /// The ML-KEM-768 encapsulation key.
    pub fn mlkem768(&self) -> &[u8; MLKEM768_BYTES] {
        &self.mlkem768
    }

    /// Whether the ML-KEM key is canonical: every coefficient below the modulus.
    ///
    /// The handshake refuses keys that are not, as FIPS 203 section 7.2 asks before encapsulation.
    pub fn is_canonical(&self) -> bool {
        // The last 32 bytes are a seed; before it lie 768 coefficients of 12 bits, little endian.
        let coefficients = self.mlkem768.split_at(MLKEM768_BYTES - 32).0;
        coefficients.chunks_exact(3).all(|chunk| match *chunk {
            [a, b, c] => {
                let low = u16::from(a) | (u16::from(b & 0x0f) << 8);
                let high = u16::from(b >> 4) | (u16::from(c) << 4);
                low < MLKEM_MODULUS && high < MLKEM_MODULUS
            }
            _ => false,
        })
    }
}

impl fmt::Debug for PublicKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Public, but long: the first bytes are enough to tell keys apart.
        let [a, b, c, d, ..] = self.x25519;
        write!(f, "PublicKey({a:02x}{b:02x}{c:02x}{d:02x}..)")
    }
}

/// A raw key of the wrong length.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{part} public key of {length} bytes, expected {expected} bytes")]
pub struct KeyError {
    part: &'static str,
    expected: usize,
    length: usize,
}

const MLKEM_MODULUS: u16 = 3_329;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lengths_are_checked() {
        assert!(PublicKey::from_parts(&[1; 32], &[1; 1184]).is_ok());
        assert_eq!(
            PublicKey::from_parts(&[1; 31], &[1; 1184])
                .unwrap_err()
                .to_string(),
            "x25519 public key of 31 bytes, expected 32 bytes"
        );
        assert_eq!(
            PublicKey::from_parts(&[1; 32], &[1; 1185])
                .unwrap_err()
                .to_string(),
            "mlkem768 public key of 1185 bytes, expected 1184 bytes"
        );
    }

    #[test]
    fn coefficients_at_the_modulus_are_not_canonical() {
        let mut bytes = [0; 1184];
        // 3328 = 0xd00 in both coefficients of the first three bytes.
        bytes[..3].copy_from_slice(&[0x00, 0x0d, 0xd0]);
        assert!(
            PublicKey::from_parts(&[1; 32], &bytes)
                .unwrap()
                .is_canonical()
        );
        bytes[0] = 0x01;
        assert!(
            !PublicKey::from_parts(&[1; 32], &bytes)
                .unwrap()
                .is_canonical()
        );
        bytes[..3].copy_from_slice(&[0x00, 0x1d, 0xd0]);
        assert!(
            !PublicKey::from_parts(&[1; 32], &bytes)
                .unwrap()
                .is_canonical()
        );
        // The seed at the end is free.
        let mut bytes = [0; 1184];
        bytes[1152..].fill(0xff);
        assert!(
            PublicKey::from_parts(&[1; 32], &bytes)
                .unwrap()
                .is_canonical()
        );
    }

    #[test]
    fn debug_is_short() {
        let key = PublicKey::from_parts(&[0xab; 32], &[1; 1184]).unwrap();
        assert_eq!(format!("{key:?}"), "PublicKey(abababab..)");
    }
}
