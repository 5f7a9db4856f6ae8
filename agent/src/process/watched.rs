//! Descriptors that the runtime watches for readiness.

use std::io;
use std::os::fd::OwnedFd;

use tokio::io::Interest;
use tokio::io::unix::AsyncFd;

/// A descriptor of ours, watched until it is dropped.
pub(super) type WatchedFd = AsyncFd<OwnedFd>;

/// Watches `fd`. Must be called inside the runtime.
///
/// # Errors
///
/// The error and the descriptor, if the system refuses to watch it.
#[expect(
    unsafe_code,
    reason = "the safe constructors are deprecated as unsound for foreign types"
)]
pub(super) fn watch(fd: OwnedFd, interest: Interest) -> Result<WatchedFd, (OwnedFd, io::Error)> {
    // JUSTIFICATION: the constructor trusts the type to keep naming one open descriptor.
    // SAFETY: an owned descriptor stays open and the same until it is dropped, and the watcher,
    // which owns it, deregisters it first. Nothing here replaces it through a mutable reference.
    unsafe { AsyncFd::register_with_interest(fd, interest) }
        .map_err(tokio::io::unix::AsyncFdRegisterError::into_parts)
}
