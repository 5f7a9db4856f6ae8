//! The command line of `exec-cloud`.
//!
//! stdout carries results only: the line that says where the server listens, tokens, lists. Logs and
//! errors go to stderr. An error is one line, `error: what is wrong; what to do`.

mod audit;
mod drain;
mod serve;
mod token;

use std::ffi::OsString;
use std::fmt;
use std::io::{self, Write as _};
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use clap::{Args, Parser, Subcommand};

use self::audit::Audit;
use self::drain::Drain;
use self::serve::Serve;
use self::token::Token;
use crate::config::ConfigError;
use crate::events::Chain;
use crate::listener::StartError;
use crate::store::{Store, StoreError, database_file};

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
    Serve(Serve),
    /// Have a running server send its peers away, to come back elsewhere or later, and end
    Drain(Drain),
    /// Make, list and revoke the tokens of executors and harnesses, also while the server runs
    #[command(subcommand)]
    Token(Token),
    /// Print who registered, connected, was validated or refused, and which tokens were made and revoked
    Audit(Audit),
}

#[derive(Debug, Args)]
struct DataDirectory {
    /// Directory of the database [default: $XDG_DATA_HOME/exec-cloud or ~/.local/share/exec-cloud]
    #[arg(long, value_name = "DIR", env = "EXEC_CLOUD_DATA_DIR")]
    data_dir: Option<PathBuf>,
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
    let cli = match Cli::try_parse_from(arguments) {
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
            Command::Serve(arguments) => serve::run(arguments).await,
            Command::Drain(arguments) => drain::run(arguments).await,
            Command::Token(command) => token::run(command).await,
            Command::Audit(arguments) => audit::run(arguments).await,
        }
    })
}

impl DataDirectory {
    fn resolve(self) -> Result<PathBuf, Failure> {
        self.data_dir.map_or_else(default_data_directory, Ok)
    }

    /// Opens a database that must be there: a wrong directory must not look like an empty list.
    async fn open_existing(self) -> Result<Store, Failure> {
        let directory = self.resolve()?;
        if !database_file(&directory).is_file() {
            return Err(Failure::configuration(&ConfigError::new(
                "there is no database in the data directory".to_owned(),
                "give the --data-dir of the server",
            )));
        }
        Ok(Store::open(&directory).await?)
    }
}

fn default_data_directory() -> Result<PathBuf, Failure> {
    let absolute = |name| {
        std::env::var_os(name)
            .map(PathBuf::from)
            .filter(|path: &PathBuf| path.is_absolute())
    };
    absolute("XDG_DATA_HOME")
        .or_else(|| absolute("HOME").map(|home| home.join(".local/share")))
        .map(|base| base.join("exec-cloud"))
        .ok_or_else(|| {
            Failure::configuration(&ConfigError::new(
                "there is neither XDG_DATA_HOME nor HOME".to_owned(),
                "give --data-dir",
            ))
        })
}

/// Reads `500ms`, `5s`, `2m`, `1h`; a day at most.
fn parse_period(text: &str) -> Result<Duration, &'static str> {
    const HINT: &str = "expected a number with ms, s, m or h, at most a day, for example 5s";
    let digits = text.bytes().take_while(u8::is_ascii_digit).count();
    let (number, unit) = text.split_at(digits);
    let millis: u64 = match unit {
        "ms" => 1,
        "s" => 1_000,
        "m" => 60_000,
        "h" => 3_600_000,
        _ => return Err(HINT),
    };
    number
        .parse()
        .ok()
        .and_then(|number: u64| number.checked_mul(millis))
        .filter(|millis| *millis <= LONGEST_PERIOD_MS)
        .map(Duration::from_millis)
        .ok_or(HINT)
}

const LONGEST_PERIOD_MS: u64 = 24 * 60 * 60 * 1_000;

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
    use clap::CommandFactory as _;

    use super::*;

    #[test]
    fn periods_have_a_unit() {
        for (text, millis) in [
            ("0s", 0),
            ("250ms", 250),
            ("2m", 120_000),
            ("24h", 86_400_000),
        ] {
            assert_eq!(
                parse_period(text),
                Ok(Duration::from_millis(millis)),
                "{text}"
            );
        }
        for text in [
            "",
            "5",
            "s",
            "-1s",
            "1.5s",
            "5 s",
            "1d",
            "25h",
            "99999999999999999999s",
        ] {
            assert!(parse_period(text).is_err(), "{text}");
        }
    }

    #[test]
    fn command_line_is_consistent() {
        Cli::command().debug_assert();
    }
}
