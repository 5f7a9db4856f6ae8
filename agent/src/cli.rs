//! The command line. Says what can be typed; [`config`](crate::config) says what it means.

use std::{ffi::OsString, net::SocketAddr, num::NonZeroUsize, path::PathBuf};

use clap::{ArgAction, Args, Parser, Subcommand};

use crate::{config::Period, listener::AuthMode, sandbox::FloorKind};

/// Remote executor: serves processes, files and HTTP requests of this machine to a client.
///
/// With --remote it only dials out: it registers with an environment registry, connects to the
/// rendezvous and serves end-to-end encrypted streams. Without, it listens on this machine.
///
/// Credentials of the registry come from --token-file, --registration-bearer-stdin, or the
/// environment variables EXEC_SERVER_TOKEN and CODEX_API_KEY, never from a flag's value.
///
/// Exit codes: 0 done, 1 runtime failure, 2 command line, 64 configuration. In remote mode,
/// trouble with the registry or the rendezvous never ends the process.
#[derive(Debug, Clone, Default, Parser)]
#[command(name = "exec-server", version, args_conflicts_with_subcommands = true)]
pub struct Cli {
    /// Registry base URL; turns on remote mode [env: EXEC_SERVER_REMOTE_URL]
    #[arg(
        long,
        value_name = "URL",
        visible_alias = "cloud-base-url",
        conflicts_with = "listen"
    )]
    pub remote: Option<String>,

    /// Same as remote mode with the URL taken from elsewhere
    #[arg(long, conflicts_with = "listen")]
    pub cloud: bool,

    /// Environment to attach to [env: EXEC_SERVER_ENVIRONMENT_ID]
    #[arg(long, value_name = "ID", visible_alias = "cloud-environment-id")]
    pub environment_id: Option<String>,

    /// Human name of this executor, for logs
    #[arg(long, value_name = "NAME", visible_alias = "cloud-name")]
    pub name: Option<String>,

    /// Local listener: ws://IP:PORT (port 0 picks one) or stdio [default: ws://127.0.0.1:0]
    #[arg(long, value_name = "URL")]
    pub listen: Option<String>,

    /// Requests worked on at once per connection
    #[arg(long, value_name = "COUNT")]
    pub concurrent_requests: Option<NonZeroUsize>,

    /// File with the registry token; read again for each call, so it may be replaced
    #[arg(
        long,
        value_name = "PATH",
        conflicts_with = "registration_bearer_stdin"
    )]
    pub token_file: Option<PathBuf>,

    /// Read the registry token from the first line of standard input
    #[arg(long)]
    pub registration_bearer_stdin: bool,

    /// Additional CA certificates (PEM) for the registry and the rendezvous
    #[arg(long, value_name = "PATH")]
    pub ca_file: Option<PathBuf>,

    /// Allow a plain http registry on another host; token and keys then travel unprotected
    #[arg(long)]
    pub allow_insecure_http: bool,

    /// End in an orderly way when standard input closes; needs remote mode
    /// [env: EXEC_SERVER_EXIT_ON_STDIN_CLOSE=true|false]
    #[arg(long)]
    pub exit_on_stdin_close: bool,

    /// How long commands may go on after a signal to end, such as 5s or 500ms, before they get
    /// SIGTERM and, 2 s later, SIGKILL; a second signal kills at once
    /// [env: EXEC_SERVER_GRACE_PERIOD] [default: 5s]
    #[arg(long, value_name = "DURATION")]
    pub grace_period: Option<Period>,

    /// Where operators find /livez, /readyz, /metrics and /status: a port of 127.0.0.1, or IP:PORT
    /// [env: EXEC_SERVER_ADMIN_LISTEN]
    #[arg(long, value_name = "[IP:]PORT", value_parser = ops::admin::parse_address)]
    pub admin_listen: Option<SocketAddr>,

    /// Let http/request headers use this environment variable although its name looks like a
    /// credential; may be repeated
    #[arg(long, value_name = "NAME", action = ArgAction::Append)]
    pub http_header_env: Vec<String>,

    /// Do not open TCP connections on behalf of clients
    #[arg(long)]
    pub no_tcp: bool,

    /// Let commands inherit these environment variables (names or patterns) although they are
    /// well-known credentials or, like LD_*, change what the loader runs; may be repeated
    #[arg(long, value_name = "NAME", action = ArgAction::Append)]
    pub inherit_env: Vec<String>,

    /// Do not let commands inherit these environment variables (names or patterns) besides the
    /// well-known credentials; may be repeated
    #[arg(long, value_name = "NAME", action = ArgAction::Append)]
    pub withhold_env: Vec<String>,

    /// Confine every command and file request at least like this, whatever the client asks for;
    /// without network, and without TCP connections on behalf of clients
    #[arg(long, value_name = "POLICY")]
    pub sandbox_floor: Option<FloorKind>,

    /// Directory that --sandbox-floor workspace-write leaves writable; may be repeated
    /// [default: the working directory]
    #[arg(long, value_name = "DIR", action = ArgAction::Append)]
    pub sandbox_root: Vec<PathBuf>,

    /// Longest life without a connection that a client gets when it asks for one, 80 to 2592000
    /// seconds [default: 86400]
    #[arg(long, value_name = "SECONDS")]
    pub keep_max_secs: Option<u64>,

    /// Output kept of each process for clients that come back or read late, 1048576 to 33554432
    /// bytes; what exceeds the first is on disk [default: 1048576]
    #[arg(long, value_name = "BYTES")]
    pub output_retention_bytes: Option<u64>,

    /// How long the output of a process that has ended is kept, 80 to 2592000 seconds [default: 80]
    #[arg(long, value_name = "SECONDS")]
    pub output_retention_secs: Option<u64>,

    /// How much output of all processes may be on disk, 1048576 bytes to 1 TiB; when it is used up,
    /// less is kept [default: 1073741824]
    #[arg(long, value_name = "BYTES")]
    pub output_disk_bytes: Option<u64>,

    /// Directory of the file for it, which is private and has no name [default: TMPDIR, else /tmp]
    #[arg(long, value_name = "PATH")]
    pub output_directory: Option<PathBuf>,

    /// Require authentication of websocket peers
    #[arg(long, value_name = "MODE")]
    pub ws_auth: Option<AuthMode>,

    /// File with the capability token
    #[arg(long, value_name = "PATH")]
    pub ws_token_file: Option<PathBuf>,

    /// SHA-256 of the capability token, 64 hexadecimal digits
    #[arg(long, value_name = "HEX")]
    pub ws_token_sha256: Option<String>,

    /// File with the secret that signs bearer tokens (HS256, at least 32 bytes)
    #[arg(long, value_name = "PATH")]
    pub ws_shared_secret_file: Option<PathBuf>,

    /// Required issuer of signed bearer tokens
    #[arg(long, value_name = "TEXT")]
    pub ws_issuer: Option<String>,

    /// Required audience of signed bearer tokens
    #[arg(long, value_name = "TEXT")]
    pub ws_audience: Option<String>,

    /// Tolerated clock difference for signed bearer tokens [default: 30]
    #[arg(long, value_name = "SECONDS")]
    pub ws_max_clock_skew_seconds: Option<u64>,

    /// Configuration file (TOML); flags and environment variables win over it
    #[arg(long, value_name = "PATH")]
    pub config: Option<PathBuf>,

    /// Check the configuration and exit
    #[arg(long)]
    pub check_config: bool,

    /// Something else than serving clients
    #[command(subcommand)]
    pub command: Option<Command>,
}

/// What the program does instead of serving clients.
#[derive(Debug, Clone, Subcommand)]
pub enum Command {
    /// Run a command in a sandbox, or say what a sandbox would be, for those who debug a policy
    Sandbox(SandboxArguments),
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

    /// The word `explain`, to print the resolved policy and its mounts, or the command to run
    #[arg(
        required = true,
        trailing_var_arg = true,
        value_name = "explain | -- COMMAND"
    )]
    pub command: Vec<OsString>,
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory as _;

    use super::*;

    #[test]
    fn the_command_line_is_consistent() {
        Cli::command().debug_assert();
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
        ]);
        let cloud = Cli::parse_from([
            "exec-server",
            "--cloud",
            "--cloud-base-url",
            "https://r",
            "--cloud-environment-id",
            "e",
            "--cloud-name",
            "n",
        ]);
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
            &["--concurrent-requests", "0"],
            &["--concurrent-requests", "-1"],
            &["--ws-auth", "other"],
            &["--unknown"],
            &["positional"],
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
