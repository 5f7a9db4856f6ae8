//! The executor: dials out, serves sessions of process, filesystem and HTTP calls.
//!
//! ```text
//!   websocket listener   stdio   relay stream
//!            \             |        /
//!             rpc::Transport (whole JSON messages, both ways)
//!                          |
//!             session::Sessions::serve      one call per connection
//!              |        |        |
//!           process    fs      http         per session / per connection state
//! ```
//!
//! - [`rpc`] is the seam between transports and sessions.
//! - `session` owns connections, sessions that outlive them, and the dispatch of methods.
//! - `process` runs programs; nothing else in the crate spawns any.
//! - [`environment`] is what the executor says about itself and what children inherit.
//!
//! Losing a connection ends no process. Only the session's time to live, `process/terminate` or
//! shutdown does.

pub mod environment;
pub mod rpc;
