//! How the programs of this project are configured: flag over variable over file over default, the
//! same way for every setting of every program.
//!
//! | module | idea |
//! |---|---|
//! | [`schema`] | what can be set: one list for each program |
//! | [`layers`] | which source decides; every problem is collected |
//! | [`value`], [`period`] | texts to values |
//! | [`report`] | what `--print-config` shows |
//! | [`generate`] | help, completions, man pages and the reference, from the same list |
//!
//! Not responsible for what a setting means, nor for reading secrets: a program names a file or a
//! descriptor that holds one, and this crate carries the name.

#![forbid(unsafe_code)]

pub mod generate;
pub mod layers;
mod nearest;
pub mod period;
pub mod report;
pub mod schema;
pub mod value;

pub use clap_complete::Shell;
pub use generate::{Completions, Manual};
pub use layers::{Layers, Source};
pub use period::{Period, PeriodError};
pub use schema::{Kind, Program, Secret, Setting};
pub use value::{LocalAddress, Value};
