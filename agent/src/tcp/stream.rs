//! One stream: a bounded queue towards the socket, and notifications from it.
//!
//! ```text
//! tcp/write --[QUEUE_BYTES, QUEUE_ITEMS]--> socket
//! tcp/data  <--------- outbox <------------ socket, not read while the outbox is full, nor beyond
//!                                           what tcp/window allows
//! ```

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use bytes::{BufMut as _, Bytes, BytesMut};
use exec_proto::RpcError;
use exec_proto::tcp::MAX_WRITE_BYTES;
use exec_proto::tcp::{CLOSED, ClosedNotification, DATA, DataNotification, MAX_DATA_BYTES};
use tokio::io::AsyncWriteExt as _;
use tokio::net::TcpStream;
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::sync::{Mutex, OwnedSemaphorePermit, Semaphore, mpsc, watch};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::rpc::{Disconnected, Outbox};

/// A stream, as the requests see it.
pub(super) struct Stream {
    queue: mpsc::Sender<Piece>,
    room: Arc<Semaphore>,
    /// What was queued. Held while waiting for room: a stream's requests come one after another.
    queued: Mutex<Queued>,
    /// How many bytes the client takes, from the beginning.
    allowed: watch::Sender<u64>,
    close: CancellationToken,
    over: CancellationToken,
    /// The last notification is being sent.
    ending: AtomicBool,
}

/// What waits for the socket.
pub(super) type Queue = mpsc::Receiver<Piece>;

/// A piece for the socket.
pub(super) enum Piece {
    /// Bytes and their share of the room.
    Bytes(Bytes, OwnedSemaphorePermit),
    /// The end.
    Shutdown,
}

#[derive(Default)]
struct Queued {
    seq: u64,
    is_shut_down: bool,
}

/// Why reading ended.
enum ReadEnd {
    Failed(io::Error),
    Disconnected,
}

impl From<Disconnected> for ReadEnd {
    fn from(_: Disconnected) -> Self {
        Self::Disconnected
    }
}

impl Stream {
    pub(super) fn new(window: u64) -> (Arc<Self>, Queue) {
        let (queue, receiver) = mpsc::channel(QUEUE_ITEMS);
        let stream = Self {
            queue,
            room: Arc::new(Semaphore::new(QUEUE_BYTES)),
            queued: Mutex::default(),
            allowed: watch::Sender::new(window),
            close: CancellationToken::new(),
            over: CancellationToken::new(),
            ending: AtomicBool::new(false),
        };
        (Arc::new(stream), receiver)
    }

    pub(super) async fn write(&self, seq: u64, bytes: Bytes) -> Result<(), RpcError> {
        if bytes.len() > MAX_WRITE_BYTES {
            return Err(RpcError::invalid_params(format!(
                "tcp/write chunk of {} bytes exceeds limit of {MAX_WRITE_BYTES} bytes",
                bytes.len()
            )));
        }
        let mut queued = self.queued.lock().await;
        let expected = queued.seq.saturating_add(1);
        if seq != expected {
            return Err(RpcError::invalid_params(format!(
                "tcp/write seq must be {expected}, got {seq}"
            )));
        }
        if queued.is_shut_down {
            return Err(closed_for_writing());
        }
        let size = u32::try_from(bytes.len()).unwrap_or(u32::MAX);
        let queue = async {
            let share = Arc::clone(&self.room).acquire_many_owned(size).await.ok()?;
            Some((self.queue.reserve().await.ok()?, share))
        };
        let (place, share) = self.unless_over(queue).await?;
        place.send(Piece::Bytes(bytes, share));
        queued.seq = seq;
        Ok(())
    }

    pub(super) async fn shutdown(&self) -> Result<(), RpcError> {
        let mut queued = self.queued.lock().await;
        if !queued.is_shut_down {
            let queue = async { self.queue.reserve().await.ok() };
            self.unless_over(queue).await?.send(Piece::Shutdown);
            queued.is_shut_down = true;
        }
        Ok(())
    }

    /// Waits for a place, which there is not if the socket takes no more.
    async fn unless_over<T>(&self, place: impl Future<Output = Option<T>>) -> Result<T, RpcError> {
        tokio::select! {
            place = place => place,
            () = self.queue.closed() => None,
        }
        .ok_or_else(closed_for_writing)
    }

    /// Lets this many bytes come from the other side, counted from the beginning.
    pub(super) fn allow(&self, through: u64) {
        self.allowed.send_if_modified(|allowed| {
            let grows = through > *allowed;
            *allowed = through.max(*allowed);
            grows
        });
    }

    /// Has the stream end at once.
    pub(super) fn close(&self) {
        self.close.cancel();
    }

    pub(super) fn is_ending(&self) -> bool {
        self.ending.load(Ordering::Acquire)
    }

    /// Says that the id is free.
    pub(super) fn end(&self) {
        self.over.cancel();
    }

    /// Waits until the id is free.
    pub(super) async fn over(&self) {
        self.over.cancelled().await;
    }

    /// Carries bytes until the stream is over.
    pub(super) async fn carry(&self, id: &str, socket: TcpStream, queue: Queue, outbox: Outbox) {
        tokio::select! {
            biased;
            () = self.close.cancelled() => {}
            // Being disconnected is the end of the connection, which its owner sees as well.
            _ = self.carry_both(id, socket, queue, &outbox) => {}
        }
    }

    async fn carry_both(
        &self,
        id: &str,
        socket: TcpStream,
        queue: Queue,
        outbox: &Outbox,
    ) -> Result<(), Disconnected> {
        let (from, to) = socket.into_split();
        let mut seq = 0;
        let mut failure = None;
        let broken = AtomicBool::new(false);
        {
            let window = self.allowed.subscribe();
            let reading = read(id, &from, outbox, window, &broken, &mut seq);
            let writing = write(to, queue);
            tokio::pin!(reading, writing);
            let (mut is_read, mut is_written) = (false, false);
            while !(is_read && is_written) {
                tokio::select! {
                    read = &mut reading, if !is_read => match read {
                        Ok(()) => is_read = true,
                        Err(ReadEnd::Disconnected) => return Err(Disconnected),
                        Err(ReadEnd::Failed(error)) => {
                            failure.get_or_insert(error);
                            break;
                        }
                    },
                    // What the other side has sent is still read.
                    written = &mut writing, if !is_written => {
                        is_written = true;
                        failure = written.err();
                        broken.store(failure.is_some(), Ordering::Relaxed);
                    }
                }
            }
        }
        self.ending.store(true, Ordering::Release);
        let closed = ClosedNotification {
            stream_id: id.to_owned(),
            seq: seq + 1,
            error: failure.map(|error| error.to_string()),
        };
        outbox.notify(CLOSED, &closed).await
    }
}

/// Passes on what arrives, with an empty chunk for its end. `seq` is the number of the last chunk.
async fn read(
    id: &str,
    socket: &OwnedReadHalf,
    outbox: &Outbox,
    mut allowed: watch::Receiver<u64>,
    broken: &AtomicBool,
    seq: &mut u64,
) -> Result<(), ReadEnd> {
    let mut next = Instant::now();
    let mut read = 0_u64;
    loop {
        tokio::time::sleep_until(next).await;
        // The stream, which owns the other end, is there as long as this runs.
        let window = match allowed.wait_for(|allowed| *allowed > read).await {
            Ok(allowed) => *allowed - read,
            Err(_) => return Err(ReadEnd::Disconnected),
        };
        let room = usize::try_from(window).map_or(MAX_DATA_BYTES, |room| room.min(MAX_DATA_BYTES));
        let (chunk, end) = gather(socket, room).await;
        read += chunk.len() as u64;
        // A first small piece goes at once; those that follow closely share a notification.
        next = match chunk.len() < room {
            true => Instant::now() + COALESCE,
            false => Instant::now(),
        };
        let chunk = Some(chunk).filter(|chunk| !chunk.is_empty());
        // The kernel tells a reset once. When writing has met it, reading meets what looks like an end.
        let in_order = matches!(end, Some(Ok(()))) && !broken.load(Ordering::Relaxed);
        let last = in_order.then(Bytes::new);
        for chunk in [chunk, last].into_iter().flatten() {
            *seq += 1;
            let data = DataNotification {
                stream_id: id.to_owned(),
                seq: *seq,
                chunk_base64: chunk,
            };
            outbox.notify(DATA, &data).await?;
        }
        if let Some(end) = end {
            return end.map_err(ReadEnd::Failed);
        }
    }
}

/// Waits for bytes and takes all there are, up to `limit`, and tells the end.
async fn gather(socket: &OwnedReadHalf, limit: usize) -> (Bytes, Option<io::Result<()>>) {
    loop {
        // No memory is set aside for a stream on which nothing arrives.
        if let Err(error) = socket.readable().await {
            return (Bytes::new(), Some(Err(error)));
        }
        let mut chunk = BytesMut::with_capacity(limit);
        while chunk.len() < limit {
            let room = limit - chunk.len();
            match socket.try_read_buf(&mut (&mut chunk).limit(room)) {
                Ok(0) => return (chunk.freeze(), Some(Ok(()))),
                Ok(_) => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
                // The kernel tells a failure once, after what came before it.
                Err(error) => return (chunk.freeze(), Some(Err(error))),
            }
        }
        if !chunk.is_empty() {
            return (chunk.freeze(), None);
        }
    }
}

async fn write(mut socket: OwnedWriteHalf, mut queue: Queue) -> io::Result<()> {
    while let Some(piece) = queue.recv().await {
        match piece {
            Piece::Bytes(bytes, _share) => socket.write_all(&bytes).await?,
            Piece::Shutdown => return socket.shutdown().await,
        }
    }
    Ok(())
}

fn closed_for_writing() -> RpcError {
    RpcError::invalid_request("tcp stream is closed for writing")
}

/// Bytes of one stream that wait for the socket: one write of the largest size.
const QUEUE_BYTES: usize = MAX_WRITE_BYTES;
/// Writes of one stream that wait for the socket, however small they are.
const QUEUE_ITEMS: usize = 64;
/// Small pieces that arrive within this time share a notification.
const COALESCE: Duration = Duration::from_millis(2);
