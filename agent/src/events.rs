//! What the executor logs.
//!
//! One function per thing that happens, so that texts and fields are in one place. Nothing here
//! takes a token, a signed URL, a path or the content of a message.

use std::{error::Error, fmt, io, net::SocketAddr, time::Duration};

use http::StatusCode;
use relay_proto::ids::StreamId;
use tracing::{debug, info, warn};

use crate::{listener::LineError, metrics::metrics};

/// Shows an error with its causes, one after the other.
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

pub(crate) fn descriptor_limit_kept(error: &io::Error) {
    warn!(%error, "failed to raise the limit of open descriptors");
}

pub(crate) fn limit_is_weaker(what: &str) {
    warn!(what, "a limit of commands does not hold as it should");
}

pub(crate) fn names_not_noted(error: &io::Error) {
    debug!(%error, "failed to write down which names a sandbox occupies");
}

pub(crate) fn accept_failed(error: &io::Error) {
    warn!(%error, "failed to accept a connection");
}

pub(crate) fn peer_refused(peer: SocketAddr, status: StatusCode) {
    warn!(%peer, status = status.as_u16(), "refused a connection");
}

/// The executor that streams are handed to. Said again for each stream, and not for each attempt
/// before there are any.
pub(crate) fn destination_unavailable(host: &str, error: &(dyn Error + 'static), is_new: bool) {
    if is_new {
        warn!(host, error = %Chain(error), "the forward destination is not available");
    } else {
        debug!(host, error = %Chain(error), "the forward destination is not available");
    }
}

pub(crate) fn forwarded_stream_closed(reason: &'static str) {
    debug!(reason, "forwarded stream closed");
}

pub(crate) fn destination_lost(host: &str) {
    warn!(
        host,
        "the forward destination is gone; leaving the rendezvous until it is back"
    );
}

pub(crate) fn destination_reached(host: &str) {
    info!(host, "the forward destination answers");
}

pub(crate) fn peer_connected(peer: SocketAddr) {
    metrics().peers_connected.inc();
    debug!(%peer, "peer connected");
}

pub(crate) fn peer_disconnected(peer: SocketAddr, reason: &'static str) {
    metrics().peers_disconnected.inc();
    debug!(%peer, reason, "peer disconnected");
}

pub(crate) fn stdio_ended(error: &LineError) {
    warn!(error = %Chain(error), "standard input ended early");
}

pub(crate) fn starting_remote(environment: &dyn fmt::Display, name: Option<&str>, host: &str) {
    info!(%environment, name, registry = host, version = env!("CARGO_PKG_VERSION"), "starting");
}

pub(crate) fn waiting_for_bearer() {
    info!("waiting for the registration bearer on standard input");
}

pub(crate) fn registered(environment: &dyn fmt::Display, registration: &dyn fmt::Display) {
    metrics().registrations.inc();
    info!(%environment, %registration, "registered");
}

pub(crate) fn dialing(host: &str, request: &str) {
    debug!(rendezvous = host, request, "connecting");
}

pub(crate) fn connected(environment: &dyn fmt::Display, host: &str) {
    metrics().connections.inc();
    info!(%environment, rendezvous = host, "connected, online");
}

pub(crate) fn disconnected(environment: &dyn fmt::Display, reason: &'static str, lasted: Duration) {
    metrics().disconnected(reason);
    info!(%environment, reason, lasted_secs = lasted.as_secs(), "disconnected");
}

/// Lost work or trouble that the supervisor will try to get over.
pub(crate) fn trouble(text: &str, advice: &str, suppressed: u32, next_try: Duration) {
    let next_try_secs = (next_try.as_secs_f64() * 10.0).round() / 10.0;
    if suppressed == 0 {
        warn!(advice, next_try_secs, "{text}");
    } else {
        warn!(advice, next_try_secs, suppressed, "{text}");
    }
}

/// The rendezvous does not accept the URL, or has not answered for too long.
pub(crate) fn url_rejected(text: &str, advice: &str, request: &str, suppressed: u32) {
    if suppressed == 0 {
        warn!(advice, request, "{text}");
    } else {
        warn!(advice, request, suppressed, "{text}");
    }
}

pub(crate) fn reconnecting(next_try: Duration) {
    let next_try_secs = (next_try.as_secs_f64() * 10.0).round() / 10.0;
    info!(next_try_secs, "connecting again");
}

pub(crate) fn stream_opened(stream: &StreamId) {
    metrics().streams_opened.inc();
    info!(?stream, "stream opened");
}

pub(crate) fn stream_refused(stream: &StreamId, reason: &dyn fmt::Display) {
    metrics().streams_refused.inc();
    warn!(?stream, %reason, "stream refused");
}

pub(crate) fn stream_suspended(stream: &StreamId) {
    metrics().streams_suspended.inc();
    info!(?stream, "stream lost its path and waits for another");
}

pub(crate) fn stream_resumed(stream: &StreamId) {
    metrics().streams_resumed.inc();
    info!(?stream, "stream resumed");
}

pub(crate) fn stream_closed(stream: &StreamId) {
    metrics().streams_closed.inc();
    info!(?stream, "stream closed");
}

pub(crate) fn secret_file_unusable(problem: &str) {
    warn!(
        problem,
        "a secret of the listener cannot be read again; keeping the last one"
    );
}

/// A credential on standard input: the first, or one that takes its place.
pub(crate) fn executor_credential(first: bool) {
    if first {
        info!("received the executor credential");
    } else {
        info!("the executor credential was replaced");
    }
}

/// Spans or numbers are not exported although a variable speaks of that.
pub fn export_differs(what: &str) {
    warn!("{what}");
}

/// Operators are answered.
pub(crate) fn admin_listening(address: SocketAddr) {
    info!(%address, "admin listener");
}

pub(crate) fn stopping(cause: &'static str) {
    info!(cause, "stopping");
}
