//! JSON-RPC envelope, method types and path URIs of the executor protocol.
//!
//! Both ends use this crate: the agent decodes parameters and encodes results, the harness does the
//! opposite. It holds no sockets, no tasks and no state, only shapes, limits and texts.
//!
//! ```text
//! one message (bytes)
//!   --rpc::parse-->        Message::Request { id, method, params, trace }
//!   --Params::decode-->    process::StartParams, fs::ReadFileParams, ...
//!   <--rpc::encode_*--     result, error or notification
//! ```
//!
//! - [`rpc`] is the envelope: limits, error codes, encoding.
//! - [`path_uri`] and [`base64`] are the shared scalar types.
//! - one module per method family, each with `METHOD` constants and `...Params`/`...Result` types.
//!
//! Unknown members are ignored at every level. Errors never echo values, only types and names,
//! because values are user data.

#![forbid(unsafe_code)]

/// Implements `Debug` with the listed fields only, for types that carry payloads or secrets.
macro_rules! redacted_debug {
    ($type:ident { $($field:ident),* $(,)? }) => {
        impl std::fmt::Debug for $type {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.debug_struct(stringify!($type))
                    $(.field(stringify!($field), &self.$field))*
                    .finish_non_exhaustive()
            }
        }
    };
}

pub mod base64;
#[cfg(feature = "bench")]
#[allow(
    clippy::unwrap_used,
    clippy::missing_panics_doc,
    reason = "not part of the product"
)]
pub mod bench;
pub mod capabilities;
pub mod config;
pub mod environment;
pub mod fs;
pub mod http;
pub mod initialize;
pub mod network;
pub mod path_uri;
mod payload;
pub mod process;
pub mod rpc;
pub mod sandbox;
pub mod session;
pub mod tcp;

pub use path_uri::PathUri;
pub use rpc::RpcError;

/// The result of methods that answer with an empty object.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Empty {}
