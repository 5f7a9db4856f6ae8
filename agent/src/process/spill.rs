//! Retained output on disk: one private file for the executor, divided into slots of one size.
//!
//! ```text
//! output_log (memory, newest) --oldest chunks, a slot full--> slot     --read back--> process/read
//!                                                             slot
//! a segment is dropped (evicted, or its process forgotten)--> free slot, used again
//! no segment is left                                      --> the file is dropped, its space free
//! ```
//!
//! The file has no name: it is unlinked as it is created, readable by its owner only, and gone with
//! the process however that ends. It never grows beyond its bound; a segment that finds no slot is
//! not written, and its owner has to forget something instead.
//!
//! Reading and writing block, so both are for threads that may. Not responsible for what is kept and
//! for how long.

use std::fs::{File, Permissions};
use std::io;
use std::os::unix::fs::{FileExt as _, PermissionsExt as _};
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::{Buf as _, BufMut as _, Bytes};
use exec_proto::process::{Chunk, Stream};

/// Size of a slot. Large against the largest chunk, so that slots are well filled; small against what
/// is retained, because eviction is by slots.
pub(crate) const SLOT_BYTES: usize = 256 << 10;

/// What a chunk takes in a slot besides its bytes: number, length, stream.
const HEADER_BYTES: usize = 8 + 4 + 1;

/// The executor's file.
#[derive(Debug)]
pub(crate) struct SpillSpace {
    directory: PathBuf,
    max_slots: u64,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    /// Created with the first slot, dropped with the last.
    file: Option<Arc<File>>,
    /// Slots of the file that are not in use.
    free: Vec<u64>,
    /// Slots of the file.
    slots: u64,
    /// The last attempt failed, and that has been told.
    is_failing: bool,
}

/// Chunks on disk. Clones share the slot, which is free again when all are gone.
#[derive(Debug, Clone)]
pub(super) struct Segment {
    slot: Arc<Slot>,
    length: usize,
    pub(super) last_seq: u64,
    pub(super) chunk_count: usize,
    /// Bytes of output in it.
    pub(super) bytes: usize,
}

#[derive(Debug)]
struct Slot {
    space: Arc<SpillSpace>,
    file: Arc<File>,
    index: u64,
}

impl SpillSpace {
    /// Space for about `max_bytes` in a file that will be created in `directory`.
    pub(crate) fn new(directory: PathBuf, max_bytes: u64) -> Arc<Self> {
        Arc::new(Self {
            directory,
            max_slots: max_bytes / SLOT_BYTES as u64,
            state: Mutex::default(),
        })
    }

    /// Writes chunks that [fit](fitting) into a slot. `None` if there is no free one, or the disk has
    /// trouble, which is logged when it begins.
    pub(super) fn write(self: &Arc<Self>, chunks: &[Chunk]) -> Option<Segment> {
        let last_seq = chunks.last()?.seq;
        let mut bytes = Vec::with_capacity(SLOT_BYTES);
        for Chunk { seq, stream, chunk } in chunks {
            bytes.put_u64(*seq);
            bytes.put_u32(u32::try_from(chunk.len()).ok()?);
            bytes.put_u8(number(*stream));
            bytes.put_slice(chunk);
        }
        if bytes.len() > SLOT_BYTES {
            return None;
        }
        let written = self.acquire().and_then(|slot| match slot {
            Some(slot) => slot
                .file
                .write_all_at(&bytes, slot.offset())
                .map(|()| Some(slot)),
            None => Ok(None),
        });
        let slot = match written {
            Ok(slot) => {
                self.lock().is_failing = false;
                slot?
            }
            Err(error) => {
                if !std::mem::replace(&mut self.lock().is_failing, true) {
                    tracing::warn!(%error, "output cannot be kept on disk");
                }
                return None;
            }
        };
        Some(Segment {
            slot: Arc::new(slot),
            length: bytes.len(),
            last_seq,
            chunk_count: chunks.len(),
            bytes: chunks.iter().map(|chunk| chunk.chunk.len()).sum(),
        })
    }

    fn acquire(self: &Arc<Self>) -> io::Result<Option<Slot>> {
        let mut state = self.lock();
        let file = match &state.file {
            Some(file) => Arc::clone(file),
            None => Arc::new(self.create()?),
        };
        let index = match state.free.pop() {
            Some(index) => index,
            None if state.slots < self.max_slots => {
                state.slots += 1;
                state.slots - 1
            }
            None => return Ok(None),
        };
        state.file = Some(Arc::clone(&file));
        Ok(Some(Slot {
            space: Arc::clone(self),
            file,
            index,
        }))
    }

    fn create(&self) -> io::Result<File> {
        let file = tempfile::tempfile_in(&self.directory)?;
        file.set_permissions(Permissions::from_mode(0o600))?;
        Ok(file)
    }

    fn release(&self, index: u64) {
        let mut state = self.lock();
        state.free.push(index);
        if state.free.len() as u64 == state.slots {
            // Nobody refers to the file any more; what it took of the disk is given back.
            *state = State {
                is_failing: state.is_failing,
                ..State::default()
            };
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Slots in use.
    #[cfg(test)]
    pub(super) fn used(&self) -> u64 {
        let state = self.lock();
        state.slots - state.free.len() as u64
    }

    #[cfg(test)]
    pub(super) fn has_file(&self) -> bool {
        self.lock().file.is_some()
    }
}

impl Segment {
    /// Reads the chunks back.
    pub(super) fn read(&self) -> io::Result<Vec<Chunk>> {
        let mut bytes = vec![0; self.length];
        self.slot
            .file
            .read_exact_at(&mut bytes, self.slot.offset())?;
        let mut bytes = Bytes::from(bytes);
        let mut chunks = Vec::with_capacity(self.chunk_count);
        while !bytes.is_empty() {
            chunks.push(take(&mut bytes).ok_or(io::ErrorKind::InvalidData)?);
        }
        Ok(chunks)
    }
}

impl Slot {
    fn offset(&self) -> u64 {
        self.index * SLOT_BYTES as u64
    }
}

impl Drop for Slot {
    fn drop(&mut self) {
        self.space.release(self.index);
    }
}

/// How many of these chunks fit into a slot together.
pub(super) fn fitting<'a>(chunks: impl Iterator<Item = &'a Chunk>) -> usize {
    let mut bytes = 0;
    chunks
        .take_while(|chunk| {
            bytes += HEADER_BYTES + chunk.chunk.len();
            bytes <= SLOT_BYTES
        })
        .count()
}

fn take(bytes: &mut Bytes) -> Option<Chunk> {
    let seq = bytes.try_get_u64().ok()?;
    let length = usize::try_from(bytes.try_get_u32().ok()?).ok()?;
    let stream = stream(bytes.try_get_u8().ok()?)?;
    let chunk = (length <= bytes.len()).then(|| bytes.split_to(length))?;
    Some(Chunk { seq, stream, chunk })
}

fn number(stream: Stream) -> u8 {
    match stream {
        Stream::Stdout => 0,
        Stream::Stderr => 1,
        Stream::Pty => 2,
    }
}

fn stream(number: u8) -> Option<Stream> {
    match number {
        0 => Some(Stream::Stdout),
        1 => Some(Stream::Stderr),
        2 => Some(Stream::Pty),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn chunk(seq: u64, stream: Stream, length: usize) -> Chunk {
        let byte = u8::try_from(seq % 251).unwrap();
        let chunk = Bytes::from(vec![byte; length]);
        Chunk { seq, stream, chunk }
    }

    #[test]
    fn chunks_come_back_as_they_were_and_slots_are_used_again() {
        let directory = tempfile::tempdir().unwrap();
        let space = SpillSpace::new(directory.path().to_owned(), 2 * SLOT_BYTES as u64 + 1);
        let batch = |from: u64| {
            vec![
                chunk(from, Stream::Stdout, 65_536),
                chunk(from + 1, Stream::Stderr, 0),
                chunk(from + 3, Stream::Pty, 1),
            ]
        };
        let first = space.write(&batch(1)).unwrap();
        let second = space.write(&batch(11)).unwrap();
        assert!(space.write(&batch(21)).is_none(), "both slots are in use");
        assert_eq!(
            (first.last_seq, first.chunk_count, first.bytes),
            (4, 3, 65_537)
        );
        let reader = first.clone();
        drop(first);
        assert!(space.write(&batch(21)).is_none(), "somebody reads it");
        assert_eq!(reader.read().unwrap(), batch(1));
        drop(reader);
        let third = space.write(&batch(21)).unwrap();
        assert_eq!(second.read().unwrap(), batch(11));
        assert_eq!(third.read().unwrap(), batch(21));
        assert_eq!(space.used(), 2);

        // Nobody else finds the file.
        assert_eq!(std::fs::read_dir(directory.path()).unwrap().count(), 0);
        drop((second, third));
        assert!(!space.has_file());
        assert_eq!(space.write(&batch(1)).unwrap().read().unwrap(), batch(1));
    }

    #[test]
    fn file_is_private_and_bounded() {
        use std::os::unix::fs::MetadataExt as _;
        let directory = tempfile::tempdir().unwrap();
        let space = SpillSpace::new(directory.path().to_owned(), 4 * SLOT_BYTES as u64);
        let full = chunk(1, Stream::Stdout, SLOT_BYTES - HEADER_BYTES);
        let segments: Vec<_> =
            std::iter::from_fn(|| space.write(std::slice::from_ref(&full))).collect();
        assert_eq!(segments.len(), 4);
        let metadata = segments[0].slot.file.metadata().unwrap();
        assert_eq!((metadata.mode() & 0o077, metadata.nlink()), (0, 0));
        assert_eq!(metadata.len(), 4 * SLOT_BYTES as u64);
        let over = chunk(1, Stream::Stdout, SLOT_BYTES - HEADER_BYTES + 1);
        assert_eq!(fitting([&full].into_iter()), 1);
        assert_eq!(fitting([&over].into_iter()), 0);
    }

    #[test]
    fn directory_that_is_not_there_is_no_space() {
        let space = SpillSpace::new("/nonexistent".into(), 1 << 30);
        for _ in 0..2 {
            assert!(space.write(&[chunk(1, Stream::Stdout, 1)]).is_none());
        }
        assert_eq!(space.used(), 0);
    }
}
