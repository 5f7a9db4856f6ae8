//! The targets with the committed seeds, which hold a small corpus, and with random bytes.

use std::path::Path;

use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};

use super::{frame, handshake, link, peer, segments};

/// The target runs over its committed seeds and some random inputs.
fn run(name: &str, target: fn(&[u8]), random: u32) {
    let seeds = Path::new(env!("CARGO_MANIFEST_DIR")).join("../fuzz/seeds");
    let mut count = 0;
    for entry in seeds.join(name).read_dir().unwrap() {
        let path = entry.unwrap().path();
        println!("{}", path.display());
        target(&std::fs::read(path).unwrap());
        count += 1;
    }
    assert!(count > 0, "{name} has seeds");
    for seed in 0..random {
        println!("random input {seed}");
        let mut rng = StdRng::seed_from_u64(u64::from(seed));
        let mut input = vec![0; rng.random_range(0..400)];
        rng.fill(&mut input[..]);
        target(&input);
    }
}

#[test]
fn frames() {
    run("relay_frame", frame, 2_000);
}

#[test]
fn handshakes() {
    run("relay_handshake", handshake, 100);
}

#[test]
fn cuts() {
    run("relay_segments", segments, 2_000);
}

#[test]
fn paths() {
    run("relay_link", link, 300);
}

#[test]
fn peers() {
    run("relay_peer", peer, 300);
}

#[test]
fn a_genuine_handshake_is_accepted() {
    // No changes, and the message as it is.
    handshake(&[0, 0, 0]);
    handshake(&[1, 0, 0]);
}
