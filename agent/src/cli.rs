//! The command line. Says what can be typed; [`config`](crate::config) says what it means.

mod options;

use std::{ffi::OsString, path::PathBuf};

use clap::{ArgAction, Args, CommandFactory as _, FromArgMatches as _, Parser, Subcommand};

pub use options::Options;

use crate::{config::PROGRAM, sandbox::FloorKind};

/// Remote executor: serves processes, files and HTTP requests of this machine to a client.
///
/// With --remote it only dials out: it registers with an environment registry, connects to the
/// rendezvous and serves end-to-end encrypted streams. Without, it listens on this machine.
///
/// A flag wins over a variable, a variable over the configuration file. Credentials of the registry
/// come from --token-file, --registration-bearer-stdin, --executor-credential-stdin, or the
/// environment variables EXEC_SERVER_TOKEN and CODEX_API_KEY, never from a flag's value.
///
/// Exit codes: 0 done, 1 runtime failure, 2 command line, 64 configuration. In remote mode,
/// trouble with the registry or the rendezvous never ends the process.
#[derive(Debug, Clone, Default, Parser)]
#[command(name = "exec-server", version, args_conflicts_with_subcommands = true)]
pub struct Cli {
    /// What is configured.
    #[command(flatten)]
    pub options: Options,

    /// Something else than serving clients
    #[command(subcommand)]
    pub command: Option<Command>,
}

/// What the program does instead of serving clients.
#[derive(Debug, Clone, Subcommand)]
pub enum Command {
    /// Run a command in a sandbox, or say what a sandbox would be, for those who debug a policy
    Sandbox(SandboxArguments),
    /// Hand streams to another executor: the same as --connect, which is required
    Forward(Box<Options>),
    /// Say what would be used and what of it works; takes the same options
    Doctor(Box<DoctorArguments>),
    /// Print completions for a shell
    Completions(settings::Completions),
    /// Print the man page
    Man(settings::Manual),
    /// Print the reference of the settings, in Markdown
    #[command(hide = true)]
    Reference,
}

impl Cli {
    /// Parses the command line of the process, and ends the process when it asks for help or is wrong.
    pub fn of_process() -> Self {
        let matches = command().get_matches();
        Self::from_arg_matches(&matches).unwrap_or_else(|error| error.exit())
    }
}

/// The command line with variables and defaults in its help.
pub fn command() -> clap::Command {
    settings::generate::describe(Cli::command(), &PROGRAM)
}

/// What to look at.
///
/// Exit code: 0 if everything works, 1 if something does not, 64 if the configuration is wrong.
#[derive(Debug, Clone, Args)]
pub struct DoctorArguments {
    /// Print one JSON object a line
    #[arg(long)]
    pub json: bool,

    /// Register and connect as well, which interrupts an executor that serves the environment
    #[arg(long)]
    pub register: bool,

    /// What is configured.
    #[command(flatten)]
    pub options: Options,
}

/// A policy, and what to do with it.
///
/// Exit code of a command: its own, or 128 and the signal; 77 if the sandbox cannot be made, 127 if
/// the command cannot be executed.
#[derive(Debug, Clone, Args)]
pub struct SandboxArguments {
    /// Where files may be written
    #[arg(long, value_name = "POLICY", default_value = "workspace-write")]
    pub policy: FloorKind,

    /// File with a permission profile or a whole sandbox context as clients send it (JSON), instead
    /// of --policy, --deny and --network
    #[arg(long, value_name = "PATH", conflicts_with_all = ["policy", "deny", "network"])]
    pub profile: Option<PathBuf>,

    /// Writable directory; may be repeated [default: the working directory]
    #[arg(long, value_name = "DIR", action = ArgAction::Append)]
    pub root: Vec<PathBuf>,

    /// Path or pattern that cannot be read; may be repeated
    #[arg(long, value_name = "PATH", action = ArgAction::Append)]
    pub deny: Vec<String>,

    /// Leave the network open
    #[arg(long)]
    pub network: bool,

    /// The word `explain`, to print the resolved policy and its mounts (after it, --json does so for
    /// programs), or the command to run
    #[arg(
        required = true,
        trailing_var_arg = true,
        value_name = "explain | -- COMMAND"
    )]
    pub command: Vec<OsString>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_command_line_is_consistent() {
        command().debug_assert();
        let others = ["cloud", "config", "check_config", "print_config"];
        let command = Cli::command();
        let undeclared = settings::generate::undeclared(&command, &PROGRAM, &others);
        assert_eq!(undeclared, [""; 0]);
    }

    #[test]
    fn the_reference_in_the_documentation_is_fresh() {
        let reference = settings::generate::reference(&command(), &PROGRAM);
        assert!(
            include_str!("../../docs/configuration.md").contains(&reference),
            "run `cargo run -p xtask -- reference`"
        );
    }

    #[test]
    fn the_cloud_spellings_mean_the_same() {
        let plain = Cli::parse_from([
            "exec-server",
            "--remote",
            "https://r",
            "--environment-id",
            "e",
            "--name",
            "n",
        ])
        .options;
        let cloud = Cli::parse_from([
            "exec-server",
            "--cloud",
            "--cloud-base-url",
            "https://r",
            "--cloud-environment-id",
            "e",
            "--cloud-name",
            "n",
        ])
        .options;
        assert_eq!(
            (&plain.remote, &plain.environment_id, &plain.name),
            (&cloud.remote, &cloud.environment_id, &cloud.name)
        );
        assert!(cloud.cloud && !plain.cloud);
    }

    #[test]
    fn contradictions_are_refused_by_the_parser() {
        for arguments in [
            &["--remote", "https://r", "--listen", "stdio"][..],
            &["--cloud", "--listen", "stdio"],
            &["--token-file", "t", "--registration-bearer-stdin"],
            &["--token-file", "t", "--executor-credential-stdin"],
            &["--registration-bearer-stdin", "--executor-credential-stdin"],
            &["--concurrent-requests", "0"],
            &["--concurrent-requests", "-1"],
            &["--ws-auth", "other"],
            &["--unknown"],
            &["positional"],
            &["--connect", "ws://x", "--listen", "stdio"],
            &[
                "forward",
                "--connect",
                "ws://x",
                "--concurrent-requests",
                "2",
            ],
        ] {
            let line = std::iter::once("exec-server").chain(arguments.iter().copied());
            assert_eq!(
                Cli::try_parse_from(line).unwrap_err().exit_code(),
                2,
                "{arguments:?}"
            );
        }
    }
}
