//! Local listeners: a websocket server and standard input and output.
//!
//! Responsible for turning a local peer into an [`rpc::Transport`](crate::rpc::Transport): HTTP
//! answers, authentication, websocket framing, line framing, keepalive and the closing handshake.
//! Not responsible for what the messages mean; whatever is behind [`Serve`](crate::serve::Serve) does.
//!
//! ```text
//! TCP accept -> HTTP (answer.rs, auth.rs, jwt.rs) -> websocket pump (websocket.rs) -+-> Transport -> Serve
//! stdin / stdout -> lines (stdio.rs) ----------------------------------------------+
//! ```
//!
//! A listener gives whoever reaches it a shell, so an address that other machines can reach is
//! only bound when authentication is configured.

mod accept;
mod address;
mod answer;
mod auth;
mod budget;
mod jwt;
mod secret;
mod stdio;
mod websocket;

pub use accept::{ListenError, Listener, ListenerConfig};
pub use address::{AddressError, ListenAddress};
pub use auth::{AuthMode, AuthOptions, WebSocketAuth};
pub(crate) use stdio::LineError;
pub use stdio::serve_stdio;
pub use websocket::Keepalive;
pub(crate) use websocket::{CarryEnd, carry};
