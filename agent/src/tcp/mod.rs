//! `tcp/*`: TCP connections on behalf of a client.
//!
//! Responsible for connecting, for the streams of one JSON-RPC connection, and for their bounds. Not
//! responsible for what may be reached: the executor's own network decides, and a sandbox that would
//! have to be enforced is refused.
//!
//! | module | idea |
//! |---|---|
//! | this one | the table of streams: ids, limits, what the requests do |
//! | [`connect`] | from a host and a port to a socket, in bounded time and with bounded lookups |
//! | [`stream`] | one stream: a queue towards the socket, notifications from it |
//!
//! An id is taken from the request until the last notification of its stream is on its way. A stream
//! is over when both directions have ended, when it fails, or when the client closes it, and always with
//! its connection.

mod connect;
mod stream;

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use exec_proto::RpcError;
use exec_proto::sandbox::SandboxContext;
use exec_proto::tcp::{
    self as wire, CloseParams, ConnectParams, ConnectResult, ShutdownParams, WindowParams,
    WriteParams,
};
use tokio::net::TcpStream;
use tokio::task::JoinSet;

use crate::rpc::Outbox;
use connect::Connector;
use stream::Stream;

/// The TCP streams of one JSON-RPC connection. Dropping it ends them.
pub(crate) struct TcpConnection {
    enabled: bool,
    outbox: Outbox,
    connector: Connector,
    streams: Table,
    tasks: Mutex<JoinSet<()>>,
}

type Table = Arc<Mutex<HashMap<String, Arc<Stream>>>>;

/// A stream that is connected, to be given to [`TcpConnection::run`] once the answer is on its way.
pub(crate) struct Opened {
    socket: TcpStream,
    claim: Claim,
    queue: stream::Queue,
}

/// An id in use, until dropped.
struct Claim {
    id: String,
    stream: Arc<Stream>,
    streams: Table,
}

impl TcpConnection {
    /// Starts without streams. If not `enabled`, every method is unknown.
    pub(crate) fn new(outbox: Outbox, enabled: bool) -> Self {
        Self {
            enabled,
            outbox,
            connector: Connector::new(),
            streams: Table::default(),
            tasks: Mutex::default(),
        }
    }

    /// `tcp/connect`
    ///
    /// # Cancel safety
    ///
    /// Dropping the future gives the connection and its id up.
    pub(crate) async fn connect(
        &self,
        params: ConnectParams,
    ) -> Result<(ConnectResult, Opened), RpcError> {
        self.known(wire::CONNECT)?;
        let sandbox = params.sandbox.as_ref();
        if sandbox.is_some_and(SandboxContext::needs_enforcement) {
            return Err(RpcError::invalid_params(
                "sandbox intent cannot be enforced on this executor",
            ));
        }
        within("streamId", &params.stream_id, wire::MAX_STREAM_ID_BYTES)?;
        within("host", &params.host, wire::MAX_HOST_BYTES)?;
        let millis = params.timeout_ms.unwrap_or(wire::DEFAULT_TIMEOUT_MS);
        if !(1..=wire::MAX_TIMEOUT_MS).contains(&millis) {
            return Err(RpcError::invalid_params(format!(
                "timeoutMs must be between 1 and {}",
                wire::MAX_TIMEOUT_MS
            )));
        }
        let window = params.window_bytes.unwrap_or(u64::MAX);
        let (claim, queue) = self.claim(params.stream_id, window).await?;
        let connect = self.connector.connect(params.host, params.port.get());
        let socket = tokio::time::timeout(Duration::from_millis(millis), connect).await;
        let socket = socket
            .map_err(|_| {
                RpcError::internal(format!("tcp/connect failed: timed out after {millis} ms"))
            })?
            .map_err(|error| RpcError::internal(format!("tcp/connect failed: {error}")))?;
        let result = ConnectResult {
            local_addr: socket.local_addr().ok().map(|address| address.to_string()),
            peer_addr: socket.peer_addr().ok().map(|address| address.to_string()),
        };
        let opened = Opened {
            socket,
            claim,
            queue,
        };
        Ok((result, opened))
    }

    /// Carries bytes from now on.
    pub(crate) fn run(&self, opened: Option<Opened>) {
        let Some(opened) = opened else { return };
        let Opened {
            socket,
            claim,
            queue,
        } = opened;
        let outbox = self.outbox.clone();
        let mut tasks = self.tasks.lock().unwrap_or_else(PoisonError::into_inner);
        while tasks.try_join_next().is_some() {}
        tasks.spawn(async move { claim.stream.carry(&claim.id, socket, queue, outbox).await });
    }

    /// `tcp/write`: waits for room.
    ///
    /// # Cancel safety
    ///
    /// A cancelled write has taken nothing, and its number is still to come.
    pub(crate) async fn write(&self, params: WriteParams) -> Result<(), RpcError> {
        self.known(wire::WRITE)?;
        let stream = self.find(&params.stream_id)?;
        stream.write(params.seq, params.chunk_base64).await
    }

    /// `tcp/shutdown`: waits for its place behind the writes.
    pub(crate) async fn shutdown(&self, params: &ShutdownParams) -> Result<(), RpcError> {
        self.known(wire::SHUTDOWN)?;
        self.find(&params.stream_id)?.shutdown().await
    }

    /// `tcp/window`: of a stream that is over there is nothing to allow.
    pub(crate) fn window(&self, params: &WindowParams) -> Result<(), RpcError> {
        self.known(wire::WINDOW)?;
        if let Ok(stream) = self.find(&params.stream_id) {
            stream.allow(params.through_bytes);
        }
        Ok(())
    }

    /// `tcp/close`: the stream is over and silent, and its id free, when this returns.
    pub(crate) async fn close(&self, params: &CloseParams) -> Result<(), RpcError> {
        self.known(wire::CLOSE)?;
        if let Ok(stream) = self.find(&params.stream_id) {
            stream.close();
            stream.over().await;
        }
        Ok(())
    }

    /// Without the extension the methods do not exist.
    fn known(&self, method: &str) -> Result<(), RpcError> {
        match self.enabled {
            true => Ok(()),
            false => Err(RpcError::method_not_found(method)),
        }
    }

    fn find(&self, id: &str) -> Result<Arc<Stream>, RpcError> {
        let streams = lock(&self.streams);
        let stream = streams.get(id).map(Arc::clone);
        stream.ok_or_else(|| RpcError::not_found(format!("unknown tcp stream id {id}")))
    }

    async fn claim(&self, id: String, window: u64) -> Result<(Claim, stream::Queue), RpcError> {
        loop {
            // The client may have seen the last notification before its sender has let go of the id.
            let ending = match lock(&self.streams).get(&id) {
                Some(stream) if stream.is_ending() => Arc::clone(stream),
                Some(_) => {
                    return Err(RpcError::invalid_params(format!(
                        "tcp stream id {id} is already active"
                    )));
                }
                None => break,
            };
            ending.over().await;
        }
        let mut streams = lock(&self.streams);
        if streams.len() >= wire::MAX_STREAMS {
            return Err(RpcError::invalid_request(format!(
                "tcp/connect has reached the limit of {} streams",
                wire::MAX_STREAMS
            )));
        }
        match streams.entry(id.clone()) {
            // Requests to connect with the same id come one after another.
            Entry::Occupied(_) => Err(RpcError::invalid_params(format!(
                "tcp stream id {id} is already active"
            ))),
            Entry::Vacant(entry) => {
                let (stream, queue) = Stream::new(window);
                entry.insert(Arc::clone(&stream));
                let claim = Claim {
                    id,
                    stream,
                    streams: Arc::clone(&self.streams),
                };
                Ok((claim, queue))
            }
        }
    }
}

impl Drop for Claim {
    fn drop(&mut self) {
        lock(&self.streams).remove(&self.id);
        self.stream.end();
    }
}

impl fmt::Debug for TcpConnection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TcpConnection").finish_non_exhaustive()
    }
}

fn within(name: &str, text: &str, limit: usize) -> Result<(), RpcError> {
    if (1..=limit).contains(&text.len()) {
        return Ok(());
    }
    Err(RpcError::invalid_params(format!(
        "{name} of {} bytes must have 1 to {limit} bytes",
        text.len()
    )))
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
