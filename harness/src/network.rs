//! What a program may reach over the network, and who is asked about the rest.

use std::{collections::BTreeMap, fmt, sync::Arc, time::Duration};

use exec_proto::{
    network::{
        AllowScope, DomainRule, NetworkProxy, PolicyAnswer, PolicyRequestParams, ProxyMode,
        ProxySettings,
    },
    sandbox::{Permissions, SandboxContext, WindowsSandboxLevel},
};
use futures_util::{FutureExt as _, future::BoxFuture};

pub use exec_proto::network::Protocol as NetworkProtocol;

/// What a program may reach. The executor enforces it: there is no other way out.
///
/// Patterns are `host`, `*.host` (below it), `**.host` (it and below) and `*` (every public host).
/// Addresses of the executor's host and of private networks have to be allowed exactly.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Network {
    domains: BTreeMap<String, DomainRule>,
    ask: Option<Duration>,
}

impl Network {
    /// Only these hosts.
    pub fn only<S: Into<String>>(allowed: impl IntoIterator<Item = S>) -> Self {
        let allow = |pattern: S| (pattern.into(), DomainRule::Allow);
        Self {
            domains: allowed.into_iter().map(allow).collect(),
            ask: None,
        }
    }

    /// Not these hosts, whatever else allows them.
    #[must_use]
    pub fn deny<S: Into<String>>(mut self, denied: impl IntoIterator<Item = S>) -> Self {
        let deny = |pattern: S| (pattern.into(), DomainRule::Deny);
        self.domains.extend(denied.into_iter().map(deny));
        self
    }

    /// About other hosts the executor asks the client's [`NetworkDecider`], which has this long for an
    /// answer.
    #[must_use]
    pub fn ask(mut self, time: Duration) -> Self {
        self.ask = Some(time);
        self
    }

    /// A context that restricts nothing else.
    pub(crate) fn sandbox() -> SandboxContext {
        SandboxContext {
            permissions: Permissions::Disabled,
            sandbox_override: None,
            cwd: None,
            policy_context: None,
            workspace_roots: Vec::new(),
            user_home_dir: None,
            temporary_directories: None,
            windows_sandbox_level: WindowsSandboxLevel::Disabled,
            windows_sandbox_proxy_settings_mode: None,
            use_legacy_landlock: false,
        }
    }

    pub(crate) fn into_proxy(self) -> NetworkProxy {
        let millis = |time: Duration| u64::try_from(time.as_millis()).unwrap_or(u64::MAX).max(1);
        NetworkProxy {
            proxy: ProxySettings {
                enabled: true,
                enable_socks5: true,
                enable_socks5_udp: false,
                allow_upstream_proxy: false,
                dangerously_allow_all_unix_sockets: false,
                mode: ProxyMode::Full,
                allow_local_binding: false,
                domains: Some(self.domains),
                unix_sockets: None,
                review_domains: Vec::new(),
                credential_masking: false,
                credential_providers: BTreeMap::new(),
            },
            audit_metadata: None,
            environment_id: None,
            execution_id: None,
            policy_decision_timeout_ms: self.ask.map(millis),
        }
    }
}

/// A question of the executor: may this process connect there?
///
/// Processes of one session that want the same at the same time share a question; then it names one
/// of them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NetworkRequest {
    /// The process.
    pub process_id: String,
    /// How it connects.
    pub protocol: NetworkProtocol,
    /// Host name or address.
    pub host: String,
    /// Port.
    pub port: u16,
}

/// The answer to a [`NetworkRequest`].
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum NetworkDecision {
    /// Those that wait may connect.
    AllowOnce,
    /// And it is not asked again in this session. The reference takes it for [`Self::AllowOnce`].
    AllowForSession,
    /// They may not. The program sees the reason: at most 1024 bytes, without control characters.
    Deny(String),
}

/// Answers the executor's questions. By default every answer is a denial.
///
/// Its futures run in the client's task: they may wait, for a person for example, but must not block.
#[derive(Clone)]
pub struct NetworkDecider(
    Arc<dyn Fn(NetworkRequest) -> BoxFuture<'static, NetworkDecision> + Send + Sync>,
);

impl NetworkDecider {
    /// Calls a function for each question.
    pub fn new<F, D>(decide: F) -> Self
    where
        F: Fn(NetworkRequest) -> D + Send + Sync + 'static,
        D: Future<Output = NetworkDecision> + Send + 'static,
    {
        Self(Arc::new(move |request| decide(request).boxed()))
    }

    pub(crate) fn decide(&self, params: PolicyRequestParams) -> BoxFuture<'static, PolicyAnswer> {
        let decision = (self.0)(NetworkRequest {
            process_id: params.process_id,
            protocol: params.request.protocol,
            host: params.request.host,
            port: params.request.port,
        });
        let answer = async {
            let scope = match decision.await {
                NetworkDecision::AllowOnce => AllowScope::Once,
                NetworkDecision::AllowForSession => AllowScope::Session,
                NetworkDecision::Deny(reason) => return PolicyAnswer::Deny { reason },
            };
            PolicyAnswer::Allow { scope }
        };
        answer.boxed()
    }
}

impl Default for NetworkDecider {
    /// Denies everything.
    fn default() -> Self {
        Self::new(|_| async { NetworkDecision::Deny("not allowed by the client".into()) })
    }
}

impl fmt::Debug for NetworkDecider {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("NetworkDecider")
    }
}
