//! `fs/append`, `fs/rename` and the path form of `fs/sync`.
//!
//! None of them is repeated by anybody: a client that lost the answer does not know whether the change
//! was made, and has to look.

use std::fs::File;
use std::io::{Seek as _, Write as _};
use std::path::Path;

use rustix::fs::{AtFlags, CWD, FileType, Mode, OFlags, RenameFlags};
use rustix::io::Errno;

use super::FsError;
use super::open::{Links, QUIET, locate_no_follow, refuse_own_secrets};

/// What a rename does with what is at the destination.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Existing {
    /// Take its place, as the kernel does by default.
    Replace,
    /// Leave it and fail.
    Keep,
}

/// Adds `data` to the end of the regular file at `path`, which is made if there is none. Returns where
/// in the file the data begins.
///
/// The kernel finds the end and writes in one step, so appends of several writers do not overlap. A
/// full disk may leave a part of the data in the file.
pub(crate) fn append(path: &Path, links: Links, data: &[u8]) -> Result<u64, FsError> {
    let flags = OFlags::WRONLY | OFlags::APPEND | OFlags::CREATE | QUIET;
    let mode = Mode::from_raw_mode(0o666);
    // Looked at before it is opened, because opening a FIFO or a device can already do something.
    let fd = match links {
        Links::Follow => {
            match rustix::fs::stat(path) {
                Ok(stat) => require_appendable(path, links, stat.st_mode)?,
                Err(Errno::NOENT) => {}
                Err(errno) => return Err(errno.into()),
            }
            rustix::fs::open(path, flags, mode)?
        }
        Links::Refuse => {
            let location = locate_no_follow(path)?;
            let (dir, name) = (&location.dir, &location.name);
            match rustix::fs::statat(dir, name, AtFlags::SYMLINK_NOFOLLOW) {
                Ok(stat) => require_appendable(path, links, stat.st_mode)?,
                Err(Errno::NOENT) => {}
                Err(errno) => return Err(errno.into()),
            }
            rustix::fs::openat(dir, name, flags | OFlags::NOFOLLOW, mode)?
        }
    };
    // Looked at again: the name may have changed its meaning since.
    let stat = rustix::fs::fstat(&fd)?;
    require_appendable(path, links, stat.st_mode)?;
    refuse_own_secrets(&fd)?;
    let mut file = File::from(fd);
    if data.is_empty() {
        return Ok(u64::try_from(stat.st_size).unwrap_or(0));
    }
    file.write_all(data)?;
    // The position is behind what this descriptor wrote, wherever the end was.
    Ok(file.stream_position()?.saturating_sub(data.len() as u64))
}

fn require_appendable(path: &Path, links: Links, mode: u32) -> Result<(), FsError> {
    match (FileType::from_raw_mode(mode), links) {
        (FileType::RegularFile, _) => Ok(()),
        (FileType::Directory, _) => Err(Errno::ISDIR.into()),
        (FileType::Symlink, _) => Err(Errno::LOOP.into()),
        (_, Links::Follow) => Err(FsError::not_a_file(path)),
        (_, Links::Refuse) => Err(FsError::NotRegular),
    }
}

/// Gives what `source` names, a link itself if it is one, the name `destination`, in one step.
///
/// # Errors
///
/// EXDEV between filesystems, EEXIST if something is there that is to be kept,
/// [`FsError::KeepUnsupported`] where the filesystem cannot keep it in one step.
pub(crate) fn rename(source: &Path, destination: &Path, existing: Existing) -> Result<(), FsError> {
    match existing {
        Existing::Replace => Ok(rustix::fs::renameat(CWD, source, CWD, destination)?),
        Existing::Keep => {
            let flags = RenameFlags::NOREPLACE;
            match rustix::fs::renameat_with(CWD, source, CWD, destination, flags) {
                Ok(()) => Ok(()),
                Err(Errno::NOSYS | Errno::NOTSUP) => Err(FsError::KeepUnsupported),
                // A directory that would be moved into itself gives this as well.
                Err(Errno::INVAL) if !is_directory(source) => Err(FsError::KeepUnsupported),
                Err(errno) => Err(errno.into()),
            }
        }
    }
}

fn is_directory(path: &Path) -> bool {
    rustix::fs::lstat(path)
        .is_ok_and(|stat| FileType::from_raw_mode(stat.st_mode) == FileType::Directory)
}

/// Brings a file's content, or the names in a directory, to the disk.
pub(crate) fn sync(path: &Path) -> Result<(), FsError> {
    require_syncable(path, rustix::fs::stat(path)?.st_mode)?;
    let open = |access| rustix::fs::open(path, access | QUIET, Mode::empty());
    let fd = match open(OFlags::RDONLY) {
        // A file that may be written and not read.
        Err(Errno::ACCESS) => open(OFlags::WRONLY)?,
        opened => opened?,
    };
    require_syncable(path, rustix::fs::fstat(&fd)?.st_mode)?;
    Ok(rustix::fs::fsync(&fd)?)
}

fn require_syncable(path: &Path, mode: u32) -> Result<(), FsError> {
    match FileType::from_raw_mode(mode) {
        FileType::RegularFile | FileType::Directory => Ok(()),
        _ => Err(FsError::not_a_file(path)),
    }
}

#[cfg(test)]
mod tests;
