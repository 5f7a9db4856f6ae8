//! The requests of one connection that can still be given up, by id.
//!
//! A request's task takes part with [`InFlight::enter`] and watches its token. A client may use an id
//! twice at the same time, because ids are not checked; both requests are given up then.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use exec_proto::rpc::RequestId;
use tokio_util::sync::CancellationToken;

/// The requests that can be given up.
#[derive(Debug, Default)]
pub(super) struct InFlight {
    by_id: Mutex<HashMap<Arc<RequestId>, Vec<Arc<CancellationToken>>>>,
}

/// A request that takes part. Dropping it ends that.
#[derive(Debug)]
pub(super) struct Entered {
    requests: Arc<InFlight>,
    id: Arc<RequestId>,
    token: Arc<CancellationToken>,
}

impl InFlight {
    /// Makes a request known by its id.
    pub(super) fn enter(self: &Arc<Self>, id: &Arc<RequestId>) -> Entered {
        let token = Arc::new(CancellationToken::new());
        let mut by_id = self.lock();
        let tokens = by_id.entry(Arc::clone(id)).or_default();
        tokens.push(Arc::clone(&token));
        Entered {
            requests: Arc::clone(self),
            id: Arc::clone(id),
            token,
        }
    }

    /// Gives up the requests of that id. Returns whether there were any.
    pub(super) fn cancel(&self, id: &RequestId) -> bool {
        let by_id = self.lock();
        let Some(tokens) = by_id.get(id) else {
            return false;
        };
        tokens.iter().for_each(|token| token.cancel());
        true
    }

    /// Gives up all of them.
    pub(super) fn cancel_all(&self) {
        for token in self.lock().values().flatten() {
            token.cancel();
        }
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<Arc<RequestId>, Vec<Arc<CancellationToken>>>> {
        self.by_id.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Entered {
    /// Waits until the request is given up.
    pub(super) async fn cancelled(&self) {
        self.token.cancelled().await;
    }
}

impl Drop for Entered {
    fn drop(&mut self) {
        let mut by_id = self.requests.lock();
        if let Some(tokens) = by_id.get_mut(&*self.id) {
            tokens.retain(|token| !Arc::ptr_eq(token, &self.token));
            if tokens.is_empty() {
                by_id.remove(&*self.id);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn requests_are_known_until_they_end() {
        let requests = Arc::new(InFlight::default());
        let id = Arc::new(RequestId::Integer(1));
        let (first, second) = (requests.enter(&id), requests.enter(&id));
        drop(first);
        assert!(!requests.cancel(&RequestId::String("1".into())));
        assert!(requests.cancel(&id));
        assert!(second.token.is_cancelled());
        drop(second);
        assert!(!requests.cancel(&id));
        assert!(requests.lock().is_empty());
    }

    #[test]
    fn all_requests_of_an_id_are_given_up() {
        let requests = Arc::new(InFlight::default());
        let [one, two] = [1, 2].map(|id| Arc::new(RequestId::Integer(id)));
        let entered = [&one, &one, &two].map(|id| requests.enter(id));
        requests.cancel(&one);
        let given_up = entered
            .each_ref()
            .map(|entered| entered.token.is_cancelled());
        assert_eq!(given_up, [true, true, false]);
        requests.cancel_all();
        assert!(entered[2].token.is_cancelled());
    }
}
