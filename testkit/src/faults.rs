//! Faults that end-to-end tests inject.

mod raw_websocket;
mod tampering;

pub use raw_websocket::{RawWebSocket, Refused};
pub use tampering::TamperingRegistry;
