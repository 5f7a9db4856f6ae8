//! The sandbox, from outside: the real executor, real programs, the real kernel.
//!
//! Each test runs with the executor as the user of the tests, and if that is the superuser also as an
//! ordinary user. A host that refuses user namespaces fails them all.

#[cfg(test)]
#[path = "../support/mod.rs"]
mod support;

#[cfg(test)]
mod cases;
#[cfg(test)]
mod client;
#[cfg(test)]
mod command;
#[cfg(test)]
mod cost;
#[cfg(test)]
mod escapes;
#[cfg(test)]
mod files;
#[cfg(test)]
mod hardening;
#[cfg(test)]
mod limits;
#[cfg(test)]
mod names;
#[cfg(test)]
mod network;
#[cfg(test)]
mod policy;
#[cfg(test)]
mod probe;
#[cfg(test)]
mod programs;
#[cfg(test)]
mod weaknesses;
