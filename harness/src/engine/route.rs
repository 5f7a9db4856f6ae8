//! Where the notifications of the executor go: one route per process, one per response body.

use std::sync::Arc;

use bytes::Bytes;
use exec_proto::http::BodyDelta;

use crate::{
    Error,
    order::{Page, Sequencer},
    process::{Overflow, ProcessEvent},
    queue::Queue,
};

/// The way of one process's events to its reader.
#[derive(Debug)]
pub(crate) struct ProcessRoute {
    sequencer: Sequencer,
    queue: Arc<Queue<Result<ProcessEvent, Error>>>,
    overflow: Overflow,
    /// The answer to `process/start` has come; before it there is nothing to read back.
    pub(crate) started: bool,
    /// A page was asked for and has not come yet.
    pub(crate) reading: bool,
}

impl ProcessRoute {
    pub(crate) fn new(queue: Arc<Queue<Result<ProcessEvent, Error>>>, overflow: Overflow) -> Self {
        Self {
            sequencer: Sequencer::new(),
            queue,
            overflow,
            started: false,
            reading: false,
        }
    }

    /// Takes one pushed event.
    pub(crate) fn push(&mut self, seq: u64, event: ProcessEvent) {
        if self.overflow == Overflow::ReadBack && self.queue.is_full() {
            self.sequencer.discard(seq);
        } else {
            self.sequencer.push(seq, event);
        }
        self.deliver();
    }

    /// Takes the answer to a `process/read` that asked for what follows `after`.
    pub(crate) fn replay(&mut self, after: u64, page: Page) {
        self.reading = false;
        self.sequencer.replay(after, page);
        self.deliver();
    }

    /// The `afterSeq` of a page that is due now, if one is.
    pub(crate) fn page_due(&self) -> Option<u64> {
        let due =
            self.started && !self.reading && self.sequencer.needs_page() && !self.queue.is_full();
        due.then(|| self.sequencer.after_seq())
    }

    /// The `afterSeq` for a page after a reconnect, whether or not something is known to be missing.
    pub(crate) fn after_seq(&self) -> u64 {
        self.sequencer.after_seq()
    }

    /// Whether the connection has to wait for this reader.
    pub(crate) fn blocks(&self) -> bool {
        self.overflow == Overflow::Block && self.queue.is_full()
    }

    /// Whether the last event was delivered.
    pub(crate) fn is_finished(&self) -> bool {
        self.sequencer.is_finished()
    }

    /// Ends the stream with an error.
    pub(crate) fn fail(&self, error: Error) {
        self.queue.push(0, Err(error));
        self.queue.end();
    }

    fn deliver(&mut self) {
        while let Some(event) = self.sequencer.pop() {
            let bytes = event.bytes();
            let item = match event {
                ProcessEvent::Lost { first, last } => Err(Error::OutputLost { first, last }),
                event => Ok(event),
            };
            self.queue.push(bytes, item);
        }
        if self.sequencer.is_finished() {
            self.queue.end();
        }
    }
}

/// The way of one streamed response body to its reader.
#[derive(Debug)]
pub(crate) struct BodyRoute {
    queue: Arc<Queue<Result<Bytes, Error>>>,
    next_seq: u64,
    /// The head of the response has come.
    pub(crate) answered: bool,
    /// The executor was asked to end it.
    pub(crate) given_up: bool,
}

impl BodyRoute {
    pub(crate) fn new(queue: Arc<Queue<Result<Bytes, Error>>>) -> Self {
        Self {
            queue,
            next_seq: 1,
            answered: false,
            given_up: false,
        }
    }

    /// Takes one delta; true when it was the last.
    pub(crate) fn push(&mut self, delta: BodyDelta) -> bool {
        if delta.seq != self.next_seq {
            self.fail(Error::Protocol(
                "a part of a response body is missing".into(),
            ));
            return true;
        }
        self.next_seq += 1;
        if let Some(message) = delta.error {
            self.fail(Error::Rpc {
                method: exec_proto::http::REQUEST,
                code: -32603,
                message,
            });
            return true;
        }
        if !delta.delta_base64.is_empty() {
            self.queue
                .push(delta.delta_base64.len(), Ok(delta.delta_base64));
        }
        if delta.done {
            self.queue.end();
        }
        delta.done
    }

    /// Whether the connection has to wait for this reader.
    pub(crate) fn blocks(&self) -> bool {
        self.queue.is_full()
    }

    /// Whether nobody reads it any more.
    pub(crate) fn is_abandoned(&self) -> bool {
        self.queue.is_abandoned()
    }

    /// Ends the body with an error.
    pub(crate) fn fail(&self, error: Error) {
        self.queue.push(0, Err(error));
        self.queue.end();
    }
}

/// The way of the news of a watch to whoever waits for it.
#[derive(Debug)]
pub(crate) struct WatchRoute {
    pub(crate) id: u64,
    queue: Arc<Queue<Result<(), Error>>>,
}

impl WatchRoute {
    pub(crate) fn new(id: u64, queue: Arc<Queue<Result<(), Error>>>) -> Self {
        Self { id, queue }
    }

    /// Says that something has changed, which a watch does once.
    pub(crate) fn changed(self) {
        self.queue.push(0, Ok(()));
        self.queue.end();
    }

    /// Ends the watch with an error.
    pub(crate) fn fail(self, error: Error) {
        self.queue.push(0, Err(error));
        self.queue.end();
    }

    /// Whether nobody waits any more.
    pub(crate) fn is_abandoned(&self) -> bool {
        self.queue.is_abandoned()
    }
}
