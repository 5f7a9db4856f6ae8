//! `process/*`: start programs, follow their output, write to them, end them.
//!
//! Each process has one counter, from 1, shared by its `output`, `exited` and `closed` events.
//! `closed` is the last one. What this project adds to the reference is in `control`.

mod control;

use std::collections::BTreeMap;

use bytes::Bytes;
use serde::{Deserialize, Deserializer, Serialize};
use uuid::Uuid;

use crate::PathUri;
use crate::environment::Shell;
use crate::network::{ManagedNetwork, NetworkProxy};
use crate::sandbox::{SandboxContext, SandboxType};

pub use control::{
    Evicted, GroupSignal, LIST, ListParams, ListResult, ListedProcess, MAX_GRACE_MS, MAX_LISTED,
    MAX_PROGRAM_BYTES, MAX_TERM_BYTES, ProcessState, RESIZE, ResizeParams, SIGNAL_GROUP,
    SignalGroupParams, SignalGroupResult, TerminalOptions,
};

/// Request: spawn.
pub const START: &str = "process/start";
/// Request: retained output, with an optional wait.
pub const READ: &str = "process/read";
/// Request: standard input, idempotent.
pub const WRITE: &str = "process/write";
/// Request: interrupt.
pub const SIGNAL: &str = "process/signal";
/// Request: kill.
pub const TERMINATE: &str = "process/terminate";
/// Request: end standard input. An extension of this project, announced by the capability
/// [`process_stdin_close`](crate::environment::Capabilities::process_stdin_close).
pub const CLOSE_STDIN: &str = "process/closeStdin";
/// Notification: output.
pub const OUTPUT: &str = "process/output";
/// Notification: the main process has been reaped.
pub const EXITED: &str = "process/exited";
/// Notification: exited, and all output delivered.
pub const CLOSED: &str = "process/closed";

/// Most decoded bytes in one output chunk that a client accepts.
pub const MAX_CHUNK_BYTES: usize = 1 << 20;

/// Parameters of `process/start`.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct StartParams {
    /// Chosen by the client, unique in the session.
    pub process_id: String,
    /// For correlation; ends up in the child's environment.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub metadata: Option<Metadata>,
    /// Program and arguments; not empty.
    pub argv: Vec<String>,
    /// Working directory.
    pub cwd: PathUri,
    /// Which of the executor's variables the child inherits; `None` is none of them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub env_policy: Option<EnvPolicy>,
    /// Restore the state of a login shell instead of running its profile.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub shell_snapshot: Option<ShellSnapshot>,
    /// Laid over what the policy gives.
    pub env: BTreeMap<String, String>,
    /// A pseudo-terminal instead of pipes.
    pub tty: bool,
    /// Keep standard input open for `process/write`; a terminal's always is.
    #[serde(default)]
    pub pipe_stdin: bool,
    /// `argv[0]` as the program sees it.
    #[serde(default)]
    pub arg0: Option<String>,
    /// Restrictions.
    #[serde(default)]
    pub sandbox: Option<SandboxContext>,
    /// The sandbox must force traffic through the managed proxy.
    #[serde(default)]
    pub enforce_managed_network: bool,
    /// A proxy that somebody else runs.
    #[serde(default)]
    pub managed_network: Option<ManagedNetwork>,
    /// A proxy that the executor shall run.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub network_proxy: Option<NetworkProxy>,
    /// What the terminal is like, with `tty` only. An extension of this project, announced by the
    /// capability [`process_resize`](crate::environment::Capabilities::process_resize).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub terminal: Option<TerminalOptions>,
}
redacted_debug!(StartParams {
    process_id,
    tty,
    pipe_stdin
});

/// Correlation ids of a start.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Metadata {
    /// Reaches the child as `CODEX_THREAD_ID`.
    #[serde(
        default,
        deserialize_with = "optional_uuid",
        serialize_with = "hyphenated",
        skip_serializing_if = "Option::is_none"
    )]
    pub thread_id: Option<Uuid>,
    /// Reaches the child as `CODEX_TOOL_CALL_ID`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tool_call_id: Option<String>,
}

/// How the child's environment derives from the executor's. All members are required.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct EnvPolicy {
    /// What to start from.
    pub inherit: EnvInherit,
    /// Keep names that look like credentials.
    pub ignore_default_excludes: bool,
    /// Globs of names to drop.
    pub exclude: Vec<String>,
    /// Variables to add after the excludes.
    pub set: BTreeMap<String, String>,
    /// Globs of names to keep; empty keeps all.
    pub include_only: Vec<String>,
}
redacted_debug!(EnvPolicy {
    inherit,
    ignore_default_excludes,
    exclude,
    include_only
});

/// What an environment policy starts from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum EnvInherit {
    /// Names that every program needs.
    Core,
    /// Everything.
    All,
    /// Nothing.
    None,
}

/// The `shellSnapshot` member.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ShellSnapshot {
    /// Which state to share; 1 to 256 bytes.
    pub scope_id: String,
    /// The shell whose state it is.
    pub shell: Shell,
}

/// Result of `process/start`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct StartResult {
    /// Echoed.
    pub process_id: String,
    /// What restricts the process; absent from old executors.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sandbox_type: Option<SandboxType>,
}

/// Parameters of `process/read`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ReadParams {
    /// The process.
    pub process_id: String,
    /// Only chunks after this number; `None` is 0.
    #[serde(default)]
    pub after_seq: Option<u64>,
    /// Stop before the sum of chunks exceeds this; the first chunk always comes.
    #[serde(default)]
    pub max_bytes: Option<u64>,
    /// How long to wait for something new; `None` is 0.
    #[serde(default)]
    pub wait_ms: Option<u64>,
}

/// Result of `process/read`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ReadResult {
    /// Retained output, in order. A hole means evicted output, or `exited`.
    pub chunks: Vec<Chunk>,
    /// Where to go on reading, plus one.
    pub next_seq: u64,
    /// Whether the main process has been reaped.
    pub exited: bool,
    /// Its exit code.
    pub exit_code: Option<i32>,
    /// Whether nothing can follow.
    pub closed: bool,
    /// Why the process is lost; this executor always sends null.
    pub failure: Option<String>,
    /// Whether a sandbox seems to have stopped the process.
    #[serde(default)]
    pub sandbox_denied: bool,
    /// Output after `afterSeq` that is gone. An extension of this project: with the capability
    /// [`process_read_evicted`](crate::environment::Capabilities::process_read_evicted), `None`
    /// means that nothing is missing; without it, nothing is known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub evicted: Option<Evicted>,
}

/// A piece of retained output.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Chunk {
    /// Its place among the events of the process.
    pub seq: u64,
    /// Where it came from.
    pub stream: Stream,
    /// The bytes.
    #[serde(with = "crate::base64")]
    pub chunk: Bytes,
}
redacted_debug!(Chunk { seq, stream });

/// Where output came from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Stream {
    /// Standard output.
    Stdout,
    /// Standard error.
    Stderr,
    /// A terminal, which has only one stream.
    Pty,
}

/// Parameters of `process/write`.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct WriteParams {
    /// The process.
    pub process_id: String,
    /// The bytes; may be empty.
    #[serde(with = "crate::base64")]
    pub chunk: Bytes,
    /// Names the write, so that a retry is not delivered twice; not empty.
    pub write_id: String,
}
redacted_debug!(WriteParams {
    process_id,
    write_id
});

/// Result of `process/write`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct WriteResult {
    /// What became of it.
    pub status: WriteStatus,
}

/// What became of a write.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum WriteStatus {
    /// Queued, now or by an earlier write with the same id.
    Accepted,
    /// No such process.
    UnknownProcess,
    /// The process has no standard input.
    StdinClosed,
    /// The process is being spawned.
    Starting,
}

/// Parameters of `process/closeStdin`, answered with an empty object.
///
/// Writes that were accepted before reach the process first; writes after it are answered with
/// [`WriteStatus::StdinClosed`]. Closing what is closed, or the input of a process that has ended
/// or is not known, does nothing. For a process with a terminal it is refused.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct CloseStdinParams {
    /// The process.
    pub process_id: String,
}

/// Parameters of `process/signal`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct SignalParams {
    /// The process.
    pub process_id: String,
    /// Which signal.
    pub signal: Signal,
}

/// Signals that a client may send.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Signal {
    /// SIGINT to the process group.
    Interrupt,
}

/// Parameters of `process/terminate`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct TerminateParams {
    /// The process.
    pub process_id: String,
    /// First ask with SIGTERM, and kill after this time, at most [`MAX_GRACE_MS`]; `None` and 0
    /// kill at once. An extension of this project, announced by the capability
    /// [`process_terminate_grace`](crate::environment::Capabilities::process_terminate_grace);
    /// executors without it kill at once.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub grace_ms: Option<u64>,
}

/// Result of `process/terminate`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct TerminateResult {
    /// Whether there was something to kill.
    pub running: bool,
}

/// Parameters of `process/output`.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct OutputNotification {
    /// The process.
    pub process_id: String,
    /// The event's number.
    pub seq: u64,
    /// Where the bytes came from.
    pub stream: Stream,
    /// At most [`MAX_CHUNK_BYTES`].
    #[serde(with = "crate::base64")]
    pub chunk: Bytes,
}
redacted_debug!(OutputNotification {
    process_id,
    seq,
    stream
});

/// Parameters of `process/exited`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ExitedNotification {
    /// The process.
    pub process_id: String,
    /// The event's number.
    pub seq: u64,
    /// Exit status, or 128 plus the signal's number.
    pub exit_code: i32,
    /// Whether a sandbox seems to have stopped the process. Old executors leave it out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sandbox_denied: Option<bool>,
}

/// Parameters of `process/closed`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ClosedNotification {
    /// The process.
    pub process_id: String,
    /// The event's number, the last one.
    pub seq: u64,
}

fn optional_uuid<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Uuid>, D::Error> {
    let text = Option::<String>::deserialize(deserializer)?;
    text.map(|text| Uuid::parse_str(&text))
        .transpose()
        .map_err(serde::de::Error::custom)
}

fn hyphenated<S: serde::Serializer>(id: &Option<Uuid>, serializer: S) -> Result<S::Ok, S::Error> {
    match id {
        Some(id) => serializer.collect_str(&id.hyphenated()),
        None => serializer.serialize_none(),
    }
}
