//! Registry and rendezvous.

use std::ffi::OsString;

use anyhow::{Context as _, Result};

use super::{Binary, Child, DEADLINE, Launch};

/// A running `exec-cloud`, in its development mode unless the test says otherwise.
#[derive(Debug)]
pub struct Cloud {
    child: Child,
    url: String,
}

/// How to start it.
#[derive(Debug, Default, Clone)]
pub struct CloudOptions {
    /// Port to listen on; 0 picks a free one.
    pub port: u16,
    /// More arguments after `serve --dev`.
    pub args: Vec<OsString>,
}

impl Cloud {
    /// Starts it on a free port and waits until it listens.
    ///
    /// # Errors
    ///
    /// When it cannot be started or does not listen.
    pub async fn start() -> Result<Self> {
        Self::start_with(CloudOptions::default()).await
    }

    /// Starts it with `options` and waits until it listens.
    ///
    /// # Errors
    ///
    /// When it cannot be started or does not listen.
    pub async fn start_with(options: CloudOptions) -> Result<Self> {
        let child = Launch::new(Binary::ExecCloud)?
            .args(["serve", "--dev", "--listen"])
            .arg(format!("127.0.0.1:{}", options.port))
            .args(options.args)
            .spawn()?;
        let line = child.stdout().wait_for("http://", DEADLINE).await?;
        let url = line
            .split_whitespace()
            .find(|word| word.starts_with("http://"))
            .context("exec-cloud names no address")?
            .to_owned();
        Ok(Self { child, url })
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
        TOKEN
    }

    /// A token that lets an executor register.
    pub fn executor_token(&self) -> &str {
        TOKEN
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
        self.child.stderr().len()
    }

    /// Waits until it says, after position `seen`, that an executor is connected.
    ///
    /// # Errors
    ///
    /// When it does not say so in time.
    pub async fn executor_online(&self, seen: usize) -> Result<()> {
        self.child
            .stderr()
            .wait_from(seen, "executor connected", DEADLINE)
            .await
            .map(drop)
    }
}

/// The environment that tests use.
pub const ENVIRONMENT: &str = "box";

/// In development mode any token will do.
const TOKEN: &str = "any-token";
