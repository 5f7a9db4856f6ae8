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
//! | [`body`] | whole bodies with a limit, streamed bodies with backpressure |
//!
//! One client for the process, built at the first request from the same policy as the registry
//! calls (proxies, certificate authorities), so connections are pooled across sessions.

mod body;
mod error;
mod redirect;
mod request;
mod variables;

use std::{
    collections::HashSet,
    fmt,
    sync::{Arc, Mutex, OnceLock, PoisonError},
    time::Duration,
};

use exec_proto::{
    http::{RedirectPolicy, RequestParams, RequestResult, ResponseHeader},
    rpc::RpcError,
};
use registry_client::{Connector, ConnectorConfig};
use reqwest::Response;
use tokio::{task::JoinSet, time::Instant};

use crate::rpc::Outbox;
use body::BodyStream;
use request::Checked;
pub use variables::HeaderVariables;

/// The process's HTTP client; shared by all connections.
pub struct HttpClient {
    config: ConnectorConfig,
    variables: HeaderVariables,
    connector: OnceLock<Connector>,
}

/// The HTTP requests of one JSON-RPC connection. Dropping it ends them, upstream included.
pub struct HttpConnection {
    client: Arc<HttpClient>,
    outbox: Outbox,
    active: Arc<Mutex<HashSet<String>>>,
    streams: Mutex<JoinSet<()>>,
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
        policy: RedirectPolicy,
        deadline: Deadline,
    ) -> Result<Response, RpcError> {
        let client = self.connector()?.http();
        let mut hop = redirect::Hop::from(checked);
        for _ in 0..=MAX_REDIRECTS {
            let mut builder = client
                .request(hop.method.clone(), hop.url.clone())
                .headers(hop.headers.clone());
            if let Some(body) = &hop.body {
                builder = builder.body(body.clone());
            }
            if let Some(remaining) = deadline.remaining()? {
                builder = builder.timeout(remaining);
            }
            let response = builder.send().await.map_err(|error| {
                deadline.explain(error, |cause| error::not_sent(&hop.url, &cause))
            })?;
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
    pub async fn request(&self, mut params: RequestParams) -> Result<Reply, RpcError> {
        let claim = match params.stream_response {
            true => Some(self.claim(std::mem::take(&mut params.request_id))?),
            false => None,
        };
        let policy = params.redirect_policy;
        let deadline = Deadline::new(params.timeout_ms);
        let checked = request::check(params, &self.client.variables)?;
        let response = self.client.send(checked, policy, deadline).await?;
        let status = response.status().as_u16();
        let headers = response_headers(&response);
        let (body_base64, body) = match claim {
            Some(claim) => (
                bytes::Bytes::new(),
                Some(BodyStream::new(response, claim, deadline)),
            ),
            None => (body::buffer(response, deadline).await?, None),
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

    fn claim(&self, id: String) -> Result<Claim, RpcError> {
        let mut active = self.active.lock().unwrap_or_else(PoisonError::into_inner);
        if active.contains(&id) {
            return Err(RpcError::invalid_params(format!(
                "http/request streamResponse requestId `{id}` is already active"
            )));
        }
        if active.len() >= MAX_STREAMS {
            return Err(RpcError::invalid_request(format!(
                "http/request has reached the limit of {MAX_STREAMS} streamed responses"
            )));
        }
        active.insert(id.clone());
        Ok(Claim {
            id,
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
    active: Arc<Mutex<HashSet<String>>>,
}

impl Drop for Claim {
    fn drop(&mut self) {
        self.active
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .remove(&self.id);
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

#[cfg(test)]
mod tests;
