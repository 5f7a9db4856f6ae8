//! HTTP requests made by the executor, from where it is.

use std::{sync::Arc, time::Duration};

use bytes::Bytes;
use exec_proto::http::{
    self as wire, RedirectPolicy, RequestHeader, RequestParams, RequestResult, ResponseHeader,
};

use crate::{
    Client, Error,
    engine::{
        Job,
        call::{Asker, Retry},
        route::BodyRoute,
    },
    limits,
    queue::Queue,
};

/// A request to be made by the executor.
#[derive(Clone)]
pub struct HttpRequest {
    method: String,
    url: String,
    headers: Vec<RequestHeader>,
    body: Option<Bytes>,
    timeout: Option<Duration>,
    redirects: RedirectPolicy,
}

impl HttpRequest {
    /// A request without headers and body. Redirects are followed.
    pub fn new(method: impl Into<String>, url: impl Into<String>) -> Self {
        Self {
            method: method.into(),
            url: url.into(),
            headers: Vec::new(),
            body: None,
            timeout: None,
            redirects: RedirectPolicy::Follow,
        }
    }

    /// Adds a header.
    #[must_use]
    pub fn header(mut self, name: impl Into<String>, value: impl Into<String>) -> Self {
        self.headers.push(RequestHeader {
            name: name.into(),
            value: value.into(),
            value_env_var: None,
        });
        self
    }

    /// Adds a header whose value ends with that of a variable of the executor.
    #[must_use]
    pub fn header_from_env(
        mut self,
        name: impl Into<String>,
        prefix: impl Into<String>,
        variable: impl Into<String>,
    ) -> Self {
        let value_env_var = Some(variable.into());
        self.headers.push(RequestHeader {
            name: name.into(),
            value: prefix.into(),
            value_env_var,
        });
        self
    }

    /// Sets the body.
    #[must_use]
    pub fn body(mut self, body: impl Into<Bytes>) -> Self {
        self.body = Some(body.into());
        self
    }

    /// Limits the whole exchange, body included.
    #[must_use]
    pub fn timeout(mut self, timeout: Duration) -> Self {
        self.timeout = Some(timeout);
        self
    }

    /// Says what to do with a redirect.
    #[must_use]
    pub fn redirects(mut self, policy: RedirectPolicy) -> Self {
        self.redirects = policy;
        self
    }
}

impl std::fmt::Debug for HttpRequest {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("HttpRequest")
            .field("method", &self.method)
            .finish_non_exhaustive()
    }
}

/// The response, whose body comes as it arrives.
///
/// A body that is read too slowly holds up everything else on its client: there is nothing to read
/// it back from. Dropping it lets the rest pass unread.
pub struct HttpResponse {
    /// The HTTP status, whatever it is.
    pub status: u16,
    /// In order, names in lower case.
    pub headers: Vec<ResponseHeader>,
    queue: Arc<Queue<Result<Bytes, Error>>>,
}

impl Client {
    /// Lets the executor make a request and waits for the head of the response.
    ///
    /// # Errors
    ///
    /// [`Error::Rpc`] when the executor cannot make it; [`Error::OutcomeUnknown`] when the
    /// connection was lost meanwhile.
    pub async fn http(&self, request: HttpRequest) -> Result<HttpResponse, Error> {
        let request_id = self.unique_name();
        let params = RequestParams {
            method: request.method,
            url: request.url,
            headers: request.headers,
            body_base64: request.body,
            timeout_ms: request
                .timeout
                .map(|t| u64::try_from(t.as_millis()).unwrap_or(u64::MAX)),
            redirect_policy: request.redirects,
            request_id: request_id.clone(),
            stream_response: true,
            stream_request_body: false,
        };
        let queue = Queue::new(limits::BODY_QUEUE_BYTES, self.drained());
        let body = BodyRoute::new(queue.clone());
        // Made before the request, so that its drop frees the route when this future is dropped.
        let mut response = HttpResponse {
            status: 0,
            headers: Vec::new(),
            queue,
        };
        let result: RequestResult = self
            .submit(
                wire::REQUEST,
                &params,
                Retry::Never,
                |reply| Asker::Stream(request_id.clone(), reply),
                |call| Job::Stream {
                    call,
                    request: request_id.clone(),
                    body,
                },
            )
            .await?;
        response.status = result.status;
        response.headers = result.headers;
        Ok(response)
    }
}

impl HttpResponse {
    /// The next part of the body, `None` after the last.
    ///
    /// # Errors
    ///
    /// [`Error::Rpc`] when the body broke off, [`Error::ConnectionLost`] when the connection did.
    ///
    /// # Cancel safety
    ///
    /// Nothing is lost when the future is dropped.
    pub async fn next_chunk(&mut self) -> Result<Option<Bytes>, Error> {
        self.queue.pop().await.transpose()
    }
}

impl std::fmt::Debug for HttpResponse {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("HttpResponse")
            .field("status", &self.status)
            .finish_non_exhaustive()
    }
}

impl Drop for HttpResponse {
    fn drop(&mut self) {
        self.queue.abandon();
    }
}
