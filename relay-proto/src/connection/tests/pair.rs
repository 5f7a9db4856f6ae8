//! The pair: an executor's and a harness's connection, a clock, and a link for each direction.
//!
//! Nothing sleeps: `run` delivers what is due, then jumps to the next moment anything happens.

use std::collections::BTreeMap;
use std::sync::{Arc, LazyLock};
use std::time::{Duration, Instant};

use bytes::Bytes;
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};

use crate::connection::{
    CloseReason, Connection, ConnectionConfig, ConnectionError, Event, HandshakeToken, Transmit,
    Verdict,
};
use crate::frame::{Body, Frame};
use crate::ids::StreamId;
use crate::link::Reliability;
use crate::noise::Identity;
use crate::testing::{environment, registration};

/// Key generation is the slowest part of these tests, and no test depends on the key.
pub(super) static EXECUTOR: LazyLock<Arc<Identity>> =
    LazyLock::new(|| Arc::new(Identity::generate(&mut StdRng::seed_from_u64(1)).unwrap()));
pub(super) static HARNESS: LazyLock<Arc<Identity>> =
    LazyLock::new(|| Arc::new(Identity::generate(&mut StdRng::seed_from_u64(2)).unwrap()));

pub(super) fn id(text: &str) -> StreamId {
    StreamId::new(text).unwrap()
}

/// As Codex 0.169: nothing is acknowledged or sent again.
pub(super) fn plain() -> ConnectionConfig {
    ConnectionConfig {
        reliability: Reliability::Off,
        ..ConnectionConfig::default()
    }
}

pub(super) fn harness(now: Instant) -> Connection {
    harness_with(plain(), now)
}

pub(super) fn executor_with(config: ConnectionConfig, now: Instant) -> Connection {
    Connection::executor(
        config,
        EXECUTOR.clone(),
        environment(),
        registration(),
        [11; 32],
        now,
    )
}

pub(super) fn harness_with(config: ConnectionConfig, now: Instant) -> Connection {
    Connection::harness(
        config,
        HARNESS.clone(),
        environment(),
        registration(),
        [12; 32],
        now,
    )
}

/// What a link does to data frames. Handshakes and resets always pass at once: nothing repeats them,
/// and no peer would survive their loss.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Faults {
    /// Of 100 data frames, how many come twice.
    pub(super) duplicated: u32,
    /// Of 100 data frames, how many come late.
    pub(super) delayed: u32,
    /// By how much.
    pub(super) delay: Duration,
}

/// One direction of the path.
pub(super) struct Link {
    queue: BTreeMap<(Instant, u64), Bytes>,
    sent: u64,
    pub(super) faults: Faults,
    /// Data frames with these numbers are lost, once each.
    pub(super) lose: Vec<u32>,
    /// Frames with nothing but a statement are lost, as at a rendezvous that does not forward them.
    pub(super) eats_acks: bool,
    /// Nothing passes, not even pings.
    pub(super) cut: bool,
    /// How long every frame takes.
    pub(super) latency: Duration,
    /// How many frames the websocket takes before it must be drained; `None` for no end.
    pub(super) window: Option<usize>,
    /// Everything that was ever sent, in order.
    pub(super) log: Vec<Frame>,
    pings: usize,
    rng: StdRng,
}

impl Link {
    fn new(seed: u64) -> Self {
        Self {
            queue: BTreeMap::new(),
            sent: 0,
            faults: Faults::default(),
            lose: Vec::new(),
            eats_acks: false,
            latency: Duration::ZERO,
            cut: false,
            window: None,
            log: Vec::new(),
            pings: 0,
            rng: StdRng::seed_from_u64(seed),
        }
    }

    fn push(&mut self, now: Instant, bytes: Bytes) {
        let frame = Frame::decode(bytes.clone()).expect("only valid frames are sent");
        self.log.push(frame.clone());
        if self.cut || (self.eats_acks && frame.body == Body::Ack) {
            return;
        }
        let mut at = now + self.latency;
        let mut copies = 1;
        if let Body::Data { seq, .. } = frame.body {
            if let Some(index) = self.lose.iter().position(|lost| *lost == seq.0) {
                self.lose.remove(index);
                return;
            }
            if self.rng.random_range(0..100) < self.faults.duplicated {
                copies = 2;
            }
            if self.rng.random_range(0..100) < self.faults.delayed {
                at += self.faults.delay;
            }
        }
        for _ in 0..copies {
            self.queue.insert((at, self.sent), bytes.clone());
            self.sent += 1;
        }
    }

    fn pop(&mut self, now: Instant) -> Option<Bytes> {
        let entry = self
            .queue
            .first_entry()
            .filter(|entry| entry.key().0 <= now)?;
        Some(entry.remove())
    }

    pub(super) fn kinds(&self) -> Vec<&'static str> {
        self.log
            .iter()
            .map(|frame| frame.body.kind().as_str())
            .collect()
    }
}

pub(super) struct Pair {
    pub(super) now: Instant,
    /// The executor's, for tests in which both have the same.
    pub(super) config: ConnectionConfig,
    pub(super) executor: Connection,
    pub(super) harness: Connection,
    pub(super) up: Link,
    pub(super) down: Link,
    /// Given to each request when it comes; `None` leaves it waiting.
    pub(super) verdict: Option<Verdict>,
    pub(super) requests: Vec<HandshakeToken>,
    /// Messages by (side, stream), in order of arrival.
    pub(super) at_executor: BTreeMap<StreamId, Vec<Bytes>>,
    pub(super) at_harness: BTreeMap<StreamId, Vec<Bytes>>,
    pub(super) opened: Vec<(&'static str, StreamId)>,
    pub(super) closed: Vec<(&'static str, StreamId, CloseReason)>,
    pub(super) writable: Vec<(&'static str, StreamId)>,
    pub(super) dead: Vec<&'static str>,
    /// Which streams lost and found their path.
    pub(super) paths: Vec<(&'static str, StreamId, &'static str)>,
    /// Order in which messages came, over all streams.
    pub(super) order: Vec<StreamId>,
}

impl Pair {
    pub(super) fn new() -> Self {
        Self::seeded(1)
    }

    pub(super) fn seeded(seed: u64) -> Self {
        Self::configured(seed, plain(), plain())
    }

    /// A pair with an executor and a harness of their own configurations.
    pub(super) fn configured(
        seed: u64,
        at_executor: ConnectionConfig,
        at_harness: ConnectionConfig,
    ) -> Self {
        let now = Instant::now();
        Self {
            now,
            config: at_executor,
            executor: executor_with(at_executor, now),
            harness: harness_with(at_harness, now),
            up: Link::new(seed),
            down: Link::new(seed.wrapping_add(1)),
            verdict: Some(Verdict::Approved),
            requests: Vec::new(),
            at_executor: BTreeMap::new(),
            at_harness: BTreeMap::new(),
            opened: Vec::new(),
            closed: Vec::new(),
            writable: Vec::new(),
            dead: Vec::new(),
            paths: Vec::new(),
            order: Vec::new(),
        }
    }

    /// A pair with open streams.
    pub(super) fn with_streams(names: &[&str]) -> Self {
        Self::new().opened(names)
    }

    /// A pair of ends of this project with open streams that know of each other.
    pub(super) fn reliable(reliability: Reliability, names: &[&str]) -> Self {
        let config = ConnectionConfig {
            reliability,
            ..ConnectionConfig::default()
        };
        let pair = Self::configured(1, config, config).opened(names);
        for name in names {
            assert!(pair.executor.is_reliable(&id(name)));
            assert!(pair.harness.is_reliable(&id(name)));
        }
        pair
    }

    pub(super) fn opened(mut self, names: &[&str]) -> Self {
        for name in names {
            self.open(name);
        }
        self.settle();
        assert_eq!(self.opened.len(), 2 * names.len(), "{:?}", self.closed);
        self
    }

    pub(super) fn open(&mut self, name: &str) {
        let key = EXECUTOR.public_key().clone();
        self.harness
            .open(self.now, id(name), key, "authorization")
            .unwrap();
    }

    /// Moves frames and events until nothing moves without time passing.
    pub(super) fn settle(&mut self) {
        while self.step() {}
    }

    /// Lets time pass, jumping from one thing that happens to the next.
    pub(super) fn run(&mut self, duration: Duration) {
        let end = self.now + duration;
        loop {
            self.settle();
            let next = [
                self.executor.poll_timeout(),
                self.harness.poll_timeout(),
                self.up.queue.first_key_value().map(|(key, _)| key.0),
                self.down.queue.first_key_value().map(|(key, _)| key.0),
            ]
            .into_iter()
            .flatten()
            .min();
            match next {
                Some(next) if next <= end && self.dead.is_empty() => self.now = self.now.max(next),
                _ => break,
            }
            for (name, connection) in [
                ("executor", &mut self.executor),
                ("harness", &mut self.harness),
            ] {
                match connection.handle_timeout(self.now) {
                    Ok(()) => {}
                    Err(ConnectionError::PongTimeout | ConnectionError::PathDead) => {
                        self.dead.push(name);
                    }
                    Err(error) => panic!("{error}"),
                }
            }
            self.events();
        }
        self.now = self.now.max(end);
    }

    /// One direction each: everything that can be sent, everything that is due, all events.
    pub(super) fn step(&mut self) -> bool {
        let mut moved = false;
        moved |= transmit(&mut self.harness, &mut self.up, self.now);
        moved |= transmit(&mut self.executor, &mut self.down, self.now);
        while let Some(bytes) = self.up.pop(self.now) {
            moved = true;
            self.executor.handle_message(self.now, bytes).unwrap();
            self.events();
        }
        while let Some(bytes) = self.down.pop(self.now) {
            moved = true;
            self.harness.handle_message(self.now, bytes).unwrap();
            self.events();
        }
        for (link, connection) in [
            (&mut self.up, &mut self.harness),
            (&mut self.down, &mut self.executor),
        ] {
            if std::mem::take(&mut link.pings) > 0 && !link.cut {
                moved = true;
                connection.handle_pong(self.now);
            }
        }
        moved | self.events()
    }

    fn events(&mut self) -> bool {
        let mut moved = false;
        loop {
            let (side, event) = if let Some(event) = self.executor.poll_event() {
                ("executor", event)
            } else if let Some(event) = self.harness.poll_event() {
                ("harness", event)
            } else {
                return moved;
            };
            moved = true;
            match event {
                Event::HandshakeRequested {
                    token,
                    harness_key,
                    authorization,
                } => {
                    assert_eq!(&harness_key, HARNESS.public_key());
                    assert_eq!(authorization, "authorization");
                    match self.verdict {
                        Some(verdict) => self.executor.authorize(self.now, &token, verdict),
                        None => self.requests.push(token),
                    }
                }
                Event::Opened { stream } => self.opened.push((side, stream)),
                Event::Message { stream, message } => {
                    self.order.push(stream.clone());
                    let messages = if side == "executor" {
                        &mut self.at_executor
                    } else {
                        &mut self.at_harness
                    };
                    messages.entry(stream).or_default().push(message);
                }
                Event::Writable { stream } => self.writable.push((side, stream)),
                Event::Suspended { stream } => self.paths.push((side, stream, "suspended")),
                Event::Resumed { stream } => self.paths.push((side, stream, "resumed")),
                Event::Closed { stream, reason } => self.closed.push((side, stream, reason)),
            }
        }
    }

    /// Takes the events that wait.
    pub(super) fn drain(&mut self) {
        self.events();
    }

    /// Hands a frame to the executor as if the harness had sent it.
    pub(super) fn inject_up(&mut self, frame: &Frame) {
        self.executor
            .handle_message(self.now, frame.encode())
            .unwrap();
        self.events();
    }

    /// Hands a frame to the harness as if the executor had sent it.
    pub(super) fn inject_down(&mut self, frame: &Frame) {
        self.harness
            .handle_message(self.now, frame.encode())
            .unwrap();
        self.events();
    }

    /// What the executor sends next, until it has nothing more.
    pub(super) fn executor_frames(&mut self) -> Vec<Frame> {
        frames(&mut self.executor, self.now)
    }

    pub(super) fn harness_frames(&mut self) -> Vec<Frame> {
        frames(&mut self.harness, self.now)
    }

    pub(super) fn reasons(&self) -> Vec<(&'static str, &'static str)> {
        self.closed
            .iter()
            .map(|(side, _, reason)| (*side, reason.reason()))
            .collect()
    }
}

pub(super) fn frames(connection: &mut Connection, now: Instant) -> Vec<Frame> {
    let mut frames = Vec::new();
    while let Some(transmit) = connection.poll_transmit(now) {
        if let Transmit::Frame(bytes) = transmit {
            frames.push(Frame::decode(bytes).unwrap());
        }
    }
    frames
}

fn transmit(connection: &mut Connection, link: &mut Link, now: Instant) -> bool {
    let mut moved = false;
    while link.window != Some(0) {
        match connection.poll_transmit(now) {
            Some(Transmit::Frame(bytes)) => {
                moved = true;
                link.push(now, bytes);
            }
            Some(Transmit::Ping) => link.pings += 1,
            None => break,
        }
        if let Some(window) = &mut link.window {
            *window -= 1;
        }
    }
    moved
}
