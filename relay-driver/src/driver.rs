//! The loop: one `select!` over the websocket, the application, one timer and cancellation.

use std::collections::HashMap;

use futures_util::StreamExt;
use futures_util::stream::FuturesUnordered;
use relay_proto::ids::StreamId;
use relay_proto::{CloseReason, Connection, ConnectionError, StreamError, limits};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::sync::{mpsc, oneshot};
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::Message;
use tokio_util::sync::CancellationToken;

use crate::GOODBYE_TIMEOUT;
use crate::activity::Pending;
use crate::farewell;
use crate::handles::{DisconnectReason, IncomingStream, OpenFailure, OpenRequest, Opening, Stream};
use crate::io::{Io, Socket, now};
use crate::resumable::Resumable;
use crate::streams::Attached;

/// Makes the driver of an executor's connection, and the queue of harnesses that ask to come in.
///
/// A request that finds the queue full, or its receiver gone, is refused.
pub fn executor<S: AsyncRead + AsyncWrite + Unpin>(
    websocket: WebSocketStream<S>,
    connection: Connection,
    cancel: CancellationToken,
) -> (Driver<S>, mpsc::Receiver<IncomingStream>) {
    let (requests, incoming) = mpsc::channel(limits::PENDING_HANDSHAKES);
    let side = Side::Executor { requests };
    (
        Driver::new(websocket, connection, cancel, side, None),
        incoming,
    )
}

/// As [`executor`], with the streams of the websocket before.
///
/// They go on as soon as their harnesses come back.
pub fn executor_resuming<S: AsyncRead + AsyncWrite + Unpin>(
    websocket: WebSocketStream<S>,
    connection: Connection,
    resumable: Resumable,
    cancel: CancellationToken,
) -> (Driver<S>, mpsc::Receiver<IncomingStream>) {
    let (requests, incoming) = mpsc::channel(limits::PENDING_HANDSHAKES);
    let side = Side::Executor { requests };
    (
        Driver::new(websocket, connection, cancel, side, Some(resumable)),
        incoming,
    )
}

/// Makes the driver of a harness's connection, which opens one stream and ends with it.
pub fn harness<S: AsyncRead + AsyncWrite + Unpin>(
    websocket: WebSocketStream<S>,
    connection: Connection,
    request: OpenRequest,
    cancel: CancellationToken,
) -> (Driver<S>, Opening) {
    let (opened, opening) = oneshot::channel();
    let side = Side::Harness {
        request: Some(request),
        opened: Some(opened),
    };
    (
        Driver::new(websocket, connection, cancel, side, None),
        Opening(opening),
    )
}

/// Makes the driver of a harness's connection that goes on with the stream of the websocket before,
/// and ends with it.
pub fn harness_resuming<S: AsyncRead + AsyncWrite + Unpin>(
    websocket: WebSocketStream<S>,
    connection: Connection,
    resumable: Resumable,
    cancel: CancellationToken,
) -> Driver<S> {
    let side = Side::Harness {
        request: None,
        opened: None,
    };
    Driver::new(websocket, connection, cancel, side, Some(resumable))
}

/// Runs one connection over one websocket.
pub struct Driver<S> {
    socket: Socket<S>,
    pub(crate) connection: Connection,
    cancel: CancellationToken,
    /// No new streams once it is cancelled, and the end with the last one.
    pub(crate) finishing: CancellationToken,
    pub(crate) side: Side,
    pub(crate) streams: HashMap<StreamId, Attached>,
    /// Executor: requests that wait for an answer; cancelled when they are gone.
    pub(crate) asked: HashMap<StreamId, CancellationToken>,
    /// Executor: approved, waiting for the stream to open in the same turn.
    pub(crate) approved: HashMap<StreamId, oneshot::Sender<Stream>>,
    /// Executor: answers to requests that are awaited. They end with the websocket.
    pub(crate) answers: FuturesUnordered<Pending>,
    /// What the applications of open streams do.
    pub(crate) activities: FuturesUnordered<Pending>,
    pub(crate) next_serial: u64,
    pub(crate) end: Option<DisconnectReason>,
}

pub(crate) enum Side {
    Executor {
        requests: mpsc::Sender<IncomingStream>,
    },
    Harness {
        request: Option<OpenRequest>,
        opened: Option<oneshot::Sender<Result<Stream, OpenFailure>>>,
    },
}

impl<S: AsyncRead + AsyncWrite + Unpin> Driver<S> {
    fn new(
        websocket: WebSocketStream<S>,
        mut connection: Connection,
        cancel: CancellationToken,
        side: Side,
        resumable: Option<Resumable>,
    ) -> Self {
        let mut streams = HashMap::new();
        let mut activities = FuturesUnordered::new();
        let mut next_serial = 0;
        if let Some(mut resumable) = resumable {
            std::mem::swap(&mut streams, &mut resumable.streams);
            std::mem::swap(&mut activities, &mut resumable.activities);
            next_serial = resumable.next_serial;
            if let Some(suspended) = resumable.take() {
                connection.adopt(now(), suspended);
            }
        }
        Self {
            socket: Socket::new(websocket),
            connection,
            cancel,
            finishing: CancellationToken::new(),
            side,
            streams,
            asked: HashMap::new(),
            approved: HashMap::new(),
            answers: FuturesUnordered::new(),
            activities,
            next_serial,
            end: None,
        }
    }

    /// Ends gracefully once `finishing` is cancelled: no more streams are let in, and when the last
    /// one has ended, the websocket is closed. Streams end as ever, when their applications drop
    /// their ends and what they sent has arrived.
    #[must_use]
    pub fn finish_with(mut self, finishing: CancellationToken) -> Self {
        self.finishing = finishing;
        self
    }

    /// Runs until the websocket ends, the harness's stream ends, or `cancel` is cancelled.
    ///
    /// On cancellation every stream is reset and the websocket closed, within a bounded time.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future drops the websocket without a goodbye; prefer the token.
    pub async fn run(self) -> DisconnectReason {
        self.run_resumable().await.0
    }

    /// As [`Driver::run`], and gives back the streams that can go on over another websocket: none if
    /// this end has cancelled, or its peers keep none.
    ///
    /// # Cancel safety
    ///
    /// As [`Driver::run`].
    pub async fn run_resumable(mut self) -> (DisconnectReason, Resumable) {
        self.start();
        let timer = tokio::time::sleep_until(tokio::time::Instant::now());
        tokio::pin!(timer);
        let cancel = self.cancel.clone();
        let finishing = self.finishing.clone();
        loop {
            self.drain_events();
            let is_finishing = finishing.is_cancelled();
            if is_finishing && self.streams.is_empty() {
                self.end.get_or_insert(DisconnectReason::LocalShutdown);
            }
            if let Some(reason) = self.end {
                return self.finish(reason).await;
            }
            let deadlines = [self.connection.poll_timeout(), self.socket.write_deadline()];
            let deadline = deadlines.into_iter().flatten().min();
            if let Some(deadline) = deadline.map(tokio::time::Instant::from_std)
                && deadline != timer.deadline()
            {
                timer.as_mut().reset(deadline);
            }
            tokio::select! {
                io = self.socket.next(&mut self.connection) => self.on_io(io),
                Some(activity) = self.activities.next() => self.on_activity(activity),
                Some(activity) = self.answers.next() => self.on_activity(activity),
                () = &mut timer, if deadline.is_some() => self.on_timer(),
                () = cancel.cancelled() => self.end = Some(DisconnectReason::LocalShutdown),
                () = finishing.cancelled(), if !is_finishing => {}
            }
        }
    }

    fn start(&mut self) {
        let Side::Harness { request, opened } = &mut self.side else {
            return;
        };
        let Some(OpenRequest {
            stream,
            executor_key,
            authorization,
        }) = request.take()
        else {
            if self.streams.is_empty() {
                // Nothing to go on with.
                let reason = CloseReason::Stream(StreamError::PathLost);
                self.end = Some(DisconnectReason::StreamClosed(reason));
            }
            return;
        };
        if let Err(error) = self
            .connection
            .open(now(), stream, executor_key, &authorization)
        {
            if let Some(opened) = opened.take() {
                let _ = opened.send(Err(error.into()));
            }
            self.end = Some(DisconnectReason::OpenInvalid);
        }
    }

    async fn finish(mut self, reason: DisconnectReason) -> (DisconnectReason, Resumable) {
        if let Side::Harness { opened, .. } = &mut self.side
            && let Some(opened) = opened.take()
        {
            let _ = opened.send(Err(OpenFailure::Disconnected(reason)));
        }
        // The applications learn of the end now, not after the goodbye.
        self.answers.clear();
        let mut streams = std::mem::take(&mut self.streams);
        if reason.is_final() {
            self.connection.reset_all(now());
            for (_, attached) in streams.drain() {
                attached.end();
            }
        }
        let suspended = self.connection.suspend(now());
        let activities = std::mem::take(&mut self.activities);
        let resumable = Resumable::new(suspended, streams, activities, self.next_serial);
        if reason.is_orderly() {
            let awaits_answer = matches!(self.side, Side::Executor { .. })
                && reason == DisconnectReason::LocalShutdown;
            let goodbye = async {
                self.socket.goodbye(&mut self.connection).await?;
                // A process that ends before the answer is there has it answered by the system, with a
                // TCP reset, and the peer may read that instead of the goodbye.
                if awaits_answer {
                    self.socket.until_end().await;
                }
                Ok::<_, tokio_tungstenite::tungstenite::Error>(())
            };
            if !matches!(
                tokio::time::timeout(GOODBYE_TIMEOUT, goodbye).await,
                Ok(Ok(()))
            ) {
                tracing::debug!("websocket ended before the goodbye was sent");
            }
        }
        tracing::debug!(reason = reason.reason(), stats = ?self.connection.stats(), "disconnected");
        (reason, resumable)
    }

    fn on_io(&mut self, io: Io) {
        let result = match io {
            Io::Read(Some(Ok(Message::Binary(bytes)))) => {
                self.connection.handle_message(now(), bytes)
            }
            Io::Read(Some(Ok(Message::Pong(_)))) => {
                self.connection.handle_pong(now());
                Ok(())
            }
            // The library answers pings; text is not for us.
            Io::Wrote
            | Io::Read(Some(Ok(Message::Ping(_) | Message::Text(_) | Message::Frame(_)))) => Ok(()),
            Io::Read(Some(Ok(Message::Close(frame)))) => {
                self.end = Some(farewell::reason(frame.as_ref()));
                Ok(())
            }
            Io::Read(Some(Err(error))) => {
                tracing::debug!(%error, "websocket read failed");
                self.end = Some(DisconnectReason::ReadError);
                Ok(())
            }
            Io::Read(None) => {
                self.end = Some(DisconnectReason::ReadError);
                Ok(())
            }
            Io::WriteFailed(error) => {
                tracing::debug!(%error, "websocket write failed");
                self.end = Some(DisconnectReason::WriteError);
                Ok(())
            }
        };
        self.check(result);
    }

    fn on_timer(&mut self) {
        if self
            .socket
            .write_deadline()
            .is_some_and(|deadline| deadline <= now())
        {
            self.end = Some(DisconnectReason::WriteError);
            return;
        }
        // A pong that is already here counts as in time, however late this task runs.
        for _ in 0..limits::READ_BEFORE_TIMEOUT {
            match self.socket.read_now(&self.connection) {
                Some(io) => self.on_io(io),
                None => break,
            }
            self.drain_events();
            if self.end.is_some() {
                return;
            }
        }
        let result = self.connection.handle_timeout(now());
        self.check(result);
    }

    fn check(&mut self, result: Result<(), ConnectionError>) {
        if let Err(error) = result {
            self.end = Some(match error {
                ConnectionError::MessageTooLong { .. } => DisconnectReason::MessageTooLong,
                ConnectionError::PathDead => DisconnectReason::PathDead,
                _ => DisconnectReason::PongTimeout,
            });
        }
    }
}

impl<S> std::fmt::Debug for Driver<S> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Driver")
            .field("connection", &self.connection)
            .finish_non_exhaustive()
    }
}
