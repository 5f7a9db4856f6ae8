//! One connection: handshake, reading, scheduling, end.
//!
//! ```text
//! New --initialize--> Opened --initialized--> Ready --session/close--> Closed
//! ```
//!
//! The reader never waits for the client to read. It answers control methods itself, through a lane
//! of the outbox that overtakes; everything else becomes a task. It stops reading only when too many
//! requests are pending, or when the control lane is full, both far beyond what clients send.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use exec_proto::http::RequestParams;
use exec_proto::initialize::{self, InitializeParams, InitializeResult, InitializedParams};
use exec_proto::rpc::{
    Message, Params, RequestId, Trace, decode, encode_error, encode_parse_error, size,
};
use exec_proto::session::KeepResult;
use exec_proto::{Empty, RpcError};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;
use tracing::Instrument as _;

use super::call::{Call, Weight};
use super::dispatch::{self, Context};
use super::lanes::Lanes;
use super::place::Holder;
use super::registry::{AttachedSession, Sessions};
use crate::http::Upload;
use crate::process::Reservation;
use crate::rpc::{Disconnected, Lane, Outbox, Outcome, PeerLabel, Transport};

/// Requests that were read and not answered. A client has at most 1024 calls in flight.
const MAX_PENDING: usize = 1024;

/// Bytes of such requests: one message of the largest size, and half as much again.
const MAX_PENDING_BYTES: usize = 96 << 20;

/// How long requests may still run after the last message, and how long their answers may take.
const FINISH: Duration = Duration::from_secs(1);

/// Why a connection ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum End {
    /// No more messages come.
    Disconnected,
    /// The transport takes no more messages.
    Gone,
    /// The executor ends it.
    Cancelled,
    /// The executor has come to its end, and delivers what is left.
    Finished,
    /// Its harness has resumed the session on another connection.
    Superseded,
    /// A relay stream on which nothing has come for too long.
    Silent,
    /// The peer broke the protocol.
    Violation(&'static str),
}

impl From<Disconnected> for End {
    fn from(_: Disconnected) -> Self {
        Self::Disconnected
    }
}

/// How far the handshake is.
#[derive(Debug)]
enum State {
    New,
    Opened(AttachedSession),
    Ready(AttachedSession),
    /// The client has ended its session; nothing but the end of the connection can follow.
    Closed,
}

struct Connection {
    sessions: Arc<Sessions>,
    peer: PeerLabel,
    /// How this connection holds its session.
    holder: Holder,
    /// Silence after which the peer is given up.
    silence: Option<Duration>,
    outbox: Outbox,
    state: State,
    lanes: Lanes,
    context: Arc<Context>,
    requests: JoinSet<()>,
    pending: Arc<Semaphore>,
    pending_bytes: Arc<Semaphore>,
    /// Messages so far, the present one included.
    messages: u64,
}

/// A request's share of what may be pending; given back when it is answered.
struct Pending {
    _item: OwnedSemaphorePermit,
    _bytes: OwnedSemaphorePermit,
}

/// Runs a connection to its end and detaches its session.
pub(super) async fn serve(
    sessions: Arc<Sessions>,
    transport: Transport,
    cancel: CancellationToken,
) {
    let Transport {
        mut incoming,
        outgoing,
        peer,
        stream,
    } = transport;
    let (urgent, path) = stream.map_or((None, None), |it| (Some(it.urgent), Some(it.path)));
    let (outbox, writer) = Outbox::new(outgoing, urgent);
    let finish = CancellationToken::new();
    let writing = writer.run(finish.clone());
    tokio::pin!(writing);

    let let_go = CancellationToken::new();
    let finishing = sessions.ending().finishing().clone();
    let mut connection = Connection {
        context: Arc::new(Context::new(&sessions, &peer, outbox.clone())),
        holder: Holder::new(peer.key().cloned(), path, let_go.clone()),
        // A direct connection is kept alive, or ended, by its own transport.
        silence: matches!(peer, PeerLabel::Relay { .. }).then_some(sessions.config.stream_idle),
        sessions,
        peer,
        outbox,
        state: State::New,
        lanes: Lanes::default(),
        requests: JoinSet::new(),
        pending: Arc::new(Semaphore::new(MAX_PENDING)),
        pending_bytes: Arc::new(Semaphore::new(MAX_PENDING_BYTES)),
        messages: 0,
    };
    let mut end = tokio::select! {
        end = connection.read(&mut incoming) => end,
        () = &mut writing => End::Gone,
        () = cancel.cancelled() => End::Cancelled,
        () = let_go.cancelled() => End::Superseded,
        () = finishing.cancelled() => End::Finished,
    };
    if matches!(end, End::Disconnected | End::Finished) {
        // The peer may have closed only its own direction, as a pipe does: what it asked before is
        // still answered. If it is gone, the writer knows and this takes no time.
        tokio::select! {
            biased;
            () = &mut writing => end = End::Gone,
            () = cancel.cancelled() => end = End::Cancelled,
            () = let_go.cancelled() => end = End::Superseded,
            _ = tokio::time::timeout(FINISH, connection.answered()) => {}
        }
    }
    // Requests end before the session is detached: a connection that resumes it must not meet them.
    connection.requests.shutdown().await;
    drop(std::mem::replace(&mut connection.state, State::New));
    match end {
        End::Violation(rule) => {
            tracing::warn!(peer = %connection.peer, rule, "closing a connection that broke the protocol");
        }
        End::Disconnected | End::Finished => {}
        End::Superseded => {
            tracing::info!(peer = %connection.peer, "session taken over by a newer connection");
            return;
        }
        End::Silent => {
            tracing::info!(peer = %connection.peer, "ending a silent stream");
            return;
        }
        End::Gone | End::Cancelled => return,
    }
    finish.cancel();
    let _ = tokio::time::timeout(FINISH, writing).await;
}

impl Connection {
    async fn read(&mut self, incoming: &mut mpsc::Receiver<Bytes>) -> End {
        loop {
            let message = match self.silence {
                None => incoming.recv().await,
                Some(limit) => match tokio::time::timeout(limit, incoming.recv()).await {
                    Ok(message) => message,
                    Err(_) => {
                        while self.requests.try_join_next().is_some() {}
                        if self.requests.is_empty() {
                            return End::Silent;
                        }
                        continue;
                    }
                },
            };
            let Some(message) = message else {
                return End::Disconnected;
            };
            while self.requests.try_join_next().is_some() {}
            if let Err(end) = self.handle(message).await {
                return end;
            }
        }
    }

    /// Waits until every request that was read has been answered.
    async fn answered(&mut self) {
        while self.requests.join_next().await.is_some() {}
    }

    async fn handle(&mut self, bytes: Bytes) -> Result<(), End> {
        self.messages += 1;
        let size = size(&bytes, self.outbox.form());
        let message = decode(&bytes, self.outbox.form());
        drop(bytes);
        match message {
            Err(err) => {
                let prefix = self.peer.parse_error_prefix();
                let error = RpcError::invalid_request(format!("{prefix}: {err}"));
                let answer = encode_parse_error(self.messages, &error);
                Ok(self.outbox.send(Lane::Control, answer).await?)
            }
            Ok(Message::Request {
                id,
                method,
                params,
                trace,
            }) => match Call::decode(&method, &params) {
                None => Ok(self
                    .refuse(&id, &RpcError::method_not_found(&method))
                    .await?),
                Some(Err(error)) => Ok(self.refuse(&id, &error).await?),
                Some(Ok(call)) => {
                    drop(params);
                    let trace = trace.unwrap_or_default();
                    Ok(self.request(id, &method, call, size, &trace).await?)
                }
            },
            Ok(Message::Notification { method, params }) if method == initialize::INITIALIZED => {
                self.initialized(&params);
                match std::mem::replace(&mut self.state, State::New) {
                    State::New => Err(End::Violation("initialized before initialize")),
                    State::Opened(session) | State::Ready(session) => {
                        self.state = State::Ready(session);
                        Ok(())
                    }
                    State::Closed => {
                        self.state = State::Closed;
                        Ok(())
                    }
                }
            }
            Ok(Message::Notification { .. }) => Err(End::Violation("unknown notification")),
            Ok(Message::Response { id, result }) => self.client_answered(&id, Ok(result)),
            Ok(Message::Error { id, error }) => self.client_answered(&id, Err(error)),
        }
    }

    fn client_answered(&self, id: &RequestId, outcome: Outcome) -> Result<(), End> {
        if self.outbox.answered(id, outcome) {
            Ok(())
        } else {
            Err(End::Violation("answer to a request that was never sent"))
        }
    }

    async fn request(
        &mut self,
        id: RequestId,
        method: &str,
        call: Call,
        size: usize,
        trace: &Trace,
    ) -> Result<(), Disconnected> {
        let (session, call) = match (&self.state, call) {
            (State::Closed, _) => {
                let error =
                    RpcError::invalid_request("the session of this connection has been closed");
                return self.refuse(&id, &error).await;
            }
            (_, Call::Initialize(params)) => {
                let result = self.initialize(&params).await;
                return self
                    .outbox
                    .send(Lane::Control, self.context.answer(&id, result))
                    .await;
            }
            (State::Ready(_), Call::SessionClose) => {
                self.close_session();
                let answer = self.context.answer(&id, Ok(Empty {}));
                return self.outbox.send(Lane::Control, answer).await;
            }
            (State::Ready(attached), Call::SessionKeep(params)) => {
                let kept = attached.keep(Duration::from_millis(params.detached_ms));
                let result = KeepResult {
                    detached_ms: u64::try_from(kept.as_millis()).unwrap_or(u64::MAX),
                };
                return self
                    .outbox
                    .send(Lane::Control, self.context.answer(&id, Ok(result)))
                    .await;
            }
            (State::Ready(attached), call) => (Arc::clone(&attached.session), call),
            (state, call) => {
                let missing = match state {
                    State::New => "call initialize",
                    _ => "send initialized",
                };
                let family = call.family();
                let error = RpcError::invalid_request(format!(
                    "client must {missing} before using {family} methods"
                ));
                return self.refuse(&id, &error).await;
            }
        };
        let call = match dispatch::control(&self.context, &session, &id, call) {
            Ok(answer) => return self.outbox.send(Lane::Control, answer).await,
            Err(call) => *call,
        };
        let pending = self.pending(size).await?;
        let (enter, after) = call.lanes();
        let weight = call.weight();
        // Held from before a start is checked until the process holds one of its own.
        let is_brief = weight == Weight::Wait && !matches!(call, Call::ProcessStart(_));
        let busy = (!is_brief).then(|| self.sessions.ending().busy());
        let cancellable = call.is_cancellable();
        let job = match call {
            // The id is taken now, so that a terminate that follows finds it.
            Call::ProcessStart(params) => match session.processes.reserve(params) {
                Ok(reservation) => Job::Start(reservation),
                Err(error) => return self.refuse(&id, &error).await,
            },
            // The id is taken now, so that the parts of the body that follow find it.
            Call::HttpRequest(params) if params.stream_request_body => {
                match self.context.http.upload(&params) {
                    Ok(upload) => Job::Upload(Box::new(params), upload),
                    Err(error) => return self.refuse(&id, &error).await,
                }
            }
            call => Job::Call(Box::new(call)),
        };
        let place = self.lanes.join(enter, &after);
        let context = Arc::clone(&self.context);
        let id = Arc::new(id);
        let entered = cancellable.then(|| context.in_flight.enter(&id));
        let span = tracing::debug_span!("request", method);
        let exported = span.in_scope(|| telemetry::span!("server", method, rpc.system = "jsonrpc"));
        let (parent, state) = (trace.traceparent.as_deref(), trace.tracestate.as_deref());
        telemetry::trace::follow(&exported, parent, state);
        let work = async move {
            let _pending = pending;
            let _busy = busy;
            let work = async {
                place.turn().await;
                let _permit = match weight {
                    Weight::Work => context.working.acquire().await.ok(),
                    Weight::Network => context.requesting.acquire().await.ok(),
                    Weight::Wait => None,
                };
                // When the connection is gone, nobody misses the answer.
                let _ = match job {
                    Job::Start(reservation) => dispatch::start(&context, &id, reservation).await,
                    Job::Upload(params, upload) => {
                        dispatch::request(&context, &id, *params, Some(upload)).await
                    }
                    Job::Call(call) => dispatch::run(&context, &session, &id, *call).await,
                };
            };
            let given_up = async {
                match &entered {
                    Some(entered) => entered.cancelled().await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                // Work that has sent its answer is finished in the same step, so that there is
                // always exactly one answer.
                biased;
                () = given_up => {}
                () = work => return,
            }
            let error = encode_error(&id, &RpcError::cancelled("the request was cancelled"));
            let _ = context.outbox.send(Lane::Control, error).await;
            drop(entered);
            // Whoever waits behind this request must not overtake those before it.
            place.turn().await;
        };
        self.requests
            .spawn(work.instrument(exported).instrument(span));
        Ok(())
    }

    async fn initialize(
        &mut self,
        params: &InitializeParams,
    ) -> Result<InitializeResult, RpcError> {
        if !matches!(self.state, State::New) {
            return Err(RpcError::invalid_request(
                "initialize may only be sent once per connection",
            ));
        }
        let resume = params.resume_session_id.as_deref();
        let attached = self
            .sessions
            .open(resume, &self.outbox, &self.holder)
            .await?;
        let session_id = attached.session.id.clone();
        self.state = State::Opened(attached);
        let environment_info = Some(self.context.info());
        Ok(InitializeResult {
            session_id,
            environment_info,
        })
    }

    /// Takes what the client says of itself. Clients of the reference say nothing, and whatever does
    /// not decode is the same as nothing.
    fn initialized(&self, params: &Params) {
        let params = params.decode::<InitializedParams>().unwrap_or_default();
        if let Some(terms) = params.bulk {
            self.context.use_bulk(&terms);
        }
    }

    /// Ends the session for good. What is in flight is answered, with an error where possible.
    fn close_session(&mut self) {
        if let State::Ready(attached) = std::mem::replace(&mut self.state, State::Closed) {
            attached.close();
        }
        self.context.in_flight.cancel_all();
    }

    async fn pending(&self, size: usize) -> Result<Pending, Disconnected> {
        let bytes = u32::try_from(size.clamp(1, MAX_PENDING_BYTES)).unwrap_or(u32::MAX);
        let item = Arc::clone(&self.pending)
            .acquire_owned()
            .await
            .map_err(|_| Disconnected)?;
        let bytes = Arc::clone(&self.pending_bytes)
            .acquire_many_owned(bytes)
            .await;
        Ok(Pending {
            _item: item,
            _bytes: bytes.map_err(|_| Disconnected)?,
        })
    }

    async fn refuse(&self, id: &RequestId, error: &RpcError) -> Result<(), Disconnected> {
        self.outbox
            .send(Lane::Control, encode_error(id, error))
            .await
    }
}

/// What a request's task does.
enum Job {
    Start(Reservation),
    Upload(Box<RequestParams>, Upload),
    Call(Box<Call>),
}
