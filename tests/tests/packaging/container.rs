//! Containers that get as little as possible: an ordinary user, a read-only root, no capability.

use anyhow::{Context as _, Result, ensure};
use rustix::process::Signal;
use testkit::processes::{Child, Cloud, DEADLINE, ENVIRONMENT, Finished, Launch, podman};

/// The agent on Debian.
pub(crate) const AGENT: &str = "localhost/exec-server";

/// The agent and nothing else.
pub(crate) const AGENT_STATIC: &str = "localhost/exec-server-static";

/// Registry and rendezvous.
pub(crate) const CLOUD: &str = "localhost/exec-cloud";

/// `podman run` with what every container here has in common, and `options`.
///
/// # Errors
///
/// When the images were not built.
pub(crate) fn container(options: &[&str]) -> Result<Launch> {
    let hardened = [
        "run",
        "--rm",
        "--network=host",
        "--read-only",
        "--cap-drop=all",
        "--security-opt=no-new-privileges",
        "--ulimit=nofile=4096:4096",
        "--ulimit=nproc=8192:8192",
    ];
    let launch = Launch::program("podman", &podman()?)?;
    Ok(launch.args(hardened).args(options))
}

/// Attaches `image` to `cloud` with nothing but the three variables, and `options` of the runtime.
///
/// # Errors
///
/// When it does not come online.
pub(crate) async fn attach(cloud: &Cloud, image: &str, options: &[&str]) -> Result<Child> {
    let launch = container(&[
        "--env=EXEC_SERVER_REMOTE_URL",
        "--env=EXEC_SERVER_ENVIRONMENT_ID",
        "--env=EXEC_SERVER_TOKEN",
    ])?;
    let launch = launch
        .args(options)
        .arg(image)
        .env("EXEC_SERVER_REMOTE_URL", cloud.url())
        .env("EXEC_SERVER_ENVIRONMENT_ID", ENVIRONMENT)
        .env("EXEC_SERVER_TOKEN", cloud.executor_token());
    cloud.attach(launch).await
}

/// What a program printed that has to have succeeded.
///
/// # Errors
///
/// When it did not.
pub(crate) fn succeeded(finished: &Finished) -> Result<String> {
    let Finished { status, stderr, .. } = finished;
    ensure!(status.success(), "it ended with {status}:\n{stderr}");
    String::from_utf8(finished.stdout.clone()).context("it printed something else than text")
}

/// Stops it as a container runtime does; it has to be orderly.
///
/// # Errors
///
/// When it does not end, or not with success.
pub(crate) async fn stop(mut child: Child) -> Result<()> {
    child.never_panicked()?;
    child.signal(Signal::TERM)?;
    let status = child.ended(DEADLINE).await?;
    ensure!(
        status.success(),
        "it ended with {status}:\n{}",
        child.stderr().text()
    );
    Ok(())
}
