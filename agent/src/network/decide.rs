//! The decision about one connection: the only way from a host to addresses.
//!
//! ```text
//! rules --unlisted, review--> question --allow--> lookup --public--> mode --> addresses
//!   |  \______________________________allowed______/|                  |
//!   denied, local                          not_allowed_local      mode_guard
//! ```
//!
//! A name is looked up only after everything else allows it, and once: whoever connects uses these
//! addresses and no other. An allow of the client does not make private addresses reachable.

use std::borrow::Cow;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::Arc;

use exec_proto::network::{PolicyTarget, Protocol, ProxyMode};

use super::address::is_public;
use super::host::Host;
use super::notice::{Notice, Notices};
use super::policy::{Policy, Verdict};
use super::questions::{Answer, Questions};
use super::resolve::Resolver;

/// Decides for one process.
pub(super) struct Decider {
    pub(super) policy: Policy,
    pub(super) process_id: String,
    pub(super) questions: Arc<Questions>,
    pub(super) notices: Notices,
    pub(super) resolver: Resolver,
    /// Whether only the process itself can reach its proxy.
    pub(super) isolated: bool,
}

/// What somebody wants to reach.
#[derive(Debug, Clone, Copy)]
pub(super) struct Attempt<'a> {
    pub(super) protocol: Protocol,
    pub(super) host: &'a Host,
    pub(super) port: u16,
    pub(super) method: Option<&'a str>,
    pub(super) client: Option<SocketAddr>,
}

/// Why it may not.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Blocked {
    /// From the protocol's set, or in the client's words.
    pub(super) reason: Cow<'static, str>,
    /// `deny` or `ask`.
    pub(super) decision: &'static str,
    pub(super) source: &'static str,
}

/// What a decision about a host came to.
struct Allowed {
    addresses: Vec<SocketAddr>,
    by_client: bool,
}

impl Decider {
    /// The addresses that may be connected to. The client is told either way.
    pub(super) async fn admit(&self, attempt: Attempt<'_>) -> Result<Vec<SocketAddr>, Blocked> {
        // What has no way through in this mode is not worth a question.
        let is_socks = matches!(attempt.protocol, Protocol::Socks5Tcp | Protocol::Socks5Udp);
        if is_socks
            && attempt.port != HTTPS
            && let Err(blocked) = self.guard(attempt)
        {
            return Err(blocked);
        }
        let decided = self.host(attempt).await;
        let (decision, source, reason, policy_override) = match &decided {
            Ok(allowed) if allowed.by_client => ("allow", DECIDER, "allow", true),
            Ok(_) => ("allow", BASELINE, "allow", false),
            Err(blocked) => (blocked.decision, blocked.source, &*blocked.reason, false),
        };
        self.tell(attempt, "domain", decision, source, reason, policy_override);
        let allowed = decided?;
        self.guard(attempt)?;
        Ok(allowed.addresses)
    }

    async fn host(&self, attempt: Attempt<'_>) -> Result<Allowed, Blocked> {
        let by_client = match self.policy.verdict(attempt.host) {
            Verdict::Denied => return Err(Blocked::by_rule(DENIED)),
            Verdict::Local => return Err(Blocked::by_rule(LOCAL)),
            Verdict::Unlisted | Verdict::Review => {
                self.question(attempt).await?;
                true
            }
            Verdict::Allowed => false,
        };
        let addresses = self.addresses(attempt.host).await;
        let addresses = addresses.ok_or_else(|| Blocked::by_rule(LOCAL))?;
        let with_port = |address| SocketAddr::new(address, attempt.port);
        Ok(Allowed {
            addresses: addresses.into_iter().map(with_port).collect(),
            by_client,
        })
    }

    async fn question(&self, attempt: Attempt<'_>) -> Result<(), Blocked> {
        let Some(time) = self.policy.ask else {
            return Err(Blocked::by_rule(NOT_ALLOWED));
        };
        let target = PolicyTarget {
            protocol: attempt.protocol,
            host: attempt.host.to_string(),
            port: attempt.port,
        };
        let (decision, reason) = match self.questions.ask(&self.process_id, target, time).await {
            Answer::Allow => return Ok(()),
            Answer::Deny(reason) if reason.is_empty() => ("deny", POLICY_DENIED.into()),
            Answer::Deny(reason) => ("deny", reason.into()),
            Answer::Ask(reason) if reason.is_empty() => ("ask", POLICY_DENIED.into()),
            Answer::Ask(reason) => ("ask", reason.into()),
            Answer::None => ("deny", NOT_ALLOWED.into()),
        };
        Err(Blocked {
            reason,
            decision,
            source: DECIDER,
        })
    }

    /// The addresses of a host that is allowed; `None` if it has none, or one that is not public.
    async fn addresses(&self, host: &Host) -> Option<Vec<IpAddr>> {
        let local = self.policy.local;
        match host {
            Host::Address(address) => {
                let reachable = local || is_public(*address) || self.policy.allows_exactly(host);
                reachable.then(|| vec![*address])
            }
            // Only here if it may be.
            Host::Name(_) if host.is_localhost() => {
                Some(vec![Ipv4Addr::LOCALHOST.into(), Ipv6Addr::LOCALHOST.into()])
            }
            Host::Name(name) => {
                let found = self.resolver.lookup(name).await?;
                let reachable = local || found.iter().copied().all(is_public);
                reachable.then_some(found)
            }
        }
    }

    /// Refuses what the limited mode does not let through. Tunnels would have to be looked into.
    pub(super) fn guard(&self, attempt: Attempt<'_>) -> Result<(), Blocked> {
        if self.policy.mode == ProxyMode::Full {
            return Ok(());
        }
        let reason = match (attempt.protocol, attempt.method) {
            (Protocol::Http, Some("GET" | "HEAD" | "OPTIONS")) => return Ok(()),
            (Protocol::Http, _) => METHOD_NOT_ALLOWED,
            (Protocol::HttpsConnect, _) => MITM_REQUIRED,
            (Protocol::Socks5Tcp | Protocol::Socks5Udp, _) if attempt.port == HTTPS => {
                MITM_REQUIRED
            }
            (Protocol::Socks5Tcp | Protocol::Socks5Udp, _) => METHOD_NOT_ALLOWED,
        };
        let blocked = Blocked {
            reason: reason.into(),
            decision: "deny",
            source: MODE_GUARD,
        };
        self.tell(attempt, "non_domain", "deny", MODE_GUARD, reason, false);
        Err(blocked)
    }

    fn tell(
        &self,
        attempt: Attempt<'_>,
        scope: &'static str,
        decision: &'static str,
        source: &'static str,
        reason: &str,
        policy_override: bool,
    ) {
        self.notices.send(Notice {
            scope,
            decision,
            source,
            reason,
            protocol: attempt.protocol,
            host: &attempt.host.to_string(),
            port: attempt.port,
            method: attempt.method,
            client: attempt.client,
            policy_override,
        });
    }
}

impl Blocked {
    fn by_rule(reason: &'static str) -> Self {
        Self {
            reason: reason.into(),
            decision: "deny",
            source: BASELINE,
        }
    }
}

pub(super) const NOT_ALLOWED: &str = "not_allowed";
pub(super) const LOCAL: &str = "not_allowed_local";
pub(super) const DENIED: &str = "denied";
pub(super) const METHOD_NOT_ALLOWED: &str = "method_not_allowed";
pub(super) const MITM_REQUIRED: &str = "mitm_required";
const POLICY_DENIED: &str = "policy_denied";

const BASELINE: &str = "baseline_policy";
const DECIDER: &str = "decider";
pub(super) const MODE_GUARD: &str = "mode_guard";

const HTTPS: u16 = 443;
