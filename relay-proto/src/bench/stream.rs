//! Two connections with nothing between them.

use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use rand::SeedableRng as _;
use rand::rngs::StdRng;

use super::Work;
use super::parts::{stream_id, text};
use crate::connection::{Connection, ConnectionConfig, Event, Transmit, Verdict};
use crate::ids::{EnvironmentId, RegistrationId};
use crate::noise::Identity;

/// Messages from the executor to the harness, until all have arrived and both ends have said so.
pub(super) fn message(length: usize, count: usize) -> Work {
    let mut pair = Pair::new(&identities());
    pair.settle();
    let message = text(length);
    Box::new(move || {
        for _ in 0..count {
            let sent = pair.executor.send(pair.now, &stream_id(), message.clone());
            assert!(sent.is_ok(), "there is room");
        }
        assert_eq!(pair.settle(), count);
    })
}

/// Both ends' part of a handshake.
pub(super) fn handshake() -> Work {
    let identities = identities();
    Box::new(move || {
        let mut pair = Pair::new(&identities);
        pair.settle();
        assert!(pair.is_open);
    })
}

struct Pair {
    harness: Connection,
    executor: Connection,
    now: Instant,
    is_open: bool,
}

fn identities() -> [Arc<Identity>; 2] {
    let mut rng = StdRng::seed_from_u64(7);
    [(); 2].map(|()| Arc::new(Identity::generate(&mut rng).unwrap()))
}

impl Pair {
    /// The harness has asked for a stream.
    fn new([ours, theirs]: &[Arc<Identity>; 2]) -> Self {
        let now = Instant::now();
        let [mut harness, executor] = [
            (Connection::harness as Constructor, ours, 1),
            (Connection::executor, theirs, 2),
        ]
        .map(|(make, identity, seed)| {
            let environment = EnvironmentId::new("environment").unwrap();
            let registration = RegistrationId::new("registration").unwrap();
            let config = ConnectionConfig::default();
            let identity = Arc::clone(identity);
            make(config, identity, environment, registration, [seed; 32], now)
        });
        let key = theirs.public_key().clone();
        harness
            .open(now, stream_id(), key, "authorization")
            .unwrap();
        Self {
            harness,
            executor,
            now,
            is_open: false,
        }
    }

    /// Passes frames on until there are none, and returns how many messages have arrived.
    ///
    /// Time goes on with each exchange, so that what is said after a delay is said.
    fn settle(&mut self) -> usize {
        let mut arrived = 0;
        let mut quiet = 0;
        while quiet < QUIET_EXCHANGES {
            self.now += EXCHANGE;
            let now = self.now;
            let mut frames = 0;
            for side in [Side::Executor, Side::Harness] {
                let (from, to) = match side {
                    Side::Executor => (&mut self.executor, &mut self.harness),
                    Side::Harness => (&mut self.harness, &mut self.executor),
                };
                from.handle_timeout(now).unwrap();
                while let Some(transmit) = from.poll_transmit(now) {
                    match transmit {
                        Transmit::Frame(frame) => {
                            frames += 1;
                            // The other end's socket has memory of its own.
                            let frame = Bytes::copy_from_slice(&frame);
                            to.handle_message(now, frame).unwrap();
                        }
                        Transmit::Ping => from.handle_pong(now),
                    }
                }
                while let Some(event) = to.poll_event() {
                    match event {
                        Event::HandshakeRequested { token, .. } => {
                            to.authorize(now, &token, Verdict::Approved);
                        }
                        Event::Message { .. } => arrived += 1,
                        Event::Opened { .. } => self.is_open = true,
                        _ => {}
                    }
                }
            }
            quiet = if frames == 0 { quiet + 1 } else { 0 };
        }
        arrived
    }
}

#[derive(Clone, Copy)]
enum Side {
    Executor,
    Harness,
}

type Constructor = fn(
    ConnectionConfig,
    Arc<Identity>,
    EnvironmentId,
    RegistrationId,
    [u8; 32],
    Instant,
) -> Connection;

/// Of the virtual clock, per exchange.
const EXCHANGE: Duration = Duration::from_millis(1);

/// Longer than an acknowledgement may wait.
const QUIET_EXCHANGES: usize = 30;
