//! What the server counts, for `/metrics`.
//!
//! [`events`](crate::events) writes the log line and moves the number, so the two cannot disagree. Numbers
//! are of the whole process. Labels come from closed sets: no ids, addresses or texts.

use std::sync::LazyLock;

use ops::prometheus::metrics::counter::Counter;
use ops::prometheus::metrics::family::Family;
use ops::prometheus::metrics::gauge::ConstGauge;
use ops::prometheus::registry::Registry;

type Label = (&'static str, &'static str);

/// The counters.
#[derive(Debug, Default)]
pub(crate) struct Metrics {
    pub(crate) registrations: Counter,
    pub(crate) bundles: Counter,
    validations: Family<[Label; 1], Counter>,
    refused_calls: Family<[Label; 2], Counter>,
    rejected_upgrades: Family<[Label; 1], Counter>,
    sockets_opened: Family<[Label; 1], Counter>,
    sockets_closed: Family<[Label; 2], Counter>,
    dropped_frames: Counter,
    key_readings: Family<[Label; 1], Counter>,
    pub(crate) internal_errors: Counter,
}

static METRICS: LazyLock<Metrics> = LazyLock::new(Metrics::default);

/// The counters of this process.
pub(crate) fn metrics() -> &'static Metrics {
    &METRICS
}

impl Metrics {
    pub(crate) fn validated(&self, valid: bool) {
        let verdict = if valid { "valid" } else { "invalid" };
        self.validations
            .get_or_create(&[("verdict", verdict)])
            .inc();
    }

    pub(crate) fn refused(&self, call: &'static str, code: &'static str) {
        self.refused_calls
            .get_or_create(&[("call", call), ("code", code)])
            .inc();
    }

    pub(crate) fn rejected(&self, reason: &'static str) {
        self.rejected_upgrades
            .get_or_create(&[("reason", reason)])
            .inc();
    }

    pub(crate) fn opened(&self, role: &'static str) {
        self.sockets_opened.get_or_create(&[("role", role)]).inc();
    }

    pub(crate) fn closed(&self, role: &'static str, reason: &'static str, dropped_frames: u64) {
        self.sockets_closed
            .get_or_create(&[("role", role), ("reason", reason)])
            .inc();
        self.dropped_frames.inc_by(dropped_frames);
    }

    pub(crate) fn keys_read(&self, good: bool) {
        let result = if good { "ok" } else { "failed" };
        self.key_readings.get_or_create(&[("result", result)]).inc();
    }

    /// All numbers, with the present ones of what is counted elsewhere.
    pub(crate) fn registry(&self, present: &Present) -> Registry {
        let mut registry = Registry::with_prefix("server");
        for (name, help, counter) in [
            (
                "registrations",
                "Registrations of executors",
                &self.registrations,
            ),
            ("bundles", "Bundles issued to harnesses", &self.bundles),
            (
                "dropped_frames",
                "Frames that went nowhere, of sockets that have closed",
                &self.dropped_frames,
            ),
            (
                "internal_errors",
                "Failures inside, mostly of the database",
                &self.internal_errors,
            ),
        ] {
            registry.register(name, help, counter.clone());
        }
        registry.register(
            "validations",
            "Harness keys that executors asked about, by verdict",
            self.validations.clone(),
        );
        registry.register(
            "refused_calls",
            "Registry calls answered with an error, by call and code",
            self.refused_calls.clone(),
        );
        registry.register(
            "rejected_upgrades",
            "Websocket requests that were rejected, by reason",
            self.rejected_upgrades.clone(),
        );
        registry.register(
            "sockets_opened",
            "Websockets opened, by role",
            self.sockets_opened.clone(),
        );
        registry.register(
            "sockets_closed",
            "Websockets closed, by role and reason",
            self.sockets_closed.clone(),
        );
        registry.register(
            "oidc_key_readings",
            "Times that the identity provider's keys were read or fetched, by result",
            self.key_readings.clone(),
        );
        for (name, help, value) in [
            (
                "ready",
                "1 while requests are taken",
                i64::from(present.ready),
            ),
            (
                "environments",
                "Environments with a websocket",
                present.environments,
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
    pub(crate) environments: i64,
}
