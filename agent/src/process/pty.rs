//! Pseudo-terminals. Everything the rest of the crate knows about them is [`Terminal::open`].

use std::os::fd::OwnedFd;

use rustix::pty::{OpenptFlags, grantpt, ioctl_tiocgptpeer, openpt, unlockpt};
use rustix::termios::{Winsize, tcsetwinsize};

/// Rows and columns of every terminal. The protocol has no method to change them.
const SIZE: Winsize = Winsize {
    ws_row: 24,
    ws_col: 80,
    ws_xpixel: 0,
    ws_ypixel: 0,
};

/// Both ends of a new terminal, with the kernel's default modes.
#[derive(Debug)]
pub(super) struct Terminal {
    /// The executor's end.
    pub(super) master: OwnedFd,
    /// The program's end.
    pub(super) slave: OwnedFd,
}

impl Terminal {
    /// Opens a terminal. Neither end is inherited by any child as it is.
    pub(super) fn open() -> std::io::Result<Self> {
        let flags = OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC;
        let master = openpt(flags)?;
        grantpt(&master)?;
        unlockpt(&master)?;
        // Through the master, not by name: the name may mean another terminal in this namespace.
        let slave = ioctl_tiocgptpeer(&master, flags)?;
        tcsetwinsize(&master, SIZE)?;
        Ok(Self { master, slave })
    }
}
