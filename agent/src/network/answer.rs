//! What the HTTP proxy answers itself.

use bytes::Bytes;
use http::header::CONTENT_TYPE;
use http::{HeaderValue, Response, StatusCode};
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt as _, Full};
use serde::Serialize;

use super::decide::{Blocked, DENIED, LOCAL, METHOD_NOT_ALLOWED, MITM_REQUIRED, NOT_ALLOWED};

/// The body of any answer, made here or passed on.
pub(super) type Body = UnsyncBoxBody<Bytes, hyper::Error>;

/// The body of a refused request.
#[derive(Serialize)]
struct BlockedBody<'a> {
    status: &'static str,
    host: &'a str,
    reason: &'a str,
    decision: &'a str,
    source: &'a str,
    protocol: &'static str,
    port: u16,
    message: &'static str,
}

/// The refusal of a request, as JSON.
pub(super) fn blocked_request(blocked: &Blocked, host: &str, port: u16) -> Response<Body> {
    let (kind, message) = texts(&blocked.reason);
    let body = BlockedBody {
        status: "blocked",
        host,
        reason: &blocked.reason,
        decision: blocked.decision,
        source: blocked.source,
        protocol: "http",
        port,
        message,
    };
    let body = serde_json::to_vec(&body).unwrap_or_default();
    let mut response = answer(StatusCode::FORBIDDEN, JSON, body.into());
    mark(&mut response, kind);
    response
}

/// The refusal of a tunnel, as text: that is what tools show.
pub(super) fn blocked_tunnel(blocked: &Blocked) -> Response<Body> {
    let (kind, message) = texts(&blocked.reason);
    let mut response = text(StatusCode::FORBIDDEN, message);
    mark(&mut response, kind);
    response
}

/// An answer of one line.
pub(super) fn text(status: StatusCode, text: &'static str) -> Response<Body> {
    answer(status, PLAIN, Bytes::from_static(text.as_bytes()))
}

/// The answer that opens a tunnel.
pub(super) fn opened() -> Response<Body> {
    Response::new(body(Bytes::new()))
}

fn answer(status: StatusCode, kind: HeaderValue, content: Bytes) -> Response<Body> {
    let mut response = Response::new(body(content));
    *response.status_mut() = status;
    response.headers_mut().insert(CONTENT_TYPE, kind);
    response
}

fn body(content: Bytes) -> Body {
    Full::new(content)
        .map_err(|never| match never {})
        .boxed_unsync()
}

fn mark(response: &mut Response<Body>, kind: &'static str) {
    let kind = HeaderValue::from_static(kind);
    response.headers_mut().insert("x-proxy-error", kind);
}

/// The kind and the message of a reason.
fn texts(reason: &str) -> (&'static str, &'static str) {
    match reason {
        NOT_ALLOWED => ("blocked-by-allowlist", "Domain not in allowlist."),
        LOCAL => (
            "blocked-by-allowlist",
            "Sandbox policy blocks local/private network addresses.",
        ),
        DENIED => (
            "blocked-by-denylist",
            "Domain denied by the sandbox policy.",
        ),
        METHOD_NOT_ALLOWED => (
            "blocked-by-method-policy",
            "Method not allowed in limited mode.",
        ),
        MITM_REQUIRED => (
            "blocked-by-mitm-required",
            "MITM required for limited HTTPS.",
        ),
        _ => ("blocked-by-policy", "Request blocked by network policy."),
    }
}

const JSON: HeaderValue = HeaderValue::from_static("application/json");
const PLAIN: HeaderValue = HeaderValue::from_static("text/plain");
