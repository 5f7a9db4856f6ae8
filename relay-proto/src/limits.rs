//! Every limit of the relay protocol: value, unit, reason, source.
//!
//! "Wire" limits are shared with peers and must not be changed alone. "Local" limits protect this
//! side; each says what happens when it is reached.

use std::time::Duration;

// Wire limits.

/// What stands in the reason of a websocket's close frame, of code 1001, before the number of
/// milliseconds that the peer should wait before it connects again.
pub const GOING_AWAY_RETRY: &str = "; retry-after-ms=";

/// Longest wait before a new connection that a rendezvous can ask for. It can only delay peers, which it
/// could do in other ways too.
pub const GOING_AWAY_LONGEST: Duration = Duration::from_secs(60);

/// Largest websocket message and websocket frame, in bytes. A larger one ends the websocket.
///
/// Wire; Codex 0.169 uses the same number at both ends.
pub const WEBSOCKET_MESSAGE_BYTES: usize = 262_144;

/// Largest Noise message, in bytes, hence the largest handshake payload. Wire; Noise specification.
pub const HANDSHAKE_MESSAGE_BYTES: usize = 65_535;

/// Largest plaintext of one record, in bytes. Wire; Noise would allow 65,519, the peers do not.
pub const RECORD_PLAINTEXT_BYTES: usize = 61_440;

/// Authentication tag of a record, in bytes. Wire; AES-GCM.
pub const RECORD_TAG_BYTES: usize = 16;

/// Largest ciphertext of one record, in bytes. Wire; plaintext plus tag.
pub const RECORD_CIPHERTEXT_BYTES: usize = RECORD_PLAINTEXT_BYTES + RECORD_TAG_BYTES;

/// Length prefix of a message, in bytes: unsigned, big endian. Wire.
pub const MESSAGE_PREFIX_BYTES: usize = 4;

/// Largest message, in bytes; the smallest is 1. Wire.
pub const MESSAGE_BYTES: usize = 67_108_864;

/// Largest authorization text in the first handshake message, in bytes of UTF-8. Wire.
pub const AUTHORIZATION_BYTES: usize = 4_096;

/// How far ahead of the expected sequence number a record may arrive. Wire; further is a stream error.
pub const REORDER_DISTANCE: u32 = 64;

/// Ciphertext that may wait for a missing record, in bytes per stream. Wire; more is a stream error.
pub const REORDER_BYTES: usize = 1_048_576;

/// Reason text of every reset this side sends. Peers do not act on it; it only must not be empty.
pub const RESET_REASON: &str = "noise_relay_protocol_error";

// Local limits.

/// Longest id accepted, in bytes. Ids are UUIDs or short names; the cap bounds what a map key costs.
pub const ID_BYTES: usize = 1_024;

/// Streams that may be open on one executor websocket.
///
/// Same as Codex 0.169. When it is reached, the stream that has been silent the longest, and at
/// least [`STREAM_EVICTION_IDLE`], is reset to make room; otherwise the new handshake is refused.
pub const ACTIVE_STREAMS: usize = 128;

/// How long a stream must have been silent before a new stream may take its place.
///
/// The reference never frees the place of an abandoned stream. A live harness whose idle stream is
/// reset resumes its session within milliseconds, so eviction loses nothing.
pub const STREAM_EVICTION_IDLE: Duration = Duration::from_secs(300);

/// Handshakes that may wait for authorization on one websocket. More are refused. As Codex 0.169.
pub const PENDING_HANDSHAKES: usize = 32;

/// Time to authorize a handshake; then it is refused. As Codex 0.169.
pub const AUTHORIZATION_TIMEOUT: Duration = Duration::from_secs(10);

/// Time for the executor to answer a handshake; then opening fails. As Codex 0.169, which counts the
/// first request after the handshake into the same time.
pub const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(10);

/// Failed handshakes for which cryptography is done without pause.
///
/// See [`HANDSHAKE_FAILURE_INTERVAL`].
pub const HANDSHAKE_FAILURE_BURST: u32 = 256;

/// One failed handshake is forgiven per this interval, once the burst is used up.
///
/// A failure costs about 0.1 ms of processor time, so garbage costs at most about a percent of one
/// core for ever. Instead of the reference's 10 s pause for everybody after eight failures, a good
/// peer is held up by at most this interval.
pub const HANDSHAKE_FAILURE_INTERVAL: Duration = Duration::from_millis(8);

/// How long a hole in the sequence may stay open before the stream is reset.
///
/// Codex 0.169 never sends a record twice, so a hole that outlasts any reordering never fills. A
/// reset makes its harness resume in milliseconds instead of stalling for ever. With a peer that
/// acknowledges there is no such limit, since the record comes again.
pub const GAP_TIMEOUT: Duration = Duration::from_secs(3);

/// Messages queued for sending on one stream. At the limit sending would block.
pub const STREAM_SEND_MESSAGES: usize = 128;

/// Bytes queued for sending on one stream. At the limit sending would block. A larger single message
/// is accepted when the queue is empty.
pub const STREAM_SEND_BYTES: usize = 4 * 1_048_576;

/// Bytes queued for sending on all streams of a connection. At the limit sending would block, but for
/// [`STREAM_SEND_BASE_BYTES`].
pub const CONNECTION_SEND_BYTES: usize = 128 * 1_048_576;

/// Bytes that a stream may queue for sending however much the others have queued, so that slow streams
/// do not hold up others: at most 32 MiB in all.
pub const STREAM_SEND_BASE_BYTES: usize = 262_144;

/// Received messages that may wait for the application on one stream. More resets the stream. Only a
/// peer that knows no window, or does not keep to it, gets there; see [`STREAM_WINDOW_RECORDS`].
///
/// One record can hold 12,288 messages of one byte.
pub const STREAM_RECEIVE_MESSAGES: usize = 16_384;

/// Received bytes that may wait for the application on one stream, in complete messages. More
/// resets the stream. A larger single message is accepted when nothing else waits. Only a peer that
/// knows no window gets there, or one that exceeds its window by as much; see
/// [`STREAM_WINDOW_BYTES`].
pub const STREAM_RECEIVE_BYTES: usize = 16 * 1_048_576;

/// Received bytes held on all streams of a connection: reordering, partial and waiting messages.
/// When it is exceeded the stream that holds the most is reset.
pub const CONNECTION_RECEIVE_BYTES: usize = 256 * 1_048_576;

/// Records shorter than this are copied out of the websocket's read buffer, which a few bytes would
/// otherwise keep in memory uncounted.
pub const RECORD_COPY_BYTES: usize = 4_096;

/// Control frames (handshake answers, resets) that may wait for the websocket. A reset beyond it is
/// dropped and counted.
pub const CONTROL_FRAMES: usize = 256;

/// Time a closed stream may take to send what is queued before it is reset.
pub const DRAIN_TIMEOUT: Duration = Duration::from_secs(5);

/// Time between two pings.
///
/// The reference pings every 30 s and waits 60 s, which is longer than its harness's 45 s recovery
/// budget. These three values find a dead path in at most 35 s, while nobody waits for it.
pub const PING_INTERVAL: Duration = Duration::from_secs(15);

/// The same while somebody has nothing but pings to hear of a dead path: a stream whose peer is of
/// release 0.169. Together with [`SUSPECT_PONG_TIMEOUT`] a dead path is noticed within 5 s.
pub const WATCHED_PING_INTERVAL: Duration = Duration::from_millis(2_500);

/// The slowest path whose backlog is waited for while it is watched, in bytes per second.
pub const SLOW_PATH_PACE: u64 = 32_768;

/// What a socket may hold of what was written to it. What is above that has gone.
pub const SOCKET_BACKLOG_BYTES: u64 = 262_144;

/// Silence after a ping that ends the connection: no pong and no other message for this long.
pub const PONG_TIMEOUT: Duration = Duration::from_secs(20);

/// Time after a ping without its pong that ends the connection although messages arrive: the path
/// out may be dead while the path in is alive. As Codex 0.169's only timeout.
pub const PONG_HARD_TIMEOUT: Duration = Duration::from_secs(60);

/// Time for the websocket to take one batch of output; then the connection ends. As Codex 0.169.
pub const WRITE_TIMEOUT: Duration = Duration::from_secs(60);

/// Messages already received that are read before a timer is believed, in case a pong is among them.
/// As Codex 0.169.
pub const READ_BEFORE_TIMEOUT: usize = 32;

// Acknowledgement and resumption. Local too: only ends of this project speak it, and each tells the
// other what it may send.

/// Bytes of record plaintext that the peer of a stream may have under way or waiting here beyond
/// what the application has taken. The peer pauses at the limit; no other stream notices.
///
/// 128 streams make half of [`CONNECTION_RECEIVE_BYTES`]; the other half is
/// [`CONNECTION_LARGE_BYTES`]. One window per round trip: 10 MB/s at 100 ms.
pub const STREAM_WINDOW_BYTES: usize = 1_048_576;

/// Records that the peer of a stream may have under way or waiting here. The peer pauses at it.
///
/// More than fit [`STREAM_WINDOW_BYTES`] unless they are shorter than 2 KiB.
pub const STREAM_WINDOW_RECORDS: u32 = 512;

/// Room on a connection for messages that are larger than [`STREAM_WINDOW_BYTES`]. Each needs room
/// for all of it before its end may be sent; they wait for it in the order in which they began.
pub const CONNECTION_LARGE_BYTES: usize = 2 * MESSAGE_BYTES;

/// How long somebody may wait for room for a large message while another one that has room does not
/// get on; then the stream of the other one is ended.
pub const LARGE_WAIT: Duration = Duration::from_secs(30);

/// Longest time an acknowledgement waits for a frame to travel on. As QUIC (RFC 9000).
pub const ACK_DELAY: Duration = Duration::from_millis(25);

/// Records that are acknowledged at once. Loss is rare on a websocket, so acknowledgements mostly
/// keep the window open, and one for 8 of 512 does.
pub const ACK_RECORDS: u32 = 8;

/// Bytes of records that are acknowledged at once: an eighth of [`STREAM_WINDOW_BYTES`].
pub const ACK_BYTES: usize = STREAM_WINDOW_BYTES / 8;

/// Sealed records that one stream keeps until they are acknowledged, in bytes. At the limit nothing
/// new is sent on it. Any window the peer may grant beyond this is not used.
pub const STREAM_UNACKED_BYTES: usize = 2 * STREAM_WINDOW_BYTES;

/// Ciphertext of one stream that may be on its way whatever the path carries, in bytes. More of it, up
/// to [`STREAM_UNACKED_BYTES`], is allowed on a path that is long or fast enough to need it: the rest
/// would only wait on the way, and others with it.
pub const STREAM_FLIGHT_BYTES: usize = 393_216;

/// Sealed records that one stream keeps until they are acknowledged. As above.
pub const STREAM_UNACKED_RECORDS: usize = 1_024;

/// Sealed records kept while it is not known whether the peer acknowledges, in bytes. The oldest are
/// forgotten beyond it, as all are with a peer that never does.
pub const UNCONFIRMED_BYTES: usize = 262_144;

/// Sealed records kept while it is not known whether the peer acknowledges. As above.
pub const UNCONFIRMED_RECORDS: usize = 64;

/// Time after the handshake for which records are kept for a peer that may turn out to acknowledge.
pub const UNCONFIRMED_TIME: Duration = Duration::from_secs(10);

/// First delay between two attempts to find out whether the peer acknowledges; doubled each time.
pub const HELLO_INTERVAL: Duration = Duration::from_millis(200);

/// How often that delay is doubled, to 12.8 s. A harness never stops trying: what a path has lost that
/// was bad for long must not stay unsaid because every hello was lost with it.
pub const HELLO_DOUBLINGS: u32 = 6;

/// Retransmission timeout before the first measurement. RFC 6298.
pub const RTO_INITIAL: Duration = Duration::from_secs(1);

/// Shortest retransmission timeout. A stalled TCP connection under the websocket repairs itself
/// first; what is sent twice then is two records.
pub const RTO_MIN: Duration = Duration::from_millis(300);

/// Longest retransmission timeout, unless the round trip itself is longer.
pub const RTO_MAX: Duration = Duration::from_secs(5);

/// Longest round trip that is believed. When acknowledgements are lost, a record that arrived at once
/// may be acknowledged much later, and that must not make every timeout long.
pub const RTT_MAX: Duration = Duration::from_secs(10);

/// A record is lost when one that was sent this many frames later has arrived. RFC 9002.
pub const LOSS_THRESHOLD: u64 = 3;

/// Silence after which an executor asks a stream's peer for a sign of life. A harness asks after four
/// fifths of it, so that mostly one of them asks.
pub const HEARTBEAT_INTERVAL: Duration = Duration::from_millis(1_500);

/// Time for the sign of life, or four retransmission timeouts if that is longer. Together with
/// [`HEARTBEAT_INTERVAL`] a dead path is noticed within 5 s.
pub const HEARTBEAT_TIMEOUT: Duration = Duration::from_millis(3_500);

/// Shortest time between two requests for a sign of life.
pub const HEARTBEAT_REPEAT: Duration = Duration::from_millis(500);

/// Time for any message on a websocket once a stream on it is suspected dead, and the shortest time
/// for one while it is watched.
pub const SUSPECT_PONG_TIMEOUT: Duration = Duration::from_millis(2_500);

/// Time for which a stream without a path is kept for its peer to come back. Shorter than the 80 s
/// for which a session outlives its stream.
pub const SUSPENDED_TIME: Duration = Duration::from_secs(60);

/// Time for the executor to answer a harness that resumes a stream, or two retransmission timeouts if
/// that is longer; then the websocket is given up for another one.
pub const RESUME_TIMEOUT: Duration = Duration::from_secs(5);

/// Shortest time between two attempts to resume.
pub const RESUME_INTERVAL: Duration = Duration::from_millis(250);

/// Longest first time between two attempts to resume, whatever the round trip seems to take: on a link
/// that loses half of everything it seems to take seconds, and a single attempt would mostly fail.
pub const RESUME_INTERVAL_MAX: Duration = Duration::from_secs(1);

/// Resets without proof of origin after which a stream that is being resumed is given up. More than
/// one, since the rendezvous may still hold the stream for the socket before.
pub const RESUME_REFUSALS: u32 = 3;

/// Records that do not open which a stream survives when its peer sends lost records again. Far
/// below what could help anybody to forge one.
pub const CORRUPT_RECORDS: u32 = 1 << 20;

/// Bytes queued for sending on one stream in the urgent class, beside the ordinary ones.
pub const STREAM_URGENT_BYTES: usize = 262_144;

/// Urgent messages in a row that may go before an ordinary one that waits.
pub const URGENT_IN_A_ROW: u32 = 16;

/// Plaintext that a stream of weight 1 may send in its turn: one record of full size.
pub const TURN_BYTES: usize = RECORD_PLAINTEXT_BYTES;
