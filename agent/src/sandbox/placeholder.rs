//! Names that do not exist and must not come into being while a command runs.
//!
//! A mount needs something to be mounted on, so such a name is occupied on the host by an empty
//! directory of a mode that nobody else gives to one ([`MODE`]). Whoever uses it holds a shared lock on
//! it; the last one to let go removes it. The lock ends with its holder however that dies, and an empty
//! directory of that mode without a lock is taken over and removed by the next command there. For the
//! case that there is none, the executor writes the names down; see [`journal`](super::journal).
//!
//! The mount does not survive the removal of what it is mounted on. [`Placeholders::are_in_place`] tells
//! whether that happened; the command is ended then.

use std::ffi::OsString;
use std::io;
use std::os::fd::{AsFd as _, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::time::Duration;

use rustix::fs::{AtFlags, CWD, FlockOperation, Mode, OFlags, ResolveFlags, Stat};
use rustix::io::Errno;

use super::sys;

/// The names of one command.
#[derive(Debug, Default)]
pub(super) struct Placeholders {
    names: Vec<Placeholder>,
    /// Each directory that has some of them, once.
    parents: Vec<(PathBuf, Rc<OwnedFd>)>,
}

impl Placeholders {
    /// Occupies all paths or none.
    ///
    /// # Errors
    ///
    /// As [`Placeholder::acquire`].
    pub(super) fn acquire<'a>(paths: impl Iterator<Item = &'a Path>) -> io::Result<Self> {
        let mut all = Self::default();
        for path in paths {
            match all
                .parent(path)
                .and_then(|parent| Placeholder::acquire(parent, path))
            {
                Ok(occupied) => all.names.push(occupied),
                Err(err) => {
                    all.release();
                    return Err(err);
                }
            }
        }
        Ok(all)
    }

    fn parent(&mut self, path: &Path) -> io::Result<Rc<OwnedFd>> {
        let parent = path.parent().ok_or(Errno::INVAL)?;
        if let Some((_, open)) = self.parents.iter().find(|(known, _)| known == parent) {
            return Ok(Rc::clone(open));
        }
        let links = ResolveFlags::NO_SYMLINKS;
        let open = rustix::fs::openat2(CWD, parent, DIRECTORY, Mode::empty(), links)?;
        let open = Rc::new(open);
        self.parents.push((parent.to_owned(), Rc::clone(&open)));
        Ok(open)
    }

    /// Whether all names still are what was mounted on.
    pub(super) fn are_in_place(&self) -> bool {
        self.names.iter().all(Placeholder::is_in_place)
    }

    /// Sends SIGIO to this process whenever a name leaves one of the directories.
    ///
    /// The older of the kernel's two interfaces: closing the newer one, inotify, waits for the kernel
    /// to clean up, which was measured to hold the end of a command up by 30 ms.
    pub(super) fn watch(&self) -> io::Result<()> {
        let mut parents = self.parents.iter();
        parents.try_for_each(|(_, parent)| sys::signal_removals(parent.as_fd()))
    }

    /// What has to stay open while the names are to be occupied.
    pub(super) fn descriptors(&self) -> impl Iterator<Item = BorrowedFd<'_>> {
        let parents = self.parents.iter().map(|(_, parent)| parent.as_fd());
        parents.chain(self.names.iter().map(|name| name.directory.as_fd()))
    }

    /// Gives the names back, except those that others use as well. The descriptors stay open until it
    /// is dropped: the last one to a removed directory may wait for the disk when it is closed.
    pub(super) fn release(&self) {
        self.names.iter().for_each(Placeholder::release);
    }
}

/// A name that is occupied, until [`Self::release`].
#[derive(Debug)]
struct Placeholder {
    parent: Rc<OwnedFd>,
    name: OsString,
    directory: OwnedFd,
    stat: Stat,
}

impl Placeholder {
    /// Occupies a path, alone or together with others.
    ///
    /// # Errors
    ///
    /// EEXIST if there is something else by now; whatever the directory says.
    fn acquire(parent: Rc<OwnedFd>, path: &Path) -> io::Result<Self> {
        let name = path.file_name().ok_or(Errno::INVAL)?;
        for _ in 0..ATTEMPTS {
            // Without a mask, so that the mode is right from the beginning.
            let mask = rustix::process::umask(Mode::empty());
            let made = rustix::fs::mkdirat(&parent, name, MODE);
            rustix::process::umask(mask);
            match made {
                Ok(()) | Err(Errno::EXIST) => {}
                Err(errno) => return Err(errno.into()),
            }
            let flags = DIRECTORY | OFlags::NOFOLLOW;
            let directory = match rustix::fs::openat(&parent, name, flags, Mode::empty()) {
                Ok(directory) => directory,
                // The last user of the one before has just removed it.
                Err(Errno::NOENT) => continue,
                Err(Errno::NOTDIR | Errno::LOOP) => return Err(Errno::EXIST.into()),
                Err(errno) => return Err(errno.into()),
            };
            match rustix::fs::flock(&directory, FlockOperation::NonBlockingLockShared) {
                Ok(()) => {}
                // It is being removed.
                Err(Errno::AGAIN) => {
                    std::thread::sleep(PAUSE);
                    continue;
                }
                Err(errno) => return Err(errno.into()),
            }
            let stat = rustix::fs::fstat(&directory)?;
            let occupied = Self {
                parent: Rc::clone(&parent),
                name: name.to_owned(),
                directory,
                stat,
            };
            if !occupied.is_in_place() {
                continue;
            }
            let is_ours = made.is_ok() || is_empty(&occupied.directory)?;
            if !has_mode(stat.st_mode) || !is_ours {
                return Err(Errno::EXIST.into());
            }
            return Ok(occupied);
        }
        Err(Errno::BUSY.into())
    }

    /// Whether the name still is what was mounted on.
    fn is_in_place(&self) -> bool {
        rustix::fs::statat(&self.parent, &self.name, AtFlags::SYMLINK_NOFOLLOW)
            .is_ok_and(|found| (found.st_dev, found.st_ino) == (self.stat.st_dev, self.stat.st_ino))
    }

    fn release(&self) {
        let alone = rustix::fs::flock(&self.directory, FlockOperation::NonBlockingLockExclusive);
        if alone.is_ok() && self.is_in_place() {
            // Fails if somebody put something into it: then it is theirs.
            let _ = rustix::fs::unlinkat(&self.parent, &self.name, AtFlags::REMOVEDIR);
        }
    }
}

/// Removes one that nobody uses, of this user.
///
/// # Errors
///
/// EBUSY if somebody uses it; whatever the system says. It is no error if there is something else.
pub(super) fn remove_abandoned(path: &Path) -> io::Result<()> {
    let parent = path.parent().ok_or(Errno::INVAL)?;
    let name = path.file_name().ok_or(Errno::INVAL)?;
    let links = ResolveFlags::NO_SYMLINKS;
    let parent = rustix::fs::openat2(CWD, parent, DIRECTORY, Mode::empty(), links)?;
    let flags = DIRECTORY | OFlags::NOFOLLOW;
    let directory = rustix::fs::openat(&parent, name, flags, Mode::empty())?;
    let stat = rustix::fs::fstat(&directory)?;
    let is_ours = stat.st_uid == rustix::process::geteuid().as_raw();
    if is_ours && has_mode(stat.st_mode) && is_empty(&directory)? {
        let left = Placeholder {
            parent: Rc::new(parent),
            name: name.to_owned(),
            directory,
            stat,
        };
        left.release();
        if left.is_in_place() {
            return Err(Errno::BUSY.into());
        }
    }
    Ok(())
}

/// Whether a directory is one of ours.
pub(super) fn looks_like_one(path: &Path, mode: u32) -> bool {
    has_mode(mode) && std::fs::read_dir(path).is_ok_and(|mut names| names.next().is_none())
}

fn has_mode(mode: u32) -> bool {
    mode & 0o7777 == MODE.as_raw_mode()
}

fn is_empty(directory: &OwnedFd) -> io::Result<bool> {
    let mut names = rustix::fs::Dir::read_from(directory)?;
    let is_own = |name: &[u8]| matches!(name, b"." | b"..");
    Ok(names.all(|entry| entry.is_ok_and(|entry| is_own(entry.file_name().to_bytes()))))
}

/// Sticky and read-only: a combination that nobody needs.
const MODE: Mode = Mode::from_raw_mode(0o1555);

const DIRECTORY: OFlags = OFlags::RDONLY
    .union(OFlags::DIRECTORY)
    .union(OFlags::CLOEXEC);

/// Rounds of another's removal that are waited for.
const ATTEMPTS: u32 = 1000;
const PAUSE: Duration = Duration::from_millis(1);

#[cfg(test)]
mod tests;
