//! Sessions, the connections that drive them, and the dispatch of methods.
//!
//! ```text
//! Transport --serve--> Connection --dispatch--> process table of its session
//!                          |                    fs, http (state of the connection)
//!                          v
//!                      Session  <--resume-- another connection, later
//! ```
//!
//! A session owns processes. A connection owns what ends with it: file handles, streams, the watch
//! and requests in flight. A session whose connection ended is kept for a while, then every process
//! group in it is killed; `session/close` does the same at once. When the executor is told to end,
//! `drain` lets what runs come to an end first.

mod attachment;
mod call;
mod connection;
mod dispatch;
mod drain;
mod in_flight;
mod lanes;
mod place;
mod registry;

pub(crate) use attachment::Attachment;
pub(crate) use drain::Ending;
pub(crate) use registry::OUTPUT_DISK_BYTES;
pub use registry::{OUTPUT_BYTES_MAX, OUTPUT_BYTES_MIN, Sessions, SessionsConfig};

#[cfg(test)]
mod tests;
