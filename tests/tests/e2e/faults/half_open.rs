//! Connections that nobody closes and that carry nothing any more.
//!
//! Only signs of life can tell. Between our ends they are missed within seconds, and so are the answers
//! to our pings when the peer is the reference; its own keepalive takes up to 90 s and is left out.

use std::time::Duration;

use anyhow::{Result, ensure};
use testkit::{
    faults::End,
    processes::{Agent, CodexExecutor},
};

use super::{
    fixture::Fixture,
    load::{Load, Plan},
};

/// Has the websocket of one end forgotten in the middle of some load, which then opens another one within
/// `noticed`.
async fn forget(fixture: &Fixture, end: End, noticed: Duration) -> Result<Load> {
    let plan = Plan {
        clients: 2,
        parallel: 3,
        least: 10,
    };
    let mut load = Load::start(fixture, plan).await?;
    load.progress(10, KEEPALIVE).await?;
    let before = fixture.proxy.opened(end);
    ensure!(fixture.proxy.forget(end) > 0, "no websocket to forget");
    fixture.proxy.opened_after(end, before, noticed).await?;
    Ok(load)
}

async fn forgotten(end: End) -> Result<()> {
    let fixture = Fixture::start().await?;
    let executor = Agent::start(&fixture.cloud, &fixture.workspace, &[]).await?;
    let load = forget(&fixture, end, KEEPALIVE).await?;
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

/// The reference never finishes a start whose connection is lost within it; such a command says so.
#[tokio::test]
async fn our_harness_leaves_a_half_open_path_to_the_reference_executor() -> Result<()> {
    let fixture = Fixture::start().await?;
    let executor = CodexExecutor::start(&fixture.cloud, &fixture.workspace, &[]).await?;
    let load = forget(&fixture, End::Harness, WATCHED).await?;
    // Its old session is given back once the rendezvous has noticed as well, which asks the old
    // socket when the new one comes.
    let tally = load.finish(&fixture, RECOVERED).await?;
    let (exact, unknown) = (tally.exact.len(), &tally.unknown);
    ensure!(exact + unknown.len() >= 60, "{exact} exact, {unknown:?}");
    for (name, why) in unknown {
        ensure!(why.contains("process/start"), "{name}: {why}");
    }
    fixture.unharmed(&executor)
}

/// The rendezvous pings a harness every 10 s and waits 30 s for an answer. The rest is for the new
/// connection.
const KEEPALIVE: Duration = Duration::from_secs(50);

/// Less than the rendezvous waits for a harness that does not come again.
const RECOVERED: Duration = Duration::from_secs(30);

/// An end whose stream has only the pings notices within 5 s. The rest is for slow machines, and less
/// than the 20 s that it waits when nobody does.
const WATCHED: Duration = Duration::from_secs(18);
