//! Payloads of every kind, in all of their forms, over every transport that carries both.

use std::{net::SocketAddr, num::NonZeroU16};

use anyhow::{Context as _, Result, ensure};
use benches::{Subject, System};
use bytes::Bytes;
use harness::{
    Bulk, Client, ClientConfig, Command, HttpRequest, Overflow, PathUri, ProcessEvent, Stdin,
};
use rand::{Rng as _, SeedableRng as _, rngs::StdRng};
use registry_client::{Connector, ConnectorConfig, ConnectorEnvironment};
use testkit::{narrow::NarrowPath, processes::Listener, workspace::Workspace};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpListener,
};

#[tokio::test]
async fn payloads_of_all_kinds_arrive_in_every_form() -> Result<()> {
    let workspace = Workspace::new()?;
    let (executor, url) = Listener::start(&workspace, &[]).await?;
    let system = System::start(Subject::Ours).await?;
    for bulk in [Bulk::Never, Bulk::WherePossible, Bulk::Compressed] {
        let config = ClientConfig {
            bulk,
            ..ClientConfig::default()
        };
        let connector = Connector::new(ConnectorConfig {
            // The proxies of this machine are not for loopback.
            environment: ConnectorEnvironment::empty(),
            ..ConnectorConfig::default()
        })?;
        let direct = Client::connect_direct(&url, None, connector, config.clone()).await?;
        let relay = system.client_with(config).await?;
        for client in [direct, relay] {
            assert!(client.info().capabilities.rpc_bulk);
            everything(&client).await?;
            client.close().await;
        }
    }
    system.stop().await?;
    executor.never_panicked()
}

#[tokio::test]
async fn compression_takes_less_of_a_path_where_data_gets_smaller_and_no_more_elsewhere()
-> Result<()> {
    let workspace = Workspace::new()?;
    let (executor, url) = Listener::start(&workspace, &[]).await?;
    let address = url.trim_start_matches("ws://").trim_end_matches('/');
    let address = address.parse().context("an address")?;
    let lines = (0..50_000_u32).map(|n| format!("{n}: nothing has happened here\n"));
    let log = Bytes::from(lines.collect::<String>());
    let mut random = vec![0; 1_000_000];
    StdRng::seed_from_u64(1).fill_bytes(&mut random);
    for (contents, most_percent) in [(log, 30), (random.into(), 105)] {
        let plain = carried(address, Bulk::WherePossible, &contents).await?;
        let compressed = carried(address, Bulk::Compressed, &contents).await?;
        ensure!(plain >= 2 * contents.len() as u64, "{plain} bytes");
        ensure!(
            compressed * 100 <= plain * most_percent,
            "{compressed} bytes instead of {plain}"
        );
    }
    executor.never_panicked()
}

/// Bytes on the way to an executor and back for a file that is written and read.
async fn carried(executor: SocketAddr, bulk: Bulk, contents: &Bytes) -> Result<u64> {
    let path = NarrowPath::to(executor, None).await?;
    let connector = Connector::new(ConnectorConfig {
        environment: ConnectorEnvironment::empty(),
        ..ConnectorConfig::default()
    })?;
    let config = ClientConfig {
        bulk,
        ..ClientConfig::default()
    };
    let url = format!("ws://{}", path.address());
    let client = Client::connect_direct(&url, None, connector, config).await?;
    let directory = tempfile::tempdir()?;
    let uri = PathUri::from_native(&directory.path().join("f")).context("a path")?;
    let mut writer = client.filesystem().create(&uri).await?;
    writer.write(contents).await?;
    writer.finish().await?;
    let mut reader = client.filesystem().open(&uri).await?;
    let mut read = Vec::new();
    while let Some(block) = reader.next_block().await? {
        read.extend_from_slice(&block);
    }
    ensure!(read == *contents, "other bytes came back");
    client.close().await;
    Ok(path.carried())
}

async fn everything(client: &Client) -> Result<()> {
    input_and_output(client).await?;
    files(client).await?;
    tcp(client).await?;
    bodies(client).await
}

/// Every byte value, without a period that a block could have, in turn with what gets smaller.
fn contents(len: usize) -> Bytes {
    let numbers = (0_u32..).map(|n| match n & 0x8000 {
        0 => n.wrapping_mul(2_654_435_761).to_le_bytes()[3],
        _ => (n >> 15).to_le_bytes()[0],
    });
    numbers.take(len).collect()
}

async fn input_and_output(client: &Client) -> Result<()> {
    let program = Command::new(["cat"])
        .stdin(Stdin::Piped)
        .overflow(Overflow::Block);
    let mut process = client.start(program).await?;
    let sent = contents(1_000_003);
    let control = process.control().clone();
    let write = async {
        for part in sent.chunks(100_000) {
            control.write(Bytes::copy_from_slice(part)).await?;
        }
        control.close_stdin().await
    };
    let read = async {
        let mut output = Vec::new();
        while let Some(event) = process.next_event().await {
            if let ProcessEvent::Output { chunk, .. } = event? {
                output.extend_from_slice(&chunk);
            }
        }
        anyhow::Ok(output)
    };
    let (written, output) = tokio::join!(write, read);
    written?;
    ensure!(output? == sent, "other output than input");
    Ok(())
}

async fn files(client: &Client) -> Result<()> {
    let directory = tempfile::tempdir()?;
    let file = directory.path().join("f");
    let uri = PathUri::from_native(&file).context("a path")?;
    let filesystem = client.filesystem();
    let blocks = contents(3_000_001);
    let mut writer = filesystem.create(&uri).await?;
    writer.write(&blocks).await?;
    writer.finish().await?;
    ensure!(std::fs::read(&file)? == blocks, "other blocks were written");
    let mut reader = filesystem.open(&uri).await?;
    let mut read = Vec::new();
    while let Some(block) = reader.next_block().await? {
        read.extend_from_slice(&block);
    }
    ensure!(read == blocks, "other blocks were read");

    let whole = contents(500_000);
    filesystem.write(&uri, &whole).await?;
    filesystem.append(&uri, &b"end"[..]).await?;
    let read = filesystem.read(&uri).await?;
    ensure!(
        read.strip_suffix(b"end") == Some(&whole[..]),
        "another file"
    );
    Ok(())
}

async fn tcp(client: &Client) -> Result<()> {
    let server = TcpListener::bind("127.0.0.1:0").await?;
    let port = NonZeroU16::new(server.local_addr()?.port()).context("a port")?;
    let echo = async {
        let (mut socket, _) = server.accept().await?;
        let (mut from, mut to) = socket.split();
        tokio::io::copy(&mut from, &mut to).await?;
        to.shutdown().await
    };
    let sent = contents(700_001);
    let both = async {
        let (mut reader, mut writer) = client.tcp("127.0.0.1", port, None).await?.into_split();
        let write = async {
            writer.write(sent.clone()).await?;
            writer.shutdown().await
        };
        let read = async {
            let mut received = Vec::new();
            while let Some(chunk) = reader.next_chunk().await? {
                received.extend_from_slice(&chunk);
            }
            Ok::<_, harness::Error>(received)
        };
        let (written, received) = tokio::join!(write, read);
        written?;
        anyhow::Ok(received?)
    };
    let (echoed, received) = tokio::join!(echo, both);
    echoed?;
    ensure!(received? == sent, "other bytes came back");
    Ok(())
}

async fn bodies(client: &Client) -> Result<()> {
    let server = TcpListener::bind("127.0.0.1:0").await?;
    let url = format!("http://{}/", server.local_addr()?);
    let (up, down) = (contents(300_000), contents(1_500_000));
    let serve = async {
        let (mut socket, _) = server.accept().await?;
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            head.push(socket.read_u8().await?);
        }
        let mut body = vec![0; up.len()];
        socket.read_exact(&mut body).await?;
        let head = format!(
            "HTTP/1.1 200 OK\r\ncontent-length: {}\r\nconnection: close\r\n\r\n",
            down.len()
        );
        socket.write_all(head.as_bytes()).await?;
        socket.write_all(&down).await?;
        anyhow::Ok(body)
    };
    let ask = async {
        let request = HttpRequest::new("PUT", url).body(up.clone());
        let mut response = client.http(request).await?;
        let mut body = Vec::new();
        while let Some(chunk) = response.next_chunk().await? {
            body.extend_from_slice(&chunk);
        }
        anyhow::Ok(body)
    };
    let (received, body) = tokio::join!(serve, ask);
    ensure!(received? == up, "another body was sent");
    ensure!(body? == down, "another body came");
    Ok(())
}
