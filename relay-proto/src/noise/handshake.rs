//! The handshake as types: what can be done next is what the type allows.
//!
//! ```text
//! initiator   start ──> Initiator ── finish(message 2) ──────────────> Transport
//! responder   read(message 1) ──> Unauthorized ── approve ───────────> Transport
//!                                      └───────── reject_credentials ─> message 2 only
//! ```
//!
//! Every length is checked before the library sees it, because the library panics on some. Peer keys
//! are checked as soon as they are known.

use bytes::Bytes;
use clatter::HybridHandshakeParams;
use clatter::bytearray::ByteArray;
use clatter::handshakepattern::noise_hybrid_ik;
use clatter::traits::{Dh, Handshaker, Kem};

use super::identity::Identity;
use super::kem::MlKem;
use super::rng::HandshakeRng;
use super::statement::StatementKeys;
use super::suite::{Handshake, X25519};
use super::transport::Transport;
use crate::keys::PublicKey;
use crate::limits;

/// A harness that has sent message 1 and waits for message 2.
pub(crate) struct Initiator {
    handshake: Box<Handshake>,
}

impl Initiator {
    /// Writes message 1 with the authorization text inside.
    pub(crate) fn start(
        identity: &Identity,
        executor: &PublicKey,
        prologue: &[u8],
        authorization: &str,
        rng: HandshakeRng,
    ) -> Result<(Self, Bytes), HandshakeError> {
        if authorization.len() > limits::AUTHORIZATION_BYTES {
            return Err(HandshakeError::AuthorizationTooLong {
                length: authorization.len(),
            });
        }
        Self::start_with(identity, executor, prologue, authorization.as_bytes(), rng)
    }

    /// As [`Initiator::start`], with any payload.
    pub(super) fn start_with(
        identity: &Identity,
        executor: &PublicKey,
        prologue: &[u8],
        payload: &[u8],
        rng: HandshakeRng,
    ) -> Result<(Self, Bytes), HandshakeError> {
        if !executor.is_canonical() {
            return Err(HandshakeError::PublicKey);
        }
        // <- s
        let params = params(identity, prologue, true)
            .with_rs(*executor.x25519())
            .with_rs_kem(<MlKem as Kem>::PubKey::from_slice(executor.mlkem768()));
        let mut handshake = new_handshake(params, rng)?;
        // -> skem, e, es, s, ss
        let message = write(&mut handshake, MESSAGE_1_OVERHEAD, payload)?;
        Ok((Self { handshake }, message))
    }

    /// Reads message 2.
    pub(crate) fn finish(mut self, message: &[u8]) -> Result<Transport, HandshakeError> {
        // <- ekem, skem, e, ee, se
        let payload = read(&mut self.handshake, MESSAGE_2_OVERHEAD, message)?;
        if payload == CREDENTIALS_REJECTED {
            return Err(HandshakeError::CredentialsRejected);
        }
        if !payload.is_empty() {
            return Err(HandshakeError::UnexpectedPayload {
                length: payload.len(),
            });
        }
        split(*self.handshake)
    }

    #[cfg(test)]
    pub(super) fn handshake(&self) -> &Handshake {
        &self.handshake
    }
}

/// A harness that the executor has heard but not let in.
pub(crate) struct Unauthorized {
    handshake: Box<Handshake>,
    harness_key: PublicKey,
    authorization: String,
}

impl Unauthorized {
    /// Reads message 1.
    pub(crate) fn read(
        identity: &Identity,
        prologue: &[u8],
        message: &[u8],
        rng: HandshakeRng,
    ) -> Result<Self, HandshakeError> {
        // <- s
        let mut handshake = new_handshake(params(identity, prologue, false), rng)?;
        // -> skem, e, es, s, ss
        let payload = read(&mut handshake, MESSAGE_1_OVERHEAD, message)?;
        if payload.len() > limits::AUTHORIZATION_BYTES {
            return Err(HandshakeError::AuthorizationTooLong {
                length: payload.len(),
            });
        }
        let authorization =
            String::from_utf8(payload).map_err(|_| HandshakeError::AuthorizationNotUtf8)?;
        let peer = handshake
            .get_remote_static()
            .ok_or(HandshakeError::Rejected)?;
        let harness_key = public_key(peer.dh(), peer.kem())?;
        // The ephemeral key takes part in an encapsulation too.
        let ephemeral = handshake
            .get_remote_ephemeral()
            .ok_or(HandshakeError::Rejected)?;
        public_key(ephemeral.dh(), ephemeral.kem())?;
        Ok(Self {
            handshake,
            harness_key,
            authorization,
        })
    }

    /// The key the harness proved to hold the X25519 half of. The ML-KEM half is proved by the first
    /// record that decrypts.
    pub(crate) fn harness_key(&self) -> &PublicKey {
        &self.harness_key
    }

    /// What it showed to be let in.
    pub(crate) fn authorization(&self) -> &str {
        &self.authorization
    }

    /// Lets it in: message 2 without a payload.
    pub(crate) fn approve(mut self) -> Result<(Transport, Bytes), HandshakeError> {
        // <- ekem, skem, e, ee, se
        let message = write(&mut self.handshake, MESSAGE_2_OVERHEAD, &[])?;
        Ok((split(*self.handshake)?, message))
    }

    /// Tells it, under the executor's key, that the registry no longer accepts the executor.
    pub(crate) fn reject_credentials(mut self) -> Result<Bytes, HandshakeError> {
        // <- ekem, skem, e, ee, se
        write(
            &mut self.handshake,
            MESSAGE_2_OVERHEAD,
            CREDENTIALS_REJECTED,
        )
    }
}

/// Why a handshake did not succeed. Never says what a peer's bytes contained.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum HandshakeError {
    /// The peer's message does not decrypt, or breaks the pattern.
    #[error("handshake message rejected")]
    Rejected,
    /// The peer's message is too short or too long.
    #[error(
        "handshake message of {length} bytes, expected {minimum} to {maximum} bytes",
        maximum = limits::HANDSHAKE_MESSAGE_BYTES
    )]
    Length {
        /// Its length in bytes.
        length: usize,
        /// The shortest possible.
        minimum: usize,
    },
    /// A public key is not canonical.
    #[error("public key is not valid")]
    PublicKey,
    /// The authorization text is longer than [`limits::AUTHORIZATION_BYTES`].
    #[error(
        "authorization of {length} bytes exceeds limit of {limit} bytes",
        limit = limits::AUTHORIZATION_BYTES
    )]
    AuthorizationTooLong {
        /// Its length in bytes.
        length: usize,
    },
    /// The authorization text is not UTF-8.
    #[error("authorization is not UTF-8")]
    AuthorizationNotUtf8,
    /// The answer carries a payload of unknown meaning.
    #[error("handshake answer carries an unexpected payload of {length} bytes")]
    UnexpectedPayload {
        /// Its length in bytes.
        length: usize,
    },
    /// The executor's own registry credentials were rejected.
    #[error("environment registry rejected executor credentials")]
    CredentialsRejected,
    /// Keys could not be made.
    #[error("key generation failed")]
    KeyGeneration,
}

impl HandshakeError {
    /// A name from a closed set, usable as a metric label.
    pub fn reason(self) -> &'static str {
        match self {
            Self::Rejected | Self::Length { .. } | Self::PublicKey => "handshake_request",
            Self::AuthorizationTooLong { .. } => "authorization_too_long",
            Self::AuthorizationNotUtf8 => "authorization_not_utf8",
            Self::UnexpectedPayload { .. } => "unexpected_payload",
            Self::CredentialsRejected => "credentials_rejected",
            Self::KeyGeneration => "key_generation",
        }
    }
}

fn params<'a>(
    identity: &Identity,
    prologue: &'a [u8],
    initiator: bool,
) -> HybridHandshakeParams<'a, X25519, MlKem, MlKem> {
    HybridHandshakeParams::new(noise_hybrid_ik(), initiator)
        .with_prologue(prologue)
        .with_s(identity.x25519.clone())
        .with_s_kem(identity.mlkem768.clone())
}

fn new_handshake(
    params: HybridHandshakeParams<'_, X25519, MlKem, MlKem>,
    rng: HandshakeRng,
) -> Result<Box<Handshake>, HandshakeError> {
    rng.provide(|| Handshake::new(params))
        .map(Box::new)
        .map_err(|_| HandshakeError::Rejected)
}

/// Writes the next message; `overhead` is what it holds besides the payload.
fn write(
    handshake: &mut Handshake,
    overhead: usize,
    payload: &[u8],
) -> Result<Bytes, HandshakeError> {
    let length = overhead + payload.len();
    check_length(length, overhead)?;
    let mut message = vec![0; length];
    let written = handshake
        .write_message(payload, &mut message)
        .map_err(|_| HandshakeError::Rejected)?;
    message.truncate(written);
    Ok(message.into())
}

/// Reads the next message and returns its payload.
fn read(
    handshake: &mut Handshake,
    overhead: usize,
    message: &[u8],
) -> Result<Vec<u8>, HandshakeError> {
    check_length(message.len(), overhead)?;
    let mut payload = vec![0; message.len() - overhead];
    let length = handshake
        .read_message(message, &mut payload)
        .map_err(|_| HandshakeError::Rejected)?;
    payload.truncate(length);
    Ok(payload)
}

fn check_length(length: usize, minimum: usize) -> Result<(), HandshakeError> {
    if (minimum..=limits::HANDSHAKE_MESSAGE_BYTES).contains(&length) {
        Ok(())
    } else {
        Err(HandshakeError::Length { length, minimum })
    }
}

fn public_key(
    x25519: &<X25519 as Dh>::PubKey,
    mlkem768: &<MlKem as Kem>::PubKey,
) -> Result<PublicKey, HandshakeError> {
    PublicKey::from_parts(x25519.as_slice(), mlkem768.as_slice())
        .ok()
        .filter(PublicKey::is_canonical)
        .ok_or(HandshakeError::PublicKey)
}

fn split(handshake: Handshake) -> Result<Transport, HandshakeError> {
    let initiator = handshake.is_initiator();
    let state = handshake.get_state();
    let statements = StatementKeys::derive(
        state.get_chaining_key().as_slice(),
        state.get_hash().as_slice(),
        initiator,
    );
    drop(state);
    let ciphers = handshake
        .finalize()
        .map_err(|_| HandshakeError::Rejected)?
        .take();
    let (to_responder, _) = ciphers.initiator_to_responder.take();
    let (to_initiator, _) = ciphers.responder_to_initiator.take();
    let (seal, open) = if initiator {
        (&to_responder, &to_initiator)
    } else {
        (&to_initiator, &to_responder)
    };
    Transport::new(seal.as_slice(), open.as_slice(), statements).ok_or(HandshakeError::Rejected)
}

/// Payload of message 2 when the registry rejects the executor's credentials.
const CREDENTIALS_REJECTED: &[u8] = b"codex-registry-authentication-rejected/v1";

/// Message 1 without its payload: KEM ciphertext, ephemeral keys, encrypted static keys, tag.
const MESSAGE_1_OVERHEAD: usize = 1_088 + (32 + 1_184) + (48 + 1_200) + 16;

/// Message 2 without its payload: two KEM ciphertexts, one encrypted, ephemeral keys, tag.
const MESSAGE_2_OVERHEAD: usize = 1_088 + 1_104 + (32 + 1_184) + 16;
