//! Connections that are cut while a command runs: nothing of its output is lost or repeated.

use anyhow::{Context as _, Result, ensure};
use testkit::{
    faults::{End, Lane},
    model::{Call, Script, ScriptedModel},
    processes::{Agent, CodexClient, CodexExecutor, DEADLINE, Execctl, Route},
};

use super::{
    fixture::Fixture,
    load::{Load, Plan, Tally},
};

/// Cuts in the middle of one command, each after the command has gone on and said so.
async fn cut_again_and_again(fixture: &Fixture) -> Result<()> {
    for (round, cut) in Cut::ALL.into_iter().enumerate() {
        fixture.exists(&format!("begun-{round}")).await?;
        let before = fixture.proxy.opened(End::Harness);
        match cut {
            Cut::All => {
                let cut = fixture.proxy.cut();
                ensure!(cut >= 2, "only {cut} connections went through the proxy");
            }
            Cut::End(end) => fixture.cut_end(end).await?,
            Cut::MidFrame(lane) => {
                let cut = fixture.proxy.cut_mid_frame(lane);
                // Its output is what is cut in half.
                fixture.touch(&format!("go-{round}"))?;
                cut.await?;
            }
        }
        fixture.touch(&format!("go-{round}"))?;
        // A harness whose executor goes away dials anew as well: its stream is reset.
        fixture
            .proxy
            .opened_after(End::Harness, before, DEADLINE)
            .await
            .with_context(|| format!("after {cut:?}"))?;
    }
    Ok(())
}

#[derive(Debug, Clone, Copy)]
enum Cut {
    All,
    End(End),
    MidFrame(Lane),
}

impl Cut {
    const ALL: [Self; 4] = [
        Self::All,
        Self::MidFrame(Lane::To(End::Harness)),
        Self::End(End::Harness),
        Self::MidFrame(Lane::From(End::Executor)),
    ];
}

/// Says when it has begun a round, waits for its go, and writes a line.
fn command() -> String {
    let rounds = Cut::ALL.len();
    format!(
        "echo first; for n in $(seq 0 {}); do touch begun-$n; \
         while [ ! -e go-$n ]; do sleep 0.02; done; echo round $n; done; echo last; exit 4",
        rounds - 1
    )
}

fn output() -> String {
    let rounds: String = (0..Cut::ALL.len())
        .map(|n| format!("round {n}\n"))
        .collect();
    format!("first\n{rounds}last\n")
}

async fn execctl_recovers(fixture: &Fixture) -> Result<()> {
    let execctl = Execctl::new(&fixture.cloud).launch()?;
    let mut run = execctl
        .args(["run", "--", "sh", "-c", &command()])
        .spawn()?;
    run.stdout().wait_for("first", DEADLINE).await?;
    cut_again_and_again(fixture)
        .await
        .with_context(|| run.stderr().text())?;
    let status = run.ended(DEADLINE).await?;
    let text = run.stdout().text();
    assert_eq!(format!("{text}\n"), output(), "{}", run.stderr().text());
    assert_eq!(status.code(), Some(4), "{}", run.stderr().text());
    Ok(())
}

#[tokio::test]
async fn execctl_recovers_with_our_executor() -> Result<()> {
    let fixture = Fixture::start().await?;
    let executor = Agent::start(&fixture.cloud, &fixture.workspace, &[]).await?;
    execctl_recovers(&fixture).await?;
    fixture.unharmed(&executor)
}

#[tokio::test]
async fn execctl_recovers_with_the_reference_executor() -> Result<()> {
    let fixture = Fixture::start().await?;
    let executor = CodexExecutor::start(&fixture.cloud, &fixture.workspace, &[]).await?;
    execctl_recovers(&fixture).await?;
    fixture.unharmed(&executor)
}

#[tokio::test]
async fn reference_client_recovers_with_our_executor() -> Result<()> {
    let fixture = Fixture::start().await?;
    let executor = Agent::start(&fixture.cloud, &fixture.workspace, &[]).await?;
    // This client gives a start up that is cut off before it is answered, and nobody can ask whether
    // it has the answer. So the command lets it have that before it says that it has begun.
    let command = format!("sleep 2; {}", command());
    let model = ScriptedModel::start(Script::new().call(Call::exec("cut", &command))).await?;
    let route = Route::through(&fixture.cloud);
    let turn = CodexClient::turn(&model, &fixture.workspace, &route);
    let (turn, cut) = tokio::join!(turn, cut_again_and_again(&fixture));
    let turn = turn?;
    cut.with_context(|| turn.finished.stderr.clone())?;
    model
        .finished()
        .with_context(|| turn.finished.stderr.clone())?;
    let output = output();
    let expected = format!(
        "Chunk ID: <id>\nWall time: <time>\nProcess exited with code 4\n\
         Original token count: {}\nOutput:\n{output}",
        output.len().div_ceil(4)
    );
    assert_eq!(model.text_output("cut")?, expected);
    fixture.unharmed(&executor)
}

/// Many commands at once, and each cut hits some of them at a different point.
async fn load_recovers(fixture: &Fixture) -> Result<Tally> {
    let plan = Plan {
        clients: 2,
        parallel: 4,
        least: 6,
    };
    let mut load = Load::start(fixture, plan).await?;
    for cut in Cut::ALL {
        load.progress(5, DEADLINE).await?;
        match cut {
            Cut::All => ensure!(fixture.proxy.cut() > 0, "nothing to cut"),
            Cut::End(end) => fixture.cut_end(end).await?,
            Cut::MidFrame(lane) => fixture.proxy.cut_mid_frame(lane).await?,
        }
    }
    load.finish(fixture, DEADLINE).await
}

#[tokio::test]
async fn many_commands_recover_with_our_executor() -> Result<()> {
    let fixture = Fixture::start().await?;
    let executor = Agent::start(&fixture.cloud, &fixture.workspace, &[]).await?;
    let tally = load_recovers(&fixture).await?;
    tally.all_exact(48)?;
    tally.only_resumed(2, 2)?;
    fixture.unharmed(&executor)
}

/// The reference never finishes a start whose connection is lost within it. Such a command has an
/// unknown outcome and says so; all others are exact.
#[tokio::test]
async fn many_commands_recover_or_say_so_with_the_reference_executor() -> Result<()> {
    let fixture = Fixture::start().await?;
    let executor = CodexExecutor::start(&fixture.cloud, &fixture.workspace, &[]).await?;
    let tally = load_recovers(&fixture).await?;
    ensure!(tally.connections > 2, "no session was interrupted");
    ensure!(tally.resumptions == 0, "a stream was resumed");
    let (exact, unknown) = (tally.exact.len(), &tally.unknown);
    ensure!(exact + unknown.len() >= 48, "{exact} exact, {unknown:?}");
    for (name, why) in unknown {
        ensure!(why.contains("process/start"), "{name}: {why}");
    }
    // At most the commands that were on their way at each of the cuts.
    ensure!(exact >= 24, "only {exact} exact, {unknown:?}");
    fixture.unharmed(&executor)
}
