//! What the fuzz targets do. Exists in tests and under `cfg(fuzzing)` only.
//!
//! Each function takes any bytes and panics if a promise does not hold for them. The targets in
//! `fuzz/` call one each; the tests here call all of them with the committed seeds and with random
//! bytes, so that they keep working without a fuzzer.
//!
//! | function | input is | promise |
//! |---|---|---|
//! | [`frame`] | a frame | ends and router agree; encoding is stable |
//! | [`handshake`] | changes to a handshake message | only the unchanged one is accepted |
//! | [`segments`] | plaintext of records | any cut gives the same messages |
//! | [`link`] | what the path between two ends does | every message once and in order, and all of them once the path is good |
//! | [`peer`] | what an authenticated peer says | limits hold, books balance, no number is used twice |
//!
//! Behind authentication a fuzzer cannot get by guessing. Other projects give it a fake cipher; here
//! the streams have keys that the target knows, which has the same effect and runs the code that is
//! in use.

mod frame;
mod handshake;
mod link;
mod peer;
mod segments;
mod watch;

pub use self::frame::frame;
pub use self::handshake::handshake;
pub use self::link::link;
pub use self::peer::peer;
pub use self::segments::segments;

use std::sync::{Arc, LazyLock};
use std::time::Instant;

use rand::SeedableRng as _;
use rand::rngs::StdRng;

use crate::connection::{Connection, ConnectionConfig};
use crate::ids::{EnvironmentId, RegistrationId, StreamId};
use crate::link::Reliability;
use crate::noise::Identity;

/// Harness and executor.
static IDENTITIES: LazyLock<[Arc<Identity>; 2]> = LazyLock::new(|| {
    let mut rng = StdRng::seed_from_u64(7);
    [(); 2].map(|()| Arc::new(Identity::generate(&mut rng).unwrap()))
});

const HARNESS: usize = 0;
const EXECUTOR: usize = 1;

fn connection(side: usize, config: ConnectionConfig, now: Instant) -> Connection {
    let make = [Connection::harness, Connection::executor][side];
    make(
        config,
        Arc::clone(&IDENTITIES[side]),
        EnvironmentId::new("env").unwrap(),
        RegistrationId::new("reg").unwrap(),
        [1; 32],
        now,
    )
}

fn stream_id(number: usize) -> StreamId {
    StreamId::new(["a", "b"][number]).unwrap()
}

fn reliability(choice: u8) -> ConnectionConfig {
    ConnectionConfig {
        reliability: match choice % 4 {
            0 => Reliability::Off,
            1 => Reliability::Acknowledged,
            _ => Reliability::Resumable,
        },
        ..ConnectionConfig::default()
    }
}

/// The input, taken piece by piece; zeros after its end.
struct Input<'a>(&'a [u8]);

impl<'a> Input<'a> {
    fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    fn byte(&mut self) -> u8 {
        self.0.split_off_first().copied().unwrap_or_default()
    }

    fn number(&mut self) -> u32 {
        let mut bytes = [0; 4];
        bytes.fill_with(|| self.byte());
        u32::from_be_bytes(bytes)
    }

    fn bytes(&mut self, length: usize) -> &'a [u8] {
        let (taken, rest) = self.0.split_at(length.min(self.0.len()));
        self.0 = rest;
        taken
    }
}

#[cfg(test)]
mod tests;
