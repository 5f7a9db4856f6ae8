//! An executor whose rendezvous sends nonsense.

use anyhow::Result;
use testkit::{faults::RogueCloud, processes::Agent};

use super::{handshake_frame, oversize_message};

/// What is no frame, no handshake or no binary message is dropped; the connection goes on.
#[tokio::test]
async fn executor_ignores_malformed_and_text_messages() -> Result<()> {
    let cloud = RogueCloud::start().await?;
    let mut executor = Agent::launch(cloud.url(), "any-token")?.spawn()?;
    let mut visit = cloud.visit().await?;
    for nonsense in [
        &b""[..],
        b"\x00",
        b"\xff\xff\xff\xff\xff",
        b"\x08\x02",
        b"{\"json\":true}",
    ] {
        visit.send_binary(nonsense).await?;
    }
    visit.send_text("{\"id\":1}").await?;
    visit
        .send_binary(&handshake_frame("stream", b"no handshake")?)
        .await?;
    visit.still_open(b"after nonsense").await?;
    executor.still_runs()?;
    executor.never_panicked()
}

/// A message above the limit ends the connection, never the executor: it comes back.
#[tokio::test]
async fn executor_comes_back_after_a_message_over_the_limit() -> Result<()> {
    let cloud = RogueCloud::start().await?;
    let mut executor = Agent::launch(cloud.url(), "any-token")?.spawn()?;
    let mut visit = cloud.visit().await?;
    visit.send_binary(&oversize_message()).await?;
    visit.ended().await?;
    let mut visit = cloud.visit().await?;
    visit.still_open(b"second connection").await?;
    executor.still_runs()?;
    executor.never_panicked()
}
