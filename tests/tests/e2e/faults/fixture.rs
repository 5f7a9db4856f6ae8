//! A cloud behind a fault proxy, which can be killed and started again.

use std::{net::TcpListener, sync::Arc};

use anyhow::{Context as _, Result, ensure};
use harness::{Client, ClientConfig, ConnectOptions};
use registry_client::{
    Connector, ConnectorConfig, ConnectorEnvironment, Credential, RegistryUrl, StaticBearer,
};
use relay_proto::ids::EnvironmentId;
use tempfile::TempDir;
use testkit::{
    faults::{End, FaultProxy},
    processes::{Child, Cloud, CloudOptions, DEADLINE, ENVIRONMENT},
    workspace::Workspace,
};

/// A cloud whose websockets and registry calls all go through a proxy.
pub(crate) struct Fixture {
    pub(crate) proxy: FaultProxy,
    pub(crate) cloud: Cloud,
    pub(crate) workspace: Workspace,
    options: CloudOptions,
    data: TempDir,
}

impl Fixture {
    pub(crate) async fn start() -> Result<Self> {
        let proxy = FaultProxy::start().await?;
        let data = tempfile::tempdir()?;
        let options = CloudOptions {
            port: free_port()?,
            data: Some(data.path().to_owned()),
            public_url: Some(proxy.url()),
            arguments: Vec::new(),
            ..CloudOptions::default()
        };
        proxy.forward_to(options.port);
        let cloud = Cloud::start_with(options.clone()).await?;
        Ok(Self {
            proxy,
            cloud,
            workspace: Workspace::new()?,
            options,
            data,
        })
    }

    /// Kills the cloud at once and starts it again, with the same state and address.
    pub(crate) async fn restart_cloud(&mut self) -> Result<()> {
        self.cloud.child().never_panicked()?;
        self.cloud.child_mut().kill().await?;
        self.cloud = Cloud::start_with(self.options.clone()).await?;
        Ok(())
    }

    /// Starts another cloud that takes over, and waits for the end of the old one.
    pub(crate) async fn replace_cloud(&mut self) -> Result<()> {
        let mut options = self.options.clone();
        options.arguments.push("--take-over".to_owned());
        let successor = Cloud::start_with(options).await?;
        let mut old = std::mem::replace(&mut self.cloud, successor);
        let ended = old.child_mut().ended(DEADLINE).await?;
        ensure!(ended.success(), "{ended}:\n{}", old.child().stderr().text());
        old.child().never_panicked()
    }

    /// Has the cloud drain, and starts it again when it has ended.
    pub(crate) async fn drain_and_restart_cloud(&mut self) -> Result<()> {
        Cloud::drain(self.data.path()).await?;
        let ended = self.cloud.child_mut().ended(DEADLINE).await?;
        ensure!(ended.success(), "{ended}");
        self.cloud.child().never_panicked()?;
        self.cloud = Cloud::start_with(self.options.clone()).await?;
        Ok(())
    }

    /// A session of this process with the executor.
    pub(crate) async fn client(&self) -> Result<Client> {
        let connector = Connector::new(ConnectorConfig {
            // The proxies of this machine are not for loopback.
            environment: ConnectorEnvironment::empty(),
            ..ConnectorConfig::default()
        })?;
        let credential = Credential::bearer(self.cloud.harness_token())?;
        let options = ConnectOptions {
            registry: RegistryUrl::parse(&self.proxy.url())?,
            environment: EnvironmentId::new(ENVIRONMENT)?,
            credential: Arc::new(StaticBearer::new(credential)),
            connector,
            config: ClientConfig::default(),
        };
        Ok(Client::connect(options).await?)
    }

    /// Cuts the websockets of `end`, once there is one: after an earlier cut it may be on its way.
    pub(crate) async fn cut_end(&self, end: End) -> Result<()> {
        testkit::until(async || self.proxy.cut_end(end) > 0)
            .await
            .with_context(|| format!("no {end:?} to cut off"))
    }

    pub(crate) fn unharmed(&self, executor: &Child) -> Result<()> {
        executor.never_panicked()?;
        self.cloud.child().never_panicked()
    }

    /// Waits for a file that a command makes in the workspace.
    pub(crate) async fn exists(&self, name: &str) -> Result<()> {
        let path = self.workspace.path().join(name);
        testkit::until(async || path.exists())
            .await
            .with_context(|| format!("the command did not make {name}"))
    }

    /// Makes a file that a command waits for.
    pub(crate) fn touch(&self, name: &str) -> Result<()> {
        Ok(std::fs::write(self.workspace.path().join(name), "")?)
    }
}

/// A port that is free now. The cloud needs one that stays the same when it is started again, and
/// has to know the proxy's, which has to know the cloud's.
fn free_port() -> Result<u16> {
    Ok(TcpListener::bind("127.0.0.1:0")?.local_addr()?.port())
}
