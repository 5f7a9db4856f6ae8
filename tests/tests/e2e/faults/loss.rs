//! Records that get lost or changed on the way between our ends.

use std::time::Duration;

use anyhow::Result;
use testkit::{
    faults::{Counts, End, Faults, Lane},
    processes::Agent,
};

use super::{
    fixture::Fixture,
    load::{Load, Plan},
};

/// Runs 300 commands, and more until the faults that were drawn are `enough`.
async fn survive(faults: Faults, enough: fn(&Counts) -> bool) -> Result<()> {
    let fixture = Fixture::start().await?;
    let executor = Agent::start(&fixture.cloud, &fixture.workspace, &[]).await?;
    let plan = Plan {
        clients: 6,
        parallel: 5,
        least: 10,
    };
    let mut load = Load::start(&fixture, plan).await?;
    // Each path once: what comes from one end goes to the other through the second lane.
    for end in End::BOTH {
        fixture.proxy.set_lane(Lane::To(end), faults);
    }
    load.goes_on_until(&fixture, enough).await?;
    let tally = load.finish(&fixture, DEADLINE).await?;
    tally.all_exact(300)?;
    fixture.unharmed(&executor)
}

#[tokio::test]
async fn commands_are_exact_under_loss_duplication_and_reordering() -> Result<()> {
    let faults = Faults {
        lose: 0.05,
        duplicate: 0.05,
        reorder: 0.05,
        ..Faults::default()
    };
    survive(faults, |counts| {
        let each = [counts.lost, counts.duplicated, counts.reordered];
        each.into_iter().all(|count| count > 30)
    })
    .await
}

/// Far worse than any network that is worth using.
#[tokio::test]
async fn commands_are_exact_when_most_of_everything_goes_wrong() -> Result<()> {
    let faults = Faults {
        lose: 0.2,
        duplicate: 0.2,
        reorder: 0.2,
        corrupt: 0.05,
        delay: Duration::from_millis(5),
        ..Faults::default()
    };
    survive(faults, |counts| counts.lost > 200 && counts.corrupted > 30).await
}

/// What was lost on one connection is made good on the next.
#[tokio::test]
async fn commands_are_exact_under_loss_with_cuts_in_between() -> Result<()> {
    let fixture = Fixture::start().await?;
    let executor = Agent::start(&fixture.cloud, &fixture.workspace, &[]).await?;
    let plan = Plan {
        clients: 3,
        parallel: 4,
        least: 10,
    };
    let mut load = Load::start(&fixture, plan).await?;
    fixture.proxy.lose(0.05);
    for end in [End::Harness, End::Executor, End::Harness] {
        load.progress(15, DEADLINE).await?;
        fixture.cut_end(end).await?;
    }
    load.goes_on_until(&fixture, |counts| counts.lost > 20)
        .await?;
    let tally = load.finish(&fixture, DEADLINE).await?;
    tally.all_exact(120)?;
    tally.only_resumed(3, 3)?;
    fixture.unharmed(&executor)
}

#[tokio::test]
async fn commands_are_exact_when_bytes_change_on_the_way() -> Result<()> {
    let faults = Faults {
        corrupt: 0.006,
        ..Faults::default()
    };
    survive(faults, |counts| counts.corrupted > 5).await
}

const DEADLINE: Duration = Duration::from_secs(50);
