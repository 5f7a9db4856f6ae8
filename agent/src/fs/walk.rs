//! `fs/walk`: the directories and regular files below a root, breadth first, within limits.
//!
//! A walk is bounded by depth, by directories entered, by names examined and by the size of its answer;
//! whatever cuts it short sets `truncated`, except for the depth. Links are left out, but links to
//! directories can be followed; a real directory is entered once, whichever way leads to it first.
//! Names that are not UTF-8 are listed like others, since URIs carry bytes.

use std::collections::{BinaryHeap, HashSet, VecDeque};
use std::ffi::{OsStr, OsString};
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};

use exec_proto::PathUri;
use rustix::fs::{AtFlags, Dir, FileType, Mode, OFlags};
use rustix::io::Errno;

use super::FsError;
use super::limits::{
    WALK_DEPTH, WALK_DIRECTORIES, WALK_ENTRIES, WALK_ITEM_BYTES, WALK_RESPONSE_BYTES,
};
use super::open::QUIET;
use super::pool::Cancelled;

/// How far a walk goes.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Options {
    /// Levels below the root whose directories are entered; 0 lists the root only.
    pub(crate) max_depth: usize,
    /// Directories entered, the root included.
    pub(crate) max_directories: usize,
    /// Names examined, listed or not.
    pub(crate) max_entries: usize,
    /// Whether links to directories count as directories.
    pub(crate) follow_directory_links: bool,
    /// Whether directories whose name starts with a dot are listed but not entered.
    pub(crate) prune_hidden: bool,
}

impl Options {
    /// Refuses limits that are zero or beyond the protocol's.
    pub(crate) fn check(&self) -> Result<(), FsError> {
        if self.max_directories == 0 || self.max_entries == 0 {
            return Err(FsError::WalkLimitsZero);
        }
        if self.max_depth > WALK_DEPTH
            || self.max_directories > WALK_DIRECTORIES
            || self.max_entries > WALK_ENTRIES
        {
            return Err(FsError::WalkLimitsExceeded);
        }
        Ok(())
    }
}

/// What a walk found.
#[derive(Debug, Default)]
pub(crate) struct Walked {
    /// In the order of discovery.
    pub(crate) entries: Vec<Found>,
    /// What could not be examined or read.
    pub(crate) errors: Vec<Failed>,
    /// Whether something was left out because of a limit other than the depth.
    pub(crate) truncated: bool,
    charged_bytes: usize,
}

/// A directory or regular file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Found {
    /// Below the root as it was given.
    pub(crate) path: PathBuf,
    /// The same as a URI.
    pub(crate) uri: PathUri,
    /// A directory; otherwise a regular file.
    pub(crate) is_directory: bool,
}

/// Something that could not be examined or read.
#[derive(Debug)]
pub(crate) struct Failed {
    /// Which.
    pub(crate) uri: PathUri,
    /// Why, in the words of the operating system.
    pub(crate) message: String,
}

/// Walks the directory `root`. A root that is not a directory gives nothing.
///
/// # Errors
///
/// Only if the root is missing or cannot be examined, or the walk was abandoned.
pub(crate) fn walk(
    root: &Path,
    options: Options,
    cancelled: &Cancelled,
) -> Result<Walked, FsError> {
    let mut walked = Walked::default();
    let target = FileType::from_raw_mode(rustix::fs::stat(root)?.st_mode);
    let own = FileType::from_raw_mode(rustix::fs::lstat(root)?.st_mode);
    if target != FileType::Directory
        || (own == FileType::Symlink && !options.follow_directory_links)
    {
        return Ok(walked);
    }
    let mut examined = 0;
    let mut entered = HashSet::new();
    let mut n_entered = 0;
    let mut queue = VecDeque::from([(root.to_path_buf(), 0)]);
    while let Some((path, depth)) = queue.pop_front() {
        let directory = match open(&path, options.follow_directory_links) {
            Ok(directory) => directory,
            Err(errno) if walked.fail(&path, errno) => continue,
            Err(_) => return Ok(walked),
        };
        if options.follow_directory_links {
            let stat = rustix::fs::fstat(&directory)?;
            if !entered.insert((stat.st_dev, stat.st_ino)) {
                continue;
            }
        }
        if n_entered == options.max_directories {
            walked.truncated = true;
            continue;
        }
        n_entered += 1;
        let names = match names(&directory, options.max_entries - examined, cancelled) {
            Ok(names) => names,
            Err(FsError::Io(err)) => {
                if walked.fail(&path, err) {
                    continue;
                }
                return Ok(walked);
            }
            Err(err) => return Err(err),
        };
        for (name, kind) in names {
            if examined == options.max_entries {
                walked.truncated = true;
                return Ok(walked);
            }
            examined += 1;
            cancelled.check()?;
            let path = path.join(&name);
            let is_directory = match examine(&directory, &name, kind, options) {
                Ok(FileType::Directory) => true,
                Ok(FileType::RegularFile) => false,
                Ok(_) => continue,
                Err(errno) if walked.fail(&path, errno) => continue,
                Err(_) => return Ok(walked),
            };
            if !walked.add(&path, is_directory) {
                return Ok(walked);
            }
            let hidden = options.prune_hidden && name.as_bytes().starts_with(b".");
            if is_directory && depth < options.max_depth && !hidden {
                queue.push_back((path, depth + 1));
            }
        }
    }
    Ok(walked)
}

impl Walked {
    /// Lists an item if there is room for it.
    fn add(&mut self, path: &Path, is_directory: bool) -> bool {
        let Some(uri) = PathUri::from_native(path) else {
            return true;
        };
        if !self.charge(uri.as_str().len()) {
            return false;
        }
        self.entries.push(Found {
            path: path.to_path_buf(),
            uri,
            is_directory,
        });
        true
    }

    /// Lists a failure if there is room for it.
    fn fail(&mut self, path: &Path, err: impl Into<std::io::Error>) -> bool {
        let Some(uri) = PathUri::from_native(path) else {
            return true;
        };
        let message = err.into().to_string();
        if !self.charge(uri.as_str().len() + message.len()) {
            return false;
        }
        self.errors.push(Failed { uri, message });
        true
    }

    fn charge(&mut self, bytes: usize) -> bool {
        let charged = self.charged_bytes + bytes + WALK_ITEM_BYTES;
        if charged > WALK_RESPONSE_BYTES {
            self.truncated = true;
            return false;
        }
        self.charged_bytes = charged;
        true
    }
}

/// Opens a directory that was seen to be one. If links are not followed it must not have become one.
fn open(path: &Path, follow: bool) -> Result<OwnedFd, Errno> {
    let no_follow = if follow {
        OFlags::empty()
    } else {
        OFlags::NOFOLLOW
    };
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | QUIET | no_follow;
    rustix::fs::open(path, flags, Mode::empty())
}

/// The names of a directory in the order of their bytes.
///
/// Cost: keeps `room` names and one more, which shows that there are more, however large the directory
/// is.
fn names(
    directory: &OwnedFd,
    room: usize,
    cancelled: &Cancelled,
) -> Result<Vec<(OsString, FileType)>, FsError> {
    let mut kept: BinaryHeap<Name> = BinaryHeap::new();
    for entry in Dir::read_from(directory)? {
        cancelled.check()?;
        let entry = entry?;
        let name = entry.file_name().to_bytes();
        if matches!(name, b"." | b"..") {
            continue;
        }
        if leads_nowhere(directory, entry.file_name(), entry.file_type()) {
            continue;
        }
        if kept.len() > room {
            // The heap's top is the last name in order.
            if kept.peek().is_some_and(|last| last.0.as_bytes() <= name) {
                continue;
            }
            kept.pop();
        }
        kept.push(Name(OsStr::from_bytes(name).to_owned(), entry.file_type()));
    }
    Ok(kept
        .into_sorted_vec()
        .into_iter()
        .map(|name| (name.0, name.1))
        .collect())
}

/// Whether it is a link without a target. `fs/readDirectory` leaves those out, and here they do not
/// count either.
fn leads_nowhere(directory: &OwnedFd, name: &std::ffi::CStr, kind: FileType) -> bool {
    kind == FileType::Symlink && rustix::fs::statat(directory, name, AtFlags::empty()).is_err()
}

/// A name with its kind, ordered by name alone.
struct Name(OsString, FileType);

impl Ord for Name {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        self.0.cmp(&other.0)
    }
}

impl PartialOrd for Name {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl PartialEq for Name {
    fn eq(&self, other: &Self) -> bool {
        self.0 == other.0
    }
}

impl Eq for Name {}

/// What a name counts as: a link to a directory may be one, other links are nothing to list.
fn examine(
    directory: &OwnedFd,
    name: &OsStr,
    kind: FileType,
    options: Options,
) -> Result<FileType, Errno> {
    let kind = match kind {
        FileType::Unknown => {
            let stat = rustix::fs::statat(directory, name, AtFlags::SYMLINK_NOFOLLOW)?;
            FileType::from_raw_mode(stat.st_mode)
        }
        kind => kind,
    };
    if kind != FileType::Symlink {
        return Ok(kind);
    }
    let leads_to_directory = options.follow_directory_links
        && rustix::fs::statat(directory, name, AtFlags::empty())
            .is_ok_and(|stat| FileType::from_raw_mode(stat.st_mode) == FileType::Directory);
    Ok(if leads_to_directory {
        FileType::Directory
    } else {
        FileType::Symlink
    })
}

#[cfg(test)]
mod tests;
