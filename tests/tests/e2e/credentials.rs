//! Secrets that are replaced while the programs that use them run.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use anyhow::Result;
use testkit::{
    processes::{Agent, Binary, Cloud, DEADLINE, ENVIRONMENT, Execctl, Launch, Listener},
    workspace::Workspace,
};
use tokio::io::AsyncWriteExt as _;

use crate::secure_cloud::SecureCloud;

/// A line for `--executor-credential-stdin`.
fn line(environment: &str, token: &str, life: Duration) -> Result<Vec<u8>> {
    let expires_at = (SystemTime::now().duration_since(UNIX_EPOCH)? + life).as_secs();
    let line = serde_json::json!({
        "version": 1, "environment_id": environment, "token": token, "expires_at": expires_at,
    });
    Ok(format!("{line}\n").into_bytes())
}

fn on_stdin(cloud: &Cloud) -> Result<Launch> {
    Ok(Agent::launch(cloud.url(), "")?.arg("--executor-credential-stdin"))
}

const HOUR: Duration = Duration::from_secs(3600);

#[tokio::test]
async fn executor_credential_is_replaced_on_standard_input_whose_end_ends_the_executor()
-> Result<()> {
    let (workspace, data) = (Workspace::new()?, tempfile::tempdir()?);
    let cloud = Cloud::start_guarded(data.path()).await?;
    let launch = on_stdin(&cloud)?.current_dir(workspace.path());
    let (mut executor, mut input) = launch.spawn_with_input()?;
    input
        .write_all(&line(ENVIRONMENT, "invented", HOUR)?)
        .await?;
    let refused = executor.stderr().wait_for("401", DEADLINE).await?;
    assert!(!refused.contains("invented"), "{refused}");

    let seen = cloud.events_so_far();
    let token = cloud.executor_token();
    input.write_all(&line(ENVIRONMENT, token, HOUR)?).await?;
    cloud.executor_online(seen).await?;
    let run = Execctl::new(&cloud).run(["run", "-n", "--", "env"]).await?;
    assert_eq!(run.code(), Some(0), "{}", run.stderr);
    assert!(!String::from_utf8(run.stdout)?.contains(token));

    drop(input);
    assert_eq!(executor.ended(DEADLINE).await?.code(), Some(0));
    assert!(!executor.stderr().text().contains(token));
    executor.never_panicked()
}

#[tokio::test]
async fn executor_credential_that_cannot_be_used_ends_the_executor() -> Result<()> {
    let cloud = Cloud::start().await?;
    let good = line(ENVIRONMENT, "s3cr3t", HOUR)?;
    let (foreign, old) = (
        line("elsewhere", "s3cr3t", HOUR)?,
        line(ENVIRONMENT, "s3cr3t", Duration::ZERO)?,
    );
    for (input, error) in [
        (Vec::new(), "exec-server executor credential pipe closed"),
        (
            b"s3cr3t\n".to_vec(),
            "invalid exec-server executor credential frame",
        ),
        (
            foreign.clone(),
            "exec-server executor credential is for a different environment",
        ),
        (old, "exec-server executor credential is expired"),
        (
            [good, foreign].concat(),
            "exec-server executor credential is for a different environment",
        ),
    ] {
        let finished = on_stdin(&cloud)?.finish(&input, DEADLINE).await?;
        let last = finished.stderr.lines().last().unwrap_or_default();
        assert_eq!(last, format!("error: {error}"), "{}", finished.stderr);
        assert_eq!(finished.code(), Some(1));
        assert!(!finished.stderr.contains("s3cr3t"), "{}", finished.stderr);
    }
    Ok(())
}

#[tokio::test]
async fn token_of_a_listener_and_of_its_client_are_replaced_without_a_restart() -> Result<()> {
    let (workspace, data) = (Workspace::new()?, tempfile::tempdir()?);
    let (theirs, ours) = (data.path().join("theirs"), data.path().join("ours"));
    for file in [&theirs, &ours] {
        std::fs::write(file, "first\n")?;
    }
    let variables = [
        ("EXEC_SERVER_WS_AUTH", "capability-token"),
        ("EXEC_SERVER_WS_TOKEN_FILE", &theirs.display().to_string()),
    ];
    let (listener, url) = Listener::start(&workspace, &variables).await?;
    let info = || async {
        let launch = Launch::new(Binary::Execctl)?.args(["--url", &url, "--token-file"]);
        launch.arg(&ours).arg("info").finish(b"", DEADLINE).await
    };
    assert_eq!(info().await?.code(), Some(0));
    std::fs::write(&theirs, "second\n")?;
    let refused = info().await?;
    assert_eq!(refused.code(), Some(77), "{}", refused.stderr);
    std::fs::write(&ours, "second\n")?;
    assert_eq!(info().await?.code(), Some(0));
    listener.never_panicked()
}

#[tokio::test]
async fn certificate_of_the_cloud_is_replaced_without_a_restart() -> Result<()> {
    let secure = SecureCloud::start().await?;
    let (cloud, port) = (&secure.cloud, &secure.port);
    let launch = || {
        let launch = Launch::new(Binary::Execctl)?
            .env("EXECCTL_TOKEN", "any")
            .args(["--registry", &format!("https://localhost:{port}")])
            .args(["--environment", "nowhere"]);
        anyhow::Ok(
            launch
                .arg("--ca-file")
                .arg(secure.certificate())
                .arg("info"),
        )
    };
    // It is reached: the environment is what is not there.
    let reached = launch()?.finish(b"", DEADLINE).await?;
    assert_eq!(reached.code(), Some(64), "{}", reached.stderr);
    secure.renew()?;
    cloud
        .stderr()
        .wait_for("certificates reloaded", DEADLINE)
        .await?;
    let reached = launch()?.finish(b"", DEADLINE).await?;
    assert_eq!(reached.code(), Some(64), "{}", reached.stderr);
    cloud.never_panicked()
}
