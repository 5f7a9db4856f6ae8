//! What a start request asks for, checked before anything runs.
//!
//! | request | plan |
//! |---|---|
//! | `networkProxy` | a proxy of the executor for this process |
//! | `enforceManagedNetwork` with it | and no other way out |
//! | `enforceManagedNetwork` alone | no way out but the ports of somebody else's proxy, named by proxy variables |
//! | `managedNetwork` | which ports those may be |
//!
//! What cannot be enforced is refused: enforcement without a sandbox, masking of credentials, and
//! denied Unix sockets among all that are allowed.

use std::time::Duration;

use exec_proto::RpcError;
use exec_proto::network::{NetworkProxy, ProxySettings, SocketRule};
use exec_proto::process::StartParams;

use super::policy::Policy;
use super::variables;
use crate::environment::Variables;
use crate::sandbox::Isolation;

/// What is to be done about the network of a command.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Plan {
    pub(super) proxy: Option<Proxy>,
    /// Set if nothing else may be reached.
    isolation: Option<Isolation>,
    /// The ports that somebody else's proxy may have; `None` is any.
    foreign_ports: Option<Vec<u16>>,
}

/// A proxy of the executor.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Proxy {
    pub(super) policy: Policy,
    pub(super) socks: bool,
    pub(super) process_id: String,
}

impl Plan {
    /// Checks a request. `None` if it asks for nothing.
    ///
    /// # Errors
    ///
    /// Whatever contradicts itself or cannot be enforced, with code -32602.
    pub(crate) fn new(params: &StartParams) -> Result<Option<Self>, RpcError> {
        let refuse = |text: &str| Err(RpcError::invalid_params(text));
        let proxy = match &params.network_proxy {
            None => None,
            Some(request) => Some(Proxy::new(request, &params.process_id)?),
        };
        if !params.enforce_managed_network {
            // Somebody else's proxy is reached like anything else then.
            return Ok(proxy.map(|proxy| Self {
                proxy: Some(proxy),
                isolation: None,
                foreign_ports: None,
            }));
        }
        if params.sandbox.is_none() {
            return refuse(
                "managed networking cannot be enforced on this executor: it requires a sandbox",
            );
        }
        let foreign = params.managed_network.as_ref();
        let all_unix_sockets = match (&params.network_proxy, foreign) {
            (Some(request), _) => all_unix_sockets(&request.proxy)?,
            (None, Some(foreign)) => foreign.dangerously_allow_all_unix_sockets,
            (None, None) => false,
        };
        if foreign.is_some_and(|foreign| foreign.loopback_ports.len() > MAX_PORTS) {
            return Err(RpcError::invalid_params(format!(
                "managedNetwork.loopbackPorts must be at most {MAX_PORTS}"
            )));
        }
        Ok(Some(Self {
            proxy,
            isolation: Some(Isolation { all_unix_sockets }),
            foreign_ports: foreign.map(|foreign| foreign.loopback_ports.clone()),
        }))
    }

    /// What the sandbox has to enforce.
    pub(crate) fn isolation(&self) -> Option<Isolation> {
        self.isolation
    }

    /// The ports of somebody else's proxy, as the command's variables name them, and everything else
    /// that it may reach there.
    pub(super) fn foreign_ports(&self, variables: &Variables) -> Result<Vec<u16>, RpcError> {
        let mut ports = variables::proxy_ports(variables)
            .map_err(|err| RpcError::invalid_params(err.to_string()))?;
        if let Some(allowed) = &self.foreign_ports {
            if ports.iter().any(|port| !allowed.contains(port)) {
                return Err(RpcError::invalid_params(
                    "proxy endpoint is outside the managed sandbox context",
                ));
            }
            ports.extend(allowed.iter().filter(|port| **port != 0));
        }
        ports.sort_unstable();
        ports.dedup();
        Ok(ports)
    }
}

impl Proxy {
    fn new(request: &NetworkProxy, process_id: &str) -> Result<Self, RpcError> {
        let refuse = |text: &str| Err(RpcError::invalid_params(text));
        let ask = match request.policy_decision_timeout_ms {
            None => None,
            Some(0) => return refuse("network policy decision callback timeout must be nonzero"),
            Some(_) if !(1..=MAX_PROCESS_ID_BYTES).contains(&process_id.len()) => {
                return Err(RpcError::invalid_params(format!(
                    "callback-enabled process ID must be non-empty and at most \
                     {MAX_PROCESS_ID_BYTES} bytes"
                )));
            }
            Some(millis) => Some(Duration::from_millis(millis).min(MAX_ASK) + GRACE),
        };
        let settings = &request.proxy;
        let policy = Policy::new(settings, ask).map_err(|err| {
            RpcError::invalid_params(format!("invalid network proxy config: {err}"))
        })?;
        if settings.credential_masking {
            // A command that gets its real credentials although it asked for masks is worse than one
            // that does not start.
            return refuse("credential masking is not available on this executor");
        }
        Ok(Self {
            policy,
            socks: settings.enable_socks5,
            process_id: process_id.to_owned(),
        })
    }
}

/// Whether the command may connect to every Unix socket. A filter that lets some through cannot tell
/// which, so a deny among them could not be kept.
fn all_unix_sockets(settings: &ProxySettings) -> Result<bool, RpcError> {
    let mut rules = settings.unix_sockets.iter().flatten();
    let all = settings.dangerously_allow_all_unix_sockets;
    if all && rules.any(|(_, rule)| *rule == SocketRule::Deny) {
        return Err(RpcError::invalid_params(
            "unixSockets cannot deny anything on this executor when \
             dangerouslyAllowAllUnixSockets is set",
        ));
    }
    Ok(all)
}

/// What a client gets on top of its own time for an answer, as in the reference.
const GRACE: Duration = Duration::from_secs(5);

/// Longest time for an answer; a connection that waits holds its place all that time.
const MAX_ASK: Duration = Duration::from_secs(24 * 60 * 60);

/// Longest id of a process whose network is asked about.
const MAX_PROCESS_ID_BYTES: usize = 256;

/// Ports of somebody else's proxy. Each is a listener.
pub(super) const MAX_PORTS: usize = 64;
