//! Project automation.
//!
//! | command | what |
//! |---|---|
//! | `up [-- COMMAND ARGS...]` | a whole system on loopback; runs the command through it, or stays up |
//! | `test` | everything that has to hold before a change goes in |
//! | `bench [--vs codex] [SCENE...]` | whole scenes, timed; with the reference beside ours |
//! | `counts [--update]` | instructions of the parts, against those that are written down |
//! | `nightly [PART...]` | what takes too long for every change: seeds, long scenes, fuzzing |
//! | `tidy` | the checks on the sources alone |
//! | `conformance` | the recorded scenarios of the reference, over every transport |
//! | `reference` | writes `docs/configuration.md` |
//! | `share DIR` | completions and man pages of all programs |
//! | `packaging` | container images and Debian packages, built and tried |
//! | `debian DIRECTORY` | Debian packages of the programs as they are shipped |
//! | `release DIRECTORY` | the programs as they are shipped |
//! | `prepare` | what the end-to-end tests need, printed for a shell to evaluate |
//!
//! Responsible for running other programs in the right order with the right environment. What a
//! test asserts is in the tests; what a lint means is in the lint tables.

#![expect(clippy::print_stderr, reason = "a command line tool talks to its user")]

mod bench;
mod build;
mod cache;
mod commands;
mod conformance;
mod counts;
mod debian;
mod deny;
mod generated;
mod images;
mod links;
mod nextest;
mod nightly;
mod packages;
mod packaging;
mod quotes;
mod readme;
mod release;
mod report;
mod specification;
mod system;
mod test;
mod tidy;
mod up;

use std::{path::Path, process::ExitCode};

use anyhow::{Result, bail};

fn main() -> ExitCode {
    let mut args = std::env::args().skip(1);
    let command = args.next();
    let rest: Vec<String> = args.collect();
    match run(command.as_deref(), &rest) {
        Ok(code) => code,
        Err(error) => {
            eprintln!("xtask: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run(command: Option<&str>, rest: &[String]) -> Result<ExitCode> {
    match (command, rest) {
        (Some("up"), []) => up::stay(),
        (Some("up"), [separator, command @ ..]) if separator == "--" => {
            if command.is_empty() {
                bail!("a command must follow `--`");
            }
            up::run(command)
        }
        (Some("test"), []) => test::run(),
        (Some("bench"), args) => bench::run(args),
        (Some("counts"), args) => counts::run(args),
        (Some("nightly"), args) => nightly::run(args),
        (Some("tidy"), []) => tidy::run(),
        (Some("conformance"), []) => conformance(),
        (Some("reference"), []) => generated::reference(),
        (Some("share"), [directory]) => generated::share(Path::new(directory)),
        (Some("packaging"), []) => test::packaging_alone(),
        (Some("debian"), [directory]) => packaging::release(directory.as_ref()),
        (Some("release"), [directory]) => {
            release::programs(build::Profile::Release, directory.as_ref())
                .map(|()| ExitCode::SUCCESS)
        }
        (Some("prepare"), []) => prepare(),
        (Some("help" | "--help" | "-h"), []) => {
            eprintln!("{USAGE}");
            Ok(ExitCode::SUCCESS)
        }
        _ => bail!("{USAGE}"),
    }
}

/// Plays the conformance scenarios alone.
fn conformance() -> Result<ExitCode> {
    let report = conformance::play(&cache::Cache::open()?, &build::programs()?)?;
    eprintln!("{report}");
    Ok(ExitCode::SUCCESS)
}

/// Lets one run single end-to-end tests with nextest itself.
#[expect(clippy::print_stdout, reason = "the result is for a shell to evaluate")]
fn prepare() -> Result<ExitCode> {
    let codex = cache::Cache::open()?.codex()?;
    let programs = build::programs()?;
    println!(
        "export E2E_CODEX='{}' E2E_BIN_DIR='{}'",
        codex.display(),
        programs.display()
    );
    Ok(ExitCode::SUCCESS)
}

const USAGE: &str = "usage:
  cargo run -q -p xtask -- up                      start everything and stay up
  cargo run -q -p xtask -- up -- COMMAND ARGS...   run one command through it
  cargo run -q -p xtask -- test                    run all checks and tests
  cargo run -q -p xtask -- bench [SCENE...]        time whole scenes; --vs codex for the reference beside
  cargo run -q -p xtask -- counts [--update]       count instructions of the parts and compare
  cargo run -q -p xtask -- nightly [PART...]       run seeds, scenes, fuzz or all of them, at length
                           --seeds N --scene-secs N --fuzz-secs N
  cargo run -q -p xtask -- tidy                    run the checks on the sources
  cargo run -q -p xtask -- reference               write docs/configuration.md
  cargo run -q -p xtask -- share DIR               write completions and man pages below DIR
  cargo run -q -p xtask -- conformance             play the conformance scenarios
  cargo run -q -p xtask -- packaging               build and try images and packages
  cargo run -q -p xtask -- debian DIRECTORY        build Debian packages
  cargo run -q -p xtask -- release DIRECTORY       build the programs as they are shipped
  eval \"$(cargo run -q -p xtask -- prepare)\"      set up a shell for cargo nextest run -p e2e-tests";
