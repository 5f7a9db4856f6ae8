//! What a path that is about to be written names now: nothing, a regular file, or something else.

use std::fs::File;
use std::path::Path;

use rustix::fs::{FileType, Mode, OFlags, Stat};
use rustix::io::Errno;

use super::FsError;
use super::open::{Links, Location, QUIET, locate_following, locate_no_follow};

/// The present owner of a path that is about to be written.
///
/// Whatever exists was opened for writing, so the kernel has agreed that this process may write it. It
/// has not been truncated.
#[derive(Debug)]
pub(crate) enum Target {
    /// Nothing: the file would be created here.
    Missing(Location),
    /// A regular file.
    Regular {
        /// Opened for writing, at its beginning.
        file: File,
        /// Its attributes.
        stat: Stat,
        /// Where its name is; `None` when it has no name that can be found, such as an open file
        /// reached through `/proc/self/fd`.
        location: Option<Location>,
    },
    /// A device, or a FIFO that somebody reads.
    Special(File),
}

impl Target {
    /// Looks at `path`.
    ///
    /// # Errors
    ///
    /// What the kernel says to an attempt to write: EISDIR for a directory, ENXIO for a FIFO without
    /// reader, ENOENT for a missing parent; ELOOP for a link that is not followed.
    pub(crate) fn open(path: &Path, links: Links) -> Result<Self, FsError> {
        let flags = OFlags::WRONLY | QUIET;
        match links {
            Links::Follow => match rustix::fs::open(path, flags, Mode::empty()) {
                Ok(fd) => {
                    let file = File::from(fd);
                    let stat = rustix::fs::fstat(&file)?;
                    if !is_regular(&stat) {
                        return Ok(Self::Special(file));
                    }
                    let location = locate_following(path).ok().filter(|found| found.is(&stat));
                    Ok(Self::Regular {
                        file,
                        stat,
                        location,
                    })
                }
                Err(Errno::NOENT) => Ok(Self::Missing(locate_following(path)?)),
                Err(errno) => Err(errno.into()),
            },
            Links::Refuse => {
                let location = locate_no_follow(path)?;
                let flags = flags | OFlags::NOFOLLOW;
                match rustix::fs::openat(&location.dir, &location.name, flags, Mode::empty()) {
                    Ok(fd) => {
                        let file = File::from(fd);
                        let stat = rustix::fs::fstat(&file)?;
                        if !is_regular(&stat) {
                            return Err(FsError::NotRegular);
                        }
                        let location = Some(location).filter(|found| found.is(&stat));
                        Ok(Self::Regular {
                            file,
                            stat,
                            location,
                        })
                    }
                    Err(Errno::NOENT) => Ok(Self::Missing(location)),
                    Err(errno) => Err(errno.into()),
                }
            }
        }
    }
}

impl Target {
    /// Looks at a name in a directory without following a link; `None` for a link.
    ///
    /// # Errors
    ///
    /// As [`Target::open`] with links followed.
    pub(crate) fn open_at(location: Location) -> Result<Option<Self>, FsError> {
        let flags = OFlags::WRONLY | OFlags::NOFOLLOW | QUIET;
        match rustix::fs::openat(&location.dir, &location.name, flags, Mode::empty()) {
            Ok(fd) => {
                let file = File::from(fd);
                let stat = rustix::fs::fstat(&file)?;
                if !is_regular(&stat) {
                    return Ok(Some(Self::Special(file)));
                }
                let location = Some(location).filter(|found| found.is(&stat));
                Ok(Some(Self::Regular {
                    file,
                    stat,
                    location,
                }))
            }
            Err(Errno::NOENT) => Ok(Some(Self::Missing(location))),
            Err(Errno::LOOP) => Ok(None),
            Err(errno) => Err(errno.into()),
        }
    }
}

fn is_regular(stat: &Stat) -> bool {
    FileType::from_raw_mode(stat.st_mode) == FileType::RegularFile
}
