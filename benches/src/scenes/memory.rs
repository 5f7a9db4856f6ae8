//! What the executor keeps resident.

use std::time::Duration;

use anyhow::Result;
use harness::{Client, Command};
use tokio::time::sleep;

use super::throughput::pull;
use crate::promise::Promise;
use crate::series::Series;
use crate::subject::Subject;
use crate::system::{System, on};

pub(crate) async fn run(subject: Subject) -> Result<Vec<Series>> {
    let (idle, streams) = on(subject, async move |system| {
        let idle = settled(&system).await?;
        let mut clients: Vec<Client> = Vec::new();
        for _ in 0..STREAMS {
            clients.push(system.client().await?);
        }
        let streams = settled(&system).await?;
        for client in clients {
            client.close().await;
        }
        anyhow::Ok((idle, streams))
    })
    .await?;
    // With a new one: only the peak is told apart, and it must be that of the output.
    let busy = on(subject, async move |system| {
        let command = Command::new(["head", "-c", "1000000000", "/dev/zero"]);
        pull(&system.client().await?, command).await?;
        Ok(system.executor_usage()?.peak)
    })
    .await?;
    Ok(vec![
        Series::megabytes("resident, idle", idle).promised(&[Promise::AtMost(8.0)]),
        Series::megabytes("resident, 128 idle streams", streams).promised(&[Promise::AtMost(16.0)]),
        Series::megabytes("resident at most, 1 GB of output", busy)
            .promised(&[Promise::AtMost(48.0)]),
    ])
}

/// Resident bytes once what was started has come to rest.
async fn settled(system: &System) -> Result<u64> {
    sleep(Duration::from_secs(2)).await;
    Ok(system.executor_usage()?.resident)
}

const STREAMS: u32 = 128;
