//! `/bin/true` from the request until everything about it is known, one at a time and many.

use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use harness::{Client, Command};
use tokio::task::JoinSet;

use crate::series::Series;
use crate::system::System;

pub(crate) async fn run(system: &System) -> Result<Vec<Series>> {
    let client = system.client().await?;
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
    Ok(vec![
        Series::times("`/bin/true` until closed, one at a time", single),
        Series::times("`/bin/true` until closed, 32 in flight", many),
    ])
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

const IN_FLIGHT: u32 = 32;
