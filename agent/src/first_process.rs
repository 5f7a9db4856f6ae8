//! Being process 1 of a container.
//!
//! Whatever loses its parent becomes a child of process 1, which has to collect it. The executor
//! cannot: it keeps its own children uncollected until their records are closed, and whoever collects
//! whatever ends would take those. So process 1 starts the program again and does only this itself:
//!
//! ```text
//! process 1     passes signals on, collects whatever ends, ends as the executor ends
//!   executor    everything else
//! ```
//!
//! An executor that is not process 1 does none of this.

use std::{
    io,
    os::unix::process::CommandExt as _,
    process::{Command, ExitCode},
};

use rustix::process::{Pid, Signal, WaitOptions, WaitStatus, getpid, kill_process, wait};
use tokio::signal::unix::{SignalKind, signal};

use crate::credential;

/// Does what process 1 has to do, if this is process 1; otherwise, or if the environment still has to be
/// cleaned, returns `None` at once.
///
/// Must run before threads are started. The credential, if there is one, passes to the executor.
///
/// # Errors
///
/// When the executor cannot be started.
pub fn run_if_first() -> Option<io::Result<ExitCode>> {
    let is_first = getpid().as_raw_nonzero().get() == 1;
    // Cleaning starts this process again, and then it comes back here.
    (is_first && !credential::is_in_environment()).then(run)
}

fn run() -> io::Result<ExitCode> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    runtime.block_on(async {
        // Before the start, so that no signal and no end is missed.
        let mut ended = signal(SignalKind::child())?;
        let mut signals = Signals::register()?;
        let executor = start()?;
        // It has the credential now, and this process needs none.
        credential::disown();
        loop {
            if let Some(code) = collect(executor) {
                return Ok(ExitCode::from(code));
            }
            tokio::select! {
                _ = ended.recv() => {}
                signal = signals.next() => {
                    // Fails only when it has just ended.
                    let _ = kill_process(executor, signal);
                }
            }
        }
    })
}

/// Starts the program again, in a process group of its own: what a terminal sends to the group of
/// process 1 must arrive once.
fn start() -> io::Result<Pid> {
    let mut arguments = std::env::args_os();
    let mut command = Command::new("/proc/self/exe");
    if let Some(name) = arguments.next() {
        command.arg0(name);
    }
    let child = command.args(arguments).process_group(0).spawn()?;
    let pid = i32::try_from(child.id()).ok().and_then(Pid::from_raw);
    let pid = pid.ok_or_else(|| io::Error::other("process id out of range"))?;
    // With a terminal, the executor is the one that may read from it; if it has tried before it was,
    // it has been stopped.
    if rustix::termios::tcsetpgrp(rustix::stdio::stdin(), pid).is_ok() {
        let _ = kill_process(pid, Signal::CONT);
    }
    Ok(pid)
}

/// Collects everything that has ended. Returns the exit code of the executor if it is among that.
fn collect(executor: Pid) -> Option<u8> {
    while let Ok(Some((pid, status))) = wait(WaitOptions::NOHANG) {
        if pid == executor {
            return Some(code_of(status));
        }
    }
    None
}

fn code_of(status: WaitStatus) -> u8 {
    let code = status
        .exit_status()
        .or_else(|| status.terminating_signal().map(|signal| 128 + signal));
    code.and_then(|code| u8::try_from(code).ok())
        .unwrap_or(u8::MAX)
}

/// The signals that are passed on.
struct Signals {
    terminate: tokio::signal::unix::Signal,
    interrupt: tokio::signal::unix::Signal,
    hangup: tokio::signal::unix::Signal,
    quit: tokio::signal::unix::Signal,
}

impl Signals {
    fn register() -> io::Result<Self> {
        Ok(Self {
            terminate: signal(SignalKind::terminate())?,
            interrupt: signal(SignalKind::interrupt())?,
            hangup: signal(SignalKind::hangup())?,
            quit: signal(SignalKind::quit())?,
        })
    }

    async fn next(&mut self) -> Signal {
        tokio::select! {
            _ = self.terminate.recv() => Signal::TERM,
            _ = self.interrupt.recv() => Signal::INT,
            _ = self.hangup.recv() => Signal::HUP,
            _ = self.quit.recv() => Signal::QUIT,
        }
    }
}
