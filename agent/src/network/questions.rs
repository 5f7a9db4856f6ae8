//! Questions to the client: may this process connect there?
//!
//! Connections of a session that want the same (protocol, host and port) at the same time share one
//! question and its answer. An answer is for those who wait, unless the client allows it for the
//! session; then nobody asks again. A client that is gone, is slow, or answers something else denies.

use std::collections::{HashMap, VecDeque};
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use exec_proto::network::{
    AllowScope, POLICY_REQUEST, PolicyAnswer, PolicyRequestParams, PolicyRequestResult,
    PolicyTarget,
};
use futures_util::FutureExt as _;
use futures_util::future::{BoxFuture, WeakShared};

use crate::session::Attachment;

/// The questions of one session.
pub(crate) struct Questions {
    attachment: Arc<Attachment>,
    state: Arc<Mutex<State>>,
}

#[derive(Default)]
struct State {
    /// Kept alive by those who wait for the answer.
    open: HashMap<PolicyTarget, WeakShared<BoxFuture<'static, Answer>>>,
    /// What the client has allowed for the session, oldest first.
    allowed: VecDeque<PolicyTarget>,
}

/// What a question came to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Answer {
    Allow,
    /// With the client's reason.
    Deny(String),
    /// The client wants to be asked in another way. With its reason.
    Ask(String),
    /// There was no answer that means anything.
    None,
}

impl Questions {
    pub(crate) fn new(attachment: Arc<Attachment>) -> Self {
        Self {
            attachment,
            state: Arc::default(),
        }
    }

    /// Asks, or waits with others who have asked.
    ///
    /// # Cancel safety
    ///
    /// Others who wait go on waiting. When nobody does, the question is given up.
    pub(super) async fn ask(
        &self,
        process_id: &str,
        target: PolicyTarget,
        time: Duration,
    ) -> Answer {
        let answer = {
            let mut state = lock(&self.state);
            if state.allowed.contains(&target) {
                return Answer::Allow;
            }
            state.open.retain(|_, open| open.upgrade().is_some());
            match state.open.get(&target).and_then(WeakShared::upgrade) {
                Some(answer) => answer,
                None if state.open.len() >= MAX_OPEN => return Answer::None,
                None => {
                    let answer = self.question(process_id, target.clone(), time).shared();
                    if let Some(open) = answer.downgrade() {
                        state.open.insert(target, open);
                    }
                    answer
                }
            }
        };
        let answered = tokio::time::timeout(time, answer).await;
        answered.unwrap_or(Answer::None)
    }

    fn question(
        &self,
        process_id: &str,
        target: PolicyTarget,
        time: Duration,
    ) -> BoxFuture<'static, Answer> {
        let params = PolicyRequestParams {
            process_id: process_id.to_owned(),
            request: target.clone(),
        };
        let (attachment, state) = (Arc::clone(&self.attachment), Arc::clone(&self.state));
        async move {
            let answer = async {
                let outbox = attachment.current()?;
                let result: PolicyRequestResult = outbox.ask(POLICY_REQUEST, &params).await.ok()?;
                Some(result.decision)
            };
            let answer = tokio::time::timeout(time, answer).await.ok().flatten();
            let mut state = lock(&state);
            // Whoever comes now has not been part of it.
            state.open.remove(&target);
            match answer {
                Some(PolicyAnswer::Allow { scope }) => {
                    if scope == AllowScope::Session {
                        if state.allowed.len() >= MAX_ALLOWED {
                            state.allowed.pop_front();
                        }
                        state.allowed.push_back(target);
                    }
                    Answer::Allow
                }
                Some(PolicyAnswer::Deny { reason }) if is_reason(&reason) => Answer::Deny(reason),
                Some(PolicyAnswer::Ask { reason }) if is_reason(&reason) => Answer::Ask(reason),
                _ => Answer::None,
            }
        }
        .boxed()
    }
}

/// Whether a reason can be shown to the command and in logs.
fn is_reason(reason: &str) -> bool {
    reason.len() <= MAX_REASON_BYTES && !reason.chars().any(char::is_control)
}

fn lock(state: &Mutex<State>) -> MutexGuard<'_, State> {
    state.lock().unwrap_or_else(PoisonError::into_inner)
}

impl fmt::Debug for Questions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let state = lock(&self.state);
        f.debug_struct("Questions")
            .field("open", &state.open.len())
            .field("allowed", &state.allowed.len())
            .finish()
    }
}

/// Questions of one session without an answer.
const MAX_OPEN: usize = 256;

/// Targets that are allowed for the session; beyond it the oldest is asked about again.
const MAX_ALLOWED: usize = 1024;

/// Longest reason, as in the reference.
const MAX_REASON_BYTES: usize = 1024;
