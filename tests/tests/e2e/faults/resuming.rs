//! What becomes of streams and sessions when their executor registers anew, or is another one.

use std::time::Duration;

use anyhow::{Result, bail, ensure};
use harness::{Command, Error};
use serde_json::json;
use testkit::{
    faults::{post, well_formed_key},
    processes::{Agent, DEADLINE, ENVIRONMENT},
};
use tokio::time::timeout;

use super::{
    fixture::Fixture,
    load::{Load, Plan},
};

/// The registration of an executor is taken away from it, with its websocket and those of its
/// harnesses. It registers again under the same key, and its streams go on.
#[tokio::test]
async fn streams_outlive_the_registration_of_their_executor() -> Result<()> {
    let fixture = Fixture::start().await?;
    let executor = Agent::start(&fixture.cloud, &fixture.workspace, &[]).await?;
    let plan = Plan {
        clients: 3,
        parallel: 3,
        least: 6,
    };
    let mut load = Load::start(&fixture, plan).await?;
    load.progress(10, DEADLINE).await?;
    supersede(&fixture).await?;
    let tally = load.finish(&fixture, DEADLINE).await?;
    tally.all_exact(54)?;
    tally.only_resumed(3, 3)?;
    fixture.unharmed(&executor)
}

/// Nothing can be resumed from an executor that has lost its memory, and that is said at once.
#[tokio::test]
async fn restart_of_the_executor_is_told_as_such() -> Result<()> {
    let fixture = Fixture::start().await?;
    let mut executor = Agent::start(&fixture.cloud, &fixture.workspace, &[]).await?;
    let client = fixture.client().await?;
    let mut command = client.start(Command::new(["sleep", "600"])).await?;
    executor.kill().await?;
    let executor = Agent::start(&fixture.cloud, &fixture.workspace, &[]).await?;
    let told = timeout(DEADLINE, command.wait()).await?;
    let Err(Error::SessionLost(reason)) = told else {
        bail!("{told:?}");
    };
    ensure!(
        matches!(reason.root(), Error::ExecutorKeyChanged),
        "{reason:?}"
    );
    ensure!(client.resumptions() == 0, "a stream was resumed");
    // Another session can be had from the new one.
    let another = fixture.client().await?;
    let output = another.start(Command::new(["echo", "new"])).await?;
    ensure!(output.output(100).await?.stdout == b"new\n", "wrong output");
    fixture.unharmed(&executor)
}

/// Another executor takes the environment while the first one lives on. The harness must not give
/// the other one anything that was meant for the first.
#[tokio::test]
async fn another_executor_gets_nothing_of_a_stream() -> Result<()> {
    let fixture = Fixture::start().await?;
    let mut first = Agent::start(&fixture.cloud, &fixture.workspace, &[]).await?;
    let client = fixture.client().await?;
    let mut command = client.start(Command::new(["sleep", "600"])).await?;
    let second = Agent::start(&fixture.cloud, &fixture.workspace, &[]).await?;
    let told = timeout(DEADLINE, command.wait()).await?;
    let Err(Error::SessionLost(reason)) = told else {
        bail!("{told:?}");
    };
    ensure!(
        matches!(reason.root(), Error::ExecutorKeyChanged),
        "{reason:?}"
    );
    first.still_runs()?;
    ensure!(
        !second.stderr().text().contains("stream opened"),
        "a stream of the first executor was opened at the second"
    );
    first.never_panicked()?;
    fixture.unharmed(&second)
}

/// Registers somebody else, who never comes, and waits until the executor is back.
async fn supersede(fixture: &Fixture) -> Result<()> {
    let seen = fixture.cloud.events_so_far();
    let url = format!(
        "{}/cloud/environment/{ENVIRONMENT}/register",
        fixture.cloud.url()
    );
    let body = json!({
        "security_profile": "noise_hybrid_ik_v1",
        "executor_public_key": well_formed_key(),
    });
    let answer = post(&url, fixture.cloud.executor_token(), &body).await?;
    ensure!(answer.status == 200, "register was refused: {answer:?}");
    timeout(RETURN, fixture.cloud.executor_online(seen)).await?
}

/// The executor redials, is refused, registers and dials, with waits in between.
const RETURN: Duration = Duration::from_secs(40);
