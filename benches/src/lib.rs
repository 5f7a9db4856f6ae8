//! Whole scenes with real processes, timed: our executor, and the reference's beside it.
//!
//! Both executors serve the same harness through the same rendezvous, so a difference is the
//! executor's. Runs are interleaved, ours and theirs in turn, so that whatever else the machine does
//! hits both. A figure is taken over all samples of all rounds. Some scenes have `ssh` and the bare
//! machine beside them too.
//!
//! `cargo xtask bench` builds the programs with optimizations and starts this one.

mod executors;
mod machine;
mod page;
mod plot;
mod promise;
mod report;
pub mod scenes;
mod series;
mod ssh;
mod subject;
mod system;
mod usage;

pub use self::page::write as write_page;
pub use self::promise::Promise;
pub use self::report::Report;
pub use self::scenes::{SCENES, Scene};
pub use self::series::{Figures, Series, Unit};
pub use self::subject::Subject;
pub use self::system::System;
