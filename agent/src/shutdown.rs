//! Signals that end the executor.
//!
//! SIGTERM, SIGINT, SIGHUP and SIGQUIT all mean the same. The first one asks for a graceful end, the
//! second one ends everything at once, the third one does not even wait for that. The exit code is 0.

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

/// What the program was told. Clones share it.
#[derive(Debug, Clone, Default)]
pub struct Stop {
    /// To end gracefully: what runs may come to its end.
    pub gracefully: CancellationToken,
    /// To end now: what runs is killed, peers are told.
    pub now: CancellationToken,
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

    /// Runs `work` to its end, or until the third signal; the first two go to `stop`.
    pub async fn guard<F: Future>(mut self, stop: &Stop, work: F) -> Option<F::Output> {
        tokio::pin!(work);
        loop {
            tokio::select! {
                output = &mut work => return Some(output),
                name = self.next() => {
                    events::stopping(name);
                    if stop.now.is_cancelled() {
                        return None;
                    }
                    if stop.gracefully.is_cancelled() {
                        stop.now.cancel();
                    }
                    stop.gracefully.cancel();
                }
            }
        }
    }
}
