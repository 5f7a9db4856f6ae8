//! The filesystem family: one method of [`FsConnection`] for each `fs/*` request.
//!
//! This module is the edge: it turns parameters into native paths, hands requests with a sandbox to a
//! process that is in it ([`confined`]), and all other work to a bounded pool. The work itself is in the modules below, which know
//! nothing of JSON-RPC except for the texts in [`error`] and the types in [`local`].
//!
//! - [`open`] and [`target`]: from paths to descriptors, with and without following links.
//! - [`stage`], [`write`](mod@write), [`copy`], [`replacement`]: new content in the place of old, atomically where
//!   the file allows it.
//! - [`changes`]: appending, renaming, syncing. [`batch`]: several calls in one request.
//! - [`metadata`], [`directory`], [`walk`](mod@walk): looking and listing, making and removing.
//! - [`handles`]: block reads and writes. [`watch`]: the watch on absent paths.
//!
//! What belongs to a connection (handles, the watch) ends with it. The invariants: nothing waits for a
//! FIFO or a device, every result has a bounded size, and a peer that vanishes leaves no half-written
//! file.

mod batch;
mod changes;
mod confined;
mod copy;
mod directory;
mod error;
mod handles;
mod limits;
mod local;
mod metadata;
mod open;
mod parents;
mod pool;
mod replacement;
mod stage;
mod target;
mod walk;
mod watch;
mod write;

use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use exec_proto::fs as wire;
use exec_proto::rpc::RpcError;
use exec_proto::sandbox::SandboxContext;
use exec_proto::{Empty, PathUri};
use tokio_util::task::AbortOnDropHandle;

use crate::rpc::Outbox;

pub(crate) use confined::Sandboxes;
pub(crate) use confined::Worker;
use confined::Workers;
pub(crate) use directory::read_directory;
pub(crate) use error::FsError;
use handles::{Handle, HandleTable, check_id, check_read_length, check_write_range};
use limits::{READ_FILE_BYTES, WATCHED_PATHS};
pub(crate) use open::{Links, open_to_read, read_to_end};
use parents::Parents;
pub(crate) use pool::{BlockingPool, Cancelled};
pub(crate) use walk::{Options as WalkOptions, Walked, walk};

/// The filesystem state of one connection.
///
/// Requests may run at the same time. When it is dropped, requests in progress are abandoned, the watch
/// ends, and files that were being replaced get their old content back.
#[derive(Debug)]
pub(crate) struct FsConnection {
    outbox: Outbox,
    pool: BlockingPool,
    handles: Arc<HandleTable>,
    watch: Mutex<WatchState>,
    /// `None` in a sandbox and in tests: then no other one can be enforced.
    workers: Option<Workers>,
}

#[derive(Debug, Default)]
struct WatchState {
    /// The greatest id used so far. Zero is no id.
    last_id: u64,
    /// Sends the notification of the present watch.
    task: Option<(u64, AbortOnDropHandle<()>)>,
}

impl FsConnection {
    /// The state of a new connection whose notifications go to `outbox`.
    pub(crate) fn new(outbox: Outbox) -> Self {
        Self {
            outbox,
            pool: BlockingPool::new(),
            handles: Arc::default(),
            watch: Mutex::default(),
            workers: None,
        }
    }

    /// The same with sandboxes that can be enforced.
    pub(crate) fn with_sandboxes(outbox: Outbox, sandboxes: Sandboxes) -> Self {
        Self {
            workers: Some(Workers::new(sandboxes)),
            ..Self::new(outbox)
        }
    }

    /// The process that serves requests with this sandbox; `None` if they need none.
    pub(crate) async fn worker(
        &self,
        sandbox: Option<SandboxContext>,
    ) -> Result<Option<Arc<Worker>>, RpcError> {
        match (sandbox, &self.workers) {
            (sandbox, Some(workers)) => workers.find(sandbox).await,
            (None, None) => Ok(None),
            (Some(sandbox), None) if sandbox.restricts_files() => Err(FsError::Sandbox.into()),
            (Some(_), None) => Ok(None),
        }
    }

    /// Whether even requests without a sandbox are served by a process in one.
    fn confines_all(&self) -> bool {
        self.workers.as_ref().is_some_and(Workers::confine_all)
    }

    /// Where blocking work of this connection runs.
    pub(crate) fn pool(&self) -> &BlockingPool {
        &self.pool
    }

    /// `fs/readFile`
    pub(crate) async fn read_file(
        &self,
        params: wire::ReadFileParams,
    ) -> Result<wire::ReadFileResult, RpcError> {
        Ok(self.read_file_up_to(params, READ_FILE_BYTES).await?)
    }

    /// Fails with [`FsError::TooLarge`] beyond `limit` bytes.
    async fn read_file_up_to(
        &self,
        mut params: wire::ReadFileParams,
        limit: u64,
    ) -> Result<wire::ReadFileResult, FsError> {
        let worker = self.worker(params.sandbox.take()).await;
        if let Some(worker) = worker.map_err(FsError::Confined)? {
            let read = worker.call(wire::READ_FILE, &params).await;
            let read: wire::ReadFileResult = read.map_err(FsError::Confined)?;
            return match read.data_base64.len() as u64 > limit {
                true => Err(FsError::TooLarge),
                false => Ok(read),
            };
        }
        let read = move |_: &Cancelled| local::read_file(&params, limit, &mut Parents::default());
        self.pool.run(read).await
    }

    /// `fs/writeFile`
    pub(crate) async fn write_file(
        &self,
        mut params: wire::WriteFileParams,
    ) -> Result<(), RpcError> {
        if let Some(worker) = self.worker(params.sandbox.take()).await? {
            return worker
                .call(wire::WRITE_FILE, &params)
                .await
                .map(|Empty {}| ());
        }
        let write = move |_: &Cancelled| local::write_file(&params, &mut Parents::default());
        Ok(self.pool.run(write).await?)
    }

    /// `fs/createDirectory`
    pub(crate) async fn create_directory(
        &self,
        mut params: wire::CreateDirectoryParams,
    ) -> Result<(), RpcError> {
        if let Some(worker) = self.worker(params.sandbox.take()).await? {
            return worker
                .call(wire::CREATE_DIRECTORY, &params)
                .await
                .map(|Empty {}| ());
        }
        let work = self.pool.run(move |_| local::create_directory(&params));
        Ok(work.await?)
    }

    /// `fs/getMetadata`
    pub(crate) async fn get_metadata(
        &self,
        mut params: wire::GetMetadataParams,
    ) -> Result<wire::GetMetadataResult, RpcError> {
        if let Some(worker) = self.worker(params.sandbox.take()).await? {
            return worker.call(wire::GET_METADATA, &params).await;
        }
        let work = self.pool.run(move |_| local::get_metadata(&params));
        Ok(work.await?)
    }

    /// `fs/canonicalize`
    pub(crate) async fn canonicalize(
        &self,
        mut params: wire::CanonicalizeParams,
    ) -> Result<wire::CanonicalizeResult, RpcError> {
        if let Some(worker) = self.worker(params.sandbox.take()).await? {
            return worker.call(wire::CANONICALIZE, &params).await;
        }
        let work = self.pool.run(move |_| local::canonicalize(&params));
        Ok(work.await?)
    }

    /// `fs/readDirectory`
    pub(crate) async fn read_directory(
        &self,
        mut params: wire::ReadDirectoryParams,
    ) -> Result<wire::ReadDirectoryResult, RpcError> {
        if let Some(worker) = self.worker(params.sandbox.take()).await? {
            return worker.call(wire::READ_DIRECTORY, &params).await;
        }
        let work = self
            .pool
            .run(move |cancelled| local::read_directory(&params, cancelled));
        Ok(work.await?)
    }

    /// `fs/walk`
    pub(crate) async fn walk(
        &self,
        mut params: wire::WalkParams,
    ) -> Result<wire::WalkResult, RpcError> {
        if let Some(worker) = self.worker(params.sandbox.take()).await? {
            return worker.call(wire::WALK, &params).await;
        }
        let work = self
            .pool
            .run(move |cancelled| local::walk(&params, cancelled));
        Ok(work.await?)
    }

    /// `fs/remove`
    pub(crate) async fn remove(&self, mut params: wire::RemoveParams) -> Result<(), RpcError> {
        if let Some(worker) = self.worker(params.sandbox.take()).await? {
            return worker.call(wire::REMOVE, &params).await.map(|Empty {}| ());
        }
        let work = self.pool.run(move |_| local::remove(&params));
        Ok(work.await?)
    }

    /// `fs/copy`
    pub(crate) async fn copy(&self, mut params: wire::CopyParams) -> Result<(), RpcError> {
        if let Some(worker) = self.worker(params.sandbox.take()).await? {
            return worker.call(wire::COPY, &params).await.map(|Empty {}| ());
        }
        let source = native(&params.source_path)?;
        let destination = native(&params.destination_path)?;
        let recursive = params.recursive;
        let copy = self
            .pool
            .run(move |cancelled| copy::copy(&source, &destination, recursive, cancelled));
        Ok(copy.await?)
    }

    /// `fs/append`
    pub(crate) async fn append(
        &self,
        mut params: wire::AppendParams,
    ) -> Result<wire::AppendResult, RpcError> {
        if let Some(worker) = self.worker(params.sandbox.take()).await? {
            return worker.call(wire::APPEND, &params).await;
        }
        let path = native(&params.path)?;
        let links = Links::from_param(params.follow_symlinks);
        let append = self
            .pool
            .run(move |_| changes::append(&path, links, &params.data_base64));
        Ok(wire::AppendResult {
            offset: append.await?,
        })
    }

    /// `fs/rename`
    pub(crate) async fn rename(&self, mut params: wire::RenameParams) -> Result<(), RpcError> {
        if let Some(worker) = self.worker(params.sandbox.take()).await? {
            return worker.call(wire::RENAME, &params).await.map(|Empty {}| ());
        }
        let work = self.pool.run(move |_| local::rename(&params));
        Ok(work.await?)
    }

    /// `fs/sync`
    pub(crate) async fn sync(&self, mut params: wire::SyncParams) -> Result<(), RpcError> {
        if params.path.is_some()
            && params.handle_id.is_none()
            && let Some(worker) = self.worker(params.sandbox.take()).await?
        {
            return worker.call(wire::SYNC, &params).await.map(|Empty {}| ());
        }
        let sync = match (params.handle_id.take(), params.path.take()) {
            (Some(id), None) => {
                let handle = self.handles.find(&id)?;
                if let Handle::Confined(worker) = &*handle {
                    params.handle_id = Some(id);
                    return worker.call(wire::SYNC, &params).await.map(|Empty {}| ());
                }
                self.pool.run(move |_| handle.sync()).await
            }
            (None, Some(path)) => {
                let path = native(&path)?;
                self.pool.run(move |_| changes::sync(&path)).await
            }
            _ => {
                return Err(sync_needs_one());
            }
        };
        Ok(sync?)
    }

    /// `fs/open`
    pub(crate) async fn open(
        &self,
        mut params: wire::OpenParams,
    ) -> Result<wire::OpenResult, RpcError> {
        let reservation = self.handles.reserve(&params.handle_id)?;
        if let Some(worker) = self.worker(params.sandbox.take()).await? {
            let opened = worker.call(wire::OPEN, &params).await?;
            reservation.fill(Handle::Confined(worker));
            return Ok(opened);
        }
        let path = native(&params.path)?;
        let open = self.pool.run(move |_| match params.mode {
            wire::OpenMode::Read => Handle::read(&path),
            wire::OpenMode::Replace => Handle::replace(&path),
        });
        reservation.fill(open.await?);
        Ok(wire::OpenResult {
            handle_id: params.handle_id,
        })
    }

    /// `fs/readBlock`
    pub(crate) async fn read_block(
        &self,
        params: wire::ReadBlockParams,
    ) -> Result<wire::ReadBlockResult, RpcError> {
        check_id(&params.handle_id)?;
        check_read_length(params.len)?;
        let handle = self.handles.find(&params.handle_id)?;
        if let Handle::Confined(worker) = &*handle {
            let read = worker.call(wire::READ_BLOCK, &params).await;
            if read.is_err() {
                self.handles.take(&params.handle_id)?;
            }
            return read;
        }
        let handles = Arc::clone(&self.handles);
        let read = self.pool.run(move |_| {
            let result = handle.read_block(params.offset, params.len);
            if result.is_err() {
                // A failed read ends the handle, as the protocol has it.
                handles.take(&params.handle_id)?;
                handle.close();
            }
            result
        });
        let chunk = read.await?;
        Ok(wire::ReadBlockResult {
            eof: chunk.len() < params.len,
            chunk,
        })
    }

    /// `fs/writeBlock`
    pub(crate) async fn write_block(&self, params: wire::WriteBlockParams) -> Result<(), RpcError> {
        check_id(&params.handle_id)?;
        check_write_range(params.offset, params.chunk.len())?;
        let handle = self.handles.find(&params.handle_id)?;
        if let Handle::Confined(worker) = &*handle {
            let write = worker.call(wire::WRITE_BLOCK, &params).await;
            return write.map(|Empty {}| ());
        }
        let write = self
            .pool
            .run(move |_| handle.write_block(params.offset, &params.chunk));
        Ok(write.await?)
    }

    /// `fs/close`
    pub(crate) async fn close(&self, params: wire::CloseParams) -> Result<(), RpcError> {
        let Some(handle) = self.handles.take(&params.handle_id)? else {
            return Ok(());
        };
        if let Handle::Confined(worker) = &*handle {
            return worker.call(wire::CLOSE, &params).await.map(|Empty {}| ());
        }
        let close = self.pool.run(move |_| {
            handle.close();
            Ok(())
        });
        Ok(close.await?)
    }

    /// `fs/watchMissing`
    pub(crate) async fn watch_missing(
        &self,
        params: wire::WatchMissingParams,
    ) -> Result<wire::WatchMissingResult, RpcError> {
        Ok(wire::WatchMissingResult {
            watching: self.start_watch(params).await,
        })
    }

    async fn start_watch(&self, params: wire::WatchMissingParams) -> bool {
        let watch_id = params.watch_id;
        {
            let mut state = self.lock_watch();
            if watch_id <= state.last_id {
                return false;
            }
            state.last_id = watch_id;
        }
        if !(1..=WATCHED_PATHS).contains(&params.missing.len()) {
            return false;
        }
        let missing: Result<Vec<_>, _> = params.missing.iter().map(native).collect();
        let present = params.present.as_ref().map(native).transpose();
        let (Ok(missing), Ok(present)) = (missing, present) else {
            return false;
        };
        let arm = self
            .pool
            .run(move |_| Ok(watch::Armed::new(&missing, present.as_deref())));
        let Ok(Some(armed)) = arm.await else {
            return false;
        };
        let outbox = self.outbox.clone();
        let mut state = self.lock_watch();
        if state.last_id != watch_id {
            // A later request has taken over in the meantime.
            return false;
        }
        // Owned by the connection: a new watch or the end of the connection aborts it.
        let task = AbortOnDropHandle::new(tokio::spawn(async move {
            armed.fired().await;
            let changed = wire::MissingChangedNotification { watch_id };
            let _ = outbox.notify(wire::MISSING_CHANGED, &changed).await;
        }));
        state.task = Some((watch_id, task));
        true
    }

    /// `fs/unwatchMissing`. The watch is silent when this returns.
    pub(crate) async fn unwatch_missing(&self, params: wire::UnwatchMissingParams) {
        let taken = self
            .lock_watch()
            .task
            .take_if(|(id, _)| *id == params.watch_id);
        if let Some((_, task)) = taken {
            task.abort();
            // Its notification was queued before, or never will be.
            let _ = task.await;
        }
    }

    fn lock_watch(&self) -> MutexGuard<'_, WatchState> {
        self.watch.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn sync_needs_one() -> RpcError {
    RpcError::invalid_params("fs/sync requires exactly one of handleId and path")
}

/// The native path, without repeated and trailing slashes.
pub(crate) fn native(path: &PathUri) -> Result<PathBuf, FsError> {
    let path = path
        .to_native()
        .map_err(|err| FsError::ForeignPath(err.to_string()))?;
    Ok(path.components().collect())
}

#[cfg(test)]
mod tests;
