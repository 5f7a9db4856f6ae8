//! The directory that the calls of one batch are in.
//!
//! The files of a batch are mostly in one directory after another, so the last one is kept open: the
//! kernel then looks up one name per file instead of a whole path. What comes out is what the whole path
//! would have given, for as long as no call of the batch changes directories; after one that may,
//! [`Parents::forget`] is due. Whoever else changes them meanwhile gets what could have come of calls
//! that were made a moment earlier.

use std::fs::File;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustix::fs::{Mode, OFlags, Stat};

use super::FsError;
use super::open::{Links, Location, open_at_to_read, open_to_read};
use super::target::Target;

/// At most one directory, kept open.
#[derive(Debug, Default)]
pub(crate) struct Parents {
    last: Option<(PathBuf, Arc<OwnedFd>)>,
}

impl Parents {
    /// Must be called after anything that may have changed what a path means.
    pub(crate) fn forget(&mut self) {
        self.last = None;
    }

    /// As [`open_to_read`].
    pub(crate) fn open_to_read(
        &mut self,
        path: &Path,
        links: Links,
    ) -> Result<(File, Stat), FsError> {
        match self.locate(path, links) {
            Some(Location { dir, name }) => open_at_to_read(&dir, &name, path),
            None => open_to_read(path, links),
        }
    }

    /// As [`Target::open`].
    pub(crate) fn target(&mut self, path: &Path, links: Links) -> Result<Target, FsError> {
        if let Some(location) = self.locate(path, links)
            && let Some(target) = Target::open_at(location)?
        {
            return Ok(target);
        }
        Target::open(path, links)
    }

    /// Where a path is, links in its directory followed. `None` if that takes more than this, such as
    /// saying what is wrong with it.
    fn locate(&mut self, path: &Path, links: Links) -> Option<Location> {
        let (Links::Follow, Some(parent), Some(name)) = (links, path.parent(), path.file_name())
        else {
            return None;
        };
        let dir = match &self.last {
            Some((last, dir)) if last.as_os_str() == parent.as_os_str() => Arc::clone(dir),
            _ => {
                let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
                let dir = Arc::new(rustix::fs::open(parent, flags, Mode::empty()).ok()?);
                self.last = Some((parent.to_path_buf(), Arc::clone(&dir)));
                dir
            }
        };
        let name = name.to_owned();
        Some(Location { dir, name })
    }
}

#[cfg(test)]
mod tests;
