//! The keys of an identity provider: a JSON web key set (RFC 7517), and which key is for which token.
//!
//! A key is good for a fixed list of algorithms, which follows from its kind and not from what a token
//! says. All of them are asymmetric: a symmetric key in the set is not taken, so there is nothing that
//! a token could be checked against with the text of a public key as the secret.

use aws_lc_rs::digest;
use jsonwebtoken::jwk::{AlgorithmParameters, EllipticCurve, Jwk, KeyAlgorithm, PublicKeyUse};
use jsonwebtoken::{Algorithm, DecodingKey};
use serde::Deserialize;
use serde_json::Value;

use crate::limits;

/// Keys that signatures can be checked with.
#[derive(Debug)]
pub(super) struct KeySet {
    keys: Vec<Key>,
    /// Tells one set from another.
    digest: Vec<u8>,
}

#[derive(Debug)]
struct Key {
    id: Option<String>,
    algorithms: Vec<Algorithm>,
    decoding: DecodingKey,
}

/// Why a document is no key set.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum KeySetError {
    #[error("it is not a JSON web key set")]
    Form,
    #[error("it has more than {} keys", limits::OIDC_KEYS)]
    TooMany,
    #[error("it has no key that a signature can be checked with")]
    NoKey,
}

/// Why no key is for a token.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum NoKey {
    /// None has the id, or could be it.
    Unknown,
    /// The key is for other algorithms.
    Algorithm,
    /// Several could be it, and the token does not say which.
    Ambiguous,
}

#[derive(Deserialize)]
struct Document {
    keys: Vec<Value>,
}

impl KeySet {
    /// Takes what can be used of a document; other kinds of keys may stand beside it.
    pub(super) fn parse(document: &[u8]) -> Result<Self, KeySetError> {
        let Document { keys } = serde_json::from_slice(document).map_err(|_| KeySetError::Form)?;
        if keys.len() > limits::OIDC_KEYS {
            return Err(KeySetError::TooMany);
        }
        let keys: Vec<Key> = keys.into_iter().filter_map(Key::parse).collect();
        if keys.is_empty() {
            return Err(KeySetError::NoKey);
        }
        let digest = digest::digest(&digest::SHA256, document).as_ref().to_vec();
        Ok(Self { keys, digest })
    }

    pub(super) fn len(&self) -> usize {
        self.keys.len()
    }

    pub(super) fn is_same(&self, other: &Self) -> bool {
        self.digest == other.digest
    }

    /// The key for a token that names `id` and `algorithm`.
    pub(super) fn find(
        &self,
        id: Option<&str>,
        algorithm: Algorithm,
    ) -> Result<&DecodingKey, NoKey> {
        let is_for = |key: &&Key| key.algorithms.contains(&algorithm);
        if let Some(id) = id {
            let mut named = self.keys.iter().filter(|key| key.id.as_deref() == Some(id));
            return match named.clone().find(is_for) {
                Some(key) => Ok(&key.decoding),
                None if named.next().is_some() => Err(NoKey::Algorithm),
                None => Err(NoKey::Unknown),
            };
        }
        let mut fitting = self.keys.iter().filter(is_for);
        match (fitting.next(), fitting.next()) {
            (Some(key), None) => Ok(&key.decoding),
            (Some(_), Some(_)) => Err(NoKey::Ambiguous),
            (None, _) => Err(NoKey::Unknown),
        }
    }
}

impl Key {
    fn parse(value: Value) -> Option<Self> {
        let jwk: Jwk = serde_json::from_value(value).ok()?;
        let for_signatures = match &jwk.common.public_key_use {
            None | Some(PublicKeyUse::Signature) => true,
            Some(_) => false,
        };
        if !for_signatures {
            return None;
        }
        let possible: &[Algorithm] = match &jwk.algorithm {
            AlgorithmParameters::RSA(_) => &RSA,
            AlgorithmParameters::EllipticCurve(key) => match key.curve {
                EllipticCurve::P256 => &[Algorithm::ES256],
                EllipticCurve::P384 => &[Algorithm::ES384],
                _ => return None,
            },
            AlgorithmParameters::OctetKeyPair(key) if key.curve == EllipticCurve::Ed25519 => {
                &[Algorithm::EdDSA]
            }
            _ => return None,
        };
        let said = jwk.common.key_algorithm;
        let is_said = |algorithm: &Algorithm| said.is_none_or(|said| said == (*algorithm).into());
        let algorithms: Vec<_> = possible.iter().copied().filter(is_said).collect();
        if algorithms.is_empty() {
            return None;
        }
        Some(Self {
            algorithms,
            decoding: DecodingKey::from_jwk(&jwk).ok()?,
            id: jwk.common.key_id,
        })
    }
}

/// The algorithm with this name, if it is one that is taken.
pub(super) fn algorithm(name: &str) -> Option<Algorithm> {
    let all = RSA
        .iter()
        .chain(&[Algorithm::ES256, Algorithm::ES384, Algorithm::EdDSA]);
    all.copied()
        .find(|algorithm| KeyAlgorithm::from(*algorithm).to_string() == name)
}

const RSA: [Algorithm; 6] = [
    Algorithm::RS256,
    Algorithm::RS384,
    Algorithm::RS512,
    Algorithm::PS256,
    Algorithm::PS384,
    Algorithm::PS512,
];
