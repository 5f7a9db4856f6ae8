//! End-to-end tests: real programs on loopback, watched from the outside.
//!
//! One binary for all of them, because linking takes longer than running. The programs come from
//! `cargo run -p xtask -- test`; a missing one fails the tests that need it.

mod bad_input;
mod bodies;
mod bulk;
mod configuration;
mod credentials;
mod deploy;
mod detached;
mod discretion;
mod doctor;
mod drain;
mod embedding;
mod endings;
mod extensions;
mod fairness;
mod faults;
mod forward;
mod forwarder;
mod interop;
mod network;
mod oidc;
mod outbound;
mod readme;
mod sandbox;
mod secure_cloud;
mod session;
mod side_by_side;
mod tracing;
mod turn;
