//! From the start of the executor until the rendezvous has it, and how large its program is.

use std::time::Instant;

use anyhow::{Result, bail};
use testkit::processes::{Agent, Binary, Cloud, CodexExecutor, locate};
use testkit::workspace::Workspace;

use crate::promise::Promise;
use crate::series::Series;
use crate::subject::Subject;

pub(crate) async fn run(subject: Subject) -> Result<Vec<Series>> {
    let workspace = Workspace::new()?;
    let mut cloud = Cloud::start().await?;
    let mut times = Vec::new();
    for _ in 0..ROUNDS {
        let start = Instant::now();
        let mut executor = match subject {
            Subject::Ours => Agent::start(&cloud, &workspace, &[]).await?,
            Subject::Reference => CodexExecutor::start(&cloud, &workspace, &[]).await?,
            Subject::Ssh | Subject::Machine => bail!("{} is no executor", subject.name()),
        };
        times.push(start.elapsed());
        executor.kill().await?;
    }
    cloud.child_mut().kill().await?;
    let binary = match subject {
        Subject::Ours => Binary::ExecServer,
        _ => Binary::Codex,
    };
    let size = locate(binary)?.metadata()?.len();
    Ok(vec![
        Series::times("start to online", times).promised(&[Promise::AtMost(30.0)]),
        Series::megabytes("program on disk", size).promised(&[Promise::AtMost(12.0)]),
    ])
}

const ROUNDS: u32 = 10;
