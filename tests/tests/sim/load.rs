//! What a harness does: commands whose effects and output are known, for as long as it lives.

use std::{
    fmt::Write as _,
    sync::{Arc, atomic::Ordering},
    time::Duration,
};

use harness::{Client, Command, ConnectOptions, Error, Stdin};
use rand::{RngExt as _, SeedableRng as _, rngs::StdRng};
use tokio::{task::JoinSet, time::sleep};

use crate::{book::Fate, hosts::World};

/// Runs one harness until the book says stop, in session after session.
pub(crate) async fn run(world: Arc<World>, number: usize, incarnation: usize) {
    let mut session = 0;
    while !world.book.is_stopping() {
        let client = match Client::connect(options(&world)).await {
            Ok(client) => client,
            Err(error) if may_be(&error) => {
                sleep(Duration::from_secs(1)).await;
                continue;
            }
            Err(error) => panic!("harness {number} cannot connect: {error:?}"),
        };
        let mut places = JoinSet::new();
        for place in 0..PLACES {
            let name = format!("{number}.{incarnation}.{session}.{place}");
            let (world, client) = (Arc::clone(&world), client.clone());
            places.spawn(async move { commands(&world, &client, number, &name).await });
        }
        while let Some(ended) = places.join_next().await {
            ended.expect("a place of a harness has panicked");
        }
        world
            .resumptions
            .fetch_add(client.resumptions(), Ordering::Relaxed);
        client.close().await;
        session += 1;
    }
}

/// What may stand in the way of a first connection while there are faults, or just were.
fn may_be(error: &Error) -> bool {
    // The environment is unknown until the executor has registered for the first time.
    error.is_retryable() || matches!(error, Error::UnknownEnvironment(_))
}

fn options(world: &World) -> ConnectOptions {
    let client = world.registry_client(&world.harness_token);
    ConnectOptions {
        registry: client.base().clone(),
        environment: world.environment.clone(),
        credential: world.credential(&world.harness_token),
        connector: client.connector().clone(),
        config: harness::ClientConfig::default(),
    }
}

/// Commands one after the other, until the session is over.
async fn commands(world: &World, client: &Client, number: usize, place: &str) {
    let mut rng = StdRng::seed_from_u64(world.seed ^ seed_of(place));
    for count in 0.. {
        if world.book.is_stopping() {
            return;
        }
        let name = format!("{place}.{count}");
        world.book.begin(&name, number, world.is_calm());
        match command(client, &name, &mut rng).await {
            Ok(()) => world.book.end(&name, Fate::Exact),
            Err(Trouble::Unknown(error)) => {
                let why = format!("{error}: {}", error.root());
                world.book.end(&name, Fate::Unknown(why));
                if matches!(error, Error::SessionLost(_)) {
                    return;
                }
            }
            Err(Trouble::Wrong(what)) => world.book.end(&name, Fate::Wrong(what)),
        }
        let pause = rng.random_range(0..=400);
        sleep(Duration::from_millis(pause)).await;
    }
}

enum Trouble {
    Unknown(Error),
    Wrong(String),
}

impl From<Error> for Trouble {
    fn from(error: Error) -> Self {
        match error {
            Error::OutcomeUnknown { .. }
            | Error::SessionLost(_)
            | Error::ProcessGone
            | Error::OutputLost { .. } => Self::Unknown(error),
            error => Self::Wrong(format!("{error:?}")),
        }
    }
}

/// Runs one command and looks at everything that comes of it.
async fn command(client: &Client, name: &str, rng: &mut StdRng) -> Result<(), Trouble> {
    let lines = match rng.random_range(0..10) {
        0 => 4_000,
        1..4 => 200,
        _ => 3,
    };
    let code = rng.random_range(0..4);
    let asks = rng.random_ratio(1, 3);
    // Nothing but the shell itself, which starts fast.
    let mut script = format!("echo {name} >> {LEDGER}; ");
    if asks {
        script.push_str("read line; echo \"$line\"; ");
    }
    let _ = write!(
        script,
        "i=0; while [ $i -lt {lines} ]; do i=$((i+1)); echo \"{name} $i\"; done; \
         echo {name} >&2; exit {code}"
    );
    let mut command = Command::new(["sh", "-c", &script]);
    if asks {
        command = command.stdin(Stdin::Piped);
    }
    let process = client.start(command).await?;
    if asks {
        // Long enough for a fault in between.
        sleep(Duration::from_millis(rng.random_range(0..=3_000))).await;
        let answer = process.control().write(format!("answer to {name}\n")).await;
        match answer {
            // It has had the answer, and has ended before it could be told so.
            Ok(()) | Err(Error::StdinClosed) => {}
            Err(error) => return Err(error.into()),
        }
    }
    let output = process.output(OUTPUT_LIMIT_BYTES).await?;
    let mut expected = String::new();
    if asks {
        let _ = writeln!(expected, "answer to {name}");
    }
    for line in 1..=lines {
        let _ = writeln!(expected, "{name} {line}");
    }
    if output.stdout != expected.as_bytes() {
        let (got, of) = (output.stdout.len(), expected.len());
        return Err(Trouble::Wrong(format!(
            "{got} bytes of output instead of {of}"
        )));
    }
    if output.stderr != format!("{name}\n").as_bytes() || output.status.code != code {
        return Err(Trouble::Wrong(format!("{:?}", output.status)));
    }
    Ok(())
}

fn seed_of(text: &str) -> u64 {
    let hash = |hash: u64, byte| (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3);
    text.bytes().fold(0xcbf2_9ce4_8422_2325, hash)
}

/// Commands of one session at the same time.
const PLACES: usize = 2;
const OUTPUT_LIMIT_BYTES: usize = 1 << 20;
/// Where commands leave their names, in the directory of the executor.
pub(crate) const LEDGER: &str = "ledger";
