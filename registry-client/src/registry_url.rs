//! The registry's base URL, and the paths below it.

use std::fmt;

use percent_encoding::{AsciiSet, CONTROLS, utf8_percent_encode};
use relay_proto::ids::EnvironmentId;
use url::{Host, Url};

use crate::bundle::authority;

/// A checked base URL: `http` or `https`, perhaps with a path prefix, nothing after it.
#[derive(Clone, PartialEq, Eq)]
pub struct RegistryUrl {
    /// Without a trailing slash, so that a path can be appended.
    text: String,
    url: Url,
}

/// Why a text is not a usable base URL, or an environment id does not fit into it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum RegistryUrlError {
    /// The text is blank.
    #[error("environment registry base url must not be empty")]
    Empty,
    /// The text is not a URL with a host.
    #[error("environment registry base url is not a url")]
    NotUrl,
    /// The URL is not for HTTP.
    #[error("environment registry base url must start with http:// or https://")]
    Scheme,
    /// The URL holds a user name or a password.
    #[error("environment registry base url carries user information")]
    UserInformation,
    /// The URL has a query or a fragment, which leave no place for the path.
    #[error("environment registry base url has a query or a fragment")]
    Query,
    /// A credential would travel unprotected.
    #[error("remote transport requires https for non-loopback endpoints")]
    Unprotected,
    /// The environment id is `.` or `..`, which no URL can carry as a path segment.
    #[error("environment id cannot be part of a url path")]
    EnvironmentId,
}

/// One of the three calls.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Call {
    /// An executor registers its key.
    Register,
    /// A harness asks for a bundle.
    Connect,
    /// An executor asks about a harness key.
    Validate,
}

impl RegistryUrl {
    /// Checks and takes the text: trimmed, without trailing slashes, a path prefix kept.
    ///
    /// # Errors
    ///
    /// [`RegistryUrlError`] if no call can be made with it.
    pub fn parse(text: &str) -> Result<Self, RegistryUrlError> {
        let text = text.trim().trim_end_matches('/');
        if text.is_empty() {
            return Err(RegistryUrlError::Empty);
        }
        let url = Url::parse(text).map_err(|_| RegistryUrlError::NotUrl)?;
        if !matches!(url.scheme(), "http" | "https") {
            return Err(RegistryUrlError::Scheme);
        }
        if !url.has_host() {
            return Err(RegistryUrlError::NotUrl);
        }
        if !url.username().is_empty() || url.password().is_some() {
            return Err(RegistryUrlError::UserInformation);
        }
        if url.query().is_some() || url.fragment().is_some() {
            return Err(RegistryUrlError::Query);
        }
        Ok(Self {
            text: text.to_owned(),
            url,
        })
    }

    /// Refuses a base URL to which a credential would travel in the clear: plain `http` to any
    /// host but `localhost`, 127.0.0.0/8 and `::1`.
    ///
    /// # Errors
    ///
    /// [`RegistryUrlError::Unprotected`].
    pub fn require_protection(&self) -> Result<(), RegistryUrlError> {
        if self.is_tls() || is_loopback(&self.url) {
            return Ok(());
        }
        Err(RegistryUrlError::Unprotected)
    }

    /// Returns whether nobody on the way can read or answer a call.
    pub(crate) fn is_tls(&self) -> bool {
        self.url.scheme() == "https"
    }

    pub(crate) fn url(&self) -> &Url {
        &self.url
    }

    /// Returns host and port.
    pub fn host(&self) -> String {
        authority(&self.url)
    }

    /// Returns the URL of a call, with the environment id as exactly one path segment.
    ///
    /// The reference pastes the id as it is, so that an id with `/` or `?` changes the endpoint.
    /// Here such characters are encoded. For every other id both send the same bytes.
    pub(crate) fn call(
        &self,
        call: Call,
        environment: &EnvironmentId,
    ) -> Result<Url, RegistryUrlError> {
        if matches!(environment.as_str(), "." | "..") {
            return Err(RegistryUrlError::EnvironmentId);
        }
        let segment = utf8_percent_encode(environment.as_str(), SEGMENT);
        let path = format!(
            "{}/cloud/environment/{segment}/{}",
            self.text,
            call.as_str()
        );
        Url::parse(&path).map_err(|_| RegistryUrlError::NotUrl)
    }
}

impl fmt::Display for RegistryUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl fmt::Debug for RegistryUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "RegistryUrl({self})")
    }
}

impl Call {
    /// Returns the last path segment of the call, which also names it.
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::Register => "register",
            Self::Connect => "connect",
            Self::Validate => "validate",
        }
    }
}

/// What is encoded in a path segment: the path percent-encode set of the URL standard, and the
/// characters that would end the segment or be decoded by the server.
const SEGMENT: &AsciiSet = &CONTROLS
    .add(b' ')
    .add(b'"')
    .add(b'#')
    .add(b'<')
    .add(b'>')
    .add(b'?')
    .add(b'^')
    .add(b'`')
    .add(b'{')
    .add(b'}')
    .add(b'/')
    .add(b'\\')
    .add(b'%');

/// Whether the host is `localhost` or a loopback address: what is sent there does not leave the machine.
pub fn is_loopback(url: &Url) -> bool {
    match url.host() {
        Some(Host::Domain(name)) => name.eq_ignore_ascii_case("localhost"),
        Some(Host::Ipv4(address)) => address.is_loopback(),
        Some(Host::Ipv6(address)) => address.is_loopback(),
        None => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn path(base: &str, environment: &str) -> String {
        let base = RegistryUrl::parse(base).expect("usable");
        let environment = EnvironmentId::new(environment).expect("id");
        base.call(Call::Register, &environment)
            .expect("usable")
            .to_string()
    }

    #[test]
    fn base_is_trimmed_and_a_prefix_is_kept() {
        for (base, expected) in [
            (
                "https://host",
                "https://host/cloud/environment/env1/register",
            ),
            (
                " https://host// ",
                "https://host/cloud/environment/env1/register",
            ),
            (
                "http://host:81/a/b/",
                "http://host:81/a/b/cloud/environment/env1/register",
            ),
        ] {
            assert_eq!(path(base, "env1"), expected);
        }
    }

    #[test]
    fn environment_id_is_one_segment_and_ordinary_ids_are_unchanged() {
        for (id, segment) in [
            ("env-1_x.y~z:@!$&'()*+,;=|[]", "env-1_x.y~z:@!$&'()*+,;=|[]"),
            ("a b", "a%20b"),
            ("é", "%C3%A9"),
            ("../x", "..%2Fx"),
            ("a/b?c#d", "a%2Fb%3Fc%23d"),
            ("%2e%2e", "%252e%252e"),
            ("a\\b", "a%5Cb"),
            ("a\tb\nc", "a%09b%0Ac"),
        ] {
            let expected = format!("https://host/p/cloud/environment/{segment}/register");
            assert_eq!(path("https://host/p", id), expected);
            // What the reference does, where it does not change the endpoint.
            if !id.contains(['/', '?', '#', '%', '\\', '\t', '\n']) {
                let pasted = format!("https://host/p/cloud/environment/{id}/register");
                assert_eq!(Url::parse(&pasted).expect("url").as_str(), expected);
            }
        }
        let base = RegistryUrl::parse("https://host").expect("usable");
        for id in [".", ".."] {
            let id = EnvironmentId::new(id).expect("id");
            assert_eq!(
                base.call(Call::Connect, &id),
                Err(RegistryUrlError::EnvironmentId)
            );
        }
    }

    #[test]
    fn unusable_bases_are_refused() {
        for (base, expected) in [
            ("", RegistryUrlError::Empty),
            (" / ", RegistryUrlError::Empty),
            ("host", RegistryUrlError::NotUrl),
            ("https://", RegistryUrlError::NotUrl),
            ("wss://host", RegistryUrlError::Scheme),
            ("https://user@host", RegistryUrlError::UserInformation),
            ("https://host/?a=b", RegistryUrlError::Query),
            ("https://host/#a", RegistryUrlError::Query),
        ] {
            assert_eq!(RegistryUrl::parse(base), Err(expected), "{base}");
        }
    }

    #[test]
    fn plain_http_needs_a_loopback_host() {
        for (base, protected) in [
            ("https://host", true),
            ("http://localhost:8080", true),
            ("http://127.8.9.1", true),
            ("http://[::1]:1", true),
            ("http://host", false),
            ("http://0.0.0.0", false),
            ("http://localhost.example", false),
        ] {
            let base = RegistryUrl::parse(base).expect("usable");
            assert_eq!(base.require_protection().is_ok(), protected, "{base}");
        }
    }
}
