//! A server in this process, and websocket clients that speak relay frames to it.

#![allow(dead_code, reason = "each test binary uses a part of this")]
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "failing is how a test reports"
)]

use std::time::Duration;

use axum::body::Body;
use base64::prelude::{BASE64_STANDARD, Engine as _};
use bytes::Bytes;
use futures_util::{SinkExt as _, StreamExt as _};
use http::Request;
use hyper_util::rt::TokioIo;
use relay_proto::frame::{Body as FrameBody, Frame};
use relay_proto::ids::{Seq, StreamId};
use relay_proto::keys::SUITE;
use serde_json::{Value, json};
use server::{ServeConfig, Server};
use tokio::net::TcpStream;
use tokio::task::JoinHandle;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::protocol::WebSocketConfig;
use tokio_tungstenite::tungstenite::protocol::frame::coding::CloseCode;
use tokio_tungstenite::tungstenite::{self, Message};
use tokio_util::sync::CancellationToken;
use url::Url;

/// How long anything that has to happen may take.
pub(crate) const DEADLINE: Duration = Duration::from_secs(20);

/// A running server.
pub(crate) struct TestServer {
    pub(crate) url: String,
    shutdown: CancellationToken,
    task: JoinHandle<()>,
}

impl TestServer {
    /// Starts a server that takes any token.
    pub(crate) async fn start() -> Self {
        Self::with(|_| {}).await
    }

    /// Starts a server that takes any token, with its configuration changed.
    pub(crate) async fn with(change: impl FnOnce(&mut ServeConfig)) -> Self {
        let mut config = ServeConfig::development("127.0.0.1:0".parse().unwrap());
        change(&mut config);
        let server = Server::bind(config).await.unwrap();
        let url = server.url().to_owned();
        let shutdown = CancellationToken::new();
        let task = tokio::spawn(server.run(shutdown.clone()));
        Self {
            url,
            shutdown,
            task,
        }
    }

    /// Stops the server and waits for its end.
    pub(crate) async fn stop(self) {
        self.shutdown.cancel();
        within(self.task).await.unwrap();
    }

    /// Calls the registry.
    pub(crate) async fn call(&self, path: &str, token: &str, body: &Value) -> (u16, Value) {
        let stream = TcpStream::connect(authority(&self.url)).await.unwrap();
        call(stream, &authority(&self.url), path, token, body).await
    }

    /// Registers an executor and returns its URL.
    pub(crate) async fn register(&self, environment: &str, token: &str) -> String {
        let path = format!("/cloud/environment/{environment}/register");
        let (status, answer) = self.call(&path, token, &register_body()).await;
        assert_eq!(status, 200, "{answer}");
        answer["url"].as_str().unwrap().to_owned()
    }

    /// Asks for a bundle.
    pub(crate) async fn bundle(&self, environment: &str, token: &str) -> (u16, Value) {
        let path = format!("/cloud/environment/{environment}/connect");
        self.call(&path, token, &json!({ "harness_public_key": key(9) }))
            .await
    }

    /// Asks for a bundle and opens its URL.
    pub(crate) async fn harness(&self, environment: &str, token: &str) -> Peer {
        let (status, bundle) = self.bundle(environment, token).await;
        assert_eq!(status, 200, "{bundle}");
        Peer::open(bundle["url"].as_str().unwrap()).await.unwrap()
    }

    /// Registers an executor and opens its URL.
    pub(crate) async fn executor(&self, environment: &str, token: &str) -> Peer {
        let url = self.register(environment, token).await;
        let mut executor = Peer::open(&url).await.unwrap().attached().await;
        executor.url = url;
        executor
    }
}

pub(crate) fn authority(url: &str) -> String {
    Url::parse(url).unwrap().authority().to_owned()
}

/// One HTTP call over `stream`.
pub(crate) async fn call(
    stream: impl tokio::io::AsyncRead + tokio::io::AsyncWrite + Unpin + Send + 'static,
    host: &str,
    path: &str,
    token: &str,
    body: &Value,
) -> (u16, Value) {
    let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream))
        .await
        .unwrap();
    let connection = tokio::spawn(connection);
    let request = Request::post(path)
        .header("host", host)
        .header("content-type", "application/json")
        .header("authorization", format!("Bearer {token}"))
        .body(Body::from(body.to_string()))
        .unwrap();
    let response = within(sender.send_request(request)).await.unwrap();
    let status = response.status().as_u16();
    let bytes = axum::body::to_bytes(Body::new(response.into_body()), 1 << 20)
        .await
        .unwrap();
    connection.abort();
    (
        status,
        serde_json::from_slice(&bytes).unwrap_or(Value::Null),
    )
}

/// Awaits something that has to happen.
pub(crate) async fn within<T>(future: impl Future<Output = T>) -> T {
    tokio::time::timeout(DEADLINE, future)
        .await
        .expect("nothing happened before the deadline")
}

pub(crate) fn key(byte: u8) -> Value {
    json!({
        "suite": SUITE,
        "x25519_public_key": BASE64_STANDARD.encode([byte; 32]),
        "mlkem768_public_key": BASE64_STANDARD.encode([byte; 1_184]),
    })
}

pub(crate) fn register_body() -> Value {
    json!({ "security_profile": "noise_hybrid_ik_v1", "executor_public_key": key(1) })
}

/// Why a URL was rejected.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Rejected {
    pub(crate) status: u16,
    pub(crate) reason: String,
}

/// One end of a websocket.
#[derive(Debug)]
pub(crate) struct Peer {
    pub(crate) url: String,
    pub(crate) socket: WebSocketStream<TcpStream>,
}

impl Peer {
    pub(crate) async fn open(url: &str) -> Result<Self, Rejected> {
        let stream = TcpStream::connect(authority(url)).await.unwrap();
        let config = WebSocketConfig::default()
            .max_message_size(None)
            .max_frame_size(None);
        let opening = tokio_tungstenite::client_async_with_config(url, stream, Some(config));
        match within(opening).await {
            Ok((socket, _)) => Ok(Self {
                url: url.to_owned(),
                socket,
            }),
            Err(tungstenite::Error::Http(response)) => Err(Rejected {
                status: response.status().as_u16(),
                reason: response
                    .headers()
                    .get("x-codex-rendezvous-rejection-reason")
                    .map(|value| value.to_str().unwrap().to_owned())
                    .unwrap_or_default(),
            }),
            Err(error) => panic!("{error}"),
        }
    }

    /// Waits until the server reads from it: only then does the peer have its place.
    pub(crate) async fn attached(mut self) -> Self {
        within(self.socket.send(Message::Ping(Bytes::new())))
            .await
            .unwrap();
        loop {
            match within(self.socket.next()).await {
                Some(Ok(Message::Pong(_))) => return self,
                Some(Ok(Message::Ping(_))) => {}
                other => panic!("expected a pong, got {other:?}"),
            }
        }
    }

    pub(crate) async fn send(&mut self, frame: &Frame) {
        self.send_bytes(frame.encode()).await;
    }

    pub(crate) async fn send_bytes(&mut self, bytes: Bytes) {
        within(self.socket.send(Message::Binary(bytes)))
            .await
            .unwrap();
    }

    /// The next binary message.
    pub(crate) async fn bytes(&mut self) -> Bytes {
        loop {
            match within(self.socket.next()).await {
                Some(Ok(Message::Binary(bytes))) => return bytes,
                Some(Ok(Message::Ping(_) | Message::Pong(_))) => {}
                other => panic!("expected a frame, got {other:?}"),
            }
        }
    }

    pub(crate) async fn frame(&mut self) -> Frame {
        Frame::decode(self.bytes().await).unwrap()
    }

    /// Expects the reset of a stream next.
    pub(crate) async fn expect_reset(&mut self, stream: &str) {
        let frame = self.frame().await;
        assert_eq!(frame.stream_id.as_str(), stream);
        assert!(matches!(frame.body, FrameBody::Reset { .. }), "{frame:?}");
    }

    /// Reads to the end and returns the text of the close frame.
    pub(crate) async fn close_reason(&mut self) -> Option<String> {
        loop {
            match within(self.socket.next()).await {
                Some(Ok(Message::Close(frame))) => {
                    return frame.map(|frame| frame.reason.as_str().to_owned());
                }
                Some(Ok(_)) => {}
                Some(Err(_)) | None => return None,
            }
        }
    }

    /// Reads to the end and returns the code of the close frame, if there was one.
    pub(crate) async fn close_code(&mut self) -> Option<u16> {
        loop {
            match within(self.socket.next()).await {
                Some(Ok(Message::Close(frame))) => {
                    return frame.map(|frame| CloseCode::into(frame.code));
                }
                Some(Ok(_)) => {}
                Some(Err(_)) | None => return None,
            }
        }
    }

    /// Claims a stream, and waits until the executor has heard of it.
    pub(crate) async fn claim(&mut self, stream: &str, executor: &mut Self) {
        self.send(&resume(stream)).await;
        assert_eq!(executor.frame().await, resume(stream));
    }
}

pub(crate) fn id(stream: &str) -> StreamId {
    StreamId::new(stream).unwrap()
}

pub(crate) fn resume(stream: &str) -> Frame {
    Frame::new(id(stream), FrameBody::Resume { next_seq: 0 })
}

pub(crate) fn handshake(stream: &str, payload: &'static [u8]) -> Frame {
    Frame::new(
        id(stream),
        FrameBody::Handshake {
            payload: Bytes::from_static(payload),
        },
    )
}

pub(crate) fn data(stream: &str, seq: u32, payload: impl Into<Bytes>) -> Frame {
    Frame::new(
        id(stream),
        FrameBody::Data {
            seq: Seq(seq),
            payload: payload.into(),
        },
    )
}
