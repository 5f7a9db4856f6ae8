//! File requests whose sandbox has to be enforced: they are served by a process in that sandbox.
//!
//! Starting one takes milliseconds, so it is kept for later requests with the same plan. The plan is
//! made anew for each request, since it depends on what exists. A process that is not used any more
//! gets the end of its input, finishes what it has begun, and ends.

use std::collections::HashMap;
use std::io;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use exec_proto::rpc::RpcError;
use exec_proto::sandbox::SandboxContext;
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::value::RawValue;
use tokio::io::AsyncWriteExt as _;
use tokio::net::UnixStream;
use tokio::net::unix::{OwnedReadHalf, OwnedWriteHalf};
use tokio::sync::oneshot;
use tokio_util::task::AbortOnDropHandle;

use crate::process::{Confined, Spawner};
use crate::sandbox::{self, Answer, Confinement, Ground, Purpose, Request, frame, receive};

/// What is needed to serve requests in sandboxes.
#[derive(Debug, Clone)]
pub(crate) struct Sandboxes {
    /// Starts the processes.
    pub(crate) spawner: Spawner,
    /// What they are made with.
    pub(crate) ground: Ground,
}

/// The sandboxes of one connection.
#[derive(Debug)]
pub(super) struct Workers {
    sandboxes: Sandboxes,
    /// Most recently used last.
    kept: tokio::sync::Mutex<Vec<(Confinement, Arc<Worker>)>>,
}

impl Workers {
    pub(super) fn new(sandboxes: Sandboxes) -> Self {
        Self {
            sandboxes,
            kept: tokio::sync::Mutex::default(),
        }
    }

    /// Whether there is a sandbox for every request.
    pub(super) fn confine_all(&self) -> bool {
        self.sandboxes.ground.floor.is_some()
    }

    /// The process for a context; `None` if nothing has to be enforced.
    pub(super) async fn find(
        &self,
        context: Option<SandboxContext>,
    ) -> Result<Option<Arc<Worker>>, RpcError> {
        if context.is_none() && !self.confine_all() {
            return Ok(None);
        }
        let ground = self.sandboxes.ground.clone();
        let evaluate = move || sandbox::confinement(context.as_ref(), Purpose::Files, &ground);
        let confinement = tokio::task::spawn_blocking(evaluate)
            .await
            .map_err(|_| RpcError::internal("the sandbox policy was not evaluated"))?
            .map_err(sandbox::Refusal::for_files)?;
        let Some(mut confinement) = confinement.filter(|found| found.files.is_some()) else {
            return Ok(None);
        };
        // File requests have no use for it, and two policies that differ in it are one here.
        confinement.network = exec_proto::sandbox::NetworkAccess::Restricted;
        let mut kept = self.kept.lock().await;
        kept.retain(|(_, worker)| !worker.has_ended());
        let found = kept.iter().position(|(other, _)| *other == confinement);
        let (confinement, worker) = match found {
            Some(at) => kept.remove(at),
            None => {
                let started = self.sandboxes.spawner.confine_files(&confinement).await;
                let (process, socket) = started.map_err(|err| err.for_files())?;
                (confinement, Arc::new(Worker::new(process, socket)?))
            }
        };
        if kept.len() >= MAX_KEPT {
            kept.remove(0);
        }
        kept.push((confinement, Arc::clone(&worker)));
        Ok(Some(worker))
    }
}

/// A process in a sandbox that serves file requests.
#[derive(Debug)]
pub(crate) struct Worker {
    outgoing: tokio::sync::Mutex<OwnedWriteHalf>,
    calls: Arc<Mutex<Calls>>,
    /// Ends with the worker, and with it the process.
    _answers: AbortOnDropHandle<()>,
    _process: Confined,
}

#[derive(Debug, Default)]
struct Calls {
    last_id: u64,
    waiting: HashMap<u64, oneshot::Sender<Result<Box<RawValue>, RpcError>>>,
    ended: bool,
}

impl Worker {
    fn new(process: Confined, socket: std::os::unix::net::UnixStream) -> Result<Self, RpcError> {
        let open = || -> io::Result<UnixStream> {
            socket.set_nonblocking(true)?;
            UnixStream::from_std(socket)
        };
        let socket = open().map_err(|err| RpcError::internal(err.to_string()))?;
        let (incoming, outgoing) = socket.into_split();
        let calls = Arc::<Mutex<Calls>>::default();
        let answers = tokio::spawn(take_answers(incoming, Arc::clone(&calls)));
        Ok(Self {
            outgoing: tokio::sync::Mutex::new(outgoing),
            calls,
            _answers: AbortOnDropHandle::new(answers),
            _process: process,
        })
    }

    fn has_ended(&self) -> bool {
        lock(&self.calls).ended
    }

    /// Makes a call. `params` must not name a sandbox.
    ///
    /// # Cancel safety
    ///
    /// The call is made as a whole or not at all; nobody gets its answer.
    pub(crate) async fn call<P: Serialize, R: DeserializeOwned>(
        self: &Arc<Self>,
        method: &str,
        params: &P,
    ) -> Result<R, RpcError> {
        let internal = |err: serde_json::Error| RpcError::internal(err.to_string());
        let params = serde_json::value::to_raw_value(params).map_err(internal)?;
        let (answer, answered) = oneshot::channel();
        let id = {
            let mut calls = lock(&self.calls);
            if calls.ended {
                return Err(ended());
            }
            calls.last_id += 1;
            let id = calls.last_id;
            calls.waiting.insert(id, answer);
            id
        };
        let method = method.to_owned();
        let message = frame(&Request { id, method, params })
            .map_err(|err| RpcError::internal(err.to_string()))?;
        let worker = Arc::clone(self);
        // Half a message would spoil all that follow, so that is not left to the caller's patience.
        let sent =
            tokio::spawn(async move { worker.outgoing.lock().await.write_all(&message).await });
        let sent = sent.await.map_err(|_| ended())?;
        sent.map_err(|_| ended())?;
        let result = answered.await.map_err(|_| ended())??;
        serde_json::from_str(result.get()).map_err(internal)
    }
}

/// Hands answers to those who wait for them, to the end.
async fn take_answers(mut incoming: OwnedReadHalf, calls: Arc<Mutex<Calls>>) {
    while let Ok(Some(message)) = receive(&mut incoming).await {
        let Ok(Answer { id, outcome }) = serde_json::from_slice(&message) else {
            break;
        };
        if let Some(waiting) = lock(&calls).waiting.remove(&id) {
            // Nobody may wait any more.
            let _ = waiting.send(outcome);
        }
    }
    let mut calls = lock(&calls);
    calls.ended = true;
    calls.waiting.clear();
}

fn lock(calls: &Mutex<Calls>) -> MutexGuard<'_, Calls> {
    calls.lock().unwrap_or_else(PoisonError::into_inner)
}

fn ended() -> RpcError {
    RpcError::internal("the sandbox of the file request ended unexpectedly")
}

/// Sandboxes kept by one connection. A client uses one or two policies at a time.
const MAX_KEPT: usize = 4;
