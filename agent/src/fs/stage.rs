//! New content beside the old, until it takes the old one's place.
//!
//! A [`Staged`] file lives under a temporary name in the directory of the file it will replace, so that
//! one rename puts it there: a reader sees the old content or the new, never a part. Dropping it removes
//! it. If the process is killed in between, the old content stays and a file whose name begins with
//! `.exec-server-` may be left behind.
//!
//! A replacement is a new inode. It takes over owner, group, mode, access control list and the other
//! extended attributes. Where it cannot, because the directory does not let this process create files,
//! because only the file's owner could set those attributes, or because the file has other hard links
//! that must keep sharing its content, there is no staging and the caller writes in place.

use std::ffi::OsString;
use std::fs::File;
use std::os::fd::OwnedFd;
use std::sync::Arc;

use rustix::fs::{AtFlags, Gid, Mode, OFlags, RenameFlags, Stat, Uid, XattrFlags};
use rustix::io::Errno;
use uuid::Uuid;

use super::FsError;
use super::open::{Location, QUIET};

/// A file under a temporary name.
#[derive(Debug)]
pub(crate) struct Staged {
    /// Opened for writing, empty at first.
    pub(crate) file: Arc<File>,
    location: Arc<Location>,
    temporary: OsString,
    /// Set once the temporary name is not this file's any more.
    placed: bool,
}

/// What came of something that not every file and directory allows.
#[derive(Debug)]
pub(crate) enum Attempt<T> {
    /// It was done.
    Done(T),
    /// It is not possible here, for that reason, and nothing has changed.
    Impossible(Errno),
}

impl Staged {
    /// Prepares a file for a name that does not exist. Its mode is 0666 less the umask, as a plain
    /// creation would have it.
    pub(crate) fn new_file(location: Arc<Location>) -> Result<Self, FsError> {
        let (file, temporary) = create(&location.dir, Mode::from_raw_mode(0o666))?;
        Ok(Self {
            file: Arc::new(file),
            location,
            temporary,
            placed: false,
        })
    }

    /// Prepares a replacement of `old`, which is the file at `location`.
    pub(crate) fn replacement(
        location: Arc<Location>,
        old: &File,
        stat: &Stat,
    ) -> Result<Attempt<Self>, FsError> {
        if stat.st_nlink != 1 || stat.st_mode & SET_ID_BITS != 0 {
            return Ok(Attempt::Impossible(Errno::MLINK));
        }
        let (file, temporary) = match create(&location.dir, Mode::from_raw_mode(0o600)) {
            Ok(created) => created,
            Err(errno) if NOT_HERE.contains(&errno) => return Ok(Attempt::Impossible(errno)),
            Err(errno) => return Err(errno.into()),
        };
        let staged = Self {
            file: Arc::new(file),
            location,
            temporary,
            placed: false,
        };
        match inherit(&staged.file, old, stat) {
            Ok(()) => Ok(Attempt::Done(staged)),
            Err(errno) => Ok(Attempt::Impossible(errno)),
        }
    }

    /// Puts the file in its place.
    pub(crate) fn place(mut self) -> Result<Attempt<()>, FsError> {
        let (dir, name) = (&self.location.dir, &self.location.name);
        match rustix::fs::renameat(dir, &self.temporary, dir, name) {
            Ok(()) => {
                self.placed = true;
                Ok(Attempt::Done(()))
            }
            Err(errno) if NOT_HERE.contains(&errno) => Ok(Attempt::Impossible(errno)),
            Err(errno) => Err(errno.into()),
        }
    }

    /// Puts the file in its place and the file that was there under the temporary name, which is
    /// returned.
    pub(crate) fn exchange(mut self) -> Result<Attempt<OsString>, FsError> {
        let (dir, name) = (&self.location.dir, &self.location.name);
        let flags = RenameFlags::EXCHANGE;
        match rustix::fs::renameat_with(dir, &self.temporary, dir, name, flags) {
            Ok(()) => {
                self.placed = true;
                Ok(Attempt::Done(std::mem::take(&mut self.temporary)))
            }
            Err(errno) if NOT_HERE.contains(&errno) => Ok(Attempt::Impossible(errno)),
            Err(errno) => Err(errno.into()),
        }
    }
}

impl Drop for Staged {
    fn drop(&mut self) {
        if !self.placed {
            let _ = rustix::fs::unlinkat(&self.location.dir, &self.temporary, AtFlags::empty());
        }
    }
}

/// Creates an empty file under a name that nobody else uses.
fn create(dir: &OwnedFd, mode: Mode) -> Result<(File, OsString), Errno> {
    let name = OsString::from(format!(".exec-server-{}", Uuid::new_v4().simple()));
    let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | QUIET;
    Ok((
        File::from(rustix::fs::openat(dir, &name, flags, mode)?),
        name,
    ))
}

/// Gives `new` the attributes of `old`, or fails.
fn inherit(new: &File, old: &File, stat: &Stat) -> Result<(), Errno> {
    let own = rustix::fs::fstat(new)?;
    if (own.st_uid, own.st_gid) != (stat.st_uid, stat.st_gid) {
        let owner = Some(Uid::from_raw(stat.st_uid));
        rustix::fs::fchown(new, owner, Some(Gid::from_raw(stat.st_gid)))?;
    }
    let wanted = attribute_names(old)?;
    for name in attribute_names(new)? {
        if !wanted.contains(&name) {
            rustix::fs::fremovexattr(new, &name)?;
        }
    }
    for name in wanted {
        let value = attribute(old, &name)?;
        if attribute(new, &name).ok().as_ref() != Some(&value) {
            rustix::fs::fsetxattr(new, &name, &value, XattrFlags::empty())?;
        }
    }
    rustix::fs::fchmod(new, Mode::from_raw_mode(stat.st_mode & 0o7777))
}

/// Names of the extended attributes; none where the filesystem has no such thing.
fn attribute_names(file: &File) -> Result<Vec<Vec<u8>>, Errno> {
    let mut list = Vec::with_capacity(MAX_ATTRIBUTE_BYTES);
    match rustix::fs::flistxattr(file, rustix::buffer::spare_capacity(&mut list)) {
        Ok(_) => {}
        Err(Errno::NOTSUP) => return Ok(Vec::new()),
        Err(errno) => return Err(errno),
    }
    let names = list
        .split(|byte| *byte == 0)
        .filter(|name| !name.is_empty());
    Ok(names.map(<[u8]>::to_vec).collect())
}

fn attribute(file: &File, name: &[u8]) -> Result<Vec<u8>, Errno> {
    let mut value = Vec::with_capacity(MAX_ATTRIBUTE_BYTES);
    rustix::fs::fgetxattr(file, name, rustix::buffer::spare_capacity(&mut value))?;
    Ok(value)
}

/// Answers that mean "not this way", after which writing in place may still succeed: the directory is
/// not ours to change, the name is a mount point, the filesystem lacks the operation.
const NOT_HERE: [Errno; 9] = [
    Errno::ACCESS,
    Errno::PERM,
    Errno::ROFS,
    Errno::BUSY,
    Errno::XDEV,
    Errno::INVAL,
    Errno::NOTSUP,
    Errno::NOSYS,
    Errno::NOENT,
];

/// Set-user-id and set-group-id: what becomes of them on a write is left to the kernel.
const SET_ID_BITS: u32 = 0o6000;

/// The kernel's limit for a value and for a list of names.
const MAX_ATTRIBUTE_BYTES: usize = 65_536;
