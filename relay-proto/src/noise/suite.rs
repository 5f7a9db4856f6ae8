//! The algorithms, in the form the handshake library wants them.
//!
//! AES-256-GCM comes from aws-lc-rs, whose code uses the processor's AES instructions. The library's
//! own cipher asserts on lengths; here a wrong length is an error.

use aws_lc_rs::aead::{AES_256_GCM, Aad, LessSafeKey, NONCE_LEN, Nonce, UnboundKey};
use clatter::KeyPair;
use clatter::bytearray::{ByteArray, SensitiveByteArray};
use clatter::crypto::dh;
use clatter::crypto::hash::Sha256;
use clatter::crypto::kem::rust_crypto_ml_kem::MlKem768;
use clatter::error::{CipherError, CipherResult, DhError, DhResult};
use clatter::traits::{Cipher, CryptoComponent, Dh, Kem, Rng};

use super::rng::HandshakeRng;
use crate::limits;

/// The key encapsulation, used for the ephemeral and for the static keys.
pub(super) type MlKem = MlKem768;

/// A handshake in progress, either side.
pub(super) type Handshake =
    clatter::HybridHandshakeCore<X25519, MlKem, MlKem, AesGcm, Sha256, HandshakeRng>;

pub(super) type DhPair = KeyPair<<X25519 as Dh>::PubKey, <X25519 as Dh>::PrivateKey>;
pub(super) type KemPair = KeyPair<<MlKem as Kem>::PubKey, <MlKem as Kem>::SecretKey>;

/// X25519 that refuses a result of zero, which only a low-order public key can cause.
#[derive(Clone)]
pub(super) struct X25519;

impl CryptoComponent for X25519 {
    fn name() -> &'static str {
        "25519"
    }
}

impl Dh for X25519 {
    type PrivateKey = <dh::X25519 as Dh>::PrivateKey;
    type PubKey = <dh::X25519 as Dh>::PubKey;
    type Output = <dh::X25519 as Dh>::Output;

    fn genkey_rng<R: Rng>(rng: &mut R) -> DhResult<KeyPair<Self::PubKey, Self::PrivateKey>> {
        dh::X25519::genkey_rng(rng)
    }

    fn pubkey(key: &Self::PrivateKey) -> Self::PubKey {
        dh::X25519::pubkey(key)
    }

    fn dh(private: &Self::PrivateKey, public: &Self::PubKey) -> DhResult<Self::Output> {
        let shared = dh::X25519::dh(private, public)?;
        // Accumulated without a branch per byte: how many zeros it holds is nobody's business.
        if shared.as_slice().iter().fold(0, |seen, byte| seen | byte) == 0 {
            return Err(DhError::KeyGeneration);
        }
        Ok(shared)
    }
}

/// AES-256-GCM with the Noise nonce: four zero bytes, then the counter, big endian.
#[derive(Clone)]
pub(super) struct AesGcm;

impl CryptoComponent for AesGcm {
    fn name() -> &'static str {
        "AESGCM"
    }
}

impl Cipher for AesGcm {
    type Key = SensitiveByteArray<[u8; 32]>;

    fn tag_len() -> usize {
        limits::RECORD_TAG_BYTES
    }

    fn encrypt(
        key: &Self::Key,
        nonce: u64,
        ad: &[u8],
        plaintext: &[u8],
        out: &mut [u8],
    ) -> CipherResult<()> {
        out.get_mut(..plaintext.len())
            .ok_or(CipherError::Encrypt)?
            .copy_from_slice(plaintext);
        Self::encrypt_in_place(key, nonce, ad, out, plaintext.len()).map(drop)
    }

    fn encrypt_in_place(
        key: &Self::Key,
        nonce: u64,
        ad: &[u8],
        in_out: &mut [u8],
        plaintext_len: usize,
    ) -> CipherResult<usize> {
        let (text, rest) = in_out
            .split_at_mut_checked(plaintext_len)
            .ok_or(CipherError::Encrypt)?;
        let room = rest
            .get_mut(..Self::tag_len())
            .ok_or(CipherError::Encrypt)?;
        let tag = RecordKey::new(key.as_slice())
            .and_then(|key| key.seal(nonce, ad, text))
            .ok_or(CipherError::Encrypt)?;
        room.copy_from_slice(&tag);
        Ok(plaintext_len + Self::tag_len())
    }

    fn decrypt(
        key: &Self::Key,
        nonce: u64,
        ad: &[u8],
        ciphertext: &[u8],
        out: &mut [u8],
    ) -> CipherResult<()> {
        let mut buffer = ciphertext.to_vec();
        let length = Self::decrypt_in_place(key, nonce, ad, &mut buffer, ciphertext.len())?;
        let plaintext = buffer.get(..length).ok_or(CipherError::Decrypt)?;
        if out.len() != plaintext.len() {
            return Err(CipherError::Decrypt);
        }
        out.copy_from_slice(plaintext);
        Ok(())
    }

    fn decrypt_in_place(
        key: &Self::Key,
        nonce: u64,
        ad: &[u8],
        in_out: &mut [u8],
        ciphertext_len: usize,
    ) -> CipherResult<usize> {
        let record = in_out
            .get_mut(..ciphertext_len)
            .ok_or(CipherError::Decrypt)?;
        RecordKey::new(key.as_slice())
            .and_then(|key| key.open(nonce, ad, record))
            .ok_or(CipherError::Decrypt)
    }
}

/// An AES-256-GCM key with its schedule already expanded.
pub(super) struct RecordKey(LessSafeKey);

impl RecordKey {
    /// Expands the key; `None` if it does not have 32 bytes.
    pub(super) fn new(key: &[u8]) -> Option<Self> {
        UnboundKey::new(&AES_256_GCM, key)
            .ok()
            .map(|key| Self(LessSafeKey::new(key)))
    }

    /// Encrypts in place and returns the tag.
    pub(super) fn seal(
        &self,
        counter: u64,
        ad: &[u8],
        text: &mut [u8],
    ) -> Option<[u8; limits::RECORD_TAG_BYTES]> {
        let tag = self
            .0
            .seal_in_place_separate_tag(nonce(counter), Aad::from(ad), text)
            .ok()?;
        tag.as_ref().try_into().ok()
    }

    /// Decrypts in place; returns the length of the plaintext, which then starts the buffer.
    pub(super) fn open(&self, counter: u64, ad: &[u8], record: &mut [u8]) -> Option<usize> {
        if record.len() < limits::RECORD_TAG_BYTES {
            return None;
        }
        let plaintext = self
            .0
            .open_in_place(nonce(counter), Aad::from(ad), record)
            .ok()?;
        Some(plaintext.len())
    }
}

fn nonce(counter: u64) -> Nonce {
    let mut bytes = [0; NONCE_LEN];
    let (_, low) = bytes.split_at_mut(NONCE_LEN - 8);
    low.copy_from_slice(&counter.to_be_bytes());
    Nonce::assume_unique_for_key(bytes)
}
