//! Log lines on standard error.

use std::io::{self, IsTerminal as _};

use tracing::{Level, Metadata, Subscriber, warn};
use tracing_subscriber::{
    Layer, Registry,
    filter::{FilterExt as _, ParseError, Targets, filter_fn},
    fmt::MakeWriter,
    layer::SubscriberExt as _,
    registry::LookupSpan,
    util::SubscriberInitExt as _,
};

use crate::trace::TARGET;

/// What a line looks like.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, clap::ValueEnum)]
pub enum LogFormat {
    /// For people.
    #[default]
    Text,
    /// One JSON object a line, with `timestamp`, `level` and `fields`.
    Json,
}

impl settings::Value for LogFormat {
    fn parse(text: &str) -> Result<Self, String> {
        settings::value::parse_choice(text)
    }

    fn show(&self) -> String {
        settings::value::show_choice(self)
    }
}

/// What takes spans that are exported.
pub type SpanLayer = Box<dyn Layer<Registry> + Send + Sync>;

/// How a program logs.
#[derive(Debug, Clone, Copy)]
pub struct Logging {
    /// The variable that has a filter for what is shown, such as `RUST_LOG`.
    pub variable: &'static str,
    /// The filter when it is not set, or cannot be used.
    pub default: &'static str,
    /// What a line looks like.
    pub format: LogFormat,
    /// Whether lines say which module they are from.
    pub targets: bool,
}

impl Logging {
    /// Starts logging to standard error; with colors on a terminal only.
    ///
    /// Whatever the variable says, the crates that handle requests are held at `info`: at finer levels
    /// they print URLs and headers, and those are credentials here.
    ///
    /// Spans go to `spans`, if there is something that takes them.
    pub fn start(self, spans: Option<SpanLayer>) {
        let given = std::env::var(self.variable).ok();
        let (filter, rejected) = self.filter(given.as_deref());
        let lines = self.lines(filter, io::stderr);
        // A second call finds a subscriber in place, which is as good.
        let layers: Vec<_> = std::iter::once(lines).chain(spans).collect();
        let _ = tracing_subscriber::registry().with(layers).try_init();
        if let Some(error) = rejected {
            let variable = self.variable;
            warn!(%error, "{variable} is not a valid filter; using the default");
        }
    }

    /// Levels by module, as in `info,relay_driver=trace`; there are no spans in the lines that anybody
    /// could want to choose by.
    fn filter(self, given: Option<&str>) -> (Targets, Option<ParseError>) {
        let default = || self.default.parse().unwrap_or_default();
        match given.map(str::trim).filter(|text| !text.is_empty()) {
            None => (default(), None),
            Some(text) => match text.parse() {
                Ok(filter) => (filter, None),
                Err(error) => (default(), Some(error)),
            },
        }
    }

    fn lines<S, W>(self, filter: Targets, writer: W) -> Box<dyn Layer<S> + Send + Sync>
    where
        S: Subscriber + for<'a> LookupSpan<'a>,
        W: for<'w> MakeWriter<'w> + Send + Sync + 'static,
    {
        let filter = filter.and(filter_fn(may_be_shown));
        let lines = tracing_subscriber::fmt::layer()
            .with_writer(writer)
            .with_target(self.targets);
        match self.format {
            LogFormat::Text => lines.with_ansi(has_colors()).with_filter(filter).boxed(),
            LogFormat::Json => lines.json().with_filter(filter).boxed(),
        }
    }
}

fn has_colors() -> bool {
    io::stderr().is_terminal() && std::env::var_os("NO_COLOR").is_none_or(|v| v.is_empty())
}

/// Caps the targets that could print credentials. Spans for export are no lines.
fn may_be_shown(metadata: &Metadata<'_>) -> bool {
    metadata.target() != TARGET
        && !CAPPED.iter().any(|(capped, level)| {
            metadata.level() > level
                && metadata
                    .target()
                    .strip_prefix(capped)
                    .is_some_and(|rest| rest.is_empty() || rest.starts_with("::"))
        })
}

/// Crates whose finer output shows URLs, headers or statements, and the finest level of each that does not.
const CAPPED: [(&str, Level); 11] = [
    ("axum", Level::INFO),
    ("h2", Level::INFO),
    ("hyper", Level::INFO),
    ("hyper_util", Level::INFO),
    ("reqwest", Level::INFO),
    ("rustls", Level::INFO),
    ("sqlx", Level::WARN),
    ("tokio_rustls", Level::INFO),
    ("tokio_tungstenite", Level::INFO),
    ("tower_http", Level::INFO),
    ("tungstenite", Level::INFO),
];

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "failing is how a test reports")]

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

    fn logging(format: LogFormat) -> Logging {
        Logging {
            variable: "NONE",
            default: "trace",
            format,
            targets: false,
        }
    }

    /// What is written while `work` logs, however fine it is.
    fn written(format: LogFormat, work: impl FnOnce()) -> String {
        let sink = Sink::default();
        let writer = sink.clone();
        let logging = logging(format);
        let lines = logging.lines(logging.filter(None).0, move || writer.clone());
        tracing::subscriber::with_default(tracing_subscriber::registry().with(lines), work);
        String::from_utf8(sink.0.lock().unwrap().clone()).unwrap()
    }

    #[test]
    fn a_filter_that_cannot_be_used_is_told_and_the_default_counts() {
        let logging = logging(LogFormat::Text);
        let default = logging.filter(None).0;
        assert!(default.would_enable("any", &Level::TRACE));
        for (given, is_rejected) in [
            ("", false),
            ("  ", false),
            ("a=b=c", true),
            ("a=loud", true),
        ] {
            let (filter, rejected) = logging.filter(Some(given));
            assert_eq!(
                (&filter, rejected.is_some()),
                (&default, is_rejected),
                "{given}"
            );
        }
        let (filter, rejected) = logging.filter(Some("warn,agent=debug"));
        assert!(rejected.is_none());
        assert!(filter.would_enable("agent::process", &Level::DEBUG));
        assert!(!filter.would_enable("server", &Level::INFO));
    }

    #[test]
    fn request_logs_of_libraries_are_capped_whatever_the_filter_says() {
        for format in [LogFormat::Text, LogFormat::Json] {
            let text = written(format, || {
                tracing::trace!(target: "tungstenite::handshake::client", "wss://x/?sig=SECRET");
                tracing::debug!(target: "hyper_util::client", "SECRET");
                tracing::info!(target: "sqlx::query", "SECRET");
                tracing::debug!(target: "hyperion", "kept: a crate of another name");
                tracing::warn!(target: "hyper_util::client", "kept: warnings");
                tracing::trace!(target: "exec_server", "kept: ours");
            });
            assert!(!text.contains("SECRET"), "{text}");
            assert_eq!(text.matches("kept:").count(), 3, "{text}");
        }
    }

    #[test]
    fn spans_for_export_are_disabled_while_there_are_only_lines() {
        let text = written(LogFormat::Text, || {
            let span = crate::span!("server", "exported", field = 1);
            assert!(span.is_disabled());
            span.in_scope(|| tracing::info!("line"));
        });
        assert!(
            text.ends_with("line\n") && !text.contains("exported"),
            "{text}"
        );
    }

    #[test]
    fn json_lines_are_objects_with_the_same_fields() {
        let text = written(LogFormat::Json, || tracing::info!(role = "x", "opened"));
        let [line] = text.lines().collect::<Vec<_>>()[..] else {
            panic!("one line: {text}");
        };
        assert!(line.starts_with('{') && line.ends_with('}'), "{line}");
        assert!(
            line.contains(r#""fields":{"message":"opened","role":"x"}"#),
            "{line}"
        );
    }
}
