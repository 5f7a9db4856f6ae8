//! The image of registry and rendezvous.

use anyhow::{Context as _, Result};
use testkit::processes::{DEADLINE, ENVIRONMENT, Launch};

use crate::container::{AGENT, CLOUD, container, stop, succeeded};

/// Everything as an operator does it: tokens made by the image, a server with a volume, an agent in
/// another container, and a command through both; then the server is told to drain.
#[tokio::test]
async fn serves_with_tokens_and_state_in_the_volume() -> Result<()> {
    let data = tempfile::tempdir()?;
    let volume = format!("--volume={}:/var/lib/exec-cloud:U", data.path().display());
    let token = async |role| {
        let create = container(&[&volume, CLOUD])?.args(["token", "create", "--role", role]);
        let printed = succeeded(&create.finish(b"", DEADLINE).await?)?;
        anyhow::Ok(printed.trim().to_owned())
    };
    let (executor, harness) = (token("executor").await?, token("harness").await?);
    let serve = container(&[&volume, "--env=EXEC_CLOUD_LISTEN=127.0.0.1:0", CLOUD])?;
    let mut cloud = serve.spawn()?;
    let line = cloud.stdout().wait_for("listening on ", DEADLINE).await?;
    let url = line.split_whitespace().next_back().context("no address")?;

    let agent = |token: &str| -> Result<Launch> {
        let launch = container(&["--env=EXEC_SERVER_TOKEN", AGENT])?;
        let launch = launch.env("EXEC_SERVER_TOKEN", token);
        Ok(launch.args(["--remote", url, "--environment-id", ENVIRONMENT]))
    };
    // A token of the wrong role lets nobody in.
    let refused = agent(&harness)?.spawn()?;
    let reason = "role harness may not register";
    refused.stderr().wait_for(reason, DEADLINE).await?;
    stop(refused).await?;

    let agent = agent(&executor)?.spawn()?;
    agent.stderr().wait_for("online", DEADLINE).await?;
    let execctl = Launch::new(testkit::processes::Binary::Execctl)?
        .env("EXECCTL_REGISTRY", url)
        .env("EXECCTL_ENVIRONMENT", ENVIRONMENT)
        .env("EXECCTL_TOKEN", &harness)
        .args(["run", "--", "cat", "/etc/debian_version"]);
    let printed = succeeded(&execctl.finish(b"", DEADLINE).await?)?;
    assert!(printed.starts_with("12"), "{printed}");

    let drain = container(&[&volume, CLOUD])?.arg("drain");
    succeeded(&drain.finish(b"", DEADLINE).await?)?;
    assert!(cloud.ended(DEADLINE).await?.success());
    stop(agent).await
}

/// Without encryption it does not listen where others could reach it, unless told that a proxy does
/// that part.
#[tokio::test]
async fn does_not_listen_unprotected() -> Result<()> {
    let finished = container(&["--tmpfs=/var/lib/exec-cloud", CLOUD])?
        .finish(b"", DEADLINE)
        .await?;
    assert_eq!(finished.code(), Some(64), "{}", finished.stderr);
    let told = finished.stderr.contains("--behind-proxy");
    assert!(told, "{}", finished.stderr);
    Ok(())
}
