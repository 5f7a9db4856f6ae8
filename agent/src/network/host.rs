//! Hosts as clients of the proxy name them, in one form each.

use std::fmt;
use std::net::{IpAddr, Ipv6Addr};

/// Longest name that the domain name system can have.
const MAX_BYTES: usize = 253;

/// A host: what patterns are compared with, and what questions and notices name.
///
/// Names are in lower case, without a dot at the end and with international labels encoded. Every way
/// to write an address is that address: `0x7f000001`, `127.1` and `::ffff:127.0.0.1` are 127.0.0.1.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) enum Host {
    Name(String),
    Address(IpAddr),
}

/// Text that names no host.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("invalid host")]
pub(super) struct InvalidHost;

impl Host {
    /// Reads a host, in brackets or not.
    pub(super) fn parse(text: &str) -> Result<Self, InvalidHost> {
        if let Some(rest) = text.strip_prefix('[') {
            let address = rest.strip_suffix(']').ok_or(InvalidHost)?;
            let address: Ipv6Addr = address.parse().map_err(|_| InvalidHost)?;
            return Ok(Self::Address(address.to_canonical()));
        }
        let text = text.strip_suffix('.').unwrap_or(text);
        if let Ok(address) = text.parse::<IpAddr>() {
            return Ok(Self::Address(address.to_canonical()));
        }
        // A percent sign would be decoded into something that nobody wrote.
        if text.is_empty() || text.len() > MAX_BYTES || text.contains('%') {
            return Err(InvalidHost);
        }
        match url::Host::parse(text) {
            Ok(url::Host::Domain(name)) if is_name(&name) => Ok(Self::Name(name)),
            Ok(url::Host::Ipv4(address)) => Ok(Self::Address(address.into())),
            _ => Err(InvalidHost),
        }
    }

    /// The name of this very host, which needs no lookup.
    pub(super) fn is_localhost(&self) -> bool {
        matches!(self, Self::Name(name) if name == "localhost")
    }
}

impl fmt::Display for Host {
    /// Without brackets.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Name(name) => f.write_str(name),
            Self::Address(address) => address.fmt(f),
        }
    }
}

/// Labels of letters, digits, hyphens and underscores.
fn is_name(text: &str) -> bool {
    let is_label = |label: &str| {
        let allowed = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_');
        (1..=63).contains(&label.len()) && label.bytes().all(allowed)
    };
    text.len() <= MAX_BYTES && text.split('.').all(is_label)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_host_has_one_form() {
        for (text, form) in [
            ("Example.COM", "example.com"),
            ("example.com.", "example.com"),
            ("a_b.example", "a_b.example"),
            ("bücher.example", "xn--bcher-kva.example"),
            ("127.0.0.1", "127.0.0.1"),
            ("127.0.0.1.", "127.0.0.1"),
            ("127.1", "127.0.0.1"),
            ("0x7f000001", "127.0.0.1"),
            ("2130706433", "127.0.0.1"),
            ("0177.0.0.1", "127.0.0.1"),
            ("::1", "::1"),
            ("[::1]", "::1"),
            ("[0:0:0:0:0:0:0:1]", "::1"),
            ("::ffff:127.0.0.1", "127.0.0.1"),
            ("[::ffff:7f00:1]", "127.0.0.1"),
        ] {
            assert_eq!(Host::parse(text).unwrap().to_string(), form, "{text}");
        }
        assert!(Host::parse("LocalHost.").unwrap().is_localhost());
    }

    #[test]
    fn what_names_no_host_is_refused() {
        let long = "a".repeat(254);
        let label = "a".repeat(64);
        for text in [
            "",
            ".",
            "a b",
            "a\nb",
            "a/b",
            "a@b",
            "a:80",
            "a..b",
            "%61",
            "[::1",
            "::1]",
            "fe80::1%lo",
            "*.a",
            "a,b",
            "256.1.1.1",
            "[a]",
            &long,
            &label,
        ] {
            assert_eq!(Host::parse(text), Err(InvalidHost), "{text:?}");
        }
    }
}
