//! The whole on simulated time: registry, rendezvous, executor and harnesses on a network that fails.
//!
//! ```text
//!   harness-0 ---+                                  +--- executor
//!   harness-1 ---+--- registry (forwards calls) ----+
//!                |            |                     |
//!                +------- rendezvous (exec-cloud) --+
//! ```
//!
//! Everything is the code of the programs; only what lies under a connection is simulated. A seed
//! decides which faults come when and how long each message takes. What runs in threads and
//! processes of its own (the database, the commands) takes real time, as little as it is, so two runs
//! of a seed resemble each other without being the same to the last event.
//!
//! `SIM_SEEDS` runs more seeds, `SIM_SEED` a single one; a failure names its seed.

#![expect(
    clippy::expect_used,
    clippy::print_stderr,
    reason = "all of it is a test, which says what it has seen"
)]

mod book;
mod faults;
mod hosts;
mod load;
mod network;
mod scene;

/// One part of the seeds for each test, so that they run beside each other and none takes long.
macro_rules! parts {
    ($($number:literal $name:ident)*) => {
        $(
            #[test]
            fn $name() {
                scene::run_part($number, PARTS);
            }
        )*
        const PARTS: u64 = [$($number),*].len() as u64;
    };
}

parts! {
    0 nothing_is_lost_silently_whatever_fails_part_0
    1 nothing_is_lost_silently_whatever_fails_part_1
    2 nothing_is_lost_silently_whatever_fails_part_2
    3 nothing_is_lost_silently_whatever_fails_part_3
    4 nothing_is_lost_silently_whatever_fails_part_4
    5 nothing_is_lost_silently_whatever_fails_part_5
    6 nothing_is_lost_silently_whatever_fails_part_6
    7 nothing_is_lost_silently_whatever_fails_part_7
}
