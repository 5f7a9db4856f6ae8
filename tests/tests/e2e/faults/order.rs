//! Frames that come twice, late, or in another order: our ends notice nothing.

use std::time::Duration;

use anyhow::{Result, ensure};
use testkit::{
    faults::{End, Faults, Lane, Scope},
    processes::{Agent, DEADLINE},
};

use super::{
    fixture::Fixture,
    load::{Load, Plan},
};

#[tokio::test]
async fn copies_delays_and_another_order_change_nothing() -> Result<()> {
    let fixture = Fixture::start().await?;
    let executor = Agent::start(&fixture.cloud, &fixture.workspace, &[]).await?;
    fixture.proxy.set(Faults {
        duplicate: 0.1,
        reorder: 0.1,
        delay: Duration::from_millis(5),
        ..Faults::default()
    });
    let plan = Plan {
        clients: 2,
        parallel: 5,
        least: 10,
    };
    let mut load = Load::start(&fixture, plan).await?;
    load.goes_on_until(&fixture, |counts| {
        counts.duplicated > 50 && counts.reordered > 50
    })
    .await?;
    let tally = load.finish(&fixture, DEADLINE).await?;
    tally.all_exact(100)?;
    ensure!(tally.connections == 2, "a connection was given up");
    fixture.unharmed(&executor)
}

/// Handshakes, claims and resets as well, each of them twice.
#[tokio::test]
async fn every_frame_twice_changes_nothing() -> Result<()> {
    let fixture = Fixture::start().await?;
    let executor = Agent::start(&fixture.cloud, &fixture.workspace, &[]).await?;
    fixture.proxy.set(Faults {
        duplicate: 1.0,
        scope: Scope::Everything,
        ..Faults::default()
    });
    let plan = Plan {
        clients: 3,
        parallel: 3,
        least: 3,
    };
    let load = Load::start(&fixture, plan).await?;
    let tally = load.finish(&fixture, DEADLINE).await?;
    tally.all_exact(27)?;
    ensure!(tally.connections == 3, "a connection was given up");
    fixture.unharmed(&executor)
}

/// A path that stops for a while and then delivers everything is no reason to give anything up.
#[tokio::test]
async fn a_stalled_path_goes_on_where_it_stopped() -> Result<()> {
    let fixture = Fixture::start().await?;
    let executor = Agent::start(&fixture.cloud, &fixture.workspace, &[]).await?;
    let plan = Plan {
        clients: 2,
        parallel: 3,
        least: 12,
    };
    let mut load = Load::start(&fixture, plan).await?;
    let probe = fixture.client().await?;
    for round in 0..3 {
        load.progress(6, DEADLINE).await?;
        // The executor's own clock for the stall, which the path plays no part in.
        let script = format!("touch begun-{round}; sleep 0.4; touch over-{round}");
        let mut command = probe
            .start(harness::Command::new(["sh", "-c", &script]))
            .await?;
        fixture.exists(&format!("begun-{round}")).await?;
        fixture.proxy.hold();
        fixture.exists(&format!("over-{round}")).await?;
        fixture.proxy.heal();
        command.wait().await?;
    }
    let tally = load.finish(&fixture, DEADLINE).await?;
    tally.all_exact(72)?;
    ensure!(tally.connections == 2, "a connection was given up");
    fixture.unharmed(&executor)
}

/// One direction alone is slow, so that answers come in bursts.
#[tokio::test]
async fn a_slow_way_back_changes_nothing() -> Result<()> {
    let fixture = Fixture::start().await?;
    let executor = Agent::start(&fixture.cloud, &fixture.workspace, &[]).await?;
    let slow = Faults {
        reorder: 0.3,
        delay: Duration::from_millis(60),
        ..Faults::default()
    };
    fixture.proxy.set_lane(Lane::From(End::Executor), slow);
    let plan = Plan {
        clients: 1,
        parallel: 10,
        least: 4,
    };
    let load = Load::start(&fixture, plan).await?;
    let tally = load.finish(&fixture, DEADLINE).await?;
    tally.all_exact(40)?;
    ensure!(tally.connections == 1, "a connection was given up");
    fixture.unharmed(&executor)
}
