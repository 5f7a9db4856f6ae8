//! What the executor counts, for `/metrics`.
//!
//! [`events`](crate::events) writes the log line and moves the number, so the two cannot disagree. Numbers
//! are of the whole process. Labels come from closed sets: no ids, addresses or texts.

use std::sync::LazyLock;

use ops::prometheus::{
    metrics::{counter::Counter, family::Family, gauge::ConstGauge},
    registry::Registry,
};

/// One label and its value.
type Label = [(&'static str, &'static str); 1];

/// The counters.
#[derive(Debug, Default)]
pub(crate) struct Metrics {
    pub(crate) registrations: Counter,
    pub(crate) connections: Counter,
    disconnections: Family<Label, Counter>,
    pub(crate) troubles: Counter,
    pub(crate) streams_opened: Counter,
    pub(crate) streams_closed: Counter,
    pub(crate) streams_refused: Counter,
    pub(crate) streams_suspended: Counter,
    pub(crate) streams_resumed: Counter,
    pub(crate) peers_connected: Counter,
    pub(crate) peers_disconnected: Counter,
}

static METRICS: LazyLock<Metrics> = LazyLock::new(Metrics::default);

/// The counters of this process.
pub(crate) fn metrics() -> &'static Metrics {
    &METRICS
}

impl Metrics {
    /// A connection to the rendezvous ended, for a reason from a closed set.
    pub(crate) fn disconnected(&self, reason: &'static str) {
        self.disconnections
            .get_or_create(&[("reason", reason)])
            .inc();
    }

    /// All numbers, with the present ones of what is counted elsewhere.
    pub(crate) fn registry(&self, present: &Present) -> Registry {
        let mut registry = Registry::with_prefix("agent");
        for (name, help, counter) in [
            (
                "registrations",
                "Registrations with the registry",
                &self.registrations,
            ),
            (
                "connections",
                "Connections to the rendezvous",
                &self.connections,
            ),
            (
                "troubles",
                "Failed attempts to register or to connect",
                &self.troubles,
            ),
            (
                "streams_opened",
                "Relay streams that were let in",
                &self.streams_opened,
            ),
            (
                "streams_closed",
                "Relay streams that have ended",
                &self.streams_closed,
            ),
            (
                "streams_refused",
                "Relay streams that were not let in",
                &self.streams_refused,
            ),
            (
                "streams_suspended",
                "Relay streams that lost their path",
                &self.streams_suspended,
            ),
            (
                "streams_resumed",
                "Relay streams that found another path",
                &self.streams_resumed,
            ),
            (
                "peers_connected",
                "Connections to the local listener",
                &self.peers_connected,
            ),
            (
                "peers_disconnected",
                "Connections to the local listener that ended",
                &self.peers_disconnected,
            ),
        ] {
            registry.register(name, help, counter.clone());
        }
        registry.register(
            "disconnections",
            "Connections to the rendezvous that ended, by reason",
            self.disconnections.clone(),
        );
        for (name, help, value) in [
            (
                "ready",
                "1 while new sessions can be opened",
                i64::from(present.ready),
            ),
            (
                "connected",
                "1 while connected to the rendezvous",
                i64::from(present.connected),
            ),
            (
                "sessions",
                "Sessions, with and without a connection",
                present.sessions,
            ),
        ] {
            registry.register(name, help, ConstGauge::<i64>::new(value));
        }
        registry
    }
}

/// Numbers of the moment.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Present {
    pub(crate) ready: bool,
    pub(crate) connected: bool,
    pub(crate) sessions: i64,
}
