//! The algorithms, in the form the handshake library wants them.
//!
//! AES-256-GCM and X25519 come from aws-lc-rs, whose code uses what the processor has for them. The
//! library's own cipher asserts on lengths; here a wrong length is an error.

use aws_lc_rs::aead::{AES_256_GCM, Aad, LessSafeKey, NONCE_LEN, Nonce, UnboundKey};
use aws_lc_rs::agreement::{self, PrivateKey, UnparsedPublicKey};
use clatter::KeyPair;
use clatter::bytearray::{ByteArray, SensitiveByteArray};
use clatter::crypto::hash::Sha256;
use clatter::error::{CipherError, CipherResult, DhError, DhResult};
use clatter::traits::{Cipher, CryptoComponent, Dh, Kem, Rng};

use super::kem::MlKem;
use super::rng::HandshakeRng;
use crate::keys::X25519_BYTES;
use crate::limits;

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
    type PrivateKey = SensitiveByteArray<[u8; X25519_BYTES]>;
    type PubKey = [u8; X25519_BYTES];
    type Output = SensitiveByteArray<[u8; X25519_BYTES]>;

    fn genkey_rng<R: Rng>(rng: &mut R) -> DhResult<KeyPair<Self::PubKey, Self::PrivateKey>> {
        let mut secret = Self::PrivateKey::new_zero();
        rng.fill_bytes(secret.as_mut());
        let public = public_of(&secret)?;
        Ok(KeyPair { public, secret })
    }

    fn pubkey(key: &Self::PrivateKey) -> Self::PubKey {
        // 32 bytes are always a key. If they were not, no exchange with this one would succeed.
        public_of(key).unwrap_or_default()
    }

    fn dh(private: &Self::PrivateKey, public: &Self::PubKey) -> DhResult<Self::Output> {
        let private = import(private)?;
        let public = UnparsedPublicKey::new(&agreement::X25519, public);
        // A result of zero is an error of the library.
        agreement::agree(&private, public, DhError::KeyGeneration, |shared| {
            Ok(Self::Output::from_slice(shared))
        })
    }
}

fn import(key: &SensitiveByteArray<[u8; X25519_BYTES]>) -> DhResult<PrivateKey> {
    PrivateKey::from_private_key(&agreement::X25519, key.as_slice())
        .map_err(|_| DhError::KeyGeneration)
}

fn public_of(key: &SensitiveByteArray<[u8; X25519_BYTES]>) -> DhResult<[u8; X25519_BYTES]> {
    let public = import(key)?
        .compute_public_key()
        .map_err(|_| DhError::KeyGeneration)?;
    public
        .as_ref()
        .try_into()
        .map_err(|_| DhError::KeyGeneration)
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
