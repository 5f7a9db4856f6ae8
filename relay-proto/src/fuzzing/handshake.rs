//! Handshake messages: genuine ones with changes, and any bytes.

use std::sync::LazyLock;

use bytes::Bytes;

use super::{EXECUTOR, HARNESS, IDENTITIES, Input};
use crate::noise::{HandshakeRng, Initiator, Unauthorized};

const PROLOGUE: &[u8] = b"prologue";

struct Genuine {
    first: Bytes,
    second: Bytes,
}

/// The same seeds give the same messages, so a second initiator stands where the first one stood.
fn initiator() -> (Initiator, Bytes) {
    Initiator::start(
        &IDENTITIES[HARNESS],
        IDENTITIES[EXECUTOR].public_key(),
        PROLOGUE,
        "authorization",
        HandshakeRng::seeded([3; 32]),
    )
    .unwrap()
}

fn responder(message: &[u8]) -> Result<Unauthorized, crate::HandshakeError> {
    let rng = HandshakeRng::seeded([4; 32]);
    Unauthorized::read(&IDENTITIES[EXECUTOR], PROLOGUE, message, rng)
}

static GENUINE: LazyLock<Genuine> = LazyLock::new(|| {
    let (_, first) = initiator();
    let (_, second) = responder(&first).unwrap().approve().unwrap();
    Genuine { first, second }
});

/// The first byte says which message, and whether the rest is one or what is changed in a genuine
/// one: place and mask of single bytes, and at the end a new length.
///
/// # Panics
///
/// If anything but a genuine message is accepted, or a genuine one is not.
pub fn handshake(data: &[u8]) {
    let mut input = Input(data);
    let choice = input.byte();
    let genuine = if choice & 1 == 0 {
        &GENUINE.first
    } else {
        &GENUINE.second
    };
    let message = if choice & 2 == 0 {
        changed(genuine, &mut input)
    } else {
        input.0.to_vec()
    };
    let is_accepted = if choice & 1 == 0 {
        match responder(&message) {
            Ok(unauthorized) => {
                assert_eq!(unauthorized.authorization(), "authorization");
                assert_eq!(unauthorized.harness_key(), IDENTITIES[HARNESS].public_key());
                true
            }
            Err(_) => false,
        }
    } else {
        initiator().0.finish(&message).is_ok()
    };
    assert_eq!(is_accepted, message == *genuine);
}

fn changed(genuine: &[u8], input: &mut Input<'_>) -> Vec<u8> {
    let mut message = genuine.to_vec();
    for _ in 0..input.byte() % 8 {
        let place = usize::from(input.byte()) << 8 | usize::from(input.byte());
        let place = place % message.len();
        message[place] ^= input.byte();
    }
    match input.byte() % 3 {
        0 => {}
        1 => message.truncate(usize::from(input.byte()) << 8 | usize::from(input.byte())),
        _ => message.extend_from_slice(input.0),
    }
    message
}
