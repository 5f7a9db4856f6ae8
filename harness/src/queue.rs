//! The bounded queue between the session task and one reader.
//!
//! The session task never waits for a reader: it asks [`Queue::is_full`] first and decides for the
//! kind of queue what to do. A full queue counts as full until it is half empty, so that a slow
//! reader causes few, large catch-ups rather than one for each item.

use std::{
    collections::VecDeque,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use tokio::sync::Notify;

use crate::limits;

/// One writer, one reader. See the module documentation.
#[derive(Debug)]
pub(crate) struct Queue<T> {
    state: Mutex<State<T>>,
    readable: Notify,
    /// Tells the session task that a queue that was full has room again.
    drained: Arc<Notify>,
    limit_bytes: usize,
    /// The session task is also told each time that about so many bytes were taken.
    step_bytes: Option<u64>,
}

#[derive(Debug)]
struct State<T> {
    items: VecDeque<(usize, T)>,
    bytes: usize,
    /// Bytes that were taken since the beginning.
    taken: u64,
    full: bool,
    ended: bool,
    abandoned: bool,
}

impl<T> Queue<T> {
    pub(crate) fn new(limit_bytes: usize, drained: Arc<Notify>) -> Arc<Self> {
        Self::make(limit_bytes, None, drained)
    }

    /// The same, where the session task is told of progress as well.
    pub(crate) fn with_steps(limit_bytes: usize, step: u64, drained: Arc<Notify>) -> Arc<Self> {
        Self::make(limit_bytes, Some(step), drained)
    }

    fn make(limit_bytes: usize, step_bytes: Option<u64>, drained: Arc<Notify>) -> Arc<Self> {
        let state = State {
            items: VecDeque::new(),
            bytes: 0,
            taken: 0,
            full: false,
            ended: false,
            abandoned: false,
        };
        Arc::new(Self {
            state: Mutex::new(state),
            readable: Notify::new(),
            drained,
            limit_bytes,
            step_bytes,
        })
    }

    /// Adds an item, also to a full queue.
    pub(crate) fn push(&self, bytes: usize, item: T) {
        self.push_or_join(bytes, item, |_, item| Some(item));
    }

    /// The same, but `join` may first put the item into the last one that waits, and returns it
    /// otherwise.
    pub(crate) fn push_or_join(
        &self,
        bytes: usize,
        item: T,
        join: impl FnOnce(&mut T, T) -> Option<T>,
    ) {
        let mut state = self.lock();
        if state.abandoned || state.ended {
            return;
        }
        state.bytes += bytes;
        let item = match state.items.back_mut() {
            Some((size, last)) => {
                let item = join(last, item);
                if item.is_none() {
                    *size += bytes;
                }
                item
            }
            None => Some(item),
        };
        state.items.extend(item.map(|item| (bytes, item)));
        state.full |= state.bytes >= self.limit_bytes || state.items.len() >= limits::QUEUE_ITEMS;
        drop(state);
        self.readable.notify_one();
    }

    /// Says that nothing follows.
    pub(crate) fn end(&self) {
        self.lock().ended = true;
        self.readable.notify_one();
    }

    pub(crate) fn is_full(&self) -> bool {
        self.lock().full
    }

    /// Bytes that the reader has taken since the beginning.
    pub(crate) fn taken(&self) -> u64 {
        self.lock().taken
    }

    /// Whether nobody reads any more.
    pub(crate) fn is_abandoned(&self) -> bool {
        self.lock().abandoned
    }

    /// Gives up reading: what is queued and what follows is thrown away.
    pub(crate) fn abandon(&self) {
        let mut state = self.lock();
        state.abandoned = true;
        state.items.clear();
        state.bytes = 0;
        state.full = false;
        drop(state);
        self.drained.notify_one();
    }

    /// Takes the next item; `None` after the last.
    ///
    /// # Cancel safety
    ///
    /// No item is lost when the future is dropped.
    pub(crate) async fn pop(&self) -> Option<T> {
        loop {
            let readable = self.readable.notified();
            if let Some(item) = self.try_pop() {
                return Some(item);
            }
            if self.lock().ended {
                // An item may have come between the two looks.
                return self.try_pop();
            }
            readable.await;
        }
    }

    fn try_pop(&self) -> Option<T> {
        let mut state = self.lock();
        let (bytes, item) = state.items.pop_front()?;
        state.bytes -= bytes;
        let before = state.taken;
        state.taken += bytes as u64;
        if let Some(step) = self.step_bytes
            && before / step != state.taken / step
        {
            self.drained.notify_one();
        }
        let room =
            state.bytes <= self.limit_bytes / 2 && state.items.len() <= limits::QUEUE_ITEMS / 2;
        if state.full && room {
            state.full = false;
            self.drained.notify_one();
        }
        Some(item)
    }

    fn lock(&self) -> MutexGuard<'_, State<T>> {
        // No code that can panic runs under the lock, so a poisoned state is still whole.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn queue_stays_full_until_half_of_it_was_read() {
        let drained = Arc::new(Notify::new());
        let queue = Queue::new(4, drained.clone());
        for n in 0..4 {
            queue.push(1, n);
        }
        assert!(queue.is_full());
        assert_eq!(queue.pop().await, Some(0));
        assert!(queue.is_full());
        assert_eq!(queue.pop().await, Some(1));
        assert!(!queue.is_full());
        drained.notified().await;
    }

    #[tokio::test]
    async fn items_before_the_end_are_read() {
        let queue = Queue::new(4, Arc::new(Notify::new()));
        queue.push(1, 'a');
        queue.end();
        assert_eq!(queue.pop().await, Some('a'));
        assert_eq!(queue.pop().await, None);
        assert_eq!(queue.pop().await, None);
    }

    #[tokio::test]
    async fn abandoned_queue_is_never_full() {
        let queue = Queue::new(1, Arc::new(Notify::new()));
        queue.push(8, ());
        assert!(queue.is_full());
        queue.abandon();
        queue.push(8, ());
        assert!(!queue.is_full());
    }
}
