//! A stand-in for an OpenTelemetry collector: takes what is exported over HTTP, and shows it.

use std::{
    collections::BTreeMap,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicUsize, Ordering},
    },
};

use anyhow::Result;
use axum::{
    Router,
    body::Bytes,
    extract::State,
    http::{HeaderMap, StatusCode, header},
    routing::post,
};
use opentelemetry_proto::tonic::{
    collector::{metrics::v1::ExportMetricsServiceRequest, trace::v1::ExportTraceServiceRequest},
    common::v1::{KeyValue, any_value},
    metrics::v1::{metric, number_data_point},
    resource::v1::Resource,
};
use prost::Message;
use tokio::task::JoinSet;

use crate::web;

/// The running collector. Dropping it stops it.
#[derive(Debug)]
pub struct Collector {
    url: String,
    state: Arc<Seen>,
    _server: JoinSet<()>,
}

/// A span that was exported.
#[derive(Debug, Clone, PartialEq)]
pub struct SeenSpan {
    /// Who exported it.
    pub service: String,
    /// What it is called.
    pub name: String,
    /// 1 internal, 2 server, 3 client.
    pub kind: i32,
    /// Hexadecimal, as all ids here.
    pub trace: String,
    /// Its own id.
    pub id: String,
    /// That of its parent; empty if it has none.
    pub parent: String,
    /// Its attributes, as texts.
    pub attributes: BTreeMap<String, String>,
    /// How many events it has.
    pub events: usize,
}

/// A number that was exported: service, name, attributes.
pub type SeenNumber = (String, String, BTreeMap<String, String>);

#[derive(Debug, Default)]
struct Seen {
    refuses: bool,
    requests: AtomicUsize,
    spans: Mutex<Vec<SeenSpan>>,
    numbers: Mutex<BTreeMap<SeenNumber, i64>>,
}

impl Collector {
    /// Starts it on a free loopback port.
    ///
    /// # Errors
    ///
    /// When no port can be bound.
    pub async fn start() -> Result<Self> {
        Self::serve(Seen::default()).await
    }

    /// Starts one that answers everything with 503.
    ///
    /// # Errors
    ///
    /// When no port can be bound.
    pub async fn refusing() -> Result<Self> {
        Self::serve(Seen {
            refuses: true,
            ..Seen::default()
        })
        .await
    }

    async fn serve(seen: Seen) -> Result<Self> {
        let (listener, url) = web::bind().await?;
        let state = Arc::new(seen);
        let router = Router::new()
            .route("/v1/traces", post(traces))
            .route("/v1/metrics", post(metrics))
            .with_state(Arc::clone(&state));
        Ok(Self {
            url,
            state,
            _server: web::serve(listener, router),
        })
    }

    /// Base URL, without a slash at the end.
    pub fn url(&self) -> &str {
        &self.url
    }

    /// How many exports there were, whatever became of them.
    pub fn requests(&self) -> usize {
        self.state.requests.load(Ordering::Relaxed)
    }

    /// All spans so far.
    pub fn spans(&self) -> Vec<SeenSpan> {
        lock(&self.state.spans).clone()
    }

    /// All numbers, with the value that was exported last.
    pub fn numbers(&self) -> BTreeMap<SeenNumber, i64> {
        lock(&self.state.numbers).clone()
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Seen {
    /// Counts a request and takes it apart, or says how it is answered instead.
    fn take<M: Message + Default>(
        &self,
        headers: &HeaderMap,
        body: Bytes,
    ) -> Result<M, StatusCode> {
        self.requests.fetch_add(1, Ordering::Relaxed);
        if self.refuses {
            return Err(StatusCode::SERVICE_UNAVAILABLE);
        }
        let kind = headers.get(header::CONTENT_TYPE);
        if kind.is_none_or(|kind| kind != "application/x-protobuf") {
            return Err(StatusCode::UNSUPPORTED_MEDIA_TYPE);
        }
        M::decode(body).map_err(|_| StatusCode::BAD_REQUEST)
    }
}

async fn traces(
    State(seen): State<Arc<Seen>>,
    headers: HeaderMap,
    body: Bytes,
) -> Result<(), StatusCode> {
    let request: ExportTraceServiceRequest = seen.take(&headers, body)?;
    for from in request.resource_spans {
        let service = service(from.resource.as_ref());
        for span in from.scope_spans.into_iter().flat_map(|scope| scope.spans) {
            lock(&seen.spans).push(SeenSpan {
                service: service.clone(),
                name: span.name,
                kind: span.kind,
                trace: hex(&span.trace_id),
                id: hex(&span.span_id),
                parent: hex(&span.parent_span_id),
                attributes: texts(&span.attributes),
                events: span.events.len(),
            });
        }
    }
    Ok(())
}

async fn metrics(
    State(seen): State<Arc<Seen>>,
    headers: HeaderMap,
    body: Bytes,
) -> Result<(), StatusCode> {
    let request: ExportMetricsServiceRequest = seen.take(&headers, body)?;
    for from in request.resource_metrics {
        let service = service(from.resource.as_ref());
        for metric in from
            .scope_metrics
            .into_iter()
            .flat_map(|scope| scope.metrics)
        {
            let points = match metric.data {
                Some(metric::Data::Sum(sum)) => sum.data_points,
                Some(metric::Data::Gauge(gauge)) => gauge.data_points,
                _ => return Err(StatusCode::BAD_REQUEST),
            };
            for point in points {
                let Some(number_data_point::Value::AsInt(value)) = point.value else {
                    return Err(StatusCode::BAD_REQUEST);
                };
                let name = metric.name.clone();
                let key = (service.clone(), name, texts(&point.attributes));
                lock(&seen.numbers).insert(key, value);
            }
        }
    }
    Ok(())
}

fn service(resource: Option<&Resource>) -> String {
    let attributes = resource.map(|resource| texts(&resource.attributes));
    attributes
        .and_then(|mut attributes| attributes.remove("service.name"))
        .unwrap_or_default()
}

fn texts(attributes: &[KeyValue]) -> BTreeMap<String, String> {
    let texts = attributes.iter().map(|pair| {
        let value = pair.value.as_ref().and_then(|value| value.value.as_ref());
        let text = match value {
            Some(any_value::Value::StringValue(text)) => text.clone(),
            Some(any_value::Value::IntValue(number)) => number.to_string(),
            Some(any_value::Value::BoolValue(value)) => value.to_string(),
            other => format!("{other:?}"),
        };
        (pair.key.clone(), text)
    });
    texts.collect()
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}
