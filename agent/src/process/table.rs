//! The processes of one session, by id: reservation, start, retention.
//!
//! An id is reserved when the request arrives, before anything is awaited. Signals and terminate
//! that overtake the spawn are kept in the reservation and delivered when the program runs, so a
//! terminate is never lost.
//!
//! - `reservation` is the way from a checked request to a running program.
//! - `control` signals, resizes and ends; nothing in it waits.
//! - `listing` is `process/list`.
//!
//! A closed record keeps its id, output and exit code for a while; then the id is free again. When
//! the closed records of a session hold too much output, the oldest go early.

mod control;
mod listing;
mod reservation;

use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use exec_proto::RpcError;
use exec_proto::process::{CloseStdinParams, StartParams, WriteParams, WriteStatus};
use tokio::sync::oneshot;
use tokio_util::sync::{CancellationToken, DropGuard};
use tokio_util::task::TaskTracker;
use tracing::Span;

use super::group::ProcessGroup;
use super::pump::Pump;
use super::snapshot::Snapshots;
use super::spawn::{Spawned, Spawner};
use super::stdin::{MAX_WRITE_ID_BYTES, Stdin};
use super::{Facts, Process, Retention};
use crate::environment::ExecutorEnvironment;
use crate::limits::{self, Limiter};
use crate::network::{Gateway, Questions};
use crate::session::{Attachment, Ending};

use control::Overtaken;
pub(super) use listing::program;
pub(crate) use reservation::Reservation;
use reservation::StartGate;

/// Processes of one session, records included.
pub(crate) const MAX_PROCESSES: usize = 4096;

/// What every table of an executor shares.
#[derive(Debug, Clone)]
pub(crate) struct TableConfig {
    pub(crate) environment: Arc<ExecutorEnvironment>,
    pub(crate) spawner: Spawner,
    /// What commands may use.
    pub(crate) limiter: Arc<Limiter>,
    /// How long a closed record is kept.
    pub(crate) closed_retention: Duration,
    /// How much output the closed records of one session hold in memory together.
    pub(crate) closed_output_bytes: usize,
    /// How much output is kept of each process, and where.
    pub(crate) retention: Retention,
    /// How long the capture of a shell snapshot may take.
    pub(crate) snapshot_time: Duration,
    /// Owns the tasks of all processes.
    pub(crate) tasks: TaskTracker,
    /// Ends retention early.
    pub(crate) shutdown: CancellationToken,
    /// Told what runs, and knows whether anything may still start.
    pub(crate) ending: Ending,
}

/// The processes of one session.
#[derive(Debug)]
pub(crate) struct ProcessTable {
    config: TableConfig,
    attachment: Arc<Attachment>,
    /// What clients were asked about the network, and have allowed.
    questions: Arc<Questions>,
    snapshots: Snapshots,
    entries: Mutex<Entries>,
    /// How long the record of a process that closes now is kept.
    closed_retention: Mutex<Duration>,
    /// Cancelled at the end of the session or of the executor, which ends retention early.
    over: CancellationToken,
}

#[derive(Debug, Default)]
struct Entries {
    by_id: HashMap<String, Entry>,
    /// Closed records, oldest first.
    closed: VecDeque<Closed>,
    /// Set at the end of the session; nothing starts any more.
    ended: bool,
}

/// A closed record.
#[derive(Debug)]
struct Closed {
    process: Arc<Process>,
    /// The size of its output in memory.
    bytes: usize,
    /// Ends the task that waits for the record's time, when the record goes early.
    _early: DropGuard,
}

#[derive(Debug)]
enum Entry {
    Starting(Facts, Overtaken),
    Started(Arc<Process>),
}

impl ProcessTable {
    pub(crate) fn new(config: TableConfig, attachment: Arc<Attachment>) -> Self {
        Self {
            over: config.shutdown.child_token(),
            closed_retention: Mutex::new(config.closed_retention),
            config,
            questions: Arc::new(Questions::new(Arc::clone(&attachment))),
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
        reservation::check(&params)?;
        self.config.ending.check("starts no new processes")?;
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
        // Records that are kept on request must not stand in the way of new processes.
        if entries.by_id.len() >= MAX_PROCESSES
            && self.closed_retention() > self.config.closed_retention
            && let Some(oldest) = entries.closed.pop_front()
        {
            entries.forget(&oldest.process);
        }
        if entries.by_id.len() >= MAX_PROCESSES {
            return Err(RpcError::invalid_request(format!(
                "at most {MAX_PROCESSES} processes may exist per session"
            )));
        }
        entries.by_id.insert(
            params.process_id.clone(),
            Entry::Starting(Facts::of(&params), Overtaken::default()),
        );
        Ok(Reservation::new(Arc::clone(self), params, cwd))
    }

    /// The process of a `process/read`.
    pub(crate) fn find(&self, id: &str) -> Result<Arc<Process>, RpcError> {
        match self.entries().by_id.get(id) {
            Some(Entry::Started(process)) => Ok(Arc::clone(process)),
            Some(Entry::Starting(..)) => Err(RpcError::invalid_request(format!(
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
            Some(Entry::Starting(..)) => return Ok(WriteStatus::Starting),
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

    /// Sets how long the records of processes that close from now on are kept.
    pub(crate) fn keep_closed(&self, retention: Duration) {
        *self
            .closed_retention
            .lock()
            .unwrap_or_else(PoisonError::into_inner) = retention;
    }

    fn closed_retention(&self) -> Duration {
        *self
            .closed_retention
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
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
                Entry::Starting(_, overtaken) => overtaken.terminate(Duration::ZERO),
            }
        }
        self.over.cancel();
    }

    /// Asks every process to end and kills it after `grace`. Returns how many there were.
    pub(crate) fn wind_up(&self, grace: Duration) -> usize {
        let mut entries = self.entries();
        let mut count = 0;
        for entry in entries.by_id.values_mut() {
            match entry {
                Entry::Started(process) if process.is_closed() => continue,
                Entry::Started(process) => {
                    process.terminate_after(grace);
                }
                Entry::Starting(_, overtaken) => overtaken.terminate(grace),
            }
            count += 1;
        }
        count
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
        gateway: Option<Gateway>,
        limited: Option<limits::Group>,
        span: Span,
    ) -> std::io::Result<StartGate> {
        let (stdin, writer) = match spawned.input.take() {
            Some(fd) => {
                let (stdin, writer) = Stdin::open(fd, params.tty);
                (stdin, Some(writer))
            }
            None => (Stdin::absent(), None),
        };
        let outputs = std::mem::take(&mut spawned.outputs);
        let terminal = spawned.terminal.take();
        let (group, exit) = ProcessGroup::new(spawned.leader, spawned.pidfd)?;
        let exit = exit.with_notices(spawned.notices.take())?;
        let id = params.process_id.clone();

        let facts = match self.entries().by_id.get(&id) {
            Some(Entry::Starting(facts, _)) => facts.clone(),
            // The reservation holds the id, so this does not happen.
            _ => Facts::of(params),
        };
        let process = Arc::new(Process::new(
            id.clone(),
            facts,
            group,
            stdin,
            terminal,
            &self.config.retention,
        ));
        let attachment = Arc::clone(&self.attachment);
        let pump = Pump::new(Arc::clone(&process), attachment, exit, outputs, writer)?;
        let pump = pump.limited(limited).traced(span);

        let mut entries = self.entries();
        let before = entries
            .by_id
            .insert(id, Entry::Started(Arc::clone(&process)));
        if let Some(Entry::Starting(_, overtaken)) = before {
            overtaken.deliver(&process);
        }
        if entries.ended {
            process.terminate();
        }
        drop(entries);

        let (gate, opened) = oneshot::channel();
        let table = Arc::clone(self);
        let busy = self.config.ending.busy();
        self.config.tasks.spawn(async move {
            let events = async {
                // The gate is opened by being dropped, so there is nothing to receive.
                let _ = opened.await;
                match gateway {
                    // Its questions and notices are events, too.
                    Some(gateway) => tokio::select! {
                        () = pump.run() => {}
                        never = gateway.run() => match never {},
                    },
                    None => pump.run().await,
                }
            };
            // Nothing that holds the events up may hold up the end of a grace period.
            tokio::select! {
                () = events => {}
                never = process.kill_in_time() => match never {}
            }
            drop(busy);
            table.retain(process).await;
        });
        Ok(StartGate::new(gate))
    }

    /// Keeps a closed record for its time, then frees the id.
    async fn retain(&self, process: Arc<Process>) {
        let mut evicted = Vec::new();
        let early = CancellationToken::new();
        // The waiting task must not hold what a record that goes early frees.
        let record = Arc::downgrade(&process);
        {
            let mut entries = self.entries();
            entries.closed.push_back(Closed {
                bytes: process.memory_bytes(),
                process,
                _early: early.clone().drop_guard(),
            });
            let mut bytes: usize = entries.closed.iter().map(|closed| closed.bytes).sum();
            while bytes > self.config.closed_output_bytes
                && let Some(oldest) = entries.closed.pop_front()
            {
                bytes -= oldest.bytes;
                entries.forget(&oldest.process);
                evicted.push(oldest);
            }
        }
        drop(evicted);
        tokio::select! {
            () = tokio::time::sleep(self.closed_retention()) => {}
            () = self.over.cancelled() => {}
            () = early.cancelled() => return,
        }
        let Some(process) = record.upgrade() else {
            return;
        };
        let mut entries = self.entries();
        entries
            .closed
            .retain(|closed| !Arc::ptr_eq(&closed.process, &process));
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
