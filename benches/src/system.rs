//! What the scenes run on: our registry, rendezvous and harness, and an executor.

use std::sync::Arc;

use anyhow::{Context as _, Result, bail};
use harness::{Client, ClientConfig, ConnectOptions};
use registry_client::{
    Connector, ConnectorConfig, ConnectorEnvironment, Credential, RegistryUrl, StaticBearer,
};
use relay_proto::ids::EnvironmentId;
use testkit::processes::{Agent, Child, Cloud, CodexExecutor, ENVIRONMENT};
use testkit::workspace::Workspace;

use crate::subject::Subject;
use crate::usage::Usage;

/// Real processes on loopback.
#[derive(Debug)]
pub struct System {
    cloud: Cloud,
    executor: Child,
    connector: Connector,
    _workspace: Workspace,
}

/// Starts a system, does something with it, and ends it.
///
/// # Errors
///
/// What failed of these.
pub(crate) async fn on<T, F>(subject: Subject, work: impl FnOnce(Arc<System>) -> F) -> Result<T>
where
    F: Future<Output = Result<T>>,
{
    let system = Arc::new(System::start(subject).await?);
    let done = work(Arc::clone(&system)).await?;
    let system = Arc::into_inner(system).context("a scene keeps its system")?;
    system.stop().await?;
    Ok(done)
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
            Subject::Ssh | Subject::Machine => bail!("{} is no executor", subject.name()),
        };
        Ok(Self {
            cloud,
            executor,
            connector: connector()?,
            _workspace: workspace,
        })
    }

    /// A session over a websocket and a stream of its own.
    ///
    /// # Errors
    ///
    /// When it cannot be opened.
    pub async fn client(&self) -> Result<Client> {
        self.client_with(ClientConfig::default()).await
    }

    /// The same, with a certain behavior.
    ///
    /// # Errors
    ///
    /// When it cannot be opened.
    pub async fn client_with(&self, config: ClientConfig) -> Result<Client> {
        // One for all sessions, as an orchestrator has it: it reads the roots of the machine.
        let connector = self.connector.clone();
        let credential = Credential::bearer(self.cloud.harness_token())?;
        let options = ConnectOptions {
            registry: RegistryUrl::parse(self.cloud.url())?,
            environment: EnvironmentId::new(ENVIRONMENT)?,
            credential: Arc::new(StaticBearer::new(credential)),
            connector,
            config,
        };
        Ok(Client::connect(options).await?)
    }

    /// What the executor has used so far.
    pub(crate) fn executor_usage(&self) -> Result<Usage> {
        Usage::of(self.executor.pid()?)
    }

    /// What registry and rendezvous have used so far.
    pub(crate) fn cloud_usage(&self) -> Result<Usage> {
        Usage::of(self.cloud.child().pid()?)
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

/// One that goes straight to loopback.
pub(crate) fn connector() -> Result<Connector> {
    Ok(Connector::new(ConnectorConfig {
        // The proxies of this machine are not for loopback.
        environment: ConnectorEnvironment::empty(),
        ..ConnectorConfig::default()
    })?)
}
