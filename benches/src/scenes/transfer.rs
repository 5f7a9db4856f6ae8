//! Much data in both directions, in bulk messages and as base64 in JSON, in turn.
//!
//! Output of a program goes to nobody; a file comes from memory, is written below the temporary
//! directory, and is read back. An executor without bulk messages is measured in JSON alone.

use std::path::Path;
use std::time::Instant;

use anyhow::{Context as _, Result, ensure};
use harness::{Bulk, Client, ClientConfig, Command, PathUri};

use super::throughput::pull;
use crate::series::{Series, Unit, megabytes_per_second};
use crate::system::System;

pub(crate) async fn run(system: &System) -> Result<Vec<Series>> {
    let json = Way::open(system, Bulk::Never).await?;
    let bulk = Way::open(system, Bulk::WherePossible).await?;
    let has_bulk = bulk.client.info().capabilities.rpc_bulk;
    let ways = [Some(json), has_bulk.then_some(bulk)];
    let mut rates: [[Vec<f64>; 3]; 2] = Default::default();
    for _ in 0..TURNS {
        for (way, rates) in ways.iter().zip(&mut rates) {
            let Some(way) = way else { continue };
            let [pulled, uploaded, downloaded] = rates;
            pulled.push(way.pull().await?);
            uploaded.push(way.upload().await?);
            downloaded.push(way.download().await?);
        }
    }
    let names = [
        ["output, JSON", "upload, JSON", "download, JSON"],
        ["output, bulk", "upload, bulk", "download, bulk"],
    ];
    let named = names.into_iter().flatten();
    Ok(named
        .zip(rates.into_iter().flatten())
        .filter(|(_, rates)| !rates.is_empty())
        .map(|(name, rates)| Series::new(name, Unit::MegabytesPerSecond, rates))
        .collect())
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
        let directory = tempfile::tempdir()?;
        Ok(Self {
            client: system.client_with(config).await?,
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

    async fn upload(&self) -> Result<f64> {
        let part = contents();
        let start = Instant::now();
        let mut file = self.client.filesystem().create(&self.file).await?;
        for _ in 0..FILE_BYTES / part.len() as u64 {
            file.write(&part).await?;
        }
        file.finish().await?;
        Ok(megabytes_per_second(FILE_BYTES, start.elapsed()))
    }

    async fn download(&self) -> Result<f64> {
        let start = Instant::now();
        let mut file = self.client.filesystem().open(&self.file).await?;
        let mut read = 0;
        while let Some(block) = file.next_block().await? {
            read += block.len() as u64;
        }
        ensure!(read == FILE_BYTES, "{read} bytes came");
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
