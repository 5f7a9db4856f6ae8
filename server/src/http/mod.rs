//! HTTP: health, the registry's calls, and the websocket upgrade of the rendezvous.

mod error;
mod registry;
mod route;
mod upgrade;

use std::net::IpAddr;
use std::sync::Arc;

use axum::body::Body;
use http::{HeaderMap, HeaderValue, Method, Request, Response, StatusCode, Uri, header};
use telemetry::trace;
use tracing::field::Empty;
use tracing::{Instrument as _, Span};

use self::error::ApiError;
pub(crate) use self::registry::environment_id;
use self::route::Route;
use crate::auth::Access;
use crate::events;
use crate::service::Service;

/// Answers one request.
pub(crate) async fn handle(
    service: Arc<Service>,
    connected: IpAddr,
    request: Request<Body>,
) -> Response<Body> {
    let peer = peer(&service, connected, request.headers());
    if service.access == Access::Anyone && !is_local_request(request.headers(), request.uri()) {
        return ApiError::NotLocal.into_response();
    }
    let is_websocket = request.headers().contains_key(header::UPGRADE);
    let path = request.uri().path().to_owned();
    match route::parse(&path) {
        Route::Health => only_get(&request, || plain(StatusCode::OK, "ok\n")),
        Route::Ready => {
            let ready = service.is_ready().await;
            only_get(&request, || {
                if ready {
                    plain(StatusCode::OK, "ready\n")
                } else {
                    plain(StatusCode::SERVICE_UNAVAILABLE, "not ready\n")
                }
            })
        }
        Route::Registry { environment, call } => {
            let span = span(call.as_str(), request.headers());
            let handled = registry::handle(&service, peer, environment, call, request);
            let response = match handled.instrument(span.clone()).await {
                Ok(response) => response,
                Err(error) => {
                    events::call_refused(
                        peer,
                        call.as_str(),
                        error.status().as_u16(),
                        error.code(call),
                    );
                    error.into_response_to(call)
                }
            };
            told(&span, response)
        }
        Route::Rendezvous { environment } => {
            let span = span("websocket", request.headers());
            let handled = upgrade::handle(&service, peer, environment, request);
            told(&span, handled.instrument(span.clone()).await)
        }
        Route::Unknown if is_websocket => upgrade::unknown_route(peer, request.headers()),
        Route::Unknown => ApiError::NotFound.into_response(),
    }
}

/// A span below that of the client, if it says which that is.
fn span(name: &'static str, headers: &HeaderMap) -> Span {
    let span = telemetry::span!("server", name, http.response.status_code = Empty);
    let text = |name| headers.get(name).and_then(|value| value.to_str().ok());
    trace::follow(&span, text(trace::PARENT), text(trace::STATE));
    span
}

fn told(span: &Span, response: Response<Body>) -> Response<Body> {
    span.record("http.response.status_code", response.status().as_u16());
    response
}

fn only_get(request: &Request<Body>, answer: impl FnOnce() -> Response<Body>) -> Response<Body> {
    if request.method() == Method::GET || request.method() == Method::HEAD {
        answer()
    } else {
        ApiError::MethodNotAllowed { allow: "GET" }.into_response()
    }
}

fn plain(status: StatusCode, text: &'static str) -> Response<Body> {
    let mut response = Response::new(Body::from(text));
    *response.status_mut() = status;
    response.headers_mut().insert(
        header::CONTENT_TYPE,
        HeaderValue::from_static("text/plain; charset=utf-8"),
    );
    response
}

/// An id that a peer sends for diagnosis, if it is one that can be logged as it is.
fn printable<'a>(headers: &'a HeaderMap, name: &str) -> &'a str {
    headers
        .get(name)
        .and_then(|value| value.to_str().ok())
        .filter(|text| text.len() <= 64)
        .filter(|text| {
            text.bytes()
                .all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-'))
        })
        .unwrap_or_default()
}

/// The address that failures are counted for. Behind a proxy it is the last one in
/// `X-Forwarded-For`: the one that the proxy itself has seen.
fn peer(service: &Service, connected: IpAddr, headers: &HeaderMap) -> IpAddr {
    if !service.behind_proxy {
        return connected;
    }
    headers
        .get_all("x-forwarded-for")
        .iter()
        .next_back()
        .and_then(|value| value.to_str().ok())
        .and_then(|value| value.rsplit(',').next())
        .and_then(|address| address.trim().parse().ok())
        .unwrap_or(connected)
}

/// Whether the request comes from a program on this machine, and not from a web page that has its
/// own name point here. Development mode takes any token, so this is all that keeps pages out.
fn is_local_request(headers: &HeaderMap, uri: &Uri) -> bool {
    if headers.contains_key(header::ORIGIN) {
        return false;
    }
    let host = match (headers.get(header::HOST), uri.host()) {
        (Some(host), _) => host.to_str().unwrap_or_default(),
        (None, Some(host)) => host,
        // HTTP/1.0 has no host, and no browser speaks it.
        (None, None) => return true,
    };
    let Ok(authority) = host.parse::<http::uri::Authority>() else {
        return false;
    };
    let name = authority
        .host()
        .trim_start_matches('[')
        .trim_end_matches(']');
    name.eq_ignore_ascii_case("localhost")
        || name
            .parse::<IpAddr>()
            .is_ok_and(|address| address.is_loopback())
}

#[cfg(test)]
mod tests;
