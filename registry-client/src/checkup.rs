//! What works of the way to a registry, and how to put right what does not.
//!
//! Each check gives a [`Finding`], whatever comes of it; nothing here is an error. Nothing changes
//! anything at the registry either: an executor's token is tried with a validation that cannot
//! succeed, a harness's with a bundle that nobody uses. Findings hold no secrets.
//!
//! Not here: what the ends look at on their own hosts, and when a program exits with what.

mod answer;
mod finding;

use std::error::Error;

use http::{HeaderMap, HeaderName, HeaderValue};
use relay_proto::ids::EnvironmentId;
use relay_proto::keys::PublicKey;
use url::Url;

pub use finding::{Finding, Report, Verdict};

use self::answer::ask;
use crate::auth::CredentialSource;
use crate::bundle::RendezvousUrl;
use crate::connector::{
    ConnectError, Connector, ConnectorConfigError, ProxyAddress, TransportError,
};
use crate::limits;
use crate::registry_url::{Call, RegistryUrl};
use crate::wire::{ConnectRequest, NOISE_STREAM_ID_HEADER, PublicKeyText, ValidateRequest};

/// Who asks the registry.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Asker {
    /// An executor.
    Executor,
    /// A harness.
    Harness,
}

/// What a connector that cannot be built comes to.
pub fn connector_refused(error: &ConnectorConfigError) -> Finding {
    let (check, remedy) = match error {
        ConnectorConfigError::Proxy { .. } => (
            "proxy",
            "the variable needs http://[USER:PASSWORD@]HOST:PORT, or socks5h:// and the like",
        ),
        ConnectorConfigError::Client(_) => ("authorities", "see the text"),
        _ => (
            "authorities",
            "the file needs certificates in PEM form, and has to be readable for this user",
        ),
    };
    Finding::fail(check, chain(error), remedy)
}

/// Proxy, name and authorities for one URL.
pub async fn way(connector: &Connector, url: &str) -> Vec<Finding> {
    let Ok(url) = Url::parse(url) else {
        return Vec::new();
    };
    let proxy = connector.intercept(&url);
    let (proxied, host, port) = match &proxy {
        None => (
            Finding::pass("proxy", "none for this address"),
            url.host_str().map(str::to_owned),
            url.port().or(default_port(url.scheme())),
        ),
        Some(uri) => (
            Finding::pass("proxy", format!("through {}", ProxyAddress::new(uri))),
            uri.host().map(str::to_owned),
            uri.port_u16().or(uri.scheme_str().and_then(default_port)),
        ),
    };
    let mut findings = vec![proxied];
    // Such a proxy is given addresses, so the name is looked up here as well.
    let is_local = |scheme| matches!(scheme, "socks4" | "socks5");
    let looks_up_here = proxy
        .as_ref()
        .and_then(http::Uri::scheme_str)
        .is_some_and(is_local);
    if let Some((host, port)) = host.zip(port) {
        let whose = match (&proxy, looks_up_here) {
            (None, _) => Whose::Target,
            (Some(_), false) => Whose::Proxy,
            (Some(_), true) => Whose::ProxyForAddresses,
        };
        findings.push(name(&host, port, whose).await);
    }
    if looks_up_here && let Some((host, port)) = url.host_str().zip(url.port_or_known_default()) {
        findings.push(name(host, port, Whose::Target).await);
    }
    if matches!(url.scheme(), "https" | "wss") {
        findings.push(Finding::pass("authorities", connector.authorities()));
    }
    findings
}

/// Whose name is looked up.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Whose {
    Target,
    /// The proxy looks all other names up.
    Proxy,
    ProxyForAddresses,
}

async fn name(host: &str, port: u16, whose: Whose) -> Finding {
    let bare = host.trim_start_matches('[').trim_end_matches(']');
    let only_proxy = whose == Whose::Proxy;
    let whose = match whose {
        Whose::Target => "",
        Whose::Proxy | Whose::ProxyForAddresses => "the proxy's name ",
    };
    let remedy = "check the name, and the resolver in /etc/resolv.conf";
    let lookup = tokio::net::lookup_host((bare, port));
    match tokio::time::timeout(limits::REQUEST_TIMEOUT, lookup).await {
        Err(_) => Finding::fail("dns", format!("no answer about {whose}{bare}"), remedy),
        Ok(Err(error)) => {
            let text = format!("{whose}{bare} cannot be resolved: {error}");
            Finding::fail("dns", text, remedy)
        }
        Ok(Ok(addresses)) => {
            let mut addresses: Vec<String> =
                addresses.map(|address| address.ip().to_string()).collect();
            addresses.dedup();
            addresses.truncate(MAX_ADDRESSES);
            let mut text = format!("{whose}{bare} is {}", addresses.join(", "));
            if only_proxy {
                text.push_str("; the proxy resolves all other names");
            }
            Finding::pass("dns", text)
        }
    }
}

/// Whether the registry answers, what its clock says, and whether it takes the credential.
///
/// Without a credential the first two are asked all the same.
pub async fn registry(
    connector: &Connector,
    base: &RegistryUrl,
    credentials: Option<&dyn CredentialSource>,
    environment: &EnvironmentId,
    key: &PublicKey,
    asker: Asker,
) -> Vec<Finding> {
    let mut headers = HeaderMap::new();
    let mut findings = Vec::new();
    if let Some(source) = credentials {
        findings.push(match source.credential().await {
            Ok(credential) => {
                credential.apply(&mut headers);
                Finding::pass("credential", "there is a token")
            }
            Err(error) => no_credential(chain(&error)),
        });
    }
    let has_credential = !headers.is_empty();
    let answer = match asker {
        Asker::Executor => {
            let stream = HeaderValue::from_static("doctor");
            headers.insert(HeaderName::from_static(NOISE_STREAM_ID_HEADER), stream);
            let body = ValidateRequest {
                executor_registration_id: "doctor".to_owned(),
                harness_public_key: PublicKeyText::from(key),
                harness_key_authorization: "doctor".to_owned(),
            };
            ask(connector, base, Call::Validate, environment, headers, &body).await
        }
        Asker::Harness => {
            let body = ConnectRequest {
                harness_public_key: PublicKeyText::from(key),
            };
            ask(connector, base, Call::Connect, environment, headers, &body).await
        }
    };
    match answer {
        Err(error) => findings.push(unreachable("registry", &error)),
        Ok(answer) => {
            findings.push(answer.reached(&base.host()));
            findings.push(answer.clock());
            if has_credential {
                findings.extend(answer.authentication(asker));
            }
        }
    }
    findings
}

/// What a token that cannot be had comes to.
pub fn no_credential(problem: impl Into<String>) -> Finding {
    let remedy = "put a token into its place; it is one line of visible characters";
    Finding::fail("credential", problem, remedy)
}

/// Whether a websocket opens. The socket is closed again.
pub async fn rendezvous(connector: &Connector, url: &RendezvousUrl) -> Finding {
    websocket(connector, url, HeaderMap::new(), "rendezvous").await
}

/// The same, for any websocket.
pub async fn websocket(
    connector: &Connector,
    url: &RendezvousUrl,
    headers: HeaderMap,
    check: &'static str,
) -> Finding {
    match connector.websocket(url, headers).await {
        Ok(_) => Finding::pass(check, format!("a websocket to {} opens", url.host())),
        Err(ConnectError::Transport(error)) => unreachable(check, &error),
        Err(error) => Finding::fail(
            check,
            chain(&error),
            "what is between here and there has to pass websocket upgrades on, over HTTP/1.1",
        ),
    }
}

fn unreachable(check: &'static str, error: &TransportError) -> Finding {
    let (check, remedy) = match error {
        TransportError::ProxyCredentials { .. } => (
            "proxy",
            "put user and password into the URL of the proxy variable",
        ),
        TransportError::UntrustedCertificate { .. } => (
            "certificate",
            "name the private authority with --ca-file, or connect by a name in the certificate",
        ),
        TransportError::Tls { .. } => ("certificate", "check that the port speaks TLS"),
        _ => (
            check,
            "check address and port, firewalls, and whether a proxy has to be used",
        ),
    };
    Finding::fail(check, chain(error), remedy)
}

fn default_port(scheme: &str) -> Option<u16> {
    match scheme {
        "http" | "ws" => Some(80),
        "https" | "wss" => Some(443),
        "socks4" | "socks4a" | "socks5" | "socks5h" => Some(1080),
        _ => None,
    }
}

/// The error and its causes.
fn chain(error: &(dyn Error + 'static)) -> String {
    std::iter::successors(Some(error), |&error| error.source())
        .map(ToString::to_string)
        .collect::<Vec<_>>()
        .join(": ")
}

const MAX_ADDRESSES: usize = 4;
