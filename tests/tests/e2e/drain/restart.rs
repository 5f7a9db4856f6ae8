//! An executor that was restarted has lost its sessions, and says so at once: it does not look like a
//! connection that takes its time.

use anyhow::{Context as _, Result, ensure};
use harness::{Client, ClientConfig, Command, Error};
use registry_client::{Connector, ConnectorConfig, ConnectorEnvironment};
use testkit::{
    processes::{Agent, DEADLINE, Listener},
    workspace::Workspace,
};
use tokio::time::timeout;

use crate::faults::fixture::Fixture;

/// The client gives up a recovery after 45 s; being told takes no such time.
#[tokio::test]
async fn a_restart_behind_the_rendezvous_ends_the_session_at_once() -> Result<()> {
    let fixture = Fixture::start().await?;
    let mut executor = Agent::start(&fixture.cloud, &fixture.workspace, &[]).await?;
    let client = fixture.client().await?;
    let script = "echo > started; exec sleep 1000";
    let process = client.start(Command::new(["sh", "-c", script])).await?;
    fixture.exists("started").await?;
    executor.kill().await?;
    let executor = Agent::start(&fixture.cloud, &fixture.workspace, &[]).await?;
    let outcome = timeout(DEADLINE, process.output(1 << 20))
        .await
        .context("the restart went unnoticed")?;
    let error = outcome.err().context("the command outlived its executor")?;
    ensure!(matches!(&error, Error::SessionLost(_)), "{error:?}");
    ensure!(
        matches!(error.root(), Error::ExecutorKeyChanged),
        "{error:?}"
    );
    // Whatever else is asked of the client says the same, and a new one works.
    let again = client.start(Command::new(["true"])).await.err();
    ensure!(matches!(&again, Some(Error::SessionLost(_))), "{again:?}");
    let other = fixture.client().await?;
    let process = other.start(Command::new(["echo", "new"])).await?;
    ensure!(process.output(1 << 20).await?.stdout == b"new\n");
    fixture.unharmed(&executor)
}

#[tokio::test]
async fn a_restart_of_a_listener_ends_the_session_at_once() -> Result<()> {
    let workspace = Workspace::new()?;
    let (mut executor, url) = Listener::start(&workspace, &[]).await?;
    let connector = Connector::new(ConnectorConfig {
        environment: ConnectorEnvironment::empty(),
        ..ConnectorConfig::default()
    })?;
    let client = Client::connect_direct(&url, None, connector, ClientConfig::default()).await?;
    let process = client.start(Command::new(["sleep", "1000"])).await?;
    executor.kill().await?;
    let _executor = Listener::start_at(&workspace, &url).await?;
    let outcome = timeout(DEADLINE, process.output(1 << 20))
        .await
        .context("the restart went unnoticed")?;
    let error = outcome.err().context("the command outlived its executor")?;
    ensure!(matches!(error.root(), Error::SessionUnknown), "{error:?}");
    Ok(())
}
