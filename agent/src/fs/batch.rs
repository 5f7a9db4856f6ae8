//! `fs/batch`: small calls one after another, for one round trip.
//!
//! Each call is the method of [`FsConnection`] that a request of its own would reach, so it obeys the
//! same sandbox, limits and pool. Only methods without state in the connection take part, because those
//! with state are kept in order with other requests.

use exec_proto::Empty;
use exec_proto::fs as wire;
use exec_proto::fs::{
    BatchCall, BatchOutcome, BatchParams, BatchResult, MAX_BATCH_CALLS, MAX_BATCH_RESULT_BYTES,
};
use exec_proto::rpc::{RpcError, Value};
use serde::Serialize;

use super::limits::READ_FILE_BYTES;
use super::{FsConnection, FsError};

type Encoded = Result<Value, RpcError>;

impl FsConnection {
    /// `fs/batch`
    ///
    /// # Cancel safety
    ///
    /// The calls before the present one were made, the ones after it were not.
    pub(crate) async fn batch(&self, params: BatchParams) -> Result<BatchResult, RpcError> {
        if params.calls.len() > MAX_BATCH_CALLS {
            return Err(RpcError::invalid_params(format!(
                "fs/batch accepts at most {MAX_BATCH_CALLS} calls"
            )));
        }
        let mut room = MAX_BATCH_RESULT_BYTES;
        let mut failed = None;
        let mut results = Vec::with_capacity(params.calls.len());
        for (index, call) in params.calls.into_iter().enumerate() {
            let result = match failed {
                Some(first) => Err(RpcError::cancelled(format!(
                    "not begun: call {first} failed"
                ))),
                None => self.batched(call, room).await,
            };
            results.push(match result {
                Ok(result) => {
                    room = room.saturating_sub(cost(&result));
                    BatchOutcome::Result(result)
                }
                Err(error) => {
                    if params.stop_on_error {
                        failed = failed.or(Some(index));
                    }
                    BatchOutcome::Error(error)
                }
            });
        }
        Ok(BatchResult { results })
    }

    /// One call, whose result must fit into `room` bytes.
    async fn batched(&self, call: BatchCall, room: usize) -> Encoded {
        let BatchCall { method, params } = call;
        let result = match method.as_str() {
            wire::READ_FILE => {
                // What does not fit is not even read.
                let limit = (room.saturating_sub(READ_FILE_ENVELOPE) / 4 * 3) as u64;
                let read = self.read_file_up_to(params.decode()?, limit.min(READ_FILE_BYTES));
                match read.await {
                    Err(FsError::TooLarge) => return Err(full()),
                    read => encode(read?)?,
                }
            }
            wire::GET_METADATA => encode(self.get_metadata(params.decode()?).await?)?,
            wire::CANONICALIZE => encode(self.canonicalize(params.decode()?).await?)?,
            wire::READ_DIRECTORY => encode(self.read_directory(params.decode()?).await?)?,
            wire::WALK => encode(self.walk(params.decode()?).await?)?,
            wire::WRITE_FILE => done(self.write_file(params.decode()?).await?)?,
            wire::CREATE_DIRECTORY => done(self.create_directory(params.decode()?).await?)?,
            wire::REMOVE => done(self.remove(params.decode()?).await?)?,
            wire::RENAME => done(self.rename(params.decode()?).await?)?,
            wire::SYNC => {
                let params: wire::SyncParams = params.decode()?;
                if params.handle_id.is_some() {
                    return Err(RpcError::invalid_params(
                        "fs/sync of a handle cannot be part of fs/batch",
                    ));
                }
                done(self.sync(params).await?)?
            }
            _ => {
                return Err(RpcError::new(
                    exec_proto::rpc::code::METHOD_NOT_FOUND,
                    format!("fs/batch does not accept `{method}`"),
                ));
            }
        };
        if cost(&result) > room {
            return Err(full());
        }
        Ok(result)
    }
}

/// What a result takes of the room. An empty one is free, so that no change is made and then reported
/// as failed for want of room.
fn cost(result: &Value) -> usize {
    match result.get() {
        "{}" => 0,
        text => text.len(),
    }
}

fn full() -> RpcError {
    RpcError::invalid_request(format!(
        "results of fs/batch exceed limit of {MAX_BATCH_RESULT_BYTES} bytes; make this call alone"
    ))
}

fn done((): ()) -> Encoded {
    encode(Empty {})
}

fn encode<T: Serialize>(result: T) -> Encoded {
    Value::encode(&result).map_err(|err| RpcError::internal(err.to_string()))
}

/// The result of `fs/readFile` around the contents.
const READ_FILE_ENVELOPE: usize = r#"{"dataBase64":""}"#.len();

#[cfg(test)]
mod tests;
