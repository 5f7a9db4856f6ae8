//! Client library for remote executors.
//!
//! ```text
//!  Client (stable)  --jobs-->  session task  --JSON messages-->  Transport (one connection)
//!    start, filesystem, http       |  requests, routes              registry + rendezvous + Noise,
//!                                  |  recovery                      or a plain websocket
//!                                  +-- Dial makes the next Transport when one is lost
//! ```
//!
//! A [`Client`] is one session with one executor. Connections come and go beneath it:
//!
//! - **Processes** live on. Their events are read back and continue without hole or duplicate; what
//!   the executor had to evict meanwhile is reported as [`Error::OutputLost`].
//! - **Requests that do no harm when repeated** (reads, metadata, writes to a process, starts,
//!   signals) are repeated.
//! - **Other requests** that had no answer yet fail with [`Error::OutcomeUnknown`].
//!   So does a start that had no answer for so long that the executor may have forgotten it, or that
//!   an executor of release 0.169 never finishes because it lost the connection within it.
//! - **Open files, response bodies and TCP streams** belong to the connection. [`FileReader`]
//!   continues by itself, the others fail with [`Error::ConnectionLost`].
//! - **The executor's key** is pinned: when another executor answers, the session is over.
//!
//! A session that cannot be had back within the budget ends with [`Error::SessionLost`]; connect
//! anew for another one.
//!
//! With the feature `otlp` (default) a request takes the context of the current `tracing` span along,
//! given that the program exports spans through `tracing-opentelemetry` of the same version.
//!
//! Not here: what runs on the executor, and any policy about what may run.

#![forbid(unsafe_code)]

mod client;
mod connect;
mod engine;
mod error;
mod filesystem;
pub mod forward;
mod generation;
mod http;
pub mod limits;
mod network;
mod order;
mod process;
pub mod proxy;
mod queue;
mod tcp;
mod transport;

pub use client::{Bulk, Client, ClientConfig, RecoveryConfig};
pub use connect::{ConnectOptions, direct};
pub use error::Error;
pub use filesystem::{
    Complete, Copied, CopyEvent, Existing, FileReader, FileWriter, Filesystem, FsCall, FsOutcome,
    Missing, MissingWatch, OnError, Recursion, download, upload,
};
pub use http::{HttpRequest, HttpResponse};
pub use network::{Network, NetworkDecider, NetworkDecision, NetworkProtocol, NetworkRequest};
pub use process::{
    Command, ExitStatus, Output, OutputStream, Overflow, Process, ProcessControl, ProcessEvent,
    Stdin, TtySize,
};
pub use tcp::{TcpReader, TcpStream, TcpWriter};
pub use transport::{Dial, DialFuture, Transport};

pub use exec_proto::{
    PathUri,
    process::{EnvInherit, GroupSignal as Signal, ListedProcess, ProcessState},
};
// What the options for connecting are made of, so that a program needs no other crate of ours.
pub use registry_client::{
    Connector, ConnectorConfig, Credential, CredentialSource, FileBearer, RegistryUrl, StaticBearer,
};
pub use relay_proto::ids::EnvironmentId;
/// Ends [`forward::serve`] and [`proxy::serve`].
#[doc(inline)]
pub use tokio_util::sync::CancellationToken;
