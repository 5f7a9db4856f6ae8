//! The local terminal: its size, and raw mode that never outlives this program.

use std::io::{IsTerminal, Stdin, stdin};

use harness::TtySize;
use rustix::termios::{OptionalActions, Termios, tcgetattr, tcgetwinsize, tcsetattr};

/// Raw mode: what is typed goes to the remote terminal as it is, Ctrl-C included.
///
/// Dropping it restores the terminal, on every way out: return, error, panic. The signals that
/// would end the program are handled by `run`, so they lead here too.
pub(crate) struct RawMode {
    terminal: Stdin,
    before: Termios,
}

impl RawMode {
    /// Switches standard input to raw mode; `None` when it is not a terminal.
    pub(crate) fn enter() -> Option<Self> {
        let terminal = stdin();
        if !terminal.is_terminal() {
            return None;
        }
        let before = tcgetattr(&terminal).ok()?;
        let mut raw = before.clone();
        raw.make_raw();
        tcsetattr(&terminal, OptionalActions::Drain, &raw).ok()?;
        Some(Self { terminal, before })
    }
}

impl Drop for RawMode {
    fn drop(&mut self) {
        // Drain rather than flush: what was typed ahead belongs to the local shell.
        let _ = tcsetattr(&self.terminal, OptionalActions::Drain, &self.before);
    }
}

/// The size of the terminal on standard output or input.
pub(crate) fn size() -> Option<TtySize> {
    let size = tcgetwinsize(std::io::stdout())
        .or_else(|_| tcgetwinsize(stdin()))
        .ok()?;
    // A terminal that was never told its size says 0 x 0.
    (size.ws_row > 0 && size.ws_col > 0).then_some(TtySize {
        rows: size.ws_row,
        columns: size.ws_col,
    })
}
