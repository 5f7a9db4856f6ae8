//! Everything that is logged while serving: one function for each thing that happens.
//!
//! Texts are fixed, data goes into fields. Never tokens, authorizations, URLs, queries or payloads.
//! Environment, registration and token ids are names, not secrets.

use std::error::Error;
use std::fmt;
use std::net::IpAddr;

use registry_client::wire::RejectionReason;
use relay_proto::frame::FrameError;
use relay_proto::ids::{EnvironmentId, RegistrationId};
use tracing::{debug, error, info, warn};

use crate::metrics::metrics;
use crate::rendezvous::routes::AttachError;
use crate::rendezvous::socket::Ended;

/// The server listens.
pub(crate) fn listening(url: &str, version: &str) {
    info!(url, version, "listening");
}

/// Operators are answered.
pub(crate) fn admin_listening(address: std::net::SocketAddr) {
    info!(%address, "admin listener");
}

/// Spans or numbers are not exported although a variable speaks of that.
pub(crate) fn export_differs(what: &str) {
    warn!("{what}");
}

/// Any token is taken.
pub(crate) fn development_mode() {
    warn!("development mode: any bearer token is accepted");
}

/// A signal came, or whoever started the server stops it.
pub(crate) fn shutting_down() {
    info!("shutting down");
}

/// All sockets are closed, or time was up.
pub(crate) fn stopped(complete: bool) {
    info!(complete, "stopped");
}

/// Certificates were read again.
pub(crate) fn tls_reloaded(result: Result<(), &(dyn Error + 'static)>) {
    match result {
        Ok(()) => info!("certificates reloaded"),
        Err(error) => {
            error!(error = %Chain(error), "certificates not reloaded, keeping the old ones");
        }
    }
}

/// A connection could not be accepted.
pub(crate) fn accept_failed(error: &std::io::Error) {
    warn!(%error, "cannot accept a connection");
}

/// The command at the control socket went away, or said something else.
pub(crate) fn control_failed(error: &std::io::Error) {
    debug!(%error, "control connection failed");
}

/// Another server has what this one had.
pub(crate) fn handed_over() {
    info!("handed over to another server");
}

/// This server has what another one had.
pub(crate) fn taken_over() {
    info!("taken over from another server");
}

/// A connection ended before its first request.
pub(crate) fn connection_failed(peer: IpAddr, error: &(dyn Error + 'static)) {
    debug!(%peer, error = %Chain(error), "connection failed");
}

/// The identity provider's keys were read; they have changed if there is a count.
pub(crate) fn keys_read(changed: Option<usize>) {
    metrics().keys_read(true);
    if let Some(keys) = changed {
        info!(keys, "identity provider keys in use");
    }
}

/// The identity provider's keys could not be read; the ones before stay.
pub(crate) fn keys_not_read(error: &(dyn Error + 'static), is_first: bool) {
    metrics().keys_read(false);
    if is_first {
        warn!(error = %Chain(error), "identity provider keys not read, trying again");
    } else {
        debug!(error = %Chain(error), "identity provider keys not read, trying again");
    }
}

/// An executor registered.
pub(crate) fn registered(environment: &EnvironmentId, registration: &RegistrationId) {
    metrics().registrations.inc();
    info!(%environment, %registration, "executor registered");
}

/// A harness got a bundle.
pub(crate) fn bundle_issued(environment: &EnvironmentId, registration: &RegistrationId) {
    metrics().bundles.inc();
    info!(%environment, %registration, "bundle issued");
}

/// An executor asked about a harness.
pub(crate) fn validated(
    environment: &EnvironmentId,
    registration: &RegistrationId,
    stream: &str,
    valid: bool,
) {
    metrics().validated(valid);
    if valid {
        info!(%environment, %registration, stream, "harness key validated");
    } else {
        warn!(%environment, %registration, stream, "harness key refused");
    }
}

/// A call was answered with an error.
pub(crate) fn call_refused(peer: IpAddr, call: &'static str, status: u16, code: &'static str) {
    metrics().refused(call, code);
    // Whoever fails that often would fill the log as well.
    if status == TOO_MANY_REQUESTS {
        debug!(%peer, call, status, code, "call refused");
    } else {
        info!(%peer, call, status, code, "call refused");
    }
}

/// Something failed inside.
pub(crate) fn internal_error(doing: &'static str, error: &(dyn Error + 'static)) {
    metrics().internal_errors.inc();
    error!(doing, error = %Chain(error), "internal error");
}

/// A websocket request was rejected.
pub(crate) fn upgrade_rejected(peer: IpAddr, status: u16, reason: RejectionReason, request: &str) {
    metrics().rejected(reason.as_str());
    if status == TOO_MANY_REQUESTS {
        debug!(%peer, status, reason = reason.as_str(), request, "websocket rejected");
    } else {
        info!(%peer, status, reason = reason.as_str(), request, "websocket rejected");
    }
}

/// A websocket is there.
pub(crate) fn socket_opened(
    role: &'static str,
    environment: &EnvironmentId,
    registration: &RegistrationId,
    peer: IpAddr,
    request: &str,
) {
    metrics().opened(role);
    info!(role, %environment, %registration, %peer, request, "socket opened");
}

/// A websocket is gone.
pub(crate) fn socket_closed(
    role: &'static str,
    environment: &EnvironmentId,
    registration: &RegistrationId,
    ended: Ended,
) {
    let Ended {
        end,
        dropped_frames,
    } = ended;
    metrics().closed(role, end.reason(), dropped_frames);
    info!(role, %environment, %registration, reason = end.reason(), dropped_frames, "socket closed");
}

/// A websocket lost its place while it was opened.
pub(crate) fn socket_refused(
    environment: &EnvironmentId,
    registration: &RegistrationId,
    error: AttachError,
) {
    info!(%environment, %registration, reason = error.reason(), "socket refused");
}

/// A message that is no relay frame.
pub(crate) fn malformed_frame(environment: &EnvironmentId, error: &FrameError) {
    debug!(%environment, reason = error.reason(), "malformed frame dropped");
}

/// An error with its causes on one line.
pub(crate) struct Chain<'a>(pub(crate) &'a (dyn Error + 'static));

impl fmt::Display for Chain<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0)?;
        let mut source = self.0.source();
        while let Some(cause) = source {
            write!(f, ": {cause}")?;
            source = cause.source();
        }
        Ok(())
    }
}

const TOO_MANY_REQUESTS: u16 = 429;
