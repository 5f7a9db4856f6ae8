//! `/bin/true` without registry, rendezvous and encryption, on a plain websocket.

use anyhow::{Result, bail};
use harness::{Client, ClientConfig};
use testkit::processes::{CodexListener, Listener};
use testkit::workspace::Workspace;

use super::start;
use crate::promise::Promise;
use crate::series::Series;
use crate::subject::Subject;
use crate::system::connector;

pub(crate) async fn run(subject: Subject) -> Result<Vec<Series>> {
    let workspace = Workspace::new()?;
    let (mut executor, url) = match subject {
        Subject::Ours => Listener::start(&workspace, &[]).await?,
        Subject::Reference => CodexListener::start(&workspace, &[]).await?,
        Subject::Ssh | Subject::Machine => bail!("{} does not listen", subject.name()),
    };
    let config = ClientConfig::default();
    let client = Client::connect_direct(&url, None, connector()?, config).await?;
    let (single, many) = start::times(&client).await?;
    executor.kill().await?;
    Ok(vec![
        Series::times("`/bin/true` on `ws://`, one at a time", single)
            .promised(&[Promise::AtMostTimes(1.0 / 8.0, Subject::Reference)]),
        Series::times("`/bin/true` on `ws://`, 32 in flight", many),
    ])
}
