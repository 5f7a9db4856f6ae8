//! The numbers that bound what one connection can ask of the filesystem.

/// Largest file that `fs/readFile` returns.
///
/// The protocol names 512 MiB, but an answer is one message and a message holds at most 64 MiB. The
/// base64 form of 48 MiB is exactly that, so 64 KiB are left for the envelope and the request id.
/// Larger files are read with `fs/open` and `fs/readBlock`.
pub(crate) const READ_FILE_BYTES: u64 = 48 * 1024 * 1024 - 64 * 1024;

/// Most entries that `fs/readDirectory` returns.
pub(crate) const DIRECTORY_ENTRIES: usize = 50_000;

/// Largest `maxDepth` of `fs/walk`.
pub(crate) const WALK_DEPTH: usize = 64;
/// Largest `maxDirectories` of `fs/walk`.
pub(crate) const WALK_DIRECTORIES: usize = 10_000;
/// Largest `maxEntries` of `fs/walk`.
pub(crate) const WALK_ENTRIES: usize = 50_000;
/// Bytes that the answer to one `fs/walk` may take.
pub(crate) const WALK_RESPONSE_BYTES: usize = 4 * 1024 * 1024;
/// What each item of a walk is charged besides its URI and its message.
pub(crate) const WALK_ITEM_BYTES: usize = 64;

/// Handles that one connection may have open.
pub(crate) const HANDLES: usize = 128;
/// Longest handle id.
pub(crate) const HANDLE_ID_BYTES: usize = 32;
/// Largest block that a handle reads or writes at once.
pub(crate) const BLOCK_BYTES: usize = exec_proto::fs::MAX_BLOCK_BYTES;

/// Most paths in one `fs/watchMissing`.
pub(crate) const WATCHED_PATHS: usize = 64;
/// Most directories that one watch may observe: 64 paths of ordinary depth need far fewer.
pub(crate) const WATCHED_DIRECTORIES: usize = 4096;

/// Symbolic links resolved for one path, as in the kernel.
pub(crate) const SYMBOLIC_LINKS: usize = 40;

/// Filesystem calls that one connection runs at once; more wait. A connection whose filesystem hangs
/// holds at most this many threads.
pub(crate) const CALLS_PER_CONNECTION: usize = 8;
/// Filesystem calls that the whole process runs at once. The runtime has 512 threads for blocking
/// work; the rest stays free for processes and name resolution.
pub(crate) const CALLS_PER_PROCESS: usize = 256;
