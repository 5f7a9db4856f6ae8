//! Moves messages between one websocket and one transport.
//!
//! Reading and writing run side by side, so a peer that does not read cannot keep its own
//! requests from being read. Not responsible for the upgrade or for the content of messages.
//!
//! **Keepalive.** A ping goes out every [`Keepalive::ping_interval`]. Anything that arrives counts
//! as a sign of life; when nothing arrived for [`Keepalive::pong_timeout`] after a ping was written,
//! the peer is gone. The clock stands still while we ourselves do not read, because the session
//! behind the transport is busy.
//!
//! **Closing.** Every end is told apart by the peer: 1000 after its own close, 1001 at shutdown,
//! 1002 for a protocol violation, 1007 for text that is not UTF-8, 1009 for a message over the
//! limit.

use std::{
    sync::atomic::{AtomicBool, AtomicU64, Ordering},
    time::Duration,
};

use bytes::Bytes;
use futures_util::{
    SinkExt as _, StreamExt as _,
    stream::{SplitSink, SplitStream},
};
use tokio::{
    io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _},
    sync::mpsc,
    time::{Instant, timeout, timeout_at},
};
use tokio_tungstenite::{
    WebSocketStream,
    tungstenite::{
        Error, Message, Utf8Bytes,
        error::CapacityError,
        protocol::{
            CloseFrame, Role, WebSocketConfig,
            frame::{
                Frame,
                coding::{CloseCode, Data, OpCode},
            },
        },
    },
};
use tokio_util::sync::CancellationToken;

use super::budget::Inbox;
use crate::{events, rpc::Transport};

/// When a silent peer counts as gone.
#[derive(Debug, Clone, Copy)]
pub struct Keepalive {
    /// Time between two pings.
    pub ping_interval: Duration,
    /// How long after a written ping anything must have arrived.
    pub pong_timeout: Duration,
    /// How long one write may make no progress.
    pub write_timeout: Duration,
}

impl Default for Keepalive {
    /// A dead path is noticed within 40 s. A client tries to resume its session for 45 s after it
    /// lost its connection, and cannot while the old one counts as attached.
    fn default() -> Self {
        Self {
            ping_interval: Duration::from_secs(15),
            pong_timeout: Duration::from_secs(25),
            write_timeout: Duration::from_secs(60),
        }
    }
}

/// What ends a websocket on this side.
pub(super) struct End {
    /// The session ends by itself once this is cancelled, because the executor shuts down.
    pub(super) finishing: CancellationToken,
    /// At once.
    pub(super) cancel: CancellationToken,
}

/// Why a websocket ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Ended {
    /// The peer closed it, or TCP ended.
    PeerClosed,
    /// The peer broke the websocket protocol.
    ProtocolError,
    /// A text message was not UTF-8.
    NotUtf8,
    /// A frame or message was over the limit.
    TooLarge,
    /// Reading or writing failed.
    Io,
    /// Nothing arrived after a ping, or a write made no progress.
    PeerGone,
    /// The session ended the connection.
    BySession,
    /// The executor shuts down.
    Shutdown,
}

impl Ended {
    /// A name for logs.
    pub(super) const fn reason(self) -> &'static str {
        match self {
            Self::PeerClosed => "peer_close",
            Self::ProtocolError => "protocol_error",
            Self::NotUtf8 => "not_utf8",
            Self::TooLarge => "message_too_large",
            Self::Io => "io_error",
            Self::PeerGone => "pong_timeout",
            Self::BySession => "session_ended",
            Self::Shutdown => "local_shutdown",
        }
    }

    /// The close frame that tells the peer, unless there is nobody to tell.
    fn close_frame(self) -> Option<CloseFrame> {
        let (code, reason) = match self {
            Self::PeerClosed | Self::Io | Self::PeerGone => return None,
            Self::ProtocolError => (CloseCode::Protocol, "websocket protocol violation"),
            Self::NotUtf8 => (CloseCode::Invalid, "text message is not UTF-8"),
            Self::TooLarge => (CloseCode::Size, "message exceeds the limit"),
            Self::BySession => (CloseCode::Policy, "JSON-RPC protocol violation"),
            Self::Shutdown => (CloseCode::Away, "executor is shutting down"),
        };
        Some(CloseFrame {
            code,
            reason: Utf8Bytes::from_static(reason),
        })
    }
}

/// The limits of the protocol, as websocket configuration.
pub(super) fn config() -> WebSocketConfig {
    WebSocketConfig::default()
        .max_frame_size(Some(MAX_FRAME_BYTES))
        .max_message_size(Some(MAX_MESSAGE_BYTES))
        // Most messages are small and connections may be many.
        .read_buffer_size(READ_BUFFER_BYTES)
        .write_buffer_size(WRITE_BATCH_BYTES)
}

/// Runs `socket` until it ends, and says why it did.
///
/// Dropping the returned future drops the connection without a close frame.
pub(super) async fn run<S>(
    socket: WebSocketStream<S>,
    incoming: Inbox,
    mut outgoing: mpsc::Receiver<Bytes>,
    keepalive: Keepalive,
    end: End,
) -> Ended
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let (mut sink, mut stream) = socket.split();
    let life = SignsOfLife::new();
    let ended = tokio::select! {
        ended = read(&mut stream, &incoming, &life) => ended,
        ended = write(&mut sink, &mut outgoing, keepalive, &life) => ended,
        () = end.cancel.cancelled() => Ended::Shutdown,
    };
    // The session sees the shutdown as well and may have been the first to end.
    let ended = match ended {
        Ended::BySession if end.cancel.is_cancelled() || end.finishing.is_cancelled() => {
            Ended::Shutdown
        }
        ended => ended,
    };
    // The session must see the end now, not after the closing handshake.
    drop(incoming);
    drop(outgoing);
    let _ = timeout(CLOSE_TIMEOUT, close(sink, stream, ended)).await;
    ended
}

/// Who ended a websocket to another executor.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum CarryEnd {
    /// This side has closed it.
    Closed,
    /// The other side has, or it broke.
    Failed,
}

/// Carries messages between a websocket to another executor, on which nothing was read yet, and a
/// transport, until either ends.
pub(crate) async fn carry<S>(
    socket: WebSocketStream<S>,
    transport: Transport,
    keepalive: Keepalive,
    cancel: CancellationToken,
) -> CarryEnd
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    // Wrapped anew, because the limits are those of another protocol.
    let socket = socket.into_inner();
    let socket = WebSocketStream::from_raw_socket(socket, Role::Client, Some(config())).await;
    let finishing = CancellationToken::new();
    // The end of the stream is nobody's fault.
    finishing.cancel();
    let incoming = Inbox::onto(transport.outgoing);
    let end = End { finishing, cancel };
    let ended = run(socket, incoming, transport.incoming, keepalive, end).await;
    events::forwarded_stream_closed(ended.reason());
    match ended {
        Ended::BySession | Ended::Shutdown => CarryEnd::Closed,
        Ended::PeerClosed
        | Ended::Io
        | Ended::PeerGone
        | Ended::ProtocolError
        | Ended::NotUtf8
        | Ended::TooLarge => CarryEnd::Failed,
    }
}

async fn read<S>(
    stream: &mut SplitStream<WebSocketStream<S>>,
    incoming: &Inbox,
    life: &SignsOfLife,
) -> Ended
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    loop {
        let message = match stream.next().await {
            None => return Ended::PeerClosed,
            Some(Err(error)) => return classify(&error),
            Some(Ok(message)) => message,
        };
        life.heard();
        let message = match message {
            Message::Text(text) => Bytes::from(text),
            Message::Binary(binary) => binary,
            Message::Close(_) => return Ended::PeerClosed,
            Message::Ping(_) | Message::Pong(_) | Message::Frame(_) => continue,
        };
        life.pause();
        let delivered = incoming.send(message).await;
        life.resume();
        if delivered.is_err() {
            return Ended::BySession;
        }
    }
}

async fn write<S>(
    sink: &mut SplitSink<WebSocketStream<S>, Message>,
    outgoing: &mut mpsc::Receiver<Bytes>,
    keepalive: Keepalive,
    life: &SignsOfLife,
) -> Ended
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let mut next_ping = Instant::now() + keepalive.ping_interval;
    let mut unanswered: Option<Instant> = None;
    loop {
        let deadline = unanswered.map(|written| written + keepalive.pong_timeout);
        let wake = deadline.map_or(next_ping, |deadline| deadline.min(next_ping));
        // Checked first, so that a steady flow of messages does not put pings off.
        let message = if Instant::now() < wake {
            timeout_at(wake, outgoing.recv()).await.ok()
        } else {
            None
        };
        let written = match message {
            Some(None) => return Ended::BySession,
            Some(Some(message)) => {
                timeout(
                    keepalive.write_timeout,
                    write_batch(sink, message, outgoing),
                )
                .await
            }
            None => {
                if unanswered.is_some_and(|written| life.heard_since(written)) {
                    unanswered = None;
                }
                let now = Instant::now();
                if unanswered.is_some_and(|written| now >= written + keepalive.pong_timeout) {
                    return Ended::PeerGone;
                }
                if now < next_ping {
                    continue;
                }
                let ping = sink.send(Message::Ping(Bytes::new()));
                let written = timeout(keepalive.write_timeout, ping).await;
                let now = Instant::now();
                next_ping = now + keepalive.ping_interval;
                unanswered = unanswered.or(Some(now));
                written
            }
        };
        match written {
            Ok(Ok(())) => {}
            Ok(Err(error)) => return classify(&error),
            Err(_) => return Ended::PeerGone,
        }
    }
}

/// Writes `first` and whatever is queued behind it, then flushes once.
async fn write_batch<S>(
    sink: &mut SplitSink<WebSocketStream<S>, Message>,
    first: Bytes,
    outgoing: &mut mpsc::Receiver<Bytes>,
) -> Result<(), Error>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let mut batched = first.len();
    feed(sink, first).await?;
    while batched < WRITE_BATCH_BYTES
        && let Ok(message) = outgoing.try_recv()
    {
        batched += message.len();
        feed(sink, message).await?;
    }
    sink.flush().await
}

/// Queues one message: as one frame, or in several when a peer with the limits of this protocol
/// would refuse a frame of that size. The reference sends such a frame and is refused by itself.
async fn feed<S>(
    sink: &mut SplitSink<WebSocketStream<S>, Message>,
    message: Bytes,
) -> Result<(), Error>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    if message.len() <= MAX_FRAME_BYTES {
        return sink.feed(data(message)?).await;
    }
    let mut kind = match is_bulk(&message) {
        true => Data::Binary,
        false => Data::Text,
    };
    let mut rest = message;
    while !rest.is_empty() {
        let part = rest.split_to(rest.len().min(MAX_FRAME_BYTES));
        let frame = Frame::message(part, OpCode::Data(kind), rest.is_empty());
        sink.feed(Message::Frame(frame)).await?;
        kind = Data::Continue;
    }
    Ok(())
}

fn data(message: Bytes) -> Result<Message, Error> {
    if is_bulk(&message) {
        return Ok(Message::Binary(message));
    }
    // What the session encodes is JSON, so this does not fail.
    Utf8Bytes::try_from(message)
        .map(Message::Text)
        .map_err(|error| Error::Utf8(error.to_string()))
}

/// Whether a message is more than text.
fn is_bulk(message: &[u8]) -> bool {
    message.first() == Some(&exec_proto::rpc::bulk::MARKER)
}

/// Sends the close frame and waits until the peer has ended its side as well, so that the frame is
/// not lost to a TCP reset caused by unread data.
async fn close<S>(
    mut sink: SplitSink<WebSocketStream<S>, Message>,
    stream: SplitStream<WebSocketStream<S>>,
    ended: Ended,
) where
    S: AsyncRead + AsyncWrite + Unpin,
{
    match ended.close_frame() {
        Some(frame) => {
            let _ = sink.send(Message::Close(Some(frame))).await;
        }
        // Completes the peer's handshake, if it started one.
        None if ended == Ended::PeerClosed => {
            let _ = sink.close().await;
        }
        None => return,
    }
    let Ok(socket) = sink.reunite(stream) else {
        return;
    };
    let mut tcp = socket.into_inner();
    let _ = tcp.shutdown().await;
    let mut discarded = [0; 4096];
    while let Ok(1..) = tcp.read(&mut discarded).await {}
}

fn classify(error: &Error) -> Ended {
    match error {
        Error::Capacity(CapacityError::MessageTooLong { .. } | CapacityError::TooManyHeaders) => {
            Ended::TooLarge
        }
        Error::Utf8(_) => Ended::NotUtf8,
        Error::Protocol(
            tokio_tungstenite::tungstenite::error::ProtocolError::ResetWithoutClosingHandshake,
        )
        | Error::ConnectionClosed
        | Error::AlreadyClosed => Ended::PeerClosed,
        Error::Protocol(_) => Ended::ProtocolError,
        _ => Ended::Io,
    }
}

/// When the peer was last heard, shared by the two directions of one socket.
struct SignsOfLife {
    start: Instant,
    /// Microseconds after `start`.
    last: AtomicU64,
    /// Set while nothing is read because the session is busy.
    paused: AtomicBool,
}

impl SignsOfLife {
    fn new() -> Self {
        Self {
            start: Instant::now(),
            last: AtomicU64::new(0),
            paused: AtomicBool::new(false),
        }
    }

    fn heard(&self) {
        let micros = u64::try_from(self.start.elapsed().as_micros()).unwrap_or(u64::MAX);
        self.last.store(micros, Ordering::Relaxed);
    }

    fn pause(&self) {
        self.paused.store(true, Ordering::Relaxed);
    }

    fn resume(&self) {
        self.heard();
        self.paused.store(false, Ordering::Relaxed);
    }

    fn heard_since(&self, instant: Instant) -> bool {
        let last = self.start + Duration::from_micros(self.last.load(Ordering::Relaxed));
        self.paused.load(Ordering::Relaxed) || last >= instant
    }
}

/// Largest single frame, as in the reference.
const MAX_FRAME_BYTES: usize = 16 << 20;
/// Largest reassembled message, as in the reference.
const MAX_MESSAGE_BYTES: usize = 64 << 20;
/// Set aside for every connection, idle ones too; most requests are far smaller.
const READ_BUFFER_BYTES: usize = 16 << 10;
/// Written at once when several messages wait.
const WRITE_BATCH_BYTES: usize = 64 << 10;
/// How long the peer may take to answer a close frame.
const CLOSE_TIMEOUT: Duration = Duration::from_secs(1);

#[cfg(test)]
#[path = "websocket/tests.rs"]
mod tests;
