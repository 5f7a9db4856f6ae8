//! The server without its listener: what every request handler shares.

use std::hash::Hash;
use std::net::{IpAddr, Ipv6Addr};
use std::num::NonZeroU32;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use governor::clock::Clock as _;
use governor::middleware::NoOpMiddleware;
use governor::state::keyed::DefaultKeyedStateStore;
use governor::{Quota, RateLimiter};
use relay_proto::ids::EnvironmentId;
use tokio::sync::OwnedSemaphorePermit;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::auth::Access;
use crate::clock::Clock;
use crate::limits::{self, RendezvousLimits};
use crate::oidc::Oidc;
use crate::rendezvous::hub::Hub;
use crate::rendezvous::url::{PublicUrl, UrlSigner};
use crate::store::{Store, StoreError, TokenId};

/// State of a running server.
#[derive(Debug)]
pub(crate) struct Service {
    /// What is remembered.
    pub(crate) store: Store,
    /// The live sockets.
    pub(crate) hub: Arc<Hub>,
    /// Signs and checks rendezvous URLs.
    pub(crate) signer: UrlSigner,
    /// Where clients find the server.
    pub(crate) public_url: PublicUrl,
    /// Which tokens are taken.
    pub(crate) access: Access,
    /// Checks tokens of an identity provider, if they are taken.
    pub(crate) oidc: Option<Arc<Oidc>>,
    /// Whether a proxy in front names the peer.
    pub(crate) behind_proxy: bool,
    /// The time.
    pub(crate) clock: Arc<dyn Clock>,
    /// Failed authentications by peer.
    pub(crate) failures: Failures,
    /// Refused websocket requests by peer, of which not all are recorded.
    pub(crate) refusals: Failures,
    /// Calls by token and environment.
    pub(crate) calls: Calls,
    /// The tasks of connections and sockets.
    pub(crate) tasks: TaskTracker,
    /// Cancelled when the server starts to stop: not ready, and no new sockets.
    pub(crate) draining: CancellationToken,
    /// When peers are told to come back, once the server drains.
    retry_after: OnceLock<Duration>,
    /// Cancelled when every websocket has been told: connections end after their request.
    pub(crate) stopping: CancellationToken,
    /// Cancelled when time is up: tasks end at once.
    pub(crate) abort: CancellationToken,
}

/// One of the connections that there may be at once; the last clone gives it back.
#[derive(Clone, Debug)]
pub(crate) struct ConnectionPermit(
    #[expect(dead_code, reason = "held for its drop")] pub(crate) Arc<OwnedSemaphorePermit>,
);

/// What a service is made of.
pub(crate) struct ServiceParts {
    pub(crate) store: Store,
    pub(crate) public_url: PublicUrl,
    pub(crate) access: Access,
    pub(crate) oidc: Option<Oidc>,
    pub(crate) behind_proxy: bool,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) limits: RendezvousLimits,
}

impl Service {
    /// Puts a service together.
    pub(crate) async fn new(parts: ServiceParts) -> Result<Arc<Self>, StoreError> {
        let secret = parts.store.signing_secret().await?;
        Ok(Arc::new(Self {
            signer: UrlSigner::new(&secret),
            store: parts.store,
            hub: Arc::new(Hub::new(parts.limits)),
            public_url: parts.public_url,
            access: parts.access,
            oidc: parts.oidc.map(Arc::new),
            behind_proxy: parts.behind_proxy,
            clock: parts.clock,
            failures: Failures::new(limits::FAILURE_BURST),
            refusals: Failures::new(limits::RECORDED_REFUSALS),
            calls: Calls::new(),
            tasks: TaskTracker::new(),
            draining: CancellationToken::new(),
            retry_after: OnceLock::new(),
            stopping: CancellationToken::new(),
            abort: CancellationToken::new(),
        }))
    }

    /// Starts to stop.
    pub(crate) fn start_draining(&self, retry_after: Duration) {
        // Before anybody can see that it drains.
        let _ = self.retry_after.set(retry_after);
        self.draining.cancel();
    }

    /// When peers are told to come back.
    pub(crate) fn retry_after(&self) -> Duration {
        *self.retry_after.get().unwrap_or(&limits::DRAIN_RETRY_AFTER)
    }

    /// Whether the server takes requests.
    pub(crate) async fn is_ready(&self) -> bool {
        !self.is_draining() && self.store.is_ready().await
    }

    /// Whether the server stops.
    pub(crate) fn is_draining(&self) -> bool {
        self.draining.is_cancelled()
    }
}

/// Limits by key, on the clock of the runtime.
type Limiter<K> =
    RateLimiter<K, DefaultKeyedStateStore<K>, RuntimeClock, NoOpMiddleware<std::time::Instant>>;

fn limiter<K: Clone + Eq + Hash>(quota: Quota) -> Limiter<K> {
    RateLimiter::new(quota, DefaultKeyedStateStore::default(), RuntimeClock)
}

/// The clock that everything else here waits by, which tests may pause.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct RuntimeClock;

impl governor::clock::Clock for RuntimeClock {
    type Instant = std::time::Instant;

    fn now(&self) -> Self::Instant {
        tokio::time::Instant::now().into_std()
    }
}

impl governor::clock::ReasonablyRealtime for RuntimeClock {}

/// Counts failures by peer address. Good credentials are never held up, so that nobody can lock
/// others out who share an address.
pub(crate) struct Failures {
    limiter: Limiter<IpAddr>,
}

impl std::fmt::Debug for Failures {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Failures")
            .field("peers", &self.limiter.len())
            .finish()
    }
}

impl Failures {
    fn new(burst: u32) -> Self {
        let burst = NonZeroU32::new(burst).unwrap_or(NonZeroU32::MIN);
        let quota = Quota::per_second(NonZeroU32::MIN).allow_burst(burst);
        Self {
            limiter: limiter(quota),
        }
    }

    /// Notes a failure; false if the peer, or all of them together, have had too many.
    pub(crate) fn note(&self, peer: IpAddr) -> bool {
        self.limiter.len() < limits::FAILURE_PEERS && self.limiter.check_key(&network(peer)).is_ok()
    }

    /// Forgets the peers that have been quiet.
    pub(crate) fn prune(&self) {
        self.limiter.retain_recent();
        self.limiter.shrink_to_fit();
    }
}

/// Counts calls that succeed, so that a peer that runs away does not keep the database busy.
pub(crate) struct Calls {
    limiter: Limiter<Caller>,
}

/// A token, and the environment and the call that it is used for.
type Caller = (TokenId, EnvironmentId, &'static str);

impl std::fmt::Debug for Calls {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Calls")
            .field("callers", &self.limiter.len())
            .finish()
    }
}

impl Calls {
    fn new() -> Self {
        let nonzero = |number| NonZeroU32::new(number).unwrap_or(NonZeroU32::MIN);
        let quota = Quota::per_second(nonzero(limits::CALLS_PER_SECOND));
        Self {
            limiter: limiter(quota.allow_burst(nonzero(limits::CALL_BURST))),
        }
    }

    /// Notes a call; otherwise after how many seconds it may be tried again.
    pub(crate) fn note(
        &self,
        token: &TokenId,
        environment: &EnvironmentId,
        call: &'static str,
    ) -> Result<(), u64> {
        if self.limiter.len() >= limits::CALLERS {
            return Err(1);
        }
        let caller = (token.clone(), environment.clone(), call);
        self.limiter.check_key(&caller).map_err(|not_until| {
            let wait = not_until.wait_time_from(RuntimeClock.now());
            wait.as_secs() + 1
        })
    }

    /// Forgets the callers that have been quiet.
    pub(crate) fn prune(&self) {
        self.limiter.retain_recent();
        self.limiter.shrink_to_fit();
    }
}

/// What one party can be expected to hold: an IPv4 address, or a /64 of IPv6.
fn network(peer: IpAddr) -> IpAddr {
    match peer.to_canonical() {
        IpAddr::V6(address) => IpAddr::V6(Ipv6Addr::from_bits(
            address.to_bits() & !u128::from(u64::MAX),
        )),
        address @ IpAddr::V4(_) => address,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn failures_are_counted_by_address() {
        let failures = Failures::new(limits::FAILURE_BURST);
        let [one, two] = [1, 2].map(|last| IpAddr::from([192, 0, 2, last]));
        for _ in 0..limits::FAILURE_BURST {
            assert!(failures.note(one));
        }
        assert!(!failures.note(one));
        assert!(failures.note(two));
    }

    #[test]
    fn calls_are_counted_by_token_environment_and_kind() {
        let calls = Calls::new();
        let token = |text: &str| TokenId::from(text.to_owned());
        let environment = |text: &str| EnvironmentId::new(text).unwrap();
        let (one, env) = (token("one"), environment("env"));
        for _ in 0..limits::CALL_BURST {
            assert_eq!(calls.note(&one, &env, "connect"), Ok(()));
        }
        // At ten in a second the next one is due within the first.
        let refused = (0..limits::CALL_BURST).find_map(|_| calls.note(&one, &env, "connect").err());
        assert_eq!(refused, Some(1));
        assert_eq!(calls.note(&one, &env, "register"), Ok(()));
        assert_eq!(calls.note(&token("two"), &env, "connect"), Ok(()));
        assert_eq!(calls.note(&one, &environment("other"), "connect"), Ok(()));
    }

    #[test]
    fn ipv6_failures_are_counted_by_network() {
        let address = |text: &str| text.parse::<IpAddr>().unwrap();
        assert_eq!(
            network(address("2001:db8::1")),
            network(address("2001:db8::ffff:2"))
        );
        assert_ne!(
            network(address("2001:db8::1")),
            network(address("2001:db8:0:1::1"))
        );
        assert_eq!(network(address("::ffff:192.0.2.1")), address("192.0.2.1"));
    }
}
