//! Where the keys of an identity provider are read from.

use std::path::{Path, PathBuf};
use std::time::Duration;

use registry_client::{Connector, ConnectorConfig, ConnectorConfigError, FetchError, is_loopback};
use serde::Deserialize;
use tokio::io::AsyncReadExt as _;
use url::Url;

use super::keys::{KeySet, KeySetError};
use crate::limits;

/// Where the operator says that the keys are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum KeySource {
    /// In a JSON web key set at this URL.
    Url(Url),
    /// In a file with one.
    File(PathBuf),
}

/// The same, with what it takes to get there.
#[derive(Debug)]
pub(super) enum Source {
    File(PathBuf),
    Url(Connector, Url),
    /// Where the document of the issuer says (OpenID Connect Discovery).
    Discovery(Connector, Url),
}

/// Why there are no keys from a source.
#[derive(Debug, thiserror::Error)]
pub(super) enum SourceError {
    #[error("cannot read the key file")]
    File(#[source] std::io::Error),
    #[error("the key file exceeds limit of {} bytes", limits::OIDC_DOCUMENT_BYTES)]
    FileTooLarge,
    #[error("cannot fetch the keys")]
    Fetch(#[source] FetchError),
    #[error("cannot fetch the issuer's discovery document")]
    FetchDiscovery(#[source] FetchError),
    #[error("the issuer's discovery document is not one")]
    Discovery,
    #[error("the issuer's discovery document is from another issuer")]
    OtherIssuer,
    #[error("the issuer's discovery document names a key set that cannot be used: {0}")]
    KeySetUrl(&'static str),
    #[error("the key set cannot be used")]
    KeySet(#[from] KeySetError),
    #[error("no answer in {} s", limits::OIDC_FETCH_TIMEOUT.as_secs())]
    Timeout,
}

#[derive(Deserialize)]
struct Discovered {
    issuer: String,
    jwks_uri: String,
}

impl Source {
    /// # Errors
    ///
    /// What is wrong, as a sentence; nothing is read or fetched but files with authorities.
    pub(super) fn new(
        issuer: &str,
        keys: Option<KeySource>,
        ca_file: Option<&Path>,
    ) -> Result<Self, SourceConfigError> {
        let connector = || {
            Connector::new(ConnectorConfig {
                ca_file: ca_file.map(Path::to_owned),
                ..ConnectorConfig::default()
            })
        };
        match keys {
            Some(KeySource::File(path)) => Ok(Self::File(path)),
            Some(KeySource::Url(url)) => Ok(Self::Url(connector()?, url)),
            None => {
                let base = issuer.trim_end_matches('/');
                let url = checked_url(&format!("{base}/.well-known/openid-configuration"))
                    .map_err(SourceConfigError::Issuer)?;
                Ok(Self::Discovery(connector()?, url))
            }
        }
    }

    /// Reads the keys.
    pub(super) async fn read(&self, issuer: &str) -> Result<KeySet, SourceError> {
        let read = async {
            let document = match self {
                Self::File(path) => read_file(path).await?,
                Self::Url(connector, url) => {
                    fetch(connector, url).await.map_err(SourceError::Fetch)?
                }
                Self::Discovery(connector, url) => {
                    let document = fetch(connector, url).await;
                    let document = document.map_err(SourceError::FetchDiscovery)?;
                    let url = discovered(&document, issuer)?;
                    fetch(connector, &url).await.map_err(SourceError::Fetch)?
                }
            };
            Ok(KeySet::parse(&document)?)
        };
        tokio::time::timeout(limits::OIDC_FETCH_TIMEOUT, read)
            .await
            .unwrap_or(Err(SourceError::Timeout))
    }

    /// How often the keys are looked at for a change.
    pub(super) fn interval(&self) -> Duration {
        match self {
            Self::File(_) => limits::OIDC_FILE_INTERVAL,
            Self::Url(..) | Self::Discovery(..) => limits::OIDC_FETCH_INTERVAL,
        }
    }

    /// After what time they may be looked at once more because a token asks for a key that is not there.
    pub(super) fn pause(&self) -> Duration {
        match self {
            Self::File(_) => limits::OIDC_FILE_PAUSE,
            Self::Url(..) | Self::Discovery(..) => limits::OIDC_FETCH_PAUSE,
        }
    }
}

async fn fetch(connector: &Connector, url: &Url) -> Result<Vec<u8>, FetchError> {
    let (limit, timeout) = (limits::OIDC_DOCUMENT_BYTES, limits::OIDC_FETCH_TIMEOUT);
    connector.fetch(url, limit, timeout).await
}

async fn read_file(path: &Path) -> Result<Vec<u8>, SourceError> {
    let limit = u64::try_from(limits::OIDC_DOCUMENT_BYTES).unwrap_or(u64::MAX);
    let file = tokio::fs::File::open(path)
        .await
        .map_err(SourceError::File)?;
    let mut document = Vec::new();
    let mut bounded = file.take(limit.saturating_add(1));
    bounded
        .read_to_end(&mut document)
        .await
        .map_err(SourceError::File)?;
    if document.len() > limits::OIDC_DOCUMENT_BYTES {
        return Err(SourceError::FileTooLarge);
    }
    Ok(document)
}

fn discovered(document: &[u8], issuer: &str) -> Result<Url, SourceError> {
    let found: Discovered = serde_json::from_slice(document).map_err(|_| SourceError::Discovery)?;
    if found.issuer != issuer {
        return Err(SourceError::OtherIssuer);
    }
    checked_url(&found.jwks_uri).map_err(SourceError::KeySetUrl)
}

/// A URL from which keys may be taken: whoever can change them on the way can make any token.
pub(super) fn checked_url(text: &str) -> Result<Url, &'static str> {
    let url = Url::parse(text).map_err(|_| "it is not a URL")?;
    if !url.username().is_empty() || url.password().is_some() {
        return Err("it carries user information");
    }
    if !url.has_host() {
        return Err("it has no host");
    }
    match url.scheme() {
        "https" => Ok(url),
        "http" if is_loopback(&url) => Ok(url),
        "http" => Err("it must start with https:// off this machine"),
        _ => Err("it must start with https://"),
    }
}

/// Why a source cannot be used at all.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SourceConfigError {
    /// No document can be found by the name of the issuer.
    #[error(
        "the keys of the issuer cannot be found by its name: {0}; give --oidc-jwks, or the issuer's URL"
    )]
    Issuer(&'static str),
    /// Proxy variables or authorities cannot be used.
    #[error("the keys of the issuer cannot be fetched")]
    Connector(#[from] ConnectorConfigError),
}

impl settings::Value for KeySource {
    fn parse(text: &str) -> Result<Self, String> {
        let text = text.trim();
        if text.contains("://") {
            return checked_url(text).map(Self::Url).map_err(str::to_owned);
        }
        match text {
            "" => Err("expected a URL or a file".to_owned()),
            path => Ok(Self::File(PathBuf::from(path))),
        }
    }

    fn show(&self) -> String {
        match self {
            Self::Url(url) => url.to_string(),
            Self::File(path) => path.to_string_lossy().into_owned(),
        }
    }

    fn start_at(&mut self, directory: &Path) {
        if let Self::File(path) = self {
            *path = directory.join(&*path);
        }
    }
}

impl std::str::FromStr for KeySource {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        settings::Value::parse(text)
    }
}

#[cfg(test)]
mod tests {
    use settings::Value as _;

    use super::*;

    #[test]
    fn keys_come_by_https_or_from_this_machine() {
        for (text, is_usable) in [
            ("https://id.example/keys?tenant=1", true),
            ("http://127.0.0.1:8080/keys", true),
            ("http://localhost/keys", true),
            ("http://[::1]/keys", true),
            ("http://id.example/keys", false),
            ("http://127.0.0.1.example/keys", false),
            ("https://user:secret@id.example/keys", false),
            ("ftp://id.example/keys", false),
            ("file:///keys", false),
            ("", false),
        ] {
            let parsed = KeySource::parse(text);
            assert_eq!(parsed.is_ok(), is_usable, "{text}: {parsed:?}");
            if let Err(problem) = parsed {
                assert!(!problem.contains("secret"), "{problem}");
            }
        }
    }

    #[test]
    fn relative_file_starts_at_the_configuration_file() {
        let mut source = KeySource::parse("keys.json").unwrap();
        source.start_at(Path::new("/etc/exec-cloud"));
        assert_eq!(source.show(), "/etc/exec-cloud/keys.json");
        let mut url = KeySource::parse("https://id.example/keys").unwrap();
        url.start_at(Path::new("/etc/exec-cloud"));
        assert_eq!(url.show(), "https://id.example/keys");
    }

    #[test]
    fn discovery_document_has_to_be_the_issuers_own() {
        let document = |issuer: &str, keys: &str| {
            serde_json::json!({ "issuer": issuer, "jwks_uri": keys, "more": 1 }).to_string()
        };
        let issuer = "https://id.example";
        let found = discovered(document(issuer, "https://id.example/k").as_bytes(), issuer);
        assert_eq!(found.unwrap().as_str(), "https://id.example/k");
        let other = document("https://evil.example", "https://id.example/k");
        let plain = document(issuer, "http://id.example/k");
        for document in [other.as_str(), &plain, "{}", "no"] {
            assert!(
                discovered(document.as_bytes(), issuer).is_err(),
                "{document}"
            );
        }
    }
}
