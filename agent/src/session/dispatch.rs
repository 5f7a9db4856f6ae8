//! From a decoded call to its answer: one match over all methods.

use std::sync::Arc;

use bytes::Bytes;
use exec_proto::environment::{Info, Status};
use exec_proto::http::RequestParams;
use exec_proto::initialize::BulkTerms;
use exec_proto::process::{SignalGroupResult, TerminateResult, WriteResult};
use exec_proto::rpc::{Form, RequestId, encode_error, encode_response};
use exec_proto::session::CancelResult;
use exec_proto::{Empty, RpcError};
use serde::Serialize;
use tokio::sync::Semaphore;

use super::call::Call;
use super::in_flight::InFlight;
use super::registry::{Session, Sessions};
use crate::environment::ExecutorEnvironment;
use crate::fs::FsConnection;
use crate::http::{HttpConnection, Upload};
use crate::process::Reservation;
use crate::rpc::{Disconnected, Lane, Outbox, PeerLabel};
use crate::tcp::TcpConnection;
use crate::{capabilities, config_layers};

/// What the requests of one connection share. Dropping it ends what belongs to the connection.
pub(super) struct Context {
    environment: Arc<ExecutorEnvironment>,
    /// Whether the transport carries messages that are not text.
    carries_bulk: bool,
    pub(super) outbox: Outbox,
    fs: FsConnection,
    pub(super) http: HttpConnection,
    tcp: TcpConnection,
    /// The requests that can be given up.
    pub(super) in_flight: Arc<InFlight>,
    /// One permit for each request that works on files.
    pub(super) working: Semaphore,
    /// One permit for each HTTP request.
    pub(super) requesting: Semaphore,
    /// A permit for each part of an answer with retained output that waits for the client to read.
    reading: Semaphore,
    /// How many there are of those.
    read_shares: usize,
}

/// What one permit for reading stands for; in base64 it takes as much again.
const READ_SHARE_BYTES: usize = 1 << 20;

/// Answers of that size at the same time. As many more as the largest answer needs, if output is kept
/// on disk.
const MAX_READ_ANSWERS: usize = 4;

impl Context {
    pub(super) fn new(sessions: &Sessions, peer: &PeerLabel, outbox: Outbox) -> Self {
        let concurrent = sessions.config.concurrent_requests.max(1);
        let largest = sessions.config.output_bytes.div_ceil(READ_SHARE_BYTES);
        let read_shares = MAX_READ_ANSWERS - 1 + largest.max(1);
        Self {
            environment: Arc::clone(sessions.environment()),
            carries_bulk: *peer != PeerLabel::Stdio,
            fs: FsConnection::with_sandboxes(outbox.clone(), sessions.sandboxes()),
            http: HttpConnection::new(Arc::clone(&sessions.config.http), outbox.clone()),
            tcp: TcpConnection::new(
                outbox.clone(),
                sessions.environment().info().capabilities.tcp_streams,
            ),
            outbox,
            in_flight: Arc::default(),
            working: Semaphore::new(concurrent),
            requesting: Semaphore::new(concurrent),
            reading: Semaphore::new(read_shares),
            read_shares,
        }
    }
}

/// Answers the methods that are never held up by others; gives every other call back.
pub(super) fn control(
    context: &Context,
    session: &Session,
    id: &RequestId,
    call: Call,
) -> Result<Bytes, Box<Call>> {
    Ok(match call {
        Call::EnvironmentInfo => context.answer(id, Ok(context.info())),
        Call::EnvironmentStatus => context.answer(id, Ok(Status::ready())),
        Call::ProcessSignal(params) => {
            session.processes.signal(&params.process_id, params.signal);
            context.answer(id, Ok(Empty {}))
        }
        Call::ProcessTerminate(params) => {
            let running = session.processes.terminate(&params);
            context.answer(id, running.map(|running| TerminateResult { running }))
        }
        Call::ProcessSignalGroup(params) => {
            let running = session.processes.signal_group(&params);
            context.answer(id, Ok(SignalGroupResult { running }))
        }
        Call::ProcessResize(params) => {
            context.answer(id, session.processes.resize(&params).map(empty))
        }
        Call::Cancel(params) => {
            let cancelled = context.in_flight.cancel(&params.id);
            context.answer(id, Ok(CancelResult { cancelled }))
        }
        call => return Err(Box::new(call)),
    })
}

/// `process/start`: the answer first, then the events.
pub(super) async fn start(
    context: &Context,
    id: &RequestId,
    reservation: Reservation,
) -> Result<(), Disconnected> {
    let is_interactive = reservation.is_interactive();
    match reservation.start().await {
        Ok(started) => {
            let answer = context.answer(id, Ok(&started.result));
            // In the lane of the events, so that it stays before them.
            let sent = if is_interactive {
                context.send_prompt(answer).await
            } else {
                context.send(answer).await
            };
            drop(started.gate);
            sent
        }
        Err(error) => context.send_prompt(encode_error(id, &error)).await,
    }
}

/// `http/request`: the answer first, then the parts of a streamed body.
pub(super) async fn request(
    context: &Context,
    id: &RequestId,
    params: RequestParams,
    upload: Option<Upload>,
) -> Result<(), Disconnected> {
    let (result, body) = match context.http.request(params, upload).await {
        Ok(reply) => (Ok(reply.result), reply.body),
        Err(error) => (Err(error), None),
    };
    context.send(context.answer(id, result)).await?;
    context.http.stream(body);
    Ok(())
}

/// Every other method: works, then answers.
pub(super) async fn run(
    context: &Context,
    session: &Session,
    id: &RequestId,
    call: Call,
) -> Result<(), Disconnected> {
    let fs = &context.fs;
    let answer = match call {
        Call::ProcessRead(params) => {
            let process = match session.processes.find(&params.process_id) {
                Ok(process) => process,
                Err(error) => return context.send(encode_error(id, &error)).await,
            };
            process.readable(&params).await;
            // Whatever waits for its turn here holds no output yet.
            let share = process.readable_bytes(&params).div_ceil(READ_SHARE_BYTES);
            let share = share.clamp(1, context.read_shares);
            let share = u32::try_from(share).unwrap_or(u32::MAX);
            let _permit = context.reading.acquire_many(share).await;
            let read = process.read(&params).await;
            return context.send(context.answer(id, read)).await;
        }
        Call::ProcessWrite(params) => {
            let status = session.processes.write(params).await;
            context.answer(id, status.map(|status| WriteResult { status }))
        }
        Call::ProcessCloseStdin(params) => {
            context.answer(id, session.processes.close_stdin(&params).await.map(empty))
        }
        Call::ProcessList(params) => context.answer(id, session.processes.list(&params)),
        Call::ReadFile(params) => context.answer(id, fs.read_file(params).await),
        Call::WriteFile(params) => context.answer(id, fs.write_file(params).await.map(empty)),
        Call::CreateDirectory(params) => {
            context.answer(id, fs.create_directory(params).await.map(empty))
        }
        Call::GetMetadata(params) => context.answer(id, fs.get_metadata(params).await),
        Call::Canonicalize(params) => context.answer(id, fs.canonicalize(params).await),
        Call::ReadDirectory(params) => context.answer(id, fs.read_directory(params).await),
        Call::Walk(params) => context.answer(id, fs.walk(params).await),
        Call::Remove(params) => context.answer(id, fs.remove(params).await.map(empty)),
        Call::Copy(params) => context.answer(id, fs.copy(params).await.map(empty)),
        Call::Open(params) => context.answer(id, fs.open(params).await),
        Call::ReadBlock(params) => context.answer(id, fs.read_block(params).await),
        Call::WriteBlock(params) => context.answer(id, fs.write_block(params).await.map(empty)),
        Call::Close(params) => context.answer(id, fs.close(params).await.map(empty)),
        Call::Append(params) => context.answer(id, fs.append(params).await),
        Call::Rename(params) => context.answer(id, fs.rename(params).await.map(empty)),
        Call::Sync(params) => context.answer(id, fs.sync(params).await.map(empty)),
        Call::Batch(params) => context.answer(id, fs.batch(params).await),
        Call::ConfigRead(params) => context.answer(
            id,
            config_layers::read(fs.pool(), &context.environment, params).await,
        ),
        Call::DiscoverV1(params) => context.answer(id, capabilities::discover_v1(fs, params).await),
        Call::DiscoverV2(params) => context.answer(
            id,
            capabilities::discover_v2(fs, &context.environment, params).await,
        ),
        Call::HttpRequest(params) => return request(context, id, params, None).await,
        // From here on answers that say something about notifications: they must not overtake them.
        Call::HttpCancel(params) => {
            return context
                .send(context.answer(id, Ok(context.http.cancel(&params))))
                .await;
        }
        Call::WatchMissing(params) => {
            return context
                .send(context.answer(id, fs.watch_missing(params).await))
                .await;
        }
        Call::UnwatchMissing(params) => {
            fs.unwatch_missing(params).await;
            return context.send(context.answer(id, Ok(Empty {}))).await;
        }
        Call::BodyChunk(params) => {
            context.answer(id, context.http.body_chunk(params).await.map(empty))
        }
        Call::TcpConnect(params) => {
            let (result, stream) = match context.tcp.connect(*params).await {
                Ok((result, stream)) => (Ok(result), Some(stream)),
                Err(error) => (Err(error), None),
            };
            context.send(context.answer(id, result)).await?;
            context.tcp.run(stream);
            return Ok(());
        }
        Call::TcpClose(params) => {
            let closed = context.tcp.close(&params).await.map(empty);
            return context.send(context.answer(id, closed)).await;
        }
        Call::TcpWrite(params) => context.answer(id, context.tcp.write(params).await.map(empty)),
        Call::TcpShutdown(params) => {
            context.answer(id, context.tcp.shutdown(&params).await.map(empty))
        }
        Call::TcpWindow(params) => context.answer(id, context.tcp.window(&params).map(empty)),
        // Answered by `control`, `start` and the handshake, which come first.
        Call::Initialize(_)
        | Call::EnvironmentInfo
        | Call::EnvironmentStatus
        | Call::ProcessStart(_)
        | Call::ProcessSignal(_)
        | Call::ProcessTerminate(_)
        | Call::ProcessSignalGroup(_)
        | Call::ProcessResize(_)
        | Call::SessionClose
        | Call::SessionKeep(_)
        | Call::Cancel(_) => encode_error(
            id,
            &RpcError::internal("the request came to the wrong place"),
        ),
    };
    if answer.len() <= PROMPT_ANSWER_BYTES {
        context.send_prompt(answer).await
    } else {
        context.send(answer).await
    }
}

/// Largest answer that may overtake others: results without contents. What is longer takes its turn.
const PROMPT_ANSWER_BYTES: usize = 4096;

impl Context {
    /// Sends an answer that may overtake notifications and large answers.
    async fn send_prompt(&self, answer: Bytes) -> Result<(), Disconnected> {
        self.outbox.send(Lane::Prompt, answer).await
    }

    /// Encodes the answer to a request.
    pub(super) fn answer<T: Serialize>(
        &self,
        id: &RequestId,
        result: Result<T, RpcError>,
    ) -> Bytes {
        let encoded = result.and_then(|result| {
            encode_response(id, &result, self.outbox.form())
                .map_err(|err| RpcError::internal(err.to_string()))
        });
        encoded.unwrap_or_else(|error| encode_error(id, &error))
    }

    /// What the executor is, towards this client.
    pub(super) fn info(&self) -> Info {
        let mut info = self.environment.info().clone();
        info.capabilities.rpc_bulk &= self.carries_bulk;
        info.capabilities.rpc_bulk_zstd &= self.carries_bulk;
        info
    }

    /// Both ends may send bulk messages from now on, if the transport carries them.
    pub(super) fn use_bulk(&self, terms: &BulkTerms) {
        if self.info().capabilities.rpc_bulk {
            self.outbox.use_form(match terms.zstd {
                true => Form::Compressed,
                false => Form::Bulk,
            });
        }
    }

    async fn send(&self, answer: Bytes) -> Result<(), Disconnected> {
        self.outbox.send(Lane::Ordinary, answer).await
    }
}

fn empty((): ()) -> Empty {
    Empty {}
}
