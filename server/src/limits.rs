//! Every limit of the server: value, unit, reason, and what happens when it is reached.
//!
//! Wire limits are in [`relay_proto::limits`].

use std::num::NonZeroU32;
use std::time::Duration;

/// Largest body of a registry call, in bytes. A register body has about 1,800. More: 413.
pub const BODY_BYTES: usize = 16 * 1024;

/// Time for the body of a registry call to arrive. Longer: 408.
pub const BODY_TIMEOUT: Duration = Duration::from_secs(10);

/// Time for a request head to arrive on a connection. Longer: the connection is closed.
pub const HEAD_TIMEOUT: Duration = Duration::from_secs(10);

/// Time for the first request of a connection to begin once the server stops. Later: the connection is
/// closed.
pub const FIRST_REQUEST: Duration = Duration::from_secs(1);

/// Read buffer of one HTTP connection, in bytes, which bounds the request head. More: 431.
pub const HEAD_BYTES: usize = 64 * 1024;

/// Time for a TLS handshake. Longer: the connection is closed.
pub const TLS_HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(10);

/// Connections at once, if there are descriptors for them. More wait in the listen queue of the kernel.
pub const CONNECTIONS: usize = 65_536;

/// Longest environment id, in bytes. Longer: 400.
pub const ENVIRONMENT_ID_BYTES: usize = 128;

/// Environments that may exist. More: register answers 429.
pub const ENVIRONMENTS: i64 = 100_000;

/// Authorizations of one environment that may be outstanding. More: connect answers 429.
///
/// Each harness connection needs one for a few seconds.
pub const OUTSTANDING_AUTHORIZATIONS: i64 = 1_024;

/// Failed authentications that one peer address may make in a row, one more each second.
/// Further ones are answered 429 instead of 401; good credentials are never held up.
pub const FAILURE_BURST: u32 = 30;

/// When a peer with too many failures is told to come back, in seconds.
pub const FAILURE_PAUSE_SECS: u64 = 30;

/// Peer addresses that failures are remembered of, until they have been quiet for a while. More:
/// every failure is answered 429.
pub const FAILURE_PEERS: usize = 100_000;

/// Life of an executor's rendezvous URL. It is reused for every reconnect, and its refusal costs the
/// executor only a new registration.
pub const EXECUTOR_URL_TTL: Duration = Duration::from_secs(24 * 60 * 60);

/// Life of a harness's rendezvous URL, which is used at once and only once.
pub const HARNESS_URL_TTL: Duration = Duration::from_secs(60);

/// Life of a harness authorization: the life of its URL, and time for a handshake.
pub const AUTHORIZATION_TTL: Duration = Duration::from_secs(90);

/// How often revoked and expired tokens are looked for among the live sockets.
pub const REVOCATION_INTERVAL: Duration = Duration::from_secs(1);

/// How often the TLS files are looked at for a change, which is reading them.
pub const TLS_INTERVAL: Duration = Duration::from_secs(5);

/// Refused websocket requests of one peer address in a row that the audit log has, one more each
/// second. Further ones are in the log of the program only.
pub const RECORDED_REFUSALS: u32 = 30;

/// Longest token of an identity provider, in bytes; they have 1 to 4 KiB. Longer: refused as none.
pub const OIDC_TOKEN_BYTES: usize = 16 * 1024;

/// Longest subject of a token, in bytes. Source: OpenID Connect Core, section 2. Longer: refused.
pub const OIDC_SUBJECT_BYTES: usize = 255;

/// Tolerated difference between the clocks of the identity provider and of this machine.
pub const OIDC_LEEWAY: Duration = Duration::from_secs(30);

/// Largest key set or discovery document, in bytes; those with certificates in them have 20 KiB.
/// Larger: not read, and the keys before stay.
pub const OIDC_DOCUMENT_BYTES: usize = 256 * 1024;

/// Keys of one set. More: not taken, and the keys before stay.
pub const OIDC_KEYS: usize = 100;

/// Time to read or fetch keys. Longer: tried again later. A request may wait for it.
pub const OIDC_FETCH_TIMEOUT: Duration = Duration::from_secs(5);

/// How often keys are fetched, so that one that the issuer withdraws is not used much longer.
pub const OIDC_FETCH_INTERVAL: Duration = Duration::from_secs(5 * 60);

/// How often keys can be read in a row because tokens ask for some that are not there. Anybody can make
/// such tokens; beyond that they are refused by the keys that there are.
pub const OIDC_LOOKS: NonZeroU32 = NonZeroU32::new(3).unwrap();

/// After what time there is one such reading more, if keys have to be fetched.
pub const OIDC_FETCH_PAUSE: Duration = Duration::from_secs(10);

/// How often a key file is read.
pub const OIDC_FILE_INTERVAL: Duration = Duration::from_secs(5);

/// The same for a file, which costs nobody else anything.
pub const OIDC_FILE_PAUSE: Duration = Duration::from_millis(500);

/// When keys are read again after a failure; twice as long after each further one, up to the interval.
pub const OIDC_RETRY_FIRST: Duration = Duration::from_secs(2);

/// When callers are told to come back while there are no keys to check their tokens with, in seconds.
pub const OIDC_RETRY_AFTER_SECS: u64 = 5;

/// How long tokens of an identity provider are remembered after they expired, for the audit log.
pub const OIDC_TOKEN_RETENTION: Duration = Duration::from_secs(60 * 60);

/// How long audit records are kept. The database refuses to remove them in their first 90 days.
pub const AUDIT_RETENTION: Duration = Duration::from_secs(180 * 24 * 60 * 60);

/// Audit records that one query gives.
pub const AUDIT_PAGE: i64 = 1000;

/// Registrations, or bundles, that one token may ask for in a row for one environment, and how many
/// more each second. Far beyond what peers need that wait between attempts; validations are never
/// held up.
pub const CALL_BURST: u32 = 300;
/// See [`CALL_BURST`].
pub const CALLS_PER_SECOND: u32 = 10;

/// Pairs of token and environment that calls are counted of, until they have been quiet for a while.
/// More: such calls are answered 429.
pub const CALLERS: usize = 100_000;

/// How often stale rows and rate limiter entries are removed.
pub const PRUNE_INTERVAL: Duration = Duration::from_secs(30);

/// Pause between two environments whose sockets are closed at shutdown, so that a thousand
/// executors do not come back in the same instant.
pub const DRAIN_PAUSE: Duration = Duration::from_millis(5);

/// Time in which the sockets of all environments are told, however many there are; half of the whole
/// drain if that is less.
pub const DRAIN_WINDOW: Duration = Duration::from_secs(5);

/// Time that all of a drain may take, unless configured otherwise: the window, and time for the
/// sockets to be closed. Then what is left is dropped.
pub const DRAIN_TIMEOUT: Duration = Duration::from_secs(10);

/// When peers are told to come back, unless configured otherwise: about as long as a program takes to
/// be started again.
pub const DRAIN_RETRY_AFTER: Duration = Duration::from_millis(500);

/// How much later than their executor harnesses are told to come back.
pub const HARNESS_BEHIND: Duration = Duration::from_millis(100);

/// Longer than anything runs.
pub const NEVER: Duration = Duration::from_secs(100 * 365 * 86_400);

/// Limits of the rendezvous, changeable so that tests can reach them.
#[derive(Clone, Debug)]
pub struct RendezvousLimits {
    /// Frames waiting for one executor socket, in bytes. Default 1 MiB.
    ///
    /// When full, the harness sockets that want to add to it are not read (backpressure), in turn.
    pub executor_queue_bytes: usize,
    /// Frames waiting for one executor socket. Default 256; the same action.
    pub executor_queue_frames: usize,
    /// Resets waiting for one executor socket. Default 1,024.
    ///
    /// Resets cannot wait for room, since the stream's own socket is gone. When there is no room
    /// the executor reads nothing any more: its socket is closed.
    pub executor_queue_resets: usize,
    /// Frames waiting for one harness socket, in bytes. Default 80 MiB: one message of the largest
    /// size, 64 MiB, that arrives faster than the harness's line can carry it, with room to spare.
    ///
    /// When full, that harness socket is closed and its streams are reset at the executor; the
    /// executor's other streams notice nothing.
    pub harness_queue_bytes: usize,
    /// Frames waiting for one harness socket. Default 16,384; the same action.
    pub harness_queue_frames: usize,
    /// Part of a harness's queue that is its own, in bytes. Default 1 MiB. What goes beyond is
    /// taken from [`shared_queue_bytes`](Self::shared_queue_bytes).
    pub harness_own_bytes: usize,
    /// Memory for the queues of all slow harnesses together, in bytes. Default 512 MiB.
    ///
    /// When it is used up, the next harness that needs more than its own part is closed.
    pub shared_queue_bytes: usize,
    /// Harness sockets of one environment. Default 256. More: 503 `route_unavailable`.
    pub harness_sockets: usize,
    /// Streams claimed by one harness socket. Default 128, as many as an executor accepts in all.
    /// A further claim is answered with a reset.
    pub streams_per_harness: usize,
    /// Time between two pings. Default 10 s; an executor that has harnesses is pinged every
    /// [`WATCHED_PING_INTERVAL`](relay_proto::limits::WATCHED_PING_INTERVAL).
    pub ping_interval: Duration,
    /// Time without a sign of life after a ping that ends the socket. Default 30 s, so that a dead path
    /// is found within 40 s, before a harness gives up its recovery after 45 s. An executor that has
    /// harnesses gets as little as its path allows.
    pub pong_timeout: Duration,
    /// Time for one batch of at most [`FLUSH_BYTES`] and one frame to be written. Default 30 s;
    /// then the socket ends.
    pub write_timeout: Duration,
    /// Time for what is queued and a close frame to be written when a socket ends. Default 1 s.
    pub close_timeout: Duration,
}

impl Default for RendezvousLimits {
    fn default() -> Self {
        Self {
            executor_queue_bytes: 1024 * 1024,
            executor_queue_frames: 256,
            executor_queue_resets: 1_024,
            harness_queue_bytes: 80 * 1024 * 1024,
            harness_queue_frames: 16_384,
            harness_own_bytes: 1024 * 1024,
            shared_queue_bytes: 512 * 1024 * 1024,
            harness_sockets: 256,
            streams_per_harness: 128,
            ping_interval: Duration::from_secs(10),
            pong_timeout: Duration::from_secs(30),
            write_timeout: Duration::from_secs(30),
            close_timeout: Duration::from_secs(1),
        }
    }
}

/// Read buffer of one websocket, in bytes; an idle socket holds one.
pub const WEBSOCKET_READ_BUFFER_BYTES: usize = 16 * 1024;

/// Written bytes that are gathered before the system is called, in bytes per websocket.
pub const WEBSOCKET_WRITE_BUFFER_BYTES: usize = 32 * 1024;

/// Frames below this size are copied when they are queued, in bytes.
///
/// Payloads share the buffer that they were read into, of 256 KiB at most. A tiny frame that waits
/// would keep all of it alive, and the byte limits of the queues would not bound the memory.
pub const COPY_BELOW_BYTES: usize = 16 * 1024;

/// Bytes of a socket that the system has taken and not sent beyond which it takes no more.
///
/// Linux would take megabytes, and a small frame would wait behind them where no queue of ours can put
/// it first.
pub const TCP_NOTSENT_LOWAT_BYTES: u32 = 128 * 1024;

/// Bytes written in one batch before the socket is flushed.
pub const FLUSH_BYTES: usize = 64 * 1024;
