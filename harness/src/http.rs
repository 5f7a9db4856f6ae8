//! HTTP requests made by the executor, from where it is.

mod upload;

use std::{sync::Arc, time::Duration};

use bytes::Bytes;
use exec_proto::http::{
    self as wire, RedirectPolicy, RequestHeader, RequestParams, RequestResult, ResponseHeader,
};

use tokio::{
    io::{AsyncRead, AsyncReadExt},
    task::JoinSet,
};

use crate::{
    Client, Error,
    client::Answer,
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
/// it back from. Dropping it ends the request at the executor, or lets the rest pass unread if that
/// executor cannot end it.
pub struct HttpResponse {
    /// The HTTP status, whatever it is.
    pub status: u16,
    /// In order, names in lower case.
    pub headers: Vec<ResponseHeader>,
    queue: Arc<Queue<Result<Bytes, Error>>>,
    /// Sends what is left of the request's body.
    upload: JoinSet<Result<(), Error>>,
}

impl Client {
    /// Lets the executor make a request and waits for the head of the response.
    ///
    /// # Errors
    ///
    /// [`Error::Rpc`] when the executor cannot make it; [`Error::OutcomeUnknown`] when the
    /// connection was lost meanwhile.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future, or later the response, has the executor end the request, if it can. The
    /// server may have acted.
    pub async fn http(&self, request: HttpRequest) -> Result<HttpResponse, Error> {
        let (mut response, answer, _) = self.begin_http(request, Body::Given).await?;
        response.head(answer.wait().await?);
        Ok(response)
    }

    /// The same, with a body that is read while it is sent. What was under way when the request ended
    /// is not known.
    ///
    /// With an executor of this project memory is bounded whatever the size; give a header
    /// `content-length` when the size is known, for servers that want it. Otherwise the body is read
    /// before anything is sent, and may have [`limits::BUFFERED_BODY_BYTES`]. A body is not sent
    /// again, so a redirect that asks for that fails.
    ///
    /// # Errors
    ///
    /// As for [`http`](Self::http), [`Error::Io`] when reading fails, and [`Error::Limit`].
    pub async fn http_upload(
        &self,
        request: HttpRequest,
        body: impl AsyncRead + Send + Unpin + 'static,
    ) -> Result<HttpResponse, Error> {
        if !self.capabilities().http_request_body_stream {
            let body = buffered(body).await?;
            return self.http(request.body(body)).await;
        }
        let (mut response, mut answer, request_id) =
            self.begin_http(request, Body::Follows).await?;
        let client = self.clone();
        response
            .upload
            .spawn(async move { upload::send(&client, request_id, body).await });
        let head = tokio::select! {
            head = answer.wait_mut() => head?,
            error = failure(&mut response.upload) => return Err(error),
        };
        response.head(head);
        Ok(response)
    }

    async fn begin_http(
        &self,
        request: HttpRequest,
        body: Body,
    ) -> Result<(HttpResponse, Answer, String), Error> {
        let request_id = self.unique_name();
        let follows = matches!(body, Body::Follows);
        let params = RequestParams {
            method: request.method,
            url: request.url,
            headers: request.headers,
            body_base64: request.body.filter(|_| !follows),
            timeout_ms: request
                .timeout
                .map(|t| u64::try_from(t.as_millis()).unwrap_or(u64::MAX)),
            redirect_policy: request.redirects,
            request_id: request_id.clone(),
            stream_response: true,
            stream_request_body: follows,
        };
        let queue = Queue::new(limits::BODY_QUEUE_BYTES, self.drained());
        let body = BodyRoute::new(queue.clone());
        // Made before the request, which is given up with it when this future is dropped.
        let response = HttpResponse {
            status: 0,
            headers: Vec::new(),
            queue,
            upload: JoinSet::new(),
        };
        let answer = self
            .begin(
                wire::REQUEST,
                &params,
                Retry::Never,
                None,
                |reply| Asker::Stream(request_id.clone(), reply),
                |call| Job::Stream {
                    call,
                    request: request_id.clone(),
                    body,
                },
            )
            .await?;
        Ok((response, answer, request_id))
    }
}

/// Whether the body of a request is in it.
enum Body {
    Given,
    Follows,
}

/// Reads a body that has to be sent as a whole.
async fn buffered(body: impl AsyncRead + Unpin) -> Result<Vec<u8>, Error> {
    let mut whole = Vec::new();
    let limit = limits::BUFFERED_BODY_BYTES;
    let read = body.take(limit + 1).read_to_end(&mut whole).await;
    read.map_err(upload::unreadable)?;
    let size = whole.len() as u64;
    if size > limit {
        return Err(Error::Limit {
            what: "a body that this executor cannot take in parts",
            size,
            limit,
        });
    }
    Ok(whole)
}

/// Waits for a failure to send the body. Never returns without one.
async fn failure(upload: &mut JoinSet<Result<(), Error>>) -> Error {
    match upload.join_next().await {
        Some(Ok(Err(error))) => error,
        // It is complete, or the request is over: the answer says how it went.
        _ => std::future::pending().await,
    }
}

impl HttpResponse {
    fn head(&mut self, head: RequestResult) {
        self.status = head.status;
        self.headers = head.headers;
    }

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
        tokio::select! {
            chunk = self.queue.pop() => chunk.transpose(),
            error = failure(&mut self.upload) => {
                self.queue.abandon();
                Err(error)
            }
        }
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
