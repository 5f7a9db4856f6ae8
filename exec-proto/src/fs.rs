//! `fs/*`: whole files, directories, block handles, and a watch on absent paths.
//!
//! Every method that takes a path also takes `sandbox`, object or null. What this
//! project adds to the reference is in `changes`.

mod changes;

use bytes::Bytes;
use serde::{Deserialize, Serialize};

use crate::PathUri;
use crate::base64::Undecoded;
use crate::sandbox::SandboxContext;

pub use changes::{
    APPEND, AppendParams, AppendResult, BATCH, BatchCall, BatchOutcome, BatchParams, BatchResult,
    MAX_BATCH_CALLS, MAX_BATCH_RESULT_BYTES, RENAME, RenameParams, SYNC, SyncParams,
    UNWATCH_MISSING, UnwatchMissingParams,
};

/// Request: a file's contents.
pub const READ_FILE: &str = "fs/readFile";
/// Request: create or replace a file's contents.
pub const WRITE_FILE: &str = "fs/writeFile";
/// Request: make a directory.
pub const CREATE_DIRECTORY: &str = "fs/createDirectory";
/// Request: kind, size and times.
pub const GET_METADATA: &str = "fs/getMetadata";
/// Request: resolve links.
pub const CANONICALIZE: &str = "fs/canonicalize";
/// Request: names in a directory.
pub const READ_DIRECTORY: &str = "fs/readDirectory";
/// Request: names below a directory.
pub const WALK: &str = "fs/walk";
/// Request: delete.
pub const REMOVE: &str = "fs/remove";
/// Request: copy.
pub const COPY: &str = "fs/copy";
/// Request: open a handle for blocks.
pub const OPEN: &str = "fs/open";
/// Request: read a block.
pub const READ_BLOCK: &str = "fs/readBlock";
/// Request: write a block.
pub const WRITE_BLOCK: &str = "fs/writeBlock";
/// Request: close a handle.
pub const CLOSE: &str = "fs/close";
/// Request: watch paths that do not exist.
pub const WATCH_MISSING: &str = "fs/watchMissing";
/// Notification: a watch fired.
pub const MISSING_CHANGED: &str = "fs/missingChanged";

/// Most bytes in one block, read or written.
pub const MAX_BLOCK_BYTES: usize = 1 << 20;

/// Parameters of `fs/readFile`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ReadFileParams {
    /// The file.
    pub path: PathUri,
    /// `None` is true.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub follow_symlinks: Option<bool>,
    /// Restrictions.
    #[serde(default)]
    pub sandbox: Option<SandboxContext>,
}

/// Result of `fs/readFile`.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ReadFileResult {
    /// The contents.
    #[serde(with = "crate::base64")]
    pub data_base64: Bytes,
}
redacted_debug!(ReadFileResult {});

/// Parameters of `fs/writeFile`.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct WriteFileParams {
    /// The file.
    pub path: PathUri,
    /// The contents, not decoded, because base64 errors have a code of their own here.
    pub data_base64: Undecoded,
    /// `None` is true.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub follow_symlinks: Option<bool>,
    /// Restrictions.
    #[serde(default)]
    pub sandbox: Option<SandboxContext>,
}
redacted_debug!(WriteFileParams {
    path,
    follow_symlinks
});

/// Parameters of `fs/createDirectory`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct CreateDirectoryParams {
    /// The directory.
    pub path: PathUri,
    /// Make parents too, and accept an existing directory; `None` is true.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub recursive: Option<bool>,
    /// `None` is true.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub follow_symlinks: Option<bool>,
    /// Restrictions.
    #[serde(default)]
    pub sandbox: Option<SandboxContext>,
}

/// Parameters of `fs/getMetadata`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct GetMetadataParams {
    /// The path.
    pub path: PathUri,
    /// `None` is true.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub follow_symlinks: Option<bool>,
    /// Restrictions.
    #[serde(default)]
    pub sandbox: Option<SandboxContext>,
}

/// Result of `fs/getMetadata`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct GetMetadataResult {
    /// A directory.
    pub is_directory: bool,
    /// A regular file.
    pub is_file: bool,
    /// Whether the name itself is a link.
    pub is_symlink: bool,
    /// In bytes.
    pub size: u64,
    /// Milliseconds since 1970; 0 when unknown.
    pub created_at_ms: i64,
    /// Milliseconds since 1970; 0 when unknown.
    pub modified_at_ms: i64,
}

/// Parameters of `fs/canonicalize`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct CanonicalizeParams {
    /// The path; must exist.
    pub path: PathUri,
    /// Restrictions.
    #[serde(default)]
    pub sandbox: Option<SandboxContext>,
}

/// Result of `fs/canonicalize`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct CanonicalizeResult {
    /// Without links.
    pub path: PathUri,
}

/// Parameters of `fs/readDirectory`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ReadDirectoryParams {
    /// The directory.
    pub path: PathUri,
    /// Restrictions.
    #[serde(default)]
    pub sandbox: Option<SandboxContext>,
}

/// Result of `fs/readDirectory`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ReadDirectoryResult {
    /// In no order.
    pub entries: Vec<DirectoryEntry>,
}

/// A name in a directory.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct DirectoryEntry {
    /// Lossy when not UTF-8.
    pub file_name: String,
    /// Where the entry is, sent only when the name is not UTF-8 and `file_name` cannot tell.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub path: Option<PathUri>,
    /// Of the link's target.
    pub is_directory: bool,
    /// Of the link's target.
    pub is_file: bool,
}

/// Parameters of `fs/walk`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct WalkParams {
    /// Where to start.
    pub path: PathUri,
    /// How far to go.
    pub options: WalkOptions,
    /// Restrictions.
    #[serde(default)]
    pub sandbox: Option<SandboxContext>,
}

/// How far a walk goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct WalkOptions {
    /// 0 to 64.
    pub max_depth: usize,
    /// 1 to 10000.
    pub max_directories: usize,
    /// 1 to 50000.
    pub max_entries: usize,
    /// Enter links to directories.
    pub follow_directory_symlinks: bool,
    /// Do not enter names that start with a dot.
    #[serde(default)]
    pub prune_hidden_directories: bool,
}

/// Result of `fs/walk`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct WalkResult {
    /// Breadth first, sorted by name in each directory.
    pub entries: Vec<WalkEntry>,
    /// What could not be read.
    pub errors: Vec<WalkError>,
    /// Whether a limit left something out.
    pub truncated: bool,
}

/// A path that a walk found.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct WalkEntry {
    /// Where.
    pub path: PathUri,
    /// What.
    pub kind: WalkEntryKind,
}

/// What a walk found.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum WalkEntryKind {
    /// A directory, or a link to one.
    Directory,
    /// A regular file.
    File,
}

/// A path that a walk could not read.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct WalkError {
    /// Where.
    pub path: PathUri,
    /// Why.
    pub message: String,
}

/// Parameters of `fs/remove`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct RemoveParams {
    /// The path.
    pub path: PathUri,
    /// The whole tree; `None` is true.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub recursive: Option<bool>,
    /// A missing path is a success; `None` is true.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub force: Option<bool>,
    /// `None` is true.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub follow_symlinks: Option<bool>,
    /// Restrictions.
    #[serde(default)]
    pub sandbox: Option<SandboxContext>,
}

/// Parameters of `fs/copy`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct CopyParams {
    /// What to copy.
    pub source_path: PathUri,
    /// Where to.
    pub destination_path: PathUri,
    /// Needed for a directory.
    pub recursive: bool,
    /// Restrictions.
    #[serde(default)]
    pub sandbox: Option<SandboxContext>,
}

/// Parameters of `fs/open`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct OpenParams {
    /// Chosen by the client, at most 32 bytes.
    pub handle_id: String,
    /// The file.
    pub path: PathUri,
    /// What the handle is for.
    #[serde(default)]
    pub mode: OpenMode,
    /// Restrictions.
    #[serde(default)]
    pub sandbox: Option<SandboxContext>,
}

/// What a handle is for.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum OpenMode {
    /// Reading blocks.
    #[default]
    Read,
    /// Truncating at open, then writing blocks.
    Replace,
}

/// Result of `fs/open`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct OpenResult {
    /// Echoed.
    pub handle_id: String,
}

/// Parameters of `fs/readBlock`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ReadBlockParams {
    /// The handle.
    pub handle_id: String,
    /// Where to start, in bytes.
    pub offset: u64,
    /// 1 to [`MAX_BLOCK_BYTES`].
    pub len: usize,
}

/// Result of `fs/readBlock`.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ReadBlockResult {
    /// The bytes.
    #[serde(with = "crate::base64")]
    pub chunk: Bytes,
    /// Whether fewer bytes came than were asked for.
    pub eof: bool,
}
redacted_debug!(ReadBlockResult { eof });

/// Parameters of `fs/writeBlock`.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct WriteBlockParams {
    /// The handle.
    pub handle_id: String,
    /// Where to start, in bytes.
    pub offset: u64,
    /// 1 to [`MAX_BLOCK_BYTES`] bytes.
    #[serde(with = "crate::base64")]
    pub chunk: Bytes,
}
redacted_debug!(WriteBlockParams { handle_id, offset });

/// Parameters of `fs/close`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct CloseParams {
    /// The handle.
    pub handle_id: String,
}

/// Parameters of `fs/watchMissing`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct WatchMissingParams {
    /// Greater than every one before on the connection.
    pub watch_id: u64,
    /// Paths that do not exist.
    pub missing: Vec<PathUri>,
    /// A path that exists.
    #[serde(default)]
    pub present: Option<PathUri>,
}

/// Result of `fs/watchMissing`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct WatchMissingResult {
    /// Whether the watch is on.
    pub watching: bool,
}

/// Parameters of `fs/missingChanged`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct MissingChangedNotification {
    /// The watch, now gone.
    pub watch_id: u64,
}
