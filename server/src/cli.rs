//! The command line of `exec-cloud`.
//!
//! stdout carries results only: the line that says where the server listens, tokens, lists. Logs and
//! errors go to stderr. An error is one line, `error: what is wrong; what to do`.

mod audit;
mod drain;
mod oidc;
mod schema;
mod serve;
mod token;

use std::ffi::OsString;
use std::fmt;
use std::io::{self, Write as _};
use std::path::PathBuf;
use std::process::ExitCode;

use clap::{CommandFactory as _, FromArgMatches as _, Parser, Subcommand};

use self::audit::Audit;
use self::drain::Drain;
pub use self::schema::PROGRAM;
use self::serve::Serve;
use self::token::Token;
use crate::config::ConfigError;
use crate::events::Chain;
use crate::listener::StartError;
use crate::store::StoreError;

/// Environment registry and rendezvous in one process.
#[derive(Debug, Parser)]
#[command(
    name = "exec-cloud",
    version,
    after_help = "Exit codes: 0 done, 1 failure, 64 usage or configuration."
)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Serve the registry and the rendezvous until SIGTERM or SIGINT; SIGHUP reads certificates again
    Serve(Box<Serve>),
    /// Have a running server send its peers away, to come back elsewhere or later, and end
    Drain(Drain),
    /// Make, list and revoke the tokens of executors and harnesses, also while the server runs
    #[command(subcommand)]
    Token(Token),
    /// Print who registered, connected, was validated or refused, and which tokens were made and revoked
    Audit(Audit),
    /// Print completions for a shell
    Completions(settings::Completions),
    /// Print the man page
    Man(settings::Manual),
    /// Print the reference of the settings, in Markdown
    #[command(hide = true)]
    Reference,
}

/// Parses the command line and does what it says.
pub fn main() -> ExitCode {
    match run(std::env::args_os()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            for line in failure.text.lines() {
                // There is nowhere left to complain.
                let _ = writeln!(io::stderr(), "error: {line}");
            }
            ExitCode::from(failure.code)
        }
    }
}

fn run(arguments: impl Iterator<Item = OsString>) -> Result<(), Failure> {
    let parsed = command()
        .try_get_matches_from(arguments)
        .and_then(|matches| Cli::from_arg_matches(&matches));
    let cli = match parsed {
        Ok(cli) => cli,
        Err(error) if error.use_stderr() => return Err(Failure::usage(&error)),
        // Help and version.
        Err(error) => return error.print().map_err(|error| Failure::runtime(&error)),
    };
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .map_err(|error| Failure::runtime(&error))?;
    runtime.block_on(async {
        match cli.command {
            Command::Serve(arguments) => serve::run(*arguments).await,
            Command::Drain(arguments) => drain::run(arguments).await,
            Command::Token(command) => token::run(command).await,
            Command::Audit(arguments) => audit::run(arguments).await,
            Command::Completions(arguments) => printed(arguments.run(command())),
            Command::Man(arguments) => printed(arguments.run(command())),
            Command::Reference => {
                let text = settings::generate::reference(&command(), &PROGRAM);
                printed(io::stdout().lock().write_all(text.as_bytes()))
            }
        }
    })
}

/// The command line with variables and defaults in its help.
fn command() -> clap::Command {
    settings::generate::describe(Cli::command(), &PROGRAM)
}

fn printed(result: io::Result<()>) -> Result<(), Failure> {
    result.map_err(|error| Failure::runtime(&error))
}

fn default_data_directory() -> Result<PathBuf, ConfigError> {
    let absolute = |name| {
        std::env::var_os(name)
            .map(PathBuf::from)
            .filter(|path: &PathBuf| path.is_absolute())
    };
    absolute("XDG_DATA_HOME")
        .or_else(|| absolute("HOME").map(|home| home.join(".local/share")))
        .map(|base| base.join("exec-cloud"))
        .ok_or_else(|| {
            ConfigError::new(
                "there is neither XDG_DATA_HOME nor HOME".to_owned(),
                "give --data-dir",
            )
        })
}

fn print(line: &str) {
    // A reader that is gone does not stop a server.
    let mut stdout = io::stdout().lock();
    let _ = writeln!(stdout, "{line}").and_then(|()| stdout.flush());
}

/// What is printed at the end, and the exit code.
#[derive(Debug)]
struct Failure {
    code: u8,
    text: String,
}

impl Failure {
    fn usage(error: &clap::Error) -> Self {
        // The first paragraph says what is wrong; the rest is usage, which `--help` shows as well.
        let text = error.to_string();
        let what: Vec<_> = text
            .lines()
            .take_while(|line| !line.is_empty())
            .map(|line| line.trim().trim_start_matches("error: "))
            .collect();
        Self {
            code: MISUSED,
            text: format!("{}; see `exec-cloud --help`", what.join(" ")),
        }
    }

    fn configuration(error: &impl fmt::Display) -> Self {
        Self {
            code: MISUSED,
            text: error.to_string(),
        }
    }

    fn runtime(error: &(dyn std::error::Error + 'static)) -> Self {
        Self {
            code: FAILED,
            text: Chain(error).to_string(),
        }
    }
}

impl From<StartError> for Failure {
    fn from(error: StartError) -> Self {
        let code = if error.is_configuration() {
            MISUSED
        } else {
            FAILED
        };
        Self {
            code,
            text: error.to_string(),
        }
    }
}

impl From<StoreError> for Failure {
    fn from(error: StoreError) -> Self {
        StartError::from(error).into()
    }
}

const FAILED: u8 = 1;
const MISUSED: u8 = 64;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn command_line_is_consistent() {
        command().debug_assert();
        let others = ["config", "check_config", "print_config"];
        let command = Cli::command();
        let serve = command.find_subcommand("serve").unwrap();
        let undeclared = settings::generate::undeclared(serve, &PROGRAM, &others);
        assert_eq!(undeclared, [""; 0]);
    }

    #[test]
    fn reference_in_the_documentation_is_fresh() {
        let reference = settings::generate::reference(&command(), &PROGRAM);
        assert!(
            include_str!("../../docs/configuration.md").contains(&reference),
            "run `cargo run -p xtask -- reference`"
        );
    }
}
