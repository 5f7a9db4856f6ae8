//! Opening websockets: what is sent, which answers are accepted.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use futures_util::{SinkExt, StreamExt};
use http::{HeaderMap, HeaderValue};
use registry_client::wire::RejectionReason;
use registry_client::{
    ConnectError, Connector, ConnectorConfig, ConnectorEnvironment, RendezvousUrl, WebSocket,
    new_request_id,
};
use tokio::io::AsyncWriteExt;
use tokio_tungstenite::tungstenite::handshake::derive_accept_key;
use tokio_tungstenite::tungstenite::handshake::server::{Request, Response};
use tokio_tungstenite::tungstenite::{Bytes, Error, Message};

use crate::support::{PATIENCE, Server, chain, config_in, connector, read_head};

async fn open(server: &Server, headers: HeaderMap) -> Result<WebSocket, ConnectError> {
    let url = format!("{}/ws/env1?role=harness&sig=s3cr3t", server.url("ws"));
    let url = RendezvousUrl::parse(&url).expect("usable");
    connector().websocket(&url, headers).await
}

async fn error_of(answer: &str) -> ConnectError {
    let server = Server::canned(answer).await;
    let error = open(&server, HeaderMap::new())
        .await
        .expect_err("no websocket");
    assert!(!chain(&error).contains("s3cr3t"), "{}", chain(&error));
    error
}

/// Accepts a websocket and sends back every message.
async fn echo(stream: tokio::net::TcpStream) {
    let mut socket = tokio_tungstenite::accept_async(stream)
        .await
        .expect("an upgrade");
    while let Some(Ok(message)) = socket.next().await {
        if message.is_binary() && socket.send(message).await.is_err() {
            return;
        }
    }
}

/// Returns the accept key that belongs to a request.
fn accept_key(head: &str) -> String {
    let key = head
        .lines()
        .filter_map(|line| line.split_once(": "))
        .find(|(name, _)| name.eq_ignore_ascii_case("sec-websocket-key"))
        .expect("a key")
        .1;
    derive_accept_key(key.as_bytes())
}

#[tokio::test]
async fn request_has_the_upgrade_headers_and_those_of_the_caller_alone() {
    let seen = Arc::new(Mutex::new(None));
    let record = Arc::clone(&seen);
    let server = Server::start(move |stream| {
        let record = Arc::clone(&record);
        async move {
            #[expect(clippy::result_large_err, reason = "the websocket library's signature")]
            let callback = |request: &Request, response: Response| {
                let head = (request.uri().to_string(), request.headers().clone());
                *record.lock().expect("not poisoned") = Some(head);
                Ok(response)
            };
            let socket = tokio_tungstenite::accept_hdr_async(stream, callback).await;
            socket.expect("an upgrade").next().await;
        }
    })
    .await;

    let variables = [("OPENAI_CLUSTER", "c1"), ("DD_SERVICE", "svc")];
    let environment = ConnectorEnvironment::from_lookup(|name| {
        variables
            .iter()
            .find(|(known, _)| *known == name)
            .map(|(_, value)| value.into())
    });
    let mut headers = environment.websocket_headers();
    let id = new_request_id();
    headers.insert("x-request-id", HeaderValue::from_str(&id).expect("ascii"));
    open(&server, headers).await.expect("open");

    let (uri, headers) = seen
        .lock()
        .expect("not poisoned")
        .take()
        .expect("a request");
    assert_eq!(uri, "/ws/env1?role=harness&sig=s3cr3t");
    assert_eq!(headers["host"], server.address.to_string());
    assert_eq!(headers["connection"], "Upgrade");
    assert_eq!(headers["upgrade"], "websocket");
    assert_eq!(headers["sec-websocket-version"], "13");
    assert_eq!(headers["x-cluster-name"], "c1");
    assert_eq!(headers["x-openai-internal-caller"], "svc");
    assert_eq!(headers["x-request-id"], id);
    for absent in [
        "user-agent",
        "origin",
        "authorization",
        "cookie",
        "sec-websocket-extensions",
        "sec-websocket-protocol",
    ] {
        assert!(!headers.contains_key(absent), "{absent}");
    }
}

#[test]
fn request_ids_have_the_known_form_and_differ() {
    let (first, second) = (new_request_id(), new_request_id());
    assert_ne!(first, second);
    let digits = first.strip_prefix("req_").expect("the prefix");
    assert_eq!(digits.len(), 32);
    assert!(
        digits
            .bytes()
            .all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'))
    );
}

#[tokio::test]
async fn messages_pass_up_to_the_limit_and_end_the_connection_above_it() {
    let server = Server::start(echo).await;
    let mut socket = open(&server, HeaderMap::new()).await.expect("open");
    let message = |length: usize| Message::Binary(Bytes::from(vec![7; length]));
    for length in [1, 200_000, 262_144] {
        socket.send(message(length)).await.expect("sent");
        let echoed = socket.next().await.expect("open").expect("a message");
        assert_eq!(echoed.len(), length);
    }
    socket.send(message(262_145)).await.expect("sent");
    let error = socket
        .next()
        .await
        .expect("an answer")
        .expect_err("too large");
    assert!(matches!(error, Error::Capacity(_)), "{error}");
}

#[tokio::test]
async fn a_message_right_behind_the_upgrade_is_not_lost() {
    let server = Server::start(|mut stream| async move {
        let head = read_head(&mut stream).await;
        let accept = accept_key(&head);
        let mut answer = format!(
            "HTTP/1.1 101 Switching Protocols\r\nConnection: keep-alive, upgrade\r\n\
             Upgrade: WebSocket\r\nSec-WebSocket-Accept: {accept}\r\n\r\n"
        )
        .into_bytes();
        answer.extend_from_slice(b"\x82\x05hello");
        stream.write_all(&answer).await.expect("written");
        read_head(&mut stream).await;
    })
    .await;
    let mut socket = open(&server, HeaderMap::new()).await.expect("open");
    let message = tokio::time::timeout(PATIENCE, socket.next())
        .await
        .expect("arrives");
    assert_eq!(
        message
            .expect("open")
            .expect("a message")
            .into_data()
            .as_ref(),
        b"hello"
    );
}

#[tokio::test]
async fn rejections_carry_status_reason_and_wait() {
    let rejection = |status: &str, headers: &str| {
        format!("HTTP/1.1 {status}\r\n{headers}content-length: 6\r\n\r\ns3cr3t")
    };
    let reason = "x-codex-rendezvous-rejection-reason: ";
    for (answer, expected, needs_new_url, retryable) in [
        (
            rejection("403 Forbidden", &format!("{reason}expired\r\n")),
            (403, Some(RejectionReason::Expired), None),
            true,
            false,
        ),
        (
            rejection("404 Not Found", &format!("{reason}meteor\r\n")),
            (404, Some(RejectionReason::Unknown), None),
            true,
            false,
        ),
        (
            rejection("401 Unauthorized", ""),
            (401, None, None),
            true,
            false,
        ),
        (
            rejection("429 Slow Down", "retry-after: 3\r\n"),
            (429, None, Some(3)),
            true,
            true,
        ),
        (
            rejection(
                "503 Busy",
                &format!("{reason}pod_draining\r\nretry-after: 2\r\n"),
            ),
            (503, Some(RejectionReason::PodDraining), Some(2)),
            false,
            true,
        ),
        (
            rejection("302 Found", "location: http://host/\r\n"),
            (302, None, None),
            false,
            false,
        ),
        (rejection("200 OK", ""), (200, None, None), false, false),
    ] {
        let error = error_of(&answer).await;
        let ConnectError::Rejected {
            status,
            reason,
            retry_after,
        } = error
        else {
            panic!("{error:?} instead of a rejection");
        };
        assert_eq!(
            (status, reason, retry_after.map(|wait| wait.as_secs())),
            expected
        );
        assert_eq!(error.needs_new_url(), needs_new_url, "{status}");
        assert_eq!(error.is_retryable(), retryable, "{status}");
        assert_eq!(error.retry_after(), retry_after);
        assert_eq!(
            error.reason(),
            reason.map_or("rejected", RejectionReason::as_str)
        );
    }
    let error = error_of(&rejection("403 Forbidden", &format!("{reason}expired\r\n"))).await;
    assert_eq!(
        error.to_string(),
        "rendezvous rejected the websocket request with status 403 (expired)"
    );
}

#[tokio::test]
async fn an_upgrade_that_does_not_belong_to_the_request_is_refused() {
    for (headers, expected) in [
        (
            "Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Accept: AAAA\r\n",
            "accept key",
        ),
        (
            "Connection: Upgrade\r\nUpgrade: websocket\r\n",
            "accept key",
        ),
        (
            "Connection: Upgrade\r\nUpgrade: h2c\r\nSec-WebSocket-Accept: {key}\r\n",
            "upgrade header",
        ),
        (
            "Connection: close\r\nUpgrade: websocket\r\nSec-WebSocket-Accept: {key}\r\n",
            "connection",
        ),
        (
            "Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Accept: {key}\r\n\
             Sec-WebSocket-Extensions: permessage-deflate\r\n",
            "extension",
        ),
        (
            "Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Accept: {key}\r\n\
             Sec-WebSocket-Protocol: chat\r\n",
            "subprotocol",
        ),
    ] {
        let server = Server::start(move |mut stream| async move {
            let head = read_head(&mut stream).await;
            let headers = headers.replace("{key}", &accept_key(&head));
            let answer = format!("HTTP/1.1 101 Switching Protocols\r\n{headers}\r\n");
            stream.write_all(answer.as_bytes()).await.expect("written");
            read_head(&mut stream).await;
        })
        .await;
        let error = open(&server, HeaderMap::new()).await.expect_err(expected);
        assert!(matches!(error, ConnectError::Protocol { .. }), "{error:?}");
        assert!(error.to_string().contains(expected), "{error}");
        assert_eq!((error.reason(), error.needs_new_url()), ("protocol", false));
    }
}

#[tokio::test]
async fn silence_ends_at_the_timeout_and_names_no_secret() {
    let server = Server::canned("").await;
    let connector = Connector::new(ConnectorConfig {
        websocket_timeout: Duration::from_millis(200),
        ..config_in(ConnectorEnvironment::empty())
    })
    .expect("usable configuration");
    let url = format!("{}/?sig=s3cr3t", server.url("ws"));
    let url = RendezvousUrl::parse(&url).expect("usable");
    let attempt = connector.websocket(&url, HeaderMap::new());
    let result = tokio::time::timeout(PATIENCE, attempt)
        .await
        .expect("ends by itself");
    let error = result.expect_err("no websocket");
    assert_eq!((error.reason(), error.is_retryable()), ("timeout", true));
    assert!(
        chain(&error).contains(&server.address.to_string()),
        "{}",
        chain(&error)
    );
    assert!(!chain(&error).contains("s3cr3t"), "{}", chain(&error));
}

#[tokio::test]
async fn a_refused_or_broken_connection_names_no_secret() {
    let gone = Server::canned("").await;
    let url = format!("{}/?sig=s3cr3t", gone.url("ws"));
    drop(gone);
    let url = RendezvousUrl::parse(&url).expect("usable");
    let error = connector()
        .websocket(&url, HeaderMap::new())
        .await
        .expect_err("nobody there");
    assert_eq!((error.reason(), error.is_retryable()), ("connect", true));
    assert!(!chain(&error).contains("s3cr3t"), "{}", chain(&error));

    let server = Server::start(|mut stream| async move {
        read_head(&mut stream).await;
    })
    .await;
    let error = open(&server, HeaderMap::new()).await.expect_err("closed");
    assert_eq!((error.reason(), error.is_retryable()), ("broken", true));
    assert!(!chain(&error).contains("s3cr3t"), "{}", chain(&error));
}
