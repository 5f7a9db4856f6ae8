//! The demo: the whole system on loopback, for one command or until interrupted.

use std::process::ExitCode;

use anyhow::{Context as _, Result, bail};
use tokio::{
    process::Command,
    signal::unix::{SignalKind, signal},
};

use crate::{
    build, packages,
    system::{System, runtime, stop},
};

/// Starts everything, runs `command` through the encrypted path, and ends with its exit code.
///
/// # Errors
///
/// When something cannot be built, started or reached.
pub(crate) fn run(command: &[String]) -> Result<ExitCode> {
    let programs = prepare()?;
    runtime()?.block_on(async {
        let mut system = System::start(&programs, &[]).await?;
        let mut client = Command::new(programs.join("execctl"));
        client.args(["run", "--"]).args(command).kill_on_drop(true);
        for (name, value) in system.execctl_variables() {
            client.env(name, value);
        }
        // Its output, its input and nothing else are what the user sees.
        let mut client = client.spawn().context("failed to start execctl")?;
        let status = tokio::select! {
            status = client.wait() => status?,
            signal = interrupted() => {
                signal?;
                stop(&mut client).await;
                return Ok(ExitCode::from(INTERRUPTED));
            }
            ended = system.ended() => bail!("{ended}"),
        };
        system.stop().await;
        let code = status.code().context("execctl was killed by a signal")?;
        Ok(ExitCode::from(u8::try_from(code)?))
    })
}

/// Starts everything, says how to use it, and stays until it is interrupted.
///
/// # Errors
///
/// When something cannot be built or started, or ends by itself.
#[expect(clippy::print_stdout, reason = "what to paste is the result")]
pub(crate) fn stay() -> Result<ExitCode> {
    let programs = prepare()?;
    runtime()?.block_on(async {
        let mut system = System::start(&programs, &[]).await?;
        let program = |name| programs.join(name).display().to_string();
        println!("An agent is online. To run commands on it with execctl, paste:\n");
        for (name, value) in system.execctl_variables() {
            println!("export {name}={value}");
        }
        println!(
            "{} run -- uname -a\n\nFrom the Codex CLI, paste:\n",
            program("execctl")
        );
        for (name, value) in system.codex_variables() {
            println!("export {name}={value}");
        }
        println!("codex");
        eprintln!("\nCtrl-C stops everything.");
        let ended = tokio::select! {
            signal = interrupted() => { signal?; None }
            ended = system.ended() => Some(ended),
        };
        system.stop().await;
        match ended {
            Some(problem) => bail!("{problem}"),
            None => Ok(ExitCode::SUCCESS),
        }
    })
}

fn prepare() -> Result<std::path::PathBuf> {
    packages::provide(packages::BUILD)?;
    build::programs()
}

/// Waits for Ctrl-C or a request to end.
async fn interrupted() -> Result<()> {
    let mut interrupt = signal(SignalKind::interrupt())?;
    let mut terminate = signal(SignalKind::terminate())?;
    tokio::select! {
        _ = interrupt.recv() => {}
        _ = terminate.recv() => {}
    }
    Ok(())
}

/// What a shell reports for a program that Ctrl-C ended.
const INTERRUPTED: u8 = 130;
