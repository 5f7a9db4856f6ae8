//! What was asked for and what became of it, kept outside of the hosts, so that it outlives them.

use std::{
    collections::BTreeMap,
    path::Path,
    sync::{
        Mutex, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
};

/// The commands of all harnesses.
#[derive(Debug, Default)]
pub(crate) struct Book {
    commands: Mutex<BTreeMap<String, Entry>>,
    stopping: AtomicBool,
}

#[derive(Debug)]
struct Entry {
    harness: usize,
    /// Begun when all faults were over.
    late: bool,
    fate: Fate,
}

/// What became of a command.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Fate {
    /// It has begun and not ended.
    Open,
    /// Done once, all of its output there, its exit code right.
    Exact,
    /// Its harness says that it does not know, or that part of the output is lost.
    Unknown(String),
    /// Its harness was crashed before it could say anything.
    Crashed,
    /// What must not be.
    Wrong(String),
}

/// Counts of commands.
#[derive(Debug, Default, Clone, Copy)]
pub(crate) struct Counts {
    pub(crate) exact: usize,
    pub(crate) unknown: usize,
    pub(crate) crashed: usize,
    /// How often a stream went on over another websocket.
    pub(crate) resumptions: u64,
}

impl Book {
    /// Notes a command that is about to be started.
    pub(crate) fn begin(&self, name: &str, harness: usize, late: bool) {
        let entry = Entry {
            harness,
            late,
            fate: Fate::Open,
        };
        assert!(
            self.lock().insert(name.to_owned(), entry).is_none(),
            "{name} twice"
        );
    }

    /// Notes what became of it.
    pub(crate) fn end(&self, name: &str, fate: Fate) {
        self.lock().get_mut(name).expect("it has begun").fate = fate;
    }

    /// Notes that a harness is gone, with all that it was about to do.
    pub(crate) fn harness_crashed(&self, harness: usize) {
        for entry in self.lock().values_mut() {
            if entry.harness == harness && entry.fate == Fate::Open {
                entry.fate = Fate::Crashed;
            }
        }
    }

    /// Has the harnesses begin nothing more.
    pub(crate) fn stop(&self) {
        self.stopping.store(true, Ordering::Relaxed);
    }

    pub(crate) fn is_stopping(&self) -> bool {
        self.stopping.load(Ordering::Relaxed)
    }

    /// How many commands of a harness that were begun after all faults have been exact.
    pub(crate) fn late_exact(&self, harness: usize) -> usize {
        let is_one = |entry: &&Entry| entry.harness == harness && entry.late;
        let commands = self.lock();
        let ones = commands.values().filter(is_one);
        ones.filter(|entry| entry.fate == Fate::Exact).count()
    }

    /// Names of commands that have no end.
    pub(crate) fn open(&self) -> Vec<String> {
        let commands = self.lock();
        let open = commands
            .iter()
            .filter(|(_, entry)| entry.fate == Fate::Open);
        open.map(|(name, _)| name.clone()).collect()
    }

    /// The first thing that must not be.
    pub(crate) fn wrong(&self) -> Option<String> {
        self.lock()
            .iter()
            .find_map(|(name, entry)| match &entry.fate {
                Fate::Wrong(what) => Some(format!("command {name}: {what}")),
                _ => None,
            })
    }

    /// Holds all commands against the ledger that they have written themselves.
    ///
    /// # Errors
    ///
    /// What does not agree.
    pub(crate) fn check(&self, ledger: &Path) -> Result<Counts, String> {
        let ledger = std::fs::read_to_string(ledger).map_err(|error| error.to_string())?;
        let mut done: BTreeMap<&str, usize> = BTreeMap::new();
        for name in ledger.lines() {
            *done.entry(name).or_default() += 1;
        }
        if let Some((name, times)) = done.iter().find(|(_, times)| **times != 1) {
            return Err(format!("command {name} was done {times} times"));
        }
        let mut counts = Counts::default();
        for (name, entry) in self.lock().iter() {
            let is_done = done.remove(name.as_str()).is_some();
            match &entry.fate {
                Fate::Exact if is_done => counts.exact += 1,
                Fate::Exact => return Err(format!("command {name} was reported but not done")),
                Fate::Unknown(_) => counts.unknown += 1,
                Fate::Crashed => counts.crashed += 1,
                Fate::Open => return Err(format!("command {name} has no end")),
                Fate::Wrong(what) => return Err(format!("command {name}: {what}")),
            }
        }
        if !done.is_empty() {
            return Err(format!("done and never asked for: {done:?}"));
        }
        Ok(counts)
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, BTreeMap<String, Entry>> {
        self.commands.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
