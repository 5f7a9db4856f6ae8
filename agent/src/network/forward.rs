//! Passing a request on, and its answer back.
//!
//! Each request has a connection of its own, to the address that was decided about. Framing is made
//! anew on both sides, from what was parsed, and headers that are meant for one hop go no further, so
//! that both ends of a connection agree on where a message ends.

use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::Bytes;
use http::header::{
    CONNECTION, CONTENT_LENGTH, EXPECT, HeaderMap, HeaderName, PROXY_AUTHENTICATE,
    PROXY_AUTHORIZATION, TE, TRAILER, TRANSFER_ENCODING, UPGRADE,
};
use http::{Request, Response, StatusCode, Version};
use http_body_util::BodyExt as _;
use hyper::body::{Frame, Incoming, SizeHint};
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio_util::task::AbortOnDropHandle;

use super::answer::{Body, text};
use super::http::MAX_HEAD_BYTES;

/// Sends a request whose target is in origin form, and returns the answer with its body to come.
pub(super) async fn forward(
    stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static,
    mut request: Request<Incoming>,
) -> Response<Body> {
    strip(request.headers_mut());
    *request.version_mut() = Version::HTTP_11;
    let handshake = http1::Builder::new()
        .preserve_header_case(true)
        .max_buf_size(MAX_HEAD_BYTES)
        .handshake(TokioIo::new(stream));
    let Ok((mut sender, connection)) = handshake.await else {
        return failed();
    };
    let connection = AbortOnDropHandle::new(tokio::spawn(async move {
        // Its failure is that of the request or of the body.
        let _ = connection.await;
    }));
    let Ok(mut response) = sender.send_request(request).await else {
        return failed();
    };
    // Nobody asked for another protocol.
    if response.status() == StatusCode::SWITCHING_PROTOCOLS {
        return failed();
    }
    if response.headers().contains_key(TRANSFER_ENCODING) {
        response.headers_mut().remove(CONTENT_LENGTH);
    }
    strip(response.headers_mut());
    *response.version_mut() = Version::HTTP_11;
    response.map(|body| {
        Passed {
            body,
            _connection: connection,
        }
        .boxed_unsync()
    })
}

/// The answer when the other end cannot be reached or understood.
pub(super) fn failed() -> Response<Body> {
    text(StatusCode::BAD_GATEWAY, "upstream failure")
}

/// Removes what is meant for one hop.
fn strip(headers: &mut HeaderMap) {
    let named: Vec<HeaderName> = headers
        .get_all(CONNECTION)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(','))
        .filter_map(|name| name.trim().parse().ok())
        // What frames the message or says where it goes is not its sender's to remove.
        .filter(|name: &HeaderName| *name != CONTENT_LENGTH && *name != http::header::HOST)
        .collect();
    for name in named.iter().chain(&ONE_HOP) {
        headers.remove(name);
    }
}

/// The body of an answer, and the connection that it comes from.
struct Passed {
    body: Incoming,
    _connection: AbortOnDropHandle<()>,
}

impl hyper::body::Body for Passed {
    type Data = Bytes;
    type Error = hyper::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, hyper::Error>>> {
        Pin::new(&mut self.body).poll_frame(context)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

/// For one hop, named by the sender or not; and what only this proxy understands.
const ONE_HOP: [HeaderName; 12] = [
    CONNECTION,
    EXPECT,
    PROXY_AUTHENTICATE,
    PROXY_AUTHORIZATION,
    TE,
    TRAILER,
    TRANSFER_ENCODING,
    UPGRADE,
    HeaderName::from_static("http2-settings"),
    HeaderName::from_static("keep-alive"),
    HeaderName::from_static("proxy-connection"),
    super::http::UNIX_SOCKET,
];
