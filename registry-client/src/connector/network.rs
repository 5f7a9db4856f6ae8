//! Another network under the connector, which a simulation puts in the place of the system's.
//!
//! Everything above the connection stays what it is: requests, verdicts on answers, the upgrade.
//! Only the HTTP library goes, since it opens its sockets itself. What remains of its work is done
//! with the parts that it is made of: one connection for each call, plain HTTP/1.1.

use std::fmt;
use std::future::poll_fn;
use std::io;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::{Context, Poll};

use futures_util::FutureExt as _;
use http::header::HOST;
use http::{HeaderValue, Request, Response, Uri};
use hyper::body::{Body as _, Incoming};
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use url::Url;

use super::error::TransportError;
use super::tunnel::{alongside, origin_form};
use super::{Connector, Route};
use crate::bundle::authority;
use crate::limits;

/// A connection of a [`Network`].
pub struct NetworkIo(Pin<Box<dyn Stream>>);

trait Stream: AsyncRead + AsyncWrite + Send {}

impl<T: AsyncRead + AsyncWrite + Send> Stream for T {}

impl NetworkIo {
    /// Wraps what the network has opened.
    pub fn new(stream: impl AsyncRead + AsyncWrite + Send + 'static) -> Self {
        Self(Box::pin(stream))
    }
}

impl fmt::Debug for NetworkIo {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("NetworkIo").finish_non_exhaustive()
    }
}

impl AsyncRead for NetworkIo {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        self.0.as_mut().poll_read(cx, buffer)
    }
}

impl AsyncWrite for NetworkIo {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        self.0.as_mut().poll_write(cx, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.0.as_mut().poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.0.as_mut().poll_shutdown(cx)
    }
}

/// The future of [`Network::connect`].
pub type Connecting = Pin<Box<dyn Future<Output = io::Result<NetworkIo>> + Send>>;

/// Opens connections to hosts by name.
pub trait Network: Send + Sync + fmt::Debug {
    /// Connects to a port of `host`.
    fn connect(&self, host: &str, port: u16) -> Connecting;
}

impl Connector {
    /// Sends a request of the registry's and returns its answer, whose body may be cut off beyond
    /// what is read of it.
    pub(crate) async fn send(
        &self,
        request: reqwest::Request,
    ) -> Result<reqwest::Response, TransportError> {
        let route = self.route(request.url());
        match &self.network {
            None => {
                let sent = self.http.execute(request).await;
                sent.map_err(|error| TransportError::from_reqwest(route, error))
            }
            Some(network) => call(network, &route, request).await,
        }
    }
}

/// Opens a connection to the host of `target`.
pub(super) async fn open(
    network: &Arc<dyn Network>,
    target: &Url,
    route: &Route,
) -> Result<NetworkIo, TransportError> {
    let failed = |source: io::Error| TransportError::Connect {
        route: route.clone(),
        source: source.into(),
    };
    let (Some(name), Some(port), "http") = (
        target.host_str(),
        target.port_or_known_default(),
        target.scheme(),
    ) else {
        return Err(failed(io::ErrorKind::Unsupported.into()));
    };
    network.connect(name, port).await.map_err(failed)
}

/// One request and its answer, on a connection of their own.
async fn call(
    network: &Arc<dyn Network>,
    route: &Route,
    request: reqwest::Request,
) -> Result<reqwest::Response, TransportError> {
    let broken = |source: Box<dyn std::error::Error + Send + Sync>| TransportError::Broken {
        route: route.clone(),
        source,
    };
    let target = request.url().clone();
    let mut request =
        Request::<reqwest::Body>::try_from(request).map_err(|error| broken(error.into()))?;
    let path: Uri = origin_form(&target)
        .parse()
        .map_err(|_| broken("unusable path".into()))?;
    *request.uri_mut() = path;
    let name = HeaderValue::from_str(&authority(&target)).map_err(|error| broken(error.into()))?;
    request.headers_mut().insert(HOST, name);

    let io = open(network, &target, route).await?;
    let handshake = http1::handshake(TokioIo::new(io)).await;
    let (mut sender, connection) = handshake.map_err(|error| broken(error.into()))?;
    let exchange = async {
        let (head, body) = sender.send_request(request).await?.into_parts();
        let body = read(body).await?;
        Ok::<_, hyper::Error>(Response::from_parts(head, body))
    };
    let answer = alongside(pin!(connection.fuse()), exchange).await;
    let answer = answer.map_err(|error| broken(error.into()))?;
    Ok(reqwest::Response::from(answer))
}

/// Reads a body, to its end or until it is longer than any that is taken.
async fn read(mut body: Incoming) -> Result<Vec<u8>, hyper::Error> {
    let mut bytes = Vec::new();
    while bytes.len() <= limits::MAX_RESPONSE_BYTES {
        let Some(frame) = poll_fn(|cx| Pin::new(&mut body).poll_frame(cx)).await else {
            break;
        };
        if let Some(data) = frame?.data_ref() {
            bytes.extend_from_slice(data);
        }
    }
    Ok(bytes)
}
