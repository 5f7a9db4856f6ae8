//! What the executor logs, and how logging is set up.
//!
//! One function per thing that happens, so that texts and fields are in one place. Nothing here
//! takes a token, a signed URL, a path or the content of a message.

use std::{
    error::Error,
    fmt,
    io::{self, IsTerminal as _},
    net::SocketAddr,
    time::Duration,
};

use http::StatusCode;
use relay_proto::ids::StreamId;
use tracing::{Level, Metadata, debug, info, warn};
use tracing_subscriber::{
    EnvFilter, Layer as _,
    filter::{FilterExt as _, filter_fn},
    layer::SubscriberExt as _,
    util::SubscriberInitExt as _,
};

use crate::{listener::LineError, metrics::metrics};

/// Starts logging to standard error: `RUST_LOG`, else `info`; colors on a terminal only.
///
/// Whatever `RUST_LOG` says, the crates that handle requests are held at `info`: at finer levels
/// they print URLs and headers, and those are credentials here.
pub fn init_logging() {
    let (filter, rejected) = match std::env::var("RUST_LOG") {
        Err(_) => (EnvFilter::new(DEFAULT_FILTER), None),
        Ok(text) if text.trim().is_empty() => (EnvFilter::new(DEFAULT_FILTER), None),
        Ok(text) => match EnvFilter::try_new(&text) {
            Ok(filter) => (filter, None),
            Err(error) => (EnvFilter::new(DEFAULT_FILTER), Some(error)),
        },
    };
    let colors =
        io::stderr().is_terminal() && std::env::var_os("NO_COLOR").is_none_or(|v| v.is_empty());
    let lines = tracing_subscriber::fmt::layer()
        .with_writer(io::stderr)
        .with_ansi(colors)
        .with_target(false)
        .with_filter(filter.and(filter_fn(may_be_shown)));
    // A second call finds a subscriber in place, which is as good.
    let _ = tracing_subscriber::registry().with(lines).try_init();
    if let Some(error) = rejected {
        warn!(%error, "RUST_LOG is not a valid filter; using the default");
    }
}

/// Caps the targets that could print credentials.
fn may_be_shown(metadata: &Metadata<'_>) -> bool {
    *metadata.level() <= Level::INFO
        || !CAPPED_TARGETS.iter().any(|capped| {
            metadata
                .target()
                .strip_prefix(capped)
                .is_some_and(|rest| rest.is_empty() || rest.starts_with("::"))
        })
}

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

/// Operators are answered.
pub(crate) fn admin_listening(address: SocketAddr) {
    info!(%address, "admin listener");
}

pub(crate) fn stopping(cause: &'static str) {
    info!(cause, "stopping");
}

const DEFAULT_FILTER: &str = "info";

/// Crates whose debug and trace output shows URLs or headers.
const CAPPED_TARGETS: [&str; 9] = [
    "tungstenite",
    "tokio_tungstenite",
    "hyper",
    "hyper_util",
    "reqwest",
    "h2",
    "rustls",
    "tokio_rustls",
    "tower_http",
];

#[cfg(test)]
mod tests {
    use std::sync::{Arc, Mutex};

    use super::*;

    #[derive(Clone, Default)]
    struct Sink(Arc<Mutex<Vec<u8>>>);

    impl io::Write for Sink {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.lock().unwrap().extend_from_slice(bytes);
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn request_logs_of_libraries_are_capped_whatever_the_filter_says() {
        let sink = Sink::default();
        let writer = sink.clone();
        let layer = tracing_subscriber::fmt::layer()
            .with_writer(move || writer.clone())
            .with_filter(EnvFilter::new("trace").and(filter_fn(may_be_shown)));
        tracing::subscriber::with_default(tracing_subscriber::registry().with(layer), || {
            tracing::trace!(target: "tungstenite::handshake::client", "wss://x/?sig=SECRET");
            tracing::debug!(target: "hyper_util::client", "SECRET");
            tracing::debug!(target: "hyperion", "kept: a crate of another name");
            tracing::warn!(target: "hyper_util::client", "kept: warnings");
            tracing::trace!(target: "exec_server", "kept: ours");
        });
        let text = String::from_utf8(sink.0.lock().unwrap().clone()).unwrap();
        assert!(!text.contains("SECRET"), "{text}");
        assert_eq!(text.matches("kept:").count(), 3, "{text}");
    }
}
