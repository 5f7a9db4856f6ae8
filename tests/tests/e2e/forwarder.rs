//! An executor that hands its streams to another one.

use anyhow::Result;
use testkit::{
    processes::{Agent, Cloud, CodexListener, DEADLINE, Execctl, Launch, Listener},
    workspace::Workspace,
};

/// Prepares a forwarder for the environment of `cloud`.
fn forwarder(cloud: &Cloud, destination: &str) -> Result<Launch> {
    let launch = Agent::launch(cloud.url(), cloud.executor_token())?;
    Ok(launch.args(["--connect", destination]))
}

#[tokio::test]
async fn streams_are_served_by_the_executor_behind_a_forwarder() -> Result<()> {
    let workspace = Workspace::new()?;
    let cloud = Cloud::start().await?;
    let (executor, url) = Listener::start(&workspace, &[("BEHIND", "yes")]).await?;
    let seen = cloud.events_so_far();
    let forwarder = forwarder(&cloud, &url)?.spawn()?;
    cloud.executor_online(seen).await?;
    let execctl = Execctl::new(&cloud);
    let run = execctl
        .run(["run", "-n", "--", "sh", "-c", "echo $BEHIND; pwd; exit 3"])
        .await?;
    let expected = format!("yes\n{}\n", workspace.path().display());
    let shown = String::from_utf8_lossy(&run.stdout);
    assert_eq!(shown, expected, "{}", run.stderr);
    assert_eq!(run.code(), Some(3));
    // More than one websocket message may hold.
    let run = execctl
        .run(["run", "-n", "--", "head", "-c", "3000000", "/dev/zero"])
        .await?;
    assert_eq!((run.code(), run.stdout.len()), (Some(0), 3_000_000));
    executor.never_panicked()?;
    forwarder.never_panicked()
}

#[tokio::test]
async fn forwarder_leads_to_an_executor_of_the_reference() -> Result<()> {
    let workspace = Workspace::new()?;
    let cloud = Cloud::start().await?;
    let (_codex, url) = CodexListener::start(&workspace, &[]).await?;
    let seen = cloud.events_so_far();
    let forwarder = forwarder(&cloud, &url)?.spawn()?;
    cloud.executor_online(seen).await?;
    let run = Execctl::new(&cloud)
        .run(["run", "-n", "--", "sh", "-c", "echo out; exit 3"])
        .await?;
    assert_eq!((run.code(), &run.stdout[..]), (Some(3), &b"out\n"[..]));
    forwarder.never_panicked()
}

#[tokio::test]
async fn forwarder_has_a_token_for_its_destination() -> Result<()> {
    let (workspace, data) = (Workspace::new()?, tempfile::tempdir()?);
    let cloud = Cloud::start().await?;
    let (theirs, ours) = (data.path().join("theirs"), data.path().join("ours"));
    std::fs::write(&theirs, "s3cr3t\n")?;
    std::fs::write(&ours, "other\n")?;
    let variables = [
        ("EXEC_SERVER_WS_AUTH", "capability-token"),
        ("EXEC_SERVER_WS_TOKEN_FILE", &theirs.display().to_string()),
    ];
    let (_executor, url) = Listener::start(&workspace, &variables).await?;
    let seen = cloud.events_so_far();
    let forwarder = forwarder(&cloud, &url)?
        .arg("--connect-token-file")
        .arg(&ours)
        .spawn()?;
    // With a wrong token it does not even register.
    let line = forwarder
        .stderr()
        .wait_for("not available", DEADLINE)
        .await?;
    assert!(line.contains("401"), "{line}");
    std::fs::write(&ours, "s3cr3t\n")?;
    cloud.executor_online(seen).await?;
    let execctl = Execctl::new(&cloud);
    let run = execctl.run(["run", "-n", "--", "true"]).await?;
    assert_eq!(run.code(), Some(0), "{}", run.stderr);
    let told = forwarder.stderr().text();
    assert!(
        !told.contains("s3cr3t") && !told.contains("other"),
        "{told}"
    );
    forwarder.never_panicked()
}

#[tokio::test]
async fn environment_is_offline_while_the_destination_of_its_forwarder_is_gone() -> Result<()> {
    let workspace = Workspace::new()?;
    let cloud = Cloud::start().await?;
    let (mut executor, url) = Listener::start(&workspace, &[]).await?;
    let seen = cloud.events_so_far();
    let mut forwarder = forwarder(&cloud, &url)?.spawn()?;
    cloud.executor_online(seen).await?;
    executor.kill().await?;
    let seen = cloud.events_so_far();
    // Whoever comes now makes it look.
    let execctl = Execctl::new(&cloud);
    let run = execctl
        .run(["--connect-timeout-secs", "1", "run", "-n", "--", "true"])
        .await?;
    assert_eq!(run.code(), Some(69), "{}", run.stderr);
    forwarder.stderr().wait_for("leaving the", DEADLINE).await?;
    cloud
        .child()
        .stderr()
        .wait_from(seen, "socket closed", DEADLINE)
        .await?;
    let run = execctl
        .run(["--connect-timeout-secs", "0", "run", "-n", "--", "true"])
        .await?;
    assert!(run.stderr.contains("is offline"), "{}", run.stderr);
    assert_eq!(run.code(), Some(69), "{}", run.stderr);

    let seen = cloud.events_so_far();
    let _again = Listener::start_at(&workspace, &url).await?;
    cloud.executor_online(seen).await?;
    let run = execctl.run(["run", "-n", "--", "true"]).await?;
    assert_eq!(run.code(), Some(0), "{}", run.stderr);
    forwarder.still_runs()?;
    forwarder.never_panicked()
}
