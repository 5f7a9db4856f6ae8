//! The environment variables that shape outbound connections, as an explicit value.
//!
//! Taken from the process once, or given by a test. Nothing else in the crate reads the process
//! environment.

use std::ffi::OsString;
use std::fmt;
use std::path::PathBuf;

use http::{HeaderMap, HeaderName, HeaderValue};

use crate::wire::{CLUSTER_NAME_HEADER, INTERNAL_CALLER_HEADER, Redacted};

/// Values of the variables for proxies, certificate authorities and diagnostic headers.
///
/// For the proxy variables the upper-case name wins over the lower-case one, and an empty value
/// counts as absent.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct ConnectorEnvironment {
    /// `HTTPS_PROXY`: proxy for `https` and `wss`; may hold credentials.
    pub https_proxy: Option<String>,
    /// `HTTP_PROXY`: proxy for `http` and `ws`; may hold credentials.
    pub http_proxy: Option<String>,
    /// `ALL_PROXY`: proxy for what the other two leave open; may hold credentials.
    pub all_proxy: Option<String>,
    /// `NO_PROXY`: hosts, domains and address ranges that are reached directly.
    pub no_proxy: Option<String>,
    /// `CODEX_CA_CERTIFICATE`: bundle that is trusted in addition.
    pub codex_ca_certificate: Option<PathBuf>,
    /// `SSL_CERT_FILE`: bundle that replaces the system's authorities.
    pub ssl_cert_file: Option<PathBuf>,
    /// `SSL_CERT_DIR`: directories of certificates that replace the system's authorities.
    pub ssl_cert_dir: Option<OsString>,
    /// `OPENAI_CLUSTER`: sent as `x-cluster-name` on websocket requests.
    pub cluster: Option<String>,
    /// `DD_SERVICE`: sent as `x-openai-internal-caller` on websocket requests.
    pub internal_caller: Option<String>,
}

impl ConnectorEnvironment {
    /// Returns an environment in which no variable is set.
    pub fn empty() -> Self {
        Self::default()
    }

    /// Returns the variables of this process.
    pub fn from_process() -> Self {
        Self::from_lookup(|name| std::env::var_os(name))
    }

    /// Returns the variables that `lookup` finds by name.
    pub fn from_lookup(lookup: impl Fn(&str) -> Option<OsString>) -> Self {
        let value = |name: &str| lookup(name).filter(|value| !value.is_empty());
        // A value that is not UTF-8 is kept, with replacement characters: it fails as a proxy URL
        // later on, where ignoring it here would mean to connect directly.
        let text = |name: &str| value(name).map(|value| value.to_string_lossy().into_owned());
        let either =
            |upper: &str| text(upper).or_else(|| text(upper.to_ascii_lowercase().as_str()));
        Self {
            https_proxy: either("HTTPS_PROXY"),
            http_proxy: either("HTTP_PROXY"),
            all_proxy: either("ALL_PROXY"),
            no_proxy: either("NO_PROXY"),
            codex_ca_certificate: value("CODEX_CA_CERTIFICATE").map(PathBuf::from),
            ssl_cert_file: value("SSL_CERT_FILE").map(PathBuf::from),
            ssl_cert_dir: value("SSL_CERT_DIR"),
            cluster: text("OPENAI_CLUSTER"),
            internal_caller: text("DD_SERVICE"),
        }
    }

    /// Returns the diagnostic headers of a websocket request.
    ///
    /// A value that cannot be a header value is left out: it is not worth losing a connection.
    pub fn websocket_headers(&self) -> HeaderMap {
        let mut headers = HeaderMap::new();
        for (name, value) in [
            (CLUSTER_NAME_HEADER, &self.cluster),
            (INTERNAL_CALLER_HEADER, &self.internal_caller),
        ] {
            let value = value
                .as_deref()
                .and_then(|value| HeaderValue::from_str(value).ok());
            if let Some(value) = value {
                headers.insert(HeaderName::from_static(name), value);
            }
        }
        headers
    }
}

impl fmt::Debug for ConnectorEnvironment {
    /// Shows which proxies are set, and not their values: those may hold credentials.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ConnectorEnvironment")
            .field("https_proxy", &self.https_proxy.as_ref().map(|_| Redacted))
            .field("http_proxy", &self.http_proxy.as_ref().map(|_| Redacted))
            .field("all_proxy", &self.all_proxy.as_ref().map(|_| Redacted))
            .field("no_proxy", &self.no_proxy)
            .field("codex_ca_certificate", &self.codex_ca_certificate)
            .field("ssl_cert_file", &self.ssl_cert_file)
            .field("ssl_cert_dir", &self.ssl_cert_dir)
            .field("cluster", &self.cluster)
            .field("internal_caller", &self.internal_caller)
            .finish()
    }
}
