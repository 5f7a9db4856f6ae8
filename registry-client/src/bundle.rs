//! What the registry hands out: signed URLs, authorizations, registrations.
//!
//! All of it is short-lived and secret, so nothing here shows a URL's query or an authorization in
//! `Debug` or `Display`.

use std::fmt;

use relay_proto::ids::{EnvironmentId, RegistrationId};
use relay_proto::keys::PublicKey;
use secrecy::{ExposeSecret, SecretString};
use url::Url;

use crate::registry_url::is_loopback;
use crate::wire::Redacted;

/// A signed rendezvous URL: `ws` or `wss`, with a host, without user information.
///
/// Opaque otherwise: nothing of its query is added, removed or understood.
#[derive(Clone, PartialEq, Eq)]
pub struct RendezvousUrl(Url);

/// Why a text is not a [`RendezvousUrl`]. Never shows the text itself.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum RendezvousUrlError {
    /// The text is blank.
    #[error("rendezvous url is blank")]
    Blank,
    /// The text is not a URL with a host.
    #[error("rendezvous url is not a url")]
    NotUrl,
    /// The URL is not for a websocket.
    #[error("rendezvous url has scheme {scheme} instead of ws or wss")]
    Scheme {
        /// The scheme that was found.
        scheme: String,
    },
    /// The URL holds a user name or a password.
    #[error("rendezvous url carries user information")]
    UserInformation,
}

/// The single-use text that lets a harness key enter: sent in the first handshake message.
#[derive(Clone)]
pub struct Authorization(SecretString);

/// An executor's registration.
#[derive(Clone, Debug)]
pub struct Registration {
    /// The environment, as asked for.
    pub environment: EnvironmentId,
    /// The new registration; part of the handshake's prologue.
    pub registration: RegistrationId,
    /// Where to connect; usable until the rendezvous rejects it.
    pub url: RendezvousUrl,
}

/// What a harness needs for one connection: one websocket, one stream.
#[derive(Clone, Debug)]
pub struct Bundle {
    /// The environment, as asked for.
    pub environment: EnvironmentId,
    /// The executor's registration; part of the handshake's prologue.
    pub registration: RegistrationId,
    /// The key to pin.
    pub executor_key: PublicKey,
    /// The text for the first handshake message.
    pub authorization: Authorization,
    /// Where to connect, once.
    pub url: RendezvousUrl,
}

/// What the registry says about a harness key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Validation {
    /// The harness may enter.
    Approved,
    /// It may not.
    Refused,
    /// The registry does not accept this executor's own credential (401).
    CredentialsRejected,
}

impl RendezvousUrl {
    /// Checks and takes the text.
    ///
    /// A fragment is dropped: it never reaches a server.
    ///
    /// # Errors
    ///
    /// [`RendezvousUrlError`] if no websocket can be opened with it.
    pub fn parse(text: &str) -> Result<Self, RendezvousUrlError> {
        if text.trim().is_empty() {
            return Err(RendezvousUrlError::Blank);
        }
        let mut url = Url::parse(text).map_err(|_| RendezvousUrlError::NotUrl)?;
        if !matches!(url.scheme(), "ws" | "wss") {
            let scheme = url.scheme().chars().take(MAX_SCHEME_CHARS).collect();
            return Err(RendezvousUrlError::Scheme { scheme });
        }
        if !url.has_host() {
            return Err(RendezvousUrlError::NotUrl);
        }
        if !url.username().is_empty() || url.password().is_some() {
            return Err(RendezvousUrlError::UserInformation);
        }
        url.set_fragment(None);
        Ok(Self(url))
    }

    /// Returns the whole URL: a secret.
    pub fn expose(&self) -> &str {
        self.0.as_str()
    }

    /// Returns whether the websocket is protected by TLS.
    pub fn is_tls(&self) -> bool {
        self.0.scheme() == "wss"
    }

    /// Returns whether a credential can be sent: nobody on the way can read it, because of TLS or
    /// because there is no way, to `localhost` or a loopback address.
    pub fn is_protected(&self) -> bool {
        self.is_tls() || is_loopback(&self.0)
    }

    /// Returns host and port, which may be shown.
    pub fn host(&self) -> String {
        authority(&self.0)
    }

    /// Returns the URL of the HTTP request that upgrades to the websocket.
    pub(crate) fn as_http(&self) -> Result<Url, RendezvousUrlError> {
        let mut url = self.0.clone();
        let scheme = if self.is_tls() { "https" } else { "http" };
        url.set_scheme(scheme)
            .map_err(|()| RendezvousUrlError::NotUrl)?;
        Ok(url)
    }
}

impl fmt::Display for RendezvousUrl {
    /// Shows the URL without its query.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}://{}{}", self.0.scheme(), self.host(), self.0.path())?;
        if self.0.query().is_some() {
            f.write_str("?[redacted]")
        } else {
            Ok(())
        }
    }
}

impl fmt::Debug for RendezvousUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "RendezvousUrl({self})")
    }
}

impl Authorization {
    /// Takes the text.
    pub fn new(text: impl Into<String>) -> Self {
        Self(SecretString::from(text.into()))
    }

    /// Returns the text: a secret.
    pub fn expose(&self) -> &str {
        self.0.expose_secret()
    }
}

impl fmt::Debug for Authorization {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Authorization").field(&Redacted).finish()
    }
}

/// Returns host and port of a URL, the port only when it is not the scheme's own.
pub(crate) fn authority(url: &Url) -> String {
    let host = url.host_str().unwrap_or_default();
    url.port()
        .map_or_else(|| host.to_owned(), |port| format!("{host}:{port}"))
}

/// Most characters of a wrong scheme that an error shows: more could be something else than one.
const MAX_SCHEME_CHARS: usize = 16;

#[cfg(test)]
mod tests {
    use super::*;

    const SIGNED: &str =
        "wss://host:8443/cloud-agent/default/ws/environment/env1?role=harness&sig=s3cr3t";

    #[test]
    fn url_is_kept_verbatim_and_shown_without_its_query() {
        let url = RendezvousUrl::parse(SIGNED).expect("usable");
        assert_eq!(url.expose(), SIGNED);
        assert_eq!(url.host(), "host:8443");
        let shown = "wss://host:8443/cloud-agent/default/ws/environment/env1?[redacted]";
        assert_eq!(url.to_string(), shown);
        assert_eq!(format!("{url:?}"), format!("RendezvousUrl({shown})"));
        assert_eq!(
            url.as_http().expect("http").as_str(),
            SIGNED.replace("wss:", "https:")
        );
        let plain = RendezvousUrl::parse("ws://[::1]/x#part").expect("usable");
        assert_eq!(plain.as_http().expect("http").as_str(), "http://[::1]/x");
    }

    #[test]
    fn url_that_opens_no_websocket_is_refused_without_being_shown() {
        for (text, expected) in [
            ("", "rendezvous url is blank"),
            (" \t", "rendezvous url is blank"),
            ("s3cr3t", "rendezvous url is not a url"),
            ("wss://?sig=s3cr3t", "rendezvous url is not a url"),
            (
                "http://host/?sig=s3cr3t",
                "rendezvous url has scheme http instead of ws or wss",
            ),
            (
                "wss://s3cr3t@host/",
                "rendezvous url carries user information",
            ),
        ] {
            let error = RendezvousUrl::parse(text).expect_err(text);
            assert_eq!(error.to_string(), expected);
            assert!(!format!("{error:?}").contains("s3cr3t"));
        }
    }

    #[test]
    fn debug_output_shows_no_secret() {
        let bundle = Bundle {
            environment: EnvironmentId::new("env1").expect("id"),
            registration: RegistrationId::new("reg-1").expect("id"),
            executor_key: PublicKey::from_parts(&[1; 32], &[2; 1184]).expect("key"),
            authorization: Authorization::new("s3cr3t"),
            url: RendezvousUrl::parse(SIGNED).expect("usable"),
        };
        let registration = Registration {
            environment: bundle.environment.clone(),
            registration: bundle.registration.clone(),
            url: bundle.url.clone(),
        };
        assert_eq!(bundle.authorization.expose(), "s3cr3t");
        for text in [format!("{bundle:?}"), format!("{registration:#?}")] {
            assert!(!text.contains("s3cr3t"), "{text}");
            assert!(text.contains("reg-1"), "{text}");
        }
    }
}
