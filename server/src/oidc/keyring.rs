//! The keys in use, and when they are read again.
//!
//! They are read at the start, at fixed intervals, and when a token asks for a key that is not there,
//! which is how a new key is found at once; but not more often than a token that asks for nonsense
//! again and again should cause. The last good keys stay for as long as newer ones cannot be had.

use std::convert::Infallible;
use std::num::NonZeroU32;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, PoisonError, RwLock};

use governor::middleware::NoOpMiddleware;
use governor::state::{InMemoryState, NotKeyed};
use governor::{Quota, RateLimiter};
use tokio::sync::Mutex;
use tokio::time::{Instant, sleep};

use super::keys::KeySet;
use super::source::Source;
use crate::service::RuntimeClock;
use crate::{events, limits};

/// Keys of one issuer.
#[derive(Debug)]
pub(super) struct Keyring {
    source: Source,
    issuer: String,
    current: RwLock<Option<Arc<KeySet>>>,
    /// When reading was last begun. Locked while it goes on, so that all who want it share it.
    begun: Mutex<Option<Instant>>,
    /// How often tokens may have the keys read.
    looks: Limiter,
    is_failing: AtomicBool,
}

type Limiter =
    RateLimiter<NotKeyed, InMemoryState, RuntimeClock, NoOpMiddleware<std::time::Instant>>;

impl Keyring {
    pub(super) fn new(source: Source, issuer: String) -> Self {
        // Only a period of zero makes no quota.
        let quota = Quota::with_period(source.pause())
            .unwrap_or(Quota::per_second(NonZeroU32::MIN))
            .allow_burst(limits::OIDC_LOOKS);
        Self {
            looks: RateLimiter::new(quota, InMemoryState::default(), RuntimeClock),
            source,
            issuer,
            current: RwLock::new(None),
            begun: Mutex::new(None),
            is_failing: AtomicBool::new(false),
        }
    }

    /// The last good keys.
    pub(super) fn current(&self) -> Option<Arc<KeySet>> {
        self.current
            .read()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }

    /// Whether the keys could not be read the last time.
    pub(super) fn is_failing(&self) -> bool {
        self.is_failing.load(Ordering::Relaxed)
    }

    /// Reads the keys again for a token, unless tokens have caused that too often.
    ///
    /// # Cancel safety
    ///
    /// A reading that is dropped counts all the same.
    pub(super) async fn look_again(&self) {
        let (asked, had_none) = (Instant::now(), self.current().is_none());
        let mut begun = self.begun.lock().await;
        // One that was begun before may have missed a key; but any key is better than none.
        let is_done =
            begun.is_some_and(|begun| begun >= asked) || (had_none && self.current().is_some());
        if !is_done && self.looks.check().is_ok() {
            self.read(&mut begun).await;
        }
    }

    /// Keeps the keys fresh for ever.
    pub(super) async fn run(&self) -> Infallible {
        let mut pause = limits::OIDC_RETRY_FIRST;
        loop {
            self.read(&mut *self.begun.lock().await).await;
            let interval = self.source.interval();
            if self.is_failing() {
                sleep(pause.min(interval)).await;
                pause = pause.saturating_mul(2);
            } else {
                pause = limits::OIDC_RETRY_FIRST;
                sleep(interval).await;
            }
        }
    }

    async fn read(&self, begun: &mut Option<Instant>) {
        *begun = Some(Instant::now());
        match self.source.read(&self.issuer).await {
            Ok(keys) => {
                self.is_failing.store(false, Ordering::Relaxed);
                let mut current = self.current.write().unwrap_or_else(PoisonError::into_inner);
                let is_new = !current
                    .as_ref()
                    .is_some_and(|current| current.is_same(&keys));
                events::keys_read(is_new.then(|| keys.len()));
                *current = Some(Arc::new(keys));
            }
            Err(error) => {
                let is_first = !self.is_failing.swap(true, Ordering::Relaxed);
                events::keys_not_read(&error, is_first);
            }
        }
    }
}
