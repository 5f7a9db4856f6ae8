use std::net::Ipv4Addr;

use futures_util::{SinkExt as _, StreamExt as _};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio_tungstenite::tungstenite::{Message, client::IntoClientRequest as _};

use super::*;
use crate::listener::{AuthMode, AuthOptions};

/// Sends every message back, and shows the peer on `peer`.
struct Echo;

impl Serve for Echo {
    async fn serve(self: Arc<Self>, mut transport: Transport, cancel: CancellationToken) {
        loop {
            let message = tokio::select! {
                message = transport.incoming.recv() => message,
                () = cancel.cancelled() => return,
            };
            let Some(message) = message else { return };
            let answer = match &message[..] {
                b"peer" => Bytes::from(transport.peer.to_string()),
                b"violation" => return,
                _ => message,
            };
            if transport.outgoing.send(answer).await.is_err() {
                return;
            }
        }
    }
}

struct Running {
    address: SocketAddr,
    cancel: CancellationToken,
    task: tokio::task::JoinHandle<()>,
}

async fn start(auth: Option<WebSocketAuth>) -> Running {
    let address = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
    let config = ListenerConfig {
        address,
        auth,
        keepalive: Keepalive::default(),
    };
    let listener = Listener::bind(config).await.unwrap();
    let address = listener
        .url()
        .strip_prefix("ws://")
        .unwrap()
        .parse()
        .unwrap();
    let cancel = CancellationToken::new();
    let task = tokio::spawn(listener.run(Arc::new(Echo), cancel.clone()));
    Running {
        address,
        cancel,
        task,
    }
}

fn with_token(token: &str) -> Option<WebSocketAuth> {
    let hex = digest_hex(token);
    AuthOptions {
        mode: Some(AuthMode::CapabilityToken),
        token_sha256: Some(hex),
        ..AuthOptions::default()
    }
    .resolve()
    .unwrap()
}

fn digest_hex(text: &str) -> String {
    let digest = aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, text.as_bytes());
    digest
        .as_ref()
        .iter()
        .map(|byte| format!("{byte:02x}"))
        .collect()
}

/// Status line and body of the answer to a raw request.
async fn raw(address: SocketAddr, request: &str) -> (String, String) {
    let mut tcp = TcpStream::connect(address).await.unwrap();
    tcp.write_all(request.as_bytes()).await.unwrap();
    let mut answer = Vec::new();
    let reading = tcp.read_to_end(&mut answer);
    tokio::time::timeout(Duration::from_secs(10), reading)
        .await
        .unwrap()
        .unwrap();
    let answer = String::from_utf8(answer).unwrap();
    let (head, body) = answer.split_once("\r\n\r\n").unwrap();
    (head.lines().next().unwrap().to_owned(), body.to_owned())
}

fn get(path: &str, headers: &str) -> String {
    format!("GET {path} HTTP/1.1\r\nhost: x\r\nconnection: close\r\n{headers}\r\n")
}

#[tokio::test]
async fn http_answers_on_the_wire() {
    let running = start(None).await;
    for (request, status, body) in [
        (get("/readyz", ""), "HTTP/1.1 200 OK", ""),
        (
            get("/readyz", "origin: http://x\r\n"),
            "HTTP/1.1 403 Forbidden",
            "",
        ),
        (get("/other", ""), "HTTP/1.1 404 Not Found", ""),
        (
            get("/", ""),
            "HTTP/1.1 400 Bad Request",
            "Connection header did not include 'upgrade'",
        ),
        (
            get("/readyz", "content-length: 0\r\n").replacen("GET", "POST", 1),
            "HTTP/1.1 405 Method Not Allowed",
            "",
        ),
        (
            "nonsense\r\n\r\n".to_owned(),
            "HTTP/1.1 400 Bad Request",
            "",
        ),
    ] {
        let answer = raw(running.address, &request).await;
        assert_eq!(answer, (status.to_owned(), body.to_owned()), "{request}");
    }
}

#[tokio::test]
async fn messages_pass_and_nothing_is_negotiated() {
    let running = start(None).await;
    let mut request = format!("ws://{}/?ignored=1", running.address)
        .into_client_request()
        .unwrap();
    request.headers_mut().insert(
        "sec-websocket-extensions",
        "permessage-deflate".parse().unwrap(),
    );
    let (mut socket, response) = tokio_tungstenite::client_async(
        request,
        TcpStream::connect(running.address).await.unwrap(),
    )
    .await
    .unwrap();
    assert_eq!(response.status(), 101);
    assert!(!response.headers().contains_key("sec-websocket-protocol"));
    assert!(!response.headers().contains_key("sec-websocket-extensions"));
    let local = socket.get_ref().local_addr().unwrap();
    // A message that arrives together with the upgrade must not be lost, so send at once.
    socket.send(Message::binary(&b"peer"[..])).await.unwrap();
    let answer = socket.next().await.unwrap().unwrap();
    assert_eq!(answer, Message::text(format!("websocket {local}")));
    socket.send(Message::text("violation")).await.unwrap();
    let Message::Close(Some(frame)) = socket.next().await.unwrap().unwrap() else {
        panic!("no close frame");
    };
    assert_eq!(u16::from(frame.code), 1008);
}

#[tokio::test]
async fn upgrade_and_first_message_in_one_packet() {
    let running = start(None).await;
    let mut tcp = TcpStream::connect(running.address).await.unwrap();
    let mut packet = b"GET / HTTP/1.1\r\nhost: x\r\nconnection: upgrade\r\nupgrade: websocket\r\n\
        sec-websocket-version: 13\r\nsec-websocket-key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
        .to_vec();
    // A masked text frame with a zero mask: "hello".
    packet.extend_from_slice(b"\x81\x85\0\0\0\0hello");
    tcp.write_all(&packet).await.unwrap();
    let mut answer = Vec::new();
    while !answer.ends_with(b"\x81\x05hello") {
        let mut part = [0; 512];
        let read = tokio::time::timeout(Duration::from_secs(10), tcp.read(&mut part)).await;
        let count = read.unwrap().unwrap();
        assert_ne!(count, 0, "{}", String::from_utf8_lossy(&answer));
        answer.extend_from_slice(&part[..count]);
    }
    assert!(answer.starts_with(b"HTTP/1.1 101 Switching Protocols\r\n"));
}

#[tokio::test]
async fn shutdown_closes_with_going_away_and_ends_the_listener() {
    let running = start(None).await;
    let url = format!("ws://{}/", running.address);
    let tcp = TcpStream::connect(running.address).await.unwrap();
    let (mut socket, _) = tokio_tungstenite::client_async(url, tcp).await.unwrap();
    running.cancel.cancel();
    let Message::Close(Some(frame)) = socket.next().await.unwrap().unwrap() else {
        panic!("no close frame");
    };
    assert_eq!(u16::from(frame.code), 1001);
    drop(socket);
    tokio::time::timeout(Duration::from_secs(10), running.task)
        .await
        .unwrap()
        .unwrap();
    assert!(TcpStream::connect(running.address).await.is_err());
}

#[tokio::test]
async fn a_token_is_required_for_the_upgrade_only() {
    let running = start(with_token("t0ken")).await;
    assert_eq!(
        raw(running.address, &get("/readyz", "")).await.0,
        "HTTP/1.1 200 OK"
    );
    for (authorization, expected) in [
        (None, Err("missing websocket bearer token")),
        (Some("Bearer wrong"), Err("invalid websocket bearer token")),
        (Some("Basic t0ken"), Err("invalid authorization header")),
        (Some("bearer t0ken"), Ok(())),
    ] {
        let mut request = format!("ws://{}/?token=t0ken", running.address)
            .into_client_request()
            .unwrap();
        if let Some(value) = authorization {
            request
                .headers_mut()
                .insert(header::AUTHORIZATION, value.parse().unwrap());
        }
        let tcp = TcpStream::connect(running.address).await.unwrap();
        let outcome = match tokio_tungstenite::client_async(request, tcp).await {
            Ok(_) => Ok(()),
            Err(tokio_tungstenite::tungstenite::Error::Http(response)) => {
                assert_eq!(response.status(), 401);
                Err(String::from_utf8(response.into_body().unwrap()).unwrap())
            }
            Err(error) => panic!("{error}"),
        };
        assert_eq!(
            outcome,
            expected.map_err(str::to_owned),
            "{authorization:?}"
        );
    }
}

#[tokio::test]
async fn an_exposed_address_needs_authentication() {
    let address = SocketAddr::from((Ipv4Addr::UNSPECIFIED, 0));
    let config = ListenerConfig {
        address,
        auth: None,
        keepalive: Keepalive::default(),
    };
    assert!(matches!(
        Listener::bind(config).await,
        Err(ListenError::Exposed(_))
    ));
    let config = ListenerConfig {
        address,
        auth: with_token("t"),
        keepalive: Keepalive::default(),
    };
    assert!(Listener::bind(config).await.is_ok());
}
