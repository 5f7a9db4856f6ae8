//! The programs of `docs/embedding.md`, as somebody runs them who tries the client library.

use std::path::PathBuf;

use anyhow::{Context as _, Result, ensure};
use rustix::process::Signal;
use testkit::{
    processes::{Agent, Child, Cloud, DEADLINE, Execctl, Launch},
    web::EchoServer,
    workspace::Workspace,
};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpListener, TcpStream},
    time::timeout,
};

/// Examples of the whole workspace are built together with its tests.
fn example(name: &str) -> Result<PathBuf> {
    let test = std::env::current_exe()?;
    let built = test.parent().and_then(|deps| deps.parent());
    let path = built.context("no directory")?.join("examples").join(name);
    ensure!(
        path.is_file(),
        "{} is missing: run `cargo build -p harness --examples`",
        path.display()
    );
    Ok(path)
}

fn launch(name: &str, execctl: &Execctl) -> Result<Launch> {
    let launch = Launch::program(name, &example(name)?)?;
    let variables = execctl.variables().into_iter();
    Ok(variables.fold(launch, |launch, (name, value)| launch.env(name, value)))
}

async fn system() -> Result<(Workspace, Cloud, Child)> {
    let workspace = Workspace::new()?;
    let cloud = Cloud::start().await?;
    let executor = Agent::start(&cloud, &workspace, &[]).await?;
    Ok((workspace, cloud, executor))
}

#[tokio::test]
async fn orchestrator_writes_runs_streams_and_reads() -> Result<()> {
    let (workspace, cloud, executor) = system().await?;
    let orchestrator = launch("orchestrator", &Execctl::new(&cloud))?;
    let finished = orchestrator.finish(b"", DEADLINE).await?;
    assert_eq!(finished.stderr, "exit code 7\n");
    assert_eq!(finished.stdout, b"3\n2\n3\n10\n");
    assert_eq!(finished.code(), Some(0));
    let sorted = workspace.path().join("orchestrator/sorted");
    assert_eq!(std::fs::read(sorted)?, b"2\n3\n10\n");

    let absent = Execctl::new(&cloud).environment("absent");
    let refused = launch("orchestrator", &absent)?
        .finish(b"", DEADLINE)
        .await?;
    assert_eq!(refused.code(), Some(1));
    ensure!(refused.stderr.contains("absent"), "{}", refused.stderr);
    executor.never_panicked()
}

#[tokio::test]
async fn reach_makes_requests_and_forwards_a_port() -> Result<()> {
    let (workspace, cloud, executor) = system().await?;
    let (web, database) = (
        EchoServer::start().await?,
        TcpListener::bind("127.0.0.1:0").await?,
    );
    let mut reach = launch("reach", &Execctl::new(&cloud))?
        .arg(format!("{}/missing/page", web.url()))
        .args([&database.local_addr()?.to_string(), "journal"])
        .spawn()?;
    let line = reach.stdout().wait_for("listening on ", DEADLINE).await;
    let line = line.with_context(|| reach.stderr().text())?;
    let text = reach.stdout().text();
    ensure!(
        text.starts_with("status 404\nGET\n/missing/page\n"),
        "{text}"
    );
    let address = line.split_whitespace().next_back().context("no address")?;
    let exchange = async {
        let mut near = TcpStream::connect(address).await?;
        let (mut far, _) = database.accept().await?;
        near.write_all(b"question").await?;
        near.shutdown().await?;
        let (mut asked, mut answered) = (Vec::new(), Vec::new());
        far.read_to_end(&mut asked).await?;
        far.write_all(b"answer").await?;
        far.shutdown().await?;
        near.read_to_end(&mut answered).await?;
        anyhow::Ok((asked, answered))
    };
    let (asked, answered) = timeout(DEADLINE, exchange).await.context("too long")??;
    assert_eq!((&*asked, &*answered), (&b"question"[..], &b"answer"[..]));
    reach.signal(Signal::INT)?;
    let ended = reach.ended(DEADLINE).await?;
    assert_eq!(ended.code(), Some(0), "{}", reach.stderr().text());
    let journal = std::fs::read_to_string(workspace.path().join("journal"))?;
    assert_eq!(journal, "asking\nover\n");
    executor.never_panicked()
}
