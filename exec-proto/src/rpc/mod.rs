//! The envelope: requests, notifications, responses and errors, one JSON object per message.
//!
//! The protocol is JSON-RPC without the `jsonrpc` member. A message is classified by its members:
//!
//! ```text
//! method and id         request        {"id", "method", "params"?, "trace"?}
//! method, no id         notification   {"method", "params"?}
//! no method, a result   response       {"id", "result"}
//! anything else         error          {"id", "error": {"code", "message"}}
//! ```
//!
//! Batches do not exist. Repeated keys at any depth, more than [`MAX_VALUES`] values and nesting
//! beyond [`MAX_DEPTH`] make a message unparsable; the answer to such a message has the id
//! [`UNPARSABLE_ID`].
//!
//! Between ends that have agreed on it, large payloads travel beside the JSON text instead of in it;
//! see [`bulk`]. What is decoded is the same either way, and so are the types.
//!
//! Parameters stay raw JSON until the method is known; [`Params::decode`] then gives the typed
//! value or the `-32602` error.

pub mod bulk;
mod draft;
mod encode;
mod error;
mod message;
mod params;
mod scan;
mod value;
mod zstd;

#[cfg(test)]
mod tests;

pub use draft::{Draft, Form};
pub use encode::{
    EncodeError, encode_call, encode_error, encode_notification, encode_parse_error,
    encode_request, encode_response,
};
pub use error::{RpcError, code};
pub use message::{Message, ParseError, RequestId, Trace, decode, parse, size};
pub use params::Params;
pub use value::Value;

/// Most JSON values in one message: objects, arrays and scalars count one each, keys do not.
pub const MAX_VALUES: usize = 262_144;

/// Deepest nesting of arrays and objects in a message. The JSON parser itself stops here.
pub const MAX_DEPTH: usize = 127;

/// The id of the error that answers a message whose own id could not be read.
pub const UNPARSABLE_ID: RequestId = RequestId::Integer(-1);
