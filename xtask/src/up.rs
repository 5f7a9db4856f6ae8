//! The whole system on loopback: registry and rendezvous, one agent, and the client.

use std::{
    path::Path,
    process::{ExitCode, Stdio},
    time::Duration,
};

use anyhow::{Context as _, Result, bail};
use tokio::{
    io::{AsyncBufReadExt as _, AsyncRead, BufReader},
    process::{Child, Command},
    signal::unix::{SignalKind, signal},
    sync::mpsc,
    task::JoinSet,
    time::timeout,
};

use crate::{build, packages};

/// Starts everything, runs `command` through the encrypted path, and ends with its exit code.
///
/// # Errors
///
/// When something cannot be built, started or reached.
pub(crate) fn run(command: &[String]) -> Result<ExitCode> {
    let programs = prepare()?;
    runtime()?.block_on(async {
        let mut system = System::start(&programs).await?;
        let mut client = Command::new(programs.join("execctl"));
        client.args(["run", "--"]).args(command).kill_on_drop(true);
        for (name, value) in system.execctl_variables() {
            client.env(name, value);
        }
        // Its output, its input and nothing else are what the user sees.
        let mut client = client.spawn().context("failed to start execctl")?;
        let status = tokio::select! {
            status = client.wait() => status?,
            signal = interrupted() => {
                signal?;
                stop(&mut client).await;
                return Ok(ExitCode::from(INTERRUPTED));
            }
            ended = system.ended() => bail!("{ended}"),
        };
        system.stop().await;
        let code = status.code().context("execctl was killed by a signal")?;
        Ok(ExitCode::from(u8::try_from(code)?))
    })
}

/// Starts everything, says how to use it, and stays until it is interrupted.
///
/// # Errors
///
/// When something cannot be built or started, or ends by itself.
#[expect(clippy::print_stdout, reason = "what to paste is the result")]
pub(crate) fn stay() -> Result<ExitCode> {
    let programs = prepare()?;
    runtime()?.block_on(async {
        let mut system = System::start(&programs).await?;
        let program = |name| programs.join(name).display().to_string();
        println!("An agent is online. To run commands on it with execctl, paste:\n");
        for (name, value) in system.execctl_variables() {
            println!("export {name}={value}");
        }
        println!(
            "{} run -- uname -a\n\nFrom the Codex CLI, paste:\n",
            program("execctl")
        );
        for (name, value) in system.codex_variables() {
            println!("export {name}={value}");
        }
        println!("codex");
        eprintln!("\nCtrl-C stops everything.");
        let ended = tokio::select! {
            signal = interrupted() => { signal?; None }
            ended = system.ended() => Some(ended),
        };
        system.stop().await;
        match ended {
            Some(problem) => bail!("{problem}"),
            None => Ok(ExitCode::SUCCESS),
        }
    })
}

fn prepare() -> Result<std::path::PathBuf> {
    packages::provide(packages::BUILD)?;
    build::programs()
}

fn runtime() -> Result<tokio::runtime::Runtime> {
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .context("runtime")
}

/// Waits for Ctrl-C or a request to end.
async fn interrupted() -> Result<()> {
    let mut interrupt = signal(SignalKind::interrupt())?;
    let mut terminate = signal(SignalKind::terminate())?;
    tokio::select! {
        _ = interrupt.recv() => {}
        _ = terminate.recv() => {}
    }
    Ok(())
}

/// The running servers; killed when dropped.
struct System {
    cloud: Child,
    agent: Child,
    registry: String,
    _readers: JoinSet<()>,
}

impl System {
    async fn start(programs: &Path) -> Result<Self> {
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
        agent.env("EXEC_SERVER_TOKEN", TOKEN);
        let (agent, mut lines) = launch(agent, "exec-server", &mut readers)?;
        wait_for(&mut lines, "online")
            .await
            .context("exec-server")?;
        Ok(Self {
            cloud,
            agent,
            registry,
            _readers: readers,
        })
    }

    fn execctl_variables(&self) -> [(&'static str, &str); 3] {
        [
            ("EXECCTL_REGISTRY", &self.registry),
            ("EXECCTL_ENVIRONMENT", ENVIRONMENT),
            ("EXECCTL_TOKEN", TOKEN),
        ]
    }

    fn codex_variables(&self) -> [(&'static str, &str); 3] {
        [
            ("CODEX_EXEC_SERVER_NOISE_REGISTRY_URL", &self.registry),
            ("CODEX_EXEC_SERVER_NOISE_ENVIRONMENT_ID", ENVIRONMENT),
            ("CODEX_EXEC_SERVER_NOISE_AUTH_TOKEN", TOKEN),
        ]
    }

    /// Waits until one of the servers ends, which none should, and says which.
    async fn ended(&mut self) -> String {
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
    async fn stop(&mut self) {
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
async fn stop(child: &mut Child) {
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

/// What a shell reports for a program that Ctrl-C ended.
const INTERRUPTED: u8 = 130;
