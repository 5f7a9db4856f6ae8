//! One stream over as many websockets as it takes.
//!
//! ```text
//! carried --websocket ends, executor silent--> lost --new bundle, websocket--> asking --answer--> carried
//!    |                                          ^ |                              |
//!    |                                          +-|------- no answer in 5 s -----+
//!    v                                            v
//!  over: ended by either end, or cannot be had back (in time)
//! ```
//!
//! What ends here is the stream, not the session: that is then taken over on a new stream, by
//! [`Dial`](crate::Dial). So whatever says that this stream is gone is believed at once, and what
//! only may be so is tried again while the executor may still have it.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use rand::{RngExt as _, SeedableRng as _, rngs::StdRng};
use registry_client::WebSocketIo;
use relay_driver::{DisconnectReason, Driver, Path, Resumable};
use relay_proto::{backoff::Backoff, keys::PublicKey};
use tokio::{
    sync::{oneshot, watch},
    time::{Instant, sleep, timeout_at},
};
use tokio_util::sync::CancellationToken;

use super::Route;
use crate::{Error, RecoveryConfig, client::random_seed, limits, transport::chain};

/// Counts how often a stream went on over another websocket.
#[derive(Clone, Debug, Default)]
pub(crate) struct Resumptions(Arc<AtomicU64>);

impl Resumptions {
    pub(crate) fn count(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

/// Carries one stream.
pub(super) struct Carrier {
    route: Arc<Route>,
    /// Who holds the other end. Nobody else could resume the stream, so nobody else is asked.
    executor: PublicKey,
    budget: Duration,
    backoff: Backoff,
    stable_after: Duration,
    rng: StdRng,
    resumptions: Resumptions,
}

/// How a websocket ended.
struct Ended {
    reason: DisconnectReason,
    streams: Resumable,
    /// When the executor was found to have the stream; `None` if it did not say so.
    live_since: Option<Instant>,
}

impl Carrier {
    pub(super) fn new(
        route: Arc<Route>,
        executor: PublicKey,
        recovery: RecoveryConfig,
        resumptions: Resumptions,
    ) -> Self {
        Self {
            route,
            executor,
            budget: recovery.budget,
            backoff: Backoff::new(recovery.backoff),
            stable_after: recovery.backoff.min_delay,
            rng: StdRng::from_seed(random_seed()),
            resumptions,
        }
    }

    /// Runs until the stream is over, which its channels tell. `path` comes when it has opened.
    pub(super) async fn run(
        mut self,
        driver: Driver<WebSocketIo>,
        path: oneshot::Receiver<watch::Receiver<Path>>,
    ) {
        let opened_at = Instant::now();
        let (reason, streams) = driver.run_resumable().await;
        tracing::debug!(reason = reason.reason(), "relay connection ended");
        if streams.is_empty() {
            return;
        }
        let Ok(mut path) = path.await else {
            return;
        };
        let mut ended = Ended {
            reason,
            streams,
            live_since: Some(opened_at),
        };
        let mut lost_at = Instant::now();
        let mut unanswered = 0;
        loop {
            match ended.live_since {
                Some(since) => {
                    (lost_at, unanswered) = (Instant::now(), 0);
                    self.backoff.connected(since.into_std());
                    self.backoff.lost(lost_at.into_std());
                }
                None => unanswered += 1,
            }
            if unanswered >= limits::RESUMES_WITHOUT_ANSWER {
                tracing::debug!("the executor does not answer for the stream");
                return;
            }
            let pace = match (ended.reason, ended.live_since) {
                (DisconnectReason::SentAway { retry_after }, _) => Pace::Told(retry_after),
                (_, Some(since)) if since.elapsed() >= self.stable_after => Pace::AtOnce,
                (_, Some(_)) => Pace::Waiting,
                // An attempt without an answer has taken its time.
                (DisconnectReason::PathDead, None) => Pace::AtOnce,
                (_, None) => Pace::Waiting,
            };
            let deadline = lost_at + self.budget;
            let Some(driver) = self.redial(ended.streams, pace, deadline).await else {
                return;
            };
            ended = self.carry(driver, &mut path).await;
            if ended.streams.is_empty() {
                return;
            }
        }
    }

    /// Opens the next websocket. `None` when that cannot be, or comes too late for the stream.
    async fn redial(
        &mut self,
        mut streams: Resumable,
        pace: Pace,
        deadline: Instant,
    ) -> Option<Driver<WebSocketIo>> {
        let mut delay = match pace {
            // A thousand harnesses that were cut at once do not come back at once.
            Pace::AtOnce => self.rng.random_range(Duration::ZERO..=limits::FIRST_REDIAL),
            Pace::Told(retry_after) => {
                let spread = limits::FIRST_REDIAL.max(retry_after / 10);
                retry_after + self.rng.random_range(Duration::ZERO..=spread)
            }
            Pace::Waiting => self.backoff.next_delay(&mut self.rng, None),
        };
        loop {
            let attempt = async {
                sleep(delay).await;
                self.route.websocket(Some(&self.executor)).await
            };
            let attempt = tokio::select! {
                attempt = timeout_at(deadline, attempt) => attempt,
                () = streams.expired() => {
                    tracing::debug!("the stream was without a path for too long");
                    return None;
                }
            };
            let error = match attempt {
                Ok(Ok((bundle, socket))) => {
                    let connection = self.route.connection(bundle.registration).ok()?;
                    return Some(relay_driver::harness_resuming(
                        socket,
                        connection,
                        streams,
                        CancellationToken::new(),
                    ));
                }
                Ok(Err(error)) => error,
                Err(_) => return None,
            };
            tracing::debug!(error = chain(&error), "attempt to resume the stream failed");
            // What cannot be mended is for the recovery of the session to report.
            if !error.is_retryable() {
                return None;
            }
            delay = self.delay_after(&error);
        }
    }

    fn delay_after(&mut self, error: &Error) -> Duration {
        self.backoff.next_delay(&mut self.rng, error.retry_after())
    }

    /// Runs a websocket on which the stream is to go on.
    async fn carry(
        &mut self,
        driver: Driver<WebSocketIo>,
        path: &mut watch::Receiver<Path>,
    ) -> Ended {
        let mut live_since = None;
        let run = driver.run_resumable();
        tokio::pin!(run);
        let (reason, streams) = loop {
            tokio::select! {
                // Whether the stream came back is looked at before what became of it.
                biased;
                Ok(_) = path.wait_for(|path| *path == Path::Live), if live_since.is_none() => {
                    live_since = Some(Instant::now());
                    self.resumptions.0.fetch_add(1, Ordering::Relaxed);
                    tracing::info!("stream resumed over another websocket");
                }
                ended = &mut run => break ended,
            }
        };
        tracing::debug!(reason = reason.reason(), "relay connection ended");
        Ended {
            reason,
            streams,
            live_since,
        }
    }
}

/// When to dial.
#[derive(Clone, Copy)]
enum Pace {
    AtOnce,
    /// When the rendezvous said so.
    Told(Duration),
    Waiting,
}
