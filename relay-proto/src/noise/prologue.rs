//! The data both ends must agree on before a handshake can succeed.

use crate::ids::{EnvironmentId, RegistrationId, StreamId};

/// Builds the prologue: four parts, each after its length as a 64-bit big-endian number.
///
/// It binds a handshake to one stream of one registration, so that a message cannot be replayed
/// into another one, and a harness with an outdated bundle fails cleanly.
pub(crate) fn prologue(
    environment: &EnvironmentId,
    registration: &RegistrationId,
    stream: &StreamId,
) -> Vec<u8> {
    let parts = [
        DOMAIN,
        environment.as_str(),
        registration.as_str(),
        stream.as_str(),
    ];
    let mut out = Vec::with_capacity(parts.iter().map(|part| 8 + part.len()).sum());
    for part in parts {
        out.extend_from_slice(&(part.len() as u64).to_be_bytes());
        out.extend_from_slice(part.as_bytes());
    }
    out
}

const DOMAIN: &str = "codex-exec-server-relay-noise/v1";
