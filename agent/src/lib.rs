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
//! - [`session`] owns connections, sessions that outlive them, and the dispatch of methods.
//! - `process` runs programs, in a `child` each; nothing else in the crate does.
//! - [`sandbox`] confines programs and file requests as clients ask for.
//! - [`listener`] takes connections of this machine: websocket and standard input and output.
//! - `fs` reads, writes, lists and watches files; `config_layers` and `capabilities` look at the files
//!   that configure Codex.
//! - `network` is the proxy through which a command reaches what it may reach.
//! - [`http`] performs HTTP requests for clients.
//! - [`cli`], [`config`] and [`credential`] say what to do; everything is checked before anything
//!   is bound or dialed, and credentials are out of the environment before anything else runs.
//! - `forward` hands streams to another executor instead of serving them.
//! - [`doctor`] says what would work and what not.
//! - [`supervisor`] keeps the executor attached to its environment in remote mode.
//! - [`program`] puts the parts together.
//! - [`events`] is the log, and moves the numbers of `metrics`; [`status`] is what the admin listener shows.
//! - [`shutdown`] turns signals into a graceful end; [`first_process`] is for containers.
//! - [`environment`] is what the executor says about itself and what children inherit.
//!
//! Losing a connection ends no process. Only the session's time to live, `process/terminate` or
//! shutdown does.

mod capabilities;
mod child;
pub mod cli;
pub mod config;
mod config_layers;
pub mod credential;
pub mod doctor;
pub mod environment;
pub mod events;
pub mod first_process;
mod forward;
mod fs;
pub mod http;
pub mod limits;
pub mod listener;
mod memory;
mod metrics;
mod network;
mod process;
pub mod program;
mod random;
mod relay;
pub mod rpc;
pub mod sandbox;
pub mod serve;
pub mod session;
pub mod shutdown;
pub mod status;
pub mod supervisor;
mod tcp;
