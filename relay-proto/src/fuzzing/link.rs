//! Two ends that behave, and between them a path that does what the input says.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use bytes::Bytes;

use super::watch::Watch;
use super::{EXECUTOR, HARNESS, Input, connection, reliability, stream_id};
use crate::connection::{Connection, ConnectionConfig, Event, SendError, Transmit};
use crate::frame::Frame;
use crate::link::Reliability;
use crate::noise::Transport;
use crate::segment::Priority;

/// Two bytes are one step: what happens, and how much of it. The first byte of all chooses what the
/// ends do against loss.
///
/// # Panics
///
/// If a message arrives twice, changed or out of order; if a number stands for two records; if books
/// do not balance; or if something is missing at the end although the path was good for long enough
/// and nobody was told.
pub fn link(data: &[u8]) {
    let mut input = Input(data);
    let mut world = World::new(reliability(input.byte()));
    while !input.is_empty() && !world.is_over {
        let (what, amount) = (input.byte(), input.byte());
        world.step(what, amount);
        world.settle();
    }
    world.finish();
}

const STREAMS: usize = 2;

struct End {
    connection: Connection,
    /// Frames on their way to the other end.
    path: VecDeque<Bytes>,
    /// Some that were there before.
    past: Vec<Bytes>,
    watch: Watch,
    /// By stream and class.
    sent: [[Vec<Bytes>; 2]; STREAMS],
    received: [[usize; 2]; STREAMS],
    closed: bool,
}

struct World {
    ends: [End; 2],
    config: ConnectionConfig,
    now: Instant,
    /// A connection has ended, and no stream goes on elsewhere.
    is_over: bool,
}

impl World {
    fn new(config: ConnectionConfig) -> Self {
        let now = Instant::now();
        let mut ends = [HARNESS, EXECUTOR].map(|side| End {
            connection: connection(side, config, now),
            path: VecDeque::new(),
            past: Vec::new(),
            watch: Watch::default(),
            sent: Default::default(),
            received: Default::default(),
            closed: false,
        });
        for number in 0..STREAMS {
            let transports = Transport::known_pair().expect("keys of the right length");
            for (end, transport) in ends.iter_mut().zip(transports) {
                end.connection
                    .insert_stream(now, stream_id(number), transport);
            }
        }
        let mut world = Self {
            ends,
            config,
            now,
            is_over: false,
        };
        world.settle();
        world
    }

    fn step(&mut self, what: u8, amount: u8) {
        let side = usize::from(what & 1);
        let stream = usize::from(what >> 1 & 1);
        let place = usize::from(amount);
        match what >> 2 & 15 {
            0 => self.send(side, stream, place * 300 + 9, Priority::Ordinary),
            1 => self.send(side, stream, place + 9, Priority::Urgent),
            2 if amount == 255 => self.send(side, stream, 1_200_000, Priority::Ordinary),
            2 | 3 => {
                for _ in 0..=amount {
                    self.deliver_next(side);
                }
            }
            4 => drop(self.ends[side].path.pop_front()),
            5 => self.ends[side].path.clear(),
            6 => {
                let path = &mut self.ends[side].path;
                if let Some(frame) = path.get(place).cloned() {
                    path.push_back(frame);
                }
            }
            7 => {
                let path = &mut self.ends[side].path;
                if path.len() > 1 {
                    path.swap(0, place % path.len());
                }
            }
            8 => {
                if let Some(frame) = self.ends[side].path.pop_front() {
                    let mut frame = frame.to_vec();
                    let place = place * 7 % frame.len();
                    frame[place] ^= 1 << (amount & 7);
                    self.deliver(1 - side, frame.into());
                }
            }
            9 => {
                let past = &self.ends[side].past;
                if let Some(frame) = past.get(place % past.len().max(1)).cloned() {
                    self.deliver(1 - side, frame);
                }
            }
            10 => self.ends[side].connection.pause(&stream_id(stream)),
            11 => self.ends[side].connection.resume(&stream_id(stream)),
            12 => self.move_to_another(side),
            13 => {
                let reset = Frame::reset(stream_id(stream)).encode();
                self.deliver(side, reset);
            }
            _ => self.wait(Duration::from_millis(u64::from(amount) * 10)),
        }
    }

    fn send(&mut self, side: usize, stream: usize, length: usize, priority: Priority) {
        let class = usize::from(priority == Priority::Urgent);
        let end = &mut self.ends[side];
        let sent = &mut end.sent[stream][class];
        let message = message(class, sent.len(), length);
        let id = stream_id(stream);
        match end
            .connection
            .send_with(self.now, &id, message.clone(), priority)
        {
            Ok(()) => sent.push(message),
            Err(SendError::WouldBlock(_) | SendError::Closed) => {}
            Err(error) => panic!("{error}"),
        }
    }

    fn deliver_next(&mut self, from: usize) {
        if let Some(frame) = self.ends[from].path.pop_front() {
            self.deliver(1 - from, frame);
            self.settle();
        }
    }

    fn deliver(&mut self, to: usize, frame: Bytes) {
        let connection = &mut self.ends[to].connection;
        connection
            .handle_message(self.now, frame)
            .expect("no frame is too long");
    }

    /// Lets time pass up to the next thing that is due, or for this long.
    fn wait(&mut self, longest: Duration) {
        let due = self
            .ends
            .iter()
            .filter_map(|it| it.connection.poll_timeout());
        let end = self.now + longest;
        self.now = due.min().map_or(end, |due| due.clamp(self.now, end));
        for side in [HARNESS, EXECUTOR] {
            if self.ends[side].connection.handle_timeout(self.now).is_err() {
                self.move_to_another(side);
            }
        }
    }

    /// One end gets another websocket, with the streams that go on over it.
    fn move_to_another(&mut self, side: usize) {
        let end = &mut self.ends[side];
        let suspended = end.connection.suspend(self.now);
        self.is_over |= suspended.ids().count() < STREAMS;
        end.connection = connection(side, self.config, self.now);
        end.connection.adopt(self.now, suspended);
        for end in &mut self.ends {
            end.path.clear();
        }
    }

    /// Takes what the connections have to say.
    fn settle(&mut self) {
        for side in [HARNESS, EXECUTOR] {
            let mut messages = Vec::new();
            let end = &mut self.ends[side];
            loop {
                while let Some(event) = end.connection.poll_event() {
                    match event {
                        Event::Message { stream, message } => messages.push((stream, message)),
                        Event::Closed { .. } => end.closed = true,
                        _ => {}
                    }
                }
                match end.connection.poll_transmit(self.now) {
                    Some(Transmit::Frame(frame)) => {
                        end.watch.sent(&frame);
                        if end.past.len() < PAST {
                            end.past.push(frame.clone());
                        }
                        end.path.push_back(frame);
                    }
                    // The websocket's own, hop by hop.
                    Some(Transmit::Ping) => end.connection.handle_pong(self.now),
                    None => break,
                }
            }
            end.connection.check_books();
            for (stream, message) in messages {
                let stream = usize::from(stream == stream_id(1));
                let class = usize::from(message[0]);
                let place = self.ends[side].received[stream][class];
                let sent = &self.ends[1 - side].sent[stream][class];
                assert_eq!(sent.get(place), Some(&message), "once and in order");
                self.ends[side].received[stream][class] += 1;
            }
        }
    }

    /// Gives the path time, and looks whether everything arrives.
    fn finish(&mut self) {
        for side in [HARNESS, EXECUTOR] {
            for stream in 0..STREAMS {
                self.ends[side].connection.resume(&stream_id(stream));
            }
        }
        for _ in 0..20_000 {
            self.settle();
            if self.is_over || self.is_complete() || self.ends.iter().any(|end| end.closed) {
                return;
            }
            let sides = [HARNESS, EXECUTOR];
            match sides.iter().find(|&&side| !self.ends[side].path.is_empty()) {
                Some(&side) => self.deliver_next(side),
                None => self.wait(Duration::from_secs(60)),
            }
        }
        // Nothing repeats what is lost toward a peer that does not acknowledge.
        let may_lose = self.config.reliability == Reliability::Off;
        assert!(may_lose, "everything arrives or somebody is told");
    }

    fn is_complete(&self) -> bool {
        [HARNESS, EXECUTOR].into_iter().all(|side| {
            let sent = &self.ends[side].sent;
            let received = &self.ends[1 - side].received;
            sent.iter()
                .flatten()
                .zip(received.iter().flatten())
                .all(|(sent, received)| sent.len() == *received)
        })
    }
}

fn message(class: usize, number: usize, length: usize) -> Bytes {
    let mut bytes = vec![u8::try_from(number % 256).unwrap(); length];
    bytes[0] = u8::try_from(class).unwrap();
    bytes[1..9].copy_from_slice(&(number as u64).to_be_bytes());
    bytes.into()
}

/// Frames of the past that may come again.
const PAST: usize = 64;
