//! Managed networking: the proxy that `process/start` may ask for, and the traffic about its
//! decisions.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

/// Request from executor to client: may this process connect there?
pub const POLICY_REQUEST: &str = "network/policyRequest";
/// Notification from executor to client: the proxy decided.
pub const POLICY_DECISION: &str = "network/policyDecision";

/// The `networkProxy` member of `process/start`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct NetworkProxy {
    /// What the proxy allows.
    pub proxy: ProxySettings,
    /// Labels for the audit records.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub audit_metadata: Option<BTreeMap<String, Option<String>>>,
    /// The client's name for the environment.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub environment_id: Option<String>,
    /// The client's name for the execution.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub execution_id: Option<String>,
    /// Present when the client answers [`POLICY_REQUEST`]; not 0.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub policy_decision_timeout_ms: Option<u64>,
}

/// What the proxy allows.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ProxySettings {
    /// Whether there is a proxy at all.
    pub enabled: bool,
    /// SOCKS5 besides HTTP.
    pub enable_socks5: bool,
    /// UDP over SOCKS5.
    pub enable_socks5_udp: bool,
    /// Whether the executor's own proxy may be used on the way.
    pub allow_upstream_proxy: bool,
    /// Every Unix socket.
    pub dangerously_allow_all_unix_sockets: bool,
    /// How much is let through.
    pub mode: ProxyMode,
    /// Whether local ports may be bound.
    pub allow_local_binding: bool,
    /// Host patterns and what applies to them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub domains: Option<BTreeMap<String, DomainRule>>,
    /// Unix socket paths and what applies to them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub unix_sockets: Option<BTreeMap<String, SocketRule>>,
    /// Host patterns that need a review.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub review_domains: Vec<String>,
    /// Whether credentials are replaced by placeholders.
    #[serde(default)]
    pub credential_masking: bool,
    /// Additional credentials, kept raw: this executor offers no masking.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub credential_providers: BTreeMap<String, serde_json::Value>,
}

/// How much the proxy lets through.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum ProxyMode {
    /// Reading requests only.
    Limited,
    /// Every request.
    Full,
}

/// What applies to a host pattern.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum DomainRule {
    /// Connections are allowed.
    Allow,
    /// Connections are denied.
    Deny,
    /// The pattern has no effect.
    None,
}

/// What applies to a Unix socket.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum SocketRule {
    /// Connections are allowed.
    Allow,
    /// Connections are denied.
    Deny,
}

/// The `managedNetwork` member of `process/start`: a proxy that somebody else runs.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct ManagedNetwork {
    /// Loopback ports that the command may reach.
    pub loopback_ports: Vec<u16>,
    /// Whether local ports may be bound.
    pub allow_local_binding: bool,
    /// Unix sockets that the command may reach.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub allow_unix_sockets: Vec<String>,
    /// Every Unix socket.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub dangerously_allow_all_unix_sockets: bool,
}

/// Parameters of [`POLICY_REQUEST`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct PolicyRequestParams {
    /// The process that connects.
    pub process_id: String,
    /// Where to.
    pub request: PolicyTarget,
}

/// Where a process wants to connect.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct PolicyTarget {
    /// How.
    pub protocol: Protocol,
    /// Host name or address.
    pub host: String,
    /// Port.
    pub port: u16,
}

/// How a process connects.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Protocol {
    /// Plain HTTP request.
    Http,
    /// Tunnel.
    HttpsConnect,
    /// SOCKS5 stream.
    Socks5Tcp,
    /// SOCKS5 datagrams.
    Socks5Udp,
}

/// Result of [`POLICY_REQUEST`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PolicyRequestResult {
    /// The client's answer.
    pub decision: PolicyAnswer,
}

/// The client's answer.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "camelCase")]
pub enum PolicyAnswer {
    /// Let it connect.
    Allow {
        /// For how long. An extension of this project; executors without it take every allow as
        /// [`AllowScope::Once`].
        #[serde(default, skip_serializing_if = "AllowScope::is_once")]
        scope: AllowScope,
    },
    /// Do not.
    Deny {
        /// Why.
        reason: String,
    },
    /// Undecided, which is a denial.
    Ask {
        /// Why.
        reason: String,
    },
}

/// How long an allow holds.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum AllowScope {
    /// For the end of the session: the same protocol, host and port is not asked about again.
    Session,
    /// For the connections that wait for this answer. Unknown scopes are read as this one.
    #[default]
    #[serde(other)]
    Once,
}

impl AllowScope {
    fn is_once(&self) -> bool {
        *self == Self::Once
    }
}

/// Parameters of [`POLICY_DECISION`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct PolicyDecision {
    /// The process that connected.
    pub process_id: String,
    /// RFC 3339 with milliseconds.
    pub timestamp: String,
    /// `domain`, or `non_domain` for what is not about a host.
    pub scope: String,
    /// `allow`, `deny` or `ask`.
    pub decision: String,
    /// `baseline_policy`, `decider`, `mode_guard` or `proxy_state`.
    pub source: String,
    /// `allow`, `not_allowed`, `not_allowed_local`, `denied`, `method_not_allowed`, `mitm_required`, or
    /// the decider's text.
    pub reason: String,
    /// How it connected.
    pub protocol: Protocol,
    /// Host name or address.
    pub host: String,
    /// Port.
    pub port: u16,
    /// HTTP method, if there was one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub method: Option<String>,
    /// The connecting socket, if known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub client: Option<String>,
    /// Whether the client's answer overrode the policy.
    pub policy_override: bool,
}
