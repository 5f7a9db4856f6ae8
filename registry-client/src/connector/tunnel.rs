//! A websocket without TLS through an HTTP proxy.
//!
//! For such a destination the HTTP library would forward the request in its absolute form, and
//! forward proxies drop the upgrade headers of that. So a tunnel is asked for, as RFC 6455 section
//! 4.1 says, and the upgrade request goes through it:
//!
//! ```text
//! CONNECT host:port HTTP/1.1               HTTP/1.1 200 OK
//! Proxy-Authorization: Basic ...
//! GET {path} HTTP/1.1 ...                  HTTP/1.1 101 Switching Protocols
//! ```
//!
//! Everything else that a proxy can be asked for is left to the HTTP library, and so is TLS.
//!
//! A websocket without TLS and without a proxy is opened here as well, for the sake of one option
//! that the library does not set on its sockets: how much the system takes before it is sent.

use std::io;
use std::pin::pin;

use futures_util::FutureExt;
use http::header::{HOST, PROXY_AUTHORIZATION};
use http::{HeaderMap, HeaderValue, Method, Request, Response, StatusCode, Version};
use hyper::body::Incoming;
use hyper::client::conn::http1;
use hyper::rt::{Read, Write};
use hyper::upgrade::Upgraded;
use hyper_util::client::proxy::matcher::Intercept;
use hyper_util::rt::TokioIo;
use socket2::{SockRef, TcpKeepalive};
use tokio::net::TcpStream;
use url::Url;

use super::Route;
use super::error::{ConnectError, TransportError};
use crate::bundle::authority;
use crate::limits;

/// Opens the tunnel through `proxy`, sends the upgrade request and returns the upgraded stream.
///
/// `check` sees the status and headers of the answer to the upgrade request.
pub(super) async fn upgrade(
    proxy: &Intercept,
    target: &Url,
    route: &Route,
    headers: HeaderMap,
    check: impl FnOnce(StatusCode, &HeaderMap) -> Result<(), ConnectError>,
) -> Result<reqwest::Upgraded, ConnectError> {
    let tunnel = open(proxy, target, route).await?;
    let io = TokioIo::new(TokioIo::new(tunnel));
    take_over(io, target, route, headers, check).await
}

/// Sends the upgrade request over `io`, a connection to the host of `target`, and returns the
/// upgraded stream.
pub(super) async fn take_over(
    io: impl Read + Write + Unpin + Send + 'static,
    target: &Url,
    route: &Route,
    headers: HeaderMap,
    check: impl FnOnce(StatusCode, &HeaderMap) -> Result<(), ConnectError>,
) -> Result<reqwest::Upgraded, ConnectError> {
    let host = authority(target);
    let request = request(Method::GET, &origin_form(target), &host, headers).map_err(|source| {
        TransportError::Broken {
            route: route.clone(),
            source: source.into(),
        }
    })?;
    let stream = exchange(route, io, request, check).await?;
    Ok(reqwest::Upgraded::from(stream))
}

/// What the host of `url` is asked for: path and query.
pub(super) fn origin_form(url: &Url) -> String {
    url.query().map_or_else(
        || url.path().to_owned(),
        |query| format!("{}?{query}", url.path()),
    )
}

/// Opens the connection itself, and sends the upgrade request over it.
pub(super) async fn upgrade_directly(
    target: &Url,
    route: &Route,
    headers: HeaderMap,
    check: impl FnOnce(StatusCode, &HeaderMap) -> Result<(), ConnectError>,
) -> Result<reqwest::Upgraded, ConnectError> {
    let name = target.host_str().unwrap_or_default();
    let port = target.port_or_known_default().unwrap_or(HTTP_PORT);
    let stream = dial(name.trim_matches(['[', ']']), port)
        .await
        .map_err(|error| TransportError::Connect {
            route: route.clone(),
            source: error.into(),
        })?;
    take_over(TokioIo::new(stream), target, route, headers, check).await
}

async fn dial(host: &str, port: u16) -> io::Result<TcpStream> {
    let stream = TcpStream::connect((host, port)).await?;
    set_options(&stream)?;
    Ok(stream)
}

/// Asks the proxy for a tunnel to the host and port of `target`.
async fn open(proxy: &Intercept, target: &Url, route: &Route) -> Result<Upgraded, ConnectError> {
    let failed = |source: Box<dyn std::error::Error + Send + Sync>| TransportError::Connect {
        route: route.clone(),
        source,
    };
    let address = proxy
        .uri()
        .host()
        .unwrap_or_default()
        .trim_matches(['[', ']']);
    let port = proxy.uri().port_u16().unwrap_or(HTTP_PORT);
    let stream = dial(address, port)
        .await
        .map_err(|error| failed(error.into()))?;

    // A tunnel's destination always has a port.
    let port = target.port_or_known_default().unwrap_or(HTTP_PORT);
    let destination = format!("{}:{port}", target.host_str().unwrap_or_default());
    let mut headers = HeaderMap::new();
    if let Some(credentials) = proxy.basic_auth() {
        headers.insert(PROXY_AUTHORIZATION, credentials.clone());
    }
    let request = request(Method::CONNECT, &destination, &destination, headers)
        .map_err(|error| failed(error.into()))?;
    let check = |status: StatusCode, _: &HeaderMap| match status {
        StatusCode::PROXY_AUTHENTICATION_REQUIRED => {
            let route = route.clone();
            Err(TransportError::ProxyCredentials { route }.into())
        }
        status if status.is_success() => Ok(()),
        status => {
            Err(failed(format!("proxy refused the tunnel with status {status}").into()).into())
        }
    };
    exchange(route, TokioIo::new(stream), request, check).await
}

/// What the HTTP library does to its own sockets, and what it cannot do.
fn set_options(stream: &TcpStream) -> io::Result<()> {
    stream.set_nodelay(true)?;
    let socket = SockRef::from(stream);
    let keepalive = TcpKeepalive::new()
        .with_time(limits::TCP_KEEPALIVE_IDLE)
        .with_interval(limits::TCP_KEEPALIVE_INTERVAL)
        .with_retries(limits::TCP_KEEPALIVE_RETRIES);
    socket.set_tcp_keepalive(&keepalive)?;
    #[cfg(target_os = "linux")]
    socket.set_tcp_user_timeout(Some(limits::TCP_USER_TIMEOUT))?;
    #[cfg(target_os = "linux")]
    socket.set_tcp_notsent_lowat(limits::TCP_NOTSENT_LOWAT_BYTES)?;
    Ok(())
}

/// Sends one request and takes over the connection after its answer.
async fn exchange(
    route: &Route,
    io: impl Read + Write + Unpin + Send + 'static,
    request: Request<String>,
    check: impl FnOnce(StatusCode, &HeaderMap) -> Result<(), ConnectError>,
) -> Result<Upgraded, ConnectError> {
    let broken = |source: hyper::Error| TransportError::Broken {
        route: route.clone(),
        source: source.into(),
    };
    let (mut sender, connection) = http1::handshake(io).await.map_err(broken)?;
    // Fused, since it may be done with its work before the last answer is picked up.
    let mut connection = pin!(connection.with_upgrades().fuse());
    let response = alongside(connection.as_mut(), sender.send_request(request)).await;
    let response: Response<Incoming> = response.map_err(broken)?;
    check(response.status(), response.headers())?;
    let stream = alongside(connection, hyper::upgrade::on(response)).await;
    Ok(stream.map_err(broken)?)
}

/// Waits for `future` while `connection` does the work behind it.
pub(super) async fn alongside<T>(connection: impl Future, future: impl Future<Output = T>) -> T {
    let mut future = pin!(future);
    tokio::select! {
        output = &mut future => output,
        _ = connection => future.await,
    }
}

fn request(
    method: Method,
    target: &str,
    host: &str,
    mut headers: HeaderMap,
) -> Result<Request<String>, http::Error> {
    headers.insert(HOST, HeaderValue::from_str(host)?);
    let mut request = Request::builder()
        .method(method)
        .uri(target)
        .version(Version::HTTP_11)
        .body(String::new())?;
    *request.headers_mut() = headers;
    Ok(request)
}

const HTTP_PORT: u16 = 80;

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_dead_path_is_noticed_by_the_system() {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let stream = TcpStream::connect(listener.local_addr().unwrap())
            .await
            .unwrap();
        set_options(&stream).unwrap();
        let socket = SockRef::from(&stream);
        assert!(socket.keepalive().unwrap() && socket.tcp_nodelay().unwrap());
        #[cfg(target_os = "linux")]
        assert_eq!(
            socket.tcp_user_timeout().unwrap(),
            Some(limits::TCP_USER_TIMEOUT)
        );
        #[cfg(target_os = "linux")]
        assert_eq!(
            socket.tcp_notsent_lowat().unwrap(),
            limits::TCP_NOTSENT_LOWAT_BYTES
        );
    }
}
