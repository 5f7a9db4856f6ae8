//! A proxy between the ends and `exec-cloud` that does to their connections what networks do.
//!
//! ```text
//! agent   ---+                +--- registry: HTTP, passed on byte for byte
//! harness ---+--- FaultProxy -+
//! Codex   ---+                +--- rendezvous: websocket frames, each a candidate for a fault
//! ```
//!
//! `exec-cloud` runs with the proxy's address as public URL, so that registry answers lead the ends
//! here. A websocket belongs to the [`End`] that its URL's `role=` names, and faults are set for
//! each [`Lane`], which is one direction of one end's websockets.
//!
//! Websocket frames are told apart but not answered: pings, pongs and close frames pass between the
//! ends as they are, so keepalives see the faults as well. Which frame a fault hits is drawn from a
//! seed that the proxy prints, settable with `E2E_FAULT_SEED`. The draws of a lane repeat with the
//! seed; what they hit depends on what the programs send, and when.
//!
//! Not responsible for TLS, and not for what a fault means: the tests say that.

mod lane;
mod link;
mod websocket;

use std::{
    hash::{BuildHasher as _, RandomState},
    net::SocketAddr,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use anyhow::{Context as _, Result};
use tokio::{
    net::{TcpListener, TcpStream},
    sync::{oneshot, watch},
    task::JoinSet,
    time::timeout,
};

use crate::processes::DEADLINE;

/// Which end of the relay a websocket belongs to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum End {
    /// The executor.
    Executor,
    /// A harness.
    Harness,
}

impl End {
    /// Both.
    pub const BOTH: [Self; 2] = [Self::Executor, Self::Harness];
}

/// One direction of the websockets of one end.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Lane {
    /// From the end to the rendezvous.
    From(End),
    /// From the rendezvous to the end.
    To(End),
}

impl Lane {
    /// All four.
    pub const ALL: [Self; 4] = [
        Self::From(End::Executor),
        Self::To(End::Executor),
        Self::From(End::Harness),
        Self::To(End::Harness),
    ];

    fn index(self) -> usize {
        match self {
            Self::From(End::Executor) => 0,
            Self::To(End::Executor) => 1,
            Self::From(End::Harness) => 2,
            Self::To(End::Harness) => 3,
        }
    }
}

/// Which relay frames faults may hit.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Scope {
    /// Records and acknowledgements: what acknowledgements can make good.
    #[default]
    Records,
    /// Every relay frame, so handshakes, claims and resets as well.
    Everything,
}

/// What happens to the relay frames of a lane. Probabilities are per frame, from 0 to 1.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Faults {
    /// Probability that a frame disappears.
    pub lose: f64,
    /// Probability that a copy of a frame follows within the next few frames.
    pub duplicate: f64,
    /// Probability that up to four later frames overtake a frame.
    pub reorder: f64,
    /// Probability that one bit of a record's ciphertext changes.
    pub corrupt: f64,
    /// Longest delay; each frame is delayed by up to this much, in order.
    pub delay: Duration,
    /// Which frames are hit.
    pub scope: Scope,
}

/// How often something happened so far.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Counts {
    /// Relay frames passed on.
    pub passed: u64,
    /// Frames that disappeared.
    pub lost: u64,
    /// Frames that were sent twice.
    pub duplicated: u64,
    /// Frames that others could overtake.
    pub reordered: u64,
    /// Frames that were changed.
    pub corrupted: u64,
}

/// The proxy. Dropping it ends it and all its connections.
#[derive(Debug)]
pub struct FaultProxy {
    address: SocketAddr,
    shared: Arc<Shared>,
    seed: u64,
    _server: JoinSet<()>,
}

impl FaultProxy {
    /// Starts it on a free port, with nothing behind it yet, and prints its seed.
    ///
    /// # Errors
    ///
    /// When no port can be bound, or `E2E_FAULT_SEED` is no number.
    pub async fn start() -> Result<Self> {
        let seed = seed()?;
        announce(seed);
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let address = listener.local_addr()?;
        let shared = Arc::new(Shared {
            control: watch::Sender::new(Control::default()),
            activity: watch::Sender::new(Activity::default()),
            mid_frame: Mutex::new(None),
            target: Mutex::new(None),
            links: AtomicU64::new(0),
            seed,
        });
        let mut server = JoinSet::new();
        server.spawn(accept(listener, Arc::clone(&shared)));
        Ok(Self {
            address,
            shared,
            seed,
            _server: server,
        })
    }

    /// Its address as base URL.
    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// What the faults are drawn from.
    pub fn seed(&self) -> u64 {
        self.seed
    }

    /// Passes connections on to `port` of this machine from now on.
    pub fn forward_to(&self, port: u16) {
        *lock(&self.shared.target) = Some(SocketAddr::from(([127, 0, 0, 1], port)));
    }

    /// Sets what happens to the frames of every lane.
    pub fn set(&self, faults: Faults) {
        for lane in Lane::ALL {
            self.set_lane(lane, faults);
        }
    }

    /// Sets what happens to the frames of one lane.
    pub fn set_lane(&self, lane: Lane, faults: Faults) {
        self.change(|control| {
            if let Some(entry) = control.faults.get_mut(lane.index()) {
                *entry = faults;
            }
        });
    }

    /// Loses this share of all records, beside what else is set.
    pub fn lose(&self, probability: f64) {
        self.change(|control| {
            for faults in &mut control.faults {
                faults.lose = probability;
            }
        });
    }

    /// Resets all present connections, registry calls too; returns how many websockets there were.
    pub fn cut(&self) -> usize {
        let open = self.shared.activity.borrow().open;
        self.change(|control| {
            control.cuts = control.cuts.map(|cuts| cuts + 1);
            control.http_cuts += 1;
        });
        open.into_iter().sum()
    }

    /// Resets the present websockets of one end; returns how many there were.
    pub fn cut_end(&self, end: End) -> usize {
        let open = self.open(end);
        self.change(|control| {
            if let Some(cuts) = control.cuts.get_mut(end as usize) {
                *cuts += 1;
            }
        });
        open
    }

    /// Resets the websocket that the next record of `lane` travels on, after half of its bytes.
    /// The result waits until that has happened.
    ///
    /// # Errors
    ///
    /// When no record comes in time.
    pub fn cut_mid_frame(&self, lane: Lane) -> impl Future<Output = Result<()>> + use<> {
        let (done, cut) = oneshot::channel();
        *lock(&self.shared.mid_frame) = Some((lane, done));
        async move {
            timeout(DEADLINE, cut)
                .await
                .context("no record to cut in half came in time")?
                .context("the proxy has ended")
        }
    }

    /// Stops passing anything on, in both directions and on new connections too, until
    /// [`FaultProxy::heal`]. Nothing is closed and nothing is lost.
    pub fn hold(&self) {
        self.change(|control| control.held = true);
    }

    /// Makes the present websockets of one end half open: nothing passes on them any more and they
    /// are not closed either, as when a router forgets a connection. New ones are not affected.
    /// Returns how many there were.
    pub fn forget(&self, end: End) -> usize {
        let open = self.open(end);
        self.change(|control| {
            if let Some(forgotten) = control.forgotten.get_mut(end as usize) {
                *forgotten += 1;
            }
        });
        open
    }

    /// Ends registry calls without an answer until [`FaultProxy::heal`]. Websockets go on, and new
    /// ones can be opened.
    pub fn close_registry(&self) {
        self.change(|control| {
            control.registry_closed = true;
            control.http_cuts += 1;
        });
    }

    /// Ends all faults that last. What was cut, lost or forgotten stays so.
    pub fn heal(&self) {
        self.change(|control| {
            control.held = false;
            control.registry_closed = false;
            control.faults = Default::default();
        });
    }

    /// What has happened so far.
    pub fn counts(&self) -> Counts {
        self.shared.activity.borrow().counts
    }

    /// How many websockets of `end` are open now, half-open ones too.
    pub fn open(&self, end: End) -> usize {
        let open = self.shared.activity.borrow().open;
        open.get(end as usize).copied().unwrap_or_default()
    }

    /// How many websockets of `end` have been opened so far.
    pub fn opened(&self, end: End) -> u64 {
        let opened = self.shared.activity.borrow().opened;
        opened.get(end as usize).copied().unwrap_or_default()
    }

    /// Waits until more than `before` websockets of `end` have been opened.
    ///
    /// # Errors
    ///
    /// When that does not happen in time.
    pub async fn opened_after(&self, end: End, before: u64, deadline: Duration) -> Result<()> {
        let opened = |activity: &Activity| {
            activity
                .opened
                .get(end as usize)
                .is_some_and(|n| *n > before)
        };
        self.wait(deadline, opened)
            .await
            .with_context(|| format!("no new websocket of the {end:?}"))
    }

    /// Waits until `count` registry calls in all have been ended by
    /// [`FaultProxy::close_registry`].
    ///
    /// # Errors
    ///
    /// When there are fewer at the deadline.
    pub async fn registry_calls_refused(&self, count: u64) -> Result<()> {
        self.wait(DEADLINE, |activity| activity.refused_calls >= count)
            .await
            .context("too few registry calls came")
    }

    async fn wait(&self, deadline: Duration, is_met: impl Fn(&Activity) -> bool) -> Result<()> {
        let mut activity = self.shared.activity.subscribe();
        let met = timeout(deadline, activity.wait_for(|activity| is_met(activity))).await;
        met.with_context(|| format!("not within {deadline:?}"))??;
        Ok(())
    }

    fn change(&self, change: impl FnOnce(&mut Control)) {
        self.shared.control.send_modify(change);
    }
}

/// What the test wants.
#[derive(Debug, Clone, Default)]
struct Control {
    faults: [Faults; 4],
    held: bool,
    registry_closed: bool,
    /// Each change resets the websockets of an end that were there before.
    cuts: [u64; 2],
    /// Each change forgets the websockets of an end that were there before.
    forgotten: [u64; 2],
    /// Each change ends the registry calls that were there before.
    http_cuts: u64,
}

/// What has happened.
#[derive(Debug, Default)]
struct Activity {
    counts: Counts,
    open: [usize; 2],
    opened: [u64; 2],
    refused_calls: u64,
}

#[derive(Debug)]
struct Shared {
    control: watch::Sender<Control>,
    activity: watch::Sender<Activity>,
    /// Where the next record is to be cut in half, and who waits for it.
    mid_frame: Mutex<Option<(Lane, oneshot::Sender<()>)>>,
    target: Mutex<Option<SocketAddr>>,
    links: AtomicU64,
    seed: u64,
}

impl Shared {
    fn count(&self, count: impl FnOnce(&mut Counts)) {
        self.activity
            .send_modify(|activity| count(&mut activity.counts));
    }

    /// Whether the next record of `lane` is to be cut in half; true once for each wish.
    fn takes_mid_frame(&self, lane: Lane) -> Option<oneshot::Sender<()>> {
        lock(&self.mid_frame)
            .take_if(|(wanted, _)| *wanted == lane)
            .map(|(_, done)| done)
    }
}

async fn accept(listener: TcpListener, shared: Arc<Shared>) {
    let mut connections = JoinSet::new();
    while let Ok((client, _)) = listener.accept().await {
        let target = *lock(&shared.target);
        let number = shared.links.fetch_add(1, Ordering::Relaxed);
        let shared = Arc::clone(&shared);
        // What goes wrong here is the ends' business: they see a broken connection.
        connections.spawn(async move {
            let Some(target) = target else { return };
            if let Ok(server) = TcpStream::connect(target).await {
                drop(link::run(client, server, &shared, number).await);
            }
        });
        while connections.try_join_next().is_some() {}
    }
}

fn seed() -> Result<u64> {
    match std::env::var("E2E_FAULT_SEED") {
        Ok(text) => text
            .trim()
            .parse()
            .context("E2E_FAULT_SEED is not a number"),
        // The standard library's own randomness; which numbers come does not matter.
        Err(_) => Ok(RandomState::new().hash_one(())),
    }
}

#[expect(clippy::print_stderr, reason = "shown by the test runner on failure")]
fn announce(seed: u64) {
    eprintln!("faults are drawn from E2E_FAULT_SEED={seed}");
}

/// A panic of one test thread must not hide the others' results behind a poisoned lock.
fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
