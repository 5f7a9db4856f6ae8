//! A registry that lies.
//!
//! Stands between a program and the real registry, passes every call on, and lets the test alter
//! successful answers to `connect`, which hand out the executor's key and the signed URL.

use std::sync::Arc;

use anyhow::{Context as _, Result};
use axum::{
    Router,
    body::Bytes,
    extract::State,
    http::{HeaderMap, Method, StatusCode, Uri, header},
    response::{IntoResponse as _, Response},
};
use serde_json::Value;
use tokio::task::JoinSet;

use super::http_client;
use crate::web;

/// The altering registry. Dropping it stops it.
#[derive(Debug)]
pub struct TamperingRegistry {
    url: String,
    _server: JoinSet<()>,
}

impl TamperingRegistry {
    /// Starts it in front of the registry at `upstream`; `alter` gets each connect bundle.
    ///
    /// # Errors
    ///
    /// When no port can be bound.
    pub async fn start(
        upstream: &str,
        alter: impl Fn(&mut Value) + Send + Sync + 'static,
    ) -> Result<Self> {
        let client = http_client()?;
        let state = Shared {
            upstream: upstream.to_owned(),
            client,
            alter: Arc::new(alter),
        };
        let (listener, url) = web::bind().await?;
        let router = Router::new().fallback(forward).with_state(state);
        Ok(Self {
            url,
            _server: web::serve(listener, router),
        })
    }

    /// Its base URL.
    pub fn url(&self) -> &str {
        &self.url
    }
}

#[derive(Clone)]
struct Shared {
    upstream: String,
    client: reqwest::Client,
    alter: Arc<dyn Fn(&mut Value) + Send + Sync>,
}

async fn forward(
    State(shared): State<Shared>,
    method: Method,
    uri: Uri,
    headers: HeaderMap,
    body: Bytes,
) -> Response {
    match shared.forward(method, &uri, &headers, body).await {
        Ok(response) => response,
        Err(error) => (StatusCode::BAD_GATEWAY, format!("{error:#}")).into_response(),
    }
}

impl Shared {
    async fn forward(
        &self,
        method: Method,
        uri: &Uri,
        headers: &HeaderMap,
        body: Bytes,
    ) -> Result<Response> {
        let mut request = self
            .client
            .request(method, format!("{}{uri}", self.upstream))
            .body(body);
        for name in [header::AUTHORIZATION, header::CONTENT_TYPE] {
            if let Some(value) = headers.get(&name) {
                request = request.header(name, value);
            }
        }
        let response = request
            .send()
            .await
            .context("the real registry does not answer")?;
        let status = response.status();
        let body = response.bytes().await?;
        if !(status.is_success() && uri.path().ends_with("/connect")) {
            let json = [(header::CONTENT_TYPE, "application/json")];
            return Ok((status, json, body).into_response());
        }
        let mut bundle = serde_json::from_slice(&body)?;
        (self.alter)(&mut bundle);
        let json = [(header::CONTENT_TYPE, "application/json")];
        Ok((status, json, bundle.to_string()).into_response())
    }
}
