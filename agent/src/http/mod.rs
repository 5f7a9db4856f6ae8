//! `http/request`: HTTP from where the executor is.
//!
//! Responsible for checking requests, sending them, following redirects, and bringing bodies back,
//! whole or as a stream of deltas. Not responsible for what may be reached: the executor's own
//! network decides.
//!
//! | module | idea |
//! |---|---|
//! | [`request`] | parameters to a request, with the texts of the reference for each mistake |
//! | [`variables`] | which environment variables a header may carry |
//! | [`redirect`] | what a redirect does to a request, as a pure function |
//! | [`cookies`] | the few cookies that are kept, and for which hosts |
//! | [`upload`] | streamed bodies of requests, with backpressure |
//! | [`body`] | whole bodies with a limit, streamed bodies with backpressure |
//!
//! One client for the process, built at the first request from the same policy as the registry
//! calls (proxies, certificate authorities), so connections are pooled across sessions.

mod body;
mod cookies;
mod error;
mod redirect;
mod request;
mod upload;
mod variables;

use std::{
    collections::HashMap,
    fmt,
    sync::{Arc, Mutex, OnceLock, PoisonError},
    time::{Duration, SystemTime},
};

use exec_proto::{
    http::{
        BodyChunkParams, CancelParams, CancelResult, RedirectPolicy, RequestParams, RequestResult,
        ResponseHeader,
    },
    rpc::RpcError,
};
use http::header;
use registry_client::{Connector, ConnectorConfig};
use reqwest::Response;
use tokio::{task::JoinSet, time::Instant};
use tokio_util::sync::CancellationToken;

use crate::rpc::Outbox;
use body::BodyStream;
use cookies::CookieJar;
use request::Checked;
use upload::Feed;
pub use upload::Upload;
pub use variables::HeaderVariables;

/// The process's HTTP client; shared by all connections.
pub struct HttpClient {
    config: ConnectorConfig,
    variables: HeaderVariables,
    connector: OnceLock<Connector>,
    cookies: CookieJar,
}

/// The HTTP requests of one JSON-RPC connection. Dropping it ends them, upstream included.
pub struct HttpConnection {
    client: Arc<HttpClient>,
    outbox: Outbox,
    active: Table,
    streams: Mutex<JoinSet<()>>,
}

type Table = Arc<Mutex<HashMap<String, Active>>>;

/// A request that streams in some direction.
struct Active {
    cancel: CancellationToken,
    /// Takes the parts of its body.
    feed: Option<Arc<Feed>>,
}

/// The answer to a request, and the body that follows it.
pub struct Reply {
    /// To be sent first.
    pub result: RequestResult,
    /// To be started with [`HttpConnection::stream`] once the result is on its way.
    pub body: Option<BodyStream>,
}

impl HttpClient {
    /// Nothing is opened or read until the first request.
    pub fn new(config: ConnectorConfig, variables: HeaderVariables) -> Self {
        Self {
            config,
            variables,
            connector: OnceLock::new(),
            cookies: CookieJar::default(),
        }
    }

    fn connector(&self) -> Result<&Connector, RpcError> {
        if let Some(connector) = self.connector.get() {
            return Ok(connector);
        }
        let connector =
            Connector::new(self.config.clone()).map_err(|error| error::failed(&error))?;
        Ok(self.connector.get_or_init(|| connector))
    }

    /// Sends the request and follows its redirects, until the head of the final answer.
    async fn send(
        &self,
        checked: Checked,
        mut upload: Option<reqwest::Body>,
        policy: RedirectPolicy,
        deadline: Deadline,
    ) -> Result<Response, RpcError> {
        let connector = self.connector()?;
        let client = connector.http();
        let mut hop = redirect::Hop::from(checked);
        let is_upload = upload.is_some();
        if is_upload {
            // Stands for the streamed body, so that a redirect can drop it.
            hop.body = Some(bytes::Bytes::new());
        }
        for _ in 0..=MAX_REDIRECTS {
            let mut headers = hop.headers.clone();
            if !headers.contains_key(header::COOKIE)
                && let Some(kept) = self.cookies.header(&hop.url, SystemTime::now())
            {
                headers.insert(header::COOKIE, kept);
            }
            let mut builder = client
                .request(hop.method.clone(), hop.url.clone())
                .headers(headers);
            if let Some(body) = &hop.body {
                builder = match upload.take() {
                    Some(upload) => builder.body(upload),
                    None if is_upload => {
                        return Err(RpcError::internal(
                            "http/request failed: a streamed body cannot be sent again after a redirect",
                        ));
                    }
                    None => builder.body(body.clone()),
                };
            }
            if let Some(remaining) = deadline.remaining()? {
                builder = builder.timeout(remaining);
            }
            let response = builder.send().await.map_err(|error| {
                let proxy = connector.proxy_for(&hop.url);
                deadline.explain(error, |cause| {
                    error::not_sent(&hop.url, proxy.as_ref(), &cause)
                })
            })?;
            self.cookies
                .store(&hop.url, response.headers(), SystemTime::now());
            if policy == RedirectPolicy::Stop {
                return Ok(response);
            }
            match redirect::next(hop, response.status(), response.headers())? {
                redirect::Next::Final => return Ok(response),
                redirect::Next::Follow(next) => hop = *next,
            }
        }
        Err(RpcError::internal(
            "http/request failed: too many redirects",
        ))
    }
}

impl HttpConnection {
    /// Starts without requests.
    pub fn new(client: Arc<HttpClient>, outbox: Outbox) -> Self {
        Self {
            client,
            outbox,
            active: Arc::default(),
            streams: Mutex::default(),
        }
    }

    /// Performs a request: until the head when the body is streamed, else to its end.
    ///
    /// # Errors
    ///
    /// -32602 for parameters that make no request, -32603 when there is no answer. Any HTTP status
    /// is an answer.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future closes the connection to the server, whose request may have happened.
    pub async fn request(
        &self,
        params: RequestParams,
        upload: Option<Upload>,
    ) -> Result<Reply, RpcError> {
        let (claim, body) = match upload {
            Some(Upload { claim, body }) => (Some(claim), Some(body)),
            None if params.stream_response => {
                (Some(self.claim(params.request_id.clone(), None)?), None)
            }
            None => (None, None),
        };
        let Some(cancel) = claim.as_ref().map(|claim| claim.cancel.clone()) else {
            return self.perform(params, None, None).await;
        };
        tokio::select! {
            biased;
            () = cancel.cancelled() => {
                Err(RpcError::cancelled("the request was cancelled"))
            }
            reply = self.perform(params, claim, body) => reply,
        }
    }

    async fn perform(
        &self,
        params: RequestParams,
        claim: Option<Claim>,
        upload: Option<reqwest::Body>,
    ) -> Result<Reply, RpcError> {
        let is_streamed = params.stream_response;
        let policy = params.redirect_policy;
        let deadline = Deadline::new(params.timeout_ms);
        let checked = request::check(params, &self.client.variables)?;
        let response = self.client.send(checked, upload, policy, deadline).await?;
        let status = response.status().as_u16();
        let headers = response_headers(&response);
        let (body_base64, body) = match claim {
            Some(claim) if is_streamed => (
                bytes::Bytes::new(),
                Some(BodyStream::new(response, claim, deadline)),
            ),
            // The id stays taken until the end of the body.
            claim => {
                let body = body::buffer(response, deadline).await?;
                drop(claim);
                (body, None)
            }
        };
        Ok(Reply {
            result: RequestResult {
                status,
                headers,
                body_base64,
            },
            body,
        })
    }

    /// Sends the body's deltas from now on. Does nothing when there is no body to stream.
    pub fn stream(&self, body: Option<BodyStream>) {
        let Some(body) = body else { return };
        let mut streams = self.streams.lock().unwrap_or_else(PoisonError::into_inner);
        while streams.try_join_next().is_some() {}
        streams.spawn(body.run(self.outbox.clone()));
    }

    /// Takes the id of a request whose body follows in parts.
    ///
    /// # Errors
    ///
    /// -32602 if there is a body already, its length is none, or the id is in use; -32600 at the limit.
    pub fn upload(&self, params: &RequestParams) -> Result<Upload, RpcError> {
        if params.body_base64.is_some() {
            return Err(RpcError::invalid_params(
                "http/request streamRequestBody excludes bodyBase64",
            ));
        }
        let (feed, body) = Feed::new(upload::length(&params.headers)?);
        let claim = self.claim(params.request_id.clone(), Some(feed))?;
        Ok(Upload { claim, body })
    }

    /// `http/request/bodyChunk`: waits for room.
    ///
    /// # Cancel safety
    ///
    /// A cancelled part was not taken, and its number is still to come.
    pub(crate) async fn body_chunk(&self, params: BodyChunkParams) -> Result<(), RpcError> {
        let feed = {
            let active = self.active.lock().unwrap_or_else(PoisonError::into_inner);
            let request = active.get(&params.request_id);
            request.and_then(|request| request.feed.clone())
        };
        let feed = feed.ok_or_else(|| {
            RpcError::not_found(format!(
                "http/request `{}` takes no body",
                params.request_id
            ))
        })?;
        feed.add(params.seq, params.chunk_base64, params.done).await
    }

    /// `http/cancel`
    pub(crate) fn cancel(&self, params: &CancelParams) -> CancelResult {
        let active = self.active.lock().unwrap_or_else(PoisonError::into_inner);
        let request = active.get(&params.request_id);
        if let Some(request) = request {
            request.cancel.cancel();
        }
        CancelResult {
            cancelled: request.is_some(),
        }
    }

    fn claim(&self, id: String, feed: Option<Arc<Feed>>) -> Result<Claim, RpcError> {
        let mut active = self.active.lock().unwrap_or_else(PoisonError::into_inner);
        if active.contains_key(&id) {
            return Err(RpcError::invalid_params(format!(
                "http/request streamResponse requestId `{id}` is already active"
            )));
        }
        let uploads = active.values().filter(|one| one.feed.is_some()).count();
        if feed.is_some() && uploads >= MAX_UPLOADS {
            return Err(RpcError::invalid_request(format!(
                "http/request has reached the limit of {MAX_UPLOADS} streamed request bodies"
            )));
        }
        if active.len() >= MAX_STREAMS {
            return Err(RpcError::invalid_request(format!(
                "http/request has reached the limit of {MAX_STREAMS} streamed responses"
            )));
        }
        let cancel = CancellationToken::new();
        let one = Active {
            cancel: cancel.clone(),
            feed,
        };
        active.insert(id.clone(), one);
        Ok(Claim {
            id,
            cancel,
            active: Arc::clone(&self.active),
        })
    }
}

impl fmt::Debug for HttpClient {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("HttpClient").finish_non_exhaustive()
    }
}

impl fmt::Debug for HttpConnection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("HttpConnection").finish_non_exhaustive()
    }
}

impl fmt::Debug for Reply {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Reply")
            .field("status", &self.result.status)
            .finish_non_exhaustive()
    }
}

/// A stream id in use, until dropped.
struct Claim {
    id: String,
    cancel: CancellationToken,
    active: Table,
}

impl Drop for Claim {
    fn drop(&mut self) {
        let mut active = self.active.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(feed) = active.remove(&self.id).and_then(|one| one.feed) {
            feed.end();
        }
    }
}

/// The time that the request has, from connecting to the end of the body.
#[derive(Debug, Clone, Copy)]
struct Deadline(Option<(Instant, u64)>);

impl Deadline {
    fn new(timeout_ms: Option<u64>) -> Self {
        Self(timeout_ms.and_then(|millis| {
            // A time that no clock can express is no limit.
            Some((
                Instant::now().checked_add(Duration::from_millis(millis))?,
                millis,
            ))
        }))
    }

    fn remaining(self) -> Result<Option<Duration>, RpcError> {
        let Some((instant, millis)) = self.0 else {
            return Ok(None);
        };
        match instant.checked_duration_since(Instant::now()) {
            Some(remaining) if !remaining.is_zero() => Ok(Some(remaining)),
            _ => Err(RpcError::internal(format!(
                "http/request failed: timed out after {millis} ms"
            ))),
        }
    }

    /// The error, which is the timeout if that is what it was.
    fn explain(
        self,
        error: reqwest::Error,
        otherwise: impl FnOnce(reqwest::Error) -> RpcError,
    ) -> RpcError {
        match self.0 {
            Some((_, millis)) if error.is_timeout() => {
                RpcError::internal(format!("http/request failed: timed out after {millis} ms"))
            }
            _ => otherwise(error),
        }
    }
}

/// The headers that can be told as text, in their order.
fn response_headers(response: &Response) -> Vec<ResponseHeader> {
    response
        .headers()
        .iter()
        .filter_map(|(name, value)| {
            Some(ResponseHeader {
                name: name.as_str().to_owned(),
                value: value.to_str().ok()?.to_owned(),
            })
        })
        .collect()
}

/// Redirects followed, as in the reference; one more is an error.
const MAX_REDIRECTS: usize = 10;
/// Streamed responses of one connection at a time. Each holds one read of at most a few hundred
/// kilobytes and one connection.
const MAX_STREAMS: usize = 256;
/// Streamed request bodies of one connection at a time. Each holds 1 MiB at most.
const MAX_UPLOADS: usize = 32;

#[cfg(test)]
mod tests;
