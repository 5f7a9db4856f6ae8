//! What the programs make of connections that lose, mix up, repeat, change or swallow what they
//! carry, and of a rendezvous and a registry that go away.
//!
//! Everything goes through a [`FaultProxy`](testkit::faults::FaultProxy), which prints the seed of
//! its faults; `E2E_FAULT_SEED` sets it; see CONTRIBUTING.md.

mod cuts;
pub(crate) mod fixture;
mod half_open;
pub(crate) mod load;
mod loss;
mod order;
mod outage;
mod resuming;
