//! The promise: every message arrives exactly once and in order, whatever the link does, as long as
//! it lets one frame in ten through and the path is not given up.
//!
//! Each seed is a world of its own. `RELAY_SEED=n` runs one, `RELAY_SEEDS=n` that many from 0 on;
//! `cargo xtask nightly` runs ten thousand of each kind.

use std::time::Duration;

use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};

use super::pair::id;
use super::world::{EXECUTOR_SIDE, Faults, HARNESS_SIDE, World, patient};
use crate::connection::ConnectionConfig;
use crate::limits;
use crate::link::Reliability;
use crate::segment::Priority;

const MS: Duration = Duration::from_millis(1);

/// Runs the seeds of one part of the tests, and says which one failed.
fn for_seeds(part: u64, parts: u64, normal: u64, run: fn(u64)) {
    let number = |name: &str| {
        let text = std::env::var(name).ok()?;
        Some(text.parse::<u64>().expect("a number of seeds"))
    };
    let seeds = match number("RELAY_SEED") {
        Some(seed) => seed..seed + 1,
        None => 0..number("RELAY_SEEDS").unwrap_or(normal),
    };
    for seed in seeds.filter(|seed| seed % parts == part) {
        let result = std::panic::catch_unwind(|| run(seed));
        assert!(result.is_ok(), "failed with RELAY_SEED={seed}");
    }
}

fn any_faults(rng: &mut StdRng) -> Faults {
    Faults {
        // A third of the links are nearly or entirely at the limit of what is promised.
        lost: match rng.random_range(0..6) {
            0 => 90,
            1 => rng.random_range(60..90),
            _ => rng.random_range(0..60),
        },
        one_in_ten: false,
        duplicated: rng.random_range(0..50),
        corrupted: rng.random_range(0..20),
        replayed: rng.random_range(0..10),
        delay: MS * rng.random_range(0..200),
        jitter: MS * rng.random_range(0..300),
        stalls: rng.random_range(0..40),
        stall: MS * rng.random_range(0..4_000),
    }
}

fn any_length(rng: &mut StdRng) -> usize {
    match rng.random_range(0..40) {
        0 => rng.random_range(limits::STREAM_WINDOW_BYTES..3 * limits::STREAM_WINDOW_BYTES),
        1..6 => rng.random_range(10_000..200_000),
        _ => rng.random_range(8..2_000),
    }
}

/// Messages both ways at random times, with applications that pause.
fn converse(world: &mut World, rng: &mut StdRng, names: &[&str], rounds: u32) {
    for _ in 0..rounds {
        let stream = id(names[rng.random_range(0..names.len())]);
        let side = rng.random_range(0..2);
        match rng.random_range(0..8) {
            0 => world.pause(side, &stream, true),
            1 | 2 => world.pause(side, &stream, false),
            _ => {
                // Sometimes all of one length, as the blocks of a file are.
                let same = rng.random_bool(0.2).then(|| any_length(rng));
                for _ in 0..rng.random_range(1..6) {
                    let length = same.unwrap_or_else(|| any_length(rng));
                    if length < 10_000 && rng.random_bool(0.2) {
                        world.send_with(side, &stream, length, Priority::Urgent);
                    } else {
                        world.send(side, &stream, length);
                    }
                }
            }
        }
        world.run_for(MS * rng.random_range(0..2_000));
    }
    for side in [EXECUTOR_SIDE, HARNESS_SIDE] {
        for name in names {
            world.pause(side, &id(name), false);
        }
    }
}

fn lossy(seed: u64) {
    let mut rng = StdRng::seed_from_u64(seed);
    let reliability = if rng.random_bool(0.5) {
        Reliability::Acknowledged
    } else {
        Reliability::Resumable
    };
    let mut world = World::new(seed, patient(reliability));
    let names = &["a", "b", "c"][..rng.random_range(1..=3)];
    world.faults = [any_faults(&mut rng), any_faults(&mut rng)];
    if seed.is_multiple_of(10) {
        for faults in &mut world.faults {
            faults.lost = 0;
            faults.one_in_ten = true;
        }
    }
    world.open(names);
    let rounds = rng.random_range(1..12);
    converse(&mut world, &mut rng, names, rounds);
    let complete = world.run_until_complete(Duration::from_secs(100_000));
    assert_eq!(world.closed(), [], "no stream ends");
    assert!(complete, "everything arrives in time: {:?}", world.faults);
    assert!(world.most_held <= limits::CONNECTION_RECEIVE_BYTES);
    assert!(world.most_kept <= limits::STREAM_UNACKED_BYTES);
    // Silence afterwards costs a few heartbeats and no data.
    let before = world.repeated_records;
    world.faults = Default::default();
    world.run_for(Duration::from_secs(60));
    let quiet = (world.frames, world.repeated_records);
    world.run_for(Duration::from_secs(60));
    assert_eq!(
        world.repeated_records, quiet.1,
        "nothing is sent again for ever"
    );
    let per_stream =
        (world.frames[0] + world.frames[1] - quiet.0[0] - quiet.0[1]) / names.len() as u64;
    assert!(per_stream < 200, "{per_stream} frames a minute for nothing");
    assert!(quiet.1 >= before);
}

/// Websockets end again and again, with what is under way on them, noticed by the others or not.
///
/// A stream without a path is given up after a minute, so links lose at most half of everything here:
/// with nine of ten, a way back would too often take longer than that.
fn moving(seed: u64) {
    let mut rng = StdRng::seed_from_u64(seed);
    let config = ConnectionConfig {
        reliability: Reliability::Resumable,
        ..ConnectionConfig::default()
    };
    let mut world = World::new(seed, config);
    let names = &["a", "b", "c"][..rng.random_range(1..=3)];
    let faults = Faults {
        lost: rng.random_range(0..50),
        duplicated: rng.random_range(0..20),
        corrupted: rng.random_range(0..5),
        replayed: rng.random_range(0..10),
        delay: MS * rng.random_range(0..150),
        jitter: MS * rng.random_range(0..50),
        ..Faults::default()
    };
    world.faults = [faults, faults];
    world.open(names);
    // Every 12 s on average, which leaves about half of the time with a path.
    world.cuts = 80;
    let rounds = rng.random_range(5..30);
    converse(&mut world, &mut rng, names, rounds);
    let complete = world.run_until_complete(Duration::from_secs(2_000));
    assert_eq!(world.closed(), [], "no stream ends");
    assert!(complete, "everything arrives in time: {:?}", world.faults);
}

/// Faults from the first frame on, before the ends know of each other. Then a stream may end, with a
/// reason and at both ends, but nothing is missing from what it has delivered, and once the ends know
/// of each other nothing is lost any more.
fn opening(seed: u64) {
    let mut rng = StdRng::seed_from_u64(seed);
    let mut world = World::new(seed, ConnectionConfig::default());
    for faults in &mut world.faults {
        *faults = Faults {
            lost: rng.random_range(0..30),
            duplicated: rng.random_range(0..30),
            delay: MS * rng.random_range(0..100),
            jitter: MS * rng.random_range(0..100),
            ..Faults::default()
        };
    }
    world.begin("a");
    for _ in 0..rng.random_range(20..60) {
        world.run_for(MS * rng.random_range(0..300));
        for side in [EXECUTOR_SIDE, HARNESS_SIDE] {
            if world.sides[side].streams.contains_key(&id("a")) {
                let length = any_length(&mut rng).min(50_000);
                world.send(side, &id("a"), length);
            }
        }
    }
    world.run_for(Duration::from_secs(120));
    let is_known = world
        .sides
        .iter()
        .any(|side| side.connection.is_reliable(&id("a")));
    let ended = world
        .sides
        .iter()
        .filter_map(|side| side.streams.get(&id("a")))
        .all(|application| application.closed.is_some());
    let complete = world.is_complete();
    assert!(
        complete || ended || !is_known,
        "incomplete and nobody is told"
    );
}

/// In parts, so that they run side by side and none takes long.
macro_rules! parts {
    ($($run:ident: $($name:ident $part:literal)*;)*) => {
        $($(
            #[test]
            fn $name() {
                for_seeds($part, 6, 300, $run);
            }
        )*)*
    };
}

parts! {
    lossy:
        every_message_arrives_once_and_in_order_over_a_lossy_link_1 0
        every_message_arrives_once_and_in_order_over_a_lossy_link_2 1
        every_message_arrives_once_and_in_order_over_a_lossy_link_3 2
        every_message_arrives_once_and_in_order_over_a_lossy_link_4 3
        every_message_arrives_once_and_in_order_over_a_lossy_link_5 4
        every_message_arrives_once_and_in_order_over_a_lossy_link_6 5;
    moving:
        every_message_arrives_once_and_in_order_over_many_websockets_1 0
        every_message_arrives_once_and_in_order_over_many_websockets_2 1
        every_message_arrives_once_and_in_order_over_many_websockets_3 2
        every_message_arrives_once_and_in_order_over_many_websockets_4 3
        every_message_arrives_once_and_in_order_over_many_websockets_5 4
        every_message_arrives_once_and_in_order_over_many_websockets_6 5;
    opening:
        faults_before_the_ends_know_of_each_other_are_not_silent_1 0
        faults_before_the_ends_know_of_each_other_are_not_silent_2 1
        faults_before_the_ends_know_of_each_other_are_not_silent_3 2
        faults_before_the_ends_know_of_each_other_are_not_silent_4 3
        faults_before_the_ends_know_of_each_other_are_not_silent_5 4
        faults_before_the_ends_know_of_each_other_are_not_silent_6 5;
}
