//! Which connection a session's events go to.

use std::sync::{Mutex, PoisonError};

use crate::rpc::Outbox;

/// The outbox of the attached connection, if there is one. Shared by a session and its processes.
#[derive(Debug, Default)]
pub(crate) struct Attachment {
    outbox: Mutex<Option<Outbox>>,
}

impl Attachment {
    /// Where events go now. `None` while detached: events stay in the logs.
    pub(crate) fn current(&self) -> Option<Outbox> {
        self.outbox
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }

    pub(crate) fn attach(&self, outbox: Outbox) {
        *self.outbox.lock().unwrap_or_else(PoisonError::into_inner) = Some(outbox);
    }

    pub(crate) fn detach(&self) {
        *self.outbox.lock().unwrap_or_else(PoisonError::into_inner) = None;
    }
}
