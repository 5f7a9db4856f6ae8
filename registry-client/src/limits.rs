//! Every limit and default time of this crate.

use std::time::Duration;

/// Time for one registry call, from resolving the credential to the last byte of the body.
///
/// Source: registry contract, register and validate.
pub const REQUEST_TIMEOUT: Duration = Duration::from_secs(10);

/// Time for TCP connect, proxy, TLS and websocket upgrade together.
///
/// Source: relay specification, connection URL.
pub const WEBSOCKET_TIMEOUT: Duration = Duration::from_secs(10);

/// Time a harness keeps asking for a bundle.
///
/// The reference gives up after about 10 s, which loses a turn whenever a healthy executor is
/// between two reconnect attempts; its longest delay is 30 s.
pub const CONNECT_DEADLINE: Duration = Duration::from_secs(30);

/// Time for one try within [`CONNECT_DEADLINE`].
///
/// Source: registry contract, connect.
pub const CONNECT_TRY_TIMEOUT: Duration = Duration::from_secs(6);

/// Largest body of a registry answer that is read, in bytes.
///
/// The largest legitimate one is a connect bundle: a key of 1,580 characters, an authorization of
/// at most 4,096 bytes and a URL.
pub const MAX_RESPONSE_BYTES: usize = 64 * 1024;

/// Largest part of an error body that is shown when it has no message, in characters.
///
/// Source: registry contract, error bodies.
pub const MAX_ERROR_TEXT_CHARS: usize = 4_096;

/// Longest bearer credential, in bytes. Source: registry contract, registration bearer.
pub const MAX_CREDENTIAL_BYTES: usize = 16_384;

/// Longest delay that a `Retry-After` header can ask for.
///
/// A wrong or hostile header must not park a client for hours.
pub const MAX_RETRY_AFTER: Duration = Duration::from_secs(300);

/// Largest certificate bundle file that is read, in bytes; the system ones are about 250 KiB.
pub const MAX_CA_FILE_BYTES: u64 = 16 * 1024 * 1024;

/// How long an idle connection to the registry is kept for the next call.
///
/// Below the idle times of common NAT devices, so that a call does not start on a dead path.
pub const POOL_IDLE_TIMEOUT: Duration = Duration::from_secs(30);

/// How long sent bytes may stay unacknowledged by the other host before the connection counts as
/// broken; also the bound of all keepalive probes together.
///
/// Without it Linux retransmits for 15 minutes and more. The relay gives up a path after 20 s
/// without a sign of life; this catches the rest: registry calls, and writes that hang.
pub const TCP_USER_TIMEOUT: Duration = Duration::from_secs(20);

/// Bytes of a socket that the system has taken and not sent beyond which it takes no more.
///
/// Without it Linux takes megabytes, and what the relay puts first waits behind them all the same.
/// Enough to fill the time between two looks at the socket. Only for sockets that are opened here,
/// those of plain websockets, direct or through a plain HTTP proxy: the HTTP library gives no access to
/// its own.
pub const TCP_NOTSENT_LOWAT_BYTES: u32 = 128 * 1024;

/// Silence after which the system asks whether the other host is still there.
pub const TCP_KEEPALIVE_IDLE: Duration = Duration::from_secs(15);

/// Time between such questions.
pub const TCP_KEEPALIVE_INTERVAL: Duration = Duration::from_secs(5);

/// How many of them go unanswered before the connection counts as broken.
pub const TCP_KEEPALIVE_RETRIES: u32 = 3;

/// Room for outgoing websocket bytes, in bytes: what the socket layer gathers before it writes.
pub const WEBSOCKET_WRITE_BUFFER_BYTES: usize = 128 * 1024;

/// Most outgoing websocket bytes that may wait while the peer does not read, in bytes.
///
/// The driver flushes each message before the next, so this is the write buffer and one message
/// with its header, with room to spare.
pub const WEBSOCKET_MAX_WRITE_BUFFER_BYTES: usize = 1024 * 1024;
