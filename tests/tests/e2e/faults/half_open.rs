//! Connections that nobody closes and that carry nothing any more.
//!
//! Only signs of life can tell. Between our ends they are missed within seconds; the reference's own
//! keepalive takes up to 90 s and is left out.

use std::time::Duration;

use anyhow::{Result, ensure};
use testkit::{faults::End, processes::Agent};

use super::{
    fixture::Fixture,
    load::{Load, Plan},
};

async fn forgotten(end: End) -> Result<()> {
    let fixture = Fixture::start().await?;
    let executor = Agent::start(&fixture.cloud, &fixture.workspace, &[]).await?;
    let plan = Plan {
        clients: 2,
        parallel: 3,
        least: 10,
    };
    let mut load = Load::start(&fixture, plan).await?;
    load.progress(10, KEEPALIVE).await?;
    let before = fixture.proxy.opened(end);
    ensure!(fixture.proxy.forget(end) > 0, "no websocket to forget");
    fixture.proxy.opened_after(end, before, KEEPALIVE).await?;
    let tally = load.finish(&fixture, KEEPALIVE).await?;
    tally.all_exact(60)?;
    tally.only_resumed(2, 1)?;
    fixture.unharmed(&executor)
}

#[tokio::test]
async fn our_harness_leaves_a_half_open_path() -> Result<()> {
    forgotten(End::Harness).await
}

#[tokio::test]
async fn our_executor_leaves_a_half_open_path() -> Result<()> {
    forgotten(End::Executor).await
}

/// An end pings every 15 s and waits 20 s for an answer, the rendezvous 10 s and 30 s. The rest is
/// for the new connection.
const KEEPALIVE: Duration = Duration::from_secs(50);
