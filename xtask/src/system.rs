//! Registry, rendezvous and one agent on loopback, as child processes.

use std::{ffi::OsString, path::Path, process::Stdio, time::Duration};

use anyhow::{Context as _, Result, bail};
use tokio::{
    io::{AsyncBufReadExt as _, AsyncRead, BufReader},
    process::{Child, Command},
    sync::mpsc,
    task::JoinSet,
    time::timeout,
};

/// What [`System`] runs on.
///
/// # Errors
///
/// When the operating system refuses.
pub(crate) fn runtime() -> Result<tokio::runtime::Runtime> {
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .context("runtime")
}

/// The running servers; killed when dropped.
pub(crate) struct System {
    cloud: Child,
    agent: Child,
    registry: String,
    readers: JoinSet<()>,
}

impl System {
    /// Starts registry, rendezvous and agent; the agent's environment also has `variables`.
    ///
    /// # Errors
    ///
    /// When one does not start, or is not ready in time.
    pub(crate) async fn start(programs: &Path, variables: &[(OsString, OsString)]) -> Result<Self> {
        let mut readers = JoinSet::new();
        let mut cloud = Command::new(programs.join("exec-cloud"));
        cloud.args(["serve", "--dev", "--listen", "127.0.0.1:0"]);
        let (cloud, mut lines) = launch(cloud, "exec-cloud", &mut readers)?;
        let registry = wait_for(&mut lines, "listening on ")
            .await
            .context("exec-cloud")?;
        let registry = registry
            .split_whitespace()
            .find(|word| word.starts_with("http://"))
            .context("exec-cloud names no address")?
            .to_owned();
        let mut agent = Command::new(programs.join("exec-server"));
        agent.args(["--remote", &registry, "--environment-id", ENVIRONMENT]);
        agent.envs(variables.iter().map(|(name, value)| (name, value)));
        agent.env("EXEC_SERVER_TOKEN", TOKEN);
        let (agent, mut lines) = launch(agent, "exec-server", &mut readers)?;
        wait_for(&mut lines, "online")
            .await
            .context("exec-server")?;
        Ok(Self {
            cloud,
            agent,
            registry,
            readers,
        })
    }

    /// Starts a local websocket in front of the agent and returns it with its address.
    ///
    /// # Errors
    ///
    /// When it does not start, or is not ready in time.
    pub(crate) async fn proxy(&mut self, programs: &Path) -> Result<(Child, String)> {
        let mut proxy = Command::new(programs.join("execctl"));
        proxy.arg("proxy").envs(self.execctl_variables());
        let (proxy, mut lines) = launch(proxy, "execctl", &mut self.readers)?;
        let url = wait_for(&mut lines, "ws://").await.context("execctl")?;
        Ok((proxy, url.trim().to_owned()))
    }

    /// What `execctl` needs to know to use it.
    pub(crate) fn execctl_variables(&self) -> [(&'static str, &str); 3] {
        [
            ("EXECCTL_REGISTRY", &self.registry),
            ("EXECCTL_ENVIRONMENT", ENVIRONMENT),
            ("EXECCTL_TOKEN", TOKEN),
        ]
    }

    /// What the Codex CLI needs to know to use it.
    pub(crate) fn codex_variables(&self) -> [(&'static str, &str); 3] {
        [
            ("CODEX_EXEC_SERVER_NOISE_REGISTRY_URL", &self.registry),
            ("CODEX_EXEC_SERVER_NOISE_ENVIRONMENT_ID", ENVIRONMENT),
            ("CODEX_EXEC_SERVER_NOISE_AUTH_TOKEN", TOKEN),
        ]
    }

    /// Waits until one of the servers ends, which none should, and says which.
    pub(crate) async fn ended(&mut self) -> String {
        let (name, status) = tokio::select! {
            status = self.cloud.wait() => ("exec-cloud", status),
            status = self.agent.wait() => ("exec-server", status),
        };
        match status {
            Ok(status) => format!("{name} ended with {status}"),
            Err(error) => format!("{name} cannot be watched: {error}"),
        }
    }

    /// The agent first, so that it can end its commands and say goodbye.
    pub(crate) async fn stop(&mut self) {
        stop(&mut self.agent).await;
        stop(&mut self.cloud).await;
    }
}

/// Starts a server whose log lines come out of the returned queue.
fn launch(
    mut command: Command,
    name: &str,
    readers: &mut JoinSet<()>,
) -> Result<(Child, mpsc::Receiver<String>)> {
    let mut child = command
        .env("NO_COLOR", "1")
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .kill_on_drop(true)
        .spawn()
        .with_context(|| format!("failed to start {name}"))?;
    let (sender, lines) = mpsc::channel(LOG_LINES);
    if let Some(pipe) = child.stdout.take() {
        readers.spawn(forward(pipe, sender.clone()));
    }
    if let Some(pipe) = child.stderr.take() {
        readers.spawn(forward(pipe, sender));
    }
    Ok((child, lines))
}

/// Drains a log. Once nobody waits for a line, warnings and errors go to the user.
async fn forward(pipe: impl AsyncRead + Unpin, sender: mpsc::Sender<String>) {
    let mut lines = BufReader::new(pipe).lines();
    while let Ok(Some(line)) = lines.next_line().await {
        if let Err(unwanted) = sender.send(line).await
            && (unwanted.0.contains("WARN") || unwanted.0.contains("ERROR"))
        {
            eprintln!("{}", unwanted.0);
        }
    }
}

/// Waits for a line with `part`; when the log ends first, the error shows it.
async fn wait_for(lines: &mut mpsc::Receiver<String>, part: &str) -> Result<String> {
    let mut seen = Vec::new();
    let search = async {
        while let Some(line) = lines.recv().await {
            if line.contains(part) {
                return Some(line);
            }
            seen.push(line);
        }
        None
    };
    match timeout(READY_DEADLINE, search).await {
        Ok(Some(line)) => Ok(line),
        Ok(None) => bail!("ended before it was ready:\n{}", seen.join("\n")),
        Err(_) => bail!(
            "not ready within {} s:\n{}",
            READY_DEADLINE.as_secs(),
            seen.join("\n")
        ),
    }
}

/// Asks a server to end, and makes it when it does not.
pub(crate) async fn stop(child: &mut Child) {
    let asked = child.id().is_some_and(|id| {
        std::process::Command::new("kill")
            .arg(id.to_string())
            .status()
            .is_ok_and(|s| s.success())
    });
    if !(asked && timeout(STOP_DEADLINE, child.wait()).await.is_ok()) {
        // Fails only when it has ended meanwhile.
        drop(child.kill().await);
    }
}

/// The environment that the demo's agent serves.
const ENVIRONMENT: &str = "demo";

/// With `--dev` any token will do.
const TOKEN: &str = "demo";

/// For a machine that is busy with something else.
const READY_DEADLINE: Duration = Duration::from_secs(30);

/// Longer than the agent's own grace period for its commands.
const STOP_DEADLINE: Duration = Duration::from_secs(10);

/// Nobody reads faster than a start-up log is written.
const LOG_LINES: usize = 256;
