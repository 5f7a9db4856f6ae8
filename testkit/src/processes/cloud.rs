//! Registry and rendezvous.

use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, bail, ensure};

use super::{Binary, Child, DEADLINE, Launch};

/// A running `exec-cloud`.
#[derive(Debug)]
pub struct Cloud {
    child: Child,
    url: String,
    harness_token: String,
    executor_token: String,
}

/// How to start it.
#[derive(Debug, Default, Clone)]
pub struct CloudOptions {
    /// Port to listen on; 0 picks a free one.
    pub port: u16,
    /// Where its state is kept; without, nothing outlives the process.
    pub data: Option<PathBuf>,
    /// Base URL that it tells clients, when that is not where it listens.
    pub public_url: Option<String>,
    /// More arguments.
    pub arguments: Vec<String>,
    /// More variables.
    pub variables: Vec<(String, String)>,
}

impl Cloud {
    /// Starts it in its development mode on a free port and waits until it listens.
    ///
    /// # Errors
    ///
    /// When it cannot be started or does not listen.
    pub async fn start() -> Result<Self> {
        Self::start_with(CloudOptions::default()).await
    }

    /// Starts it in its development mode with `options` and waits until it listens.
    ///
    /// # Errors
    ///
    /// When it cannot be started or does not listen.
    pub async fn start_with(options: CloudOptions) -> Result<Self> {
        let mut launch = Launch::new(Binary::ExecCloud)?
            .args(["serve", "--dev", "--listen"])
            .arg(format!("127.0.0.1:{}", options.port));
        if let Some(data) = options.data {
            launch = launch.arg("--data-dir").arg(data);
        }
        if let Some(public_url) = options.public_url {
            launch = launch.args(["--public-url", &public_url]);
        }
        for (name, value) in &options.variables {
            launch = launch.env(name, value);
        }
        let (child, url) = listen(launch.args(options.arguments)).await?;
        let token = "any-token".to_owned();
        Ok(Self {
            child,
            url,
            harness_token: token.clone(),
            executor_token: token,
        })
    }

    /// Starts it with tokens that it checks, one for each role, kept in `data`.
    ///
    /// # Errors
    ///
    /// When no tokens can be made, it cannot be started, or it does not listen.
    pub async fn start_guarded(data: &Path) -> Result<Self> {
        Self::start_guarded_with(data, &[]).await
    }

    /// The same with more variables.
    ///
    /// # Errors
    ///
    /// As [`Cloud::start_guarded`].
    pub async fn start_guarded_with(data: &Path, variables: &[(&str, &str)]) -> Result<Self> {
        let harness_token = Self::create_token(data, &["--role", "harness"]).await?;
        let executor_token = Self::create_token(data, &["--role", "executor"]).await?;
        let launch = Launch::new(Binary::ExecCloud)?
            .args(["serve", "--listen", "127.0.0.1:0", "--data-dir"])
            .arg(data);
        let launch = variables
            .iter()
            .fold(launch, |launch, (name, value)| launch.env(name, value));
        let (child, url) = listen(launch).await?;
        Ok(Self {
            child,
            url,
            harness_token,
            executor_token,
        })
    }

    /// Makes one more token in `data`.
    ///
    /// # Errors
    ///
    /// When the program refuses.
    pub async fn create_token(data: &Path, args: &[&str]) -> Result<String> {
        let launch = Launch::new(Binary::ExecCloud)?
            .args(["token", "create"])
            .args(args);
        let finished = launch
            .arg("--data-dir")
            .arg(data)
            .finish(b"", DEADLINE)
            .await?;
        ensure!(finished.status.success(), "no token: {}", finished.stderr);
        Ok(String::from_utf8(finished.stdout)?.trim().to_owned())
    }

    /// What the audit log in `data` says, one JSON object per line.
    ///
    /// # Errors
    ///
    /// When the program refuses.
    pub async fn audit(data: &Path) -> Result<String> {
        let launch = Launch::new(Binary::ExecCloud)?.args(["audit", "--json", "--data-dir"]);
        let finished = launch.arg(data).finish(b"", DEADLINE).await?;
        ensure!(finished.status.success(), "no log: {}", finished.stderr);
        Ok(String::from_utf8(finished.stdout)?)
    }

    /// Has the one that serves from `data` drain, and waits until it has ended.
    ///
    /// # Errors
    ///
    /// When the program refuses, or connections had to be cut off.
    pub async fn drain(data: &Path) -> Result<()> {
        let launch = Launch::new(Binary::ExecCloud)?.args(["drain", "--data-dir"]);
        let finished = launch.arg(data).finish(b"", DEADLINE).await?;
        ensure!(
            finished.status.success(),
            "not drained: {}",
            finished.stderr
        );
        Ok(())
    }

    /// Base URL of the registry.
    pub fn url(&self) -> &str {
        &self.url
    }

    /// The port it listens on.
    ///
    /// # Errors
    ///
    /// When its address has no port.
    pub fn port(&self) -> Result<u16> {
        let port = self.url.trim_end_matches('/').rsplit(':').next();
        port.and_then(|port| port.parse().ok())
            .context("the address has no port")
    }

    /// A token that lets a harness in.
    pub fn harness_token(&self) -> &str {
        &self.harness_token
    }

    /// A token that lets an executor register.
    pub fn executor_token(&self) -> &str {
        &self.executor_token
    }

    /// The process.
    pub fn child(&self) -> &Child {
        &self.child
    }

    /// The process.
    pub fn child_mut(&mut self) -> &mut Child {
        &mut self.child
    }

    /// A position for [`Cloud::executor_online`].
    pub fn events_so_far(&self) -> usize {
        self.child.stderr().position()
    }

    /// Waits until it says, after position `seen`, that an executor has connected.
    ///
    /// # Errors
    ///
    /// When it does not say so in time.
    pub async fn executor_online(&self, seen: usize) -> Result<()> {
        let event = "socket opened role=\"executor\"";
        self.child
            .stderr()
            .wait_from(seen, event, DEADLINE)
            .await
            .map(drop)
    }

    /// Starts an executor and waits until it is online.
    ///
    /// # Errors
    ///
    /// When it cannot be started, ends, or does not come online in time.
    pub async fn attach(&self, executor: Launch) -> Result<Child> {
        let seen = self.events_so_far();
        let mut child = executor.spawn()?;
        let ended = tokio::select! {
            online = self.executor_online(seen) => {
                online.with_context(|| child.stderr().text())?;
                return Ok(child);
            }
            // Later than that, so that the text is there.
            ended = child.ended(2 * DEADLINE) => ended?,
        };
        bail!(
            "the executor ended with {ended}:\n{}",
            child.stderr().text()
        )
    }
}

async fn listen(launch: Launch) -> Result<(Child, String)> {
    let child = launch.spawn()?;
    let line = child.stdout().wait_for("listening on ", DEADLINE).await?;
    let url = line
        .split_whitespace()
        .next_back()
        .context("exec-cloud names no address")?;
    Ok((child, url.to_owned()))
}

/// The environment that tests use.
pub const ENVIRONMENT: &str = "box";
