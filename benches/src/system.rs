//! What the scenes run on: our registry, rendezvous and harness, and an executor.

use std::sync::Arc;

use anyhow::Result;
use harness::{Client, ClientConfig, ConnectOptions};
use registry_client::{
    Connector, ConnectorConfig, ConnectorEnvironment, Credential, RegistryUrl, StaticBearer,
};
use relay_proto::ids::EnvironmentId;
use testkit::processes::{Agent, Child, Cloud, CodexExecutor, ENVIRONMENT};
use testkit::workspace::Workspace;

/// Whose executor is measured.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Subject {
    /// `exec-server`.
    Ours,
    /// Codex 0.169.
    Reference,
}

impl Subject {
    /// As the report calls it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Ours => "ours",
            Self::Reference => "Codex 0.169",
        }
    }
}

/// Real processes on loopback.
#[derive(Debug)]
pub struct System {
    subject: Subject,
    cloud: Cloud,
    executor: Child,
    _workspace: Workspace,
}

impl System {
    /// Starts everything, and waits until the executor is online.
    ///
    /// # Errors
    ///
    /// When something does not start.
    pub async fn start(subject: Subject) -> Result<Self> {
        let workspace = Workspace::new()?;
        let cloud = Cloud::start().await?;
        let executor = match subject {
            Subject::Ours => Agent::start(&cloud, &workspace, &[]).await?,
            Subject::Reference => CodexExecutor::start(&cloud, &workspace, &[]).await?,
        };
        Ok(Self {
            subject,
            cloud,
            executor,
            _workspace: workspace,
        })
    }

    /// Whose executor it has.
    pub fn subject(&self) -> Subject {
        self.subject
    }

    /// A session over a websocket and a stream of its own.
    ///
    /// # Errors
    ///
    /// When it cannot be opened.
    pub async fn client(&self) -> Result<Client> {
        let connector = Connector::new(ConnectorConfig {
            // The proxies of this machine are not for loopback.
            environment: ConnectorEnvironment::empty(),
            ..ConnectorConfig::default()
        })?;
        let credential = Credential::bearer(self.cloud.harness_token())?;
        let options = ConnectOptions {
            registry: RegistryUrl::parse(self.cloud.url())?,
            environment: EnvironmentId::new(ENVIRONMENT)?,
            credential: Arc::new(StaticBearer::new(credential)),
            connector,
            config: ClientConfig::default(),
        };
        Ok(Client::connect(options).await?)
    }

    /// Ends everything.
    ///
    /// # Errors
    ///
    /// When something has panicked, or does not end.
    pub async fn stop(mut self) -> Result<()> {
        self.executor.never_panicked()?;
        self.executor.kill().await?;
        self.cloud.child_mut().kill().await
    }
}
