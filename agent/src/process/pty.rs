//! Pseudo-terminals: opening one, and changing its size.

use std::num::NonZeroU16;
use std::os::fd::OwnedFd;

use exec_proto::process::TerminalOptions;
use rustix::pty::{OpenptFlags, grantpt, ioctl_tiocgptpeer, openpt, unlockpt};
use rustix::termios::{Winsize, tcsetwinsize};

/// How large a terminal is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Size {
    /// Lines.
    pub(super) rows: NonZeroU16,
    /// Characters in a line.
    pub(super) cols: NonZeroU16,
}

impl Size {
    /// The size that a start asks for.
    pub(super) fn of(options: &TerminalOptions) -> Self {
        Self {
            rows: options.rows,
            cols: options.cols,
        }
    }
}

impl Default for Size {
    /// The size of every terminal of the reference.
    fn default() -> Self {
        Self {
            rows: const { NonZeroU16::new(24).unwrap() },
            cols: const { NonZeroU16::new(80).unwrap() },
        }
    }
}

/// Sets the size. The kernel tells the foreground group when it has changed.
pub(super) fn resize(master: &OwnedFd, size: Size) -> std::io::Result<()> {
    let size = Winsize {
        ws_row: size.rows.get(),
        ws_col: size.cols.get(),
        ws_xpixel: 0,
        ws_ypixel: 0,
    };
    Ok(tcsetwinsize(master, size)?)
}

/// Both ends of a new terminal, with the kernel's default modes.
#[derive(Debug)]
pub(super) struct Terminal {
    /// The executor's end.
    pub(super) master: OwnedFd,
    /// The program's end.
    pub(super) slave: OwnedFd,
}

impl Terminal {
    /// Opens a terminal of that size. Neither end is inherited by any child as it is.
    pub(super) fn open(size: Size) -> std::io::Result<Self> {
        let flags = OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC;
        let master = openpt(flags)?;
        grantpt(&master)?;
        unlockpt(&master)?;
        // Through the master, not by name: the name may mean another terminal in this namespace.
        let slave = ioctl_tiocgptpeer(&master, flags)?;
        resize(&master, size)?;
        Ok(Self { master, slave })
    }
}
