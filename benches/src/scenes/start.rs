//! `/bin/true` from the request until everything about it is known, one at a time and many.

use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use harness::{Client, Command};
use tokio::task::JoinSet;

use crate::promise::Promise;
use crate::series::Series;
use crate::ssh::Ssh;
use crate::subject::Subject;
use crate::system::on;

pub(crate) async fn run(subject: Subject) -> Result<Vec<Series>> {
    let (single, many) = match subject {
        Subject::Ours | Subject::Reference => {
            on(subject, |system| async move {
                times(&system.client().await?).await
            })
            .await?
        }
        Subject::Ssh => {
            let ssh = Ssh::start().await?;
            // Each start is a program of its own here too, which connects to the one that is there.
            (
                sequence(100, || ssh.command("/bin/true")).await?,
                Vec::new(),
            )
        }
        Subject::Machine => (
            sequence(500, || tokio::process::Command::new("/bin/true")).await?,
            Vec::new(),
        ),
    };
    let mut rows = vec![
        Series::times("`/bin/true` until closed, one at a time", single).promised(&[
            Promise::AtMostTimes(1.0 / 3.0, Subject::Reference),
            Promise::AtMostAbove(2.0, Subject::Machine),
        ]),
    ];
    if !many.is_empty() {
        rows.push(
            Series::times("`/bin/true` until closed, 32 in flight", many)
                .promised(&[Promise::AtMostTimes(1.0 / 3.0, Subject::Reference)]),
        );
    }
    Ok(rows)
}

/// One at a time, and 32 in flight.
pub(super) async fn times(client: &Client) -> Result<(Vec<Duration>, Vec<Duration>)> {
    // The first ones find their way.
    starts(client.clone(), 10).await?;
    let single = starts(client.clone(), 100).await?;
    let mut places = JoinSet::new();
    for _ in 0..IN_FLIGHT {
        places.spawn(starts(client.clone(), 20));
    }
    let mut many = Vec::new();
    while let Some(times) = places.join_next().await {
        many.extend(times??);
    }
    Ok((single, many))
}

async fn starts(client: Client, count: u32) -> Result<Vec<Duration>> {
    let mut times = Vec::new();
    for _ in 0..count {
        let start = Instant::now();
        let process = client.start(Command::new(["/bin/true"])).await?;
        let output = process.output(0).await?;
        times.push(start.elapsed());
        ensure!(output.status.code == 0, "/bin/true failed");
    }
    Ok(times)
}

/// Programs of this machine, one after the other.
async fn sequence(
    count: u32,
    command: impl Fn() -> tokio::process::Command,
) -> Result<Vec<Duration>> {
    let mut times = Vec::new();
    for _ in 0..count {
        let start = Instant::now();
        let status = command().status().await?;
        times.push(start.elapsed());
        ensure!(status.success(), "/bin/true failed");
    }
    Ok(times)
}

const IN_FLIGHT: u32 = 32;
