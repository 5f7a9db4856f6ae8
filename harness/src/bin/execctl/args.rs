//! The command line.

use std::path::PathBuf;

use clap::{Args, CommandFactory as _, FromArgMatches as _, Parser};

use crate::{
    config::PROGRAM,
    forward::Spec,
    handle::{self, Handle},
};

/// Run programs and move files on remote executors.
#[derive(Debug, Parser)]
#[command(
    name = "execctl",
    version,
    arg_required_else_help = true,
    after_help = "\
Where to connect, first match wins: flags, variables, configuration file.
A token is never a flag: put it into a file or into EXECCTL_TOKEN.

Exit codes: the remote program's for run and shell (127 not found, 126 not executable);
otherwise 0 done, 1 failure, 64 usage or configuration, 69 unavailable, 77 refused."
)]
pub(crate) struct Cli {
    #[command(flatten)]
    pub(crate) global: Global,
    /// Check the configuration and exit
    #[arg(long)]
    pub(crate) check_config: bool,
    /// Show the settings in force, and the source of each, and exit
    #[arg(long)]
    pub(crate) print_config: bool,
    #[command(subcommand)]
    pub(crate) command: Option<Subcommand>,
}

/// The command line with variables and defaults in its help.
pub(crate) fn command() -> clap::Command {
    settings::generate::describe(Cli::command(), &PROGRAM)
}

/// Parses the command line of this process.
pub(crate) fn parse() -> Result<Cli, clap::Error> {
    Cli::from_arg_matches(&command().try_get_matches()?)
}

/// Options of every subcommand.
#[derive(Debug, Default, Args)]
pub(crate) struct Global {
    /// Base URL of the environment registry
    #[arg(long, global = true, value_name = "URL")]
    pub(crate) registry: Option<String>,
    /// Environment to use
    #[arg(long, short = 'E', global = true, value_name = "ID")]
    pub(crate) environment: Option<String>,
    /// File that holds the token; read anew for each connection, so it may be replaced at any time.
    /// /dev/fd/N is a descriptor that was handed over
    #[arg(long, global = true, value_name = "PATH")]
    pub(crate) token_file: Option<PathBuf>,
    /// Connect to an executor that listens, without a registry
    #[arg(long, global = true, value_name = "WS-URL", conflicts_with_all = ["registry", "environment"])]
    pub(crate) url: Option<String>,
    /// Certificate authorities to trust besides the system's (PEM)
    #[arg(long, global = true, value_name = "PATH")]
    pub(crate) ca_file: Option<PathBuf>,
    /// Allow a plain http registry on another host; the token then travels unprotected
    #[arg(long, global = true)]
    pub(crate) allow_insecure_http: bool,
    /// Configuration file [env: EXECCTL_CONFIG] [default: ~/.config/execctl/config.toml]
    #[arg(long, global = true, value_name = "PATH")]
    pub(crate) config: Option<PathBuf>,
    /// How long to try to connect while the executor or the registry is away
    #[arg(long, global = true, value_name = "SECONDS", value_parser = clap::value_parser!(u64).range(0..=3600))]
    pub(crate) connect_timeout_secs: Option<u64>,
    /// Base URL of an OpenTelemetry collector (OTLP over HTTP) for spans; the standard variables OTEL_*
    /// count if it is not given
    #[arg(long, global = true, value_name = "URL")]
    pub(crate) otlp_endpoint: Option<String>,
    /// Print one JSON object per line, for scripts
    #[arg(long, global = true)]
    pub(crate) json: bool,
    /// Move all data as base64 in JSON, as with an executor of Codex 0.169
    #[arg(long, global = true)]
    pub(crate) no_bulk: bool,
    /// Compress data both ways where that makes it smaller, for paths slower than about 100 MB/s
    #[arg(long, short = 'C', global = true, conflicts_with = "no_bulk")]
    pub(crate) compress: bool,
    /// Log to standard error; twice for more
    #[arg(long, short, global = true, action = clap::ArgAction::Count)]
    pub(crate) verbose: u8,
}

/// What to do.
#[derive(Debug, clap::Subcommand)]
pub(crate) enum Subcommand {
    /// Run a program; pass on its output, its input, signals and its exit code
    Run(Run),
    /// Open an interactive shell
    Shell(Shell),
    /// Follow a program that run --detach has started
    Attach(Attach),
    /// List the programs of a session that run --detach has made
    Ps(Ps),
    /// End a program that run --detach has started, or send it a signal
    Kill(Kill),
    /// Copy files and directories: ID:/path ./here, or ./here ID:/path
    Cp(Cp),
    /// List a directory
    Ls(Ls),
    /// Write files to standard output
    Cat(Paths),
    /// Remove files and directories
    Rm(Rm),
    /// Make directories
    Mkdir(Mkdir),
    /// Show what paths are
    Stat(Paths),
    /// Show what the executor is
    Info,
    /// Let the executor make an HTTP request
    Http(Http),
    /// Lead local ports to hosts and ports that the executor reaches
    Forward(Forward),
    /// Offer the executor to local programs as ws://127.0.0.1:PORT, or on standard input and output
    Proxy(Proxy),
    /// Say what would be used and what of it works, and how to put right what does not
    #[command(
        after_help = "Exit code: 0 if everything works, 1 if something does not, 64 if the configuration is wrong."
    )]
    Doctor,
    /// Print completions for a shell
    Completions(settings::Completions),
    /// Print the man page
    Man(settings::Manual),
    /// Print the reference of the settings, in Markdown
    #[command(hide = true)]
    Reference,
}

impl Subcommand {
    /// The name of the span that a run of it is.
    pub(crate) fn name(&self) -> &'static str {
        match self {
            Self::Run(_) => "execctl run",
            Self::Shell(_) => "execctl shell",
            Self::Attach(_) => "execctl attach",
            Self::Ps(_) => "execctl ps",
            Self::Kill(_) => "execctl kill",
            Self::Cp(_) => "execctl cp",
            Self::Ls(_) => "execctl ls",
            Self::Cat(_) => "execctl cat",
            Self::Rm(_) => "execctl rm",
            Self::Mkdir(_) => "execctl mkdir",
            Self::Stat(_) => "execctl stat",
            Self::Info => "execctl info",
            Self::Http(_) => "execctl http",
            Self::Forward(_) => "execctl forward",
            Self::Proxy(_) => "execctl proxy",
            Self::Doctor => "execctl doctor",
            Self::Completions(_) | Self::Man(_) | Self::Reference => "execctl",
        }
    }
}

/// Arguments of `run`.
#[derive(Debug, Args)]
#[command(after_help = "\
Standard input is passed on, with its end, unless it is /dev/null or --no-stdin is given.
The first Ctrl-C interrupts the program, the second kills it, the third gives up.
SIGTERM, SIGHUP and SIGQUIT are passed on by name, and kill it when they come again; so are
SIGUSR1 and SIGUSR2, any number of times. An executor of Codex 0.169 knows no signals by
name: there the first three kill it, and the other two do nothing. When the program has ended, output of what it left running
is awaited for two quiet seconds.

With --detach the program runs on without this one. Its handle, SESSION/PROCESS, is printed
for attach, ps and kill. The executor keeps 1 MiB of its output, the exit code, and the
session, for as long after each detachment as --keep-secs says, within its maximum (a day);
an executor of Codex 0.169 keeps all for 80 seconds.")]
pub(crate) struct Run {
    #[command(flatten)]
    pub(crate) place: Place,
    /// Give the program a terminal
    #[arg(long, short)]
    pub(crate) tty: bool,
    /// Pass on standard input; on unless detached, where it keeps the input open for attach
    #[arg(long, short = 'i')]
    pub(crate) stdin: bool,
    /// Print a handle and leave the program running
    #[arg(long, short, conflicts_with = "no_stdin")]
    pub(crate) detach: bool,
    /// How long the executor keeps a detached program that nobody is attached to
    #[arg(long, requires = "detach", default_value_t = 86_400, value_name = "SECONDS",
          value_parser = clap::value_parser!(u64).range(1..))]
    pub(crate) keep_secs: u64,
    /// Do not pass on standard input
    #[arg(long, short = 'n')]
    pub(crate) no_stdin: bool,
    /// The program and its arguments
    #[arg(
        required = true,
        trailing_var_arg = true,
        allow_hyphen_values = true,
        value_name = "COMMAND"
    )]
    pub(crate) command: Vec<String>,
}

/// Arguments of `shell`.
#[derive(Debug, Args)]
#[command(after_help = "Type Enter ~ . to leave when the connection hangs.")]
pub(crate) struct Shell {
    #[command(flatten)]
    pub(crate) place: Place,
    /// Start it as a login shell, which reads the profile
    #[arg(long, short)]
    pub(crate) login: bool,
}

/// Arguments of `attach`.
#[derive(Debug, Args)]
#[command(after_help = "\
Shows the output that the executor retains, the newest 1 MiB, and says when older output is
gone; then follows. Typed input and Ctrl-C reach the program as with run. Leaving does not
end it: on a terminal type Enter ~ . , otherwise press Ctrl-C three times or end this
program. When the program has ended, its exit code is passed on and the session is ended.
One attach at a time.")]
pub(crate) struct Attach {
    /// The program has a terminal; needed only when the executor does not say (Codex 0.169)
    #[arg(long, short)]
    pub(crate) tty: bool,
    /// Do not pass on standard input
    #[arg(long, short = 'n')]
    pub(crate) no_stdin: bool,
    /// What run --detach has printed
    #[arg(value_name = "HANDLE")]
    pub(crate) handle: Handle,
}

/// Arguments of `ps`.
#[derive(Debug, Args)]
pub(crate) struct Ps {
    /// A session, or a handle that run --detach has printed
    #[arg(value_name = "SESSION|HANDLE")]
    pub(crate) handle: Handle,
}

/// Arguments of `kill`.
#[derive(Debug, Args)]
#[command(after_help = "\
Without --signal the program gets SIGTERM, and is killed when it has not ended after the
grace period. The executor watches the time; this program does not wait. Ended programs
keep their output and exit code for attach. While somebody is attached, this does not work:
interrupt the program there.")]
pub(crate) struct Kill {
    /// Only send this signal: HUP, INT, QUIT, KILL, USR1, USR2, TERM, CONT, STOP, TSTP, WINCH
    #[arg(long, short, conflicts_with = "grace_secs", value_parser = handle::signal)]
    pub(crate) signal: Option<harness::Signal>,
    /// Time between SIGTERM and the kill; 0 kills at once
    #[arg(long, visible_alias = "grace", default_value_t = 10, value_name = "SECONDS",
          value_parser = clap::value_parser!(u64).range(0..=600))]
    pub(crate) grace_secs: u64,
    /// What run --detach has printed
    #[arg(value_name = "HANDLE")]
    pub(crate) handle: Handle,
}

/// Where and with which variables a program runs.
#[derive(Debug, Default, Args)]
pub(crate) struct Place {
    /// Set a variable; without a value, pass on this machine's
    #[arg(long, short, value_name = "NAME[=VALUE]")]
    pub(crate) env: Vec<String>,
    /// Working directory [default: the executor's]
    #[arg(long, short, value_name = "DIR")]
    pub(crate) workdir: Option<String>,
    /// Let it reach only these hosts, over a proxy that its variables name: HOST, *.HOST (below),
    /// **.HOST (it and below), * (every public one); may be repeated
    #[arg(long, value_name = "PATTERN")]
    pub(crate) allow_host: Vec<String>,
}

/// Arguments of `cp`.
#[derive(Debug, Args)]
#[command(after_help = "\
ID:PATH is a path of environment ID, :PATH one of the default environment; anything else
is local. A relative remote path starts at the executor's working directory. When the
destination is an existing directory, the source is copied into it. Directories are
copied with their contents; SOURCE/. copies the contents alone. Links to files are
followed, links to directories skipped. The executable bit is kept, other permissions and
times are not.
New remote files appear when they are complete, and interrupted replacements leave the old
file, unless the executor is of Codex 0.169. --resume continues an interrupted copy; it
compares the clocks of both machines, so it may leave out a file that was changed, without
a change of its size, within their difference after the first copy.")]
pub(crate) struct Cp {
    /// What to copy
    pub(crate) source: String,
    /// Where to
    pub(crate) destination: String,
    /// Leave out files that are complete: of the same size, and changed no earlier than the original
    #[arg(long)]
    pub(crate) resume: bool,
    /// No progress bar
    #[arg(long, short)]
    pub(crate) quiet: bool,
}

/// Arguments of `ls`.
#[derive(Debug, Args)]
pub(crate) struct Ls {
    /// Show sizes and times too
    #[arg(long, short)]
    pub(crate) long: bool,
    /// Show names that begin with a dot
    #[arg(long, short)]
    pub(crate) all: bool,
    /// A path, or ID:PATH
    #[arg(default_value = ".")]
    pub(crate) path: String,
}

/// Arguments of subcommands that take paths only.
#[derive(Debug, Args)]
pub(crate) struct Paths {
    /// Paths, or ID:PATH
    #[arg(required = true, value_name = "PATH")]
    pub(crate) paths: Vec<String>,
}

/// Arguments of `rm`.
#[derive(Debug, Args)]
pub(crate) struct Rm {
    /// Remove directories with their contents
    #[arg(long, short)]
    pub(crate) recursive: bool,
    /// Do not mind missing paths
    #[arg(long, short)]
    pub(crate) force: bool,
    #[command(flatten)]
    pub(crate) paths: Paths,
}

/// Arguments of `mkdir`.
#[derive(Debug, Args)]
pub(crate) struct Mkdir {
    /// Make missing parents, and do not mind existing directories
    #[arg(long, short)]
    pub(crate) parents: bool,
    #[command(flatten)]
    pub(crate) paths: Paths,
}

/// Arguments of `forward`.
#[derive(Debug, Args)]
#[command(after_help = "\
Prints ADDRESS -> HOST:PORT for each forward once it listens, and runs until Ctrl-C. The
executor resolves HOST and connects; without HOST it is the executor's own localhost. A
LOCAL_PORT of 0 takes a free one. LOCAL_ADDR is 127.0.0.1 unless given; * is every address,
and then other machines can use the forward too. An IPv6 address is written in brackets.
A connection that breaks on one side is reset on the other, never ended as if complete.
An executor of Codex 0.169 connects nowhere: there the command fails at once.

Examples:
  execctl forward 5432:db.internal:5432          psql -h 127.0.0.1
  execctl forward 8080:80 9229                   the executor's own ports 80 and 9229
  execctl forward --json 0:10.0.0.7:22           {\"type\":\"forward\",\"listen\":\"127.0.0.1:40112\",...}")]
pub(crate) struct Forward {
    // Not a doc comment, where brackets are links.
    #[arg(
        required = true,
        value_name = "FORWARD",
        help = "[LOCAL_ADDR:]LOCAL_PORT:HOST:PORT, LOCAL_PORT:PORT or PORT"
    )]
    pub(crate) forwards: Vec<Spec>,
}

/// Arguments of `http`.
#[derive(Debug, Args)]
pub(crate) struct Http {
    /// Method [default: GET, or POST with data]
    #[arg(long, short = 'X', value_name = "METHOD")]
    pub(crate) request: Option<String>,
    /// Add a header
    #[arg(long, short = 'H', value_name = "NAME: VALUE")]
    pub(crate) header: Vec<String>,
    /// Add a header that ends with a variable of the executor: 'Authorization: Bearer {TOKEN}'
    #[arg(long, value_name = "NAME: VALUE{VARIABLE}")]
    pub(crate) header_from_env: Vec<String>,
    /// Body; @FILE sends a file as it is, @- standard input, of any size
    #[arg(long, short, visible_alias = "data-binary", value_name = "DATA")]
    pub(crate) data: Option<String>,
    /// Show status and headers before the body
    #[arg(long, short)]
    pub(crate) include: bool,
    /// Exit with 1 when the status is 400 or above
    #[arg(long, short)]
    pub(crate) fail: bool,
    /// Return redirects instead of following them
    #[arg(long)]
    pub(crate) no_follow: bool,
    /// Limit the whole exchange
    #[arg(long, value_name = "SECONDS")]
    pub(crate) timeout_secs: Option<u64>,
    /// Absolute http or https URL
    // Not named `url`: arguments of that id are the global `--url`.
    #[arg(value_name = "URL")]
    pub(crate) target: String,
}

/// Arguments of `proxy`.
#[derive(Debug, Args)]
#[command(after_help = "\
The first line on standard output is the address. Whoever connects to it acts with your
token, so it has to be a loopback address. The Codex CLI takes it in CODEX_EXEC_SERVER_URL.

With --stdio one connection is carried over standard input and output, a JSON message a line,
until standard input ends: for clients that start a program, such as the Codex CLI with
`program = \"execctl\"` in its environments.toml.")]
pub(crate) struct Proxy {
    /// Address to listen on; port 0 picks one
    #[arg(long, value_name = "IP:PORT", default_value = "127.0.0.1:0")]
    pub(crate) listen: std::net::SocketAddr,
    /// Carry one connection over standard input and output instead
    #[arg(long, conflicts_with = "listen")]
    pub(crate) stdio: bool,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(line: &[&str]) -> Result<Cli, clap::Error> {
        Cli::try_parse_from(std::iter::once("execctl").chain(line.iter().copied()))
    }

    #[test]
    fn definition_is_consistent() {
        command().debug_assert();
        let others = [
            "json",
            "verbose",
            "no_bulk",
            "compress",
            "config",
            "check_config",
            "print_config",
        ];
        let undeclared = settings::generate::undeclared(&Cli::command(), &PROGRAM, &others);
        assert_eq!(undeclared, [""; 0]);
    }

    #[test]
    fn reference_in_the_documentation_is_fresh() {
        let reference = settings::generate::reference(&command(), &PROGRAM);
        assert!(
            include_str!("../../../../docs/configuration.md").contains(&reference),
            "run `cargo run -p xtask -- reference`"
        );
    }

    #[test]
    fn flags_of_the_program_are_not_ours() {
        let cli = parse(&["run", "-e", "A=1", "-it", "--", "ls", "-l", "--json"]).unwrap();
        assert!(!cli.global.json);
        let Some(Subcommand::Run(run)) = cli.command else {
            panic!("not run")
        };
        assert!(run.tty);
        assert_eq!(run.place.env, ["A=1"]);
        assert_eq!(run.command, ["ls", "-l", "--json"]);
    }

    #[test]
    fn program_needs_no_dashes_before_it() {
        let cli = parse(&["--environment", "dev", "run", "sh", "-c", "exit 3"]).unwrap();
        let Some(Subcommand::Run(run)) = cli.command else {
            panic!("not run")
        };
        assert_eq!(run.command, ["sh", "-c", "exit 3"]);
    }

    #[test]
    fn global_flags_work_after_the_subcommand() {
        let cli = parse(&["ls", "-l", "/tmp", "--json", "-E", "dev"]).unwrap();
        assert!(cli.global.json);
        assert_eq!(cli.global.environment.as_deref(), Some("dev"));
    }

    #[test]
    fn address_of_a_request_is_not_the_executors() {
        let cli = parse(&["--url", "ws://127.0.0.1:1", "http", "http://host/"]).unwrap();
        assert_eq!(cli.global.url.as_deref(), Some("ws://127.0.0.1:1"));
        let Some(Subcommand::Http(http)) = cli.command else {
            panic!("not http")
        };
        assert_eq!(http.target, "http://host/");
        assert_eq!(parse(&["http", "http://host/"]).unwrap().global.url, None);
    }

    #[test]
    fn detached_programs_are_named_by_handles() {
        let cli = parse(&["run", "-d", "-it", "--keep-secs", "60", "--", "sh"]).unwrap();
        let Some(Subcommand::Run(run)) = cli.command else {
            panic!("not run")
        };
        assert!(run.detach && run.stdin && run.tty);
        assert_eq!(run.keep_secs, 60);
        let cli = parse(&["kill", "-s", "sigusr1", "s/1"]).unwrap();
        let Some(Subcommand::Kill(kill)) = cli.command else {
            panic!("not kill")
        };
        assert_eq!(kill.signal, Some(harness::Signal::Usr1));
    }

    #[test]
    fn nonsense_is_refused() {
        for line in [
            &["run"][..],
            &["run", "--keep-secs", "5", "true"],
            &["attach", "/1"],
            &["kill", "-s", "SEGV", "s/1"],
            &["kill", "-s", "TERM", "--grace", "5", "s/1"],
            &["cp", "one"],
            &["frobnicate"],
            &["--url", "ws://x", "--registry", "http://y", "info"],
            &["--connect-timeout-secs", "99999", "info"],
            &["--token", "secret", "info"],
        ] {
            assert!(parse(line).is_err(), "{line:?}");
        }
    }
}
