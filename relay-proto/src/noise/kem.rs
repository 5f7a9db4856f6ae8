//! ML-KEM-768 from libcrux, whose code is verified, uses AVX2 or NEON where there is some, and takes
//! its random numbers as parameters.

use clatter::KeyPair;
use clatter::bytearray::{ByteArray, HeapArray, SensitiveByteArray};
use clatter::error::{KemError, KemResult};
use clatter::traits::{CryptoComponent, Kem, Rng};
use libcrux_ml_kem::mlkem768::{
    MlKem768Ciphertext, MlKem768PrivateKey, MlKem768PublicKey, decapsulate, encapsulate,
    generate_key_pair,
};
use libcrux_ml_kem::{KEY_GENERATION_SEED_SIZE, SHARED_SECRET_SIZE};
use zeroize::{Zeroize, Zeroizing};

use crate::keys::MLKEM768_BYTES;

/// The key encapsulation, used for the ephemeral and for the static keys.
///
/// Public keys must be canonical, which whoever takes one from a peer checks.
#[derive(Clone)]
pub(super) struct MlKem;

impl CryptoComponent for MlKem {
    fn name() -> &'static str {
        "MLKEM768"
    }
}

impl Kem for MlKem {
    type SecretKey = SensitiveByteArray<HeapArray<SECRET_BYTES>>;
    type PubKey = HeapArray<MLKEM768_BYTES>;
    type Ct = HeapArray<CIPHERTEXT_BYTES>;
    type Ss = SensitiveByteArray<[u8; SHARED_SECRET_SIZE]>;

    fn genkey_rng<R: Rng>(rng: &mut R) -> KemResult<KeyPair<Self::PubKey, Self::SecretKey>> {
        let mut seed = Zeroizing::new([0; KEY_GENERATION_SEED_SIZE]);
        // One draw for the key and one for what a rejected ciphertext gives, as FIPS 203 has it.
        for half in seed.chunks_mut(KEY_GENERATION_SEED_SIZE / 2) {
            rng.fill_bytes(half);
        }
        let (mut secret, public) = generate_key_pair(*seed).into_parts();
        let pair = KeyPair {
            public: Self::PubKey::from_slice(public.as_ref()),
            secret: Self::SecretKey::from_slice(secret.as_ref()),
        };
        wipe(&mut secret);
        Ok(pair)
    }

    fn encapsulate<R: Rng>(public: &[u8], rng: &mut R) -> KemResult<(Self::Ct, Self::Ss)> {
        let public = MlKem768PublicKey::try_from(public).map_err(|_| KemError::Input)?;
        let mut seed = Zeroizing::new([0; SHARED_SECRET_SIZE]);
        rng.fill_bytes(seed.as_mut());
        let (ciphertext, shared) = encapsulate(&public, *seed);
        let shared = Zeroizing::new(shared);
        Ok((
            Self::Ct::from_slice(ciphertext.as_ref()),
            Self::Ss::from_slice(shared.as_ref()),
        ))
    }

    fn decapsulate(ciphertext: &[u8], secret: &[u8]) -> KemResult<Self::Ss> {
        let ciphertext = MlKem768Ciphertext::try_from(ciphertext).map_err(|_| KemError::Input)?;
        let mut secret = MlKem768PrivateKey::try_from(secret).map_err(|_| KemError::Input)?;
        let shared = Zeroizing::new(decapsulate(&secret, &ciphertext));
        wipe(&mut secret);
        Ok(Self::Ss::from_slice(shared.as_ref()))
    }
}

/// The library leaves this to its callers.
fn wipe(secret: &mut MlKem768PrivateKey) {
    secret[0..SECRET_BYTES].zeroize();
}

const SECRET_BYTES: usize = MlKem768PrivateKey::len();

const CIPHERTEXT_BYTES: usize = MlKem768Ciphertext::len();
