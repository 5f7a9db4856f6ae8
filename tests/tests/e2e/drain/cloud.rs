//! The cloud is told to end while there is work: its peers come back when they were told to, and nothing
//! is lost.

use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use testkit::processes::{Agent, Cloud, CloudOptions, DEADLINE};

use crate::faults::{
    fixture::Fixture,
    load::{Load, Plan},
};

const PLAN: Plan = Plan {
    clients: 4,
    parallel: 2,
    least: 5,
};

/// Replacements, each in the middle of the work.
const ROUNDS: usize = 4;

#[tokio::test]
async fn commands_outlive_clouds_that_take_over_from_each_other() -> Result<()> {
    let mut fixture = Fixture::start().await?;
    let mut executor = Agent::start(&fixture.cloud, &fixture.workspace, &[]).await?;
    let mut load = Load::start(&fixture, PLAN).await?;
    for _ in 0..ROUNDS {
        load.progress(10, DEADLINE).await?;
        fixture.replace_cloud().await?;
        executor.still_runs()?;
    }
    load.progress(10, DEADLINE).await?;
    let tally = load.finish(&fixture, DEADLINE).await?;
    tally.all_exact(40)?;
    let log = executor.stderr().text();
    let times = log.matches("reason=\"sent_away\"").count();
    ensure!(times >= ROUNDS, "sent away {times} times:\n{log}");
    fixture.unharmed(&executor)
}

#[tokio::test]
async fn commands_outlive_a_cloud_that_is_drained_and_started_again() -> Result<()> {
    let mut fixture = Fixture::start().await?;
    let mut executor = Agent::start(&fixture.cloud, &fixture.workspace, &[]).await?;
    let mut load = Load::start(&fixture, PLAN).await?;
    for _ in 0..ROUNDS {
        load.progress(10, DEADLINE).await?;
        fixture.drain_and_restart_cloud().await?;
        executor.still_runs()?;
    }
    load.progress(10, DEADLINE).await?;
    let tally = load.finish(&fixture, DEADLINE).await?;
    tally.all_exact(40)?;
    fixture.unharmed(&executor)
}

/// The time is the cloud's, not that of a backoff: neither at once, as after any other loss, nor after
/// one of the executor's own delays.
#[tokio::test]
async fn an_executor_that_is_sent_away_comes_back_when_it_was_told_to() -> Result<()> {
    let data = tempfile::tempdir()?;
    let cloud = Cloud::start_with(CloudOptions {
        data: Some(data.path().to_owned()),
        arguments: vec!["--retry-after".to_owned(), "20s".to_owned()],
        ..CloudOptions::default()
    })
    .await?;
    let workspace = testkit::workspace::Workspace::new()?;
    let executor = Agent::start(&cloud, &workspace, &[]).await?;
    Cloud::drain(data.path()).await?;
    let line = executor
        .stderr()
        .wait_for("connecting again", DEADLINE)
        .await?;
    let delay = line
        .split_once("next_try_secs=")
        .and_then(|(_, rest)| rest.split_whitespace().next())
        .with_context(|| format!("no time in {line}"))?;
    let delay = Duration::try_from_secs_f64(delay.parse()?)?;
    let told = Duration::from_secs(20);
    ensure!(delay >= told && delay <= told * 11 / 10, "{line}");
    Ok(())
}
