//! Our executor.

use anyhow::Result;

use super::{Binary, Child, Cloud, DEADLINE, ENVIRONMENT, Launch};
use crate::workspace::Workspace;

/// Our executor, registered with a registry.
#[derive(Debug)]
pub struct Agent;

impl Agent {
    /// Starts it for the environment of `cloud` and waits until it is online.
    ///
    /// # Errors
    ///
    /// When it cannot be started or does not come online.
    pub async fn start(
        cloud: &Cloud,
        workspace: &Workspace,
        env: &[(&str, &str)],
    ) -> Result<Child> {
        let mut launch = Self::launch(cloud.url(), cloud.executor_token())?;
        for (name, value) in env {
            launch = launch.env(name, value);
        }
        cloud.attach(launch.current_dir(workspace.path())).await
    }

    /// Prepares one that registers at `registry`, whatever is or is not there.
    ///
    /// # Errors
    ///
    /// When the program is missing.
    pub fn launch(registry: &str, token: &str) -> Result<Launch> {
        let launch = Launch::new(Binary::ExecServer)?;
        let home = launch.home().to_owned();
        Ok(launch
            .env("CODEX_HOME", home)
            .env("EXEC_SERVER_TOKEN", token)
            .args(["--remote", registry, "--environment-id", ENVIRONMENT]))
    }
}

/// Our executor as a listener.
#[derive(Debug)]
pub struct Listener;

impl Listener {
    /// Starts it and returns it with its `ws://` address.
    ///
    /// # Errors
    ///
    /// When it cannot be started or does not listen.
    pub async fn start(workspace: &Workspace, env: &[(&str, &str)]) -> Result<(Child, String)> {
        let child = Self::launch(workspace, env, "ws://127.0.0.1:0")?;
        let url = child.stdout().wait_for("ws://", DEADLINE).await?;
        Ok((child, url))
    }

    /// Starts it at the address of an earlier one.
    ///
    /// # Errors
    ///
    /// When it cannot be started or does not listen.
    pub async fn start_at(workspace: &Workspace, url: &str) -> Result<Child> {
        let child = Self::launch(workspace, &[], url)?;
        child.stdout().wait_for("ws://", DEADLINE).await?;
        Ok(child)
    }

    fn launch(workspace: &Workspace, env: &[(&str, &str)], url: &str) -> Result<Child> {
        let mut launch = Launch::new(Binary::ExecServer)?;
        let home = launch.home().to_owned();
        for (name, value) in env {
            launch = launch.env(name, value);
        }
        launch
            .env("CODEX_HOME", home)
            .current_dir(workspace.path())
            .args(["--listen", url])
            .spawn()
    }
}
