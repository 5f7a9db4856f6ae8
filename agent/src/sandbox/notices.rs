//! What the kernel refused to a confined program, as far as it tells.
//!
//! The filter of system calls hands some calls to a descriptor instead of refusing them itself. Init
//! of the sandbox has that descriptor. It writes one byte into a pipe, of which the executor has the
//! other end, and refuses the call; the caller waits meanwhile, so the byte is there before the program
//! can end. The arguments are never looked at: they may change while one looks, and nothing is decided.
//!
//! Refused files are not among it. A file system that is mounted read-only answers before any part of
//! the kernel that would tell, and Landlock tells the superuser alone.

use std::os::fd::{AsFd, OwnedFd};

use super::sys;

/// Init's side.
#[derive(Debug)]
pub(super) struct Notices {
    /// Where calls wait.
    pub(super) listener: OwnedFd,
    /// The executor has the other end.
    pub(super) pipe: OwnedFd,
}

impl Notices {
    /// Tells of a call that waits, and refuses it.
    pub(super) fn take(&self) {
        sys::refuse(&self.listener, || {
            // It does not matter how many there are, so a full pipe is as good.
            let _ = rustix::io::write(&self.pipe, b"n");
        });
    }
}

/// Whether there was any notice so far. The executor's side, which must not block.
pub(crate) fn any(pipe: impl AsFd) -> bool {
    matches!(rustix::io::read(pipe, &mut [0; 1]), Ok(1))
}
