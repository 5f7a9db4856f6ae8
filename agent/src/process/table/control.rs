//! Signals, terminal sizes and ends, for processes that run and for those that do not run yet.
//!
//! Nothing here waits, so that the reader of a connection can do it itself, in the order in which the
//! client asked. What comes before the program runs is kept and delivered when it does.

use std::time::Duration;

use exec_proto::RpcError;
use exec_proto::process::{
    GroupSignal, MAX_GRACE_MS, ResizeParams, Signal, SignalGroupParams, TerminateParams,
};
use rustix::process::Signal as NativeSignal;

use super::{Entry, ProcessTable};
use crate::process::Process;
use crate::process::pty::Size;

/// What arrived for a process before it ran.
#[derive(Debug, Default)]
pub(super) struct Overtaken {
    /// Each at most once, in the order in which they came first.
    signals: Vec<NativeSignal>,
    size: Option<Size>,
    /// How long to wait between asking and killing.
    terminate: Option<Duration>,
}

impl Overtaken {
    fn signal(&mut self, signal: NativeSignal) {
        if !self.signals.contains(&signal) {
            self.signals.push(signal);
        }
    }

    /// The shortest time wins, as it does for a running process.
    pub(super) fn terminate(&mut self, grace: Duration) {
        let shortest = self.terminate.map_or(grace, |before| before.min(grace));
        self.terminate = Some(shortest);
    }

    pub(super) fn deliver(self, process: &Process) {
        if let Some(size) = self.size {
            // The terminal was opened just now; if it refuses, nobody waits for the answer any more.
            let _ = process.resize(size);
        }
        for signal in self.signals {
            process.signal(signal);
        }
        if let Some(grace) = self.terminate {
            process.terminate_after(grace);
        }
    }
}

impl ProcessTable {
    /// `process/signal`.
    pub(crate) fn signal(&self, id: &str, signal: Signal) {
        let Signal::Interrupt = signal;
        match self.entries().by_id.get_mut(id) {
            Some(Entry::Started(process)) => process.interrupt(),
            Some(Entry::Starting(_, overtaken)) => overtaken.signal(NativeSignal::INT),
            None => {}
        }
    }

    /// `process/signalGroup`: whether the main process had not exited.
    pub(crate) fn signal_group(&self, params: &SignalGroupParams) -> bool {
        let signal = native(params.signal);
        match self.entries().by_id.get_mut(&params.process_id) {
            Some(Entry::Started(process)) => process.signal(signal),
            Some(Entry::Starting(_, overtaken)) => {
                overtaken.signal(signal);
                true
            }
            None => false,
        }
    }

    /// `process/terminate`: whether there was something to kill.
    pub(crate) fn terminate(&self, params: &TerminateParams) -> Result<bool, RpcError> {
        let grace_ms = params.grace_ms.unwrap_or(0);
        if grace_ms > MAX_GRACE_MS {
            return Err(RpcError::invalid_params(format!(
                "graceMs must be at most {MAX_GRACE_MS}"
            )));
        }
        let grace = Duration::from_millis(grace_ms);
        Ok(match self.entries().by_id.get_mut(&params.process_id) {
            Some(Entry::Started(process)) => process.terminate_after(grace),
            Some(Entry::Starting(_, overtaken)) => {
                overtaken.terminate(grace);
                true
            }
            None => false,
        })
    }

    /// `process/resize`.
    pub(crate) fn resize(&self, params: &ResizeParams) -> Result<(), RpcError> {
        let id = &params.process_id;
        let size = Size {
            rows: params.rows,
            cols: params.cols,
        };
        let no_terminal = || RpcError::invalid_params(format!("process {id} has no terminal"));
        match self.entries().by_id.get_mut(id) {
            Some(Entry::Started(process)) if process.facts.tty => process
                .resize(size)
                .map_err(|err| RpcError::internal(err.to_string())),
            Some(Entry::Starting(facts, overtaken)) if facts.tty => {
                overtaken.size = Some(size);
                Ok(())
            }
            Some(_) => Err(no_terminal()),
            None => Err(RpcError::invalid_request(format!(
                "unknown process id {id}"
            ))),
        }
    }
}

fn native(signal: GroupSignal) -> NativeSignal {
    match signal {
        GroupSignal::Hup => NativeSignal::HUP,
        GroupSignal::Int => NativeSignal::INT,
        GroupSignal::Quit => NativeSignal::QUIT,
        GroupSignal::Kill => NativeSignal::KILL,
        GroupSignal::Usr1 => NativeSignal::USR1,
        GroupSignal::Usr2 => NativeSignal::USR2,
        GroupSignal::Term => NativeSignal::TERM,
        GroupSignal::Cont => NativeSignal::CONT,
        GroupSignal::Stop => NativeSignal::STOP,
        GroupSignal::Tstp => NativeSignal::TSTP,
        GroupSignal::Winch => NativeSignal::WINCH,
    }
}
