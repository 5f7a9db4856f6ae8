//! Our command line client.

use std::ffi::OsStr;

use anyhow::Result;

use super::{Binary, Cloud, DEADLINE, ENVIRONMENT, Finished, Launch};

/// Our command line client with what it needs to reach one environment.
#[derive(Debug, Clone)]
pub struct Execctl {
    registry: String,
    environment: String,
    token: String,
}

impl Execctl {
    /// A client for the environment of `cloud`.
    pub fn new(cloud: &Cloud) -> Self {
        Self {
            registry: cloud.url().to_owned(),
            environment: ENVIRONMENT.to_owned(),
            token: cloud.harness_token().to_owned(),
        }
    }

    /// The same with another registry.
    #[must_use]
    pub fn registry(mut self, url: &str) -> Self {
        url.clone_into(&mut self.registry);
        self
    }

    /// The same with another environment.
    #[must_use]
    pub fn environment(mut self, id: &str) -> Self {
        id.clone_into(&mut self.environment);
        self
    }

    /// The same with another token.
    #[must_use]
    pub fn token(mut self, token: &str) -> Self {
        token.clone_into(&mut self.token);
        self
    }

    /// Runs it with `args` to its end.
    ///
    /// # Errors
    ///
    /// When it cannot be started or takes too long.
    pub async fn run(&self, args: impl IntoIterator<Item = impl AsRef<OsStr>>) -> Result<Finished> {
        self.run_with_input(args, b"").await
    }

    /// Runs it with `args` and `input` on its standard input to its end.
    ///
    /// # Errors
    ///
    /// When it cannot be started or takes too long.
    pub async fn run_with_input(
        &self,
        args: impl IntoIterator<Item = impl AsRef<OsStr>>,
        input: &[u8],
    ) -> Result<Finished> {
        self.launch()?.args(args).finish(input, DEADLINE).await
    }

    /// Prepares it without arguments.
    ///
    /// # Errors
    ///
    /// When the program is missing.
    pub fn launch(&self) -> Result<Launch> {
        let launch = Launch::new(Binary::Execctl)?;
        Ok(self
            .variables()
            .into_iter()
            .fold(launch, |launch, (name, value)| launch.env(name, value)))
    }

    /// What it needs to know, for a program that starts it.
    pub fn variables(&self) -> [(&'static str, &str); 3] {
        [
            ("EXECCTL_REGISTRY", &self.registry),
            ("EXECCTL_ENVIRONMENT", &self.environment),
            ("EXECCTL_TOKEN", &self.token),
        ]
    }
}
