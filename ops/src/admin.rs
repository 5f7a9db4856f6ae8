//! The admin listener: HTTP on an address of its own, loopback unless somebody insists.
//!
//! | path | answer |
//! |---|---|
//! | `/livez` | 200 while the process answers |
//! | `/readyz` | 200 while it does its work, else 503 |
//! | `/metrics` | numbers, in the text form of Prometheus (OpenMetrics) |
//! | `/status` | JSON: what it does, since when, why, when it tries again |
//!
//! Nothing here changes anything, and nothing shown is secret; but a web page has no business here, so
//! the request's `Host` must name the listener (a page that has its own name point to this machine gives
//! itself away by that), and a request with an `Origin` is refused.

use std::convert::Infallible;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Method, Request, Response, StatusCode, header};
use http_body_util::Full;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use prometheus_client::encoding::text::encode;
use prometheus_client::registry::Registry;
use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio::task::JoinSet;

/// What an admin listener shows.
pub trait Source: Send + Sync + 'static {
    /// Whether the program does its work.
    fn is_ready(&self) -> impl Future<Output = bool> + Send;

    /// The present numbers.
    fn metrics(&self) -> Registry;

    /// The body of `/status`.
    fn status(&self) -> serde_json::Value;
}

/// What `/metrics` shows; empty if it cannot be written.
pub fn numbers(source: &impl Source) -> String {
    let mut text = String::new();
    // A string takes everything.
    let _ = encode(&mut text, &source.metrics());
    text
}

/// A bound admin listener.
#[derive(Debug)]
pub struct Admin {
    listener: TcpListener,
    address: SocketAddr,
}

impl Admin {
    /// Binds the listener. Must be called inside a runtime.
    ///
    /// # Errors
    ///
    /// When the system refuses.
    pub fn bind(address: SocketAddr) -> io::Result<Self> {
        let socket = match address {
            SocketAddr::V4(_) => TcpSocket::new_v4(),
            SocketAddr::V6(_) => TcpSocket::new_v6(),
        }?;
        socket.set_reuseaddr(true)?;
        // A program that takes over from another one of the same user is there before that has gone.
        socket.set_reuseport(true)?;
        socket.bind(address)?;
        let listener = socket.listen(BACKLOG)?;
        let address = listener.local_addr()?;
        Ok(Self { listener, address })
    }

    /// Where it listens, with the real port.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Answers until dropped.
    pub async fn run(self, source: Arc<impl Source>) -> Infallible {
        let mut connections = JoinSet::new();
        loop {
            tokio::select! {
                Some(_) = connections.join_next() => {}
                accepted = self.listener.accept(), if connections.len() < MAX_CONNECTIONS => {
                    match accepted {
                        Ok((stream, _)) => {
                            connections.spawn(serve(stream, Arc::clone(&source), self.address));
                        }
                        Err(error) => {
                            tracing::warn!(%error, "cannot accept an admin connection");
                            tokio::time::sleep(ACCEPT_PAUSE).await;
                        }
                    }
                }
            }
        }
    }
}

async fn serve(stream: TcpStream, source: Arc<impl Source>, address: SocketAddr) {
    let service = service_fn(|request: Request<hyper::body::Incoming>| {
        let source = Arc::clone(&source);
        async move { Ok::<_, Infallible>(answer(&request, &*source, address).await) }
    });
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEAD_TIMEOUT)
        .max_buf_size(HEAD_BYTES)
        .serve_connection(TokioIo::new(stream), service);
    // Whoever asks may go away at any time.
    let _ = connection.await;
}

async fn answer<B>(
    request: &Request<B>,
    source: &impl Source,
    address: SocketAddr,
) -> Response<Full<Bytes>> {
    if !is_for(request.headers(), address) {
        return text(StatusCode::FORBIDDEN, "this host name is not served here\n");
    }
    let path = request.uri().path();
    if !matches!(path, "/livez" | "/readyz" | "/metrics" | "/status") {
        return text(StatusCode::NOT_FOUND, "there is nothing at this path\n");
    }
    if !matches!(*request.method(), Method::GET | Method::HEAD) {
        let mut response = text(StatusCode::METHOD_NOT_ALLOWED, "only GET is allowed here\n");
        let allow = HeaderValue::from_static("GET");
        response.headers_mut().insert(header::ALLOW, allow);
        return response;
    }
    match path {
        "/livez" => text(StatusCode::OK, "ok\n"),
        "/readyz" if source.is_ready().await => text(StatusCode::OK, "ready\n"),
        "/readyz" => text(StatusCode::SERVICE_UNAVAILABLE, "not ready\n"),
        "/metrics" => {
            let mut body = String::new();
            match encode(&mut body, &source.metrics()) {
                Ok(()) => respond(StatusCode::OK, METRICS_TYPE, body),
                Err(_) => text(StatusCode::INTERNAL_SERVER_ERROR, "no metrics\n"),
            }
        }
        _ => {
            let body = format!("{}\n", source.status());
            respond(StatusCode::OK, "application/json", body)
        }
    }
}

/// Whether the request names this listener: by an IP address, or on loopback as `localhost`.
fn is_for(headers: &HeaderMap, address: SocketAddr) -> bool {
    if headers.contains_key(header::ORIGIN) {
        return false;
    }
    let Some(host) = headers.get(header::HOST) else {
        // HTTP/1.0 has none, and no browser speaks it.
        return true;
    };
    let authority = host
        .to_str()
        .ok()
        .and_then(|host| host.parse::<http::uri::Authority>().ok());
    let Some(authority) = authority else {
        return false;
    };
    let name = authority
        .host()
        .trim_start_matches('[')
        .trim_end_matches(']');
    let is_loopback = address.ip().to_canonical().is_loopback();
    match name.parse::<IpAddr>() {
        // A name that a page could have point here is no address.
        Ok(named) => !is_loopback || named.to_canonical().is_loopback(),
        Err(_) => is_loopback && name.eq_ignore_ascii_case("localhost"),
    }
}

fn text(status: StatusCode, body: &'static str) -> Response<Full<Bytes>> {
    respond(status, "text/plain; charset=utf-8", body)
}

fn respond(
    status: StatusCode,
    kind: &'static str,
    body: impl Into<Bytes>,
) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::new(body.into()));
    *response.status_mut() = status;
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(kind));
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    response
}

const METRICS_TYPE: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";
const BACKLOG: u32 = 64;
const MAX_CONNECTIONS: usize = 32;
const HEAD_TIMEOUT: Duration = Duration::from_secs(10);
const HEAD_BYTES: usize = 16 << 10;
const ACCEPT_PAUSE: Duration = Duration::from_millis(200);

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "failing is how a test reports")]

    use std::sync::atomic::{AtomicBool, Ordering};

    use http_body_util::BodyExt as _;
    use prometheus_client::metrics::counter::Counter;
    use serde_json::json;

    use super::*;

    struct Fake(AtomicBool);

    impl Source for Fake {
        async fn is_ready(&self) -> bool {
            self.0.load(Ordering::Relaxed)
        }

        fn metrics(&self) -> Registry {
            let mut registry = Registry::default();
            let things = Counter::<u64>::default();
            things.inc_by(3);
            registry.register("fake_things", "Things", things);
            registry
        }

        fn status(&self) -> serde_json::Value {
            json!({"state": "serving"})
        }
    }

    const LOOPBACK: &str = "127.0.0.1:9000";

    async fn ask(
        method: &str,
        path: &str,
        headers: &[(&str, &str)],
        ready: bool,
        address: &str,
    ) -> (u16, String) {
        let mut request = Request::builder().method(method).uri(path);
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let fake = Fake(AtomicBool::new(ready));
        let request = request.body(()).unwrap();
        let response = answer(&request, &fake, address.parse().unwrap()).await;
        let status = response.status().as_u16();
        let body = response.into_body().collect().await.unwrap().to_bytes();
        (status, String::from_utf8(body.to_vec()).unwrap())
    }

    #[tokio::test]
    async fn answers_follow_the_table() {
        for (method, path, ready, status, body) in [
            ("GET", "/livez", false, 200, "ok\n"),
            ("GET", "/readyz", true, 200, "ready\n"),
            ("GET", "/readyz", false, 503, "not ready\n"),
            ("HEAD", "/readyz", true, 200, "ready\n"),
            ("GET", "/status", true, 200, "{\"state\":\"serving\"}\n"),
            ("POST", "/status", true, 405, "only GET is allowed here\n"),
            ("GET", "/", true, 404, "there is nothing at this path\n"),
            (
                "GET",
                "/metrics/",
                true,
                404,
                "there is nothing at this path\n",
            ),
        ] {
            let answer = ask(method, path, &[("host", LOOPBACK)], ready, LOOPBACK).await;
            assert_eq!(answer, (status, body.to_owned()), "{method} {path}");
        }
    }

    #[tokio::test]
    async fn metrics_are_in_the_text_form() {
        let (status, text) = ask("GET", "/metrics", &[], true, LOOPBACK).await;
        assert_eq!(status, 200);
        assert!(text.contains("# TYPE fake_things counter"), "{text}");
        assert!(text.contains("fake_things_total 3"), "{text}");
        assert!(text.ends_with("# EOF\n"), "{text}");
    }

    #[tokio::test]
    async fn only_requests_for_the_listener_are_answered() {
        let public = "192.0.2.1:9000";
        for (host, address, served) in [
            ("127.0.0.1:9000", LOOPBACK, true),
            ("localhost", LOOPBACK, true),
            ("LOCALHOST:1", LOOPBACK, true),
            ("[::1]:9000", LOOPBACK, true),
            ("attacker.example:9000", LOOPBACK, false),
            ("localhost.attacker.example", LOOPBACK, false),
            ("192.0.2.1", LOOPBACK, false),
            ("", LOOPBACK, false),
            ("192.0.2.1:9000", public, true),
            ("10.0.0.1", public, true),
            ("attacker.example", public, false),
        ] {
            let (status, _) = ask("GET", "/livez", &[("host", host)], true, address).await;
            assert_eq!(status == 200, served, "{host} at {address}");
        }
        let origin = [("host", LOOPBACK), ("origin", "http://127.0.0.1:9000")];
        assert_eq!(ask("GET", "/livez", &origin, true, LOOPBACK).await.0, 403);
    }
}
