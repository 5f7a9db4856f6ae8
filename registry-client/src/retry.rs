//! How long a harness keeps asking for a bundle.

use std::time::Duration;

use rand::Rng;
use relay_proto::backoff::{Backoff, BackoffConfig, Jitter};
use relay_proto::ids::EnvironmentId;
use relay_proto::keys::PublicKey;
use tokio::time::Instant;
use tracing::debug;

use crate::api::RegistryClient;
use crate::bundle::Bundle;
use crate::error::RegistryError;
use crate::limits;

/// When [`connect_with_retry`] tries again, and when it gives up.
#[derive(Clone, Copy, Debug)]
pub struct ConnectRetry {
    /// Time for all tries together. Default: [`limits::CONNECT_DEADLINE`].
    ///
    /// The reference stops after about 10 s, although a healthy executor may be 30 s away from its
    /// next attempt to reach the rendezvous.
    pub deadline: Duration,
    /// Time for one try. Default: [`limits::CONNECT_TRY_TIMEOUT`].
    pub try_timeout: Duration,
    /// Delays between tries. Default: 0.5 s doubling to 5 s, jittered upwards by up to a half.
    pub backoff: BackoffConfig,
}

impl Default for ConnectRetry {
    fn default() -> Self {
        Self {
            deadline: limits::CONNECT_DEADLINE,
            try_timeout: limits::CONNECT_TRY_TIMEOUT,
            backoff: BackoffConfig {
                min_delay: Duration::from_millis(500),
                max_delay: Duration::from_secs(5),
                jitter: Jitter::FullToOneAndAHalf,
                ..BackoffConfig::default()
            },
        }
    }
}

/// Asks for a bundle until there is one, the error is not worth a retry, or the time is up.
///
/// The first try is made at once. A `Retry-After` of the registry is a floor for the next delay; one
/// that reaches beyond the deadline ends the attempt without waiting for it.
///
/// # Errors
///
/// The [`RegistryError`] of the last try, or of the one before it when the deadline cut it short.
///
/// # Cancel safety
///
/// Dropping the future abandons the try under way; an unused bundle expires.
pub async fn connect_with_retry(
    client: &RegistryClient,
    environment: &EnvironmentId,
    harness_key: &PublicKey,
    policy: ConnectRetry,
    rng: &mut impl Rng,
) -> Result<Bundle, RegistryError> {
    let deadline = Instant::now() + policy.deadline;
    let mut backoff = Backoff::new(policy.backoff);
    let mut earlier = None;
    loop {
        let left = deadline.saturating_duration_since(Instant::now());
        let one = client.clone().with_timeout(policy.try_timeout.min(left));
        let error = match one.connect(environment, harness_key).await {
            Ok(bundle) => return Ok(bundle),
            Err(error) => error,
        };
        if !error.is_retryable() {
            return Err(error);
        }
        let delay = backoff.next_delay(rng, error.retry_after());
        if delay >= deadline.saturating_duration_since(Instant::now()) {
            // A try that had no time says less than the one before it.
            let cut_short = left < policy.try_timeout && error.reason() == "timeout";
            return Err(earlier.filter(|_| cut_short).unwrap_or(error));
        }
        debug!(
            reason = error.reason(),
            delay_ms = delay.as_millis(),
            "connect is tried again"
        );
        earlier = Some(error);
        tokio::time::sleep(delay).await;
    }
}
