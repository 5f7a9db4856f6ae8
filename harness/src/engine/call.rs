//! One request of a caller, from the moment it is made until it has its answer.

use std::collections::{BTreeMap, VecDeque};

use exec_proto::rpc::{Draft, RpcError, Trace, Value};
use tokio::{
    sync::{OwnedSemaphorePermit, oneshot},
    time::Instant,
};

use crate::{Error, limits};

/// What to do with a request that had no answer when the connection was lost.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Retry {
    /// Doing it twice is the same as doing it once, or the request carries a key by which the
    /// executor knows it: ask again on the next connection.
    Repeat,
    /// Nobody can know whether it was done: tell the caller so.
    Never,
    /// It concerns something that the connection with this number owned, such as an open file.
    Within(u64),
}

/// Who waits for an answer.
#[derive(Debug)]
pub(crate) enum Asker {
    /// A caller of the client.
    Caller(oneshot::Sender<Result<Value, Error>>),
    /// The same, for `process/start` of this process: the route follows the answer.
    Start(String, oneshot::Sender<Result<Value, Error>>),
    /// The same, for `http/request` with this streamed body: without an answer there is no body.
    Stream(String, oneshot::Sender<Result<Value, Error>>),
    /// The same, for `tcp/connect` of this stream: without an answer there is no stream.
    Tcp(String, oneshot::Sender<Result<Value, Error>>),
    /// Nobody: the session task tells the executor something.
    Nobody,
    /// The session task reads back the events of this process after this number.
    Page { process: String, after: u64 },
    /// The same, for the first page of this process, which another client started.
    Attach(String, oneshot::Sender<Result<Value, Error>>),
    /// The session task asks whether a repeated start had worked the first time.
    Adopt {
        process: String,
        refusal: RpcError,
        /// When the executor first said that it was still starting the process.
        starting_since: Option<Instant>,
        reply: oneshot::Sender<Result<Value, Error>>,
    },
}

impl Asker {
    /// Whether the caller has gone away, so that the answer interests nobody.
    fn is_gone(&self) -> bool {
        match self {
            Self::Caller(reply) => reply.is_closed(),
            // What nobody waits for any more is given up through its route.
            Self::Stream(..) | Self::Tcp(..) | Self::Nobody => false,
            // The process may be running whether or not anybody waits; its route has to be settled.
            Self::Start(..) | Self::Attach(..) | Self::Page { .. } | Self::Adopt { .. } => false,
        }
    }
}

/// One request.
#[derive(Debug)]
pub(crate) struct Call {
    pub(crate) method: &'static str,
    pub(crate) params: Draft,
    pub(crate) retry: Retry,
    pub(crate) asker: Asker,
    /// Set when the request was sent on an earlier connection already.
    pub(crate) repeated: bool,
    /// When it was made, which is no later than when it was sent for the first time.
    pub(crate) made: Instant,
    /// Whose request it is, for those who export spans.
    pub(crate) trace: Option<Trace>,
    /// Room in the client's budgets, given back with the answer.
    pub(crate) _room: Option<Room>,
}

impl Call {
    /// Whether it is a start that the executor may have done and forgotten by now, so that it would
    /// do it again.
    pub(crate) fn is_stale_start(&self) -> bool {
        let is_start = matches!(self.asker, Asker::Start(..));
        is_start && self.repeated && self.made.elapsed() > limits::START_REPEAT_WINDOW
    }
}

/// A share of the client's budgets for requests without an answer.
#[derive(Debug)]
pub(crate) struct Room {
    pub(crate) _calls: OwnedSemaphorePermit,
    pub(crate) _bytes: OwnedSemaphorePermit,
    /// The same in a budget that only some requests share.
    pub(crate) _share: Option<OwnedSemaphorePermit>,
}

/// The requests without an answer, and the order in which they have yet to be sent.
///
/// Bounded by the client's budgets: [`limits::CALLS_IN_FLIGHT`]
/// requests of callers, plus one page per process.
#[derive(Debug)]
pub(crate) struct Pending {
    calls: BTreeMap<i64, Call>,
    unsent: VecDeque<i64>,
    /// Requests to be sent at a later time.
    deferred: Vec<(Instant, i64)>,
    next_id: i64,
}

impl Pending {
    pub(crate) fn new() -> Self {
        // The first ids belong to the handshake of each connection.
        Self {
            calls: BTreeMap::new(),
            unsent: VecDeque::new(),
            deferred: Vec::new(),
            next_id: 10,
        }
    }

    pub(crate) fn add(&mut self, call: Call) {
        let id = self.insert(call);
        self.unsent.push_back(id);
    }

    /// Adds a request that is to be sent at `due`, or at once after a lost connection.
    pub(crate) fn add_later(&mut self, call: Call, due: Instant) {
        let id = self.insert(call);
        self.deferred.push((due, id));
    }

    fn insert(&mut self, call: Call) -> i64 {
        let id = self.next_id;
        self.next_id += 1;
        self.calls.insert(id, call);
        id
    }

    /// When the next of the requests for later is due.
    pub(crate) fn next_due(&self) -> Option<Instant> {
        self.deferred.iter().map(|(due, _)| *due).min()
    }

    /// Makes the requests that are due at `now` the next to be sent.
    pub(crate) fn become_due(&mut self, now: Instant) {
        let due = self.deferred.extract_if(.., |(due, _)| *due <= now);
        self.unsent.extend(due.map(|(_, id)| id));
    }

    pub(crate) fn has_unsent(&self) -> bool {
        !self.unsent.is_empty()
    }

    /// Takes the next request to send. Requests whose caller has gone away are skipped.
    pub(crate) fn next_unsent(&mut self) -> Option<(i64, &Call)> {
        while let Some(id) = self.unsent.pop_front() {
            if self.calls.get(&id).is_some_and(|call| call.asker.is_gone()) {
                self.calls.remove(&id);
                continue;
            }
            if self.calls.contains_key(&id) {
                return self.calls.get(&id).map(|call| (id, call));
            }
        }
        None
    }

    pub(crate) fn answered(&mut self, id: i64) -> Option<Call> {
        self.calls.remove(&id)
    }

    /// Finds the request that `is_meant`, and tells whether it was sent.
    pub(crate) fn find(&self, is_meant: impl Fn(&Asker) -> bool) -> Option<(i64, bool)> {
        let (id, _) = self.calls.iter().find(|(_, call)| is_meant(&call.asker))?;
        Some((*id, !self.unsent.contains(id)))
    }

    /// Sorts the requests after the connection was lost: what can be asked again is queued again in
    /// the old order, the rest is returned. Pages are dropped, since recovery reads anew.
    pub(crate) fn connection_lost(&mut self) -> Vec<Call> {
        let unsent = std::mem::take(&mut self.unsent);
        self.deferred.clear();
        let mut given_up = Vec::new();
        for (id, mut call) in std::mem::take(&mut self.calls) {
            let was_sent = !unsent.contains(&id);
            if call.asker.is_gone() || matches!(call.asker, Asker::Page { .. } | Asker::Nobody) {
                continue;
            }
            match call.retry {
                Retry::Never if was_sent => given_up.push(call),
                Retry::Within(_) => given_up.push(call),
                Retry::Never | Retry::Repeat => {
                    call.repeated |= was_sent;
                    self.add(call);
                }
            }
        }
        given_up
    }

    /// Takes every request out, because the session has ended.
    pub(crate) fn drain(&mut self) -> Vec<Call> {
        self.unsent.clear();
        self.deferred.clear();
        std::mem::take(&mut self.calls).into_values().collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn call(method: &'static str, retry: Retry) -> (Call, oneshot::Receiver<Result<Value, Error>>) {
        let (reply, answer) = oneshot::channel();
        let params = Draft::new(&exec_proto::Empty {}).unwrap();
        let asker = Asker::Caller(reply);
        (
            Call {
                method,
                params,
                retry,
                asker,
                repeated: false,
                made: Instant::now(),
                trace: None,
                _room: None,
            },
            answer,
        )
    }

    #[test]
    fn repeatable_requests_are_sent_again_in_order_and_others_are_given_up() {
        let mut pending = Pending::new();
        let mut answers = Vec::new();
        for (method, retry) in [
            ("a", Retry::Repeat),
            ("b", Retry::Never),
            ("c", Retry::Within(1)),
            ("d", Retry::Repeat),
            ("not sent yet", Retry::Never),
        ] {
            let (call, answer) = call(method, retry);
            pending.add(call);
            answers.push(answer);
        }
        for _ in 0..4 {
            pending.next_unsent().unwrap();
        }
        let given_up: Vec<_> = pending
            .connection_lost()
            .iter()
            .map(|call| call.method)
            .collect();
        assert_eq!(given_up, ["b", "c"]);
        let mut again = Vec::new();
        while let Some((_, call)) = pending.next_unsent() {
            again.push((call.method, call.repeated));
        }
        assert_eq!(again, [("a", true), ("d", true), ("not sent yet", false)]);
    }

    #[test]
    fn request_of_a_caller_that_went_away_is_not_sent() {
        let mut pending = Pending::new();
        let (first, answer) = call("a", Retry::Repeat);
        pending.add(first);
        drop(answer);
        assert!(pending.next_unsent().is_none());
    }

    #[test]
    fn answer_is_taken_once() {
        let mut pending = Pending::new();
        let (first, _answer) = call("a", Retry::Repeat);
        pending.add(first);
        let (id, _) = pending.next_unsent().unwrap();
        assert!(pending.answered(id).is_some());
        assert!(pending.answered(id).is_none());
    }
}
