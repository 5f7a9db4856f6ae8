//! The websocket upgrade, done as an HTTP/1.1 request by the HTTP library.
//!
//! ```text
//! GET {path}?{signed query} HTTP/1.1       HTTP/1.1 101 Switching Protocols
//! Connection: Upgrade                      Connection: Upgrade
//! Upgrade: websocket                       Upgrade: websocket
//! Sec-WebSocket-Version: 13                Sec-WebSocket-Accept: base64(sha1(key + GUID))
//! Sec-WebSocket-Key: base64(16 bytes)
//! ```
//!
//! That way the websocket takes the same proxies and trusts the same authorities as a registry
//! call. No subprotocol and no extension is offered, and none is accepted. No `User-Agent` and no
//! `Origin` is sent. The signed URL reaches no log: the HTTP library logs hosts only.

use http::header::{
    CONNECTION, HeaderMap, HeaderValue, SEC_WEBSOCKET_ACCEPT, SEC_WEBSOCKET_EXTENSIONS,
    SEC_WEBSOCKET_KEY, SEC_WEBSOCKET_PROTOCOL, SEC_WEBSOCKET_VERSION, UPGRADE,
};
use http::{HeaderName, StatusCode};
use hyper_util::client::proxy::matcher::Intercept;
use hyper_util::rt::TokioIo;
use reqwest::Upgraded;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::handshake::client::generate_key;
use tokio_tungstenite::tungstenite::handshake::derive_accept_key;
use tokio_tungstenite::tungstenite::protocol::{Role, WebSocketConfig};
use tracing::Instrument as _;
use tracing::field::Empty;
use url::Url;

use super::error::{ConnectError, TransportError};
use super::{Connector, Route, network, trace_headers, tunnel};
use crate::bundle::RendezvousUrl;
use crate::limits;
use crate::retry_after;
use crate::wire::{REJECTION_REASON_HEADER, RejectionReason};

/// The connection under a websocket.
pub type WebSocketIo = Upgraded;

/// An open websocket, as the client end of it.
pub type WebSocket = WebSocketStream<WebSocketIo>;

impl Connector {
    /// Opens a websocket to `url`, with `headers` besides those of the upgrade.
    ///
    /// The whole attempt, from name resolution to the 101, has the configured websocket timeout.
    /// Messages and frames above the relay's limit of 262,144 bytes end the connection when read.
    ///
    /// # Errors
    ///
    /// [`ConnectError::Rejected`] for any other status than 101, the rest of [`ConnectError`] for
    /// everything else.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future closes the connection.
    pub async fn websocket(
        &self,
        url: &RendezvousUrl,
        headers: HeaderMap,
    ) -> Result<WebSocket, ConnectError> {
        let limit = self.websocket_timeout;
        let target = url.as_http()?;
        let route = self.route(&target);
        let span = telemetry::span!("client", "websocket", otel.status_code = Empty);
        let mut headers = headers;
        trace_headers(&span, &mut headers);
        let upgrade = self.upgrade(target, &route, headers);
        let upgrade = upgrade.instrument(span.clone());
        let result = match tokio::time::timeout(limit, upgrade).await {
            Ok(result) => result,
            Err(_) => Err(TransportError::Timeout { route, limit }.into()),
        };
        result.inspect_err(|_| {
            span.record("otel.status_code", "ERROR");
        })
    }

    async fn upgrade(
        &self,
        target: Url,
        route: &Route,
        mut headers: HeaderMap,
    ) -> Result<WebSocket, ConnectError> {
        let key = generate_key();
        headers.insert(CONNECTION, HeaderValue::from_static("Upgrade"));
        headers.insert(UPGRADE, HeaderValue::from_static("websocket"));
        headers.insert(SEC_WEBSOCKET_VERSION, HeaderValue::from_static("13"));
        headers.insert(
            SEC_WEBSOCKET_KEY,
            HeaderValue::from_str(&key).map_err(|_| ConnectError::Protocol {
                problem: "unusable key",
            })?,
        );
        let stream = match (&self.network, self.tunnel_for(&target)) {
            (Some(network), _) => {
                let check = |status, headers: &HeaderMap| check(route, status, headers, &key);
                let io = network::open(network, &target, route).await?;
                tunnel::take_over(TokioIo::new(io), &target, route, headers, check).await?
            }
            (None, Some(proxy)) => {
                let check = |status, headers: &HeaderMap| check(route, status, headers, &key);
                tunnel::upgrade(&proxy, &target, route, headers, check).await?
            }
            (None, None) if target.scheme() == "http" && self.plain_is_direct => {
                let check = |status, headers: &HeaderMap| check(route, status, headers, &key);
                tunnel::upgrade_directly(&target, route, headers, check).await?
            }
            (None, None) => {
                let broken = |error| TransportError::from_reqwest(route.clone(), error);
                let request = self.upgrade.get(target).headers(headers);
                let response = request.send().await.map_err(broken)?;
                check(route, response.status(), response.headers(), &key)?;
                response.upgrade().await.map_err(broken)?
            }
        };
        Ok(WebSocketStream::from_raw_socket(stream, Role::Client, Some(config())).await)
    }

    /// Returns the proxy through which a tunnel to this destination has to be opened here.
    fn tunnel_for(&self, target: &Url) -> Option<Intercept> {
        if target.scheme() != "http" {
            return None;
        }
        self.plain_tunnel
            .as_ref()?
            .intercept(&target.as_str().parse().ok()?)
    }
}

/// Returns a fresh value for the [`REQUEST_ID_HEADER`](crate::wire::REQUEST_ID_HEADER) header.
pub fn new_request_id() -> String {
    format!("req_{}", uuid::Uuid::new_v4().simple())
}

fn rejection(status: StatusCode, headers: &HeaderMap) -> ConnectError {
    let reason = headers
        .get(HeaderName::from_static(REJECTION_REASON_HEADER))
        .map(|value| {
            value.to_str().map_or(RejectionReason::Unknown, |text| {
                RejectionReason::parse(text.trim())
            })
        });
    let retry_after = retry_after::from_headers(headers);
    ConnectError::Rejected {
        status: status.as_u16(),
        reason,
        retry_after,
    }
}

/// Decides whether an answer to the request with `key` opens the websocket.
fn check(
    route: &Route,
    status: StatusCode,
    headers: &HeaderMap,
    key: &str,
) -> Result<(), ConnectError> {
    if status == StatusCode::PROXY_AUTHENTICATION_REQUIRED {
        // Only a proxy answers with 407; to take it for the rendezvous's judgement of the URL
        // would start a registration.
        let route = route.clone();
        return Err(TransportError::ProxyCredentials { route }.into());
    }
    if status != StatusCode::SWITCHING_PROTOCOLS {
        return Err(rejection(status, headers));
    }
    let problem = if !has_token(headers, UPGRADE, "websocket") {
        "upgrade header is not websocket"
    } else if !has_token(headers, CONNECTION, "upgrade") {
        "connection header is not upgrade"
    } else if headers.get(SEC_WEBSOCKET_ACCEPT).map(HeaderValue::as_bytes)
        != Some(derive_accept_key(key.as_bytes()).as_bytes())
    {
        "accept key does not belong to the request"
    } else if headers.contains_key(SEC_WEBSOCKET_PROTOCOL) {
        "subprotocol was not offered"
    } else if headers.contains_key(SEC_WEBSOCKET_EXTENSIONS) {
        "extension was not offered"
    } else {
        return Ok(());
    };
    Err(ConnectError::Protocol { problem })
}

fn has_token(headers: &HeaderMap, name: HeaderName, token: &str) -> bool {
    headers
        .get_all(name)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(','))
        .any(|value| value.trim().eq_ignore_ascii_case(token))
}

fn config() -> WebSocketConfig {
    let limit = Some(relay_proto::limits::WEBSOCKET_MESSAGE_BYTES);
    WebSocketConfig::default()
        .max_message_size(limit)
        .max_frame_size(limit)
        .write_buffer_size(limits::WEBSOCKET_WRITE_BUFFER_BYTES)
        .max_write_buffer_size(limits::WEBSOCKET_MAX_WRITE_BUFFER_BYTES)
}
