//! Unpublished test support: a scripted model, real processes with owned lifetimes, and faults.
//!
//! Responsible for everything an end-to-end test needs around the programs under test. It knows
//! their command lines and their wire formats from the outside only, and asserts nothing by
//! itself: the tests do.
//!
//! | module | one line |
//! |---|---|
//! | [`model`] | a Responses API server that follows a script and records what reached the model |
//! | [`processes`] | the programs under test as child processes, killed when dropped |
//! | [`admin`] | what a program shows its operators |
//! | [`collector`] | a stand-in for an OpenTelemetry collector |
//! | [`peer`] | a bare JSON-RPC client of an executor that listens |
//! | [`wiretap`] | what the programs said to the registry and the rendezvous |
//! | [`web`] | a web server that says what it was asked |
//! | [`issuer`] | an identity provider that signs tokens and publishes its keys |
//! | [`workspace`] | the project directory that commands run in |
//! | [`forward_proxy`] | the only way out of a network: an HTTP proxy with credentials |
//! | [`narrow`] | a path that carries little, and counts |
//! | [`faults`] | a proxy that harms connections, a registry that lies, raw websocket clients |

pub mod admin;
pub mod collector;
pub mod faults;
pub mod forward_proxy;
pub mod issuer;
pub mod model;
pub mod narrow;
pub mod peer;
pub mod processes;
pub mod web;
pub mod wiretap;
pub mod workspace;

use std::time::Duration;

use anyhow::{Context as _, Result};

/// Asks `question` until the answer is yes. Only for what tells nobody when it happens, such as a
/// file that another program makes.
///
/// # Errors
///
/// When the answer is still no at the deadline.
pub async fn until(question: impl AsyncFn() -> bool) -> Result<()> {
    let ask = async {
        while !question().await {
            tokio::time::sleep(ASK_AGAIN).await;
        }
    };
    let answer = tokio::time::timeout(processes::DEADLINE, ask).await;
    answer.context("the awaited did not happen in time")
}

const ASK_AGAIN: Duration = Duration::from_millis(10);
