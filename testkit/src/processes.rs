//! The programs under test as child processes.
//!
//! Each gets a home directory of its own, an environment from scratch, captured output, and dies
//! with its handle. Waiting is always for an event (a line, an exit) with a deadline, never for
//! time to pass. Every listener binds port 0 and tells its address, so tests run side by side.

mod binaries;
mod child;
mod cloud;
mod codex;
mod execctl;
mod executor;
mod log;

pub use binaries::{Binary, locate, podman};
pub use child::{Child, Finished, Launch};
pub use cloud::{Cloud, CloudOptions, ENVIRONMENT};
pub use codex::{Approval, CodexClient, CodexExecutor, CodexListener, Route, Turn};
pub use execctl::Execctl;
pub use executor::{Agent, Listener};
pub use log::Log;

use std::time::Duration;

/// How long a program may take to get ready, or to answer. Generous, because a loaded machine
/// with two cores runs everything at once; reaching it fails the test.
pub const DEADLINE: Duration = Duration::from_secs(40);
