//! Web servers on loopback; among them one that says what it was asked.

use anyhow::{Context as _, Result};
use axum::{
    Router,
    body::Bytes,
    http::{HeaderMap, Method, StatusCode, Uri},
};
use tokio::{net::TcpListener, task::JoinSet};

/// The running server. Dropping it stops it.
#[derive(Debug)]
pub struct EchoServer {
    url: String,
    _server: JoinSet<()>,
}

impl EchoServer {
    /// Starts it on a free loopback port.
    ///
    /// # Errors
    ///
    /// When no port can be bound.
    pub async fn start() -> Result<Self> {
        let (listener, url) = bind().await?;
        let router = Router::new().fallback(echo);
        Ok(Self {
            url,
            _server: serve(listener, router),
        })
    }

    /// Base URL, without a slash at the end.
    pub fn url(&self) -> &str {
        &self.url
    }
}

/// A free port of loopback, and its base URL without a slash at the end.
pub(crate) async fn bind() -> Result<(TcpListener, String)> {
    let listener = TcpListener::bind("127.0.0.1:0")
        .await
        .context("bind a port of loopback")?;
    let url = format!("http://{}", listener.local_addr()?);
    Ok((listener, url))
}

/// Serves until the set is dropped.
pub(crate) fn serve(listener: TcpListener, router: Router) -> JoinSet<()> {
    let mut server = JoinSet::new();
    server.spawn(async move {
        // Ends only with the listener, which lives as long as this task.
        drop(axum::serve(listener, router).await);
    });
    server
}

/// Method, path, the header `x-test`, and the body, each on a line. Paths below `/missing` are 404.
async fn echo(method: Method, uri: Uri, headers: HeaderMap, body: Bytes) -> (StatusCode, Vec<u8>) {
    let header = headers
        .get("x-test")
        .and_then(|value| value.to_str().ok())
        .unwrap_or("none");
    let mut text = format!("{method}\n{uri}\n{header}\n").into_bytes();
    text.extend_from_slice(&body);
    let missing = uri.path().starts_with("/missing");
    (
        if missing {
            StatusCode::NOT_FOUND
        } else {
            StatusCode::OK
        },
        text,
    )
}
