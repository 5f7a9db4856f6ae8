//! An identity provider: keys made in the test, tokens signed with them, and the key set over HTTP.
//!
//! Tokens are put together by hand, so that any of them can be made, wrong ones above all.

use std::{
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicUsize, Ordering},
    },
    time::{SystemTime, UNIX_EPOCH},
};

use anyhow::{Context as _, Result};
use aws_lc_rs::{
    encoding::{AsBigEndian as _, EcPublicKeyUncompressedBin},
    hmac,
    rand::SystemRandom,
    rsa::KeySize,
    signature::{
        self, ECDSA_P256_SHA256_FIXED_SIGNING, ECDSA_P384_SHA384_FIXED_SIGNING, EcdsaKeyPair,
        Ed25519KeyPair, KeyPair as _, RsaEncoding, RsaKeyPair,
    },
};
use axum::{Json, Router, extract::State, http::StatusCode, routing::get};
use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use serde_json::{Value, json};
use tokio::task::JoinSet;

use crate::web;

/// A key that signs tokens.
#[derive(Debug)]
pub struct SigningKey {
    id: String,
    algorithm: &'static str,
    pair: Pair,
}

#[derive(Debug)]
enum Pair {
    Rsa(RsaKeyPair, &'static dyn RsaEncoding),
    Ec(EcdsaKeyPair, &'static str),
    Ed(Ed25519KeyPair),
}

impl SigningKey {
    /// A new key for ES256.
    ///
    /// # Errors
    ///
    /// When none can be made; so for all kinds.
    pub fn es256(id: &str) -> Result<Self> {
        let pair = EcdsaKeyPair::generate(&ECDSA_P256_SHA256_FIXED_SIGNING)?;
        Ok(Self::new(id, "ES256", Pair::Ec(pair, "P-256")))
    }

    /// A new key for ES384.
    ///
    /// # Errors
    ///
    /// See [`SigningKey::es256`].
    pub fn es384(id: &str) -> Result<Self> {
        let pair = EcdsaKeyPair::generate(&ECDSA_P384_SHA384_FIXED_SIGNING)?;
        Ok(Self::new(id, "ES384", Pair::Ec(pair, "P-384")))
    }

    /// A new key for `EdDSA`.
    ///
    /// # Errors
    ///
    /// See [`SigningKey::es256`].
    pub fn eddsa(id: &str) -> Result<Self> {
        let pair = Ed25519KeyPair::generate()?;
        Ok(Self::new(id, "EdDSA", Pair::Ed(pair)))
    }

    /// A new key for one of RS256, RS384, RS512, PS256, PS384, PS512.
    ///
    /// # Errors
    ///
    /// See [`SigningKey::es256`].
    pub fn rsa(id: &str, algorithm: &'static str) -> Result<Self> {
        let pair = RsaKeyPair::generate(KeySize::Rsa2048)?;
        Ok(Self::new(
            id,
            algorithm,
            Pair::Rsa(pair, padding(algorithm)?),
        ))
    }

    fn new(id: &str, algorithm: &'static str, pair: Pair) -> Self {
        let id = id.to_owned();
        Self {
            id,
            algorithm,
            pair,
        }
    }

    /// The same key, used with another RSA algorithm.
    ///
    /// # Errors
    ///
    /// When it is no RSA key, or the algorithm none for it.
    pub fn with_algorithm(mut self, algorithm: &'static str) -> Result<Self> {
        if let Pair::Rsa(_, used) = &mut self.pair {
            *used = padding(algorithm)?;
        }
        self.algorithm = algorithm;
        Ok(self)
    }

    /// The public key as a member of a key set.
    ///
    /// # Errors
    ///
    /// When the library does not give it away.
    pub fn public(&self) -> Result<Value> {
        let mut key = match &self.pair {
            Pair::Rsa(pair, _) => {
                let public = pair.public_key();
                let text = |number: signature::RsaPublicKeyComponents<_>| {
                    (encode(number.n), encode(number.e))
                };
                let (n, e) = text(public.into());
                json!({ "kty": "RSA", "n": n, "e": e })
            }
            Pair::Ec(pair, curve) => {
                let point: EcPublicKeyUncompressedBin<'_> = pair.public_key().as_be_bytes()?;
                let (x, y) = point.as_ref()[1..].split_at((point.as_ref().len() - 1) / 2);
                json!({ "kty": "EC", "crv": curve, "x": encode(x), "y": encode(y) })
            }
            Pair::Ed(pair) => {
                let x = encode(pair.public_key().as_ref());
                json!({ "kty": "OKP", "crv": "Ed25519", "x": x })
            }
        };
        key["kid"] = json!(self.id);
        key["use"] = json!("sig");
        Ok(key)
    }

    /// A token with these claims.
    ///
    /// # Errors
    ///
    /// When it cannot be signed.
    pub fn token(&self, claims: &Value) -> Result<String> {
        let header = json!({ "alg": self.algorithm, "kid": self.id, "typ": "JWT" });
        self.token_with(&header, claims)
    }

    /// A token with this header, whatever it says.
    ///
    /// # Errors
    ///
    /// When it cannot be signed.
    pub fn token_with(&self, header: &Value, claims: &Value) -> Result<String> {
        assemble(header, claims, |signed| self.sign(signed))
    }

    /// A token that is signed with the public key as the secret of HS256, which is for everybody to see.
    ///
    /// # Errors
    ///
    /// When there is no public key.
    pub fn confused_token(&self, claims: &Value) -> Result<String> {
        let secret = self.public()?.to_string();
        let key = hmac::Key::new(hmac::HMAC_SHA256, secret.as_bytes());
        let header = json!({ "alg": "HS256", "kid": self.id, "typ": "JWT" });
        assemble(&header, claims, |signed| {
            Ok(hmac::sign(&key, signed).as_ref().to_vec())
        })
    }

    fn sign(&self, signed: &[u8]) -> Result<Vec<u8>> {
        let random = SystemRandom::new();
        Ok(match &self.pair {
            Pair::Rsa(pair, padding) => {
                let mut signature = vec![0; pair.public_modulus_len()];
                pair.sign(*padding, &random, signed, &mut signature)?;
                signature
            }
            Pair::Ec(pair, _) => pair.sign(&random, signed)?.as_ref().to_vec(),
            Pair::Ed(pair) => pair.sign(signed).as_ref().to_vec(),
        })
    }
}

fn padding(algorithm: &str) -> Result<&'static dyn RsaEncoding> {
    Ok(match algorithm {
        "RS256" => &signature::RSA_PKCS1_SHA256,
        "RS384" => &signature::RSA_PKCS1_SHA384,
        "RS512" => &signature::RSA_PKCS1_SHA512,
        "PS256" => &signature::RSA_PSS_SHA256,
        "PS384" => &signature::RSA_PSS_SHA384,
        "PS512" => &signature::RSA_PSS_SHA512,
        _ => anyhow::bail!("no such algorithm of RSA"),
    })
}

fn assemble(
    header: &Value,
    claims: &Value,
    sign: impl Fn(&[u8]) -> Result<Vec<u8>>,
) -> Result<String> {
    let [header, claims] = [header, claims].map(|part| encode(part.to_string().as_bytes()));
    let signed = format!("{header}.{claims}");
    let signature = encode(&sign(signed.as_bytes())?);
    Ok(format!("{signed}.{signature}"))
}

fn encode(bytes: impl AsRef<[u8]>) -> String {
    URL_SAFE_NO_PAD.encode(bytes)
}

/// The key set of these keys.
///
/// # Errors
///
/// When there is no public key.
pub fn key_set(keys: &[&SigningKey]) -> Result<Value> {
    let keys: Vec<Value> = keys.iter().map(|key| key.public()).collect::<Result<_>>()?;
    Ok(json!({ "keys": keys }))
}

/// Seconds since 1970.
///
/// # Errors
///
/// When the clock is before that.
pub fn now() -> Result<u64> {
    let since = SystemTime::now().duration_since(UNIX_EPOCH);
    Ok(since.context("the clock is before 1970")?.as_secs())
}

/// A running identity provider. Dropping it stops it.
#[derive(Debug)]
pub struct Issuer {
    url: String,
    published: Arc<Published>,
    _server: JoinSet<()>,
}

#[derive(Debug)]
struct Published {
    url: String,
    /// What is answered to those who ask for keys; nothing but errors if absent.
    keys: Mutex<Option<Value>>,
    asked: AtomicUsize,
}

impl Issuer {
    /// Starts it on a free loopback port, without keys: whoever asks gets 503.
    ///
    /// # Errors
    ///
    /// When no port can be bound.
    pub async fn start() -> Result<Self> {
        let (listener, url) = web::bind().await?;
        let published = Arc::new(Published {
            url: url.clone(),
            keys: Mutex::default(),
            asked: AtomicUsize::new(0),
        });
        let router = Router::new()
            .route("/.well-known/openid-configuration", get(discovery))
            .route("/keys", get(keys))
            .with_state(Arc::clone(&published));
        Ok(Self {
            url,
            published,
            _server: web::serve(listener, router),
        })
    }

    /// Publishes these keys and no others.
    ///
    /// # Errors
    ///
    /// When there is no public key.
    pub fn publish(&self, keys: &[&SigningKey]) -> Result<()> {
        self.answer(Some(key_set(keys)?));
        Ok(())
    }

    /// Answers those who ask for keys with this, or with an error.
    pub fn answer(&self, document: Option<Value>) {
        *self.published.lock() = document;
    }

    /// Its name, as in `iss`.
    pub fn url(&self) -> &str {
        &self.url
    }

    /// Where the keys are.
    pub fn keys_url(&self) -> String {
        format!("{}/keys", self.url)
    }

    /// How often it was asked for keys.
    pub fn asked(&self) -> usize {
        self.published.asked.load(Ordering::SeqCst)
    }

    /// Claims of `subject` for `audience`, good for an hour.
    ///
    /// # Errors
    ///
    /// When the clock is before 1970.
    pub fn claims(&self, subject: &str, audience: &str) -> Result<Value> {
        let now = now()?;
        Ok(json!({
            "iss": self.url, "sub": subject, "aud": audience,
            "iat": now, "nbf": now, "exp": now + 3600,
        }))
    }
}

impl Published {
    fn lock(&self) -> std::sync::MutexGuard<'_, Option<Value>> {
        self.keys.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

async fn discovery(State(published): State<Arc<Published>>) -> Json<Value> {
    let url = &published.url;
    Json(json!({ "issuer": url, "jwks_uri": format!("{url}/keys") }))
}

async fn keys(State(published): State<Arc<Published>>) -> Result<Json<Value>, StatusCode> {
    published.asked.fetch_add(1, Ordering::SeqCst);
    let document = published.lock().clone();
    document.map(Json).ok_or(StatusCode::SERVICE_UNAVAILABLE)
}
