//! Two ends, a rendezvous, and links that do whatever links do, all from one seed.
//!
//! Every message carries its number and a pattern, so that a wrong, missing or second one shows at
//! once. Every data frame is remembered, so that a number that ever stands for two records shows too.

use std::collections::{BTreeMap, VecDeque};
use std::time::{Duration, Instant};

use bytes::Bytes;
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};

use super::pair::{EXECUTOR, executor_with, harness_with, id};
use crate::connection::{
    CloseReason, Connection, ConnectionConfig, Event, SendError, Suspended, Transmit, Verdict,
};
use crate::frame::{Body, Frame};
use crate::ids::StreamId;
use crate::keepalive::KeepaliveConfig;
use crate::limits;
use crate::link::Reliability;
use crate::liveness::HeartbeatConfig;
use crate::segment::Priority;

pub(super) const EXECUTOR_SIDE: usize = 0;
pub(super) const HARNESS_SIDE: usize = 1;
const NAMES: [&str; 2] = ["executor", "harness"];

/// What a link does to each frame, in percent.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Faults {
    pub(super) lost: u32,
    /// Instead of by chance, all but every tenth are lost.
    pub(super) one_in_ten: bool,
    pub(super) duplicated: u32,
    pub(super) corrupted: u32,
    /// With a frame comes one of long ago, from whatever websocket.
    pub(super) replayed: u32,
    /// Every frame takes this long ...
    pub(super) delay: Duration,
    /// ... and up to this much longer, so that frames overtake each other.
    pub(super) jitter: Duration,
    /// In a second, the chance in percent that nothing moves for up to `stall`.
    pub(super) stalls: u32,
    pub(super) stall: Duration,
}

/// One direction.
struct Link {
    queue: BTreeMap<(Instant, u64), Bytes>,
    /// Frames that came to this link.
    count: u64,
    /// Those that were put into the queue, with copies.
    copies: u64,
    stalled_until: Option<Instant>,
    stall_checked: Instant,
    /// Some of the frames that were ever sent.
    past: Vec<Bytes>,
    rng: StdRng,
}

impl Link {
    fn new(seed: u64, now: Instant) -> Self {
        Self {
            queue: BTreeMap::new(),
            count: 0,
            copies: 0,
            stalled_until: None,
            stall_checked: now,
            past: Vec::new(),
            rng: StdRng::seed_from_u64(seed),
        }
    }

    fn percent(&mut self, chance: u32) -> bool {
        chance > 0 && self.rng.random_range(0..100) < chance
    }

    fn push(&mut self, now: Instant, faults: &Faults, frame: Bytes) {
        if self.percent(faults.replayed) && !self.past.is_empty() {
            let old = self.rng.random_range(0..self.past.len());
            self.queue
                .insert((now, self.copies), self.past[old].clone());
            self.copies += 1;
        }
        self.remember(faults, &frame);
        self.count += 1;
        if faults.one_in_ten && !self.count.is_multiple_of(10) || self.percent(faults.lost) {
            return;
        }
        if now >= self.stall_checked + Duration::from_secs(1) {
            self.stall_checked = now;
            if self.percent(faults.stalls) {
                let millis = u64::try_from(faults.stall.as_millis()).unwrap();
                let millis = self.rng.random_range(0..=millis);
                self.stalled_until = Some(now + Duration::from_millis(millis));
            }
        }
        let copies = if self.percent(faults.duplicated) {
            2
        } else {
            1
        };
        for _ in 0..copies {
            let jitter = u64::try_from(faults.jitter.as_micros()).unwrap();
            let jitter = Duration::from_micros(self.rng.random_range(0..=jitter));
            let mut at = now + faults.delay + jitter;
            if let Some(until) = self.stalled_until {
                at = at.max(until);
            }
            let mut frame = frame.clone();
            if self.percent(faults.corrupted) {
                let mut bytes = frame.to_vec();
                let index = self.rng.random_range(0..bytes.len());
                bytes[index] ^= 1 << self.rng.random_range(0..8);
                frame = bytes.into();
            }
            self.queue.insert((at, self.copies), frame);
            self.copies += 1;
        }
    }

    fn remember(&mut self, faults: &Faults, frame: &Bytes) {
        if faults.replayed == 0 {
            return;
        }
        if self.past.len() < PAST {
            self.past.push(frame.clone());
        } else {
            let place = self.rng.random_range(0..PAST);
            self.past[place] = frame.clone();
        }
    }

    fn pop(&mut self, now: Instant) -> Option<Bytes> {
        let entry = self.queue.first_entry().filter(|it| it.key().0 <= now)?;
        Some(entry.remove())
    }

    fn next(&self) -> Option<Instant> {
        self.queue.first_key_value().map(|(key, _)| key.0)
    }
}

/// One application's view of one stream.
#[derive(Default)]
pub(super) struct Application {
    /// Messages to be sent, by class.
    unsent: [VecDeque<Bytes>; 2],
    /// How many were sent and received, by class.
    sent: [usize; 2],
    received: [usize; 2],
    pub(super) closed: Option<CloseReason>,
    pub(super) suspended: u32,
    pub(super) resumed: u32,
    paused: bool,
}

/// One end: a connection, or what is left of one.
pub(super) struct Side {
    pub(super) connection: Connection,
    /// Streams between two connections, and when the next one comes.
    between: Option<(Suspended, Instant)>,
    pub(super) streams: BTreeMap<StreamId, Application>,
    /// Pings that were answered at once.
    pub(super) connections: u32,
}

pub(super) struct World {
    pub(super) now: Instant,
    pub(super) sides: [Side; 2],
    links: [Link; 2],
    /// Per direction, by sender.
    pub(super) faults: [Faults; 2],
    config: ConnectionConfig,
    /// Websocket cuts: per virtual second in a thousand.
    pub(super) cuts: u32,
    /// Which streams the harness's current websocket has claimed.
    claims: Vec<StreamId>,
    records: BTreeMap<(usize, StreamId, u32), Bytes>,
    pub(super) frames: [u64; 2],
    pub(super) repeated_records: u64,
    pub(super) most_held: usize,
    pub(super) most_kept: usize,
    rng: StdRng,
}

/// No pings, and patience that no seed exhausts: for worlds whose websockets never end.
pub(super) fn patient(reliability: Reliability) -> ConnectionConfig {
    let never = Duration::from_secs(1_000_000);
    ConnectionConfig {
        reliability,
        keepalive: KeepaliveConfig {
            interval: never,
            watched_interval: never,
            timeout: never,
            hard_timeout: never,
        },
        heartbeat: HeartbeatConfig {
            timeout: never,
            ..HeartbeatConfig::default()
        },
    }
}

impl World {
    pub(super) fn new(seed: u64, config: ConnectionConfig) -> Self {
        let now = Instant::now();
        let side = |connection| Side {
            connection,
            between: None,
            streams: BTreeMap::new(),
            connections: 1,
        };
        Self {
            now,
            sides: [
                side(executor_with(config, now)),
                side(harness_with(config, now)),
            ],
            links: [
                Link::new(seed.wrapping_mul(3), now),
                Link::new(seed.wrapping_mul(5), now),
            ],
            faults: [Faults::default(); 2],
            config,
            cuts: 0,
            claims: Vec::new(),
            records: BTreeMap::new(),
            frames: [0; 2],
            repeated_records: 0,
            most_held: 0,
            most_kept: 0,
            rng: StdRng::seed_from_u64(seed),
        }
    }

    /// Opens streams over links without faults, until both ends know of each other.
    pub(super) fn open(&mut self, names: &[&str]) {
        let faults = std::mem::take(&mut self.faults);
        for name in names {
            self.begin(name);
        }
        self.run_for(Duration::from_millis(200));
        for name in names {
            for side in &self.sides {
                assert!(side.streams.contains_key(&id(name)), "{name} is open");
                assert!(side.connection.is_reliable(&id(name)));
            }
        }
        self.faults = faults;
    }

    /// Has the harness ask for a stream.
    pub(super) fn begin(&mut self, name: &str) {
        let key = EXECUTOR.public_key().clone();
        self.sides[HARNESS_SIDE]
            .connection
            .open(self.now, id(name), key, "authorization")
            .unwrap();
    }

    /// Has an application send a message of this length.
    pub(super) fn send(&mut self, side: usize, stream: &StreamId, length: usize) {
        self.send_with(side, stream, length, Priority::Ordinary);
    }

    /// As [`World::send`], in a class. Each has an order of its own.
    pub(super) fn send_with(
        &mut self,
        side: usize,
        stream: &StreamId,
        length: usize,
        priority: Priority,
    ) {
        let class = usize::from(priority == Priority::Urgent);
        let application = self.sides[side].streams.get_mut(stream).unwrap();
        let number = application.sent[class] + application.unsent[class].len();
        let message = message(side, stream, class, number, length);
        application.unsent[class].push_back(message);
        self.pump(side, stream);
    }

    fn pump(&mut self, side: usize, stream: &StreamId) {
        let Side {
            connection,
            streams,
            between,
            ..
        } = &mut self.sides[side];
        let Some(application) = streams.get_mut(stream) else {
            return;
        };
        // Without a connection nobody takes messages from the application.
        if between.is_some() {
            return;
        }
        for (class, priority) in [(1, Priority::Urgent), (0, Priority::Ordinary)] {
            while let Some(message) = application.unsent[class].pop_front() {
                match connection.send_with(self.now, stream, message, priority) {
                    Ok(()) => application.sent[class] += 1,
                    Err(SendError::WouldBlock(message)) => {
                        application.unsent[class].push_front(message);
                        break;
                    }
                    Err(SendError::Closed) if application.closed.is_some() => return,
                    Err(error) => panic!("{error}"),
                }
            }
        }
    }

    pub(super) fn pause(&mut self, side: usize, stream: &StreamId, paused: bool) {
        let Side {
            connection,
            streams,
            between,
            ..
        } = &mut self.sides[side];
        let application = streams.get_mut(stream).unwrap();
        application.paused = paused;
        // Without a connection it is told to the next one.
        if between.is_none() {
            tell_paused(connection, stream, paused);
        }
    }

    /// Whether everything that was to be sent has arrived.
    pub(super) fn is_complete(&self) -> bool {
        [(EXECUTOR_SIDE, HARNESS_SIDE), (HARNESS_SIDE, EXECUTOR_SIDE)]
            .into_iter()
            .all(|(from, to)| {
                self.sides[from].streams.iter().all(|(stream, sender)| {
                    let receiver = self.sides[to].streams.get(stream);
                    sender.unsent.iter().all(VecDeque::is_empty)
                        && receiver.is_some_and(|it| it.received == sender.sent)
                })
            })
    }

    /// Lets time pass until everything has arrived. Returns whether it did in time.
    pub(super) fn run_until_complete(&mut self, limit: Duration) -> bool {
        let end = self.now + limit;
        while !self.is_complete() {
            if !self.advance(end) {
                return false;
            }
        }
        true
    }

    pub(super) fn run_for(&mut self, duration: Duration) {
        let end = self.now + duration;
        while self.advance(end) {}
        self.now = end;
    }

    /// Does everything that can be done now, then jumps to the next thing before `end`.
    fn advance(&mut self, end: Instant) -> bool {
        self.settle();
        let mut next: Vec<Instant> = self.links.iter().filter_map(Link::next).collect();
        for side in &self.sides {
            match &side.between {
                Some((_, until)) => next.push(*until),
                None => next.extend(side.connection.poll_timeout()),
            }
        }
        let Some(next) = next.into_iter().min().filter(|next| *next <= end) else {
            return false;
        };
        let next = next.max(self.now);
        self.maybe_cut(next);
        self.now = next;
        for side in [EXECUTOR_SIDE, HARNESS_SIDE] {
            if let Some((_, until)) = self.sides[side].between {
                if until <= self.now {
                    self.reconnect(side);
                }
            } else if self.sides[side]
                .connection
                .handle_timeout(self.now)
                .is_err()
            {
                self.cut(side);
            }
        }
        true
    }

    fn maybe_cut(&mut self, next: Instant) {
        if self.cuts == 0 {
            return;
        }
        let millis = u64::try_from((next - self.now).as_millis()).unwrap();
        // Of a million.
        let chance = (u64::from(self.cuts) * millis).min(1_000_000);
        if self.rng.random_range(0..1_000_000) < chance {
            let side = self.rng.random_range(0..2);
            self.cut(side);
        }
    }

    /// Ends one side's websocket, and with it what is on its way, and tells the other side, or not.
    pub(super) fn cut(&mut self, side: usize) {
        self.drain_events();
        if self.sides[side].between.is_some() {
            return;
        }
        for link in &mut self.links {
            link.queue.clear();
        }
        let delay = Duration::from_millis(self.rng.random_range(0..8_000));
        let now = self.now;
        let suspended = self.sides[side].connection.suspend(now);
        self.sides[side].between = Some((suspended, now + delay));
        let is_noticed = self.rng.random_range(0..100) < 70;
        if side == HARNESS_SIDE {
            let claims = std::mem::take(&mut self.claims);
            if is_noticed && self.sides[EXECUTOR_SIDE].between.is_none() {
                for stream in claims {
                    let reset = Frame::reset(stream).encode();
                    let executor = &mut self.sides[EXECUTOR_SIDE].connection;
                    executor.handle_message(now, reset).unwrap();
                }
            }
        } else if is_noticed {
            self.claims.clear();
            self.cut(HARNESS_SIDE);
        }
    }

    fn reconnect(&mut self, side: usize) {
        let now = self.now;
        let Some((suspended, _)) = self.sides[side].between.take() else {
            return;
        };
        let make = [executor_with, harness_with][side];
        self.sides[side].connection = make(self.config, now);
        self.sides[side].connection.adopt(now, suspended);
        self.sides[side].connections += 1;
        let streams: Vec<_> = self.sides[side].streams.keys().cloned().collect();
        for stream in streams {
            let paused = self.sides[side].streams[&stream].paused;
            tell_paused(&mut self.sides[side].connection, &stream, paused);
            self.pump(side, &stream);
        }
    }

    fn settle(&mut self) {
        loop {
            let mut moved = self.drain_events();
            for side in [EXECUTOR_SIDE, HARNESS_SIDE] {
                moved |= self.transmit(side);
            }
            for (from, to) in [(EXECUTOR_SIDE, HARNESS_SIDE), (HARNESS_SIDE, EXECUTOR_SIDE)] {
                while let Some(frame) = self.links[from].pop(self.now) {
                    moved = true;
                    if self.passes(from, to, &frame) {
                        let connection = &mut self.sides[to].connection;
                        connection.handle_message(self.now, frame).unwrap();
                        self.drain_events();
                    }
                }
            }
            if !moved {
                return;
            }
        }
    }

    /// What the rendezvous lets through: both sockets are there, and the harness's has the stream.
    fn passes(&mut self, from: usize, to: usize, frame: &Bytes) -> bool {
        if self.sides[to].between.is_some() {
            return false;
        }
        let Ok(peek) = crate::frame::peek(frame) else {
            return false;
        };
        let Ok(stream) = StreamId::new(peek.stream_id) else {
            return false;
        };
        let is_claim = matches!(
            peek.kind,
            crate::frame::BodyKind::Resume | crate::frame::BodyKind::Handshake
        );
        if from == HARNESS_SIDE && is_claim && !self.claims.contains(&stream) {
            self.claims.push(stream.clone());
        }
        self.claims.contains(&stream)
    }

    fn transmit(&mut self, side: usize) -> bool {
        let mut moved = false;
        while self.sides[side].between.is_none() {
            match self.sides[side].connection.poll_transmit(self.now) {
                Some(Transmit::Frame(bytes)) => {
                    moved = true;
                    self.frames[side] += 1;
                    self.note(side, &bytes);
                    let faults = self.faults[side];
                    self.links[side].push(self.now, &faults, bytes);
                }
                // The websocket's own, hop by hop.
                Some(Transmit::Ping) => {
                    let now = self.now;
                    self.sides[side].connection.handle_pong(now);
                }
                None => break,
            }
        }
        moved
    }

    /// A number stands for one record for ever, whatever connection it is on.
    fn note(&mut self, side: usize, bytes: &Bytes) {
        let frame = Frame::decode(bytes.clone()).expect("only valid frames are sent");
        if let Body::Data { seq, payload } = frame.body {
            let key = (side, frame.stream_id, seq.0);
            if let Some(before) = self.records.get(&key) {
                assert_eq!(before, &payload, "record {seq} has the same bytes again");
                self.repeated_records += 1;
            } else {
                self.records.insert(key, payload);
            }
        }
        let connection = &self.sides[side].connection;
        let kept = connection
            .streams
            .values()
            .map(|stream| stream.link.retransmit.bytes())
            .max();
        self.most_kept = self.most_kept.max(kept.unwrap_or(0));
        assert!(self.most_kept <= limits::STREAM_UNACKED_BYTES);
    }

    fn drain_events(&mut self) -> bool {
        let mut moved = false;
        for side in [EXECUTOR_SIDE, HARNESS_SIDE] {
            self.check_memory(side);
            while self.sides[side].between.is_none()
                && let Some(event) = self.sides[side].connection.poll_event()
            {
                moved = true;
                self.on_event(side, event);
            }
        }
        moved
    }

    /// What an honest peer has made this side hold is within the window, and within the room for large
    /// messages.
    fn check_memory(&mut self, side: usize) {
        let connection = &self.sides[side].connection;
        let mut reserved = 0;
        for (id, stream) in &connection.streams {
            let room = stream.link.credit.reserved();
            let held = stream.held_bytes();
            let most = limits::STREAM_WINDOW_BYTES + room;
            assert!(held <= most, "{id} holds {held} bytes, room for {room}");
            assert!(stream.outbox.bytes() <= OUTBOX_BYTES);
            reserved += room;
        }
        assert!(reserved <= limits::CONNECTION_LARGE_BYTES);
        assert!(connection.events.len() <= limits::CONTROL_FRAMES);
        assert!(connection.control.len() <= limits::CONTROL_FRAMES);
        self.most_held = self.most_held.max(connection.held_bytes);
    }

    fn on_event(&mut self, side: usize, event: Event) {
        let now = self.now;
        let Side {
            connection,
            streams,
            ..
        } = &mut self.sides[side];
        match event {
            Event::HandshakeRequested { token, .. } => {
                connection.authorize(now, &token, Verdict::Approved);
            }
            Event::Opened { stream } => {
                streams.insert(stream, Application::default());
            }
            Event::Message { stream, message } => {
                let application = streams.get_mut(&stream).unwrap();
                assert!(!application.paused, "a paused application gets nothing");
                let class = check(&message, 1 - side, &stream, application.received);
                application.received[class] += 1;
            }
            Event::Writable { stream } => self.pump(side, &stream),
            Event::Suspended { stream } => streams.get_mut(&stream).unwrap().suspended += 1,
            Event::Resumed { stream } => streams.get_mut(&stream).unwrap().resumed += 1,
            Event::Closed { stream, reason } => {
                if let Some(application) = streams.get_mut(&stream) {
                    application.closed = Some(reason);
                }
            }
        }
    }

    /// Why streams ended that should not have.
    pub(super) fn closed(&self) -> Vec<(&'static str, StreamId, CloseReason)> {
        NAMES
            .into_iter()
            .zip(&self.sides)
            .flat_map(|(name, side)| {
                side.streams
                    .iter()
                    .filter_map(move |(id, it)| Some((name, id.clone(), it.closed?)))
            })
            .collect()
    }
}

fn tell_paused(connection: &mut Connection, stream: &StreamId, paused: bool) {
    if paused {
        connection.pause(stream);
    } else {
        connection.resume(stream);
    }
}

/// Message `number` of one class of one direction: class and number, then a pattern that depends on
/// everything.
fn message(side: usize, stream: &StreamId, class: usize, number: usize, length: usize) -> Bytes {
    let length = length.max(HEAD);
    let salt = side + stream.as_str().len() * 7 + class * 13 + number * 31;
    // Not a divisor of any record length, so that records in a wrong order show.
    let block: Vec<u8> = (0..251)
        .map(|at| u8::try_from((at + salt) % 256).unwrap())
        .collect();
    let mut bytes = vec![u8::try_from(class).unwrap()];
    bytes.extend_from_slice(&(number as u64).to_be_bytes());
    bytes.extend_from_slice(&block.repeat(length / 251 + 1));
    bytes.truncate(length);
    bytes.into()
}

/// Returns the class of the message, which must be the expected one of its class.
fn check(received: &Bytes, side: usize, stream: &StreamId, expected: [usize; 2]) -> usize {
    let class = usize::from(received[0]);
    let number = u64::from_be_bytes(received[1..HEAD].try_into().unwrap());
    assert_eq!(number, expected[class] as u64, "in order and once");
    let whole = message(side, stream, class, expected[class], received.len());
    assert!(*received == whole, "message {number} is changed");
    class
}

/// Class and number at the beginning of a message.
const HEAD: usize = 9;

/// Frames of a link's past that are remembered.
const PAST: usize = 64;

/// What one stream may have queued for sending: both classes, or one message that is larger.
const OUTBOX_BYTES: usize = limits::STREAM_SEND_BYTES + limits::STREAM_URGENT_BYTES;
