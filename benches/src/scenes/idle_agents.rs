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
    let most = allow_descriptors(pid)?;
    let executors = Executors::of(&cloud)?;
    // The first ones make what all of them share.
    let mut sockets = JoinSet::new();
    let mut connected = 0;
    add(&executors, &mut sockets, &mut connected, 10).await?;
    let empty = resting(pid).await?;
    let first = connected;
    let mut rows = Vec::new();
    for count in COUNTS.into_iter().chain([most]) {
        add(&executors, &mut sockets, &mut connected, count).await?;
        let resident = resting(pid).await?.saturating_sub(empty);
        #[expect(clippy::cast_precision_loss, reason = "a size")]
        let each = resident as f64 / 1024.0 / f64::from(connected - first);
        let name = format!("resident for each of {} idle agents", thousands(count));
        let row = Series::new(name, Unit::Kibibytes, vec![each]);
        // The first ones pay for what all of them share.
        let promises: &[Promise] = match count == most {
            true => &[Promise::AtMost(25.0)],
            false => &[],
        };
        rows.push(row.promised(promises));
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

/// Allows as many descriptors as may be, here and there; says for how many executors they are enough.
fn allow_descriptors(pid: u32) -> Result<u32> {
    let pid = i32::try_from(pid).ok().and_then(Pid::from_raw);
    let processes = [None, Some(pid.context("no process")?)];
    let wanted = u64::from(MOST) + OTHER_DESCRIPTORS;
    let hard = getrlimit(Resource::Nofile).maximum.unwrap_or(wanted);
    let allow = |maximum: u64| {
        let limit = Rlimit {
            current: Some(maximum.min(wanted)),
            maximum: Some(maximum),
        };
        let mut raised = processes
            .iter()
            .map(|it| prlimit(*it, Resource::Nofile, limit));
        raised.try_for_each(|raised| raised.map(drop))
    };
    // Only the privileged may have more than the hard limit.
    let allowed = match allow(hard.max(wanted)) {
        Ok(()) => wanted,
        Err(_) => {
            allow(hard).context("cannot raise the limit of descriptors (ulimit -n)")?;
            hard.min(wanted)
        }
    };
    Ok(u32::try_from(allowed.saturating_sub(OTHER_DESCRIPTORS))?)
}

/// `20000` as `20,000`.
fn thousands(count: u32) -> String {
    match count {
        0..1_000 => count.to_string(),
        _ => format!("{},{:03}", count / 1_000, count % 1_000),
    }
}

const COUNTS: [u32; 3] = [100, 1_000, 5_000];

/// The last count, where the system lets processes have as many descriptors.
const MOST: u32 = 20_000;

const OTHER_DESCRIPTORS: u64 = 100;

const AT_ONCE: usize = 64;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn thousands_are_set_apart() {
        let texts = [7, 999, 1_000, 20_000, 19_905].map(thousands);
        assert_eq!(texts, ["7", "999", "1,000", "20,000", "19,905"]);
    }
}
