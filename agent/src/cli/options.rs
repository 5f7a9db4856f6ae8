//! What can be configured: as a flag here, as a variable and as a key in the file by
//! [`PROGRAM`](crate::config::PROGRAM).

use std::{num::NonZeroUsize, path::PathBuf};

use clap::{ArgAction, Args};
use settings::{LocalAddress, Period};
use telemetry::logging::LogFormat;

use crate::{listener::AuthMode, sandbox::FloorKind};

/// Flags, and after [`load`](crate::config::load) what is in force of all sources.
#[derive(Debug, Clone, Default, Args)]
pub struct Options {
    /// Registry base URL; turns on remote mode
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

    /// Hand each stream to the executor that listens at this ws:// or wss:// URL, instead of serving
    /// it here; needs remote mode
    #[arg(long, value_name = "URL", conflicts_with_all = ["listen", "concurrent_requests"])]
    pub connect: Option<String>,

    /// File with the bearer token for --connect; read again for each stream
    #[arg(long, value_name = "PATH")]
    pub connect_token_file: Option<PathBuf>,

    /// Environment to attach to
    #[arg(long, value_name = "ID", visible_alias = "cloud-environment-id")]
    pub environment_id: Option<String>,

    /// Human name of this executor, for logs
    #[arg(long, value_name = "NAME", visible_alias = "cloud-name")]
    pub name: Option<String>,

    /// Local listener: ws://IP:PORT (port 0 picks one) or stdio
    #[arg(long, value_name = "URL")]
    pub listen: Option<String>,

    /// Requests worked on at once per connection
    #[arg(long, value_name = "COUNT")]
    pub concurrent_requests: Option<NonZeroUsize>,

    /// File with the registry token; read again for each call, so it may be replaced at any time.
    /// /dev/fd/N is a descriptor that was handed over
    #[arg(
        long,
        value_name = "PATH",
        conflicts_with_all = ["registration_bearer_stdin", "executor_credential_stdin"]
    )]
    pub token_file: Option<PathBuf>,

    /// Read the registry token from the first line of standard input
    #[arg(long, conflicts_with = "executor_credential_stdin")]
    pub registration_bearer_stdin: bool,

    /// Read credentials that expire and are replaced from standard input, one JSON object a line;
    /// its end ends the executor
    #[arg(long)]
    pub executor_credential_stdin: bool,

    /// Additional CA certificates (PEM) for the registry and the rendezvous
    #[arg(long, value_name = "PATH")]
    pub ca_file: Option<PathBuf>,

    /// Allow a plain http registry on another host; token and keys then travel unprotected
    #[arg(long)]
    pub allow_insecure_http: bool,

    /// End in an orderly way when standard input closes; needs remote mode
    #[arg(long)]
    pub exit_on_stdin_close: bool,

    /// How long commands may go on after a signal to end, such as 5s or 500ms, before they get
    /// SIGTERM and, 2 s later, SIGKILL; a second signal kills at once
    #[arg(long, value_name = "DURATION")]
    pub grace_period: Option<Period>,

    /// Where operators find /livez, /readyz, /metrics and /status: a port of 127.0.0.1, or IP:PORT
    #[arg(long, value_name = "[IP:]PORT")]
    pub admin_listen: Option<LocalAddress>,

    /// What log lines look like; RUST_LOG says which there are
    #[arg(long, value_name = "FORMAT")]
    pub log_format: Option<LogFormat>,

    /// Base URL of an OpenTelemetry collector (OTLP over HTTP) for spans and metrics; the standard
    /// variables OTEL_* count if it is not given
    #[arg(long, value_name = "URL")]
    pub otlp_endpoint: Option<String>,

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

    /// Directory that --sandbox-floor workspace-write leaves writable, the working directory if none
    /// is given; may be repeated
    #[arg(long, value_name = "DIR", action = ArgAction::Append)]
    pub sandbox_root: Vec<PathBuf>,

    /// Memory that each command may use, all of its processes together, 67108864 bytes or more
    #[arg(long, value_name = "BYTES")]
    pub command_memory_max: Option<u64>,

    /// Processes and threads that each command may have at a time, 1 to 4194304
    #[arg(long, value_name = "COUNT")]
    pub command_pids_max: Option<u64>,

    /// Processor time that each command may use, in percent of one processor, 1 to 100000
    #[arg(long, value_name = "PERCENT")]
    pub command_cpu_max: Option<u64>,

    /// Directory of control groups (version 2) that is delegated to the executor, for the limits of
    /// commands; the one above the executor's own, if none is given
    #[arg(long, value_name = "DIR")]
    pub command_cgroup: Option<PathBuf>,

    /// Longest life without a connection that a client gets when it asks for one, 80 to 2592000
    /// seconds
    #[arg(long, value_name = "SECONDS")]
    pub keep_max_secs: Option<u64>,

    /// Output kept of each process for clients that come back or read late, 1048576 to 33554432
    /// bytes; what exceeds the first is on disk
    #[arg(long, value_name = "BYTES")]
    pub output_retention_bytes: Option<u64>,

    /// How long the output of a process that has ended is kept, 80 to 2592000 seconds
    #[arg(long, value_name = "SECONDS")]
    pub output_retention_secs: Option<u64>,

    /// How much output of all processes may be on disk, 1048576 bytes to 1 TiB; when it is used up,
    /// less is kept
    #[arg(long, value_name = "BYTES")]
    pub output_disk_bytes: Option<u64>,

    /// Directory of the file for it, which is private and has no name; TMPDIR, else /tmp, if not given
    #[arg(long, value_name = "PATH")]
    pub output_directory: Option<PathBuf>,

    /// Require authentication of websocket peers
    #[arg(long, value_name = "MODE")]
    pub ws_auth: Option<AuthMode>,

    /// File with the capability token; read again for each connection
    #[arg(long, value_name = "PATH")]
    pub ws_token_file: Option<PathBuf>,

    /// SHA-256 of the capability token, 64 hexadecimal digits
    #[arg(long, value_name = "HEX")]
    pub ws_token_sha256: Option<String>,

    /// File with the secret that signs bearer tokens (HS256, at least 32 bytes); read again for each
    /// connection
    #[arg(long, value_name = "PATH")]
    pub ws_shared_secret_file: Option<PathBuf>,

    /// Required issuer of signed bearer tokens
    #[arg(long, value_name = "TEXT")]
    pub ws_issuer: Option<String>,

    /// Required audience of signed bearer tokens
    #[arg(long, value_name = "TEXT")]
    pub ws_audience: Option<String>,

    /// Tolerated clock difference for signed bearer tokens
    #[arg(long, value_name = "SECONDS")]
    pub ws_max_clock_skew_seconds: Option<u64>,

    /// Configuration file (TOML); flags and environment variables win over it
    #[arg(long, value_name = "PATH")]
    pub config: Option<PathBuf>,

    /// Whether it was the subcommand `forward`.
    #[arg(skip)]
    pub forward: bool,

    /// Check the configuration and exit
    #[arg(long)]
    pub check_config: bool,

    /// Show the settings in force, and the source of each, and exit
    #[arg(long)]
    pub print_config: bool,
}
