//! `exec-cloud drain`: has the server of a data directory send its peers away and end.

use std::time::Duration;

use clap::Args;

use settings::Period;

use super::schema::DataDirectory;
use super::{FAILED, Failure, print};
use crate::config::{ConfigError, DrainConfig};
use crate::control::{Commander, DrainOrder};

#[derive(Debug, Args)]
pub(super) struct Drain {
    #[command(flatten)]
    data: DataDirectory,
    /// When peers are told to come back, such as 2s [default: as the server was started with]
    // Not the ids of the server's settings: no variable gives these.
    #[arg(id = "retry_after_now", long = "retry-after", value_name = "DURATION")]
    retry_after: Option<Period>,
    /// How long all of it may take, such as 30s [default: as the server was started with]
    #[arg(
        id = "drain_timeout_now",
        long = "drain-timeout",
        value_name = "DURATION"
    )]
    drain_timeout: Option<Period>,
    /// Do not wait until the server has ended
    #[arg(long)]
    no_wait: bool,
}

/// Tells the server, and waits until it has ended.
pub(super) async fn run(arguments: Drain) -> Result<(), Failure> {
    // All of it blocks, and nothing else is going on.
    tokio::task::spawn_blocking(|| drain(arguments))
        .await
        .map_err(|error| Failure::runtime(&error))?
}

fn drain(arguments: Drain) -> Result<(), Failure> {
    let directory = arguments.data.resolve()?;
    let commander = Commander::connect(&directory).map_err(|error| Failure::runtime(&error))?;
    let Some(mut commander) = commander else {
        return Err(Failure::configuration(&ConfigError::new(
            "no exec-cloud serves from the data directory".to_owned(),
            "give the --data-dir of a running server",
        )));
    };
    let millis = |period: Period| u64::try_from(period.get().as_millis()).ok();
    let pid = commander
        .drain(DrainOrder {
            retry_after_ms: arguments.retry_after.and_then(millis),
            timeout_ms: arguments.drain_timeout.and_then(millis),
        })
        .map_err(|error| Failure::runtime(&error))?;
    if arguments.no_wait {
        print(&format!("draining, process {pid}"));
        return Ok(());
    }
    let expected = arguments
        .drain_timeout
        .map_or_else(|| DrainConfig::default().timeout, Period::get);
    match commander.stopped(expected.max(SHORTEST_WAIT).saturating_add(MARGIN)) {
        Ok(true) => {
            print(&format!("drained, process {pid}"));
            Ok(())
        }
        Ok(false) => Err(Failure {
            code: FAILED,
            text: "time was up before all peers had gone; they were cut off".to_owned(),
        }),
        Err(error) => Err(Failure::runtime(&error)),
    }
}

/// The server's own setting may be longer than the default, and is not known here.
const SHORTEST_WAIT: Duration = Duration::from_secs(120);
const MARGIN: Duration = Duration::from_secs(10);
