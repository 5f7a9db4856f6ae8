//! Errors of the connector, and the one place that sorts what the HTTP library reports.

use std::error::Error;
use std::io;
use std::time::Duration;

use super::Route;
use crate::bundle::RendezvousUrlError;
use crate::wire::RejectionReason;

/// Why a [`Connector`](super::Connector) cannot be built.
///
/// Names the variable or option at fault, and never its value: a proxy URL may hold credentials.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ConnectorConfigError {
    /// A proxy variable is not a URL of a supported scheme with a host.
    #[error("proxy url in {variable} is not usable")]
    Proxy {
        /// Name of the variable.
        variable: &'static str,
    },
    /// A certificate bundle cannot be read.
    #[error("failed to read certificate authorities from {origin}")]
    CertificateFile {
        /// The variable or option that names the file.
        origin: &'static str,
        /// What went wrong.
        source: io::Error,
    },
    /// A certificate bundle holds something broken.
    #[error("a certificate from {origin} is not valid")]
    Certificate {
        /// The variable or option that names the file.
        origin: &'static str,
    },
    /// A certificate bundle is empty.
    #[error("no certificate found in the file from {origin}")]
    NoCertificate {
        /// The variable or option that names the file.
        origin: &'static str,
    },
    /// The HTTP library refuses the configuration.
    #[error("failed to set up the http client")]
    Client(#[source] reqwest::Error),
}

/// Why a server could not be reached, or stopped answering.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum TransportError {
    /// The proxy wants other credentials than the ones in its URL, or any at all.
    #[error("{}", route.refused())]
    ProxyCredentials {
        /// The destination, and the way there.
        route: Route,
    },
    /// No trusted authority vouches for the server, or its certificate is for another name.
    #[error(
        "certificate of {route} is not trusted; add a private authority with the ca file option \
         or CODEX_CA_CERTIFICATE"
    )]
    UntrustedCertificate {
        /// The destination, and the way there.
        route: Route,
        /// What is wrong with the certificate.
        source: rustls::Error,
    },
    /// TLS failed otherwise.
    #[error("tls with {route} failed")]
    Tls {
        /// The destination, and the way there.
        route: Route,
        /// What went wrong.
        source: rustls::Error,
    },
    /// The destination, or the proxy on the way to it, cannot be reached.
    #[error("failed to connect to {route}")]
    Connect {
        /// The destination, and the way there.
        route: Route,
        /// What went wrong.
        source: Box<dyn Error + Send + Sync>,
    },
    /// The connection broke or made no sense after it had been opened.
    #[error("connection to {route} broke")]
    Broken {
        /// The destination, and the way there.
        route: Route,
        /// What went wrong.
        source: Box<dyn Error + Send + Sync>,
    },
    /// The time was up.
    #[error("no answer from {route} within {limit:?}")]
    Timeout {
        /// The destination, and the way there.
        route: Route,
        /// The time that was given.
        limit: Duration,
    },
}

/// Why a websocket could not be opened.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ConnectError {
    /// The answer was a 101 that is not an answer to this request.
    #[error("rendezvous answered the websocket request wrongly: {problem}")]
    Protocol {
        /// What is wrong.
        problem: &'static str,
    },
    /// The URL is not a websocket URL.
    #[error(transparent)]
    Url(#[from] RendezvousUrlError),
    /// The answer was not 101.
    #[error("rendezvous rejected the websocket request with status {status}{}", suffix(*.reason))]
    Rejected {
        /// The HTTP status.
        status: u16,
        /// The reason header, if there was one.
        reason: Option<RejectionReason>,
        /// The time that the rendezvous asks to wait.
        retry_after: Option<Duration>,
    },
    /// There was no answer.
    #[error(transparent)]
    Transport(#[from] TransportError),
}

impl TransportError {
    /// Returns whether the same attempt may succeed later without a change of configuration.
    pub fn is_retryable(&self) -> bool {
        !matches!(
            self,
            Self::ProxyCredentials { .. } | Self::UntrustedCertificate { .. }
        )
    }

    /// Returns a fixed text for this kind of error, for metrics.
    pub fn reason(&self) -> &'static str {
        match self {
            Self::ProxyCredentials { .. } => "proxy_credentials",
            Self::UntrustedCertificate { .. } => "untrusted_certificate",
            Self::Tls { .. } => "tls",
            Self::Connect { .. } => "connect",
            Self::Broken { .. } => "broken",
            Self::Timeout { .. } => "timeout",
        }
    }

    /// Sorts an error of the HTTP library by its chain of sources.
    pub(crate) fn from_reqwest(route: Route, error: reqwest::Error) -> Self {
        // The URL may be a signed one, and the library's text would show it.
        let source = error.without_url();
        if let Some(tls) = find_in_chain::<rustls::Error>(&source) {
            let source = tls.clone();
            return match source {
                rustls::Error::InvalidCertificate(_) => {
                    Self::UntrustedCertificate { route, source }
                }
                _ => Self::Tls { route, source },
            };
        }
        // The tunnel's error type is private to the HTTP library; a test holds this text fast.
        if chain(&source).any(|error| error.to_string().contains("proxy authorization required")) {
            return Self::ProxyCredentials { route };
        }
        if source.is_connect() {
            return Self::Connect {
                route,
                source: source.into(),
            };
        }
        Self::Broken {
            route,
            source: source.into(),
        }
    }
}

impl ConnectError {
    /// Returns whether the same URL may work later.
    ///
    /// False after an answer in the 4xx range that judges the URL: see
    /// [`ConnectError::needs_new_url`].
    pub fn is_retryable(&self) -> bool {
        match self {
            Self::Rejected { status, .. } => matches!(status, 408 | 429 | 500..=599),
            Self::Transport(error) => error.is_retryable(),
            Self::Protocol { .. } => true,
            Self::Url(_) => false,
        }
    }

    /// Returns whether the rendezvous judged the URL, so that a new one has to be asked for: any
    /// status in the 4xx range.
    ///
    /// Source: relay specification, rejecting a websocket request.
    pub fn needs_new_url(&self) -> bool {
        matches!(
            self,
            Self::Rejected {
                status: 400..=499,
                ..
            }
        )
    }

    /// Returns the time that the rendezvous asks to wait.
    pub fn retry_after(&self) -> Option<Duration> {
        match self {
            Self::Rejected { retry_after, .. } => *retry_after,
            _ => None,
        }
    }

    /// Returns a fixed text for this kind of error, for metrics.
    pub fn reason(&self) -> &'static str {
        match self {
            Self::Protocol { .. } => "protocol",
            Self::Url(_) => "rendezvous_url",
            Self::Rejected {
                reason: Some(reason),
                ..
            } => reason.as_str(),
            Self::Rejected { reason: None, .. } => "rejected",
            Self::Transport(error) => error.reason(),
        }
    }
}

fn suffix(reason: Option<RejectionReason>) -> String {
    reason
        .map(|reason| format!(" ({reason})"))
        .unwrap_or_default()
}

/// Returns the error and its sources.
fn chain<'a>(error: &'a (dyn Error + 'static)) -> impl Iterator<Item = &'a (dyn Error + 'static)> {
    std::iter::successors(Some(error), |&error| {
        // The source of an `io::Error` is that of the error inside, which would be skipped.
        match error
            .downcast_ref::<io::Error>()
            .and_then(io::Error::get_ref)
        {
            Some(inner) => Some(inner as &(dyn Error + 'static)),
            None => error.source(),
        }
    })
}

fn find_in_chain<'a, T: Error + 'static>(error: &'a (dyn Error + 'static)) -> Option<&'a T> {
    chain(error).find_map(|error| error.downcast_ref::<T>())
}
