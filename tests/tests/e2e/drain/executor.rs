//! The executor is told to end.

use anyhow::{Result, ensure};
use harness::{Command, Error};
use rustix::process::Signal;
use testkit::processes::{Agent, Cloud, DEADLINE};

use crate::faults::fixture::Fixture;

/// A command that writes until a file is there, and then much more.
const SCRIPT: &str = "echo started; while [ ! -e go ]; do sleep 0.05; done; \
     seq -f 'line %g' 1 20000; exit 9";

#[tokio::test]
async fn a_command_ends_by_itself_and_all_of_its_output_arrives() -> Result<()> {
    let fixture = Fixture::start().await?;
    let grace = [("EXEC_SERVER_GRACE_PERIOD", "1h")];
    let mut executor = Agent::start(&fixture.cloud, &fixture.workspace, &grace).await?;
    let client = fixture.client().await?;
    let script = format!("echo > started; {SCRIPT}");
    let process = client.start(Command::new(["sh", "-c", &script])).await?;
    fixture.exists("started").await?;
    executor.signal(Signal::TERM)?;
    executor
        .stderr()
        .wait_for("taking no new sessions", DEADLINE)
        .await?;
    // Nothing new, and a clear word about it.
    let refused = client.start(Command::new(["true"])).await.err();
    ensure!(
        matches!(&refused, Some(error @ Error::Rpc { code: -32011, .. }) if error.is_retryable()),
        "{refused:?}"
    );
    executor.still_runs()?;
    let seen = fixture.cloud.child().stderr().position();
    fixture.touch("go")?;
    let output = process.output(1 << 20).await?;
    let expected: String = std::iter::once("started\n".to_owned())
        .chain((1..=20_000).map(|line| format!("line {line}\n")))
        .collect();
    ensure!(output.stdout == expected.as_bytes(), "output differs");
    ensure!(output.status.code == 9, "{:?}", output.status);
    let ended = executor.ended(DEADLINE).await?;
    ensure!(ended.success(), "{ended}: {}", executor.stderr().text());
    // The cloud was told, and tells others from then on.
    fixture
        .cloud
        .child()
        .stderr()
        .wait_from(seen, "socket closed role=\"executor\"", DEADLINE)
        .await?;
    let log = executor.stderr().text();
    ensure!(log.contains("reason=\"local_shutdown\""), "{log}");
    fixture.unharmed(&executor)
}

/// The environment counts as offline when the process is gone, not when a ping has timed out.
#[tokio::test]
async fn the_registry_says_at_once_that_the_executor_is_gone() -> Result<()> {
    let cloud = Cloud::start().await?;
    let workspace = testkit::workspace::Workspace::new()?;
    let mut executor = Agent::start(&cloud, &workspace, &[]).await?;
    // The cloud knows of the websocket a little earlier.
    executor
        .stderr()
        .wait_for("connected, online", DEADLINE)
        .await?;
    let seen = cloud.child().stderr().position();
    executor.signal(Signal::TERM)?;
    executor.ended(DEADLINE).await?;
    let closed = cloud
        .child()
        .stderr()
        .wait_from(seen, "socket closed role=\"executor\"", DEADLINE)
        .await?;
    ensure!(closed.contains("reason=\"peer_close\""), "{closed}");
    executor.never_panicked()
}
