//! The reference, as client and as executor.

use std::{fmt::Write as _, path::Path};

use anyhow::{Context as _, Result};
use serde_json::Value;

use super::{Binary, Child, Cloud, DEADLINE, Execctl, Finished, Launch};
use crate::{model::ScriptedModel, workspace::Workspace};

/// How the client reaches its executor.
#[derive(Debug, Clone)]
pub enum Route {
    /// A websocket to an executor that listens.
    Direct {
        /// `ws://` address.
        url: String,
    },
    /// Through registry and rendezvous, end-to-end encrypted.
    Relay {
        /// Base URL of the registry.
        registry: String,
        /// Environment id.
        environment: String,
        /// Token of the harness.
        token: String,
    },
    /// Our command line client as a child of the client, which carries the messages to an
    /// environment.
    Program(Execctl),
}

impl Route {
    /// The route through `cloud` to its environment.
    pub fn through(cloud: &Cloud) -> Self {
        Self::Relay {
            registry: cloud.url().to_owned(),
            environment: super::ENVIRONMENT.to_owned(),
            token: cloud.harness_token().to_owned(),
        }
    }
}

/// What the client asks its executor to enforce.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Approval {
    /// Nothing.
    Bypassed,
    /// Commands only read.
    ReadOnly,
    /// Commands write in the workspace.
    WorkspaceWrite,
    /// The profile [`PROFILE`], whose tables these are in the client's configuration.
    Profile(&'static str),
}

/// What a profile of permissions is called in the client's configuration.
const PROFILE: &str = "guarded";

impl Approval {
    fn arguments(self) -> &'static [&'static str] {
        match self {
            Self::Bypassed => &["--dangerously-bypass-approvals-and-sandbox"],
            Self::ReadOnly => &["--sandbox", "read-only"],
            Self::WorkspaceWrite => &["--sandbox", "workspace-write"],
            // The option would override it.
            Self::Profile(_) => &[],
        }
    }
}

/// The reference client, which works on one turn without a user.
#[derive(Debug)]
pub struct CodexClient;

impl CodexClient {
    /// Runs one turn in `workspace` with `model`, its commands running behind `route`.
    ///
    /// # Errors
    ///
    /// When the client cannot be started, takes too long, or prints something that is no event.
    pub async fn turn(model: &ScriptedModel, workspace: &Workspace, route: &Route) -> Result<Turn> {
        Self::turn_with(model, workspace, route, Approval::Bypassed).await
    }

    /// Runs one turn whose commands the client wants confined, or not.
    ///
    /// # Errors
    ///
    /// As [`Self::turn`].
    pub async fn turn_with(
        model: &ScriptedModel,
        workspace: &Workspace,
        route: &Route,
        approval: Approval,
    ) -> Result<Turn> {
        let mut launch = Launch::new(Binary::Codex)?;
        write_configuration(launch.home(), model.base_url(), approval)?;
        let home = launch.home().to_owned();
        launch = launch
            .env("CODEX_HOME", home)
            .current_dir(workspace.path())
            .arg("exec")
            .args(approval.arguments())
            .args(["--skip-git-repo-check", "--json", "go"]);
        launch = match route {
            Route::Direct { url } => launch.env("CODEX_EXEC_SERVER_URL", url),
            Route::Relay {
                registry,
                environment,
                token,
            } => launch
                .env("CODEX_EXEC_SERVER_NOISE_REGISTRY_URL", registry)
                .env("CODEX_EXEC_SERVER_NOISE_ENVIRONMENT_ID", environment)
                .env("CODEX_EXEC_SERVER_NOISE_AUTH_TOKEN", token),
            Route::Program(execctl) => {
                write_environments(launch.home(), execctl)?;
                launch
            }
        };
        Turn::new(launch.finish(b"", DEADLINE).await?)
    }
}

/// One finished turn.
#[derive(Debug)]
pub struct Turn {
    /// The client's exit and standard error.
    pub finished: Finished,
    /// Its events.
    pub events: Vec<Value>,
}

impl Turn {
    fn new(finished: Finished) -> Result<Self> {
        let events = String::from_utf8_lossy(&finished.stdout)
            .lines()
            .map(|line| serde_json::from_str(line).context("an event of the client is not JSON"))
            .collect::<Result<_>>()?;
        Ok(Self { finished, events })
    }

    /// All output of the finished command whose command line contains `part`, with its exit code.
    /// Unlike what reaches the model, this is not shortened.
    pub fn command(&self, part: &str) -> Option<(&str, Option<i64>)> {
        self.events
            .iter()
            .filter(|event| event["type"] == "item.completed")
            .map(|event| &event["item"])
            .filter(|item| item["type"] == "command_execution")
            .find(|item| {
                item["command"]
                    .as_str()
                    .is_some_and(|command| command.contains(part))
            })
            .and_then(|item| {
                Some((
                    item["aggregated_output"].as_str()?,
                    item["exit_code"].as_i64(),
                ))
            })
    }
}

/// The reference as executor, registered with a registry.
#[derive(Debug)]
pub struct CodexExecutor;

impl CodexExecutor {
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
        let mut launch = Launch::new(Binary::Codex)?;
        let home = launch.home().to_owned();
        launch = launch
            .env("CODEX_HOME", home)
            .env("CODEX_API_KEY", cloud.executor_token())
            .current_dir(workspace.path())
            .args(["exec-server", "--remote", cloud.url()])
            .args(["--environment-id", super::ENVIRONMENT]);
        for (name, value) in env {
            launch = launch.env(name, value);
        }
        cloud.attach(launch).await
    }
}

/// The reference as executor that listens.
#[derive(Debug)]
pub struct CodexListener;

impl CodexListener {
    /// Starts it and returns it with its `ws://` address.
    ///
    /// # Errors
    ///
    /// When it cannot be started or does not listen.
    pub async fn start(workspace: &Workspace, env: &[(&str, &str)]) -> Result<(Child, String)> {
        let mut launch = Launch::new(Binary::Codex)?;
        let home = launch.home().to_owned();
        launch = launch
            .env("CODEX_HOME", home)
            .current_dir(workspace.path())
            .args(["exec-server", "--listen", "ws://127.0.0.1:0"]);
        for (name, value) in env {
            launch = launch.env(name, value);
        }
        let child = launch.spawn()?;
        let url = child.stdout().wait_for("ws://", DEADLINE).await?;
        Ok((child, url))
    }

    /// Starts it so that it can confine commands: it keeps what it needs for that in `state`, which
    /// must not be in a directory for temporary files.
    ///
    /// # Errors
    ///
    /// As [`Self::start`].
    pub async fn start_confining(workspace: &Workspace, state: &Path) -> Result<(Child, String)> {
        let state = state.to_str().context("the path is no text")?;
        Self::start(workspace, &[("CODEX_HOME", state)]).await
    }
}

/// Names an environment of which the client starts the program itself; there is no local one.
fn write_environments(home: &Path, execctl: &Execctl) -> Result<()> {
    let mut text = format!(
        "default = \"remote-box\"\ninclude_local = false\n\
         [[environments]]\nid = \"remote-box\"\nprogram = \"{}\"\nargs = [\"proxy\", \"--stdio\"]\n\
         initialize_timeout_sec = {}\n\
         [environments.env]\n",
        super::locate(Binary::Execctl)?.display(),
        DEADLINE.as_secs()
    );
    for (name, value) in execctl.variables() {
        writeln!(text, "{name} = \"{value}\"")?;
    }
    std::fs::write(home.join("environments.toml"), text).context("write the list of environments")
}

/// Points the client at the scripted model and keeps it from talking to anyone else.
fn write_configuration(home: &Path, base_url: &str, approval: Approval) -> Result<()> {
    let mut text = String::new();
    if let Approval::Profile(_) = approval {
        writeln!(text, "default_permissions = \"{PROFILE}\"")?;
    }
    text.push_str(
        "model = \"scripted\"\nmodel_provider = \"scripted\"\ncheck_for_update_on_startup = false\n\
         [analytics]\nenabled = false\n\
         [model_providers.scripted]\nname = \"scripted\"\nwire_api = \"responses\"\n\
         request_max_retries = 0\nstream_max_retries = 0\n",
    );
    writeln!(text, "base_url = \"{base_url}\"")?;
    if let Approval::Profile(tables) = approval {
        text.push_str(tables);
    }
    std::fs::write(home.join("config.toml"), text).context("write the client's configuration")
}
