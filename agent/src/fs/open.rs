//! How paths become descriptors: opening files to read, finding where a write lands, and refusing
//! links by descriptor.
//!
//! Two families of calls exist. With links followed, a path is handed to the kernel as it is. With
//! links refused, the parent directory is opened with `openat2(RESOLVE_NO_SYMLINKS)` and the last
//! component is used relative to that descriptor, so that no component can turn into a link between
//! a check and its use. Kernels without `openat2` get the same by opening one component after the
//! other.
//!
//! Nothing here blocks on a FIFO or touches a device: everything is opened with `O_NONBLOCK`, and what
//! is not a regular file is recognized before it is opened for reading.

use std::ffi::OsString;
use std::fs::File;
use std::io::Read as _;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::ffi::OsStringExt as _;
use std::path::{Component, Path, PathBuf};
use std::sync::Arc;

use bytes::Bytes;
use rustix::fs::{AtFlags, CWD, FileType, Mode, OFlags, ResolveFlags, Stat};
use rustix::io::Errno;

use super::FsError;
use super::limits::SYMBOLIC_LINKS;

/// Whether symbolic links in a path are followed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Links {
    /// As the kernel does by default.
    Follow,
    /// No component of the path may be a link.
    Refuse,
}

impl Links {
    /// The meaning of a `followSymlinks` parameter; absent and null mean to follow.
    pub(crate) fn from_param(follow_symlinks: Option<bool>) -> Self {
        if follow_symlinks.unwrap_or(true) {
            Self::Follow
        } else {
            Self::Refuse
        }
    }
}

/// A directory and a name in it. The name may or may not exist.
#[derive(Debug)]
pub(crate) struct Location {
    /// Opened with `O_PATH`: good for the `*at` calls, not for reading.
    pub(crate) dir: Arc<OwnedFd>,
    /// One component.
    pub(crate) name: OsString,
}

impl Location {
    /// Whether the name is the file of `stat` itself, not a link to it.
    pub(crate) fn is(&self, stat: &Stat) -> bool {
        rustix::fs::statat(&self.dir, &self.name, AtFlags::SYMLINK_NOFOLLOW)
            .is_ok_and(|found| (found.st_dev, found.st_ino) == (stat.st_dev, stat.st_ino))
    }
}

/// Opens a regular file to read it.
///
/// # Errors
///
/// [`FsError::NotAFile`] or [`FsError::NotRegular`] for anything but a regular file, ENXIO for a socket
/// when links are followed, EACCES for files that hold this process's own secrets.
pub(crate) fn open_to_read(path: &Path, links: Links) -> Result<(File, Stat), FsError> {
    match links {
        Links::Follow => open_at_to_read(CWD, path, path),
        Links::Refuse => {
            let Location { dir, name } = locate_no_follow(path)?;
            let stat = rustix::fs::statat(&dir, &name, AtFlags::SYMLINK_NOFOLLOW)?;
            match FileType::from_raw_mode(stat.st_mode) {
                FileType::RegularFile => {}
                FileType::Symlink => return Err(Errno::LOOP.into()),
                _ => return Err(FsError::NotRegular),
            }
            let flags = READ | OFlags::NOFOLLOW;
            let fd = rustix::fs::openat(&dir, &name, flags, Mode::empty())?;
            still_regular(fd, || FsError::NotRegular)
        }
    }
}

/// The same for a `name` in `dir`, links followed. `path` is for the error.
pub(crate) fn open_at_to_read(
    dir: impl AsFd,
    name: impl rustix::path::Arg + Copy,
    path: &Path,
) -> Result<(File, Stat), FsError> {
    let stat = rustix::fs::statat(&dir, name, AtFlags::empty())?;
    match FileType::from_raw_mode(stat.st_mode) {
        FileType::RegularFile => {}
        FileType::Socket => return Err(Errno::NXIO.into()),
        _ => return Err(FsError::not_a_file(path)),
    }
    let fd = rustix::fs::openat(&dir, name, READ, Mode::empty())?;
    still_regular(fd, || FsError::not_a_file(path))
}

/// Looks again at what was opened: the name may have changed its meaning since it was looked at.
fn still_regular(fd: OwnedFd, other: impl FnOnce() -> FsError) -> Result<(File, Stat), FsError> {
    let stat = rustix::fs::fstat(&fd)?;
    if FileType::from_raw_mode(stat.st_mode) != FileType::RegularFile {
        return Err(other());
    }
    refuse_own_secrets(&fd)?;
    Ok((File::from(fd), stat))
}

/// Reads the file from its beginning to its end, which for files of `/proc` is not where its size says.
///
/// # Errors
///
/// [`FsError::TooLarge`] beyond `limit` bytes.
pub(crate) fn read_to_end(file: &File, stat: &Stat, limit: u64) -> Result<Bytes, FsError> {
    let size = u64::try_from(stat.st_size).unwrap_or(0);
    if size > limit {
        return Err(FsError::TooLarge);
    }
    // One byte more than the size lets the end be seen without growing the buffer.
    let mut content = Vec::with_capacity(usize::try_from(size).map_or(0, |size| size + 1));
    file.take(limit + 1).read_to_end(&mut content)?;
    if content.len() as u64 > limit {
        return Err(FsError::TooLarge);
    }
    Ok(content.into())
}

/// Opens the parent directory of `path` without following any link.
///
/// # Errors
///
/// [`FsError::NoName`] for the root directory, ENOTDIR when a component is a link or a file.
pub(crate) fn locate_no_follow(path: &Path) -> Result<Location, FsError> {
    let (Some(parent), Some(name)) = (path.parent(), path.file_name()) else {
        return Err(FsError::NoName);
    };
    Ok(Location {
        dir: Arc::new(open_directory_no_follow(parent)?),
        name: name.to_owned(),
    })
}

/// Finds where a file of that path is or would be created: the directory and the name after all links,
/// dangling ones included.
///
/// # Errors
///
/// ELOOP after too many links, EISDIR when the path ends in a directory, whatever the kernel says about
/// the directories on the way.
pub(crate) fn locate_following(path: &Path) -> Result<Location, FsError> {
    let mut dir: Option<OwnedFd> = None;
    let mut rest = path.to_path_buf();
    for _ in 0..SYMBOLIC_LINKS {
        let name = rest.file_name().ok_or(Errno::ISDIR)?;
        let parent = match rest.parent() {
            Some(parent) if !parent.as_os_str().is_empty() => parent,
            _ => Path::new("."),
        };
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let parent = match &dir {
            Some(dir) => rustix::fs::openat(dir, parent, flags, Mode::empty())?,
            None => rustix::fs::openat(CWD, parent, flags, Mode::empty())?,
        };
        match rustix::fs::readlinkat(&parent, name, Vec::new()) {
            Ok(target) => {
                rest = PathBuf::from(OsString::from_vec(target.into_bytes()));
                dir = Some(parent);
            }
            Err(Errno::INVAL | Errno::NOENT) => {
                return Ok(Location {
                    dir: Arc::new(parent),
                    name: name.to_owned(),
                });
            }
            Err(errno) => return Err(errno.into()),
        }
    }
    Err(Errno::LOOP.into())
}

/// Opens a directory of which no component is a link, as a base for `*at` calls.
pub(crate) fn open_directory_no_follow(path: &Path) -> Result<OwnedFd, FsError> {
    match rustix::fs::openat2(
        CWD,
        path,
        DIRECTORY,
        Mode::empty(),
        ResolveFlags::NO_SYMLINKS,
    ) {
        Ok(fd) => Ok(fd),
        // A link in the way is reported as what it is not: a directory.
        Err(Errno::LOOP) => Err(Errno::NOTDIR.into()),
        // Old kernels, and sandboxes that do not know the call.
        Err(Errno::NOSYS | Errno::PERM) => open_directory_by_component(path),
        Err(errno) => Err(errno.into()),
    }
}

/// The same without `openat2`.
fn open_directory_by_component(path: &Path) -> Result<OwnedFd, FsError> {
    let mut dir = rustix::fs::open("/", DIRECTORY, Mode::empty())?;
    for component in path.components() {
        match component {
            Component::RootDir | Component::CurDir => {}
            Component::Normal(name) => dir = open_child_directory(&dir, name)?,
            // Path URIs are free of dot segments; a relative path cannot be meant.
            Component::ParentDir | Component::Prefix(_) => return Err(Errno::INVAL.into()),
        }
    }
    Ok(dir)
}

/// Opens the directory `name` in `dir`, not a link to one.
pub(crate) fn open_child_directory(
    dir: impl AsFd,
    name: impl rustix::path::Arg,
) -> Result<OwnedFd, Errno> {
    match rustix::fs::openat(dir, name, DIRECTORY, Mode::empty()) {
        Err(Errno::LOOP) => Err(Errno::NOTDIR),
        other => other,
    }
}

/// Fails for the files under which the kernel shows this process's own environment and memory. The
/// inherited environment holds credentials that no session may see.
pub(crate) fn refuse_own_secrets(fd: impl AsFd) -> Result<(), FsError> {
    use std::os::fd::AsRawFd as _;
    if rustix::fs::fstatfs(&fd).is_ok_and(|stat| stat.f_type != rustix::fs::PROC_SUPER_MAGIC) {
        return Ok(());
    }
    let Ok(path) = std::fs::read_link(format!("/proc/self/fd/{}", fd.as_fd().as_raw_fd())) else {
        return Ok(());
    };
    let secret = path
        .file_name()
        .is_some_and(|name| name == "environ" || name == "mem");
    let own = std::process::id().to_string();
    if secret
        && path
            .components()
            .any(|part| part.as_os_str() == own.as_str())
    {
        return Err(Errno::ACCESS.into());
    }
    Ok(())
}

/// Flags of every open: never wait for a peer, never become a controlling terminal's child, never leak
/// into a child process.
pub(crate) const QUIET: OFlags = OFlags::NONBLOCK
    .union(OFlags::NOCTTY)
    .union(OFlags::CLOEXEC);

/// Flags of what is opened to be read.
const READ: OFlags = OFlags::RDONLY.union(QUIET);

/// Flags for a directory that is not a link.
const DIRECTORY: OFlags = OFlags::PATH
    .union(OFlags::DIRECTORY)
    .union(OFlags::NOFOLLOW)
    .union(OFlags::CLOEXEC);

#[cfg(test)]
mod tests;
