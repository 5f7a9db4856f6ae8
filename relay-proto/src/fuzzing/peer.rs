//! One end, and a peer with the right keys that says what the input says.

use std::time::{Duration, Instant};

use bytes::{Bytes, BytesMut};

use super::watch::Watch;
use super::{EXECUTOR, HARNESS, Input, connection, reliability, stream_id};
use crate::ack::Acknowledgement;
use crate::connection::{Connection, ConnectionConfig, Transmit};
use crate::frame::{Body, Frame, Statement};
use crate::ids::Seq;
use crate::noise::Transport;
use crate::segment::Priority;

/// The first byte of all chooses the end and what it does against loss; then come steps, each with as
/// many bytes as it needs.
///
/// # Panics
///
/// If a limit is exceeded, books do not balance, a number stands for two records, or output has no
/// end.
pub fn peer(data: &[u8]) {
    let mut input = Input(data);
    let choice = input.byte();
    let mut scene = Scene::new(usize::from(choice & 1), reliability(choice >> 1));
    while !input.is_empty() {
        scene.step(&mut input);
        scene.settle();
    }
    for _ in 0..20 {
        scene.wait(Duration::from_secs(20));
        scene.settle();
    }
}

struct Scene {
    side: usize,
    config: ConnectionConfig,
    connection: Connection,
    now: Instant,
    /// The peer's.
    transport: Transport,
    serial: u64,
    watch: Watch,
    /// The highest serial that was to be answered.
    echo: u64,
}

impl Scene {
    fn new(side: usize, config: ConnectionConfig) -> Self {
        let now = Instant::now();
        let [harness, executor] = Transport::known_pair().expect("keys of the right length");
        let (own, transport) = match side {
            HARNESS => (harness, executor),
            _ => (executor, harness),
        };
        let mut connection = connection(side, config, now);
        connection.insert_stream(now, stream_id(0), own);
        debug_assert!(side <= EXECUTOR);
        Self {
            side,
            config,
            connection,
            now,
            transport,
            serial: 0,
            watch: Watch::default(),
            echo: 0,
        }
    }

    fn step(&mut self, input: &mut Input<'_>) {
        let id = stream_id(0);
        match input.byte() % 16 {
            0..4 => self.record(input),
            4..7 => {
                let body = match input.byte() % 8 {
                    0..5 => Body::Ack,
                    5 => Body::Resume {
                        next_seq: input.number() % 64,
                    },
                    6 => Body::Heartbeat,
                    _ => Body::Reset {
                        reason: "x".to_owned(),
                    },
                };
                self.say(body, input);
            }
            7 => {
                let length = usize::from(input.byte());
                let bytes = Bytes::copy_from_slice(input.bytes(length));
                self.hear(bytes);
            }
            8 | 9 => {
                let length = (input.number() % 200_000) as usize + 1;
                let priority = if input.byte() & 1 == 0 {
                    Priority::Ordinary
                } else {
                    Priority::Urgent
                };
                let message = Bytes::from(vec![0; length]);
                let _ = self.connection.send_with(self.now, &id, message, priority);
            }
            10 => self.connection.pause(&id),
            11 => self.connection.resume(&id),
            12 => self.connection.close(self.now, &id),
            13 => {
                let suspended = self.connection.suspend(self.now);
                self.connection = connection(self.side, self.config, self.now);
                self.connection.adopt(self.now, suspended);
            }
            _ => self.wait(Duration::from_millis(u64::from(input.byte()) * 40)),
        }
    }

    /// A record of any plaintext, with a number near those that are expected.
    fn record(&mut self, input: &mut Input<'_>) {
        let (kind, number) = (input.byte(), input.byte());
        let plaintext = match kind & 3 {
            0 => {
                let length = usize::from(input.byte());
                input.bytes(length).to_vec()
            }
            // A message as it should be.
            1 => {
                let length = usize::from(input.byte()) * 240 + 1;
                let mut bytes = u32::try_from(length).unwrap().to_be_bytes().to_vec();
                bytes.resize(length + 4, 7);
                bytes
            }
            // The beginning of a large one.
            2 => {
                let mut bytes = (u32::from(input.byte()) << 18 | 1).to_be_bytes().to_vec();
                bytes.resize(61_440, 7);
                bytes
            }
            _ => vec![7; 61_440],
        };
        let seq = match kind >> 2 & 3 {
            0..3 => self.transport.sealer.next_seq(),
            _ => Some(Seq(u32::from(number))),
        };
        let Some(seq) = seq else { return };
        // A record with a number out of turn must not use up the one whose turn it is.
        let next = self.transport.sealer.next_seq();
        self.transport.sealer.skip_to(seq);
        let mut payload = BytesMut::from(&plaintext[..]);
        self.transport.sealer.seal(&mut payload, 0).unwrap();
        if let (3, Some(next)) = (kind >> 2 & 3, next) {
            self.transport.sealer.skip_to(next);
        }
        let body = Body::Data {
            seq,
            payload: payload.freeze(),
        };
        if kind & 16 == 0 {
            self.say(body, input);
        } else {
            self.hear(Frame::new(stream_id(0), body).encode());
        }
    }

    /// A frame with a statement that is signed as it should be, whatever it says.
    fn say(&mut self, body: Body, input: &mut Input<'_>) {
        let (kind, flags) = (input.byte(), input.byte());
        self.serial = self.serial.wrapping_add(match kind & 7 {
            0 => 0,
            1 => u64::from(input.number()) << 32,
            _ => 1,
        });
        let acknowledgement = Acknowledgement {
            ack: u32::from(input.byte()),
            bits: if kind & 8 == 0 { 0 } else { input.number() },
        };
        let wide = kind & 16 != 0;
        let mut statement = Statement {
            serial: self.serial,
            flags: u32::from(flags),
            max_seq: if wide {
                u32::MAX
            } else {
                u32::from(input.byte())
            },
            max_bytes: if wide {
                u64::MAX
            } else {
                u64::from(input.byte()) << 14
            },
            echo: if kind & 32 == 0 {
                self.echo
            } else {
                u64::from(input.byte())
            },
            tag: [0; 16],
        };
        let next_seq = match body {
            Body::Resume { next_seq } => next_seq,
            _ => 0,
        };
        let text = statement.text(body.kind(), acknowledgement, next_seq);
        statement.tag = self.transport.statements.sign(&text);
        let frame = Frame {
            ack: acknowledgement.ack,
            ack_bits: acknowledgement.bits,
            statement: Some(statement),
            ..Frame::new(stream_id(0), body)
        };
        self.hear(frame.encode());
    }

    fn hear(&mut self, bytes: Bytes) {
        let _ = self.connection.handle_message(self.now, bytes);
    }

    fn wait(&mut self, longest: Duration) {
        let end = self.now + longest;
        let due = self.connection.poll_timeout();
        self.now = due.map_or(end, |due| due.clamp(self.now, end));
        let _ = self.connection.handle_timeout(self.now);
    }

    fn settle(&mut self) {
        for _ in 0..100_000 {
            while self.connection.poll_event().is_some() {}
            match self.connection.poll_transmit(self.now) {
                Some(Transmit::Frame(frame)) => {
                    self.watch.sent(&frame);
                    let frame = Frame::decode(frame).expect("only valid frames are sent");
                    if let Some(statement) = frame.statement
                        && statement.flags & Statement::ANSWER != 0
                    {
                        self.echo = statement.serial;
                    }
                }
                Some(Transmit::Ping) => self.connection.handle_pong(self.now),
                None => {
                    self.connection.check_books();
                    return;
                }
            }
        }
        panic!("output without an end");
    }
}
