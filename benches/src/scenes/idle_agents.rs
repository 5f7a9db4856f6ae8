//! What an executor that does nothing costs the rendezvous, by how many there are.

use std::time::Duration;

use anyhow::{Context as _, Result};
use futures_util::StreamExt as _;
use futures_util::stream::{self, TryStreamExt as _};
use rustix::process::{Pid, Resource, Rlimit, getrlimit, prlimit};
use testkit::processes::Cloud;
use tokio::task::JoinSet;
use tokio::time::sleep;

use crate::executors::Executors;
use crate::promise::Promise;
use crate::series::{Series, Unit};
use crate::usage::Usage;

pub(crate) async fn run() -> Result<Vec<Series>> {
    let mut cloud = Cloud::start().await?;
    let pid = cloud.child().pid()?;
    allow_descriptors(pid)?;
    let executors = Executors::of(&cloud)?;
    // The first ones make what all of them share.
    let mut sockets = JoinSet::new();
    let mut connected = 0;
    add(&executors, &mut sockets, &mut connected, 10).await?;
    let empty = resting(pid).await?;
    let first = connected;
    let mut rows = Vec::new();
    for (name, count) in COUNTS {
        add(&executors, &mut sockets, &mut connected, count).await?;
        let resident = resting(pid).await?.saturating_sub(empty);
        #[expect(clippy::cast_precision_loss, reason = "a size")]
        let each = resident as f64 / 1024.0 / f64::from(connected - first);
        let row = Series::new(name, Unit::Kibibytes, vec![each]);
        rows.push(row.promised(&[Promise::AtMost(25.0)]));
    }
    drop(sockets);
    cloud.child_mut().kill().await?;
    Ok(rows)
}

/// Connects executors until there are `count`.
async fn add(
    executors: &Executors,
    sockets: &mut JoinSet<()>,
    connected: &mut u32,
    count: u32,
) -> Result<()> {
    let new = stream::iter(*connected..count).map(|number| executors.executor(number));
    let new: Vec<_> = new.buffer_unordered(AT_ONCE).try_collect().await?;
    for mut socket in new {
        // Reading answers pings.
        sockets.spawn(async move { while let Some(Ok(_)) = socket.next().await {} });
    }
    *connected = count;
    Ok(())
}

/// Resident bytes once what was connected has come to rest.
async fn resting(pid: u32) -> Result<u64> {
    sleep(Duration::from_secs(3)).await;
    Ok(Usage::of(pid)?.resident)
}

/// A descriptor for each socket, here and there.
fn allow_descriptors(pid: u32) -> Result<()> {
    let now = getrlimit(Resource::Nofile);
    let wanted = Rlimit {
        current: Some(DESCRIPTORS),
        maximum: now.maximum.map(|maximum| maximum.max(DESCRIPTORS)),
    };
    let pid = i32::try_from(pid).ok().and_then(Pid::from_raw);
    for process in [None, Some(pid.context("no process")?)] {
        let raised = prlimit(process, Resource::Nofile, wanted);
        raised.with_context(|| format!("{DESCRIPTORS} descriptors are needed (ulimit -n)"))?;
    }
    Ok(())
}

const COUNTS: [(&str, u32); 4] = [
    ("resident for each of 100 idle agents", 100),
    ("resident for each of 1,000 idle agents", 1_000),
    ("resident for each of 5,000 idle agents", 5_000),
    ("resident for each of 20,000 idle agents", 20_000),
];
const AT_ONCE: usize = 64;
const DESCRIPTORS: u64 = 24_000;
