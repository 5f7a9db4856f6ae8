//! The rendezvous is killed and started again, over and over; the registry is away for a while.

use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use testkit::{
    faults::End,
    processes::{Agent, DEADLINE},
};
use tokio::time::Instant;

use super::{
    fixture::Fixture,
    load::{Load, Plan},
};

/// How long the rendezvous is killed again and again.
fn churn() -> Result<Duration> {
    seconds("E2E_FAULT_SECS", 15)
}

/// How long the registry is away at least.
fn outage() -> Result<Duration> {
    seconds("E2E_OUTAGE_SECS", 0)
}

fn seconds(variable: &'static str, or: u64) -> Result<Duration> {
    let seconds = match std::env::var(variable) {
        Ok(text) => text
            .trim()
            .parse()
            .with_context(|| format!("{variable} is no number"))?,
        Err(_) => or,
    };
    Ok(Duration::from_secs(seconds))
}

#[tokio::test]
async fn commands_outlive_a_rendezvous_that_is_killed_every_second() -> Result<()> {
    let mut fixture = Fixture::start().await?;
    let mut executor = Agent::start(&fixture.cloud, &fixture.workspace, &[]).await?;
    let plan = Plan {
        clients: 4,
        parallel: 2,
        least: 5,
    };
    let mut load = Load::start(&fixture, plan).await?;
    let end = Instant::now() + churn()?;
    let mut kills = 0;
    while Instant::now() < end {
        // Kills in the middle of the work where there is some, and anyway after a second.
        load.reaches(20, Duration::from_secs(1)).await?;
        fixture.restart_cloud().await?;
        executor.still_runs()?;
        kills += 1;
    }
    let reconnects = fixture.proxy.opened(End::Executor) - 1;
    eprintln!("{kills} kills, {reconnects} new connections of the executor");
    let tally = load.finish(&fixture, DEADLINE).await?;
    // A start is asked for again for 70 s and a session tried for 90 s, so nothing is in doubt after a
    // minute, even if no command got through in all of it.
    if churn()? <= Duration::from_secs(60) {
        tally.all_exact(40)?;
    }
    // A stream that found its executor away a few times is given up before that, and its session goes
    // on with another.
    if churn()? < Duration::from_secs(40) {
        tally.only_resumed(4, 4)?;
    }
    ensure!(tally.resumptions > 0, "no stream was resumed");
    fixture.unharmed(&executor)
}

/// Without the registry no end can make a new connection; both wait for it.
#[tokio::test]
async fn commands_outlive_an_outage_of_the_registry() -> Result<()> {
    let fixture = Fixture::start().await?;
    let mut executor = Agent::start(&fixture.cloud, &fixture.workspace, &[]).await?;
    let plan = Plan {
        clients: 2,
        parallel: 3,
        least: 6,
    };
    let mut load = Load::start(&fixture, plan).await?;
    load.progress(6, DEADLINE).await?;
    fixture.proxy.close_registry();
    // What is connected stays so.
    load.progress(6, DEADLINE).await?;
    ensure!(fixture.proxy.cut() == 3, "not every end was connected");
    let end = Instant::now() + outage()?;
    fixture.proxy.registry_calls_refused(6).await?;
    tokio::time::sleep_until(end).await;
    executor.still_runs()?;
    fixture.proxy.heal();
    let tally = load.finish(&fixture, DEADLINE).await?;
    tally.all_exact(36)?;
    tally.only_resumed(2, 2)?;
    fixture.unharmed(&executor)
}
