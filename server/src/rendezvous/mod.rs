//! The rendezvous: moves relay frames between an environment's executor and its harnesses.
//!
//! - [`url`]: signed URLs, the only credential of a websocket. Pure.
//! - [`routes`]: who holds which stream, and what follows from each event. Pure.
//! - [`outbox`]: the bounded queue in front of one socket.
//! - [`hub`]: the live sockets; carries out what `routes` decides.
//! - [`socket`]: one websocket's reads, writes and keepalive.

pub(crate) mod hub;
pub(crate) mod outbox;
pub(crate) mod routes;
pub(crate) mod socket;
pub(crate) mod url;
