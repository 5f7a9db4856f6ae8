//! Faults that end-to-end tests inject.

mod proxy;
mod raw_websocket;
mod registry_call;
mod rogue_cloud;
mod tampering;

pub use proxy::{Counts, End, FaultProxy, Faults, Lane, Scope};
pub use raw_websocket::{RawWebSocket, Refused};
pub use registry_call::{Answer, connect_bundle, post, well_formed_key};
pub use rogue_cloud::{RogueCloud, Visit};
pub use tampering::TamperingRegistry;

/// An HTTP client that talks to loopback only, whatever proxies the machine has.
fn http_client() -> anyhow::Result<reqwest::Client> {
    // Fails when another part of the test has installed the provider before, which is as good.
    drop(rustls::crypto::aws_lc_rs::default_provider().install_default());
    Ok(reqwest::Client::builder().no_proxy().build()?)
}
