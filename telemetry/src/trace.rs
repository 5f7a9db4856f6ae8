//! Trace context (W3C): which span is the parent of another one, in another process.
//!
//! Without the feature `otlp`, and while nothing is exported, there is no context.

use tracing::Span;

/// Target of the spans that are exported. Logs do not show them.
pub const TARGET: &str = "telemetry::span";

/// Header, member or variable with the parent; the variable is in capitals.
pub const PARENT: &str = "traceparent";
/// The same with what vendors add.
pub const STATE: &str = "tracestate";

/// A span as others see it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TraceContext {
    /// The value of `traceparent`.
    pub parent: String,
    /// The value of `tracestate`, if there is one.
    pub state: Option<String>,
}

impl TraceContext {
    /// Its members, as they are called in headers.
    pub fn members(self) -> impl Iterator<Item = (&'static str, String)> {
        let state = self.state.map(|state| (STATE, state));
        std::iter::once((PARENT, self.parent)).chain(state)
    }
}

/// The context of the current span.
pub fn current() -> Option<TraceContext> {
    of(&Span::current())
}

/// The context of `span`, which has begun from then on.
#[cfg(feature = "otlp")]
pub fn of(span: &Span) -> Option<TraceContext> {
    use opentelemetry::trace::TraceContextExt as _;
    use tracing_opentelemetry::OpenTelemetrySpanExt as _;

    // One that is exported by nobody.
    span.id()?;
    let context = span.context();
    let own = context.span();
    let own = own.span_context();
    if !own.is_valid() {
        return None;
    }
    let (trace, id, flags) = (own.trace_id(), own.span_id(), own.trace_flags().to_u8());
    let state = own.trace_state().header();
    Some(TraceContext {
        parent: format!("00-{trace}-{id}-{flags:02x}"),
        state: Some(state).filter(|state| !state.is_empty()),
    })
}

/// The context of `span`: built without the feature, there is none.
#[cfg(not(feature = "otlp"))]
pub fn of(span: &Span) -> Option<TraceContext> {
    let _ = span;
    None
}

/// Makes a span of another process the parent of `span`, which must not have begun. What is no trace
/// context is ignored.
#[cfg(feature = "otlp")]
pub fn follow(span: &Span, parent: Option<&str>, state: Option<&str>) {
    use std::collections::HashMap;

    use opentelemetry::{Context, propagation::TextMapPropagator as _};
    use opentelemetry_sdk::propagation::TraceContextPropagator;
    use tracing_opentelemetry::OpenTelemetrySpanExt as _;

    let Some(parent) = parent.filter(|_| !span.is_disabled()) else {
        return;
    };
    let given = [(PARENT, Some(parent)), (STATE, state)];
    let given: HashMap<String, String> = given
        .into_iter()
        .filter_map(|(name, value)| Some((name.to_owned(), value?.to_owned())))
        .collect();
    let context = TraceContextPropagator::new().extract_with_context(&Context::new(), &given);
    // Only that nobody exports it.
    let _ = span.set_parent(context);
}

/// Built without the feature, this does nothing.
#[cfg(not(feature = "otlp"))]
pub fn follow(span: &Span, parent: Option<&str>, state: Option<&str>) {
    let _ = (span, parent, state);
}

/// Makes a span that is exported, with a name and a kind (`client`, `server` or `internal`) that are fixed
/// texts. Further fields are attributes, which must hold no argument, path or secret.
#[macro_export]
macro_rules! span {
    ($kind:literal, $name:expr $(, $($fields:tt)*)?) => {
        $crate::tracing::info_span!(
            target: $crate::trace::TARGET,
            "span",
            otel.name = $name,
            otel.kind = $kind,
            $($($fields)*)?
        )
    };
}

#[cfg(all(test, feature = "otlp"))]
mod tests {
    #![allow(clippy::unwrap_used, reason = "failing is how a test reports")]

    use opentelemetry::trace::TracerProvider as _;
    use opentelemetry_sdk::trace::SdkTracerProvider;
    use tracing::subscriber::with_default;
    use tracing_subscriber::layer::SubscriberExt as _;

    use super::*;

    const PARENT_VALUE: &str = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";

    fn exporting(work: impl FnOnce()) {
        let provider = SdkTracerProvider::builder().build();
        let layer = tracing_opentelemetry::layer().with_tracer(provider.tracer("test"));
        with_default(tracing_subscriber::registry().with(layer), work);
    }

    #[test]
    fn a_span_that_follows_is_of_the_same_trace_and_keeps_its_state() {
        exporting(|| {
            let span = crate::span!("server", "test");
            follow(&span, Some(PARENT_VALUE), Some("vendor=1"));
            let context = of(&span).unwrap();
            let parts: Vec<_> = context.parent.split('-').collect();
            assert_eq!(
                [parts[0], parts[1], parts[3]],
                ["00", &PARENT_VALUE[3..35], "01"]
            );
            assert_ne!(parts[2], &PARENT_VALUE[36..52]);
            assert_eq!(context.state.as_deref(), Some("vendor=1"));
            let inner = span.in_scope(|| crate::span!("internal", "inner"));
            assert_eq!(of(&inner).unwrap().parent[3..35], PARENT_VALUE[3..35]);
        });
    }

    #[test]
    fn what_is_no_context_is_ignored() {
        exporting(|| {
            for parent in [
                "",
                "x",
                "00-0-0-01",
                &PARENT_VALUE[5..],
                &"0".repeat(100_000),
            ] {
                let span = crate::span!("server", "test");
                follow(&span, Some(parent), Some("\u{0}"));
                let context = of(&span).unwrap();
                assert_ne!(
                    context.parent[3..35],
                    PARENT_VALUE[3..35],
                    "{}",
                    parent.len()
                );
            }
        });
    }

    #[test]
    fn nobody_who_exports_means_no_span() {
        let span = crate::span!("client", "test");
        follow(&span, Some(PARENT_VALUE), None);
        assert!(span.is_disabled());
        assert_eq!((of(&span), current()), (None, None));
    }
}
