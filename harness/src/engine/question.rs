//! Questions of the executor about the network, and their answers.

use exec_proto::{
    network::{PolicyAnswer, PolicyRequestResult},
    rpc::{self, RequestId},
};
use futures_util::{FutureExt as _, future::BoxFuture, stream::FuturesUnordered};

use super::Engine;
use crate::{Error, limits};

/// Questions that are being decided. They end with their connection.
pub(super) type Questions = FuturesUnordered<BoxFuture<'static, (RequestId, PolicyAnswer)>>;

impl Engine {
    /// Takes a question. When too many are open it is denied.
    ///
    /// # Errors
    ///
    /// As for every request of the executor, when it does not take its answers.
    pub(super) fn asked(&mut self, id: RequestId, params: &rpc::Params) -> Result<(), Error> {
        match params.decode() {
            Err(error) => self.reply(rpc::encode_error(&id, &error)),
            Ok(_) if self.questions.len() >= limits::NETWORK_QUESTIONS => {
                let reason = "too many questions are open".to_owned();
                self.decided(&id, PolicyAnswer::Deny { reason })
            }
            Ok(params) => {
                let decision = self.decider.decide(params);
                self.questions
                    .push(decision.map(|answer| (id, answer)).boxed());
                Ok(())
            }
        }
    }

    /// Sends an answer.
    pub(super) fn decided(&mut self, id: &RequestId, decision: PolicyAnswer) -> Result<(), Error> {
        let result = PolicyRequestResult { decision };
        let answer = rpc::encode_response(id, &result, self.form);
        self.reply(answer.unwrap_or_else(|_| {
            rpc::encode_error(
                id,
                &rpc::RpcError::internal("the answer does not serialize"),
            )
        }))
    }
}
