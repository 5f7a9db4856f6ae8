//! Self-hosted environment registry and rendezvous in one process: the library of `exec-cloud`.
//!
//! The registry is HTTP: executors register, harnesses ask for connect bundles, executors have
//! harness keys validated. The rendezvous is websockets: it forwards relay frames between an
//! environment's executor and its harnesses by stream id. It links neither keys nor ciphers, so
//! that it cannot read what it forwards is a fact of the build.
//!
//! ```text
//!   TCP, TLS        listener      one task per connection, tracked
//!   HTTP/1.1        http          paths, errors, registry calls, websocket upgrade
//!   operators       overview, metrics    what the admin listener shows
//!   commands        control       the control socket: drain, take over
//!   credentials     auth, store   SQLite: tokens, registrations, authorizations
//!   identities      oidc          tokens of an identity provider, its keys, rules for roles
//!   signed URLs     rendezvous::url
//!   sockets         rendezvous::socket    reads, writes, keepalive of one websocket
//!   state, queues   rendezvous::hub       which socket belongs where, bounded queues
//!   decisions       rendezvous::routes    pure: claims, drops, resets
//! ```
//!
//! Run one in a test:
//!
//! ```no_run
//! # async fn example() -> Result<(), Box<dyn std::error::Error>> {
//! use server::{ServeConfig, Server};
//! use tokio_util::sync::CancellationToken;
//!
//! let server = Server::bind(ServeConfig::development("127.0.0.1:0".parse()?)).await?;
//! let registry_url = server.url().to_owned();
//! let shutdown = CancellationToken::new();
//! server.run(shutdown).await;
//! # Ok(())
//! # }
//! ```

#![forbid(unsafe_code)]

mod auth;
pub mod cli;
pub mod clock;
pub mod config;
mod control;
mod events;
mod http;
pub mod limits;
mod listener;
mod maintenance;
mod metrics;
mod oidc;
mod overview;
mod rendezvous;
mod secret;
mod service;
pub mod store;
mod tls;

pub use auth::{Access, Role};
pub use config::{ConfigError, DrainConfig, ServeConfig};
pub use listener::{Listen, Server, StartError};
pub use oidc::SourceConfigError;
pub use rendezvous::url::PublicUrl;
