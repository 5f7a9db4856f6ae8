//! The session task: one loop that owns the connection, the requests without an answer and the
//! routes of notifications, and that outlives connections.
//!
//! ```text
//!  callers --Job--> +-------------+ <--incoming-- Transport
//!                   |   Engine    |
//!  readers <-Queue- +-------------+ --outgoing--> Transport
//! ```
//!
//! The loop never waits for anything but its inputs, so that no reader and no full socket can keep
//! it from noticing a loss or a shutdown. Requests wait in [`Pending`] until the transport has room.
//!
//! # Slow readers
//!
//! The protocol has no flow control per process: all events share one connection. What happens when
//! the reader of one process is slow is that process's [`Overflow`](crate::Overflow):
//!
//! - `ReadBack` (default): events beyond the queue are discarded here and read back from the
//!   executor's retention when the reader has caught up. Nothing else waits. When the executor has
//!   evicted them meanwhile, the reader gets [`Error::OutputLost`].
//! - `Block`: the connection is not read until the reader has caught up. The executor then stops
//!   reading the process's pipe, so the process itself waits and nothing is lost; but everything
//!   else on this client waits too. A client with one process loses nothing by it, and
//!   [`Client::sibling`](crate::Client::sibling) makes such a client.
//!
//! Response bodies always block: there is nothing to read them back from. TCP streams never do,
//! because the executor sends no more than the window that a reader has.
//!
//! # Readers that go away
//!
//! Who drops the reader of a response body, a TCP stream or a watch leaves its route behind, marked as
//! abandoned. The loop finds it and has the executor end what belongs to it.

use std::{
    collections::{HashMap, VecDeque},
    sync::{
        Arc, Mutex, OnceLock, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
};

use bytes::Bytes;
use exec_proto::{
    environment::{Capabilities, Info},
    fs, http,
    network::POLICY_REQUEST,
    process as wire, rpc,
};
use futures_util::StreamExt as _;
use relay_proto::keys::PublicKey;
use tokio::{
    sync::{Notify, mpsc},
    time::{Instant, sleep_until},
};
use tokio_util::sync::CancellationToken;

use crate::{
    Bulk, ClientConfig, Dial, Error, NetworkDecider, client::RecoveryConfig,
    generation::Generation, limits, transport::Resumptions,
};

mod abandoned;
pub(crate) mod call;
mod notification;
mod question;
mod recovery;
pub(crate) mod route;
pub(crate) mod tcp;

use call::{Asker, Call, Pending, Retry};
use route::{BodyRoute, ProcessRoute, WatchRoute};
use tcp::TcpRoute;

/// What a caller hands to the session task.
#[derive(Debug)]
pub(crate) enum Job {
    /// A request.
    Call(Call),
    /// `process/start`, or the first `process/read` of a process that runs already, with the way of
    /// the process's events. They may overtake the answer.
    Start {
        call: Call,
        process: String,
        route: ProcessRoute,
    },
    /// `http/request` with a streamed response, with the way of its body.
    Stream {
        call: Call,
        request: String,
        body: BodyRoute,
    },
    /// `tcp/connect`, with the way of the bytes from the other side.
    Connect {
        call: Call,
        stream: String,
        route: TcpRoute,
    },
    /// `fs/watchMissing`, with the way of the news.
    Watch { call: Call, route: WatchRoute },
}

impl Job {
    fn call(self) -> Call {
        match self {
            Self::Call(call)
            | Self::Start { call, .. }
            | Self::Stream { call, .. }
            | Self::Connect { call, .. }
            | Self::Watch { call, .. } => call,
        }
    }
}

/// What clients can see of the session without asking the task.
#[derive(Debug)]
pub(crate) struct Shared {
    /// Counts connections; open files and response bodies belong to one of them.
    pub(crate) generation: AtomicU64,
    /// How often its connections went on over another path: those of before, and the present one's.
    pub(crate) resumptions: Mutex<(u64, Resumptions)>,
    pub(crate) info: Mutex<Info>,
    pub(crate) session_id: String,
    pub(crate) executor_key: Option<PublicKey>,
    /// Why the session ended.
    pub(crate) ended: OnceLock<Arc<Error>>,
    /// Tells the task that a reader made room.
    pub(crate) drained: Arc<Notify>,
}

impl Shared {
    /// What callers get after the end.
    pub(crate) fn ended(&self) -> Error {
        match self.ended.get() {
            Some(reason) if !matches!(**reason, Error::Closed) => {
                Error::SessionLost(reason.clone())
            }
            _ => Error::Closed,
        }
    }
}

/// The session task's state. See the module documentation.
pub(crate) struct Engine {
    dial: Arc<dyn Dial>,
    recovery: RecoveryConfig,
    bulk: Bulk,
    /// How payloads travel on the present connection.
    form: rpc::Form,
    jobs: mpsc::Receiver<Job>,
    cancel: CancellationToken,
    shared: Arc<Shared>,
    pending: Pending,
    refusals: VecDeque<Bytes>,
    decider: NetworkDecider,
    questions: question::Questions,
    processes: HashMap<String, ProcessRoute>,
    bodies: HashMap<String, BodyRoute>,
    streams: HashMap<String, TcpRoute>,
    /// A connection has one watch at a time.
    watch: Option<WatchRoute>,
}

/// Why the loop stopped serving a connection.
enum Ended {
    /// The owner of the client is done.
    Closed,
    /// The connection is gone or not usable any more.
    Lost(Error),
}

impl Engine {
    pub(crate) fn new(
        dial: Arc<dyn Dial>,
        config: &ClientConfig,
        jobs: mpsc::Receiver<Job>,
        cancel: CancellationToken,
        shared: Arc<Shared>,
    ) -> Self {
        Self {
            dial,
            recovery: config.recovery.clone(),
            bulk: config.bulk,
            form: rpc::Form::Json,
            jobs,
            cancel,
            shared,
            pending: Pending::new(),
            refusals: VecDeque::new(),
            decider: config.network.clone(),
            questions: question::Questions::new(),
            processes: HashMap::new(),
            bodies: HashMap::new(),
            streams: HashMap::new(),
            watch: None,
        }
    }

    /// Runs until the client is closed or the session cannot be had back.
    pub(crate) async fn run(mut self, first: Generation) {
        let mut generation = first;
        let mut recovery = recovery::Recovery::new(&self.recovery);
        let reason = loop {
            recovery.connected();
            self.form = generation.form;
            let (ended, transport) = self.serve(generation.transport).await;
            match ended {
                Ended::Closed => {
                    transport.close().await;
                    break Error::Closed;
                }
                Ended::Lost(cause) => {
                    tracing::info!(error = %cause, "connection to the executor lost");
                    drop(transport);
                    self.connection_lost();
                }
            }
            match recovery
                .recover(&*self.dial, self.bulk, &self.shared, &self.cancel)
                .await
            {
                Ok(next) => generation = next,
                Err(error) => break error,
            }
            tracing::info!("connection to the executor restored");
            self.connection_restored(&generation);
        };
        self.end(reason);
    }

    fn capabilities(&self) -> Capabilities {
        let info = self.shared.info.lock();
        info.unwrap_or_else(PoisonError::into_inner).capabilities
    }

    async fn serve(&mut self, mut transport: crate::Transport) -> (Ended, crate::Transport) {
        let ended = loop {
            let blocked = self.processes.values().any(ProcessRoute::blocks)
                || self.bodies.values().any(BodyRoute::blocks);
            let has_output = self.pending.has_unsent() || !self.refusals.is_empty();
            let due = self.pending.next_due();
            tokio::select! {
                () = self.cancel.cancelled() => break Ended::Closed,
                job = self.jobs.recv() => match job {
                    Some(job) => self.accept(job),
                    None => break Ended::Closed,
                },
                room = transport.outgoing.reserve(), if has_output => match room {
                    Ok(room) => if let Some(bytes) = self.next_output() {
                        room.send(bytes);
                    },
                    Err(_) => break Ended::Lost(connection_ended()),
                },
                message = transport.incoming.recv(), if !blocked => match message {
                    Some(bytes) => if let Err(error) = self.receive(&bytes) {
                        break Ended::Lost(error);
                    },
                    None => break Ended::Lost(connection_ended()),
                },
                Some((id, answer)) = self.questions.next() => {
                    if let Err(error) = self.decided(&id, answer) {
                        break Ended::Lost(error);
                    }
                }
                () = self.shared.drained.notified() => {
                    self.read_back();
                    self.give_up_abandoned();
                    self.widen_windows();
                }
                () = sleep_until(due.unwrap_or_else(Instant::now)), if due.is_some() => {
                    self.pending.become_due(Instant::now());
                }
            }
        };
        (ended, transport)
    }

    fn accept(&mut self, job: Job) {
        match job {
            Job::Call(call) => self.add(call),
            Job::Start {
                call,
                process,
                route,
            } => {
                self.processes.insert(process, route);
                self.pending.add(call);
            }
            Job::Stream {
                call,
                request,
                body,
            } => {
                self.bodies.insert(request, body);
                self.pending.add(call);
            }
            Job::Connect {
                call,
                stream,
                route,
            } => {
                self.streams.insert(stream, route);
                self.pending.add(call);
            }
            Job::Watch { call, route } => {
                if let Some(replaced) = self.watch.replace(route) {
                    replaced.fail(Error::Misuse("another watch took its place".into()));
                }
                // One of an earlier connection is answered at once.
                self.add(call);
            }
        }
    }

    fn add(&mut self, call: Call) {
        let current = self.shared.generation.load(Ordering::Acquire);
        match call.retry {
            Retry::Within(generation) if generation != current => {
                let error = Error::ConnectionLost(call.method);
                self.answer(call, Err(error));
            }
            _ => self.pending.add(call),
        }
    }

    fn next_output(&mut self) -> Option<Bytes> {
        if let Some(refusal) = self.refusals.pop_front() {
            return Some(refusal);
        }
        let (id, call) = self.pending.next_unsent()?;
        let method = call.method;
        if call.is_stale_start() {
            let call = self.pending.answered(id)?;
            if let Asker::Start(process, _) = &call.asker {
                self.processes.remove(process);
            }
            self.answer(call, Err(Error::OutcomeUnknown { method }));
            return None;
        }
        match rpc::encode_call(
            &id.into(),
            method,
            &call.params,
            call.trace.as_ref(),
            self.form,
        ) {
            Ok(bytes) => Some(bytes),
            // Raw JSON always serializes; a caller must not hang if that should ever be wrong.
            Err(_) => {
                let call = self.pending.answered(id)?;
                self.answer(
                    call,
                    Err(Error::Misuse(format!("{method} does not serialize"))),
                );
                None
            }
        }
    }

    fn receive(&mut self, bytes: &Bytes) -> Result<(), Error> {
        let message =
            rpc::decode(bytes, self.form).map_err(|error| Error::Protocol(error.to_string()))?;
        match message {
            rpc::Message::Response { id, result } => self.answered(&id, Ok(result)),
            rpc::Message::Error { id, error } => {
                if id == rpc::UNPARSABLE_ID {
                    let text = format!("it could not read a request: {}", error.message);
                    return Err(Error::Protocol(text));
                }
                self.answered(&id, Err(error));
            }
            rpc::Message::Notification { method, params } => self.notified(&method, &params)?,
            rpc::Message::Request {
                id, method, params, ..
            } if method == POLICY_REQUEST => self.asked(id, &params)?,
            rpc::Message::Request { id, method, .. } => {
                let refusal = rpc::RpcError::method_not_found(&method);
                self.reply(rpc::encode_error(&id, &refusal))?;
            }
        }
        Ok(())
    }

    /// Queues the answer to a request of the executor.
    fn reply(&mut self, answer: Bytes) -> Result<(), Error> {
        if self.refusals.len() >= limits::REFUSALS_QUEUED {
            return Err(Error::Protocol("it makes requests without end".into()));
        }
        self.refusals.push_back(answer);
        Ok(())
    }

    /// An answer whose id is not pending belongs to a caller that went away.
    fn answered(&mut self, id: &rpc::RequestId, outcome: Result<rpc::Value, rpc::RpcError>) {
        let rpc::RequestId::Integer(id) = id else {
            return;
        };
        let Some(call) = self.pending.answered(*id) else {
            return;
        };
        let Call {
            method,
            asker,
            repeated,
            ..
        } = call;
        let failed = |error: rpc::RpcError| Error::Rpc {
            method,
            code: error.code,
            message: error.message,
        };
        match asker {
            Asker::Caller(reply) => drop(reply.send(outcome.map_err(failed))),
            Asker::Start(process, reply) => match outcome {
                Ok(result) => {
                    self.started(&process, repeated);
                    drop(reply.send(Ok(result)));
                }
                // The first request may have worked, its answer being lost with the connection.
                Err(refusal) if repeated && refusal.code == rpc::code::INVALID_REQUEST => {
                    let asker = Asker::Adopt {
                        process: process.clone(),
                        refusal,
                        starting_since: None,
                        reply,
                    };
                    self.ask_for_page(&process, 0, asker);
                }
                Err(error) => {
                    self.processes.remove(&process);
                    drop(reply.send(Err(failed(error))));
                }
            },
            Asker::Stream(request, reply) => {
                if outcome.is_err() {
                    self.bodies.remove(&request);
                } else if let Some(body) = self.bodies.get_mut(&request) {
                    body.answered = true;
                    body.given_up = false;
                }
                drop(reply.send(outcome.map_err(failed)));
                // It may have been given up while the answer was on its way.
                self.give_up_abandoned();
            }
            Asker::Tcp(stream, reply) => {
                if outcome.is_err() {
                    self.streams.remove(&stream);
                } else if let Some(route) = self.streams.get_mut(&stream) {
                    route.open = true;
                }
                drop(reply.send(outcome.map_err(failed)));
            }
            Asker::Nobody => {}
            Asker::Attach(process, reply) => match outcome {
                Ok(page) => {
                    // Nothing is read back before this page, which has what was pushed already.
                    if let Some(route) = self.processes.get_mut(&process) {
                        route.started = true;
                    }
                    self.page_arrived(&process, 0, Ok(page));
                    let nothing = rpc::Value::encode(&exec_proto::Empty {});
                    drop(reply.send(nothing.map_err(|_| Error::ProcessGone)));
                }
                Err(error) => {
                    self.processes.remove(&process);
                    let error = match error.code {
                        rpc::code::INVALID_REQUEST => Error::ProcessGone,
                        _ => failed(error),
                    };
                    drop(reply.send(Err(error)));
                }
            },
            Asker::Page { process, after } => self.page_arrived(&process, after, outcome),
            Asker::Adopt {
                process,
                refusal,
                starting_since,
                reply,
            } => match outcome {
                Ok(page) => {
                    let result = rpc::Value::encode(&serde_json::json!({ "processId": process }));
                    let result = result.map_err(|_| failed(refusal));
                    self.started(&process, false);
                    self.page_arrived(&process, 0, Ok(page));
                    drop(reply.send(result));
                }
                Err(error) if is_starting(&error) => {
                    let now = Instant::now();
                    let since = starting_since.unwrap_or(now);
                    let asker = Asker::Adopt {
                        process: process.clone(),
                        refusal,
                        starting_since: Some(since),
                        reply,
                    };
                    self.still_starting(&process, asker, now, since);
                }
                Err(_) => {
                    self.processes.remove(&process);
                    drop(reply.send(Err(Error::Rpc {
                        method: wire::START,
                        code: refusal.code,
                        message: refusal.message,
                    })));
                }
            },
        }
    }

    /// The start that the lost connection had asked for is not done yet: asks again soon.
    ///
    /// An executor of release 0.169 that loses a connection within a start leaves the process in that
    /// state for ever. Whether the program ran cannot be found out then.
    fn still_starting(&mut self, process: &str, asker: Asker, now: Instant, since: Instant) {
        let Some(call) = page(process, 0, asker) else {
            return;
        };
        if now.duration_since(since) < limits::START_TIMEOUT {
            self.pending
                .add_later(call, now + limits::START_POLL_INTERVAL);
        } else {
            self.processes.remove(process);
            let method = wire::START;
            self.answer(call, Err(Error::OutcomeUnknown { method }));
        }
    }

    fn started(&mut self, process: &str, events_may_be_missing: bool) {
        if let Some(route) = self.processes.get_mut(process) {
            route.started = true;
            if events_may_be_missing {
                let after = route.after_seq();
                self.ask_for(process, after);
            } else {
                self.read_back();
            }
        }
    }

    /// Asks for the pages that are due: after a reader made room, or when a hole was seen.
    fn read_back(&mut self) {
        let due: Vec<_> = self
            .processes
            .iter()
            .filter_map(|(process, route)| Some((process.clone(), route.page_due()?)))
            .collect();
        for (process, after) in due {
            self.ask_for(&process, after);
        }
    }

    fn ask_for(&mut self, process: &str, after: u64) {
        if let Some(route) = self.processes.get_mut(process) {
            route.reading = true;
            let asker = Asker::Page {
                process: process.to_owned(),
                after,
            };
            self.ask_for_page(process, after, asker);
        }
    }

    fn ask_for_page(&mut self, process: &str, after: u64, asker: Asker) {
        if let Some(page) = page(process, after, asker) {
            self.pending.add(page);
        }
    }

    fn answer(&self, call: Call, outcome: Result<rpc::Value, Error>) {
        match call.asker {
            Asker::Caller(reply)
            | Asker::Start(_, reply)
            | Asker::Attach(_, reply)
            | Asker::Stream(_, reply)
            | Asker::Tcp(_, reply)
            | Asker::Adopt { reply, .. } => {
                // The caller may have gone away.
                drop(reply.send(outcome));
            }
            Asker::Page { .. } | Asker::Nobody => {}
        }
    }

    fn connection_lost(&mut self) {
        self.shared.generation.fetch_add(1, Ordering::AcqRel);
        self.refusals.clear();
        self.questions.clear();
        for (_, body) in self.bodies.drain() {
            body.fail(Error::ConnectionLost(http::REQUEST));
        }
        // Those that are not connected yet are asked for again.
        for (_, stream) in self.streams.extract_if(|_, stream| stream.open) {
            stream.fail(Error::ConnectionLost(tcp::STREAM));
        }
        if let Some(watch) = self.watch.take() {
            watch.fail(Error::ConnectionLost(fs::WATCH_MISSING));
        }
        for call in self.pending.connection_lost() {
            let method = call.method;
            let error = match call.retry {
                Retry::Within(_) => Error::ConnectionLost(method),
                Retry::Never | Retry::Repeat => Error::OutcomeUnknown { method },
            };
            self.answer(call, Err(error));
        }
    }

    fn connection_restored(&mut self, generation: &Generation) {
        *self
            .shared
            .info
            .lock()
            .unwrap_or_else(PoisonError::into_inner) = generation.info.clone();
        {
            let mut resumptions = self
                .shared
                .resumptions
                .lock()
                .unwrap_or_else(PoisonError::into_inner);
            let before = resumptions.0 + resumptions.1.count();
            *resumptions = (before, generation.transport.resumptions());
        }
        let mut running = Vec::new();
        for (process, route) in &mut self.processes {
            route.reading = false;
            if route.started {
                running.push((process.clone(), route.after_seq()));
            }
        }
        for (process, after) in running {
            self.ask_for(&process, after);
        }
    }

    fn end(mut self, reason: Error) {
        let reason = Arc::new(reason);
        let _ = self.shared.ended.set(reason.clone());
        let error = || match &*reason {
            Error::Closed => Error::Closed,
            _ => Error::SessionLost(reason.clone()),
        };
        for call in self.pending.drain() {
            self.answer(call, Err(error()));
        }
        for (_, route) in self.processes.drain() {
            route.fail(error());
        }
        for (_, body) in self.bodies.drain() {
            body.fail(error());
        }
        for (_, stream) in self.streams.drain() {
            stream.fail(error());
        }
        if let Some(watch) = self.watch.take() {
            watch.fail(error());
        }
        self.jobs.close();
        while let Ok(job) = self.jobs.try_recv() {
            if let Job::Start { route, .. } = &job {
                route.fail(error());
            }
            self.answer(job.call(), Err(error()));
        }
    }
}

impl std::fmt::Debug for Engine {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Engine")
            .field("processes", &self.processes.len())
            .field("bodies", &self.bodies.len())
            .finish_non_exhaustive()
    }
}

/// The request for what a process did after `after`.
fn page(process: &str, after: u64, asker: Asker) -> Option<Call> {
    let params = wire::ReadParams {
        process_id: process.to_owned(),
        after_seq: Some(after),
        max_bytes: None,
        wait_ms: Some(0),
    };
    Some(Call {
        method: wire::READ,
        params: rpc::Draft::new(&params).ok()?,
        retry: Retry::Repeat,
        asker,
        repeated: false,
        made: Instant::now(),
        trace: None,
        _room: None,
    })
}

/// Whether an executor refuses to read a process because it has not started it yet. Only the text
/// tells this from a process that it does not know.
fn is_starting(error: &rpc::RpcError) -> bool {
    error.code == rpc::code::INVALID_REQUEST && error.message.ends_with(" is starting")
}

fn connection_ended() -> Error {
    Error::Unavailable {
        context: "executor".into(),
        detail: "the connection ended".into(),
        retry_after: None,
    }
}

#[cfg(test)]
mod tests;
