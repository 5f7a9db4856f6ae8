//! Frames through the rendezvous, by the processor time that it takes for them.

use anyhow::{Context as _, Result};
use bytes::Bytes;
use futures_util::{SinkExt as _, StreamExt as _};
use registry_client::WebSocket;
use relay_proto::frame::{Body, Frame};
use relay_proto::ids::{Seq, StreamId};
use testkit::processes::Cloud;
use tokio_tungstenite::tungstenite::Message;

use crate::executors::Executors;
use crate::promise::Promise;
use crate::series::{Series, Unit};
use crate::usage::Usage;

pub(crate) async fn run() -> Result<Vec<Series>> {
    let mut cloud = Cloud::start().await?;
    let pid = cloud.child().pid()?;
    let executors = Executors::of(&cloud)?;
    let mut executor = executors.executor(0).await?;
    let mut harness = executors.harness(0).await?;
    let mut rows = Vec::new();
    for (name, size, count) in SIZES {
        let stream = StreamId::new(format!("stream-{size}"))?;
        let claim = Frame::new(stream.clone(), Body::Resume { next_seq: 0 });
        harness.send(Message::Binary(claim.encode())).await?;
        take(&mut executor, 1).await?;
        let before = Usage::of(pid)?.processor;
        let send = async {
            for seq in 0..count {
                let body = Body::Data {
                    seq: Seq(seq),
                    payload: Bytes::from(vec![7; size]),
                };
                let frame = Frame::new(stream.clone(), body);
                harness.feed(Message::Binary(frame.encode())).await?;
            }
            anyhow::Ok(harness.flush().await?)
        };
        tokio::try_join!(send, take(&mut executor, count))?;
        let used = Usage::of(pid)?.processor - before;
        let rate = f64::from(count) / used.as_secs_f64();
        let row = Series::new(name, Unit::PerSecond, vec![rate]);
        rows.push(row.promised(&[Promise::AtLeast(50_000.0)]));
    }
    cloud.child_mut().kill().await?;
    Ok(rows)
}

/// Takes so many messages with something in them.
async fn take(socket: &mut WebSocket, count: u32) -> Result<()> {
    let mut taken = 0;
    while taken < count {
        let message = socket.next().await.context("the rendezvous is gone")??;
        taken += u32::from(matches!(message, Message::Binary(_)));
    }
    Ok(())
}

const SIZES: [(&str, usize, u32); 2] = [
    ("frames of 256 bytes forwarded per core", 256, 400_000),
    ("frames of 4 KiB forwarded per core", 4_096, 200_000),
];
