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

/// The limit of memory images that the executor was started with; set if it was lowered.
static INHERITED_CORE: OnceLock<Rlimit> = OnceLock::new();

/// Leaves no memory image of this process behind, which would have its keys in it. For the program
/// itself, as [`raise_limit`].
///
/// # Errors
///
/// If the system refuses; the limit is then what it was.
pub(crate) fn forbid_memory_image() -> io::Result<()> {
    let inherited = getrlimit(Resource::Core);
    let none = Rlimit {
        current: Some(0),
        ..inherited
    };
    setrlimit(Resource::Core, none)?;
    let _ = INHERITED_CORE.set(inherited);
    Ok(())
}

/// What a child's limit of memory images is set to; `None` if it need not be set.
pub(crate) fn inherited_core_limit() -> Option<Rlimit> {
    INHERITED_CORE.get().copied()
}

/// What a child's limit is set to; `None` if it need not be set.
pub(crate) fn inherited_limit() -> Option<Rlimit> {
    INHERITED.get().copied()
}
