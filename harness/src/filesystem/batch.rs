//! Several small calls for one round trip.
//!
//! With an executor that has `fs/batch`, calls go in batches; with another one, each for itself. What
//! comes out is the same.

use std::{collections::BTreeMap, future::Future};

use bytes::Bytes;
use exec_proto::{
    Empty, PathUri,
    fs::{
        self as wire, BatchOutcome, BatchResult, CreateDirectoryParams, DirectoryEntry,
        GetMetadataParams, GetMetadataResult, ReadDirectoryParams, ReadDirectoryResult,
        ReadFileParams, ReadFileResult, RemoveParams, RenameParams, WriteFileParams,
    },
    rpc::{self, RpcError},
};
use serde::{Serialize, de::DeserializeOwned};
use tokio::task::JoinSet;

use super::{Existing, Filesystem, Missing, Recursion};
use crate::{Error, engine::call::Retry, limits};

/// One call of [`Filesystem::batch`].
#[derive(Debug, Clone, Serialize)]
pub struct FsCall {
    method: &'static str,
    params: CallParams,
    /// Bytes of contents that it carries, or is expected to return.
    #[serde(skip)]
    bytes: usize,
    /// It changes nothing, so it may be made twice.
    #[serde(skip)]
    reads: bool,
}

/// Serialized only with the request that they become part of, so that contents can stand beside its
/// text.
#[derive(Debug, Clone, Serialize)]
#[serde(untagged)]
enum CallParams {
    GetMetadata(GetMetadataParams),
    ReadFile(ReadFileParams),
    ReadDirectory(ReadDirectoryParams),
    WriteFile(WriteFileParams),
    CreateDirectory(CreateDirectoryParams),
    Remove(RemoveParams),
    Rename(RenameParams),
}

/// `fs/batch`, as [`wire::BatchParams`].
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct BatchParams<'a> {
    calls: &'a [FsCall],
    stop_on_error: bool,
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    bulk_results: bool,
}

/// What the calls after one that failed are to do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OnError {
    /// Be made nevertheless.
    Continue,
    /// Not be begun; they fail too.
    Stop,
}

impl FsCall {
    fn new(method: &'static str, params: CallParams, reads: bool) -> Self {
        Self {
            method,
            params,
            bytes: 0,
            reads,
        }
    }

    /// As [`Filesystem::metadata`].
    pub fn metadata(path: &PathUri) -> Self {
        let params = GetMetadataParams {
            path: path.clone(),
            follow_symlinks: None,
            sandbox: None,
        };
        Self::new(wire::GET_METADATA, CallParams::GetMetadata(params), true)
    }

    /// As [`Filesystem::read`].
    pub fn read(path: &PathUri) -> Self {
        let params = ReadFileParams {
            path: path.clone(),
            follow_symlinks: None,
            sandbox: None,
        };
        Self::new(wire::READ_FILE, CallParams::ReadFile(params), true)
    }

    /// The same, with the size that the file is thought to have, so that no batch gets too large.
    pub(super) fn read_about(path: &PathUri, size: u64) -> Self {
        let mut call = Self::read(path);
        call.bytes = usize::try_from(size).unwrap_or(usize::MAX);
        call
    }

    /// As [`Filesystem::list`], in the executor's order.
    pub fn list(path: &PathUri) -> Self {
        let params = ReadDirectoryParams {
            path: path.clone(),
            sandbox: None,
        };
        Self::new(
            wire::READ_DIRECTORY,
            CallParams::ReadDirectory(params),
            true,
        )
    }

    /// As [`Filesystem::write`].
    pub fn write(path: &PathUri, contents: &[u8]) -> Self {
        Self::write_bytes(path, Bytes::copy_from_slice(contents))
    }

    /// The same without a copy.
    pub(super) fn write_bytes(path: &PathUri, contents: Bytes) -> Self {
        let bytes = contents.len();
        let params = WriteFileParams {
            path: path.clone(),
            data_base64: contents.into(),
            follow_symlinks: None,
            sandbox: None,
        };
        let mut call = Self::new(wire::WRITE_FILE, CallParams::WriteFile(params), false);
        call.bytes = bytes;
        call
    }

    /// As [`Filesystem::create_directory`].
    pub fn create_directory(path: &PathUri, parents: Recursion) -> Self {
        let params = CreateDirectoryParams {
            path: path.clone(),
            recursive: Some(parents == Recursion::Recursive),
            follow_symlinks: None,
            sandbox: None,
        };
        Self::new(
            wire::CREATE_DIRECTORY,
            CallParams::CreateDirectory(params),
            false,
        )
    }

    /// As [`Filesystem::remove`].
    pub fn remove(path: &PathUri, contents: Recursion, missing: Missing) -> Self {
        let params = RemoveParams {
            path: path.clone(),
            recursive: Some(contents == Recursion::Recursive),
            force: Some(missing == Missing::Succeeds),
            follow_symlinks: None,
            sandbox: None,
        };
        Self::new(wire::REMOVE, CallParams::Remove(params), false)
    }

    /// As [`Filesystem::rename`].
    pub fn rename(from: &PathUri, to: &PathUri, existing: Existing) -> Self {
        let params = RenameParams {
            source_path: from.clone(),
            destination_path: to.clone(),
            replace: Some(existing == Existing::Replace),
            sandbox: None,
        };
        Self::new(wire::RENAME, CallParams::Rename(params), false)
    }
}

/// What came of one call.
#[derive(Debug)]
pub struct FsOutcome {
    method: &'static str,
    result: Result<rpc::Value, Error>,
}

/// Each method is for the calls of one kind, and fails as the call did.
impl FsOutcome {
    /// Of a call that only does something.
    ///
    /// # Errors
    ///
    /// What the call failed with.
    pub fn done(self) -> Result<(), Error> {
        self.decode::<Empty>().map(drop)
    }

    /// Of [`FsCall::metadata`].
    ///
    /// # Errors
    ///
    /// What the call failed with.
    pub fn metadata(self) -> Result<GetMetadataResult, Error> {
        self.decode()
    }

    /// Of [`FsCall::read`].
    ///
    /// # Errors
    ///
    /// What the call failed with.
    pub fn contents(self) -> Result<Bytes, Error> {
        self.decode::<ReadFileResult>()
            .map(|result| result.data_base64)
    }

    /// Of [`FsCall::list`].
    ///
    /// # Errors
    ///
    /// What the call failed with.
    pub fn entries(self) -> Result<Vec<DirectoryEntry>, Error> {
        self.decode::<ReadDirectoryResult>()
            .map(|result| result.entries)
    }

    fn decode<T: DeserializeOwned>(self) -> Result<T, Error> {
        let method = self.method;
        self.result?
            .decode()
            .map_err(|_| Error::Protocol(format!("its answer to {method} does not decode")))
    }
}

impl Filesystem {
    /// Makes calls one after another. There is one outcome for each, in their order.
    ///
    /// When the connection is lost, calls that only read are made again; for others see below.
    ///
    /// # Errors
    ///
    /// What ended the session; [`Error::OutcomeUnknown`] when the connection was lost during calls
    /// that change something. The failure of a single call is its outcome.
    pub async fn batch(
        &self,
        calls: Vec<FsCall>,
        on_error: OnError,
    ) -> Result<Vec<FsOutcome>, Error> {
        let mut outcomes = Vec::with_capacity(calls.len());
        let mut failed = false;
        for part in parts(calls, self.batch_calls()) {
            if failed {
                outcomes.extend(part.iter().map(|call| not_begun(call.method)));
                continue;
            }
            let made = self.batch_part(part, on_error).await?;
            failed = on_error == OnError::Stop && made.iter().any(|made| made.result.is_err());
            outcomes.extend(made);
        }
        Ok(outcomes)
    }

    /// Makes calls that only read, many at a time.
    pub(super) async fn read_many(&self, calls: Vec<FsCall>) -> Result<Vec<FsOutcome>, Error> {
        let parts = parts(calls, self.batch_calls()).into_iter().map(|part| {
            let fs = self.clone();
            async move { fs.batch_part(part, OnError::Continue).await }
        });
        let made = in_order(parts, self.requests_at_once()).await?;
        Ok(made.into_iter().flatten().collect())
    }

    /// How many calls go into one request.
    pub(super) fn batch_calls(&self) -> usize {
        if self.client().capabilities().fs_batch {
            wire::MAX_BATCH_CALLS
        } else {
            1
        }
    }

    /// How many requests are on the way at once: fewer when each does much.
    pub(super) fn requests_at_once(&self) -> usize {
        if self.client().capabilities().fs_batch {
            limits::BATCHES_IN_FLIGHT
        } else {
            limits::SMALL_CALLS_IN_FLIGHT
        }
    }

    async fn batch_part(
        &self,
        calls: Vec<FsCall>,
        on_error: OnError,
    ) -> Result<Vec<FsOutcome>, Error> {
        if let [call] = calls.as_slice() {
            return Ok(vec![self.alone(call).await?]);
        }
        let retry = if calls.iter().all(|call| call.reads) {
            Retry::Repeat
        } else {
            Retry::Never
        };
        let params = BatchParams {
            calls: &calls,
            stop_on_error: on_error == OnError::Stop,
            bulk_results: self.client().capabilities().fs_batch_bulk,
        };
        let made: BatchResult = self.client().call(wire::BATCH, &params, retry).await?;
        if made.results.len() != calls.len() {
            return Err(Error::Protocol(
                "its answer to fs/batch has another number of results than calls".into(),
            ));
        }
        let mut outcomes = Vec::with_capacity(calls.len());
        for (call, outcome) in calls.iter().zip(made.results) {
            outcomes.push(match outcome {
                BatchOutcome::Result(result) => FsOutcome {
                    method: call.method,
                    result: Ok(result),
                },
                // Its result may not have fitted into the answer.
                BatchOutcome::Error(error)
                    if call.reads && error.code == rpc::code::INVALID_REQUEST =>
                {
                    self.alone(call).await?
                }
                BatchOutcome::Error(RpcError { code, message, .. }) => FsOutcome {
                    method: call.method,
                    result: Err(Error::Rpc {
                        method: call.method,
                        code,
                        message,
                    }),
                },
            });
        }
        Ok(outcomes)
    }

    async fn alone(&self, call: &FsCall) -> Result<FsOutcome, Error> {
        let retry = if call.reads {
            Retry::Repeat
        } else {
            Retry::Never
        };
        let method = call.method;
        match self.client().call(method, &call.params, retry).await {
            Ok(result) => Ok(FsOutcome {
                method,
                result: Ok(result),
            }),
            Err(error @ Error::Rpc { .. }) => Ok(FsOutcome {
                method,
                result: Err(error),
            }),
            Err(error) => Err(error),
        }
    }
}

/// Divides calls into requests.
fn parts(calls: Vec<FsCall>, most: usize) -> Vec<Vec<FsCall>> {
    let mut parts: Vec<Vec<FsCall>> = Vec::new();
    let mut bytes = 0;
    for call in calls {
        bytes = usize::saturating_add(bytes, call.bytes);
        match parts.last_mut() {
            Some(part) if part.len() < most && bytes <= limits::BATCH_BYTES => part.push(call),
            _ => {
                bytes = call.bytes;
                parts.push(vec![call]);
            }
        }
    }
    parts
}

fn not_begun(method: &'static str) -> FsOutcome {
    FsOutcome {
        method,
        result: Err(Error::Rpc {
            method,
            code: rpc::code::REQUEST_CANCELLED,
            message: "not begun: an earlier call failed".into(),
        }),
    }
}

/// Runs at most `width` futures at once and returns what they return, in their order.
pub(super) async fn in_order<T: Send + 'static>(
    futures: impl IntoIterator<Item = impl Future<Output = Result<T, Error>> + Send + 'static>,
    width: usize,
) -> Result<Vec<T>, Error> {
    let mut waiting = futures.into_iter().enumerate();
    let mut running = JoinSet::new();
    let mut results = BTreeMap::new();
    loop {
        while running.len() < width
            && let Some((index, future)) = waiting.next()
        {
            running.spawn(async move { (index, future.await) });
        }
        match running.join_next().await {
            Some(Ok((index, result))) => {
                results.insert(index, result?);
            }
            // A request cannot panic; if one ever does, it must not look like success.
            Some(Err(_)) => return Err(Error::ConnectionLost(wire::BATCH)),
            None => return Ok(results.into_values().collect()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn requests_hold_no_more_calls_and_bytes_than_allowed() {
        let path = PathUri::parse("file:///f").unwrap();
        let half = vec![0; limits::BATCH_BYTES / 2];
        let calls = [
            FsCall::write(&path, &half),
            FsCall::write(&path, &half),
            FsCall::metadata(&path),
            FsCall::write(&path, b"x"),
            FsCall::metadata(&path),
            FsCall::metadata(&path),
            FsCall::metadata(&path),
        ];
        let sizes: Vec<_> = parts(calls.to_vec(), 3).iter().map(Vec::len).collect();
        assert_eq!(sizes, [3, 3, 1]);
        assert_eq!(parts(calls.to_vec(), 1).len(), 7);
        let large = FsCall::write(&path, &vec![0; limits::BATCH_BYTES + 1]);
        let sizes: Vec<_> = parts(vec![large.clone(), large], 9)
            .iter()
            .map(Vec::len)
            .collect();
        assert_eq!(sizes, [1, 1]);
    }

    #[tokio::test]
    async fn results_keep_the_order_of_the_futures() {
        let (gate, opened) = tokio::sync::oneshot::channel::<()>();
        let mut opened = Some(opened);
        let mut gate = Some(gate);
        let futures = (0..5).map(|index| {
            let wait = (index == 0).then(|| opened.take()).flatten();
            let open = (index == 4).then(|| gate.take()).flatten();
            async move {
                if let Some(wait) = wait {
                    let _ = wait.await;
                }
                drop(open);
                Ok(index)
            }
        });
        assert_eq!(in_order(futures, 2).await.unwrap(), [0, 1, 2, 3, 4]);
    }
}
