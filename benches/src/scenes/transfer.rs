//! Much data in both directions, in bulk messages and as base64 in JSON, in turn.
//!
//! Output of a program goes to nobody; a file comes from memory, is written below the temporary
//! directory, and is read back. An executor without bulk messages is measured in JSON alone.
//!
//! One that compresses also has a program written and read through a path of 10 MB/s, as it is and
//! compressed.

use std::net::SocketAddr;
use std::num::NonZeroU32;
use std::path::Path;
use std::sync::Arc;
use std::time::Instant;

use anyhow::{Context as _, Result, ensure};
use harness::{Bulk, Client, ClientConfig, Command, PathUri};

use testkit::narrow::NarrowPath;
use testkit::processes::Listener;
use testkit::workspace::Workspace;

use super::throughput::pull;
use crate::series::{Series, Unit, megabytes_per_second};
use crate::system::{System, connector};

pub(crate) async fn run(system: Arc<System>) -> Result<Vec<Series>> {
    let json = Way::open(&system, Bulk::Never).await?;
    let bulk = Way::open(&system, Bulk::WherePossible).await?;
    let capabilities = bulk.client.info().capabilities;
    let has_bulk = capabilities.rpc_bulk;
    let ways = [Some(json), has_bulk.then_some(bulk)];
    let part = contents();
    let mut rates: [[Vec<f64>; 3]; 2] = Default::default();
    for _ in 0..TURNS {
        for (way, rates) in ways.iter().zip(&mut rates) {
            let Some(way) = way else { continue };
            let [pulled, uploaded, downloaded] = rates;
            pulled.push(way.pull().await?);
            let parts = FILE_BYTES / part.len() as u64;
            let parts = (0..parts).map(|_| &part[..]);
            uploaded.push(way.upload(parts, FILE_BYTES).await?);
            downloaded.push(way.download(FILE_BYTES).await?);
        }
    }
    let names = [
        ["output, JSON", "upload, JSON", "download, JSON"],
        ["output, bulk", "upload, bulk", "download, bulk"],
    ];
    let mut series = named(names.into_iter().zip(rates));
    if capabilities.rpc_bulk_zstd {
        series.extend(through_narrow_path().await?);
    }
    Ok(series)
}

fn named<const N: usize>(
    rates: impl Iterator<Item = ([&'static str; N], [Vec<f64>; N])>,
) -> Vec<Series> {
    rates
        .flat_map(|(names, rates)| names.into_iter().zip(rates))
        .filter(|(_, rates)| !rates.is_empty())
        .map(|(name, rates)| Series::new(name, Unit::MegabytesPerSecond, rates))
        .collect()
}

/// What compressing is worth where it is for.
async fn through_narrow_path() -> Result<Vec<Series>> {
    let program = tokio::fs::read(std::env::current_exe()?).await?;
    let workspace = Workspace::new()?;
    let (executor, url) = Listener::start(&workspace, &[]).await?;
    let address: SocketAddr = url.trim_start_matches("ws://").parse()?;
    let path = NarrowPath::to(address, Some(NARROW)).await?;
    let url = format!("ws://{}", path.address());
    let mut rates: [[Vec<f64>; 2]; 2] = Default::default();
    for _ in 0..TURNS {
        for (bulk, rates) in [Bulk::WherePossible, Bulk::Compressed]
            .into_iter()
            .zip(&mut rates)
        {
            let config = ClientConfig {
                bulk,
                ..ClientConfig::default()
            };
            let client = Client::connect_direct(&url, None, connector()?, config).await?;
            let way = Way::of(client)?;
            let [uploaded, downloaded] = rates;
            let size = program.len() as u64;
            uploaded.push(way.upload(program.chunks(1 << 20), size).await?);
            downloaded.push(way.download(size).await?);
        }
    }
    executor.never_panicked()?;
    let names = [
        ["upload at 10 MB/s", "download at 10 MB/s"],
        ["upload at 10 MB/s, zstd", "download at 10 MB/s, zstd"],
    ];
    Ok(named(names.into_iter().zip(rates)))
}

/// A client, and a file of its own.
struct Way {
    client: Client,
    file: PathUri,
    _directory: tempfile::TempDir,
}

impl Way {
    async fn open(system: &System, bulk: Bulk) -> Result<Self> {
        let config = ClientConfig {
            bulk,
            ..ClientConfig::default()
        };
        Self::of(system.client_with(config).await?)
    }

    fn of(client: Client) -> Result<Self> {
        let directory = tempfile::tempdir()?;
        Ok(Self {
            client,
            file: uri(&directory.path().join("file"))?,
            _directory: directory,
        })
    }

    async fn pull(&self) -> Result<f64> {
        let size = OUTPUT_BYTES.to_string();
        let program = Command::new(["head", "-c", &size, "/dev/zero"]);
        let start = Instant::now();
        let pulled = pull(&self.client, program).await?;
        ensure!(pulled == OUTPUT_BYTES, "{pulled} bytes came");
        Ok(megabytes_per_second(pulled, start.elapsed()))
    }

    async fn upload(&self, parts: impl Iterator<Item = &[u8]>, size: u64) -> Result<f64> {
        let start = Instant::now();
        let mut file = self.client.filesystem().create(&self.file).await?;
        for part in parts {
            file.write(part).await?;
        }
        file.finish().await?;
        Ok(megabytes_per_second(size, start.elapsed()))
    }

    async fn download(&self, size: u64) -> Result<f64> {
        let start = Instant::now();
        let mut file = self.client.filesystem().open(&self.file).await?;
        let mut read = 0;
        while let Some(block) = file.next_block().await? {
            read += block.len() as u64;
        }
        ensure!(read == size, "{read} bytes came");
        Ok(megabytes_per_second(read, start.elapsed()))
    }
}

fn uri(path: &Path) -> Result<PathUri> {
    PathUri::from_native(path).context("a path without a name in the protocol")
}

/// A mebibyte that nothing makes smaller.
fn contents() -> Vec<u8> {
    let mut state = 1_u32;
    let next = || {
        state ^= state << 13;
        state ^= state >> 17;
        state ^= state << 5;
        state.to_le_bytes()[0]
    };
    std::iter::repeat_with(next).take(1 << 20).collect()
}

/// Of each kind and form in one round.
const TURNS: usize = 2;
const OUTPUT_BYTES: u64 = 256 << 20;
const FILE_BYTES: u64 = 128 << 20;
/// Bytes a second, each way.
const NARROW: NonZeroU32 = NonZeroU32::new(10_000_000).unwrap();
