//! Requests of the executor to its client: ids, and the way of the answers.

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use exec_proto::RpcError;
use exec_proto::rpc::{RequestId, Value};
use tokio::sync::oneshot;

/// The requests of one connection that wait for an answer.
#[derive(Debug, Default)]
pub(super) struct Callbacks {
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    /// Ids count from 1, independently of the client's.
    last_id: i64,
    waiting: HashMap<i64, oneshot::Sender<Outcome>>,
}

/// What a client answers.
pub(crate) type Outcome = Result<Value, RpcError>;

/// A place for one answer, until dropped.
#[derive(Debug)]
pub(super) struct Waiting<'a> {
    callbacks: &'a Callbacks,
    pub(super) id: i64,
    pub(super) answer: oneshot::Receiver<Outcome>,
}

impl Callbacks {
    /// A new id and a place for its answer; `None` if too many wait.
    pub(super) fn begin(&self) -> Option<Waiting<'_>> {
        let (sender, answer) = oneshot::channel();
        let mut state = self.state();
        if state.waiting.len() >= MAX_WAITING {
            return None;
        }
        state.last_id += 1;
        let id = state.last_id;
        state.waiting.insert(id, sender);
        drop(state);
        Some(Waiting {
            callbacks: self,
            id,
            answer,
        })
    }

    /// Takes an answer. Returns whether that request was ever made; whoever asked may have given up.
    pub(super) fn answered(&self, id: &RequestId, outcome: Outcome) -> bool {
        let RequestId::Integer(id) = id else {
            return false;
        };
        let mut state = self.state();
        if let Some(asker) = state.waiting.remove(id) {
            let _ = asker.send(outcome);
        }
        (1..=state.last_id).contains(id)
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.callbacks.state().waiting.remove(&self.id);
    }
}

/// Requests of one connection without an answer, as in the reference.
const MAX_WAITING: usize = 256;
