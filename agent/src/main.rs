//! `exec-server`: the executor's program.

use std::{
    io::{self, Write as _},
    process::ExitCode,
};

use agent::{
    cli::{Cli, Command},
    config::Settings,
    credential, events, first_process,
    program::{self, Failure},
    sandbox,
};
use clap::Parser as _;

fn main() -> ExitCode {
    if let Some(code) = sandbox::run_if_first_process() {
        return code;
    }
    if let Some(ended) = first_process::run_if_first() {
        return ended.unwrap_or_else(|error| fail(&Failure::Runtime(error.into())));
    }
    // First of all, while there are no threads: this may start the program again.
    let secret = match credential::shield() {
        Ok(secret) => secret,
        Err(error) => return fail(&Failure::Runtime(error.into())),
    };
    let cli = Cli::parse();
    if let Some(Command::Sandbox(arguments)) = &cli.command {
        return sandbox::command::run(arguments);
    }
    let check_only = cli.check_config;
    let lookup = |name: &str| std::env::var(name).ok();
    let settings = match Settings::resolve(cli, lookup, secret.is_some()) {
        Ok(settings) => settings,
        Err(error) => return fail(&Failure::Configuration(error.0)),
    };
    if check_only {
        return ExitCode::SUCCESS;
    }
    events::init_logging();
    let runtime = match tokio::runtime::Runtime::new() {
        Ok(runtime) => runtime,
        Err(error) => return fail(&Failure::Runtime(error.into())),
    };
    let ended = runtime.block_on(program::run(settings, secret));
    // A blocked read of standard input must not hold the process up.
    runtime.shutdown_background();
    match ended {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => fail(&failure),
    }
}

/// Says what is wrong, one line each, and gives the exit code for it.
fn fail(failure: &Failure) -> ExitCode {
    let (lines, code) = match failure {
        Failure::Configuration(problems) => (problems.clone(), 64),
        Failure::Runtime(error) => (vec![format!("{error:#}")], 1),
    };
    let mut stderr = io::stderr().lock();
    for line in lines {
        // Nowhere to report it to.
        let _ = writeln!(stderr, "error: {}", line.replace('\n', " "));
    }
    ExitCode::from(code)
}
