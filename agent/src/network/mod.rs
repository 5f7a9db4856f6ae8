//! Managed networking: what a command may reach, through a proxy of its own.
//!
//! ```text
//! process/start --plan--> Plan --gateway--> Gateway
//!                                             |
//!   command --HTTP--> listener --> http  \    |
//!   command --SOCKS-> listener --> socks  >-- decide: policy -> question -> lookup -> mode
//!                                        /      |         |
//!                                connect to     |         `- questions (session): one per burst
//!                          checked addresses    `- notice: network/policyDecision
//! ```
//!
//! - [`plan`] checks what a request asks for, before anything runs.
//! - [`host`], [`pattern`] and [`address`] are the words of the policy, [`policy`] its rules; all pure.
//! - [`decide`] is the only way to an address: it returns what may be connected to, or why nothing may.
//! - [`http`] with [`forward`] and [`answer`], and [`socks`], speak to the command.
//! - [`gateway`] owns the listeners and connections of one process, and ends with it.
//! - [`variables`] tells the command, and reads what it was told by others.
//!
//! When the sandbox enforces it, the command is in a network namespace without any interface but
//! loopback. Its listeners are made inside by the sandbox's first process and handed to the executor,
//! which accepts on them from outside: there is no other way out, and no helper process on the way.
//!
//! Names are resolved here, once, and the connection goes to an address that was checked: a second
//! answer of the name service cannot lead elsewhere.
//!
//! Not here: interception of TLS. What would need it is refused (tunnels in the limited mode, masking
//! of credentials), never passed through.

mod address;
mod answer;
mod decide;
mod forward;
mod gateway;
mod host;
mod http;
mod notice;
mod pattern;
mod plan;
mod policy;
mod questions;
mod resolve;
mod socks;
mod variables;

#[cfg(test)]
mod tests;

pub(crate) use gateway::{Gateway, Opening, Surroundings};
pub(crate) use plan::Plan;
pub(crate) use questions::Questions;
