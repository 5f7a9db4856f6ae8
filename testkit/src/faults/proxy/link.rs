//! One connection through the proxy, from its first request to its end.
//!
//! The first request tells a websocket of an end from a registry call. A registry call's connection
//! is passed on byte for byte, with all further calls on it.

use std::{future::pending, ops::Range};

use anyhow::{Context as _, Result, bail};
use bytes::BytesMut;
use tokio::{
    io::{AsyncRead, AsyncReadExt as _, AsyncWriteExt as _, copy_bidirectional},
    net::TcpStream,
    sync::watch,
};

use super::{Control, End, Lane, Shared, lane::LanePump, websocket::Reader};

/// Serves `client`, whose connections go on to `server`.
///
/// # Errors
///
/// When either side breaks off.
pub(super) async fn run(
    mut client: TcpStream,
    mut server: TcpStream,
    shared: &Shared,
    number: u64,
) -> Result<()> {
    client.set_nodelay(true)?;
    server.set_nodelay(true)?;
    let mut control = shared.control.subscribe();
    let born = control.borrow_and_update().clone();
    let mut request = BytesMut::new();
    let head = read_head(&mut client, &mut request).await?;
    let head = String::from_utf8_lossy(request.get(head).unwrap_or_default()).into_owned();
    control.wait_for(|control| !control.held).await?;
    let ended = match end_of(&head) {
        Some(end) => {
            tokio::select! {
                ended = websocket(&mut client, &mut server, request, end, shared, number) => ended,
                ended = cut(&mut control, |now| now.cuts[end as usize] != born.cuts[end as usize]) => ended,
            }
        }
        None => {
            if born.registry_closed {
                shared
                    .activity
                    .send_modify(|activity| activity.refused_calls += 1);
                bail!("the registry is closed");
            }
            tokio::select! {
                ended = registry_calls(&mut client, &mut server, &request) => ended,
                ended = cut(&mut control, |now| now.http_cuts != born.http_cuts) => ended,
            }
        }
    };
    if ended.is_err() {
        // A reset rather than an orderly end, as when a router forgets the connection.
        client.set_zero_linger()?;
        server.set_zero_linger()?;
    }
    ended
}

async fn registry_calls(
    client: &mut TcpStream,
    server: &mut TcpStream,
    request: &[u8],
) -> Result<()> {
    server.write_all(request).await?;
    copy_bidirectional(client, server).await?;
    Ok(())
}

async fn websocket(
    client: &mut TcpStream,
    server: &mut TcpStream,
    request: BytesMut,
    end: End,
    shared: &Shared,
    number: u64,
) -> Result<()> {
    server.write_all(&request).await?;
    let mut answer = BytesMut::new();
    let head = read_head(server, &mut answer).await?;
    let is_open = answer.starts_with(b"HTTP/1.1 101");
    let rest = if is_open {
        answer.split_off(head.end)
    } else {
        BytesMut::new()
    };
    client.write_all(&answer).await?;
    if !is_open {
        copy_bidirectional(client, server).await?;
        return Ok(());
    }
    let _open = Open::new(shared, end);
    let (from_client, to_client) = client.split();
    let (from_server, to_server) = server.split();
    let up = Reader::new(from_client, BytesMut::new());
    let up = LanePump::new(Lane::From(end), shared, number, up, to_server);
    let down = Reader::new(from_server, rest);
    let down = LanePump::new(Lane::To(end), shared, number, down, to_client);
    let mut control = shared.control.subscribe();
    let forgotten = control.borrow().forgotten;
    let is_forgotten = |now: &Control| now.forgotten[end as usize] != forgotten[end as usize];
    tokio::select! {
        ended = async { tokio::try_join!(up.run(), down.run()) } => return ended.map(|_| ()),
        forgotten = until(&mut control, is_forgotten) => forgotten?,
    }
    // Nothing is read, written or closed from here on.
    pending().await
}

/// Fails as soon as `is_cut`.
async fn cut(
    control: &mut watch::Receiver<Control>,
    is_cut: impl Fn(&Control) -> bool,
) -> Result<()> {
    control.wait_for(is_cut).await?;
    bail!("cut")
}

/// Waits until `is_met`.
async fn until(
    control: &mut watch::Receiver<Control>,
    is_met: impl Fn(&Control) -> bool,
) -> Result<()> {
    control.wait_for(is_met).await?;
    Ok(())
}

/// Counts one open websocket for as long as it lives.
struct Open<'s> {
    shared: &'s Shared,
    end: End,
}

impl<'s> Open<'s> {
    fn new(shared: &'s Shared, end: End) -> Self {
        shared.activity.send_modify(|activity| {
            activity.open[end as usize] += 1;
            activity.opened[end as usize] += 1;
        });
        Self { shared, end }
    }
}

impl Drop for Open<'_> {
    fn drop(&mut self) {
        let end = self.end as usize;
        self.shared
            .activity
            .send_modify(|activity| activity.open[end] -= 1);
    }
}

/// Reads into `buffer` at least to the end of an HTTP head, and says where that is.
async fn read_head(
    source: &mut (impl AsyncRead + Unpin),
    buffer: &mut BytesMut,
) -> Result<Range<usize>> {
    loop {
        if let Some(end) = buffer.windows(4).position(|part| part == b"\r\n\r\n") {
            return Ok(0..end + 4);
        }
        if buffer.len() > LARGEST_HEAD_BYTES {
            bail!("HTTP head exceeds limit of {LARGEST_HEAD_BYTES} bytes");
        }
        let count = source.read_buf(buffer).await?;
        (count > 0)
            .then_some(())
            .context("the connection ended within an HTTP head")?;
    }
}

/// Whose websocket a request asks for; `None` for a registry call.
fn end_of(head: &str) -> Option<End> {
    let line = head.lines().next()?;
    let target = line.strip_prefix("GET ")?.split(' ').next()?;
    let (_, query) = target.split_once('?')?;
    query.split('&').find_map(|parameter| match parameter {
        "role=environment" => Some(End::Executor),
        "role=harness" => Some(End::Harness),
        _ => None,
    })
}

const LARGEST_HEAD_BYTES: usize = 64 << 10;
