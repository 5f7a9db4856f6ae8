//! Bodies of answers: read whole, or passed on piece by piece.

use std::fmt;

use bytes::{Bytes, BytesMut};
use exec_proto::{
    http::{BODY_DELTA, BodyDelta, MAX_DELTA_BYTES},
    rpc::RpcError,
};
use reqwest::Response;

use super::{Claim, Deadline, error};
use crate::rpc::{Disconnected, Outbox};

/// A body that is sent as deltas. Holds its stream id until it ends.
pub struct BodyStream {
    response: Response,
    claim: Claim,
    deadline: Deadline,
}

/// Reads a whole body.
pub(super) async fn buffer(mut response: Response, deadline: Deadline) -> Result<Bytes, RpcError> {
    let announced = response
        .content_length()
        .and_then(|length| usize::try_from(length).ok());
    if announced.is_some_and(|length| length > MAX_BUFFERED_BYTES) {
        return Err(too_large());
    }
    let mut body = BytesMut::with_capacity(announced.unwrap_or_default().min(PREALLOCATED_BYTES));
    loop {
        match response.chunk().await {
            Ok(None) => return Ok(body.freeze()),
            Ok(Some(chunk)) if chunk.len() > MAX_BUFFERED_BYTES - body.len() => {
                return Err(too_large());
            }
            Ok(Some(chunk)) => body.extend_from_slice(&chunk),
            Err(cause) => {
                return Err(deadline.explain(cause, |cause| {
                    RpcError::internal(format!(
                        "failed to read http/request response body: {}",
                        error::broken_body(cause)
                    ))
                }));
            }
        }
    }
}

fn too_large() -> RpcError {
    RpcError::internal(format!(
        "failed to read http/request response body: it exceeds limit of {MAX_BUFFERED_BYTES} bytes; \
         use streamResponse"
    ))
}

impl BodyStream {
    pub(super) const fn new(response: Response, claim: Claim, deadline: Deadline) -> Self {
        Self {
            response,
            claim,
            deadline,
        }
    }

    /// Sends the deltas and the final one. The server is read only as fast as the client takes
    /// them. When the client is gone, so is the connection to the server.
    pub(super) async fn run(self, outbox: Outbox) {
        // Being disconnected is the end of the connection, which its owner sees as well.
        let _ = self.send(&outbox).await;
    }

    async fn send(mut self, outbox: &Outbox) -> Result<(), Disconnected> {
        let mut seq = 0;
        let error = loop {
            let chunk = tokio::select! {
                chunk = self.response.chunk() => chunk,
                () = self.claim.cancel.cancelled() => break Some(CANCELLED.to_owned()),
            };
            match chunk {
                Ok(None) => break None,
                Ok(Some(mut chunk)) => {
                    while !chunk.is_empty() {
                        let part = chunk.split_to(chunk.len().min(MAX_DELTA_BYTES));
                        seq += 1;
                        outbox.notify(BODY_DELTA, &self.delta(seq, part)).await?;
                        if self.claim.cancel.is_cancelled() {
                            break;
                        }
                    }
                }
                Err(cause) => {
                    let text = self
                        .deadline
                        .explain(cause, |cause| RpcError::internal(error::broken_body(cause)))
                        .message;
                    break Some(text);
                }
            }
        };
        let last = BodyDelta {
            done: true,
            error,
            ..self.delta(seq + 1, Bytes::new())
        };
        // The id is free again before the client sees the final delta, so that it can use it at once.
        drop(self.claim);
        outbox.notify(BODY_DELTA, &last).await
    }

    fn delta(&self, seq: u64, part: Bytes) -> BodyDelta {
        BodyDelta {
            request_id: self.claim.id.clone(),
            seq,
            delta_base64: part,
            done: false,
            error: None,
        }
    }
}

impl fmt::Debug for BodyStream {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("BodyStream").finish_non_exhaustive()
    }
}

/// The error of the final delta after `http/cancel`.
const CANCELLED: &str = "the request was cancelled";
/// Largest body in one answer: in base64 it takes 60 MiB of the 64 MiB that a message may have.
/// The reference has no limit and sends messages that its own peers refuse.
const MAX_BUFFERED_BYTES: usize = 45 << 20;
/// A server's announcement is not a reason to set more aside than this.
const PREALLOCATED_BYTES: usize = 1 << 20;
