//! What the long-running programs offer whoever operates them.
//!
//! | module | idea |
//! |---|---|
//! | [`admin`] | an HTTP listener on loopback: alive, ready, metrics, status |
//! | [`notify`] | words for systemd: ready, stopping, still alive |
//! | [`state`] | what a program is doing, since when and why |
//!
//! Not responsible for what the numbers mean: the programs count for themselves.

#![forbid(unsafe_code)]

pub mod admin;
pub mod notify;
pub mod state;

#[doc(no_inline)]
pub use prometheus_client as prometheus;
