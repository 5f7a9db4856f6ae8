//! Connections that are cut while a command runs: nothing of its output is lost or repeated.

use anyhow::{Context as _, Result, ensure};
use testkit::{
    faults::CutProxy,
    model::{Call, Script, ScriptedModel},
    processes::{
        Agent, Child, Cloud, CloudOptions, CodexClient, CodexExecutor, DEADLINE, Execctl, Route,
    },
    workspace::Workspace,
};

/// A cloud whose websockets and registry calls all go through a proxy.
struct Fixture {
    proxy: CutProxy,
    cloud: Cloud,
    workspace: Workspace,
}

impl Fixture {
    async fn start() -> Result<Self> {
        let proxy = CutProxy::start().await?;
        // The proxy has to know the port, and the cloud the proxy: so the port is found first.
        let mut first = Cloud::start().await?;
        let port = first.port()?;
        first.child_mut().kill().await?;
        proxy.forward_to(port);
        let public_url = Some(proxy.url());
        let options = CloudOptions {
            port,
            public_url,
            ..CloudOptions::default()
        };
        let cloud = Cloud::start_with(options).await?;
        Ok(Self {
            proxy,
            cloud,
            workspace: Workspace::new()?,
        })
    }

    /// Waits until the command has begun, cuts both ends off, and lets the command go on.
    async fn cut_in_the_middle(&self) -> Result<()> {
        let begun = self.workspace.path().join("begun");
        testkit::until(async || begun.exists()).await?;
        let cut = self.proxy.cut();
        ensure!(cut >= 2, "only {cut} connections went through the proxy");
        std::fs::write(self.workspace.path().join("go"), "")?;
        Ok(())
    }

    async fn execctl_recovers(&self) -> Result<()> {
        let execctl = Execctl::new(&self.cloud).launch()?;
        let mut run = execctl.args(["run", "--", "sh", "-c", COMMAND]).spawn()?;
        run.stdout().wait_for("first", DEADLINE).await?;
        self.cut_in_the_middle().await?;
        let status = run.ended(DEADLINE).await?;
        assert_eq!(
            run.stdout().text(),
            "first\nsecond",
            "{}",
            run.stderr().text()
        );
        assert_eq!(status.code(), Some(4), "{}", run.stderr().text());
        Ok(())
    }

    async fn reference_client_recovers(&self) -> Result<()> {
        let model = ScriptedModel::start(Script::new().call(Call::exec("cut", COMMAND))).await?;
        let route = Route::through(&self.cloud);
        let turn = CodexClient::turn(&model, &self.workspace, &route);
        let (turn, cut) = tokio::join!(turn, self.cut_in_the_middle());
        cut?;
        let turn = turn?;
        model
            .finished()
            .with_context(|| turn.finished.stderr.clone())?;
        let expected = "Chunk ID: <id>\nWall time: <time>\nProcess exited with code 4\n\
             Original token count: 4\nOutput:\nfirst\nsecond\n";
        assert_eq!(model.text_output("cut")?, expected);
        Ok(())
    }

    fn unharmed(&self, executor: &Child) -> Result<()> {
        executor.never_panicked()?;
        self.cloud.child().never_panicked()
    }
}

#[tokio::test]
async fn execctl_recovers_with_our_executor() -> Result<()> {
    let fixture = Fixture::start().await?;
    let executor = Agent::start(&fixture.cloud, &fixture.workspace, &[]).await?;
    fixture.execctl_recovers().await?;
    fixture.unharmed(&executor)
}

#[tokio::test]
async fn execctl_recovers_with_the_reference_executor() -> Result<()> {
    let fixture = Fixture::start().await?;
    let executor = CodexExecutor::start(&fixture.cloud, &fixture.workspace, &[]).await?;
    fixture.execctl_recovers().await?;
    fixture.unharmed(&executor)
}

#[tokio::test]
async fn reference_client_recovers_with_our_executor() -> Result<()> {
    let fixture = Fixture::start().await?;
    let executor = Agent::start(&fixture.cloud, &fixture.workspace, &[]).await?;
    fixture.reference_client_recovers().await?;
    fixture.unharmed(&executor)
}

const COMMAND: &str = "echo first; touch begun; while [ ! -e go ]; do sleep 0.02; done; \
     echo second; exit 4";
