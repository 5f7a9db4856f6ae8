//! An echo on one stream while another one pulls at full speed.
//!
//! The pull is a program that writes without an end, whose reader throws everything away. The echo is
//! a line to a running `cat` and back: two requests' worth of relay, a pipe each way.

use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};
use harness::{Client, Command, Error, Overflow, Process, ProcessEvent, Stdin};
use tokio::sync::watch;
use tokio::time::timeout;

use crate::promise::Promise;
use crate::series::{Series, Unit};
use crate::system::System;

/// What came out.
#[derive(Debug)]
pub struct Fairness {
    /// Echoes while nothing else goes on.
    pub idle: Vec<Duration>,
    /// Echoes beside the pull.
    pub busy: Vec<Duration>,
    /// Bytes per second of the pull meanwhile.
    pub rate: f64,
}

pub(crate) async fn run(system: Arc<System>) -> Result<Vec<Series>> {
    let Fairness { idle, busy, rate } = measure(&system, 500, 50_000_000).await?;
    Ok(vec![
        Series::times("echo, nothing else", idle),
        Series::times("echo beside a pull at full speed", busy)
            .promised(&[Promise::P99AtMost(5.0)]),
        Series::new("that pull", Unit::MegabytesPerSecond, vec![rate / 1e6]),
    ])
}

/// Does it with so many echoes, the second half once the pull has moved so many bytes, which should
/// be more than all windows and buffers on the way together, or has had ten seconds.
///
/// # Errors
///
/// When something goes wrong on the way.
pub async fn measure(system: &System, echoes: u32, warm_up: u64) -> Result<Fairness> {
    let mut echo = Echo::start(&system.client().await?).await?;
    let idle = echo.times(echoes).await?;

    let bulk = system.client().await?;
    let (pulled, mut progress) = watch::channel(0_u64);
    let program = Command::new(["cat", "/dev/zero"]).overflow(Overflow::Block);
    let mut process = bulk.start(program).await?;
    let pull = async {
        while let Some(event) = process.next_event().await {
            match event {
                Ok(ProcessEvent::Output { chunk, .. }) => {
                    pulled.send_modify(|sum| *sum += chunk.len() as u64);
                }
                // The reference resets a stream whose reader is slower than the program, and has
                // not kept everything when its harness is back.
                Ok(_) | Err(Error::OutputLost { .. }) => {}
                Err(error) => return Err(error.into()),
            }
        }
        bail!("the pull has ended")
    };
    let measure = async {
        // In full swing first.
        let warm = async { progress.wait_for(|sum| *sum >= warm_up).await.map(drop) };
        if let Ok(warm) = timeout(WARM_UP, warm).await {
            warm?;
        }
        let (before, start) = (*progress.borrow(), Instant::now());
        let busy = echo.times(echoes).await?;
        let seconds = start.elapsed().as_secs_f64();
        let pulled = *progress.borrow() - before;
        #[expect(clippy::cast_precision_loss, reason = "a rate")]
        let rate = pulled as f64 / seconds;
        anyhow::Ok(Fairness { idle, busy, rate })
    };
    let fairness = tokio::select! {
        measured = measure => measured?,
        ended = pull => ended?,
    };
    process.control().terminate().await?;
    echo.process.control().terminate().await?;
    Ok(fairness)
}

struct Echo {
    process: Process,
}

impl Echo {
    async fn start(client: &Client) -> Result<Self> {
        let program = Command::new(["cat"]).stdin(Stdin::PipedWithoutEnd);
        let process = client.start(program).await?;
        let mut echo = Self { process };
        // The first ones find their way.
        echo.times(10).await?;
        Ok(echo)
    }

    async fn times(&mut self, count: u32) -> Result<Vec<Duration>> {
        let mut times = Vec::new();
        for _ in 0..count {
            let start = Instant::now();
            self.process.control().write(&b"echo\n"[..]).await?;
            let mut missing = 5;
            while missing > 0 {
                let event = self.process.next_event().await.context("cat has ended")?;
                if let ProcessEvent::Output { chunk, .. } = event? {
                    missing -= chunk.len().min(missing);
                }
            }
            times.push(start.elapsed());
        }
        Ok(times)
    }
}

const WARM_UP: Duration = Duration::from_secs(10);
