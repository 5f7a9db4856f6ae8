//! What people install, as an operator runs it: the container images.
//!
//! `cargo run -p xtask -- packaging` builds all of it and runs these tests.

mod agent_image;
mod cloud_image;
mod container;
#[path = "../e2e/turn.rs"]
mod turn;
