//! Every bound of this crate: its value, its unit and why.
//!
//! A bound on something that a peer can grow says what happens when it is reached.

use std::time::Duration;

/// Requests without an answer per client. Further callers wait. The reference client allows as many.
pub const CALLS_IN_FLIGHT: usize = 1024;

/// Bytes of parameters of requests without an answer per client. Further callers wait.
///
/// They are kept until the answer so that they can be repeated on the next connection.
pub const CALL_BYTES_IN_FLIGHT: usize = 32 << 20;

/// Requests handed to the session task and not yet taken by it. Further callers wait.
pub const JOBS_QUEUED: usize = 64;

/// Events of one process that wait for an earlier one. Beyond it they are read back later.
pub const REORDER_EVENTS: usize = 1024;

/// Bytes of output of one process that wait for an earlier event. Beyond it they are read back later.
pub const REORDER_BYTES: usize = 4 << 20;

/// Bytes of output of one process that wait for their reader. See [`Overflow`](crate::Overflow).
pub const EVENT_QUEUE_BYTES: usize = 4 << 20;

/// The same for a process that blocks its connection. Larger, because a rendezvous gives up a
/// harness that stops reading for long, unless the executor itself heeds the relay's windows.
pub const BLOCKING_QUEUE_BYTES: usize = 32 << 20;

/// Items that wait for the reader of one process or of one response body. See [`EVENT_QUEUE_BYTES`].
pub const QUEUE_ITEMS: usize = 16 * 1024;

/// Bytes of one response body that wait for their reader. Beyond it the connection is not read.
pub const BODY_QUEUE_BYTES: usize = 8 << 20;

/// Answers to requests of the executor that wait to be sent. Beyond it the connection is dropped.
/// Leaves room for every [`NETWORK_QUESTIONS`] at once.
pub const REFUSALS_QUEUED: usize = 320;

/// Questions about the network without an answer. Beyond it they are denied; executors ask at most
/// 256 at a time.
pub const NETWORK_QUESTIONS: usize = 256;

/// JSON messages between the session task and a transport, each way.
pub const TRANSPORT_MESSAGES: usize = 64;

/// The largest JSON message over a plain websocket; the executor's own limit.
pub const MESSAGE_BYTES: usize = 64 << 20;

/// Time for the JSON-RPC handshake after the connection is open; the reference client's value.
pub const INITIALIZE_TIMEOUT: Duration = Duration::from_secs(10);

/// Time for `environment/info`, asked only when the handshake did not bring it.
pub const INFO_TIMEOUT: Duration = Duration::from_secs(30);

/// How long after it was made a start is asked for again on a new connection. Later its outcome is
/// unknown: an executor forgets a process, and so its id, 80 s after its end.
pub const START_REPEAT_WINDOW: Duration = Duration::from_secs(70);

/// How long an executor may go on starting a program after the connection that asked for it was lost.
/// Then the outcome is unknown. Starting takes milliseconds unless the program's file system hangs.
pub const START_TIMEOUT: Duration = Duration::from_secs(10);

/// How soon it is asked again in that time.
pub const START_POLL_INTERVAL: Duration = Duration::from_millis(50);

/// How long a first connection is retried while the executor is offline or the registry is busy.
/// The reference client makes no new attempt after 14 s.
pub const CONNECT_BUDGET: Duration = Duration::from_secs(14);

/// How long a lost session is pursued. The executor keeps it 80 s from when it notices the loss,
/// which may be later than when this end notices it.
///
/// A stream that can be resumed is pursued before that, for as long but at most for the 60 s for
/// which the executor keeps it; only then do the 80 s begin.
pub const RECOVERY_BUDGET: Duration = Duration::from_secs(90);

/// Longest delay before a stream that lost its websocket is given another one; uniform below it.
pub const FIRST_REDIAL: Duration = Duration::from_millis(50);

/// Websockets in a row on which an executor may leave a resumed stream without an answer, for 5 s
/// each; then the session is taken over on a new stream. Longer than an executor takes to notice
/// that its own websocket is dead.
pub const RESUMES_WITHOUT_ANSWER: u32 = 3;

/// A plain websocket is pinged this often, and is lost when nothing came for twice as long.
pub const KEEPALIVE_INTERVAL: Duration = Duration::from_secs(20);

/// Time for a transport to say goodbye when a client is closed.
pub const CLOSE_TIMEOUT: Duration = Duration::from_secs(1);

/// Bytes of one block of a file; the executor's limit.
pub const BLOCK_BYTES: usize = 1 << 20;

/// Blocks of one file on the way at once. At 1 MiB each and 100 ms round trip: about 40 MB/s.
pub const BLOCKS_IN_FLIGHT: usize = 4;

/// Blocks between a local file and the connection, each way.
pub const LOCAL_BLOCKS: usize = 2;

/// A local file up to this size is uploaded with one request; larger ones go block by block.
pub const SMALL_FILE_BYTES: u64 = 1 << 20;

/// Requests with batches of calls on the way at once.
pub const BATCHES_IN_FLIGHT: usize = 4;

/// Small requests on the way at once, with an executor that takes no batches.
pub const SMALL_CALLS_IN_FLIGHT: usize = 32;

/// Bytes of contents in one batch of calls, or in its results, of which the executor's limit is
/// 2 MiB in base64. One call may have more.
pub const BATCH_BYTES: usize = 1 << 20;

/// Directories and small files that are uploaded together; leaves room in a batch for directories
/// that have to be named again.
pub const GROUP_CALLS: usize = 128;

/// Bytes of small files that are copied together.
pub const GROUP_BYTES: u64 = 1 << 20;

/// A remote file up to this size is read with others in one request.
pub const BATCHED_READ_BYTES: u64 = 64 << 10;

/// Remote directories that are listed at once.
pub const DIRECTORIES_AT_ONCE: usize = 64;

/// Bytes of one write to a process. Each write waits for the one before it.
pub const STDIN_CHUNK_BYTES: usize = 256 << 10;

/// How often the copy of one file is started or continued after a lost connection.
pub const TRANSFER_ATTEMPTS: u32 = 5;

/// Local connections of one proxy. Further ones wait in the listener's queue.
pub const PROXY_CONNECTIONS: usize = 128;

/// Time for a local connection of a proxy to become a websocket.
pub const PROXY_ACCEPT_TIMEOUT: Duration = Duration::from_secs(10);

/// Bytes of one TCP stream that wait for their reader. The executor sends no more before the reader
/// has made room; one that does loses the stream.
pub const TCP_WINDOW_BYTES: u64 = 1 << 20;

/// How many bytes a reader takes before the executor is told that there is room again.
pub const TCP_WINDOW_STEP_BYTES: u64 = TCP_WINDOW_BYTES / 4;

/// Pieces that wait for a reader of a TCP stream are joined up to this, so that a window of bytes
/// cannot become a million of pieces.
pub const TCP_JOIN_BYTES: usize = 16 << 10;

/// Bytes of one write to a TCP stream.
pub const TCP_WRITE_BYTES: usize = 64 << 10;

/// Writes of one TCP stream without an answer: 1 MiB, as much as the other direction.
pub const TCP_WRITES_IN_FLIGHT: usize = 16;

/// Writes of all TCP streams of a client without an answer, besides one of each. With that one of 128
/// streams they fit into [`CALL_BYTES_IN_FLIGHT`], in base64, so that streams whose other side does
/// not read never hold up anything else.
pub const TCP_WRITES_SHARED: usize = 160;

/// Local connections of one forward. Further ones wait in the listener's queue.
pub const FORWARD_CONNECTIONS: usize = exec_proto::tcp::MAX_STREAMS;

/// Bytes of a request body that has to be sent as a whole, in one message.
pub const BUFFERED_BODY_BYTES: u64 = 40 << 20;

/// Bytes of one part of a request body that is sent in parts.
pub const BODY_CHUNK_BYTES: usize = 256 << 10;

/// Parts of one request body without an answer: as much as waits at the executor.
pub const BODY_CHUNKS_IN_FLIGHT: usize = 4;
