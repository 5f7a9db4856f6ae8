//! One scene: faults for a while, then calm, then the end; and what has to hold.

use std::{
    panic::AssertUnwindSafe,
    sync::{Arc, Mutex, Once, PoisonError, atomic::Ordering},
    time::Duration,
};

use rand::{SeedableRng as _, rngs::StdRng};
use tokio::runtime::Runtime;
use turmoil::Sim;

use crate::{
    book::Counts,
    faults::{self, Fault, Planned},
    hosts::{self, EXECUTOR, HARNESSES, REGISTRY, RENDEZVOUS, World},
    load::LEDGER,
};

/// Runs one of `parts` parts of the seeds.
pub(crate) fn run_part(part: u64, parts: u64) {
    watch_for_panics();
    let seeds: Vec<u64> = match number("SIM_SEED") {
        Some(seed) if seed % parts == part => vec![seed],
        Some(_) => Vec::new(),
        None => (0..number("SIM_SEEDS").unwrap_or(SEEDS))
            .filter(|seed| seed % parts == part)
            .collect(),
    };
    let mut all = Counts::default();
    for seed in &seeds {
        let counts = run(*seed);
        all.exact += counts.exact;
        all.unknown += counts.unknown;
        all.crashed += counts.crashed;
        all.resumptions += counts.resumptions;
    }
    eprintln!("{} seeds: {all:?}", seeds.len());
    if seeds.len() >= 3 {
        // Otherwise nothing has been put to the test.
        let noticed = all.resumptions > 0 || all.unknown > 0;
        assert!(noticed, "no fault was noticed: {all:?}");
    }
}

/// Runs one seed.
fn run(seed: u64) -> Counts {
    let before = panics().len();
    let plan = faults::draw(&mut StdRng::seed_from_u64(seed), FAULTS_END);
    let scene = AssertUnwindSafe(|| Scene::new(seed).play(&plan));
    let outcome = std::panic::catch_unwind(scene);
    let panics = panics().split_off(before);
    match outcome {
        Ok(Ok(counts)) if panics.is_empty() => {
            // Sessions outlive everything but the end of their executor.
            let executor_ended = plan.iter().any(|one| one.fault == Fault::Crash(EXECUTOR));
            assert!(
                executor_ended || counts.unknown == 0,
                "seed {seed}: {counts:?}; faults: {plan:#?}"
            );
            counts
        }
        Ok(Ok(_)) => panic!("seed {seed}: panics: {panics:?}; faults: {plan:#?}"),
        Ok(Err(what)) => panic!("seed {seed}: {what}; panics: {panics:?}; faults: {plan:#?}"),
        Err(_) => panic!("seed {seed}: panics: {panics:?}; faults: {plan:#?}"),
    }
}

struct Scene {
    sim: Sim<'static>,
    world: Arc<World>,
    directory: tempfile::TempDir,
    /// Where the database's library clears up after a host that was crashed.
    afterlife: Runtime,
}

impl Scene {
    fn new(seed: u64) -> Self {
        let directory = tempfile::tempdir().expect("a directory");
        let world = World::new(seed, directory.path().to_owned()).expect("a world");
        let world = Arc::new(world);
        let mut sim = turmoil::Builder::new()
            .rng_seed(seed)
            .enable_random_order()
            .enable_tokio_io()
            .tick_duration(TICK)
            .min_message_latency(Duration::from_millis(1))
            .max_message_latency(Duration::from_millis(40))
            .tcp_capacity(256)
            .build();
        hosts::register(&mut sim, &world);
        let afterlife = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .enable_all()
            .build();
        Self {
            sim,
            world,
            directory,
            afterlife: afterlife.expect("a runtime"),
        }
    }

    fn play(mut self, plan: &[Planned]) -> Result<Counts, String> {
        let mut due: Vec<(Duration, Fault, bool)> = Vec::new();
        for planned in plan {
            due.push((planned.begins, planned.fault, true));
            due.push((planned.ends, planned.fault, false));
        }
        due.sort_by_key(|(at, ..)| *at);
        let mut due = due.into_iter().peekable();
        while self.sim.elapsed() < FAULTS_END {
            while let Some((_, fault, begins)) = due.next_if(|(at, ..)| *at <= self.sim.elapsed()) {
                match begins {
                    true => self.begin(fault),
                    false => self.end(fault),
                }
            }
            self.step()?;
        }

        // Everybody is connected again soon, which new commands show.
        self.world.becomes_calm();
        let calm = self.sim.elapsed();
        let world = Arc::clone(&self.world);
        let is_back = |number| world.book.late_exact(number) >= LATE_COMMANDS;
        while !(0..HARNESSES.len()).all(is_back) {
            if self.sim.elapsed() > calm + RECONNECTED {
                let late = [0, 1].map(|number| world.book.late_exact(number));
                return Err(format!(
                    "{RECONNECTED:?} after all faults only {late:?} commands"
                ));
            }
            self.step()?;
        }
        let back = self.sim.elapsed() - calm;

        // Every command has an end, which says what became of it.
        world.book.stop();
        let stopped = self.sim.elapsed();
        while HARNESSES.iter().any(|name| self.sim.is_host_running(*name)) {
            if self.sim.elapsed() > stopped + ENDED {
                return Err(format!("no end of {:?} after {ENDED:?}", world.book.open()));
            }
            self.step()?;
        }
        self.crash_all();
        let mut counts = world.book.check(&self.directory.path().join(LEDGER))?;
        counts.resumptions = world.resumptions.load(Ordering::Relaxed);
        eprintln!("seed {}: {counts:?}, back after {back:?}", world.seed);
        Ok(counts)
    }

    fn begin(&mut self, fault: Fault) {
        match fault {
            Fault::Partition(a, b) => self.sim.partition(a, b),
            Fault::OneWay(from, to) => self.sim.partition_oneway(from, to),
            Fault::HalfOpen(a, b) => self.sim.hold(a, b),
            Fault::Crash(host) => {
                let _afterlife = self.afterlife.enter();
                self.sim.crash(host);
                if let Some(number) = HARNESSES.iter().position(|name| *name == host) {
                    self.world.book.harness_crashed(number);
                }
            }
            Fault::Skew(by) => self.world.skew.store(by, Ordering::Relaxed),
        }
    }

    fn end(&mut self, fault: Fault) {
        match fault {
            Fault::Partition(a, b) => self.sim.repair(a, b),
            Fault::OneWay(from, to) => self.sim.repair_oneway(from, to),
            Fault::HalfOpen(a, b) => self.sim.release(a, b),
            Fault::Crash(host) => self.sim.bounce(host),
            Fault::Skew(_) => self.world.skew.store(0, Ordering::Relaxed),
        }
    }

    fn crash_all(&mut self) {
        let _afterlife = self.afterlife.enter();
        for host in [RENDEZVOUS, REGISTRY, EXECUTOR] {
            self.sim.crash(host);
        }
    }

    fn step(&mut self) -> Result<(), String> {
        self.sim.step().map_err(|error| error.to_string())?;
        if let Some(wrong) = self.world.book.wrong() {
            return Err(wrong);
        }
        // Its threads need real time to work in, while the simulated one goes on.
        if self.world.database_works() {
            std::thread::sleep(FOR_THE_DATABASE);
        }
        Ok(())
    }
}

static PANICS: Mutex<Vec<String>> = Mutex::new(Vec::new());

/// All panics of this process so far, also those of tasks that nobody waits for.
fn panics() -> Vec<String> {
    PANICS
        .lock()
        .unwrap_or_else(PoisonError::into_inner)
        .clone()
}

fn watch_for_panics() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        let usual = std::panic::take_hook();
        std::panic::set_hook(Box::new(move |panic| {
            let mut panics = PANICS.lock().unwrap_or_else(PoisonError::into_inner);
            panics.push(panic.to_string());
            drop(panics);
            usual(panic);
        }));
    });
}

fn number(variable: &str) -> Option<u64> {
    let text = std::env::var(variable).ok()?;
    Some(text.trim().parse().expect("a number"))
}

/// Of all parts together.
const SEEDS: u64 = 24;
const TICK: Duration = Duration::from_millis(10);
const FAULTS_END: Duration = Duration::from_secs(40);
/// Within this time after all faults each harness has done so many new commands.
const RECONNECTED: Duration = Duration::from_secs(60);
const LATE_COMMANDS: usize = 3;
/// Within this time each command that was begun has an end: a session is given up after 90 s.
const ENDED: Duration = Duration::from_secs(200);
const FOR_THE_DATABASE: Duration = Duration::from_millis(1);
