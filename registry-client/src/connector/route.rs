//! Where a connection leads and through which proxy, for errors: whoever reads of a failure has to
//! know which of the two to look at.

use std::fmt;

use http::Uri;
use url::Url;

use super::Connector;
use crate::bundle::authority;

/// The host that is to be reached, and the proxy on the way to it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Route {
    host: String,
    proxy: Option<ProxyAddress>,
}

/// A proxy: scheme, host and port, and never its credentials.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ProxyAddress(String);

impl Connector {
    /// Returns the proxy that requests to `url` (`http`, `https`, `ws` or `wss`) go through.
    pub fn proxy_for(&self, url: &Url) -> Option<ProxyAddress> {
        self.intercept(url).as_ref().map(ProxyAddress::new)
    }

    pub(crate) fn route(&self, url: &Url) -> Route {
        Route {
            host: authority(url),
            proxy: self.proxy_for(url),
        }
    }

    /// The URL of the proxy, with its credentials.
    pub(crate) fn intercept(&self, url: &Url) -> Option<Uri> {
        let scheme = match url.scheme() {
            "ws" => "http",
            "wss" => "https",
            other => other,
        };
        let rest = url.as_str().split_once(':')?.1;
        let target: Uri = format!("{scheme}:{rest}").parse().ok()?;
        Some(self.proxies.intercept(&target)?.uri().clone())
    }
}

impl Route {
    /// The error text for a proxy that wants other credentials.
    pub(super) fn refused(&self) -> String {
        let proxy = match &self.proxy {
            Some(proxy) => format!("proxy {proxy}"),
            None => "proxy".to_owned(),
        };
        let host = &self.host;
        format!("{proxy} refused the connection to {host}: proxy authorization required")
    }
}

impl ProxyAddress {
    pub(crate) fn new(url: &Uri) -> Self {
        let scheme = url.scheme_str().unwrap_or("http");
        let host = url.host().unwrap_or_default();
        Self(match url.port_u16() {
            Some(port) => format!("{scheme}://{host}:{port}"),
            None => format!("{scheme}://{host}"),
        })
    }
}

impl fmt::Display for Route {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.host)?;
        match &self.proxy {
            Some(proxy) => write!(f, " through proxy {proxy}"),
            None => Ok(()),
        }
    }
}

impl fmt::Display for ProxyAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn proxies_are_shown_without_their_credentials() {
        for (url, expected) in [
            ("http://user:s3cr3t@proxy:3128", "http://proxy:3128"),
            ("socks5h://s3cr3t@[::1]:1080/", "socks5h://[::1]:1080"),
            ("https://proxy", "https://proxy"),
        ] {
            let address = ProxyAddress::new(&url.parse().expect("a uri"));
            assert_eq!(address.to_string(), expected);
        }
    }
}
