//! `fs/batch`: small calls one after another, for one round trip.
//!
//! Each call obeys the same sandbox and limits as a request of its own. Calls in a row that need no
//! sandbox are made by one job on one thread of the pool; a call that needs one goes the way of a
//! request. Only methods without state in the connection take part, because those with state are kept
//! in order with other requests.

use exec_proto::fs as wire;
use exec_proto::fs::{
    BatchCall, BatchOutcome, BatchParams, BatchResult, MAX_BATCH_CALLS, MAX_BATCH_RESULT_BYTES,
};
use exec_proto::rpc::{RpcError, Value};
use exec_proto::sandbox::SandboxContext;
use serde::Serialize;

use super::limits::READ_FILE_BYTES;
use super::parents::Parents;
use super::pool::Cancelled;
use super::{FsConnection, FsError, changes, local, native};

/// The result of one call.
#[derive(Serialize)]
#[serde(untagged)]
pub(crate) enum Made {
    /// Contents that may stand beside the text of the answer.
    Contents(wire::ReadFileResult),
    /// Text.
    Value(Value),
}

impl FsConnection {
    /// `fs/batch`
    ///
    /// # Cancel safety
    ///
    /// The calls before the present one were made, the ones after it were not.
    pub(crate) async fn batch(&self, params: BatchParams) -> Result<BatchResult<Made>, RpcError> {
        if params.calls.len() > MAX_BATCH_CALLS {
            return Err(RpcError::invalid_params(format!(
                "fs/batch accepts at most {MAX_BATCH_CALLS} calls"
            )));
        }
        let mut progress = Progress {
            room: MAX_BATCH_RESULT_BYTES,
            stop_on_error: params.stop_on_error,
            bulk: params.bulk_results,
            failed: None,
            results: Vec::with_capacity(params.calls.len()),
        };
        let mut calls = params.calls.iter().map(Op::decode).peekable();
        while let Some(call) = calls.next() {
            if !self.is_own(&call) {
                let result = match (progress.not_begun(), call) {
                    (Some(error), _) | (None, Err(error)) => Err(error),
                    (None, Ok(op)) => self.confined(op, &progress).await,
                };
                progress.add(result);
                continue;
            }
            let mut row = vec![call];
            while let Some(call) = calls.next_if(|call| self.is_own(call)) {
                row.push(call);
            }
            let make = move |cancelled: &Cancelled| {
                let mut parents = Parents::default();
                for call in row {
                    cancelled.check()?;
                    let result = match (progress.not_begun(), call) {
                        (Some(error), _) | (None, Err(error)) => Err(error),
                        (None, Ok(op)) => op.make(&progress, &mut parents, cancelled),
                    };
                    progress.add(result);
                }
                Ok(progress)
            };
            progress = self.pool.run(make).await?;
        }
        Ok(BatchResult {
            results: progress.results,
        })
    }

    /// Whether this process may make a call itself, or refuse it.
    fn is_own(&self, call: &Result<Op, RpcError>) -> bool {
        match call {
            Ok(op) => op.sandbox().is_none() && !self.confines_all(),
            Err(_) => true,
        }
    }

    /// A call in a sandbox, as a request of its own would be made.
    async fn confined(&self, op: Op, progress: &Progress) -> Result<Made, RpcError> {
        let made = match op {
            Op::ReadFile(params) => {
                let read = self.read_file_up_to(params, progress.file_limit()).await;
                return progress.contents(read);
            }
            Op::GetMetadata(params) => value(self.get_metadata(params).await?)?,
            Op::Canonicalize(params) => value(self.canonicalize(params).await?)?,
            Op::ReadDirectory(params) => value(self.read_directory(params).await?)?,
            Op::Walk(params) => value(self.walk(params).await?)?,
            Op::WriteFile(params) => value(done(self.write_file(params).await?))?,
            Op::CreateDirectory(params) => value(done(self.create_directory(params).await?))?,
            Op::Remove(params) => value(done(self.remove(params).await?))?,
            Op::Rename(params) => value(done(self.rename(params).await?))?,
            Op::Sync(params) => value(done(self.sync(params).await?))?,
        };
        progress.fitting(made)
    }
}

/// A decoded call.
enum Op {
    ReadFile(wire::ReadFileParams),
    GetMetadata(wire::GetMetadataParams),
    Canonicalize(wire::CanonicalizeParams),
    ReadDirectory(wire::ReadDirectoryParams),
    Walk(wire::WalkParams),
    WriteFile(wire::WriteFileParams),
    CreateDirectory(wire::CreateDirectoryParams),
    Remove(wire::RemoveParams),
    Rename(wire::RenameParams),
    Sync(wire::SyncParams),
}

impl Op {
    fn decode(call: &BatchCall) -> Result<Self, RpcError> {
        let params = &call.params;
        Ok(match call.method.as_str() {
            wire::READ_FILE => Self::ReadFile(params.decode()?),
            wire::GET_METADATA => Self::GetMetadata(params.decode()?),
            wire::CANONICALIZE => Self::Canonicalize(params.decode()?),
            wire::READ_DIRECTORY => Self::ReadDirectory(params.decode()?),
            wire::WALK => Self::Walk(params.decode()?),
            wire::WRITE_FILE => Self::WriteFile(params.decode()?),
            wire::CREATE_DIRECTORY => Self::CreateDirectory(params.decode()?),
            wire::REMOVE => Self::Remove(params.decode()?),
            wire::RENAME => Self::Rename(params.decode()?),
            wire::SYNC => {
                let params: wire::SyncParams = params.decode()?;
                if params.handle_id.is_some() {
                    return Err(RpcError::invalid_params(
                        "fs/sync of a handle cannot be part of fs/batch",
                    ));
                }
                if params.path.is_none() {
                    return Err(super::sync_needs_one());
                }
                Self::Sync(params)
            }
            method => {
                return Err(RpcError::new(
                    exec_proto::rpc::code::METHOD_NOT_FOUND,
                    format!("fs/batch does not accept `{method}`"),
                ));
            }
        })
    }

    fn sandbox(&self) -> Option<&SandboxContext> {
        match self {
            Self::ReadFile(params) => params.sandbox.as_ref(),
            Self::GetMetadata(params) => params.sandbox.as_ref(),
            Self::Canonicalize(params) => params.sandbox.as_ref(),
            Self::ReadDirectory(params) => params.sandbox.as_ref(),
            Self::Walk(params) => params.sandbox.as_ref(),
            Self::WriteFile(params) => params.sandbox.as_ref(),
            Self::CreateDirectory(params) => params.sandbox.as_ref(),
            Self::Remove(params) => params.sandbox.as_ref(),
            Self::Rename(params) => params.sandbox.as_ref(),
            Self::Sync(params) => params.sandbox.as_ref(),
        }
    }

    /// Makes the call on this thread, without a sandbox.
    fn make(
        self,
        progress: &Progress,
        parents: &mut Parents,
        cancelled: &Cancelled,
    ) -> Result<Made, RpcError> {
        if !matches!(
            self,
            Self::ReadFile(_) | Self::WriteFile(_) | Self::GetMetadata(_)
        ) {
            parents.forget();
        }
        let made = match self {
            Self::ReadFile(params) => {
                let read = local::read_file(&params, progress.file_limit(), parents);
                return progress.contents(read);
            }
            Self::GetMetadata(params) => value(local::get_metadata(&params)?)?,
            Self::Canonicalize(params) => value(local::canonicalize(&params)?)?,
            Self::ReadDirectory(params) => value(local::read_directory(&params, cancelled)?)?,
            Self::Walk(params) => value(local::walk(&params, cancelled)?)?,
            Self::WriteFile(params) => value(done(local::write_file(&params, parents)?))?,
            Self::CreateDirectory(params) => value(done(local::create_directory(&params)?))?,
            Self::Remove(params) => value(done(local::remove(&params)?))?,
            Self::Rename(params) => value(done(local::rename(&params)?))?,
            Self::Sync(params) => match &params.path {
                Some(path) => value(done(changes::sync(&native(path)?)?))?,
                None => return Err(super::sync_needs_one()),
            },
        };
        progress.fitting(made)
    }
}

/// What came of the calls so far.
struct Progress {
    /// What the results of the others may take.
    room: usize,
    stop_on_error: bool,
    /// Contents may stand beside the text.
    bulk: bool,
    /// The first call that failed, if no other is to be begun.
    failed: Option<usize>,
    results: Vec<BatchOutcome<Made>>,
}

impl Progress {
    /// Why the next call is not made.
    fn not_begun(&self) -> Option<RpcError> {
        let first = self.failed?;
        Some(RpcError::cancelled(format!(
            "not begun: call {first} failed"
        )))
    }

    fn add(&mut self, result: Result<Made, RpcError>) {
        self.results.push(match result {
            Ok(result) => {
                self.room = self.room.saturating_sub(result.cost());
                BatchOutcome::Result(result)
            }
            Err(error) => {
                if self.stop_on_error {
                    self.failed.get_or_insert(self.results.len());
                }
                BatchOutcome::Error(error)
            }
        });
    }

    /// The largest file whose contents fit. What does not fit is not even read.
    fn file_limit(&self) -> u64 {
        let room = self.room.saturating_sub(READ_FILE_ENVELOPE);
        let limit = if self.bulk { room } else { room / 4 * 3 };
        READ_FILE_BYTES.min(limit as u64)
    }

    fn contents(&self, read: Result<wire::ReadFileResult, FsError>) -> Result<Made, RpcError> {
        match read {
            Err(FsError::TooLarge) => Err(full()),
            Ok(read) if self.bulk => self.fitting(Made::Contents(read)),
            read => self.fitting(value(read?)?),
        }
    }

    fn fitting(&self, made: Made) -> Result<Made, RpcError> {
        if made.cost() > self.room {
            return Err(full());
        }
        Ok(made)
    }
}

impl Made {
    /// What a result takes of the room. An empty one is free, so that no change is made and then
    /// reported as failed for want of room.
    fn cost(&self) -> usize {
        match self {
            Self::Contents(read) => READ_FILE_ENVELOPE + read.data_base64.len(),
            Self::Value(value) => match value.get() {
                "{}" => 0,
                text => text.len(),
            },
        }
    }
}

fn full() -> RpcError {
    RpcError::invalid_request(format!(
        "results of fs/batch exceed limit of {MAX_BATCH_RESULT_BYTES} bytes; make this call alone"
    ))
}

fn done((): ()) -> exec_proto::Empty {
    exec_proto::Empty {}
}

fn value<T: Serialize>(result: T) -> Result<Made, RpcError> {
    Value::encode(&result)
        .map(Made::Value)
        .map_err(|err| RpcError::internal(err.to_string()))
}

/// The result of `fs/readFile` around the contents.
const READ_FILE_ENVELOPE: usize = r#"{"dataBase64":""}"#.len();

#[cfg(test)]
mod tests;
