//! What a server is started with, and the checks that come before anything is opened.

use std::fmt;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use crate::auth::Access;
use crate::clock::{Clock, SystemClock};
use crate::control::DrainOrder;
use crate::limits::{self, RendezvousLimits};
pub use crate::oidc::{KeySource, OidcConfig, Rule};
use crate::rendezvous::url::PublicUrl;
pub use crate::tls::TlsFiles;

/// Where the server keeps what it must remember.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Storage {
    /// In memory: everything is gone when the server stops.
    Memory,
    /// In a directory, which `exec-cloud token` shares.
    Directory(PathBuf),
}

/// Everything a server is started with.
#[derive(Clone, Debug)]
pub struct ServeConfig {
    /// Address to listen on; port 0 picks one.
    pub listen: SocketAddr,
    /// Where clients reach the server; the listening address if absent.
    pub public_url: Option<PublicUrl>,
    /// Where the server keeps what it must remember.
    pub storage: Storage,
    /// Which tokens are taken.
    pub access: Access,
    /// Tokens of an identity provider that are taken as well.
    pub oidc: Option<OidcConfig>,
    /// Certificates; plain HTTP if absent.
    pub tls: Option<TlsFiles>,
    /// Whether a proxy in front does TLS and names the peer in `X-Forwarded-For`.
    pub behind_proxy: bool,
    /// Limits of the rendezvous.
    pub limits: RendezvousLimits,
    /// How often revoked and expired tokens are looked for among the live sockets. Default 1 s.
    pub revocation_interval: Duration,
    /// Where the admin listener is, if there is to be one.
    pub admin: Option<SocketAddr>,
    /// How the server drains when it is told to end.
    pub drain: DrainConfig,
    /// Whether to take over from a server that runs on the same directory, if there is one.
    pub take_over: bool,
    /// The time.
    pub clock: Arc<dyn Clock>,
}

/// How a server drains.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DrainConfig {
    /// Between the loss of readiness and the first socket that is closed, so that a load balancer can
    /// notice. Default none.
    pub delay: Duration,
    /// When peers are told to come back. Default [`limits::DRAIN_RETRY_AFTER`].
    pub retry_after: Duration,
    /// How long all of it may take after the delay. Default [`limits::DRAIN_TIMEOUT`].
    pub timeout: Duration,
}

impl Default for DrainConfig {
    fn default() -> Self {
        Self {
            delay: Duration::ZERO,
            retry_after: limits::DRAIN_RETRY_AFTER,
            timeout: limits::DRAIN_TIMEOUT,
        }
    }
}

impl DrainConfig {
    /// As `order` says, where it says something.
    pub(crate) fn with(self, order: DrainOrder) -> Self {
        let given = |millis: Option<u64>, or| millis.map_or(or, Duration::from_millis);
        Self {
            delay: self.delay,
            retry_after: given(order.retry_after_ms, self.retry_after),
            timeout: given(order.timeout_ms, self.timeout),
        }
    }

    /// In which time all environments are told.
    pub(crate) fn window(self) -> Duration {
        limits::DRAIN_WINDOW.min(self.timeout / 2)
    }
}

impl ServeConfig {
    /// A server for this machine that remembers nothing and takes any token.
    pub fn development(listen: SocketAddr) -> Self {
        Self {
            access: Access::Anyone,
            ..Self::new(listen, Storage::Memory)
        }
    }

    /// A server without TLS, with default limits, that takes the tokens in its storage.
    pub fn new(listen: SocketAddr, storage: Storage) -> Self {
        Self {
            listen,
            public_url: None,
            storage,
            access: Access::Tokens,
            oidc: None,
            tls: None,
            behind_proxy: false,
            limits: RendezvousLimits::default(),
            revocation_interval: limits::REVOCATION_INTERVAL,
            admin: None,
            drain: DrainConfig::default(),
            take_over: false,
            clock: Arc::new(SystemClock),
        }
    }

    /// Checks what can be checked without opening anything.
    ///
    /// # Errors
    ///
    /// Everything that is wrong.
    pub fn check(&self) -> Result<(), Vec<ConfigError>> {
        let mut errors = Vec::new();
        let is_loopback = self.listen.ip().to_canonical().is_loopback();
        if self.access == Access::Anyone {
            if !is_loopback {
                errors.push(ConfigError::new(
                    format!("--dev takes any token and cannot listen on {}", self.listen),
                    "listen on a loopback address such as 127.0.0.1:7700, or leave --dev out",
                ));
            }
            if self.behind_proxy {
                errors.push(ConfigError::new(
                    "--dev takes any token and cannot be put behind a proxy".to_owned(),
                    "leave one of --dev and --behind-proxy out",
                ));
            }
            if self.oidc.is_some() {
                errors.push(ConfigError::new(
                    "--dev takes any token and checks none of an identity provider".to_owned(),
                    "leave one of --dev and --oidc-issuer out",
                ));
            }
        } else if self.tls.is_none() && !is_loopback && !self.behind_proxy {
            errors.push(ConfigError::new(
                format!(
                    "plain HTTP on {} would show every token on the network",
                    self.listen
                ),
                "give --tls-cert and --tls-key, or --behind-proxy if a proxy in front does TLS",
            ));
        }
        // Development mode does not get that far off loopback.
        if self.public_url.is_none() && self.access != Access::Anyone {
            if self.behind_proxy {
                errors.push(ConfigError::new(
                    "the address that clients use is not known behind a proxy".to_owned(),
                    "give --public-url",
                ));
            } else if self.listen.ip().is_unspecified() {
                errors.push(ConfigError::new(
                    format!("clients cannot connect to {}", self.listen),
                    "give --public-url, or listen on one address",
                ));
            }
        }
        if errors.is_empty() {
            Ok(())
        } else {
            Err(errors)
        }
    }
}

/// One thing that is wrong with a configuration, and what to do about it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConfigError {
    problem: String,
    remedy: &'static str,
}

impl ConfigError {
    pub(crate) fn new(problem: String, remedy: &'static str) -> Self {
        Self { problem, remedy }
    }
}

impl fmt::Display for ConfigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}; {}", self.problem, self.remedy)
    }
}

impl std::error::Error for ConfigError {}

#[cfg(test)]
mod tests {
    use super::*;

    fn config(listen: &str) -> ServeConfig {
        ServeConfig::new(listen.parse().unwrap(), Storage::Memory)
    }

    fn problems(config: &ServeConfig) -> Vec<String> {
        config
            .check()
            .err()
            .unwrap_or_default()
            .iter()
            .map(ToString::to_string)
            .collect()
    }

    fn tls() -> Option<TlsFiles> {
        Some(TlsFiles {
            certificates: "cert.pem".into(),
            key: "key.pem".into(),
        })
    }

    #[test]
    fn loopback_needs_nothing() {
        for listen in [
            "127.0.0.1:0",
            "127.8.8.8:7700",
            "[::1]:7700",
            "[::ffff:127.0.0.1]:1",
        ] {
            assert_eq!(problems(&config(listen)), [""; 0], "{listen}");
            assert_eq!(
                problems(&ServeConfig::development(listen.parse().unwrap())),
                [""; 0]
            );
        }
    }

    #[test]
    fn development_mode_stays_on_loopback() {
        for listen in ["0.0.0.0:7700", "[::]:7700", "192.0.2.1:7700"] {
            let config = ServeConfig {
                tls: tls(),
                ..ServeConfig::development(listen.parse().unwrap())
            };
            assert!(
                problems(&config)[0].starts_with("--dev takes any token"),
                "{listen}"
            );
        }
        let mut config = ServeConfig::development("127.0.0.1:0".parse().unwrap());
        config.behind_proxy = true;
        assert!(problems(&config)[0].contains("--behind-proxy"));
    }

    #[test]
    fn plain_http_off_loopback_needs_a_proxy_in_front() {
        let mut config = config("192.0.2.1:7700");
        assert!(problems(&config)[0].starts_with("plain HTTP on 192.0.2.1:7700"));
        config.behind_proxy = true;
        assert_eq!(
            problems(&config),
            ["the address that clients use is not known behind a proxy; give --public-url"]
        );
        config.public_url = Some(PublicUrl::parse("https://exec.example").unwrap());
        assert_eq!(problems(&config), [""; 0]);
    }

    #[test]
    fn wildcard_address_needs_a_public_url() {
        let mut config = ServeConfig {
            tls: tls(),
            ..config("0.0.0.0:443")
        };
        assert!(problems(&config)[0].contains("--public-url"));
        config.public_url = Some(PublicUrl::parse("https://exec.example/base/").unwrap());
        assert_eq!(problems(&config), [""; 0]);
    }

    #[test]
    fn all_problems_are_reported_at_once() {
        assert_eq!(problems(&config("0.0.0.0:80")).len(), 2);
    }
}
