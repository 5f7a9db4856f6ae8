//! A file that is being replaced block by block.
//!
//! Blocks are in the file, under its own name, as soon as they are written; closing adds nothing. But a
//! peer that vanishes half-way must not leave half a file. So opening puts a new file in the old one's
//! place with one exchange of names and keeps the old one under a temporary name in the same directory.
//! [`Replacement::commit`] removes the old file; dropping the replacement without it puts the old file
//! back, or removes the new one if there was none before, unless somebody else has replaced the path in
//! the meantime.
//!
//! Where an exchange is impossible (see [`super::stage`]), the file is truncated and written in place and
//! cannot be put back. If the process is killed, the new content stays and the old is found beside it
//! under a name that begins with `.exec-server-`.

use std::ffi::OsString;
use std::fs::File;
use std::os::unix::fs::FileExt as _;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};

use rustix::fs::{AtFlags, Mode, OFlags, Stat};
use rustix::io::Errno;

use super::FsError;
use super::open::{Links, Location, QUIET};
use super::stage::{Attempt, Staged};
use super::target::Target;

/// A file opened to get new content.
#[derive(Debug)]
pub(crate) struct Replacement {
    file: Arc<File>,
    undo: Mutex<Option<Undo>>,
}

impl Replacement {
    /// Opens `path` for new content; it is empty afterwards. Links are followed.
    ///
    /// # Errors
    ///
    /// [`FsError::NotAFile`] for devices; otherwise what the kernel says to an attempt to write.
    pub(crate) fn open(path: &Path) -> Result<Self, FsError> {
        match Target::open(path, Links::Follow)? {
            Target::Special(_) => Err(FsError::not_a_file(path)),
            Target::Missing(location) => Self::create(location),
            Target::Regular {
                file,
                stat,
                location,
            } => {
                if let Some(location) = location
                    && let Attempt::Done(replacement) =
                        Self::exchange(Arc::new(location), &file, &stat)?
                {
                    return Ok(replacement);
                }
                file.set_len(0)?;
                Ok(Self {
                    file: Arc::new(file),
                    undo: Mutex::new(None),
                })
            }
        }
    }

    /// Writes a block at any offset.
    pub(crate) fn write(&self, block: &[u8], offset: u64) -> Result<(), FsError> {
        Ok(self.file.write_all_at(block, offset)?)
    }

    /// The file. Its descriptor is for writing only.
    pub(crate) fn file(&self) -> &File {
        &self.file
    }

    /// Brings what was written to the disk.
    pub(crate) fn sync(&self) -> Result<(), FsError> {
        Ok(self.file.sync_all()?)
    }

    /// Gives up the way back: what was written stays.
    pub(crate) fn commit(&self) {
        if let Some(undo) = self.take_undo()
            && let Some(old) = undo.old
        {
            let _ = rustix::fs::unlinkat(&undo.location.dir, old, AtFlags::empty());
        }
    }

    fn create(location: Location) -> Result<Self, FsError> {
        let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | QUIET;
        let mode = Mode::from_raw_mode(0o666);
        let file = File::from(rustix::fs::openat(
            &location.dir,
            &location.name,
            flags,
            mode,
        )?);
        let new = rustix::fs::fstat(&file)?;
        let undo = Undo {
            location: Arc::new(location),
            old: None,
            new,
        };
        Ok(Self {
            file: Arc::new(file),
            undo: Mutex::new(Some(undo)),
        })
    }

    fn exchange(
        location: Arc<Location>,
        old: &File,
        stat: &Stat,
    ) -> Result<Attempt<Self>, FsError> {
        let staged = match Staged::replacement(Arc::clone(&location), old, stat)? {
            Attempt::Done(staged) => staged,
            Attempt::Impossible(errno) => return Ok(Attempt::Impossible(errno)),
        };
        let file = Arc::clone(&staged.file);
        let new = rustix::fs::fstat(&file)?;
        match staged.exchange()? {
            Attempt::Done(old) => {
                let undo = Mutex::new(Some(Undo {
                    location,
                    old: Some(old),
                    new,
                }));
                Ok(Attempt::Done(Self { file, undo }))
            }
            Attempt::Impossible(errno) => Ok(Attempt::Impossible(errno)),
        }
    }

    fn take_undo(&self) -> Option<Undo> {
        self.undo
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .take()
    }
}

impl Drop for Replacement {
    fn drop(&mut self) {
        if let Some(undo) = self.take_undo() {
            undo.run();
        }
    }
}

/// The way back to what was there before.
#[derive(Debug)]
struct Undo {
    location: Arc<Location>,
    /// Temporary name of the old file, if there was one.
    old: Option<OsString>,
    /// The new file, to recognize it.
    new: Stat,
}

impl Undo {
    fn run(self) {
        let Location { dir, name } = &*self.location;
        let ours = self.location.is(&self.new);
        // Failures cannot be reported to anybody: the peer is gone.
        let _: Result<(), Errno> = match &self.old {
            Some(old) if ours => rustix::fs::renameat(dir, old, dir, name),
            Some(old) => rustix::fs::unlinkat(dir, old, AtFlags::empty()),
            None if ours => rustix::fs::unlinkat(dir, name, AtFlags::empty()),
            None => Ok(()),
        };
    }
}
