//! Commands of our harness whose effects can be counted.
//!
//! Each command appends its own name to a ledger in the workspace, once, and then writes output that
//! follows from its name. So afterwards three things can be told for each of them: that it was done
//! (the ledger has its name), that it was not done twice, and that its output and exit code are
//! exactly right. A command whose outcome the harness reports as unknown may be in the ledger once or
//! not at all, and is counted apart. Anything else is a failure.

use std::{
    collections::BTreeMap,
    fmt::Write as _,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use anyhow::{Context as _, Result, bail, ensure};
use harness::{Client, Command, Error};
use testkit::{faults::Counts, processes::DEADLINE};
use tokio::{
    sync::watch,
    task::JoinSet,
    time::{Instant, timeout},
};

use super::fixture::Fixture;

/// How much is done.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Plan {
    /// Sessions, each with a connection of its own.
    pub(crate) clients: usize,
    /// Commands of one session at the same time.
    pub(crate) parallel: usize,
    /// Commands one after the other in each of those places; more follow only until
    /// [`Load::finish`] is called.
    pub(crate) least: usize,
}

/// A running load.
#[derive(Debug)]
pub(crate) struct Load {
    workers: JoinSet<Result<Tally>>,
    /// Of the sessions that have ended.
    tally: Tally,
    is_over: Arc<AtomicBool>,
    done: watch::Sender<usize>,
    started: Instant,
}

/// What became of the commands of a load.
#[derive(Debug, Default)]
pub(crate) struct Tally {
    /// Names of commands that were exactly right.
    pub(crate) exact: Vec<String>,
    /// Names of commands whose outcome the harness does not know, and why.
    pub(crate) unknown: Vec<(String, String)>,
    /// How many of those were done all the same.
    pub(crate) unknown_done: usize,
    /// Connections of all sessions together.
    pub(crate) connections: u64,
    /// How often one of them went on over another websocket.
    pub(crate) resumptions: u64,
}

impl Load {
    /// Opens the sessions and starts their workers.
    pub(crate) async fn start(fixture: &Fixture, plan: Plan) -> Result<Self> {
        let is_over = Arc::new(AtomicBool::new(false));
        let done = watch::Sender::new(0);
        let mut workers = JoinSet::new();
        for number in 0..plan.clients {
            let client = fixture.client().await?;
            let (is_over, done) = (Arc::clone(&is_over), done.clone());
            workers.spawn(session(client, number, plan, is_over, done));
        }
        Ok(Self {
            workers,
            tally: Tally::default(),
            is_over,
            done,
            started: Instant::now(),
        })
    }

    /// Waits until `count` more commands have ended; says whether they have in time.
    ///
    /// # Errors
    ///
    /// When a command went wrong.
    pub(crate) async fn reaches(&mut self, count: usize, deadline: Duration) -> Result<bool> {
        let mut done = self.done.subscribe();
        let target = *done.borrow() + count;
        let reached = async {
            loop {
                tokio::select! {
                    reached = done.wait_for(|done| *done >= target) => {
                        reached?;
                        return Ok(());
                    }
                    Some(ended) = self.workers.join_next() => self.tally.add(ended??),
                    else => bail!("the load is over"),
                }
            }
        };
        timeout(deadline, reached)
            .await
            .map_or(Ok(false), |reached| reached.map(|()| true))
    }

    /// Waits until `count` more commands have ended.
    ///
    /// # Errors
    ///
    /// When a command went wrong, or too few have ended in time.
    pub(crate) async fn progress(&mut self, count: usize, deadline: Duration) -> Result<()> {
        let reached = self.reaches(count, deadline).await?;
        let done = *self.done.borrow();
        ensure!(reached, "only {done} commands had ended after {deadline:?}");
        Ok(())
    }

    /// Lets commands run until the faults that were drawn are `enough`.
    ///
    /// # Errors
    ///
    /// When a command went wrong, or so many faults did not come in time.
    pub(crate) async fn goes_on_until(
        &mut self,
        fixture: &Fixture,
        enough: impl Fn(&Counts) -> bool,
    ) -> Result<()> {
        let began = Instant::now();
        while !enough(&fixture.proxy.counts()) {
            let counts = fixture.proxy.counts();
            ensure!(began.elapsed() < DEADLINE, "too few faults: {counts:?}");
            self.progress(5, DEADLINE).await?;
        }
        Ok(())
    }

    /// Lets the commands end that have begun, beyond the least number, and holds the results
    /// against the ledger.
    pub(crate) async fn finish(mut self, fixture: &Fixture, deadline: Duration) -> Result<Tally> {
        self.is_over.store(true, Ordering::Relaxed);
        let all = async {
            while let Some(ended) = self.workers.join_next().await {
                self.tally.add(ended??);
            }
            anyhow::Ok(())
        };
        let ended = timeout(deadline, all).await;
        ended.with_context(|| {
            let done = *self.done.borrow();
            format!("only {done} commands had ended after {deadline:?}")
        })??;
        self.tally.unknown_done = self.tally.check_ledger(fixture)?;
        self.tally.announce(self.started.elapsed(), fixture);
        Ok(self.tally)
    }
}

impl Tally {
    fn add(&mut self, other: Self) {
        self.exact.extend(other.exact);
        self.unknown.extend(other.unknown);
        self.connections += other.connections;
        self.resumptions += other.resumptions;
    }

    /// Returns how many commands of unknown outcome were done.
    fn check_ledger(&self, fixture: &Fixture) -> Result<usize> {
        let ledger = fixture.workspace.path().join(LEDGER);
        let ledger = std::fs::read_to_string(ledger).context("no command has run")?;
        let mut entries: BTreeMap<&str, usize> = BTreeMap::new();
        for name in ledger.lines() {
            *entries.entry(name).or_default() += 1;
        }
        for (name, times) in &entries {
            ensure!(*times == 1, "command {name} was done {times} times");
        }
        for name in &self.exact {
            let entry = entries.remove(name.as_str());
            ensure!(entry.is_some(), "command {name} was reported but not done");
        }
        let mut unknown_done = 0;
        for (name, _) in &self.unknown {
            unknown_done += entries.remove(name.as_str()).unwrap_or_default();
        }
        ensure!(entries.is_empty(), "done but never reported: {entries:?}");
        Ok(unknown_done)
    }

    /// Checks that every command was exactly right.
    pub(crate) fn all_exact(&self, count: usize) -> Result<()> {
        ensure!(self.unknown.is_empty(), "unknown: {:?}", self.unknown);
        let exact = self.exact.len();
        ensure!(exact >= count, "only {exact} of {count} commands were done");
        Ok(())
    }

    /// Checks that websockets were lost and no session has noticed: streams went on over others, at
    /// least `count` times.
    pub(crate) fn only_resumed(&self, clients: u64, count: u64) -> Result<()> {
        let (connections, resumptions) = (self.connections, self.resumptions);
        ensure!(
            connections == clients,
            "{clients} sessions had {connections} connections"
        );
        ensure!(resumptions >= count, "only {resumptions} were resumed");
        Ok(())
    }

    #[expect(clippy::print_stderr, reason = "the numbers of the scene")]
    fn announce(&self, elapsed: Duration, fixture: &Fixture) {
        eprintln!(
            "{} commands exact, {} unknown ({} of them done), in {elapsed:.1?} over {} connections, {} resumed; {:?}",
            self.exact.len(),
            self.unknown.len(),
            self.unknown_done,
            self.connections,
            self.resumptions,
            fixture.proxy.counts(),
        );
    }
}

/// Runs the commands of one session.
async fn session(
    client: Client,
    number: usize,
    plan: Plan,
    is_over: Arc<AtomicBool>,
    done: watch::Sender<usize>,
) -> Result<Tally> {
    let mut places = JoinSet::new();
    for place in 0..plan.parallel {
        let (client, is_over, done) = (client.clone(), Arc::clone(&is_over), done.clone());
        places.spawn(async move {
            let mut tally = Tally::default();
            for command in 0.. {
                if command >= plan.least && is_over.load(Ordering::Relaxed) {
                    break;
                }
                let name = format!("{number}-{place}-{command}");
                match run(&client, &name, command).await? {
                    Ok(()) => tally.exact.push(name),
                    Err(error) => {
                        let is_lost = matches!(error, Error::SessionLost(_));
                        tally
                            .unknown
                            .push((name, format!("{error}: {}", error.root())));
                        if is_lost {
                            break;
                        }
                    }
                }
                done.send_modify(|done| *done += 1);
            }
            anyhow::Ok(tally)
        });
    }
    let mut tally = Tally::default();
    while let Some(place) = places.join_next().await {
        tally.add(place??);
    }
    tally.connections = client.generation();
    tally.resumptions = client.resumptions();
    client.close().await;
    Ok(tally)
}

/// Runs one command; the inner error says that its outcome is unknown.
async fn run(client: &Client, name: &str, number: usize) -> Result<Result<(), Error>> {
    // Mostly short output in one record; every tenth needs several.
    let lines = if number % 10 == 9 {
        5_000
    } else {
        1 + number % 7 * 20
    };
    let code = i32::try_from(number % 5)?;
    let script = format!(
        "echo {name} >> {LEDGER}; seq -f '{name} %g' 1 {lines}; echo {name} >&2; exit {code}"
    );
    let outcome = match client.start(Command::new(["sh", "-c", &script])).await {
        Ok(process) => process.output(OUTPUT_LIMIT_BYTES).await,
        Err(error) => Err(error),
    };
    let output = match outcome {
        Ok(output) => output,
        Err(
            error @ (Error::OutcomeUnknown { .. } | Error::SessionLost(_) | Error::ProcessGone),
        ) => {
            return Ok(Err(error));
        }
        Err(error) => return Err(error).with_context(|| format!("command {name} failed")),
    };
    let mut expected = String::new();
    for line in 1..=lines {
        writeln!(expected, "{name} {line}")?;
    }
    let stdout = String::from_utf8(output.stdout)?;
    ensure!(
        stdout == expected,
        "command {name} wrote {} bytes instead of {}: {:.300}...",
        stdout.len(),
        expected.len(),
        stdout
    );
    ensure!(output.stderr == format!("{name}\n").as_bytes(), "{name}");
    ensure!(output.status.code == code, "{name}: {:?}", output.status);
    Ok(Ok(()))
}

/// Where commands leave their names, relative to the workspace.
const LEDGER: &str = "ledger";

const OUTPUT_LIMIT_BYTES: usize = 1 << 20;
