//! What a process wrote, as far as it is retained, and the numbering of its events.
//!
//! One counter numbers output, exit and close. Only output is kept as chunks; the oldest go first,
//! whole, when a limit is exceeded. A reader who asked for evicted output is told.

use std::collections::VecDeque;

use bytes::Bytes;
use exec_proto::process::{Chunk, Evicted, ProcessState, ReadResult, Stream};

use crate::sandbox::denial;

/// Retained output of one process.
pub(super) const MAX_BYTES: usize = 1 << 20;

/// Retained chunks of one process; bounds the overhead of tiny ones.
pub(super) const MAX_CHUNKS: usize = 50_000;

/// Retained output and terminal state of one process.
#[derive(Debug, Default)]
pub(super) struct OutputLog {
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

impl OutputLog {
    /// Appends output and returns its number.
    pub(super) fn push_output(&mut self, stream: Stream, chunk: Bytes) -> u64 {
        let seq = self.next_event();
        self.bytes += chunk.len();
        self.chunks.push_back(Chunk { seq, stream, chunk });
        while self.bytes > MAX_BYTES || self.chunks.len() > MAX_CHUNKS {
            let Some(oldest) = self.chunks.pop_front() else {
                break;
            };
            self.bytes -= oldest.chunk.len();
            let before = self.evicted.map_or(0, |(_, bytes)| bytes);
            self.evicted = Some((oldest.seq, before + oldest.chunk.len() as u64));
        }
        seq
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

    /// Records the close and returns its number, the last one.
    pub(super) fn is_closed(&self) -> bool {
        self.closed
    }

    pub(super) fn push_closed(&mut self) -> u64 {
        self.closed = true;
        self.next_event()
    }

    /// Whether a waiting read has something to return.
    pub(super) fn is_ready(&self, after: u64) -> bool {
        self.chunks.back().is_some_and(|last| last.seq > after)
            || self.closed
            || (self.exit_code.is_some() && after < self.events)
    }

    /// The answer to `process/read`.
    ///
    /// With `max_bytes`, chunks are added while their sum stays within it, but the first one always
    /// comes, whole; `next_seq` then points behind the last returned chunk.
    pub(super) fn read(&self, after: u64, max_bytes: Option<u64>) -> ReadResult {
        let start = self.chunks.partition_point(|chunk| chunk.seq <= after);
        let mut sum = 0u64;
        let chunks: Vec<Chunk> = self
            .chunks
            .range(start..)
            .enumerate()
            .take_while(|(index, chunk)| {
                sum = sum.saturating_add(chunk.chunk.len() as u64);
                *index == 0 || max_bytes.is_none_or(|max| sum <= max)
            })
            .map(|(_, chunk)| chunk.clone())
            .collect();
        let next_seq = match (max_bytes, chunks.last()) {
            (Some(_), Some(last)) => last.seq + 1,
            _ => self.events + 1,
        };
        ReadResult {
            chunks,
            next_seq,
            exited: self.exit_code.is_some(),
            exit_code: self.exit_code,
            closed: self.closed,
            failure: None,
            sandbox_denied: self.denied,
            evicted: self.evicted_after(after),
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
        self.bytes
    }

    fn next_event(&mut self) -> u64 {
        self.events += 1;
        self.events
    }
}

#[cfg(test)]
mod tests;
