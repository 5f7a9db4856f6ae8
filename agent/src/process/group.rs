//! A process group, its leader's end, and the one rule about process numbers: a number is only
//! signalled while its leader has not been reaped, because only then it cannot belong to another.

use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::{Mutex, OnceLock, PoisonError};
use std::time::{Duration, Instant};

use rustix::process::{
    Pid, Signal, WaitId, WaitIdOptions, WaitIdStatus, kill_process, kill_process_group, waitid,
};

use tokio::io::Interest;

use super::watched::{WatchedFd, watch};
use crate::sandbox::{self, Told};

/// Exit code when the kernel tells neither a status nor a signal.
const UNKNOWN_EXIT_CODE: i32 = -1;

/// How often a leader that is to end on its own is looked at.
const END_POLL: Duration = Duration::from_millis(5);

/// A session leader of ours.
#[derive(Debug, Clone, Copy)]
pub(super) struct Leader {
    pub(super) pid: Pid,
    pub(super) kind: LeaderKind,
}

/// What a leader is to the client's program.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum LeaderKind {
    /// It is the program.
    Program,
    /// It is the program, and confined.
    Confined,
    /// It is the first process of a sandbox, which passes signals on to the program's group.
    Sandbox,
}

impl From<Pid> for Leader {
    fn from(pid: Pid) -> Self {
        Self {
            pid,
            kind: LeaderKind::Program,
        }
    }
}

impl Leader {
    /// Signals the program's group. The leader must not have been reaped.
    pub(super) fn signal(self, signal: Signal) {
        // Fails only when no member is left to receive it.
        let _ = match self.kind {
            LeaderKind::Program | LeaderKind::Confined => kill_process_group(self.pid, signal),
            LeaderKind::Sandbox => kill_process(self.pid, sandbox::relayed(signal)),
        };
    }
}

/// A session leader of ours and the group it leads.
#[derive(Debug)]
pub(super) struct ProcessGroup {
    /// `None` once reaped.
    leader: Mutex<Option<Pid>>,
    kind: LeaderKind,
    exit_code: OnceLock<i32>,
}

/// Tells when a leader ends. Apart from the group, because a closed record keeps the group, and
/// thousands of records must not keep descriptors.
#[derive(Debug)]
pub(super) struct ExitWatch {
    pidfd: WatchedFd,
    /// Where the program's sandbox tells of refusals and the end.
    notices: Option<WatchedFd>,
    told: Mutex<Told>,
}

impl ProcessGroup {
    /// Takes over a child that leads its own group. Must be called inside the runtime.
    ///
    /// # Errors
    ///
    /// If the descriptor cannot be watched; the child has been killed then.
    pub(super) fn new(leader: impl Into<Leader>, pidfd: OwnedFd) -> io::Result<(Self, ExitWatch)> {
        let leader = leader.into();
        match watch(pidfd, Interest::READABLE) {
            Ok(pidfd) => {
                let group = Self {
                    leader: Mutex::new(Some(leader.pid)),
                    kind: leader.kind,
                    exit_code: OnceLock::new(),
                };
                let exit = ExitWatch {
                    pidfd,
                    notices: None,
                    told: Mutex::default(),
                };
                Ok((group, exit))
            }
            Err((pidfd, err)) => {
                leader.signal(Signal::KILL);
                let _ = waitid(WaitId::PidFd(pidfd.as_fd()), WaitIdOptions::EXITED);
                Err(err)
            }
        }
    }

    /// Whether the program is confined.
    pub(super) fn is_confined(&self) -> bool {
        self.kind != LeaderKind::Program
    }

    /// The exit code, if the leader has ended: the status, or 128 plus the signal.
    pub(super) fn exit_code(&self) -> Option<i32> {
        if let Some(code) = self.exit_code.get() {
            return Some(*code);
        }
        let leader = self.leader.lock().unwrap_or_else(PoisonError::into_inner);
        let options = WaitIdOptions::EXITED | WaitIdOptions::NOHANG | WaitIdOptions::NOWAIT;
        let code = match waitid(WaitId::Pid((*leader)?), options) {
            Ok(None) | Err(rustix::io::Errno::INTR) => return None,
            Ok(Some(status)) => code_of(&status),
            Err(_) => UNKNOWN_EXIT_CODE,
        };
        Some(*self.exit_code.get_or_init(|| code))
    }

    /// Signals every process of the group. Does nothing after the leader was reaped.
    pub(super) fn signal(&self, signal: Signal) {
        let leader = self.leader.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(pid) = *leader {
            let kind = self.kind;
            Leader { pid, kind }.signal(signal);
        }
    }

    /// Waits for the leader's end, and kills the group if it does not come in time. Blocks.
    pub(super) fn end_within(&self, patience: Duration) {
        let deadline = Instant::now() + patience;
        while self.exit_code().is_none() && Instant::now() < deadline {
            std::thread::sleep(END_POLL);
        }
        // Dropping the group kills and reaps what is left.
    }

    /// Frees the leader's number, if the leader has ended: the first process of a sandbox may go on
    /// after its program.
    pub(super) fn reap(&self) {
        let mut leader = self.leader.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(pid) = *leader {
            let options = WaitIdOptions::EXITED | WaitIdOptions::NOHANG;
            if !matches!(waitid(WaitId::Pid(pid), options), Ok(None)) {
                *leader = None;
            }
        }
    }
}

impl Drop for ProcessGroup {
    /// Ends a group that nobody waits for any more: a finished capture, or the runtime's end.
    fn drop(&mut self) {
        self.signal(Signal::KILL);
        let leader = self
            .leader
            .get_mut()
            .unwrap_or_else(PoisonError::into_inner);
        if let Some(leader) = leader.take() {
            // SIGKILL was sent, so this wait is short; without it a zombie would stay.
            let _ = waitid(WaitId::Pid(leader), WaitIdOptions::EXITED);
        }
    }
}

impl ExitWatch {
    /// With the pipe of the program's sandbox, if there is one. Must be called inside the runtime.
    pub(super) fn with_notices(self, notices: Option<OwnedFd>) -> io::Result<Self> {
        let notices = notices.map(|pipe| watch(pipe, Interest::READABLE));
        Ok(Self {
            notices: notices.transpose().map_err(|(_, err)| err)?,
            ..self
        })
    }

    /// Whether the kernel has refused something to the program because of its sandbox.
    pub(super) fn has_notice(&self) -> bool {
        let mut told = self.told.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(pipe) = &self.notices {
            let _ = told.read(pipe.get_ref());
        }
        told.refused
    }

    /// Waits for the program's end and returns its exit code. The leader stays until
    /// [`ProcessGroup::reap`].
    pub(super) async fn wait(&self, group: &ProcessGroup) -> i32 {
        loop {
            if let Some(code) = group.exit_code() {
                return code;
            }
            tokio::select! {
                ended = self.pidfd.readable() => {
                    // An error means the reactor is gone, and then nobody waits for the answer.
                    let Ok(mut ready) = ended else {
                        return UNKNOWN_EXIT_CODE;
                    };
                    if group.exit_code().is_none() {
                        ready.clear_ready();
                    }
                }
                code = self.told_code() => return *group.exit_code.get_or_init(|| code),
            }
        }
    }

    /// Waits until the sandbox tells how the program has ended, if it ever does.
    async fn told_code(&self) -> i32 {
        let Some(pipe) = &self.notices else {
            return std::future::pending().await;
        };
        loop {
            let Ok(mut ready) = pipe.readable().await else {
                return std::future::pending().await;
            };
            let read = {
                let mut told = self.told.lock().unwrap_or_else(PoisonError::into_inner);
                let read = ready.try_io(|pipe| told.read(pipe.get_ref()));
                if let Some(code) = told.code {
                    return code;
                }
                read
            };
            if read.is_ok() {
                // The end of the pipe, or a broken one: only the process itself can tell.
                return std::future::pending().await;
            }
        }
    }

    /// Waits until the leader itself has ended, which may be after the program.
    pub(super) async fn leader_ended(&self) {
        // Readable once and for all. An error means the reactor is gone.
        let _ = self.pidfd.readable().await;
    }
}

fn code_of(status: &WaitIdStatus) -> i32 {
    match (status.exit_status(), status.terminating_signal()) {
        (Some(code), _) => code,
        (None, Some(signal)) => 128 + signal,
        (None, None) => UNKNOWN_EXIT_CODE,
    }
}
