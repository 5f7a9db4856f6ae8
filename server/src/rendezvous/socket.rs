//! One websocket: reads messages into a handler, writes what its queue holds, keeps it alive.
//!
//! Reading and writing go on independently, in one task. The socket ends when either ends, when its
//! queue says so, or when the peer shows no life after a ping ([`relay_proto::keepalive`]), of which it
//! has more to show while others wait for it. While the handler holds up reading, nobody is expected to
//! be heard.

use std::future::Future;
use std::pin::pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::Poll;

use axum::extract::ws::{CloseFrame, Message, Utf8Bytes, WebSocket, close_code};
use bytes::Bytes;
use futures_util::stream::SplitSink;
use futures_util::{SinkExt as _, Stream, StreamExt as _};
use relay_proto::keepalive::{Keepalive, KeepaliveConfig};
use relay_proto::limits::{GOING_AWAY_RETRY, WATCHED_PING_INTERVAL, WEBSOCKET_MESSAGE_BYTES};
use tokio::time::{Instant, sleep_until, timeout};
use tokio_tungstenite::tungstenite;

use super::outbox::{Next, Outbox};
use super::routes::CloseCause;
use crate::limits::{self, RendezvousLimits};

/// Takes the binary messages of one socket.
pub(crate) trait FrameHandler: Send {
    /// Takes one message. While this waits, the socket is not read.
    ///
    /// # Errors
    ///
    /// Why the socket is to be closed.
    fn handle(&mut self, message: Bytes) -> impl Future<Output = Result<(), CloseCause>> + Send;

    /// Whether somebody waits for this socket's peer, so that its path has to be watched closely. Asked
    /// when the socket's queue draws attention.
    fn is_watched(&self) -> bool;

    /// How many messages went nowhere.
    fn dropped_frames(&self) -> u64;
}

/// How a socket ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Ended {
    /// Why.
    pub(crate) end: End,
    /// How many of its messages went nowhere.
    pub(crate) dropped_frames: u64,
}

/// Why a socket ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum End {
    /// The peer closed it.
    PeerClose,
    /// The connection broke while reading, or the peer broke the websocket protocol.
    ReadError,
    /// The connection broke while writing, or took too long to write.
    WriteError,
    /// The peer was silent for too long.
    PongTimeout,
    /// This side closed it.
    Closed(CloseCause),
}

impl End {
    /// A name from a closed set.
    pub(crate) fn reason(self) -> &'static str {
        match self {
            Self::PeerClose => "peer_close",
            Self::ReadError => "read_error",
            Self::WriteError => "write_error",
            Self::PongTimeout => "pong_timeout",
            Self::Closed(cause) => reason(cause),
        }
    }
}

/// Runs a socket to its end. The handler is dropped as soon as the end is known, before what remains
/// is written, so that the other side learns of it at once.
///
/// # Cancel safety
///
/// Dropping it drops the connection without a close frame.
pub(crate) async fn run<H: FrameHandler>(
    socket: WebSocket,
    outbox: Arc<Outbox>,
    mut handler: H,
    limits: &RendezvousLimits,
) -> Ended {
    let (mut sink, mut stream) = socket.split();
    let ended = {
        let life = Life::new(limits);
        let mut writer = pin!(write(&mut sink, &outbox, limits, &life));
        let (end, is_writing) = tokio::select! {
            end = read(&mut stream, &outbox, &mut handler, &life) => (end, true),
            end = &mut writer => (end, false),
            () = outbox.closing() => (outbox.close_cause().map_or(End::ReadError, End::Closed), true),
        };
        let ended = Ended {
            end,
            dropped_frames: handler.dropped_frames(),
        };
        drop(handler);
        if let (End::Closed(cause), true) = (end, is_writing) {
            outbox.close(cause);
            // Failing to say goodbye changes nothing.
            let _ = timeout(limits.close_timeout, writer).await;
        }
        ended
    };
    let _ = timeout(limits.close_timeout, async {
        // Sends the answer to the peer's close frame, if that is what ended it.
        sink.close().await?;
        // A connection that is dropped with something unread is reset by the system, and the peer
        // may lose what it was sent last. So the peer gets a moment to close its side.
        while let Some(Ok(_)) = stream.next().await {}
        Ok::<_, axum::Error>(())
    })
    .await;
    ended
}

/// The keepalive, which reading and writing both feed.
struct Life(Mutex<Keepalive>);

impl Life {
    fn new(limits: &RendezvousLimits) -> Self {
        let config = KeepaliveConfig {
            interval: limits.ping_interval,
            watched_interval: WATCHED_PING_INTERVAL,
            timeout: limits.pong_timeout,
            hard_timeout: limits::NEVER,
        };
        Self(Mutex::new(Keepalive::new(config, now())))
    }

    fn with<T>(&self, act: impl FnOnce(&mut Keepalive) -> T) -> T {
        act(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Whether the peer has shown no life for too long; otherwise a ping may go out.
    fn is_over(&self, is_watched: bool, outbox: &Outbox) -> bool {
        let now = now();
        self.asking(now, outbox, |keepalive| {
            keepalive.watch(now, is_watched);
            keepalive.is_dead(now)
        })
    }

    /// The peer may be gone: it is asked at once, and has little time to answer.
    fn suspect(&self, outbox: &Outbox) {
        let now = now();
        self.asking(now, outbox, |keepalive| keepalive.suspect(now));
    }

    /// As `with`, and sends the ping that is due then.
    fn asking<T>(
        &self,
        now: std::time::Instant,
        outbox: &Outbox,
        act: impl FnOnce(&mut Keepalive) -> T,
    ) -> T {
        self.with(|keepalive| {
            let outcome = act(keepalive);
            if keepalive.take_ping(now) {
                outbox.ping();
            }
            outcome
        })
    }

    /// When to look at it again. Only a pong makes that earlier.
    fn deadline(&self, is_watched: bool) -> Instant {
        let deadline = self.with(|keepalive| keepalive.deadline(is_watched));
        deadline.map_or_else(|| Instant::now() + limits::NEVER, Instant::from_std)
    }
}

async fn read(
    stream: &mut (impl Stream<Item = Result<Message, axum::Error>> + Unpin),
    outbox: &Outbox,
    handler: &mut impl FrameHandler,
    life: &Life,
) -> End {
    let mut is_watched = handler.is_watched();
    let mut timer = pin!(sleep_until(life.deadline(is_watched)));
    loop {
        let message = tokio::select! {
            biased;
            // A message that is there counts, even if the deadline has passed as well.
            message = stream.next() => message,
            is_suspected = outbox.attention() => {
                is_watched = handler.is_watched();
                if is_suspected {
                    life.suspect(outbox);
                }
                timer.as_mut().reset(life.deadline(is_watched));
                continue;
            }
            () = &mut timer => {
                is_watched = handler.is_watched();
                if life.is_over(is_watched, outbox) {
                    return End::PongTimeout;
                }
                timer.as_mut().reset(life.deadline(is_watched));
                continue;
            }
        };
        match message {
            None | Some(Ok(Message::Close(_))) => return End::PeerClose,
            Some(Err(error)) if is_too_large(&error) => return End::Closed(CloseCause::TooLarge),
            Some(Err(_)) => return End::ReadError,
            Some(Ok(Message::Binary(message))) => {
                if let Err(cause) = handler.handle(message).await {
                    return End::Closed(cause);
                }
                life.with(|keepalive| keepalive.heard(now()));
            }
            Some(Ok(Message::Pong(_))) => {
                life.with(|keepalive| keepalive.pong(now()));
                timer.as_mut().reset(life.deadline(is_watched));
            }
            // Pings are answered by the websocket library. Text has no meaning here.
            Some(Ok(Message::Text(_) | Message::Ping(_))) => {
                life.with(|keepalive| keepalive.heard(now()));
            }
        }
    }
}

async fn write(
    sink: &mut SplitSink<WebSocket, Message>,
    outbox: &Outbox,
    limits: &RendezvousLimits,
    life: &Life,
) -> End {
    loop {
        let first = outbox.next().await;
        let mut batch = pin!(timeout(
            limits.write_timeout,
            write_batch(sink, outbox, first, life)
        ));
        let written = match futures_util::poll!(batch.as_mut()) {
            Poll::Ready(written) => written,
            Poll::Pending => {
                let written = batch.await;
                life.with(|keepalive| keepalive.wrote(now()));
                written
            }
        };
        match written {
            Ok(Ok(None)) => {}
            Ok(Ok(Some(cause))) => return End::Closed(cause),
            Ok(Err(_)) | Err(_) => return End::WriteError,
        }
    }
}

/// Writes `first` and what else is queued, up to a limit, then flushes. Returns the cause once a
/// close frame is written.
async fn write_batch(
    sink: &mut SplitSink<WebSocket, Message>,
    outbox: &Outbox,
    first: Next,
    life: &Life,
) -> Result<Option<CloseCause>, axum::Error> {
    let mut written = 0;
    let mut next = Some(first);
    while let Some(entry) = next {
        match entry {
            Next::Frame(frame, reservation) => {
                written += frame.len();
                sink.feed(Message::Binary(frame)).await?;
                drop(reservation);
            }
            Next::Ping => sink.feed(Message::Ping(Bytes::new())).await?,
            Next::Close(cause) => {
                sink.send(Message::Close(Some(close_frame(cause)))).await?;
                return Ok(Some(cause));
            }
        }
        next = if written < limits::FLUSH_BYTES {
            outbox.try_next()
        } else {
            None
        };
    }
    life.with(|keepalive| keepalive.sent(written));
    sink.flush().await?;
    Ok(None)
}

fn now() -> std::time::Instant {
    Instant::now().into_std()
}

fn is_too_large(error: &axum::Error) -> bool {
    let mut source = std::error::Error::source(error);
    while let Some(cause) = source {
        if let Some(error) = cause.downcast_ref::<tungstenite::Error>() {
            return matches!(error, tungstenite::Error::Capacity(_));
        }
        source = cause.source();
    }
    false
}

fn close_frame(cause: CloseCause) -> CloseFrame {
    CloseFrame {
        code: code(cause),
        reason: text(cause),
    }
}

/// The reason for people, and for those of our ends that look for it, when to come back.
fn text(cause: CloseCause) -> Utf8Bytes {
    match cause {
        CloseCause::ShuttingDown { retry_after } => {
            let millis = retry_after.as_millis();
            format!("{}{GOING_AWAY_RETRY}{millis}", reason(cause)).into()
        }
        cause => Utf8Bytes::from_static(reason(cause)),
    }
}

/// Ends of release 0.169 look neither at the code nor at the text.
fn code(cause: CloseCause) -> u16 {
    match cause {
        CloseCause::ExecutorGone | CloseCause::Superseded => close_code::NORMAL,
        CloseCause::TooSlow | CloseCause::Stalled => close_code::AGAIN,
        CloseCause::Malformed => close_code::PROTOCOL,
        CloseCause::TooLarge => close_code::SIZE,
        CloseCause::Unauthorized => close_code::POLICY,
        CloseCause::ShuttingDown { .. } => close_code::AWAY,
    }
}

fn reason(cause: CloseCause) -> &'static str {
    match cause {
        CloseCause::ExecutorGone => "executor_gone",
        CloseCause::Superseded => "superseded",
        CloseCause::TooSlow => "too_slow",
        CloseCause::Stalled => "stalled",
        CloseCause::Malformed => "malformed_frame",
        CloseCause::TooLarge => "message_too_large",
        CloseCause::Unauthorized => "unauthorized",
        CloseCause::ShuttingDown { .. } => "shutting_down",
    }
}

/// Sets the limits of an upgrade.
pub(crate) fn with_limits<F>(
    upgrade: axum::extract::WebSocketUpgrade<F>,
) -> axum::extract::WebSocketUpgrade<F> {
    upgrade
        .max_message_size(WEBSOCKET_MESSAGE_BYTES)
        .max_frame_size(WEBSOCKET_MESSAGE_BYTES)
        .read_buffer_size(limits::WEBSOCKET_READ_BUFFER_BYTES)
        .write_buffer_size(limits::WEBSOCKET_WRITE_BUFFER_BYTES)
        .max_write_buffer_size(limits::WEBSOCKET_WRITE_BUFFER_BYTES + 2 * WEBSOCKET_MESSAGE_BYTES)
}

#[cfg(test)]
mod tests;
