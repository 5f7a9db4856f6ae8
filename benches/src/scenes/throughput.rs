//! A gigabyte of a program's output.

use std::process::Stdio;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail, ensure};
use harness::{Bulk, Client, ClientConfig, Command, Error, Overflow, ProcessEvent};
use tokio::io::AsyncReadExt as _;

use crate::machine;
use crate::promise::Promise;
use crate::series::Series;
use crate::ssh::Ssh;
use crate::subject::Subject;
use crate::system::on;

pub(crate) async fn run(subject: Subject) -> Result<Vec<Series>> {
    Ok(match subject {
        Subject::Ours => vec![
            over(subject, Bulk::Never)
                .await?
                .series(JSON)
                .promised(&[Promise::AtLeastTimes(4.0, Subject::Reference)]),
            over(subject, Bulk::WherePossible)
                .await?
                .series(BULK)
                .promised(&[Promise::AtLeastTimes(0.5, Subject::Machine)]),
        ],
        Subject::Reference => vec![over(subject, Bulk::Never).await?.series(JSON)],
        Subject::Ssh => vec![over_ssh().await?.series(BULK)],
        Subject::Machine => {
            let time = machine::sealed_loopback(BYTES)?;
            vec![Pulled { bytes: BYTES, time }.series(BULK)]
        }
    })
}

/// What came, and how long it took.
struct Pulled {
    bytes: u64,
    time: Duration,
}

impl Pulled {
    fn series(&self, name: &'static str) -> Series {
        Series::rate(name, self.bytes, self.time)
    }
}

/// Pulls with messages of one kind.
async fn over(subject: Subject, bulk: Bulk) -> Result<Pulled> {
    let config = ClientConfig {
        bulk,
        ..ClientConfig::default()
    };
    on(subject, async move |system| {
        let client = system.client_with(config).await?;
        let start = Instant::now();
        let bytes = pull(&client, program()).await?;
        let time = start.elapsed();
        // What the reference has lost does not count as moved.
        ensure!(
            bytes == BYTES || subject == Subject::Reference,
            "{bytes} bytes came"
        );
        Ok(Pulled { bytes, time })
    })
    .await
}

fn program() -> Command {
    Command::new(["head", "-c", "1000000000", "/dev/zero"])
}

/// Takes all output of `command`, as fast as it comes.
pub(super) async fn pull(client: &Client, command: Command) -> Result<u64> {
    let mut process = client.start(command.overflow(Overflow::Block)).await?;
    let mut sum = 0;
    while let Some(event) = process.next_event().await {
        match event {
            Ok(ProcessEvent::Output { chunk, .. }) => sum += chunk.len() as u64,
            // The reference resets a stream whose reader is slower than the program, and has not
            // kept everything when its harness is back.
            Ok(_) | Err(Error::OutputLost { .. }) => {}
            Err(error) => return Err(error.into()),
        }
    }
    Ok(sum)
}

async fn over_ssh() -> Result<Pulled> {
    let ssh = Ssh::start().await?;
    let start = Instant::now();
    let mut command = ssh.command("head -c 1000000000 /dev/zero");
    let mut child = command.stdout(Stdio::piped()).spawn()?;
    let mut output = child.stdout.take().context("no standard output")?;
    let mut buffer = vec![0; 1 << 16];
    let mut sum = 0;
    loop {
        match output.read(&mut buffer).await? {
            0 => break,
            count => sum += count as u64,
        }
    }
    let time = start.elapsed();
    ensure!(child.wait().await?.success(), "ssh failed");
    if sum != BYTES {
        bail!("ssh gave {sum} bytes");
    }
    Ok(Pulled { bytes: sum, time })
}

const JSON: &str = "output of `head -c 1G /dev/zero`, JSON";
const BULK: &str = "the same, bulk messages";

const BYTES: u64 = 1_000_000_000;
