//! The one outbound policy: proxies, certificate authorities, redirects and timeouts.
//!
//! One [`Connector`] builds two clients from one policy, so that registry calls and websockets
//! cannot differ in how they reach the world:
//!
//! - `http` may speak HTTP/2 where TLS offers it;
//! - `upgrade` speaks HTTP/1.1 only, since a websocket upgrade over HTTP/2 is refused with 405.
//!
//! Neither follows redirects, and neither sends a `User-Agent`. A configured proxy that fails or
//! cannot be parsed is an error, never a reason to connect directly.
//!
//! Not here: what is asked of the registry ([`RegistryClient`](crate::RegistryClient)), and what
//! flows over a websocket once it is open.

mod environment;
mod error;
mod fetch;
mod network;
mod proxies;
mod roots;
mod route;
mod tunnel;
mod websocket;

use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use http::{HeaderMap, HeaderName, HeaderValue};
use hyper_util::client::proxy::matcher::Matcher;
use reqwest::redirect::Policy;
use tracing::{Span, debug};

pub use environment::ConnectorEnvironment;
pub use error::{ConnectError, ConnectorConfigError, TransportError};
pub use fetch::FetchError;
pub use network::{Connecting, Network, NetworkIo};
pub use route::{ProxyAddress, Route};
pub use websocket::{WebSocket, WebSocketIo, new_request_id};

use self::proxies::Proxies;
use crate::limits;

/// What a [`Connector`] is built from.
#[derive(Clone, Debug)]
pub struct ConnectorConfig {
    /// Bundle of certificate authorities in PEM form, trusted in addition to all others.
    pub ca_file: Option<PathBuf>,
    /// The variables for proxies and certificate authorities. Default: those of this process.
    pub environment: ConnectorEnvironment,
    /// Time to open a websocket. Default: [`limits::WEBSOCKET_TIMEOUT`].
    pub websocket_timeout: Duration,
    /// Another network than that of the system, for tests and simulations. It carries plain HTTP
    /// and plain websockets only, without proxies.
    pub network: Option<Arc<dyn Network>>,
}

/// Opens outbound connections; cheap to clone.
#[derive(Clone)]
pub struct Connector {
    http: reqwest::Client,
    upgrade: reqwest::Client,
    /// The proxy rule for plain websockets, which need a tunnel of our own.
    plain_tunnel: Option<Arc<Matcher>>,
    /// Whether all other plain websockets need no proxy.
    plain_is_direct: bool,
    /// Tells which proxy applies, for people.
    proxies: Arc<Matcher>,
    /// Which authorities are trusted, in words.
    authorities: Arc<str>,
    websocket_timeout: Duration,
    environment: Arc<ConnectorEnvironment>,
    network: Option<Arc<dyn Network>>,
}

/// Makes aws-lc-rs the TLS provider of the process, unless one is installed already.
///
/// [`Connector::new`] calls it; a program that uses TLS before that calls it first thing. May be
/// called any number of times.
pub fn install_crypto_provider() {
    // The error only says that another caller was first.
    let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
}

impl Connector {
    /// Builds both clients. Reads the certificate files, and connects nowhere.
    ///
    /// # Errors
    ///
    /// [`ConnectorConfigError`] when a proxy variable or a certificate file is unusable.
    pub fn new(config: ConnectorConfig) -> Result<Self, ConnectorConfigError> {
        install_crypto_provider();
        let proxies = Proxies::from_environment(&config.environment)?;
        let rules = proxies.rules()?;
        let roots = roots::load(config.ca_file.as_deref(), &config.environment)?;
        let policy = |roots: &roots::Roots| {
            let mut builder = reqwest::Client::builder()
                .redirect(Policy::none())
                .referer(false)
                .tcp_nodelay(true)
                .tcp_keepalive(limits::TCP_KEEPALIVE_IDLE)
                .tcp_keepalive_interval(limits::TCP_KEEPALIVE_INTERVAL)
                .tcp_keepalive_retries(limits::TCP_KEEPALIVE_RETRIES)
                // Without this call reqwest reads the process's own proxy variables.
                .no_proxy();
            #[cfg(target_os = "linux")]
            {
                builder = builder.tcp_user_timeout(limits::TCP_USER_TIMEOUT);
            }
            for rule in &rules {
                builder = builder.proxy(rule.clone());
            }
            match roots {
                roots::Roots::System { extra } => builder.tls_certs_merge(extra.clone()),
                roots::Roots::Only(certificates) => builder.tls_certs_only(certificates.clone()),
            }
        };
        let build = |roots: &roots::Roots| {
            let http = policy(roots)
                .pool_idle_timeout(limits::POOL_IDLE_TIMEOUT)
                .build()?;
            let upgrade = policy(roots)
                .http1_only()
                .pool_max_idle_per_host(0)
                .build()?;
            Ok::<_, reqwest::Error>((http, upgrade))
        };
        let mut authorities = roots.to_string();
        let (http, upgrade) = match build(&roots) {
            Err(error) if roots.is_system_alone() => {
                authorities = "those built in, since the system has none".to_owned();
                // An image that holds nothing but a program has to trust somebody all the same.
                debug!(%error, "no certificate authorities on this system, using the built-in ones");
                build(&roots::Roots::Only(roots::built_in()))
            }
            result => result,
        }
        .map_err(ConnectorConfigError::Client)?;
        Ok(Self {
            http,
            upgrade,
            plain_tunnel: proxies.plain_tunnel().map(Arc::new),
            plain_is_direct: proxies.plain_is_direct(),
            proxies: Arc::new(proxies.matcher()),
            authorities: authorities.into(),
            websocket_timeout: config.websocket_timeout,
            environment: Arc::new(config.environment),
            network: config.network,
        })
    }

    /// Returns the client for registry calls.
    ///
    /// It sets no timeout of its own: callers bound their whole operation.
    pub fn http(&self) -> &reqwest::Client {
        &self.http
    }

    /// Returns the environment that the connector was built from.
    pub fn environment(&self) -> &ConnectorEnvironment {
        &self.environment
    }
}

/// Says below which span a request is made, if spans are exported.
pub(crate) fn trace_headers(span: &Span, headers: &mut HeaderMap) {
    let context = telemetry::trace::of(span);
    for (name, value) in context.into_iter().flat_map(|context| context.members()) {
        if let Ok(value) = HeaderValue::from_str(&value) {
            headers.insert(HeaderName::from_static(name), value);
        }
    }
}

impl Connector {
    /// Which certificate authorities are trusted, in words.
    pub(crate) fn authorities(&self) -> &str {
        &self.authorities
    }
}

impl Default for ConnectorConfig {
    /// Returns the configuration with this process's environment and no bundle of its own.
    fn default() -> Self {
        Self {
            ca_file: None,
            environment: ConnectorEnvironment::from_process(),
            websocket_timeout: limits::WEBSOCKET_TIMEOUT,
            network: None,
        }
    }
}

impl fmt::Debug for Connector {
    /// Shows no client: their output names proxies.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Connector")
            .field("websocket_timeout", &self.websocket_timeout)
            .finish_non_exhaustive()
    }
}
