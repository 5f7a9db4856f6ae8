//! Processor time for a gigabyte of output, of each process that it passes.

use std::sync::Arc;

use anyhow::Result;
use harness::Command;

use super::throughput::pull;
use crate::series::{Series, Unit};
use crate::system::System;
use crate::usage::Usage;

pub(crate) async fn run(system: Arc<System>) -> Result<Vec<Series>> {
    let client = system.client().await?;
    let usages = || {
        anyhow::Ok([
            system.executor_usage()?,
            system.cloud_usage()?,
            Usage::own()?,
        ])
    };
    let before = usages()?;
    let command = Command::new(["head", "-c", "1000000000", "/dev/zero"]);
    pull(&client, command).await?;
    let after = usages()?;
    let names = [
        "processor time of the executor, output",
        "processor time of the rendezvous, output",
        "processor time of the harness, output",
    ];
    let rows = names.into_iter().zip(before.into_iter().zip(after));
    let rows = rows.map(|(name, (before, after))| {
        let seconds = (after.processor - before.processor).as_secs_f64();
        Series::new(name, Unit::SecondsPerGigabyte, vec![seconds])
    });
    Ok(rows.collect())
}
