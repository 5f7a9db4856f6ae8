//! Proxy variables to proxy rules.
//!
//! The HTTP library would skip a value that it cannot parse and connect directly. Here every
//! value is checked first, so that a typing error in a proxy URL cannot open a direct path.

use hyper_util::client::proxy::matcher::Matcher;
use reqwest::{NoProxy, Proxy};
use url::Url;

use super::environment::ConnectorEnvironment;
use super::error::ConnectorConfigError;

/// Schemes of proxies that can be used.
const SCHEMES: [&str; 6] = ["http", "https", "socks4", "socks4a", "socks5", "socks5h"];

/// The proxy rules: `https` is for `wss` destinations too, `http` for `ws`.
#[derive(Debug)]
pub(super) struct Proxies {
    https: Option<Url>,
    http: Option<Url>,
    no_proxy: Option<String>,
}

impl Proxies {
    /// Checks every proxy variable.
    pub(super) fn from_environment(
        environment: &ConnectorEnvironment,
    ) -> Result<Self, ConnectorConfigError> {
        let all = parse("ALL_PROXY", environment.all_proxy.as_deref())?;
        let https = parse("HTTPS_PROXY", environment.https_proxy.as_deref())?;
        let http = parse("HTTP_PROXY", environment.http_proxy.as_deref())?;
        // The matching library takes the asterisk for any name, but not for any address.
        let no_proxy = environment.no_proxy.as_deref().unwrap_or_default();
        if no_proxy.split(',').any(|entry| entry.trim() == "*") {
            return Ok(Self {
                https: None,
                http: None,
                no_proxy: None,
            });
        }
        Ok(Self {
            https: https.or_else(|| all.clone()),
            http: http.or(all),
            no_proxy: environment.no_proxy.clone(),
        })
    }

    /// Returns the rules for the HTTP library.
    pub(super) fn rules(&self) -> Result<Vec<Proxy>, ConnectorConfigError> {
        let no_proxy = self.no_proxy.as_deref().and_then(NoProxy::from_string);
        let mut rules = Vec::new();
        if let Some(url) = &self.https {
            let rule = Proxy::https(url.clone()).map_err(ConnectorConfigError::Client)?;
            rules.push(rule.no_proxy(no_proxy.clone()));
        }
        if let Some(url) = &self.http {
            let rule = Proxy::http(url.clone()).map_err(ConnectorConfigError::Client)?;
            rules.push(rule.no_proxy(no_proxy));
        }
        Ok(rules)
    }

    /// Returns whether plain websockets that [`plain_tunnel`](Self::plain_tunnel) does not match go
    /// to their hosts directly, rather than through a proxy that the HTTP library speaks to.
    pub(super) fn plain_is_direct(&self) -> bool {
        self.http.as_ref().is_none_or(|url| url.scheme() == "http")
    }

    /// Returns the rule for plain websockets, if a tunnel has to be opened for them here.
    ///
    /// The HTTP library tunnels `https` and everything through a SOCKS proxy. A plain request it
    /// forwards, which an HTTP proxy does not do for an upgrade.
    pub(super) fn plain_tunnel(&self) -> Option<Matcher> {
        let proxy = self.http.as_ref().filter(|url| url.scheme() == "http")?;
        let no_proxy = self.no_proxy.as_deref().unwrap_or_default();
        Some(Matcher::builder().http(proxy.as_str()).no(no_proxy).build())
    }

    /// Tells which proxy applies to what.
    pub(super) fn matcher(&self) -> Matcher {
        let text = |url: &Option<Url>| url.as_ref().map_or("", Url::as_str).to_owned();
        Matcher::builder()
            .http(text(&self.http))
            .https(text(&self.https))
            .no(self.no_proxy.as_deref().unwrap_or_default())
            .build()
    }
}

/// Returns the URL of a proxy variable; a value without a scheme means an HTTP proxy.
fn parse(variable: &'static str, value: Option<&str>) -> Result<Option<Url>, ConnectorConfigError> {
    let Some(value) = value.map(str::trim).filter(|value| !value.is_empty()) else {
        return Ok(None);
    };
    let unusable = ConnectorConfigError::Proxy { variable };
    let text = if value.contains("://") {
        value.to_owned()
    } else {
        format!("http://{value}")
    };
    let Ok(url) = Url::parse(&text) else {
        return Err(unusable);
    };
    // The rules are matched by a library that reads the URL again, with a parser of its own.
    let readable = url
        .as_str()
        .parse::<http::Uri>()
        .is_ok_and(|uri| uri.authority().is_some());
    if !SCHEMES.contains(&url.scheme()) || !url.has_host() || !readable {
        return Err(unusable);
    }
    Ok(Some(url))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn outcome(value: &str) -> Result<Option<String>, ConnectorConfigError> {
        Ok(parse("HTTPS_PROXY", Some(value))?.map(String::from))
    }

    #[test]
    fn proxy_values_are_accepted_with_and_without_a_scheme() {
        for (value, expected) in [
            ("http://proxy:3128", "http://proxy:3128/"),
            (" proxy:3128 ", "http://proxy:3128/"),
            ("user:pa%40ss@proxy:3128", "http://user:pa%40ss@proxy:3128/"),
            ("https://proxy", "https://proxy/"),
            ("socks5h://[::1]:1080", "socks5h://[::1]:1080"),
        ] {
            assert_eq!(
                outcome(value).expect("usable").as_deref(),
                Some(expected),
                "{value}"
            );
        }
        assert_eq!(outcome("  ").expect("absent"), None);
    }

    #[test]
    fn unusable_proxy_values_are_errors_that_name_the_variable_alone() {
        for value in [
            "ftp://s3cr3t@proxy",
            "http://",
            "http://s3cr3t:x@pro xy",
            "proxy:port",
        ] {
            let error = outcome(value).expect_err(value);
            assert_eq!(
                error.to_string(),
                "proxy url in HTTPS_PROXY is not usable",
                "{value}"
            );
            assert!(!format!("{error:?}").contains("s3cr3t"));
        }
    }

    #[test]
    fn one_bad_variable_is_an_error_even_when_another_one_would_do() {
        let environment = ConnectorEnvironment {
            https_proxy: Some("http://proxy:3128".to_owned()),
            all_proxy: Some("gopher://proxy".to_owned()),
            ..ConnectorEnvironment::empty()
        };
        let error = Proxies::from_environment(&environment).expect_err("bad ALL_PROXY");
        assert!(matches!(
            error,
            ConnectorConfigError::Proxy {
                variable: "ALL_PROXY"
            }
        ));
    }
}
