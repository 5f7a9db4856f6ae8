//! Signals that end the executor in an orderly way.
//!
//! SIGTERM, SIGINT, SIGHUP and SIGQUIT all mean the same: tell the peers, end the processes, exit 0. A second
//! signal does not wait for that.

use std::io;

use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio_util::sync::CancellationToken;

use crate::events;

/// The signals, registered.
#[derive(Debug)]
pub struct Signals {
    terminate: Signal,
    interrupt: Signal,
    hangup: Signal,
    quit: Signal,
}

impl Signals {
    /// Takes over the signals. Must be called within a runtime.
    ///
    /// # Errors
    ///
    /// When the system refuses to register a handler.
    pub fn register() -> io::Result<Self> {
        Ok(Self {
            terminate: signal(SignalKind::terminate())?,
            interrupt: signal(SignalKind::interrupt())?,
            hangup: signal(SignalKind::hangup())?,
            quit: signal(SignalKind::quit())?,
        })
    }

    /// Waits for the next signal and names it.
    ///
    /// Cancel safe: a signal that arrives between two calls is seen by the second.
    pub async fn next(&mut self) -> &'static str {
        tokio::select! {
            _ = self.terminate.recv() => "SIGTERM",
            _ = self.interrupt.recv() => "SIGINT",
            _ = self.hangup.recv() => "SIGHUP",
            _ = self.quit.recv() => "SIGQUIT",
        }
    }

    /// Runs `work` and cancels `cancel` at the first signal; at the second one, stops waiting.
    pub async fn guard<F: Future>(
        mut self,
        cancel: &CancellationToken,
        work: F,
    ) -> Option<F::Output> {
        tokio::pin!(work);
        for _ in 0..2 {
            tokio::select! {
                output = &mut work => return Some(output),
                name = self.next() => {
                    events::stopping(name);
                    cancel.cancel();
                }
            }
        }
        None
    }
}
