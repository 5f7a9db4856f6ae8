//! Whose turn it is to send: deficit round robin by bytes, newcomers first.
//!
//! A stream may send its share of plaintext in its turn, then the next one has its turn; what it
//! leaves is added to its next turn as long as it has something to send. So streams with small
//! records and streams with large ones get the same bytes. A stream that had nothing to send enters
//! ahead of those that are in the middle of much, once, with one share: a short answer does not
//! queue behind a round of bulk, and who pauses often gains nothing (as in FQ-CoDel, RFC 8290).

use std::collections::VecDeque;

use crate::ids::StreamId;
use crate::limits;

/// Streams with something to send, each at most once.
#[derive(Debug, Default)]
pub(super) struct Rota {
    /// In their first turn.
    newcomers: VecDeque<StreamId>,
    others: VecDeque<StreamId>,
}

/// What a stream may send in one turn.
pub(super) fn share(weight: usize) -> usize {
    limits::TURN_BYTES.saturating_mul(weight.max(1))
}

impl Rota {
    /// Adds a stream that is not in it.
    pub(super) fn enter(&mut self, stream: StreamId) {
        self.newcomers.push_back(stream);
    }

    /// Whose turn it is.
    pub(super) fn current(&self) -> Option<&StreamId> {
        self.newcomers.front().or_else(|| self.others.front())
    }

    /// The current stream has nothing more to send.
    pub(super) fn leave(&mut self) {
        self.take();
    }

    /// The current stream has used up its turn.
    pub(super) fn next_turn(&mut self) {
        if let Some(stream) = self.take() {
            self.others.push_back(stream);
        }
    }

    #[cfg(any(test, fuzzing))]
    pub(super) fn contains_each_once(&self) -> bool {
        let mut all: Vec<_> = self.newcomers.iter().chain(&self.others).collect();
        let count = all.len();
        all.sort_unstable();
        all.dedup();
        all.len() == count
    }

    fn take(&mut self) -> Option<StreamId> {
        self.newcomers
            .pop_front()
            .or_else(|| self.others.pop_front())
    }
}
