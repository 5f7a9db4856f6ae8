//! Patterns of hosts: `host`, `*.host` (below), `**.host` (it and below), `*` (all).

use super::host::Host;

/// One pattern.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Pattern {
    Any,
    Exactly(Host),
    Below(String),
    AtOrBelow(String),
}

/// Text that is no pattern, with the words of the protocol.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(super) enum InvalidPattern {
    #[error("domain pattern is empty")]
    Empty,
    #[error("unsupported domain pattern syntax: {0}")]
    Unsupported(String),
}

impl Pattern {
    /// Reads a pattern. Unlike the reference, which takes other uses of `*` and characters that no
    /// host has, this refuses what it would not match: a deny that never matches is an open door.
    pub(super) fn parse(text: &str) -> Result<Self, InvalidPattern> {
        let unsupported = || InvalidPattern::Unsupported(text.to_owned());
        let text = text.trim();
        if text == "*" {
            return Ok(Self::Any);
        }
        let (scope, rest) = if let Some(rest) = text.strip_prefix("**.") {
            (Scope::AtOrBelow, rest)
        } else if let Some(rest) = text.strip_prefix("*.") {
            (Scope::Below, rest)
        } else {
            (Scope::Exactly, text)
        };
        if rest.is_empty() || rest == "." {
            return Err(InvalidPattern::Empty);
        }
        match (scope, Host::parse(rest).map_err(|_| unsupported())?) {
            (Scope::Exactly, host) => Ok(Self::Exactly(host)),
            (Scope::Below, Host::Name(name)) => Ok(Self::Below(name)),
            (Scope::AtOrBelow, Host::Name(name)) => Ok(Self::AtOrBelow(name)),
            (Scope::Below | Scope::AtOrBelow, Host::Address(_)) => Err(unsupported()),
        }
    }

    /// Whether a host is meant.
    pub(super) fn matches(&self, host: &Host) -> bool {
        match (self, host) {
            (Self::Any, _) => true,
            (Self::Exactly(other), host) => other == host,
            (Self::Below(base), Host::Name(name)) => is_below(name, base),
            (Self::AtOrBelow(base), Host::Name(name)) => name == base || is_below(name, base),
            (Self::Below(_) | Self::AtOrBelow(_), Host::Address(_)) => false,
        }
    }
}

/// What the beginning of a pattern says.
enum Scope {
    Exactly,
    Below,
    AtOrBelow,
}

fn is_below(name: &str, base: &str) -> bool {
    name.strip_suffix(base)
        .is_some_and(|labels| labels.len() > 1 && labels.ends_with('.'))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_patterns_match() {
        let cases: [(&str, &[&str], &[&str]); 6] = [
            ("*", &["a", "127.0.0.1", "::1"], &[]),
            (
                "A.com.",
                &["a.com", "A.COM."],
                &["b.a.com", "xa.com", "a.co"],
            ),
            (
                "*.a.com",
                &["b.a.com", "c.b.a.com"],
                &["a.com", "xa.com", "a.com.b"],
            ),
            ("**.a.com", &["a.com", "b.a.com"], &["xa.com", "com"]),
            (
                "127.0.0.1",
                &["0x7f000001", "[::ffff:127.0.0.1]"],
                &["127.0.0.2"],
            ),
            ("[::1]", &["::1"], &["::2", "127.0.0.1"]),
        ];
        for (pattern, hosts, others) in cases {
            let pattern = Pattern::parse(pattern).unwrap();
            for host in hosts {
                assert!(
                    pattern.matches(&Host::parse(host).unwrap()),
                    "{pattern:?} {host}"
                );
            }
            for host in others {
                assert!(
                    !pattern.matches(&Host::parse(host).unwrap()),
                    "{pattern:?} {host}"
                );
            }
        }
    }

    #[test]
    fn what_no_host_could_match_is_refused() {
        for text in ["", " ", "*.", "**.", "."] {
            assert_eq!(Pattern::parse(text), Err(InvalidPattern::Empty), "{text:?}");
        }
        for text in [
            "a b",
            "http://x",
            "x:80",
            "x*",
            "*x",
            "*.*.x",
            "a,b",
            "a..b",
            "10.0.0.0/8",
            "*.10.0.0.1",
            "[x]",
            "***.x",
        ] {
            let refused = InvalidPattern::Unsupported(text.to_owned());
            assert_eq!(Pattern::parse(text), Err(refused), "{text:?}");
        }
    }
}
