//! What fails when, drawn from a seed.

use std::time::Duration;

use rand::{RngExt as _, rngs::StdRng, seq::IndexedRandom as _};

use crate::hosts::{EXECUTOR, HARNESSES, REGISTRY, RENDEZVOUS};

/// One thing that fails for a time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Fault {
    /// Between two hosts everything is lost, and new connections fail.
    Partition(&'static str, &'static str),
    /// The same in one direction.
    OneWay(&'static str, &'static str),
    /// Between two hosts everything waits: sockets look open, connections neither open nor fail. At
    /// the end it arrives.
    HalfOpen(&'static str, &'static str),
    /// A program is killed, and started again at the end.
    Crash(&'static str),
    /// The cloud's clock jumps by so many seconds, and back at the end.
    Skew(i64),
}

/// A fault and its time.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Planned {
    pub(crate) fault: Fault,
    pub(crate) begins: Duration,
    pub(crate) ends: Duration,
}

/// Draws the faults of a scene: all of them end before `end`.
pub(crate) fn draw(rng: &mut StdRng, end: Duration) -> Vec<Planned> {
    let mut plan: Vec<Planned> = Vec::new();
    let mut at = FIRST;
    loop {
        at += millis(rng, 300..=6_000);
        let fault = one(rng);
        let lasts = match fault {
            Fault::Crash(_) => millis(rng, 50..=8_000),
            // Short ones are bridged, long ones noticed.
            _ => millis(rng, 100..=15_000),
        };
        let ends = at + lasts;
        if ends >= end {
            return plan;
        }
        // One at a time for each thing that fails.
        let is_free = plan
            .iter()
            .all(|other| other.ends < at || !fault.touches(other.fault));
        if is_free {
            plan.push(Planned {
                fault,
                begins: at,
                ends,
            });
        }
    }
}

fn one(rng: &mut StdRng) -> Fault {
    let (a, b) = *LINKS.choose(rng).expect("there are links");
    match rng.random_range(0..10) {
        0..2 => Fault::Partition(a, b),
        2 => Fault::OneWay(a, b),
        3 => Fault::OneWay(b, a),
        4..6 => Fault::HalfOpen(a, b),
        6 => Fault::Skew(rng.random_range(-5 * HOUR..=5 * HOUR)),
        7 => Fault::Crash(RENDEZVOUS),
        8 => Fault::Crash(EXECUTOR),
        _ => Fault::Crash(HOSTS.choose(rng).expect("there are hosts")),
    }
}

impl Fault {
    /// Whether both are about the same link, host or clock.
    fn touches(self, other: Self) -> bool {
        match (self.link(), other.link()) {
            (Some(one), Some(two)) => one == two,
            (None, None) => match (self, other) {
                (Self::Crash(one), Self::Crash(two)) => one == two,
                (Self::Skew(_), Self::Skew(_)) => true,
                _ => false,
            },
            _ => false,
        }
    }

    fn link(self) -> Option<(&'static str, &'static str)> {
        match self {
            Self::Partition(a, b) | Self::OneWay(a, b) | Self::HalfOpen(a, b) => {
                Some((a.min(b), a.max(b)))
            }
            Self::Crash(_) | Self::Skew(_) => None,
        }
    }
}

fn millis(rng: &mut StdRng, range: std::ops::RangeInclusive<u64>) -> Duration {
    Duration::from_millis(rng.random_range(range))
}

const LINKS: [(&str, &str); 7] = [
    (EXECUTOR, RENDEZVOUS),
    (EXECUTOR, REGISTRY),
    (REGISTRY, RENDEZVOUS),
    (HARNESSES[0], RENDEZVOUS),
    (HARNESSES[1], RENDEZVOUS),
    (HARNESSES[0], REGISTRY),
    (HARNESSES[1], REGISTRY),
];
const HOSTS: [&str; 4] = [RENDEZVOUS, REGISTRY, HARNESSES[0], HARNESSES[1]];
const HOUR: i64 = 3_600;
/// Until then everything works.
const FIRST: Duration = Duration::from_secs(2);
