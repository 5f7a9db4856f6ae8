//! Hands a seeded generator to the handshake library.
//!
//! The library makes its generator with `Default`, so it has no parameter to pass one through. The
//! generator is therefore laid ready in a thread-local for the length of one constructor call.

use std::cell::RefCell;
use std::sync::{Arc, Mutex, PoisonError};

use clatter::rand_core::{CryptoRng, Error, RngCore, impls};
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};

/// A seeded generator with the random-number traits that the handshake library expects.
///
/// A clone shares the generator rather than copying it, so that no output can appear twice.
#[derive(Clone)]
pub(crate) struct HandshakeRng(Arc<Mutex<dyn Source>>);

/// Where the bytes come from. Tests put a script here.
pub(crate) trait Source: Send {
    fn fill(&mut self, out: &mut [u8]);
}

impl Source for StdRng {
    fn fill(&mut self, out: &mut [u8]) {
        self.fill_bytes(out);
    }
}

impl HandshakeRng {
    pub(crate) fn seeded(seed: [u8; 32]) -> Self {
        Self::new(StdRng::from_seed(seed))
    }

    pub(super) fn new(source: impl Source + 'static) -> Self {
        Self(Arc::new(Mutex::new(source)))
    }

    /// Runs `construct`; the first generator made with `Default` in it is this one.
    pub(super) fn provide<T>(self, construct: impl FnOnce() -> T) -> T {
        READY.set(Some(self));
        let constructed = construct();
        READY.set(None);
        constructed
    }
}

impl Default for HandshakeRng {
    /// The generator that was laid ready.
    ///
    /// If there were none, one seeded by the system, so that a mistake here could never mean
    /// predictable keys.
    fn default() -> Self {
        READY.take().unwrap_or_else(|| {
            let mut seed = [0; 32];
            clatter::crypto::rng::DefaultRng.fill_bytes(&mut seed);
            Self::seeded(seed)
        })
    }
}

impl RngCore for HandshakeRng {
    fn next_u32(&mut self) -> u32 {
        impls::next_u32_via_fill(self)
    }

    fn next_u64(&mut self) -> u64 {
        impls::next_u64_via_fill(self)
    }

    fn fill_bytes(&mut self, out: &mut [u8]) {
        self.0
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .fill(out);
    }

    fn try_fill_bytes(&mut self, out: &mut [u8]) -> Result<(), Error> {
        self.fill_bytes(out);
        Ok(())
    }
}

impl CryptoRng for HandshakeRng {}

thread_local! {
    static READY: RefCell<Option<HandshakeRng>> = const { RefCell::new(None) };
}
