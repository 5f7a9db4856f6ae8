//! The processes of one session, by id: reservation, start, retention.
//!
//! An id is reserved when the request arrives, before anything is awaited. Signals and terminate
//! that overtake the spawn are kept in the reservation and delivered when the program runs, so a
//! terminate is never lost.
//!
//! A closed record keeps its id, output and exit code for a while; then the id is free again. When
//! the closed records of a session hold too much output, the oldest go early.

use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use exec_proto::RpcError;
use exec_proto::process::{
    CloseStdinParams, Signal, StartParams, StartResult, WriteParams, WriteStatus,
};
use exec_proto::sandbox::SandboxType;
use tokio::sync::oneshot;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::group::ProcessGroup;
use super::pump::Pump;
use super::snapshot::{self, Restored, Snapshots};
use super::spawn::{SpawnRequest, Spawned, Spawner, StdioKind};
use super::stdin::{MAX_WRITE_ID_BYTES, Stdin};
use super::{MAX_PROCESS_ID_BYTES, Process};
use crate::environment::ExecutorEnvironment;
use crate::session::Attachment;

/// Processes of one session, records included.
pub(crate) const MAX_PROCESSES: usize = 4096;

/// What every table of an executor shares.
#[derive(Debug, Clone)]
pub(crate) struct TableConfig {
    pub(crate) environment: Arc<ExecutorEnvironment>,
    pub(crate) spawner: Spawner,
    /// How long a closed record is kept.
    pub(crate) closed_retention: Duration,
    /// How much output the closed records of one session hold together.
    pub(crate) closed_output_bytes: usize,
    /// Owns the tasks of all processes.
    pub(crate) tasks: TaskTracker,
    /// Ends retention early.
    pub(crate) shutdown: CancellationToken,
}

/// The processes of one session.
#[derive(Debug)]
pub(crate) struct ProcessTable {
    config: TableConfig,
    attachment: Arc<Attachment>,
    snapshots: Snapshots,
    entries: Mutex<Entries>,
}

#[derive(Debug, Default)]
struct Entries {
    by_id: HashMap<String, Entry>,
    /// Closed records, oldest first, with their output's size.
    closed: VecDeque<(Arc<Process>, usize)>,
    /// Set at the end of the session; nothing starts any more.
    ended: bool,
}

#[derive(Debug)]
enum Entry {
    Starting(Overtaken),
    Started(Arc<Process>),
}

/// What arrived for a process before it ran.
#[derive(Debug, Default, Clone, Copy)]
struct Overtaken {
    interrupt: bool,
    terminate: bool,
}

/// An id that is taken and a request that is checked. Dropping it frees the id.
#[derive(Debug)]
pub(crate) struct Reservation {
    table: Arc<ProcessTable>,
    params: Option<Box<StartParams>>,
    cwd: std::path::PathBuf,
}

/// A started process: the answer, and the gate that holds its events back.
#[derive(Debug)]
pub(crate) struct Started {
    pub(crate) result: StartResult,
    pub(crate) gate: StartGate,
}

/// Holds a process's events back until it is dropped, so that the answer comes first.
#[derive(Debug)]
pub(crate) struct StartGate {
    _opened_by_drop: oneshot::Sender<()>,
}

impl ProcessTable {
    pub(crate) fn new(config: TableConfig, attachment: Arc<Attachment>) -> Self {
        Self {
            config,
            attachment,
            snapshots: Snapshots::default(),
            entries: Mutex::default(),
        }
    }

    /// Checks a start request and takes its id.
    pub(crate) fn reserve(
        self: &Arc<Self>,
        params: Box<StartParams>,
    ) -> Result<Reservation, RpcError> {
        check(&params)?;
        let cwd = params.cwd.to_native().map_err(|err| {
            RpcError::invalid_params(format!(
                "cwd URI `{}` is not valid on this exec-server host: {err}",
                params.cwd
            ))
        })?;
        let mut entries = self.entries();
        if entries.by_id.contains_key(&params.process_id) {
            let id = &params.process_id;
            return Err(RpcError::invalid_request(format!(
                "process {id} already exists"
            )));
        }
        if entries.ended {
            return Err(RpcError::internal("the session has ended"));
        }
        if entries.by_id.len() >= MAX_PROCESSES {
            return Err(RpcError::invalid_request(format!(
                "at most {MAX_PROCESSES} processes may exist per session"
            )));
        }
        entries.by_id.insert(
            params.process_id.clone(),
            Entry::Starting(Overtaken::default()),
        );
        Ok(Reservation {
            table: Arc::clone(self),
            params: Some(params),
            cwd,
        })
    }

    /// The process of a `process/read`.
    pub(crate) fn find(&self, id: &str) -> Result<Arc<Process>, RpcError> {
        match self.entries().by_id.get(id) {
            Some(Entry::Started(process)) => Ok(Arc::clone(process)),
            Some(Entry::Starting(_)) => Err(RpcError::invalid_request(format!(
                "process id {id} is starting"
            ))),
            None => Err(RpcError::invalid_request(format!(
                "unknown process id {id}"
            ))),
        }
    }

    /// `process/write`.
    pub(crate) async fn write(&self, params: WriteParams) -> Result<WriteStatus, RpcError> {
        if params.write_id.is_empty() {
            return Err(RpcError::invalid_params("writeId must not be empty"));
        }
        if params.write_id.len() > MAX_WRITE_ID_BYTES {
            return Err(RpcError::invalid_params(format!(
                "writeId must be at most {MAX_WRITE_ID_BYTES} bytes"
            )));
        }
        let process = match self.entries().by_id.get(&params.process_id) {
            Some(Entry::Started(process)) => Arc::clone(process),
            Some(Entry::Starting(_)) => return Ok(WriteStatus::Starting),
            None => return Ok(WriteStatus::UnknownProcess),
        };
        process.write(params).await
    }

    /// `process/closeStdin`.
    pub(crate) async fn close_stdin(&self, params: &CloseStdinParams) -> Result<(), RpcError> {
        match self.started(&params.process_id) {
            Some(process) => process.close_stdin().await,
            None => Ok(()),
        }
    }

    /// `process/signal`.
    pub(crate) fn signal(&self, id: &str, signal: Signal) {
        let Signal::Interrupt = signal;
        match self.entries().by_id.get_mut(id) {
            Some(Entry::Started(process)) => process.interrupt(),
            Some(Entry::Starting(overtaken)) => overtaken.interrupt = true,
            None => {}
        }
    }

    /// `process/terminate`: whether there was something to kill.
    pub(crate) fn terminate(&self, id: &str) -> bool {
        match self.entries().by_id.get_mut(id) {
            Some(Entry::Started(process)) => process.terminate(),
            Some(Entry::Starting(overtaken)) => {
                overtaken.terminate = true;
                true
            }
            None => false,
        }
    }

    /// Kills every process group and refuses new starts: the session is over.
    pub(crate) fn end(&self) {
        let mut entries = self.entries();
        entries.ended = true;
        for entry in entries.by_id.values_mut() {
            match entry {
                Entry::Started(process) => {
                    process.terminate();
                }
                Entry::Starting(overtaken) => overtaken.terminate = true,
            }
        }
    }

    fn started(&self, id: &str) -> Option<Arc<Process>> {
        match self.entries().by_id.get(id) {
            Some(Entry::Started(process)) => Some(Arc::clone(process)),
            _ => None,
        }
    }

    fn entries(&self) -> std::sync::MutexGuard<'_, Entries> {
        self.entries.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Runs a child that was spawned for a reserved id.
    fn adopt(
        self: &Arc<Self>,
        params: &StartParams,
        mut spawned: Spawned,
    ) -> std::io::Result<StartGate> {
        let (stdin, writer) = match spawned.input.take() {
            Some(fd) => {
                let (stdin, writer) = Stdin::open(fd, params.tty);
                (stdin, Some(writer))
            }
            None => (Stdin::absent(), None),
        };
        let outputs = std::mem::take(&mut spawned.outputs);
        let (group, exit) = ProcessGroup::new(spawned.pid, spawned.pidfd)?;
        let process = Arc::new(Process::new(params.process_id.clone(), group, stdin));
        let attachment = Arc::clone(&self.attachment);
        let pump = Pump::new(Arc::clone(&process), attachment, exit, outputs, writer)?;

        let mut entries = self.entries();
        let entry = Entry::Started(Arc::clone(&process));
        let before = entries.by_id.insert(params.process_id.clone(), entry);
        let overtaken = match before {
            Some(Entry::Starting(overtaken)) => overtaken,
            _ => Overtaken::default(),
        };
        if overtaken.interrupt {
            process.interrupt();
        }
        if overtaken.terminate || entries.ended {
            process.terminate();
        }
        drop(entries);

        let (gate, opened) = oneshot::channel();
        let table = Arc::clone(self);
        self.config.tasks.spawn(async move {
            // The gate is opened by being dropped, so there is nothing to receive.
            let _ = opened.await;
            pump.run().await;
            table.retain(process).await;
        });
        Ok(StartGate {
            _opened_by_drop: gate,
        })
    }

    /// Keeps a closed record for its time, then frees the id.
    async fn retain(&self, process: Arc<Process>) {
        let mut evicted = Vec::new();
        {
            let mut entries = self.entries();
            entries
                .closed
                .push_back((Arc::clone(&process), process.retained_bytes()));
            let mut bytes: usize = entries.closed.iter().map(|(_, bytes)| bytes).sum();
            while bytes > self.config.closed_output_bytes
                && let Some((oldest, size)) = entries.closed.pop_front()
            {
                bytes -= size;
                entries.forget(&oldest);
                evicted.push(oldest);
            }
        }
        drop(evicted);
        tokio::select! {
            () = tokio::time::sleep(self.config.closed_retention) => {}
            () = self.config.shutdown.cancelled() => {}
        }
        let mut entries = self.entries();
        entries
            .closed
            .retain(|(closed, _)| !Arc::ptr_eq(closed, &process));
        entries.forget(&process);
    }
}

impl Entries {
    /// Removes a record, unless its id names another process by now.
    fn forget(&mut self, process: &Arc<Process>) {
        let is_same = matches!(
            self.by_id.get(&process.id),
            Some(Entry::Started(other)) if Arc::ptr_eq(other, process)
        );
        if is_same {
            self.by_id.remove(&process.id);
        }
    }
}

impl Reservation {
    /// Starts the program.
    ///
    /// # Cancel safety
    ///
    /// If the call is cancelled, the program still starts and stays with the session.
    pub(crate) async fn start(mut self) -> Result<Started, RpcError> {
        let (answer, started) = oneshot::channel();
        let tasks = self.table.config.tasks.clone();
        tasks.spawn(async move {
            let result = self.spawn().await;
            // A failed start frees its id before the client hears of it.
            drop(self);
            // Nobody may be left to take the answer; dropping it opens the gate.
            let _ = answer.send(result);
        });
        started
            .await
            .unwrap_or_else(|_| Err(RpcError::internal("the executor is shutting down")))
    }

    async fn spawn(&mut self) -> Result<Started, RpcError> {
        let Some(params) = self.params.as_deref() else {
            return Err(RpcError::internal("the request was started before"));
        };
        let config = &self.table.config;
        let restored = self
            .table
            .snapshots
            .restore(config, params, &self.cwd)
            .await;
        let (argv, mut variables, extra) = match restored {
            Some(Restored {
                argv,
                variables,
                state,
            }) => (argv, variables, Some(state)),
            None => {
                let variables = config.environment.child_variables(
                    params.env_policy.as_ref(),
                    &params.env,
                    params.metadata.as_ref(),
                );
                (params.argv.clone(), variables, None)
            }
        };
        if params.tty {
            let shell = &config.environment.info().shell.path;
            variables
                .entry("SHELL".into())
                .or_insert_with(|| shell.into());
        }
        let request = SpawnRequest {
            argv,
            arg0: params.arg0.clone(),
            cwd: self.cwd.clone(),
            variables,
            stdio: match (params.tty, params.pipe_stdin) {
                (true, _) => StdioKind::Terminal,
                (false, true) => StdioKind::InputOutput,
                (false, false) => StdioKind::Output,
            },
            extra,
        };
        let spawned = config.spawner.spawn(request).await;
        let spawned = spawned.map_err(|err| RpcError::internal(err.to_string()))?;
        let gate = self
            .table
            .adopt(params, spawned)
            .map_err(|err| RpcError::internal(err.to_string()))?;
        let process_id = params.process_id.clone();
        self.params = None;
        let result = StartResult {
            process_id,
            sandbox_type: Some(SandboxType::None),
        };
        Ok(Started { result, gate })
    }
}

impl Drop for Reservation {
    fn drop(&mut self) {
        if let Some(params) = &self.params {
            self.table.entries().by_id.remove(&params.process_id);
        }
    }
}

/// Everything about a request that can be refused without looking at the host.
fn check(params: &StartParams) -> Result<(), RpcError> {
    let refuse = |text: &str| Err(RpcError::invalid_params(text));
    if params.argv.is_empty() {
        return refuse("argv must not be empty");
    }
    if params.process_id.len() > MAX_PROCESS_ID_BYTES {
        return Err(RpcError::invalid_params(format!(
            "processId must be at most {MAX_PROCESS_ID_BYTES} bytes"
        )));
    }
    if let Some(snapshot) = &params.shell_snapshot {
        snapshot::check(snapshot)?;
    }
    if params
        .sandbox
        .as_ref()
        .is_some_and(|sandbox| sandbox.needs_enforcement())
    {
        return refuse("sandbox intent cannot be enforced on this executor");
    }
    if params.enforce_managed_network {
        return refuse("managed networking cannot be enforced on this executor");
    }
    if params.managed_network.is_some() {
        return refuse("managedNetwork is not supported by this executor");
    }
    if params.network_proxy.is_some() {
        return refuse("networkProxy is not supported by this executor");
    }
    Ok(())
}
