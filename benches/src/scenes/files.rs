//! One large file and ten thousand small ones, there and back, beside `scp` and `tar` over `ssh`.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use harness::{Client, Complete, download, upload};
use tempfile::TempDir;
use tokio::process::Command;
use tokio::task::spawn_blocking;

use crate::promise::Promise;
use crate::series::Series;
use crate::ssh::Ssh;
use crate::subject::Subject;
use crate::system::on;

pub(crate) async fn run(subject: Subject) -> Result<Vec<Series>> {
    let place = Place::new()?;
    let times = match subject {
        Subject::Ssh => over_ssh(&place).await?,
        _ => {
            on(subject, async move |system| {
                through_relay(&system.client().await?, &place).await
            })
            .await?
        }
    };
    let rows = NAMES.into_iter().zip(times).map(|((name, bytes), time)| {
        Series::rate(name, bytes, time).promised(&[
            Promise::AtLeastTimes(4.0, Subject::Reference),
            Promise::AtLeastTimes(1.0, Subject::Ssh),
        ])
    });
    Ok(rows.collect())
}

/// Rows, and the bytes that are moved in each.
const NAMES: [(&str, u64); 4] = [
    ("file of 1 GiB up", LARGE),
    ("file of 1 GiB down", LARGE),
    ("10,000 files of 4 KiB up", SMALL * FILES),
    ("10,000 files of 4 KiB down", SMALL * FILES),
];

/// What is copied, and where to. Both ends are on this machine.
struct Place {
    directory: TempDir,
}

impl Place {
    fn new() -> Result<Self> {
        let place = Self {
            directory: tempfile::tempdir()?,
        };
        fs::File::create(place.path("large"))?.set_len(LARGE)?;
        let content = vec![b'x'; usize::try_from(SMALL)?];
        for number in 0..FILES {
            let directory = place.path("small").join(format!("{:02}", number % 100));
            fs::create_dir_all(&directory)?;
            fs::write(directory.join(number.to_string()), &content)?;
        }
        Ok(place)
    }

    fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    /// What was copied is what there was.
    fn check(&self, large: &str, small: &str) -> Result<()> {
        ensure!(
            fs::metadata(self.path(large))?.len() == LARGE,
            "{large} is not whole"
        );
        let mut found = 0;
        for directory in fs::read_dir(self.path(small))? {
            for file in fs::read_dir(directory?.path())? {
                found += file?.metadata()?.len();
            }
        }
        ensure!(found == SMALL * FILES, "{small} is not whole");
        Ok(())
    }
}

async fn through_relay(client: &Client, place: &Place) -> Result<Vec<Duration>> {
    let mut times = Vec::new();
    let files = client.filesystem();
    let remote = |name: &str| client.resolve(&place.path(name).to_string_lossy());
    for (from, there, back) in [
        ("large", "large-up", "large-down"),
        ("small", "small-up", "small-down"),
    ] {
        let target = remote(there)?;
        let start = settled().await?;
        upload(
            &place.path(from),
            &files,
            &target,
            Complete::Copy,
            &mut |_| {},
        )
        .await?;
        times.push(start.elapsed());
        let start = settled().await?;
        download(
            &files,
            &target,
            &place.path(back),
            Complete::Copy,
            &mut |_| {},
        )
        .await?;
        times.push(start.elapsed());
    }
    place.check("large-down", "small-down")?;
    Ok(times)
}

/// `scp` for the large one, `tar` for the small ones, each the faster way of the two.
async fn over_ssh(place: &Place) -> Result<Vec<Duration>> {
    let ssh = Ssh::start().await?;
    let remote = |name: &str| format!("127.0.0.1:{}", place.path(name).display());
    let local = |name: &str| place.path(name).display().to_string();
    let mut times = Vec::new();
    for (from, to) in [
        (local("large"), remote("large-up")),
        (remote("large-up"), local("large-down")),
    ] {
        let start = settled().await?;
        succeed(&mut ssh.scp(&[&from, &to])).await?;
        times.push(start.elapsed());
    }
    fs::create_dir(place.path("small-up"))?;
    fs::create_dir(place.path("small-down"))?;
    let pack = |directory: &Path| {
        let mut tar = Command::new("tar");
        tar.arg("-C").arg(directory).args(["-cf", "-", "."]);
        tar
    };
    let unpack = |directory: &Path| {
        let mut tar = Command::new("tar");
        tar.arg("-C").arg(directory).args(["-xf", "-"]);
        tar
    };
    let up = ssh.command(&format!("tar -C {} -xf -", local("small-up")));
    times.push(pipe(pack(&place.path("small")), up).await?);
    let down = ssh.command(&format!("tar -C {} -cf - .", local("small-up")));
    times.push(pipe(down, unpack(&place.path("small-down"))).await?);
    place.check("large-down", "small-down")?;
    Ok(times)
}

/// Runs two programs, the output of the first being the input of the second.
async fn pipe(mut from: Command, mut to: Command) -> Result<Duration> {
    let start = settled().await?;
    let mut from = from.stdout(Stdio::piped()).spawn()?;
    let output: Stdio = from.stdout.take().context("no output")?.try_into()?;
    let status = to.stdin(output).status().await?;
    ensure!(status.success(), "the second program failed");
    ensure!(from.wait().await?.success(), "the first program failed");
    Ok(start.elapsed())
}

/// Brings what was written before to the disk, which would be busy with it otherwise, and begins.
async fn settled() -> Result<Instant> {
    spawn_blocking(rustix::fs::sync).await?;
    Ok(Instant::now())
}

async fn succeed(command: &mut Command) -> Result<()> {
    ensure!(command.status().await?.success(), "a program failed");
    Ok(())
}

const LARGE: u64 = 1 << 30;
const SMALL: u64 = 4096;
const FILES: u64 = 10_000;
