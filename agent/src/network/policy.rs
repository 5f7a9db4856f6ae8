//! The rules of one process, and what they say about a host before anybody is asked.
//!
//! # Order
//!
//! 1. Denied hosts are denied.
//! 2. This host and private addresses are refused unless the list allows exactly them, or local
//!    binding is allowed. `*` is not exact. Nobody is asked.
//! 3. Hosts that no pattern allows are asked about.
//! 4. So are allowed hosts that are to be reviewed.
//! 5. The rest is allowed.
//!
//! What a name resolves to is checked after that; see [`decide`](super::decide).

use std::path::{Path, PathBuf};
use std::time::Duration;

use exec_proto::network::{DomainRule, ProxyMode, ProxySettings, SocketRule};

use super::address::is_public;
use super::host::Host;
use super::pattern::{InvalidPattern, Pattern};

/// What a process may reach.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Policy {
    allow: Vec<Pattern>,
    deny: Vec<Pattern>,
    review: Vec<Pattern>,
    sockets: Vec<SocketEntry>,
    pub(super) mode: ProxyMode,
    /// Whether addresses of this host and private ones are like any other.
    pub(super) local: bool,
    /// How long the client may take to answer a question; `None` if it answers none.
    pub(super) ask: Option<Duration>,
}

/// What the rules say about a host.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Verdict {
    Denied,
    Local,
    /// In no list.
    Unlisted,
    /// Allowed, and to be asked about all the same.
    Review,
    Allowed,
}

/// A rule about a Unix socket.
#[derive(Debug, Clone, PartialEq, Eq)]
struct SocketEntry {
    /// As the request names it.
    path: PathBuf,
    /// Where that leads.
    settled: PathBuf,
    rule: SocketRule,
}

/// What the rules say about a Unix socket.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Socket<'a> {
    Unlisted,
    Denied,
    /// Where it is, without links.
    Allowed(&'a Path),
}

/// Settings without a meaning, with the words of the protocol.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(super) enum InvalidPolicy {
    #[error("executor-local network proxy launch requires an enabled proxy")]
    Disabled,
    #[error(transparent)]
    Pattern(#[from] InvalidPattern),
    #[error(
        "invalid value for network.denied_domains: * (allowed exact hosts or scoped wildcards like \
         *.example.com or **.example.com)"
    )]
    DenyAll,
    #[error(
        "invalid network.{list}_unix_sockets[{index}]: expected a NUL-free absolute path for Linux, \
         got {path:?}"
    )]
    SocketPath {
        list: &'static str,
        index: usize,
        path: String,
    },
    #[error("more than {MAX_RULES} {0}")]
    TooMany(&'static str),
}

impl Policy {
    /// Reads the settings of a request. Looks at nothing else.
    pub(super) fn new(
        settings: &ProxySettings,
        ask: Option<Duration>,
    ) -> Result<Self, InvalidPolicy> {
        if !settings.enabled {
            return Err(InvalidPolicy::Disabled);
        }
        let (mut allow, mut deny) = (Vec::new(), Vec::new());
        let domains = settings.domains.iter().flatten();
        for (at, (text, rule)) in domains.enumerate() {
            if at >= MAX_RULES {
                return Err(InvalidPolicy::TooMany("domain patterns"));
            }
            let pattern = Pattern::parse(text)?;
            match rule {
                DomainRule::Allow => allow.push(pattern),
                DomainRule::Deny if pattern == Pattern::Any => return Err(InvalidPolicy::DenyAll),
                DomainRule::Deny => deny.push(pattern),
                DomainRule::None => {}
            }
        }
        if settings.review_domains.len() > MAX_RULES {
            return Err(InvalidPolicy::TooMany("review patterns"));
        }
        let review = settings.review_domains.iter();
        let review = review
            .map(|text| Pattern::parse(text))
            .collect::<Result<_, _>>()?;
        Ok(Self {
            allow,
            deny,
            review,
            sockets: sockets(settings)?,
            mode: settings.mode,
            local: settings.allow_local_binding,
            ask,
        })
    }

    /// What the rules say about a host.
    pub(super) fn verdict(&self, host: &Host) -> Verdict {
        let listed = |list: &[Pattern]| list.iter().any(|pattern| pattern.matches(host));
        if listed(&self.deny) {
            return Verdict::Denied;
        }
        let is_local = match host {
            Host::Address(address) => !is_public(*address),
            Host::Name(_) => host.is_localhost(),
        };
        if is_local && !self.local && !self.allows_exactly(host) {
            return Verdict::Local;
        }
        match (listed(&self.allow), listed(&self.review)) {
            (false, _) => Verdict::Unlisted,
            (true, true) => Verdict::Review,
            (true, false) => Verdict::Allowed,
        }
    }

    /// Whether the list allows this very host, and not only by a pattern of many.
    pub(super) fn allows_exactly(&self, host: &Host) -> bool {
        self.allow
            .iter()
            .any(|pattern| matches!(pattern, Pattern::Exactly(other) if other == host))
    }

    /// Resolves links in the paths of Unix sockets, before a command runs that could change them.
    /// Looks at files, so it may block.
    pub(super) fn settle_sockets(&mut self) {
        for entry in &mut self.sockets {
            if let Ok(settled) = std::fs::canonicalize(&entry.path) {
                entry.settled = settled;
            }
        }
    }

    /// The socket that a command means by a path.
    pub(super) fn socket(&self, path: &Path) -> Socket<'_> {
        let named = |entry: &&SocketEntry| entry.path == path || entry.settled == path;
        let Some(entry) = self.sockets.iter().find(named) else {
            return Socket::Unlisted;
        };
        // A deny of one name denies whatever leads there.
        let same = |other: &&SocketEntry| other.settled == entry.settled;
        let mut rules = self.sockets.iter().filter(same).map(|other| other.rule);
        if rules.any(|rule| rule == SocketRule::Deny) {
            return Socket::Denied;
        }
        Socket::Allowed(&entry.settled)
    }
}

/// The rules for Unix sockets.
fn sockets(settings: &ProxySettings) -> Result<Vec<SocketEntry>, InvalidPolicy> {
    let mut rules = Vec::new();
    let mut counts = (0, 0);
    for (path, rule) in settings.unix_sockets.iter().flatten() {
        if rules.len() >= MAX_RULES {
            return Err(InvalidPolicy::TooMany("Unix sockets"));
        }
        let (list, count) = match rule {
            SocketRule::Allow => ("allow", &mut counts.0),
            SocketRule::Deny => ("deny", &mut counts.1),
        };
        if !path.starts_with('/') || path.contains('\0') {
            return Err(InvalidPolicy::SocketPath {
                list,
                index: *count,
                path: path.clone(),
            });
        }
        *count += 1;
        rules.push(SocketEntry {
            path: path.into(),
            settled: path.into(),
            rule: *rule,
        });
    }
    Ok(rules)
}

/// Entries of each list. The largest lists in use have some hundred.
const MAX_RULES: usize = 4096;
