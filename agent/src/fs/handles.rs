//! The file handles of one connection: `fs/open`, `fs/readBlock`, `fs/writeBlock`, `fs/sync`, `fs/close`.
//!
//! A handle keeps the file it opened, whatever becomes of its path. Calls on one handle may come in any
//! order and at the same time; the dispatcher keeps those of one peer in order.

use std::collections::HashMap;
use std::fs::File;
use std::os::unix::fs::FileExt as _;
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use rustix::io::Errno;

use super::FsError;
use super::confined::Worker;
use super::limits::{BLOCK_BYTES, HANDLE_ID_BYTES, HANDLES};
use super::open::{Links, open_to_read};
use super::replacement::Replacement;

/// An open file.
#[derive(Debug)]
pub(crate) enum Handle {
    /// To read from.
    Read(File),
    /// To write to.
    Replace(Replacement),
    /// Open in a sandbox, under the same id.
    Confined(Arc<Worker>),
}

impl Handle {
    /// Opens an existing regular file to read it.
    pub(crate) fn read(path: &Path) -> Result<Self, FsError> {
        Ok(Self::Read(open_to_read(path, Links::Follow)?.0))
    }

    /// Opens a file for new content.
    pub(crate) fn replace(path: &Path) -> Result<Self, FsError> {
        Ok(Self::Replace(Replacement::open(path)?))
    }

    /// Reads `length` bytes at `offset`, fewer only at the end of the file.
    pub(crate) fn read_block(&self, offset: u64, length: usize) -> Result<Bytes, FsError> {
        let file = match self {
            Self::Read(file) => file,
            Self::Replace(replacement) => replacement.file(),
            Self::Confined(_) => return Err(elsewhere()),
        };
        let mut block = Vec::with_capacity(length);
        while block.len() < length {
            let at = offset.saturating_add(block.len() as u64);
            // What the kernel fills need not be cleared before.
            match rustix::io::pread(file, rustix::buffer::spare_capacity(&mut block), at) {
                Ok(0) => break,
                Ok(_) | Err(Errno::INTR) => {}
                Err(errno) => return Err(errno.into()),
            }
        }
        // There may be more room than was asked for.
        block.truncate(length);
        Ok(block.into())
    }

    /// Writes a block at `offset`.
    pub(crate) fn write_block(&self, offset: u64, block: &[u8]) -> Result<(), FsError> {
        match self {
            Self::Read(file) => Ok(file.write_all_at(block, offset)?),
            Self::Replace(replacement) => replacement.write(block, offset),
            Self::Confined(_) => Err(elsewhere()),
        }
    }

    /// Brings what was written to the disk.
    pub(crate) fn sync(&self) -> Result<(), FsError> {
        match self {
            Self::Read(file) => Ok(file.sync_all()?),
            Self::Replace(replacement) => replacement.sync(),
            Self::Confined(_) => Err(elsewhere()),
        }
    }

    /// Ends the handle as its peer wants it: what was written stays.
    pub(crate) fn close(&self) {
        if let Self::Replace(replacement) = self {
            replacement.commit();
        }
    }
}

/// Handles by id. When the table is dropped, files that were being replaced get their old content back.
#[derive(Debug, Default)]
pub(crate) struct HandleTable {
    slots: Mutex<HashMap<String, Slot>>,
}

#[derive(Debug)]
enum Slot {
    /// The id is taken and the file is being opened.
    Opening,
    Open(Arc<Handle>),
}

impl HandleTable {
    /// Takes an id for a file that is about to be opened.
    ///
    /// # Errors
    ///
    /// If the id is too long or taken, or there are too many handles.
    pub(crate) fn reserve(self: &Arc<Self>, id: &str) -> Result<Reservation, FsError> {
        check_id(id)?;
        let mut slots = self.lock();
        if slots.contains_key(id) {
            return Err(FsError::HandleExists(id.to_owned()));
        }
        if slots.len() == HANDLES {
            return Err(FsError::TooManyHandles);
        }
        slots.insert(id.to_owned(), Slot::Opening);
        Ok(Reservation {
            table: Arc::clone(self),
            id: id.to_owned(),
            filled: false,
        })
    }

    /// The handle of that id.
    pub(crate) fn find(&self, id: &str) -> Result<Arc<Handle>, FsError> {
        check_id(id)?;
        match self.lock().get(id) {
            Some(Slot::Open(handle)) => Ok(Arc::clone(handle)),
            _ => Err(FsError::HandleUnknown(id.to_owned())),
        }
    }

    /// Takes the handle of that id out of the table.
    pub(crate) fn take(&self, id: &str) -> Result<Option<Arc<Handle>>, FsError> {
        check_id(id)?;
        let mut slots = self.lock();
        match slots.remove(id) {
            Some(Slot::Open(handle)) => Ok(Some(handle)),
            Some(opening) => {
                slots.insert(id.to_owned(), opening);
                Ok(None)
            }
            None => Ok(None),
        }
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<String, Slot>> {
        self.slots.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for HandleTable {
    fn drop(&mut self) {
        let slots = std::mem::take(&mut *self.lock());
        let replaces = |slot: &Slot| matches!(slot, Slot::Open(handle) if matches!(**handle, Handle::Replace(_)));
        if !slots.values().any(replaces) {
            return;
        }
        // Undoing renames files, which takes no time except on a filesystem that hangs. It has to be
        // done before the program ends, which may be next, so it is waited for, but not for ever.
        let (done, ended) = std::sync::mpsc::channel();
        let undo = move || {
            drop(slots);
            let _ = done.send(());
        };
        if std::thread::Builder::new()
            .name("undo".to_owned())
            .spawn(undo)
            .is_ok()
        {
            let _ = ended.recv_timeout(UNDO_PATIENCE);
        }
    }
}

/// An id that is taken for a file being opened. Dropping it gives the id back.
#[derive(Debug)]
pub(crate) struct Reservation {
    table: Arc<HandleTable>,
    id: String,
    filled: bool,
}

impl Reservation {
    /// Makes the handle known.
    pub(crate) fn fill(mut self, handle: Handle) {
        let slot = Slot::Open(Arc::new(handle));
        self.table.lock().insert(self.id.clone(), slot);
        self.filled = true;
    }
}

impl Drop for Reservation {
    fn drop(&mut self) {
        if !self.filled {
            self.table.lock().remove(&self.id);
        }
    }
}

/// Refuses blocks to read that are empty or too long.
pub(crate) fn check_read_length(length: usize) -> Result<(), FsError> {
    if (1..=BLOCK_BYTES).contains(&length) {
        Ok(())
    } else {
        Err(FsError::ReadBlockLength)
    }
}

/// Refuses blocks to write that are empty, too long or beyond the end of what a file can hold.
pub(crate) fn check_write_range(offset: u64, length: usize) -> Result<(), FsError> {
    if !(1..=BLOCK_BYTES).contains(&length) {
        return Err(FsError::WriteBlockLength);
    }
    let end = offset.checked_add(length as u64);
    if end.is_none_or(|end| i64::try_from(end).is_err()) {
        return Err(FsError::WriteRange);
    }
    Ok(())
}

/// How long the end of a connection waits for files to be put back.
const UNDO_PATIENCE: Duration = Duration::from_secs(1);

/// The descriptor is another process's, which is asked before it comes to this.
fn elsewhere() -> FsError {
    Errno::BADF.into()
}

/// Refuses ids that are too long.
pub(crate) fn check_id(id: &str) -> Result<(), FsError> {
    if id.len() > HANDLE_ID_BYTES {
        Err(FsError::HandleIdTooLong)
    } else {
        Ok(())
    }
}

#[cfg(test)]
mod tests;
