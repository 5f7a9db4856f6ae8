//! One stream does not make another one wait.

use std::time::Duration;

use anyhow::{Result, ensure};
use benches::{Subject, System, scenes::fairness};

/// Twice what the echo takes alone, and half the time in which the pull moves the megabyte that may
/// be on its way: whoever has to wait behind that takes longer, however fast the machine is.
/// In the best of some tries: what else the machine does only ever adds to it.
#[tokio::test]
async fn an_echo_passes_a_pull_at_full_speed() -> Result<()> {
    let system = System::start(Subject::Ours).await?;
    let mut tries = 1;
    loop {
        let measured = fairness::measure(&system, 30, 4_000_000).await?;
        let (idle, busy) = (median(measured.idle), median(measured.busy));
        let window = Duration::from_secs_f64(WINDOW_BYTES / measured.rate);
        if busy < idle * 2 + window / 2 {
            break;
        }
        ensure!(
            tries < TRIES,
            "an echo takes {busy:?} beside a pull of {:.1} MB/s, {idle:?} alone",
            measured.rate / 1e6
        );
        tries += 1;
    }
    system.stop().await
}

fn median(mut times: Vec<Duration>) -> Duration {
    times.sort();
    times[times.len() / 2]
}

const WINDOW_BYTES: f64 = 1_048_576.0;

const TRIES: u32 = 5;
