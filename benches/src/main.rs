//! The command line of the benchmarks; see the library for what they are.

use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Result, bail};
use benches::{Report, SCENES, Scene, Subject, write_page};
use clap::{Parser, ValueEnum};
use tokio::time::timeout;
use tokio_util::task::AbortOnDropHandle;

/// Times scenes with real processes.
#[derive(Debug, Parser)]
struct Arguments {
    /// Another executor to be measured beside ours, and ssh and the bare machine where they can do
    /// the same.
    #[arg(long)]
    vs: Option<Rival>,
    /// A page to put the table in, between its marks; the picture goes beside it.
    #[arg(long)]
    page: Option<PathBuf>,
    /// Rounds of each scene for each executor.
    #[arg(long, default_value_t = 3)]
    rounds: u32,
    /// Scenes; without any, all of them.
    scenes: Vec<String>,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum Rival {
    /// The reference of release 0.169.
    Codex,
}

#[expect(clippy::print_stdout, reason = "the result")]
fn main() -> Result<()> {
    // As `execctl` does, whose place this program takes.
    allocator::keep_freed();
    allocator::share_heap();
    let arguments = Arguments::parse();
    let mut subjects = vec![Subject::Ours];
    if let Some(Rival::Codex) = arguments.vs {
        subjects.extend([Subject::Reference, Subject::Ssh, Subject::Machine]);
    }
    let scenes = chosen(&arguments.scenes)?;
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()?;
    let mut report = Report::new(&subjects);
    runtime.block_on(async {
        for scene in scenes {
            for round in 1..=arguments.rounds {
                for subject in subjects.iter().filter(|it| scene.subjects.contains(it)) {
                    progress(scene, *subject, round);
                    // A task, as programs have them that use the client: the thread of `main` would have
                    // to be woken for everything that comes.
                    let run = AbortOnDropHandle::new(tokio::spawn((scene.run)(*subject)));
                    match timeout(DEADLINE, run).await {
                        Ok(series) => report.add(scene, *subject, series??),
                        Err(_) => given_up(scene, *subject),
                    }
                }
            }
        }
        anyhow::Ok(())
    })?;
    if let Some(page) = &arguments.page {
        write_page(page, &report)?;
    }
    println!("{report}");
    Ok(())
}

fn chosen(names: &[String]) -> Result<Vec<&'static Scene>> {
    if names.is_empty() {
        return Ok(SCENES.iter().collect());
    }
    names
        .iter()
        .map(
            |name| match SCENES.iter().find(|scene| scene.name == name) {
                Some(scene) => Ok(scene),
                None => {
                    let known: Vec<_> = SCENES.iter().map(|scene| scene.name).collect();
                    bail!("no scene `{name}`; there are {}", known.join(", "))
                }
            },
        )
        .collect()
}

#[expect(clippy::print_stderr, reason = "progress of a long command")]
fn given_up(scene: &Scene, subject: Subject) {
    let name = subject.name();
    eprintln!(
        "bench: {}, {name}: no end after {DEADLINE:?}, left out",
        scene.name
    );
}

#[expect(clippy::print_stderr, reason = "progress of a long command")]
fn progress(scene: &Scene, subject: Subject, round: u32) {
    eprintln!("bench: {}, {}, round {round}", scene.name, subject.name());
}

/// For one round of one scene. The reference sometimes gets stuck in some.
const DEADLINE: Duration = Duration::from_secs(300);
