//! What a process wrote, as far as it is retained, and the numbering of its events.
//!
//! One counter numbers output, exit and close. Only output is kept as chunks; the oldest go first,
//! whole, when a limit is exceeded. A reader who asked for evicted output is told.
//!
//! ```text
//! oldest <- evicted | segments on disk | chunks in memory | <- newest
//! ```
//!
//! Without a place on disk everything retained is in memory. With one, the oldest chunks move there,
//! a [slot](super::spill) full at a time, when there are too many in memory; moving them is up to the
//! owner, who can wait for a disk. What is read is the same either way, except that output on disk is
//! evicted by slots.

use std::collections::VecDeque;
use std::io;

use bytes::Bytes;
use exec_proto::process::{Chunk, Evicted, ProcessState, ReadResult, Stream};

use super::spill::{self, Segment};
use crate::sandbox::denial;

/// Retained output of one process in memory, and in all unless there is a place on disk.
pub(super) const MAX_BYTES: usize = 1 << 20;

/// Retained chunks of one process in memory, and in all unless there is a place on disk; bounds the
/// overhead of tiny ones.
pub(super) const MAX_CHUNKS: usize = 50_000;

/// Retained chunks of one process with a place on disk. A reader may get all of them in one message,
/// which has room for 64 MiB, and each takes some 60 bytes of it besides its contents.
const MAX_CHUNKS_ON_DISK: usize = 200_000;

/// How much is retained.
#[derive(Debug, Clone, Copy)]
pub(super) struct Limits {
    memory_bytes: usize,
    memory_chunks: usize,
    /// Disk and memory together.
    bytes: usize,
    chunks: usize,
    on_disk: bool,
}

impl Default for Limits {
    /// Everything in memory.
    fn default() -> Self {
        Self {
            memory_bytes: MAX_BYTES,
            memory_chunks: MAX_CHUNKS,
            bytes: MAX_BYTES,
            chunks: MAX_CHUNKS,
            on_disk: false,
        }
    }
}

impl Limits {
    /// With a place on disk for what exceeds the memory.
    pub(super) fn on_disk(bytes: usize) -> Self {
        Self {
            bytes: bytes.max(MAX_BYTES),
            chunks: MAX_CHUNKS_ON_DISK,
            on_disk: true,
            ..Self::default()
        }
    }
}

/// Retained output and terminal state of one process.
#[derive(Debug, Default)]
pub(super) struct OutputLog {
    limits: Limits,
    /// On disk, oldest first; all older than what is in memory.
    segments: VecDeque<Segment>,
    /// Bytes and chunks in them.
    segment_bytes: usize,
    segment_chunks: usize,
    /// In memory.
    chunks: VecDeque<Chunk>,
    bytes: usize,
    /// The number of the last chunk that was evicted, and all bytes that were.
    evicted: Option<(u64, u64)>,
    /// Events so far, which is the number of the last one.
    events: u64,
    exit_code: Option<i32>,
    closed: bool,
    /// Whether the program seems to have failed because of its sandbox.
    denied: bool,
}

/// An answer to `process/read` whose chunks may still be on disk.
#[derive(Debug)]
pub(super) struct Reading {
    segments: Vec<Segment>,
    tail: Vec<Chunk>,
    after: u64,
    max_bytes: Option<u64>,
    /// Everything but the chunks.
    answer: ReadResult,
}

impl OutputLog {
    pub(super) fn new(limits: Limits) -> Self {
        Self {
            limits,
            ..Self::default()
        }
    }

    /// Appends output and returns its number.
    pub(super) fn push_output(&mut self, stream: Stream, chunk: Bytes) -> u64 {
        let seq = self.next_event();
        self.bytes += chunk.len();
        self.chunks.push_back(Chunk { seq, stream, chunk });
        while self.retained_bytes() > self.limits.bytes
            || self.segment_chunks + self.chunks.len() > self.limits.chunks
        {
            if !self.evict() {
                break;
            }
        }
        seq
    }

    /// Chunks that should go to disk now, oldest first; as many as go together.
    pub(super) fn spill_due(&self) -> Option<Vec<Chunk>> {
        let is_due = self.limits.on_disk
            && (self.bytes > self.limits.memory_bytes
                || self.chunks.len() > self.limits.memory_chunks);
        is_due.then(|| {
            let count = spill::fitting(self.chunks.iter());
            self.chunks.iter().take(count).cloned().collect()
        })
    }

    /// Takes the place of the chunks that were [due](Self::spill_due).
    pub(super) fn spilled(&mut self, segment: Segment) {
        let count = self.chunks.partition_point(|it| it.seq <= segment.last_seq);
        for chunk in self.chunks.drain(..count) {
            self.bytes -= chunk.chunk.len();
        }
        self.segment_bytes += segment.bytes;
        self.segment_chunks += segment.chunk_count;
        self.segments.push_back(segment);
    }

    /// There is no place on disk for what is due: the oldest goes, which may make one.
    pub(super) fn make_room(&mut self) {
        if !self.segments.is_empty() {
            self.evict();
            return;
        }
        while self.bytes > self.limits.memory_bytes || self.chunks.len() > self.limits.memory_chunks
        {
            if !self.evict() {
                break;
            }
        }
    }

    /// Forgets the oldest segment or chunk. Says whether there was one.
    fn evict(&mut self) -> bool {
        let (seq, bytes) = if let Some(segment) = self.segments.pop_front() {
            self.segment_bytes -= segment.bytes;
            self.segment_chunks -= segment.chunk_count;
            (segment.last_seq, segment.bytes)
        } else if let Some(oldest) = self.chunks.pop_front() {
            self.bytes -= oldest.chunk.len();
            (oldest.seq, oldest.chunk.len())
        } else {
            return false;
        };
        let before = self.evicted.map_or(0, |(_, bytes)| bytes);
        self.evicted = Some((seq, before + bytes as u64));
        true
    }

    /// Records the exit and returns its number.
    pub(super) fn push_exited(&mut self, exit_code: i32) -> u64 {
        self.exit_code = Some(exit_code);
        self.next_event()
    }

    /// Records that the exit seems to be due to the sandbox, if it does.
    pub(super) fn judge_exit(&mut self, exit_code: i32, noticed: bool) -> bool {
        self.denied = denial::is_likely(exit_code, noticed, self.chunks.iter());
        self.denied
    }

    pub(super) fn is_closed(&self) -> bool {
        self.closed
    }

    /// Records the close and returns its number, the last one.
    pub(super) fn push_closed(&mut self) -> u64 {
        self.closed = true;
        self.next_event()
    }

    /// Whether a waiting read has something to return.
    pub(super) fn is_ready(&self, after: u64) -> bool {
        self.newest().is_some_and(|seq| seq > after)
            || self.closed
            || (self.exit_code.is_some() && after < self.events)
    }

    /// The number of the newest chunk that is retained.
    fn newest(&self) -> Option<u64> {
        let in_memory = self.chunks.back().map(|chunk| chunk.seq);
        in_memory.or_else(|| self.segments.back().map(|segment| segment.last_seq))
    }

    /// The answer to `process/read`.
    ///
    /// With `max_bytes`, chunks are added while their sum stays within it, but the first one always
    /// comes, whole; `next_seq` then points behind the last returned chunk.
    pub(super) fn read(&self, after: u64, max_bytes: Option<u64>) -> Reading {
        let segments: Vec<_> = self
            .segments
            .iter()
            .filter(|segment| segment.last_seq > after)
            .cloned()
            .collect();
        let start = self.chunks.partition_point(|chunk| chunk.seq <= after);
        // What is on disk comes first; how much of the memory fits is known then.
        let mut page = Page::new(max_bytes.filter(|_| segments.is_empty()));
        let tail = self
            .chunks
            .range(start..)
            .take_while(|chunk| page.takes(chunk))
            .cloned()
            .collect();
        Reading {
            segments,
            tail,
            after,
            max_bytes,
            answer: ReadResult {
                chunks: Vec::new(),
                next_seq: self.events + 1,
                exited: self.exit_code.is_some(),
                exit_code: self.exit_code,
                closed: self.closed,
                failure: None,
                sandbox_denied: self.denied,
                evicted: self.evicted_after(after),
            },
        }
    }

    /// State, exit code and the number that the next event will get.
    pub(super) fn progress(&self) -> (ProcessState, Option<i32>, u64) {
        let state = match (self.closed, self.exit_code) {
            (true, _) => ProcessState::Closed,
            (false, Some(_)) => ProcessState::Exited,
            (false, None) => ProcessState::Running,
        };
        (state, self.exit_code, self.events + 1)
    }

    /// What a reader of everything after a number has missed.
    fn evicted_after(&self, after: u64) -> Option<Evicted> {
        let (through_seq, total_bytes) = self.evicted?;
        (after < through_seq).then(|| Evicted {
            from_seq: after + 1,
            through_seq,
            total_bytes,
        })
    }

    pub(super) fn retained_bytes(&self) -> usize {
        self.segment_bytes + self.bytes
    }

    /// Bytes of output in memory.
    pub(super) fn memory_bytes(&self) -> usize {
        self.bytes
    }

    fn next_event(&mut self) -> u64 {
        self.events += 1;
        self.events
    }
}

impl Reading {
    /// Whether [`finish`](Self::finish) has to wait for the disk.
    pub(super) fn is_on_disk(&self) -> bool {
        !self.segments.is_empty()
    }

    /// Gathers the chunks.
    ///
    /// # Errors
    ///
    /// When the disk does not give them back.
    pub(super) fn finish(self) -> io::Result<ReadResult> {
        let Self {
            segments,
            tail,
            after,
            max_bytes,
            mut answer,
        } = self;
        let mut page = Page::new(max_bytes);
        let mut is_full = false;
        for segment in segments {
            for chunk in segment.read()? {
                if chunk.seq > after && !is_full {
                    is_full = !page.takes(&chunk);
                    if !is_full {
                        answer.chunks.push(chunk);
                    }
                }
            }
            if is_full {
                break;
            }
        }
        if !is_full {
            answer
                .chunks
                .extend(tail.into_iter().take_while(|chunk| page.takes(chunk)));
        }
        if let (Some(_), Some(last)) = (max_bytes, answer.chunks.last()) {
            answer.next_seq = last.seq + 1;
        }
        Ok(answer)
    }
}

/// Counts the chunks of an answer.
struct Page {
    max_bytes: Option<u64>,
    bytes: u64,
    is_empty: bool,
}

impl Page {
    fn new(max_bytes: Option<u64>) -> Self {
        Self {
            max_bytes,
            bytes: 0,
            is_empty: true,
        }
    }

    /// Whether this chunk comes as well.
    fn takes(&mut self, chunk: &Chunk) -> bool {
        self.bytes = self.bytes.saturating_add(chunk.chunk.len() as u64);
        std::mem::take(&mut self.is_empty) || self.max_bytes.is_none_or(|max| self.bytes <= max)
    }
}

#[cfg(test)]
mod tests;
