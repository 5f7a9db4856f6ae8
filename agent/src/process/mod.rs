//! Programs: spawning, output, input, signals, and the record that stays after the end.
//!
//! ```text
//!                    spawn (own thread)
//!                      |
//!   stdout, stderr --> pump --> output_log (1 MiB, more on disk) --> process/read
//!   or a terminal       |  \--> events --> the attached connection, waiting for room
//!   stdin <-- stdin queue <-- process/write
//!   pidfd --> group: exit code, kill, reap
//! ```
//!
//! Each process leads its own session and group. Its leader is not reaped before the record is
//! closed, so that the group's number cannot be reused while something may still signal it: a
//! leftover background child can always be killed, and nothing else ever is.
//!
//! A process belongs to a session, not to a connection. While no connection is attached its output
//! goes to the log only; while one is attached but does not read, the pump waits, the pipe fills and
//! the program blocks. Signals, terminate and the exit code do not depend on the pump.

pub(crate) mod descriptors;
mod group;
mod lookup;
mod output_log;
mod pty;
mod pump;
mod snapshot;
mod spawn;
mod spill;
mod stdin;
mod table;
mod watched;

use std::convert::Infallible;
use std::io;
use std::os::fd::OwnedFd;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use exec_proto::RpcError;
use exec_proto::process::{ReadParams, ReadResult, StartParams, WriteParams, WriteStatus};
use rustix::process::Signal;
use tokio::sync::watch;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use group::ProcessGroup;
use output_log::{Limits, OutputLog};
use stdin::Stdin;

pub(crate) use descriptors::{forbid_memory_image, raise_limit as raise_descriptor_limit};
pub(crate) use lookup::find as find_program;
pub(crate) use spawn::{Confined, Spawner};
pub(crate) use spill::SpillSpace;
pub(crate) use table::{ProcessTable, Reservation, TableConfig};

/// Longest process id. It is repeated in every event.
pub(crate) const MAX_PROCESS_ID_BYTES: usize = 4096;

/// A started process, as seen by requests. The pump holds the other end.
#[derive(Debug)]
pub(crate) struct Process {
    id: String,
    facts: Facts,
    log: Mutex<OutputLog>,
    /// Where output goes that is not kept in memory.
    spill: Option<Arc<SpillSpace>>,
    /// Told after every change of the log.
    changed: watch::Sender<()>,
    group: ProcessGroup,
    stdin: Stdin,
    /// The executor's end of the terminal, to change its size. `None` without one, and after the
    /// close, because a terminal hangs up when its last descriptor is closed.
    terminal: Mutex<Option<OwnedFd>>,
    /// When a process that was asked to end is killed.
    kill_at: watch::Sender<Option<Instant>>,
    /// Cancelled by terminate: output is not read any further.
    stop: CancellationToken,
}

/// How much output is kept of each process.
#[derive(Debug, Clone)]
pub(crate) struct Retention {
    /// Counts where there is a place on disk.
    pub(crate) bytes: usize,
    /// Where output goes that is not kept in memory.
    pub(crate) spill: Option<Arc<SpillSpace>>,
}

/// What does not change about a process.
#[derive(Debug, Clone, Default)]
struct Facts {
    /// The beginning of `argv[0]`.
    program: String,
    tty: bool,
    /// Milliseconds since 1970 by the host's clock.
    started_at_ms: i64,
}

impl Facts {
    fn of(params: &StartParams) -> Self {
        let now = SystemTime::now().duration_since(UNIX_EPOCH);
        Self {
            program: table::program(&params.argv),
            tty: params.tty,
            // A clock before 1970 or after the end of time is as good as none.
            started_at_ms: now.map_or(0, |now| i64::try_from(now.as_millis()).unwrap_or(0)),
        }
    }
}

impl Process {
    fn new(
        id: String,
        facts: Facts,
        group: ProcessGroup,
        stdin: Stdin,
        terminal: Option<OwnedFd>,
        retention: &Retention,
    ) -> Self {
        let limits = match retention.spill {
            Some(_) => Limits::on_disk(retention.bytes),
            None => Limits::default(),
        };
        Self {
            id,
            facts,
            log: Mutex::new(OutputLog::new(limits)),
            spill: retention.spill.clone(),
            changed: watch::Sender::new(()),
            group,
            stdin,
            terminal: Mutex::new(terminal),
            kill_at: watch::Sender::new(None),
            stop: CancellationToken::new(),
        }
    }

    /// Waits, if asked to, until [`Self::read`] has something new to say.
    pub(crate) async fn readable(&self, params: &ReadParams) {
        let after = params.after_seq.unwrap_or(0);
        let wait = Duration::from_millis(params.wait_ms.unwrap_or(0));
        if wait.is_zero() {
            return;
        }
        let mut changed = self.changed.subscribe();
        let ready = async {
            while !self.log(|log| log.is_ready(after)) {
                if changed.changed().await.is_err() {
                    break;
                }
            }
        };
        // Running out of time is an answer like any other.
        let _ = tokio::time::timeout(wait, ready).await;
    }

    /// `process/read`: what is retained after a number.
    pub(crate) async fn read(&self, params: &ReadParams) -> Result<ReadResult, RpcError> {
        let reading = self.log(|log| log.read(params.after_seq.unwrap_or(0), params.max_bytes));
        let result = if reading.is_on_disk() {
            tokio::task::spawn_blocking(move || reading.finish())
                .await
                .unwrap_or_else(|error| Err(io::Error::other(error)))
        } else {
            reading.finish()
        };
        result.map_err(|error| {
            tracing::warn!(%error, "output cannot be read back from disk");
            RpcError::internal("the retained output cannot be read back from disk")
        })
    }

    /// Bytes of output that an answer to this may hold.
    pub(crate) fn readable_bytes(&self, params: &ReadParams) -> usize {
        let most = params
            .max_bytes
            .map_or(usize::MAX, |max| usize::try_from(max).unwrap_or(usize::MAX));
        self.log(|log| log.retained_bytes()).min(most)
    }

    /// Moves output to disk that is too much for the memory. A slow disk slows the program down.
    async fn spill(&self) {
        let Some(space) = &self.spill else {
            return;
        };
        while let Some(batch) = self.log(|log| log.spill_due()) {
            let space = Arc::clone(space);
            let written = tokio::task::spawn_blocking(move || space.write(&batch)).await;
            let mut log = self.log.lock().unwrap_or_else(PoisonError::into_inner);
            match written {
                Ok(Some(segment)) => log.spilled(segment),
                Ok(None) | Err(_) => log.make_room(),
            }
        }
    }

    /// `process/write`: queues bytes for standard input, once per write id.
    pub(crate) async fn write(&self, params: WriteParams) -> Result<WriteStatus, RpcError> {
        self.stdin.write(params.chunk, params.write_id).await
    }

    /// `process/closeStdin`: ends standard input after the writes accepted so far.
    pub(crate) async fn close_stdin(&self) -> Result<(), RpcError> {
        self.stdin.close().await
    }

    /// Sends SIGINT to the group; does nothing after the exit.
    pub(crate) fn interrupt(&self) {
        if !self.has_exited() {
            self.group.signal(Signal::INT);
        }
    }

    /// Sends a signal to the group, also to what is left of it after the exit of the main process.
    /// Returns whether the main process was still running.
    pub(crate) fn signal(&self, signal: Signal) -> bool {
        let was_running = !self.has_exited();
        self.group.signal(signal);
        was_running
    }

    /// Changes the size of the terminal; does nothing when it is gone.
    fn resize(&self, size: pty::Size) -> io::Result<()> {
        let terminal = self.terminal.lock().unwrap_or_else(PoisonError::into_inner);
        terminal
            .as_ref()
            .map_or(Ok(()), |terminal| pty::resize(terminal, size))
    }

    /// Gives up the terminal, so that it hangs up when the pump has closed its own descriptors.
    fn release_terminal(&self) {
        drop(
            self.terminal
                .lock()
                .unwrap_or_else(PoisonError::into_inner)
                .take(),
        );
    }

    /// Asks the group to end, and kills it after `grace`. Zero kills at once; the earliest of
    /// several deadlines counts. Returns whether the main process was still running.
    pub(crate) fn terminate_after(&self, grace: Duration) -> bool {
        if grace.is_zero() {
            return self.terminate();
        }
        let deadline = Instant::now() + grace;
        self.kill_at.send_if_modified(|kill_at| {
            let earlier = kill_at.is_none_or(|before| deadline < before);
            if earlier {
                *kill_at = Some(deadline);
            }
            earlier
        });
        let was_running = self.signal(Signal::TERM);
        // A stopped program could not act upon it.
        self.group.signal(Signal::CONT);
        was_running
    }

    /// Kills the process when its grace period is over. To be run beside its pump.
    async fn kill_in_time(&self) -> Infallible {
        let mut kill_at = self.kill_at.subscribe();
        loop {
            let deadline = *kill_at.borrow_and_update();
            tokio::select! {
                () = tokio::time::sleep_until(deadline.unwrap_or_else(Instant::now)),
                    if deadline.is_some() => break,
                // The sender is in `self`.
                _ = kill_at.changed() => {}
            }
        }
        self.terminate();
        std::future::pending().await
    }

    /// Kills the group and stops reading. Returns whether the main process was still running.
    ///
    /// After the exit this ends what the process left behind in its group, which the reference
    /// cannot do.
    pub(crate) fn terminate(&self) -> bool {
        let was_running = !self.has_exited();
        self.stdin.terminate();
        self.group.signal(Signal::KILL);
        self.stop.cancel();
        was_running
    }

    /// Whether somebody may be looking at its output as it comes.
    fn is_interactive(&self) -> bool {
        self.facts.tty
    }

    fn has_exited(&self) -> bool {
        self.group.exit_code().is_some()
    }

    fn is_closed(&self) -> bool {
        self.log(|log| log.is_closed())
    }

    /// Bytes of output in memory.
    fn memory_bytes(&self) -> usize {
        self.log(OutputLog::memory_bytes)
    }

    fn log<T>(&self, look: impl FnOnce(&OutputLog) -> T) -> T {
        look(&self.log.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Changes the log and tells waiting readers.
    fn update<T>(&self, change: impl FnOnce(&mut OutputLog) -> T) -> T {
        let result = change(&mut self.log.lock().unwrap_or_else(PoisonError::into_inner));
        self.changed.send_replace(());
        result
    }
}
