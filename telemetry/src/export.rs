//! Spans and numbers go to a collector, over OTLP (HTTP and protobuf).
//!
//! Nothing waits for the collector. Spans queue up to the limit of the batches
//! (`OTEL_BSP_MAX_QUEUE_SIZE`, 2048 unless it is set) and are dropped beyond; numbers are read anew each time.
//! When exports begin to fail, that is logged once, and once more when they work again.

use std::{
    fmt,
    future::Future,
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, SystemTime},
};

use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, Request, Response};
use opentelemetry::trace::TracerProvider as _;
use opentelemetry_http::{HttpClient, HttpError};
use opentelemetry_otlp::{WithExportConfig as _, WithHttpConfig as _};
use opentelemetry_sdk::{Resource, trace::SdkTracerProvider};
use tokio::{runtime::Handle, task::JoinHandle};
use tracing_subscriber::{Layer as _, filter::filter_fn};
use url::Url;

use crate::{logging::SpanLayer, numbers, plan::Plan, trace::TARGET};

/// Exports until it is finished.
pub struct Export {
    plan: Plan,
    resource: Resource,
    sender: Sender,
    spans: Option<SdkTracerProvider>,
    numbers: Option<(JoinHandle<()>, Arc<Numbers>)>,
}

impl Export {
    /// Begins, if there is a plan. `client` makes what sends requests; `runtime` is what they run on.
    ///
    /// # Errors
    ///
    /// When there is no client, or the variables of the exporter cannot be used.
    pub fn start<E: fmt::Display>(
        program: &'static str,
        version: &'static str,
        plan: Option<Plan>,
        client: impl FnOnce() -> Result<reqwest::Client, E>,
        runtime: &Handle,
    ) -> Result<Option<Self>, String> {
        let Some(plan) = plan else {
            return Ok(None);
        };
        let sender = Sender {
            client: client().map_err(|error| error.to_string())?,
            runtime: runtime.clone(),
            timeout: plan.timeout,
            is_failing: Arc::default(),
        };
        let resource = resource(program, version);
        let exporter = |url: &Url| {
            opentelemetry_otlp::SpanExporter::builder()
                .with_http()
                .with_http_client(sender.clone())
                .with_endpoint(url.as_str())
                .with_timeout(plan.timeout)
                .build()
        };
        let spans = plan.traces.as_ref().map(exporter).transpose();
        let spans = spans.map_err(|error| format!("spans cannot be exported: {error}"))?;
        let spans = spans.map(|exporter| {
            SdkTracerProvider::builder()
                .with_resource(resource.clone())
                .with_batch_exporter(exporter)
                .build()
        });
        Ok(Some(Self {
            plan,
            resource,
            sender,
            spans,
            numbers: None,
        }))
    }

    /// What takes the spans of this process.
    pub fn layer(&self) -> Option<SpanLayer> {
        let tracer = self.spans.as_ref()?.tracer("remote-executor");
        let layer = tracing_opentelemetry::layer()
            .with_tracer(tracer)
            // Of the sources, and of no use to operators.
            .with_location(false)
            .with_threads(false)
            .with_target(false)
            .with_level(false)
            .with_tracked_inactivity(false)
            // Events are log lines.
            .with_filter(filter_fn(|metadata| {
                metadata.is_span() && metadata.target() == TARGET
            }));
        Some(layer.boxed())
    }

    /// Exports from now on what `read` gives, in the form of `/metrics`.
    pub fn numbers(&mut self, read: impl Fn() -> String + Send + Sync + 'static) {
        let Some(url) = self.plan.metrics.clone() else {
            return;
        };
        let numbers = Arc::new(Numbers {
            read: Box::new(read),
            url,
            headers: headers(&self.plan.headers),
            resource: self.resource.clone(),
            since: SystemTime::now(),
            sender: self.sender.clone(),
        });
        let (again, interval) = (Arc::clone(&numbers), self.plan.interval);
        let task = self.sender.runtime.spawn(async move {
            loop {
                tokio::time::sleep(interval).await;
                again.send().await;
            }
        });
        self.numbers = Some((task, numbers));
    }

    /// Exports what is left; takes 2 s at most. Must be called outside of the runtime, which must still run.
    pub fn finish(self) {
        let runtime = &self.sender.runtime;
        if let Some((task, numbers)) = &self.numbers {
            task.abort();
            // Either way it is over.
            let _ = runtime.block_on(async { tokio::time::timeout(LAST, numbers.send()).await });
        }
        if let Some(spans) = &self.spans {
            let _ = spans.shutdown_with_timeout(LAST);
        }
    }
}

impl fmt::Debug for Export {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Export").finish_non_exhaustive()
    }
}

/// Who exports. `OTEL_SERVICE_NAME` and `OTEL_RESOURCE_ATTRIBUTES` say more, or something else.
fn resource(program: &'static str, version: &'static str) -> Resource {
    let given = Resource::builder().build();
    let name = given
        .get(&"service.name".into())
        .map(|name| name.as_str().into_owned())
        .filter(|name| !name.starts_with("unknown_service"));
    Resource::builder()
        .with_service_name(name.unwrap_or_else(|| program.to_owned()))
        .with_attribute(opentelemetry::KeyValue::new("service.version", version))
        .build()
}

fn headers(pairs: &[(String, String)]) -> HeaderMap {
    let usable = pairs.iter().filter_map(|(name, value)| {
        let name: HeaderName = name.parse().ok()?;
        let mut value: HeaderValue = value.parse().ok()?;
        value.set_sensitive(true);
        Some((name, value))
    });
    usable.collect()
}

/// What is exported again and again.
struct Numbers {
    read: Box<dyn Fn() -> String + Send + Sync>,
    url: Url,
    headers: HeaderMap,
    resource: Resource,
    since: SystemTime,
    sender: Sender,
}

impl Numbers {
    async fn send(&self) {
        let body = numbers::encode(
            &(self.read)(),
            &self.resource,
            self.since,
            SystemTime::now(),
        );
        let mut request = Request::new(Bytes::from(body));
        *request.method_mut() = http::Method::POST;
        let Ok(uri) = self.url.as_str().parse() else {
            return;
        };
        *request.uri_mut() = uri;
        *request.headers_mut() = self.headers.clone();
        let protobuf = HeaderValue::from_static("application/x-protobuf");
        request
            .headers_mut()
            .insert(http::header::CONTENT_TYPE, protobuf);
        // Told already.
        let _ = self.sender.exchange(request).await;
    }
}

/// Sends requests with a client of ours, and so by the same proxies and authorities as all others.
#[derive(Clone)]
struct Sender {
    client: reqwest::Client,
    runtime: Handle,
    timeout: Duration,
    is_failing: Arc<AtomicBool>,
}

impl Sender {
    /// Sends a request, and tells when such begin to fail and when they work again.
    async fn exchange(&self, request: Request<Bytes>) -> Result<Response<Bytes>, HttpError> {
        let host = request.uri().host().unwrap_or_default().to_owned();
        let result = match tokio::time::timeout(self.timeout, self.send(request)).await {
            Ok(result) => result,
            Err(_) => Err(format!("no answer within {:?}", self.timeout).into()),
        };
        let problem = match &result {
            Ok(response) if response.status().is_success() => None,
            Ok(response) => Some(format!("it answered {}", response.status())),
            Err(error) => Some(error.to_string()),
        };
        let was_failing = self.is_failing.swap(problem.is_some(), Ordering::Relaxed);
        match problem {
            Some(error) if !was_failing => {
                tracing::warn!(
                    host,
                    error,
                    "cannot export to the collector; spans and numbers are lost until it answers"
                );
            }
            None if was_failing => tracing::info!(host, "exporting to the collector again"),
            _ => {}
        }
        result
    }

    async fn send(&self, request: Request<Bytes>) -> Result<Response<Bytes>, HttpError> {
        let request = reqwest::Request::try_from(request).map_err(reqwest::Error::without_url)?;
        let sent = self.client.execute(request).await;
        let mut response = sent.map_err(reqwest::Error::without_url)?;
        let mut body = Vec::new();
        while let Some(chunk) = response
            .chunk()
            .await
            .map_err(reqwest::Error::without_url)?
        {
            if body.len() + chunk.len() > ANSWER_BYTES {
                return Err(format!("its answer exceeds the limit of {ANSWER_BYTES} bytes").into());
            }
            body.extend_from_slice(&chunk);
        }
        let mut answer = Response::new(Bytes::from(body));
        *answer.status_mut() = response.status();
        *answer.headers_mut() = std::mem::take(response.headers_mut());
        Ok(answer)
    }
}

impl fmt::Debug for Sender {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Sender").finish_non_exhaustive()
    }
}

impl HttpClient for Sender {
    /// Called on the thread that makes the batches, which has no runtime.
    fn send_bytes<'a, 'b>(
        &'a self,
        request: Request<Bytes>,
    ) -> Pin<Box<dyn Future<Output = Result<Response<Bytes>, HttpError>> + Send + 'b>>
    where
        'a: 'b,
        Self: 'b,
    {
        let sender = self.clone();
        let sent = self
            .runtime
            .spawn(async move { sender.exchange(request).await });
        Box::pin(async move { sent.await? })
    }
}

/// How long the last export of each kind may take.
const LAST: Duration = Duration::from_secs(1);
/// More than any collector has to say.
const ANSWER_BYTES: usize = 64 * 1024;
