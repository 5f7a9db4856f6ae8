//! A websocket on this machine in front of a remote executor, or two byte streams in its place.
//!
//! For clients that speak the executor protocol over a plain `ws://` address and nothing else. Each
//! local connection becomes one connection of its own to the executor, and messages pass unread in
//! both directions, so sessions, resumption and ordering stay between the client and the executor.
//!
//! Whoever reaches the listener acts with our credential. So listen on loopback only; requests that
//! a web page may have caused (they carry `Origin`) are refused.

mod stdio;

pub use stdio::serve_lines;

use std::{
    convert::Infallible,
    net::SocketAddr,
    sync::{Mutex, PoisonError},
};

use bytes::Bytes;
use http_body_util::Empty;
use hyper::{body::Incoming, server::conn::http1, service::service_fn, upgrade::OnUpgrade};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::{
    net::{TcpListener, TcpStream},
    task::JoinSet,
};
use tokio_tungstenite::{
    WebSocketStream,
    tungstenite::{
        Utf8Bytes,
        handshake::server::create_response_with_body,
        http::{Method, Request, Response, StatusCode, header::ORIGIN},
        protocol::{CloseFrame, Role, WebSocketConfig, frame::coding::CloseCode},
    },
};
use tokio_util::sync::CancellationToken;

use crate::{
    ConnectOptions, Error, limits,
    transport::{chain, direct::pump},
};

/// Serves local connections until `cancel`.
///
/// A connection whose executor cannot be reached is closed with code 1011, one whose executor is
/// lost with a normal close; the others go on.
///
/// # Errors
///
/// [`Error::Misuse`] if the listener is not on loopback, [`Error::Io`] if it fails.
///
/// # Cancel safety
///
/// Dropping the future drops all connections.
pub async fn serve(
    listener: TcpListener,
    options: ConnectOptions,
    cancel: CancellationToken,
) -> Result<(), Error> {
    let address = listener.local_addr().map_err(listen_error)?;
    if !address.ip().is_loopback() {
        return Err(Error::Misuse(format!(
            "{address} is not a loopback address, and whoever connects acts with this credential"
        )));
    }
    let mut connections = JoinSet::new();
    loop {
        tokio::select! {
            accepted = listener.accept(), if connections.len() < limits::PROXY_CONNECTIONS => {
                let (socket, peer) = accepted.map_err(listen_error)?;
                connections.spawn(connection(socket, peer, options.clone(), cancel.clone()));
            }
            Some(_) = connections.join_next() => {}
            () = cancel.cancelled() => break,
        }
    }
    while connections.join_next().await.is_some() {}
    Ok(())
}

fn listen_error(error: std::io::Error) -> Error {
    Error::io("failed to accept local connections", error)
}

async fn connection(
    socket: TcpStream,
    peer: SocketAddr,
    options: ConnectOptions,
    cancel: CancellationToken,
) {
    // Small requests must not wait for the peer's acknowledgement of earlier ones.
    let _ = socket.set_nodelay(true);
    tokio::select! {
        carried = carry(socket, options) => {
            if let Err(error) = carried {
                tracing::warn!(%peer, error = chain(&error), "failed to reach the executor");
            }
        }
        () = cancel.cancelled() => {}
    }
}

async fn carry(socket: TcpStream, options: ConnectOptions) -> Result<(), Error> {
    let Some(mut websocket) = accept(socket).await else {
        return Ok(());
    };
    match options.into_dial()?.dial(None).await {
        Ok(transport) => {
            let (incoming, outgoing, _carrier) = transport.into_parts();
            pump(websocket, outgoing, incoming, limits::KEEPALIVE_INTERVAL).await;
            Ok(())
        }
        Err(error) => {
            let frame = CloseFrame {
                code: CloseCode::Error,
                reason: Utf8Bytes::from_static("the executor cannot be reached"),
            };
            let close = websocket.close(Some(frame));
            let _ = tokio::time::timeout(limits::CLOSE_TIMEOUT, close).await;
            Err(error)
        }
    }
}

/// Speaks HTTP until the upgrade; `None` if there is none.
async fn accept(socket: TcpStream) -> Option<WebSocketStream<TokioIo<hyper::upgrade::Upgraded>>> {
    let upgrade: Mutex<Option<OnUpgrade>> = Mutex::new(None);
    let service = service_fn(|mut request: Request<Incoming>| {
        let response = answer(&request);
        if response.status() == StatusCode::SWITCHING_PROTOCOLS {
            *upgrade.lock().unwrap_or_else(PoisonError::into_inner) =
                Some(hyper::upgrade::on(&mut request));
        }
        async { Ok::<_, Infallible>(response) }
    });
    http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(limits::PROXY_ACCEPT_TIMEOUT)
        .serve_connection(TokioIo::new(socket), service)
        .with_upgrades()
        .await
        .ok()?;
    let upgrade = upgrade
        .into_inner()
        .unwrap_or_else(PoisonError::into_inner)?;
    let upgraded = TokioIo::new(upgrade.await.ok()?);
    let config = WebSocketConfig::default()
        .max_message_size(Some(limits::MESSAGE_BYTES))
        .max_frame_size(Some(limits::MESSAGE_BYTES));
    Some(WebSocketStream::from_raw_socket(upgraded, Role::Server, Some(config)).await)
}

/// The same answers as an executor that listens: the root is the websocket, `/readyz` says that the
/// proxy runs, and nothing that a web page may have caused is served.
fn answer<B>(request: &Request<B>) -> Response<Empty<Bytes>> {
    let status = match (request.method(), request.uri().path()) {
        _ if request.headers().contains_key(ORIGIN) => StatusCode::FORBIDDEN,
        (&Method::GET | &Method::HEAD, "/readyz") => StatusCode::OK,
        (_, "/readyz") => StatusCode::METHOD_NOT_ALLOWED,
        (_, "/") => match create_response_with_body(request, Empty::new) {
            Ok(response) => return response,
            Err(_) => StatusCode::BAD_REQUEST,
        },
        _ => StatusCode::NOT_FOUND,
    };
    let mut response = Response::new(Empty::new());
    *response.status_mut() = status;
    response
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_that_a_web_page_may_have_caused_is_served() {
        let upgrade = [
            ("connection", "upgrade"),
            ("upgrade", "websocket"),
            ("sec-websocket-version", "13"),
            ("sec-websocket-key", "dGhlIHNhbXBsZSBub25jZQ=="),
        ];
        for (path, status) in [("/", 101), ("/readyz", 200), ("/other", 404)] {
            for (origin, status) in [
                (None, status),
                (Some("http://127.0.0.1"), 403),
                (Some("null"), 403),
            ] {
                let mut request = Request::get(path);
                for (name, value) in upgrade {
                    request = request.header(name, value);
                }
                if let Some(origin) = origin {
                    request = request.header(ORIGIN, origin);
                }
                let answer = answer(&request.body(()).unwrap());
                assert_eq!(answer.status(), status, "{path} {origin:?}");
            }
        }
    }

    #[tokio::test]
    async fn other_machines_are_not_served() {
        let options = ConnectOptions::with_token("http://127.0.0.1:1", "box", "token").unwrap();
        let listener = TcpListener::bind("0.0.0.0:0").await.unwrap();
        let served = serve(listener, options, CancellationToken::new()).await;
        assert!(matches!(served, Err(Error::Misuse(_))), "{served:?}");
    }
}
