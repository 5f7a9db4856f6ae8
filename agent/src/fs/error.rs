//! What can go wrong in a filesystem call, and the JSON-RPC error that it becomes.
//!
//! Texts that peers see are those of the protocol. Errors of the operating system keep its text and
//! number; the text depends on the C library, so peers branch on the code alone.

use std::io;
use std::path::Path;

use exec_proto::rpc::RpcError;
use rustix::io::Errno;

use super::limits;

/// A failed filesystem call.
#[derive(Debug, thiserror::Error)]
pub(crate) enum FsError {
    /// The operating system refused.
    #[error(transparent)]
    Io(#[from] io::Error),
    /// A file was needed and something else was found, links followed.
    #[error("path `{0}` is not a file")]
    NotAFile(String),
    /// A directory was needed and something else was found.
    #[error("path is not a directory")]
    NotADirectory,
    /// A regular file was needed and something else was found, links not followed.
    #[error("path is not a regular file")]
    NotRegular,
    /// The path is the root directory where a name is needed.
    #[error("path must name an entry")]
    NoName,
    /// The last component is a link where links are not followed.
    #[error("path contains a symbolic link")]
    SymbolicLink,
    /// The file does not fit into one message.
    #[error("file is too large to read: limit is {limit} bytes", limit = limits::READ_FILE_BYTES)]
    TooLarge,
    /// The directory has more entries than one answer may hold.
    #[error("fs/readDirectory returned {found} entries; limit is {limit}", limit = limits::DIRECTORY_ENTRIES)]
    TooManyEntries {
        /// Entries seen when reading stopped.
        found: usize,
    },
    /// `fs/walk` with a limit of zero.
    #[error("filesystem walk limits must be greater than zero")]
    WalkLimitsZero,
    /// `fs/walk` with a limit that is too high.
    #[error(
        "filesystem walk limits exceed maximums: depth={}, directories={}, entries={}",
        limits::WALK_DEPTH,
        limits::WALK_DIRECTORIES,
        limits::WALK_ENTRIES
    )]
    WalkLimitsExceeded,
    /// The root directory exists.
    #[error("directory already exists")]
    RootExists,
    /// Removal of a tree without following links.
    #[error("recursive no-follow removal is unsupported")]
    RecursiveNoFollow,
    /// Removal of the root directory.
    #[error("the root directory cannot be removed")]
    RemoveRoot,
    /// Copy of a directory without asking for its content.
    #[error("fs/copy requires recursive: true when sourcePath is a directory")]
    CopyNeedsRecursive,
    /// Copy of a directory into itself.
    #[error("fs/copy cannot copy a directory to itself or one of its descendants")]
    CopyIntoItself,
    /// Copy of a device, FIFO or socket.
    #[error("fs/copy only supports regular files, directories, and symlinks")]
    CopySpecial,
    /// A handle id that is too long.
    #[error("file handle ID must not exceed {limit} bytes", limit = limits::HANDLE_ID_BYTES)]
    HandleIdTooLong,
    /// A handle id that is in use.
    #[error("file handle `{0}` already exists")]
    HandleExists(String),
    /// A handle id that is not in use.
    #[error("unknown file handle `{0}`")]
    HandleUnknown(String),
    /// Too many handles.
    #[error("at most {limit} file handles may be open per connection", limit = limits::HANDLES)]
    TooManyHandles,
    /// A block to read of length zero or too long.
    #[error("file read block length must be between 1 and {limit}", limit = limits::BLOCK_BYTES)]
    ReadBlockLength,
    /// A block to write of length zero or too long.
    #[error("file write block length must be between 1 and {limit}", limit = limits::BLOCK_BYTES)]
    WriteBlockLength,
    /// A block that ends beyond what a file can hold.
    #[error("file write range exceeds the signed 64-bit file offset limit")]
    WriteRange,
    /// A rename that may not replace, on a filesystem that cannot do that in one step.
    #[error("fs/rename with replace: false is not supported by this filesystem")]
    KeepUnsupported,
    /// A `sandbox` that this executor cannot enforce.
    #[error("filesystem sandbox cannot be enforced on this executor")]
    Sandbox,
    /// The answer of the process that serves requests in a sandbox.
    #[error(transparent)]
    Confined(RpcError),
    /// `dataBase64` that is not base64.
    #[error("fs/writeFile requires valid base64 dataBase64: {0}")]
    Base64(exec_proto::base64::Base64Error),
    /// A URI that names no path on this host.
    #[error("{0}")]
    ForeignPath(String),
    /// The request was abandoned.
    #[error("the request was cancelled")]
    Cancelled,
    /// A bug in this crate.
    #[error("the filesystem call ended unexpectedly")]
    Panicked,
}

impl FsError {
    /// The error for a path that is not a file.
    pub(crate) fn not_a_file(path: &Path) -> Self {
        Self::NotAFile(path.display().to_string())
    }

    /// Whether nothing can be there: no such file, or a file where a directory would have to be.
    pub(crate) fn is_absent(&self) -> bool {
        let not_a_directory =
            |err: &io::Error| err.raw_os_error() == Some(Errno::NOTDIR.raw_os_error());
        self.is_not_found() || matches!(self, Self::Io(err) if not_a_directory(err))
    }

    /// Whether this is the operating system's "no such file or directory".
    pub(crate) fn is_not_found(&self) -> bool {
        matches!(self, Self::Io(err) if err.kind() == io::ErrorKind::NotFound)
    }
}

impl From<Errno> for FsError {
    fn from(errno: Errno) -> Self {
        Self::Io(errno.into())
    }
}

impl From<FsError> for RpcError {
    fn from(err: FsError) -> Self {
        match &err {
            FsError::Io(io) => Self::from_io(io),
            FsError::Confined(error) => error.clone(),
            FsError::HandleUnknown(_) => Self::not_found(err.to_string()),
            FsError::TooManyEntries { .. }
            | FsError::RootExists
            | FsError::RecursiveNoFollow
            | FsError::KeepUnsupported
            | FsError::Cancelled
            | FsError::Panicked => Self::internal(err.to_string()),
            FsError::NotAFile(_)
            | FsError::NotADirectory
            | FsError::NotRegular
            | FsError::NoName
            | FsError::SymbolicLink
            | FsError::TooLarge
            | FsError::WalkLimitsZero
            | FsError::WalkLimitsExceeded
            | FsError::RemoveRoot
            | FsError::CopyNeedsRecursive
            | FsError::CopyIntoItself
            | FsError::CopySpecial
            | FsError::HandleIdTooLong
            | FsError::HandleExists(_)
            | FsError::TooManyHandles
            | FsError::ReadBlockLength
            | FsError::WriteBlockLength
            | FsError::WriteRange
            | FsError::Sandbox
            | FsError::Base64(_)
            | FsError::ForeignPath(_) => Self::invalid_request(err.to_string()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn errno_maps_to_the_code_that_peers_branch_on() {
        let table = [
            (Errno::NOENT, -32004),
            (Errno::ACCESS, -32600),
            (Errno::PERM, -32600),
            (Errno::INVAL, -32600),
            (Errno::NOTDIR, -32603),
            (Errno::ISDIR, -32603),
            (Errno::EXIST, -32603),
            (Errno::NOTEMPTY, -32603),
            (Errno::LOOP, -32603),
            (Errno::NAMETOOLONG, -32603),
            (Errno::ROFS, -32603),
            (Errno::BADF, -32603),
            (Errno::NXIO, -32603),
        ];
        for (errno, code) in table {
            let rpc = RpcError::from(FsError::from(errno));
            assert_eq!(rpc.code, code, "{errno:?}");
            assert!(
                rpc.message
                    .ends_with(&format!("(os error {})", errno.raw_os_error()))
            );
        }
    }

    #[test]
    fn an_unknown_handle_is_not_found_and_names_the_handle() {
        let rpc = RpcError::from(FsError::HandleUnknown("h".to_owned()));
        assert_eq!(
            (rpc.code, rpc.message.as_str()),
            (-32004, "unknown file handle `h`")
        );
    }

    #[test]
    fn limits_are_named_in_the_texts() {
        let text = |err: FsError| RpcError::from(err).message;
        assert_eq!(
            text(FsError::TooLarge),
            "file is too large to read: limit is 50266112 bytes"
        );
        assert_eq!(
            text(FsError::WalkLimitsExceeded),
            "filesystem walk limits exceed maximums: depth=64, directories=10000, entries=50000"
        );
        assert_eq!(
            text(FsError::ReadBlockLength),
            "file read block length must be between 1 and 1048576"
        );
    }
}
