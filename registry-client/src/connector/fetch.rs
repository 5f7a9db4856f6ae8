//! One document by GET, under the same policy as everything else that goes out.

use std::time::Duration;

use http::{HeaderValue, StatusCode, header};
use url::Url;

use super::Connector;
use super::error::TransportError;
use crate::bundle::authority;

/// Why a document could not be fetched.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum FetchError {
    /// There was an answer other than 200.
    #[error("{host} answered with status {status}")]
    Status {
        /// Host and port of the document.
        host: String,
        /// The HTTP status.
        status: u16,
    },
    /// The document is too large.
    #[error("document from {host} exceeds limit of {limit} bytes")]
    TooLarge {
        /// Host and port of the document.
        host: String,
        /// The limit.
        limit: usize,
    },
    /// There was no answer.
    #[error(transparent)]
    Transport(#[from] TransportError),
}

impl Connector {
    /// Fetches a document of at most `limit` bytes within `timeout`, from the name lookup to the last
    /// byte. No redirect is followed, and no credential is sent.
    ///
    /// # Errors
    ///
    /// [`FetchError`].
    ///
    /// # Cancel safety
    ///
    /// Dropping the future drops the connection.
    pub async fn fetch(
        &self,
        url: &Url,
        limit: usize,
        timeout: Duration,
    ) -> Result<Vec<u8>, FetchError> {
        let Ok(result) = tokio::time::timeout(timeout, self.exchange(url, limit)).await else {
            let (route, limit) = (self.route(url), timeout);
            return Err(TransportError::Timeout { route, limit }.into());
        };
        result
    }

    async fn exchange(&self, url: &Url, limit: usize) -> Result<Vec<u8>, FetchError> {
        let host = || authority(url);
        let broken = |error| TransportError::from_reqwest(self.route(url), error);
        let request = self
            .http()
            .get(url.clone())
            .header(header::ACCEPT, HeaderValue::from_static("application/json"))
            .build()
            .map_err(broken)?;
        let mut response = self.send(request).await?;
        match response.status() {
            StatusCode::OK => {}
            StatusCode::PROXY_AUTHENTICATION_REQUIRED => {
                let route = self.route(url);
                return Err(TransportError::ProxyCredentials { route }.into());
            }
            status => {
                return Err(FetchError::Status {
                    host: host(),
                    status: status.as_u16(),
                });
            }
        }
        let mut body = Vec::new();
        while let Some(chunk) = response.chunk().await.map_err(broken)? {
            if body.len().saturating_add(chunk.len()) > limit {
                return Err(FetchError::TooLarge {
                    host: host(),
                    limit,
                });
            }
            body.extend_from_slice(&chunk);
        }
        Ok(body)
    }
}
