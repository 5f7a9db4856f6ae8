//! What a person can do about each trouble, as a table.

use registry_client::{ConnectError, RegistryError, TransportError};

/// For a registry call that failed.
pub(super) fn for_registry(error: &RegistryError) -> &'static str {
    match error {
        RegistryError::Authentication(failure) if failure.proxy.is_some() => {
            "the token is wrong, expired, or not for this environment, or the proxy refuses the call"
        }
        RegistryError::Authentication(_) => {
            "the token is wrong, expired, or not for this environment; replace it"
        }
        RegistryError::Status(failure) => match failure.status {
            300..=399 => "redirects are not followed; give the registry's final URL",
            404 => {
                "check the environment id and the registry URL; create the environment if it is missing"
            }
            409 => "check whether the environment may be registered by this token",
            429 => "too many calls; nothing to do but wait",
            500..=599 => "the registry has a problem of its own; it is tried again",
            _ => "check the environment id and the registry URL",
        },
        RegistryError::Transport(error) => for_transport(error),
        RegistryError::Credential(_) => "check the token file",
        RegistryError::RendezvousUrl(_) => {
            "the registry hands out a rendezvous URL that opens no websocket; correct its configuration"
        }
        RegistryError::Malformed { .. }
        | RegistryError::TooLarge { .. }
        | RegistryError::DifferentEnvironment
        | RegistryError::SecurityProfile
        | RegistryError::Registration(_) => {
            "check that the registry URL is that of an environment registry"
        }
        RegistryError::Url(_) => "use another environment id",
        _ => "check the registry",
    }
}

/// For a websocket that did not open.
pub(super) fn for_rendezvous(error: &ConnectError) -> &'static str {
    match error {
        ConnectError::Rejected {
            status: 400..=499, ..
        } => "registering again for a new URL",
        ConnectError::Rejected { .. } => {
            "the rendezvous has a problem of its own; it is tried again"
        }
        ConnectError::Transport(error) => for_transport(error),
        ConnectError::Protocol { .. } => "check that a proxy on the way lets websockets through",
        _ => "check the rendezvous",
    }
}

fn for_transport(error: &TransportError) -> &'static str {
    match error {
        TransportError::ProxyCredentials { .. } => "put the proxy's credentials into the proxy URL",
        TransportError::UntrustedCertificate { .. } => "name the authority with --ca-file",
        TransportError::Tls { .. } => "check that the port speaks TLS",
        _ => "check that it runs and can be reached from here (name, port, proxy, firewall)",
    }
}
