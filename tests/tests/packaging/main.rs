//! What people install, as an operator runs it: container images and Debian packages, and the examples in `deploy/` and
//! in the documents.
//!
//! `cargo run -p xtask -- packaging` builds all of it and runs these tests.

mod agent_image;
mod cloud_image;
mod container;
mod debian;
mod deployments;
#[path = "../e2e/turn.rs"]
mod turn;
