//! How many descriptors the executor may have open, which is not how many its children may.
//!
//! Each running program costs the executor two to four descriptors. The usual soft limit of 1024 is
//! there for programs that use `select`, and a few hundred programs would use it up: then files
//! cannot be opened and connections not accepted. So the executor raises its own soft limit to the
//! hard one, which is the operator's, and children start with the limit that it was started with.

use std::io;
use std::sync::OnceLock;

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

/// The limit that the executor was started with; set if it was raised.
static INHERITED: OnceLock<Rlimit> = OnceLock::new();

/// Raises the soft limit of this process. For the program itself: a library does not change the
/// process that it is part of.
///
/// # Errors
///
/// If the system refuses; the limit is then what it was.
pub(crate) fn raise_limit() -> io::Result<()> {
    let inherited = getrlimit(Resource::Nofile);
    setrlimit(
        Resource::Nofile,
        Rlimit {
            current: inherited.maximum,
            ..inherited
        },
    )?;
    // A second call finds the raised limit and keeps the first.
    let _ = INHERITED.set(inherited);
    Ok(())
}

/// What a child's limit is set to, between fork and exec; `None` if it need not be set.
pub(super) fn inherited_limit() -> Option<Rlimit> {
    INHERITED.get().copied()
}
