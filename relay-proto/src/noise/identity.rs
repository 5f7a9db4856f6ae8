//! The static key pairs of one end.

use std::fmt;

use clatter::traits::{Dh, Kem};
use rand::CryptoRng;
use zeroize::Zeroize;

use super::handshake::HandshakeError;
use super::kem::MlKem;
use super::rng::HandshakeRng;
use super::suite::{DhPair, KemPair, X25519};
use crate::keys::PublicKey;

/// Static X25519 and ML-KEM-768 key pairs of an executor or a harness.
///
/// The private halves never leave this crate and are wiped when the identity is dropped. An executor
/// keeps one identity for the life of its process, because harnesses pin the public key.
pub struct Identity {
    pub(super) x25519: DhPair,
    pub(super) mlkem768: KemPair,
    public: PublicKey,
}

impl Identity {
    /// Makes a new identity from 32 bytes of `rng`.
    ///
    /// # Errors
    ///
    /// [`HandshakeError`] if key generation fails, which the algorithms in use never do.
    pub fn generate(rng: &mut impl CryptoRng) -> Result<Self, HandshakeError> {
        let mut seed = [0; 32];
        rng.fill_bytes(&mut seed);
        let identity = Self::from_rng(HandshakeRng::seeded(seed));
        seed.zeroize();
        identity
    }

    pub(super) fn from_rng(mut rng: HandshakeRng) -> Result<Self, HandshakeError> {
        use clatter::bytearray::ByteArray;

        let x25519 = X25519::genkey_rng(&mut rng).map_err(|_| HandshakeError::KeyGeneration)?;
        let mlkem768 = MlKem::genkey_rng(&mut rng).map_err(|_| HandshakeError::KeyGeneration)?;
        let public = PublicKey::from_parts(x25519.public.as_slice(), mlkem768.public.as_slice())
            .map_err(|_| HandshakeError::KeyGeneration)?;
        // Key generation leaves the secret unclamped and computes the public key from the clamped
        // form, so both agree with every other X25519.
        Ok(Self {
            x25519,
            mlkem768,
            public,
        })
    }

    /// The public half.
    pub fn public_key(&self) -> &PublicKey {
        &self.public
    }
}

impl fmt::Debug for Identity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Identity")
            .field("public_key", &self.public)
            .finish_non_exhaustive()
    }
}
