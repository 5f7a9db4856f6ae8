//! A harness and an executor with an open stream, and between them a link that does what the input
//! says: it loses, repeats, swaps, damages and invents frames, and lets time pass.
//!
//! Nothing panics, and each end gets a beginning of what the other sent: in order, once, unchanged.

#![no_main]

use std::collections::VecDeque;
use std::sync::{Arc, LazyLock};
use std::time::{Duration, Instant};

use bytes::Bytes;
use libfuzzer_sys::fuzz_target;
use rand::SeedableRng as _;
use relay_proto::ids::{EnvironmentId, RegistrationId, StreamId};
use relay_proto::{Connection, ConnectionConfig, Event, Identity, Transmit, Verdict};

static IDENTITIES: LazyLock<[Arc<Identity>; 2]> = LazyLock::new(|| {
    let mut rng = rand::rngs::StdRng::seed_from_u64(7);
    [(); 2].map(|()| Arc::new(Identity::generate(&mut rng).unwrap()))
});

struct End {
    connection: Connection,
    /// Frames on their way to the other end.
    link: VecDeque<Bytes>,
    sent: Vec<Bytes>,
    received: usize,
    opened: bool,
}

struct World {
    ends: [End; 2],
    stream: StreamId,
    now: Instant,
}

impl World {
    fn new() -> Self {
        let now = Instant::now();
        let environment = EnvironmentId::new("env").unwrap();
        let registration = RegistrationId::new("reg").unwrap();
        let end = |role: fn(_, _, _, _, _, _) -> Connection, index: usize| End {
            connection: role(
                ConnectionConfig::default(),
                Arc::clone(&IDENTITIES[index]),
                environment.clone(),
                registration.clone(),
                [1; 32],
                now,
            ),
            link: VecDeque::new(),
            sent: Vec::new(),
            received: 0,
            opened: false,
        };
        let stream = StreamId::new("stream").unwrap();
        let mut ends = [end(Connection::harness, 0), end(Connection::executor, 1)];
        let key = IDENTITIES[1].public_key().clone();
        ends[0]
            .connection
            .open(now, stream.clone(), key, "authorization")
            .unwrap();
        let mut world = Self { ends, stream, now };
        while !world.ends.iter().all(|end| end.opened) {
            for from in 0..2 {
                world.settle();
                if let Some(frame) = world.ends[from].link.pop_front() {
                    world.deliver(1 - from, frame);
                }
            }
        }
        world
    }

    /// Takes what the connections have to say.
    fn settle(&mut self) {
        for index in 0..2 {
            let mut gone = Vec::new();
            while let Some(event) = self.ends[index].connection.poll_event() {
                match event {
                    Event::HandshakeRequested { token, .. } => {
                        let connection = &mut self.ends[index].connection;
                        connection.authorize(self.now, &token, Verdict::Approved);
                    }
                    Event::Opened { .. } => self.ends[index].opened = true,
                    Event::Message { message, .. } => gone.push(message),
                    _ => {}
                }
            }
            for message in gone {
                let received = self.ends[index].received;
                assert_eq!(self.ends[1 - index].sent.get(received), Some(&message));
                self.ends[index].received += 1;
            }
            let end = &mut self.ends[index];
            while let Some(transmit) = end.connection.poll_transmit(self.now) {
                match transmit {
                    Transmit::Frame(frame) => end.link.push_back(frame),
                    Transmit::Ping => end.connection.handle_pong(self.now),
                }
            }
        }
    }

    /// Returns whether the connection goes on.
    fn deliver(&mut self, to: usize, frame: Bytes) -> bool {
        self.ends[to]
            .connection
            .handle_message(self.now, frame)
            .is_ok()
    }

    /// Does one thing; returns whether there is more to do.
    fn step(&mut self, input: &mut &[u8]) -> bool {
        let Some([operation, argument]) = input.split_off(..2) else {
            return false;
        };
        let from = usize::from(operation & 1);
        let argument = *argument;
        match operation >> 1 & 7 {
            0 => {
                // Up to a few records.
                let length = usize::from(argument) * 1000 + 1;
                let message = Bytes::from(vec![argument; length]);
                let end = &mut self.ends[from];
                if end
                    .connection
                    .send(self.now, &self.stream, message.clone())
                    .is_ok()
                {
                    end.sent.push(message);
                }
            }
            1 | 2 => {
                let Some(frame) = self.ends[from].link.pop_front() else {
                    return true;
                };
                return self.deliver(1 - from, frame);
            }
            3 => drop(self.ends[from].link.pop_front()),
            4 => {
                let link = &mut self.ends[from].link;
                if let Some(frame) = link.get(usize::from(argument)).cloned() {
                    link.push_back(frame);
                }
            }
            5 => {
                let link = &mut self.ends[from].link;
                if link.len() > 1 {
                    link.swap(0, usize::from(argument) % link.len());
                }
            }
            6 => {
                let Some(frame) = self.ends[from].link.pop_front() else {
                    return true;
                };
                let mut frame = frame.to_vec();
                let place = usize::from(argument) * 7 % frame.len();
                frame[place] ^= 1 << (argument & 7);
                return self.deliver(1 - from, frame.into());
            }
            _ if argument < 128 => {
                let length = usize::from(argument).min(input.len());
                let (frame, rest) = input.split_at(length);
                *input = rest;
                return self.deliver(from, Bytes::copy_from_slice(frame));
            }
            _ => {
                self.now += Duration::from_millis(u64::from(argument) * 100);
                return self
                    .ends
                    .iter_mut()
                    .all(|end| end.connection.handle_timeout(self.now).is_ok());
            }
        }
        true
    }
}

fuzz_target!(|data: &[u8]| {
    let mut input = data;
    let mut world = World::new();
    while world.step(&mut input) {
        world.settle();
    }
    world.settle();
});
