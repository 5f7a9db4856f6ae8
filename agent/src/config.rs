//! What the executor was told to do, checked.
//!
//! Precedence: flag, environment, file, default, for each setting alike; the crate `settings` decides
//! that, and this module what the values mean together. Everything is checked before anything is
//! bound or dialed, and all problems are reported at once. Not responsible for reading credentials,
//! beyond which source is to be used.

mod listen;
mod remote;
mod schema;

use std::{
    fmt, net::SocketAddr, num::NonZeroUsize, ops::RangeInclusive, path::PathBuf, time::Duration,
};

use registry_client::{RegistryUrl, RendezvousUrl};
use relay_proto::ids::EnvironmentId;
use settings::{Layers, Period, Source};

pub use schema::PROGRAM;
use telemetry::{
    logging::LogFormat,
    plan::{Found, Plan},
};

use crate::{
    cli::Options,
    limits::CommandLimits,
    listener::{ListenAddress, WebSocketAuth},
    sandbox::{Floor, FloorKind, is_possible_root},
    session::{OUTPUT_BYTES_MAX, OUTPUT_BYTES_MIN},
};

/// Checked settings.
#[derive(Debug)]
pub struct Settings {
    /// What to do.
    pub mode: Mode,
    /// Requests worked on at once per connection, if the default is not wanted.
    pub concurrent_requests: Option<NonZeroUsize>,
    /// Variables that `http/request` headers may use although they look like credentials.
    pub http_header_env: Vec<String>,
    /// Whether clients may open TCP connections from here.
    pub tcp: bool,
    /// Variables that commands inherit although they are well-known credentials.
    pub inherit_env: Vec<String>,
    /// What each command may use.
    pub limits: CommandLimits,
    /// Variables that commands do not inherit besides those.
    pub withhold_env: Vec<String>,
    /// What every request is confined to at least.
    pub floor: Option<Floor>,
    /// Longest life without a connection that a client gets, if the default is not wanted.
    pub keep_max: Option<Duration>,
    /// What is kept of the output of processes.
    pub output: OutputSettings,
    /// How long commands may go on when the executor is told to end.
    pub grace_period: Duration,
    /// Where the admin listener is, if there is to be one.
    pub admin_listen: Option<SocketAddr>,
    /// What log lines look like.
    pub log_format: LogFormat,
    /// Where spans and numbers go.
    pub export: Found,
}

/// What is kept of the output of processes, where the default is not wanted.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub struct OutputSettings {
    /// Of each process.
    pub bytes: Option<usize>,
    /// For how long after its end.
    pub retention: Option<Duration>,
    /// On disk, of all processes together.
    pub disk_bytes: Option<u64>,
    /// Where on disk.
    pub directory: Option<PathBuf>,
}

/// What the executor does.
#[derive(Debug)]
pub enum Mode {
    /// Dials out.
    Remote(Box<RemoteSettings>),
    /// Listens on this machine.
    Listen {
        /// Where.
        address: ListenAddress,
        /// How websocket peers prove who they are.
        auth: Option<WebSocketAuth>,
    },
}

/// Settings of remote mode.
#[derive(Debug, Clone)]
pub struct RemoteSettings {
    /// Registry.
    pub base_url: RegistryUrl,
    /// Environment to attach to.
    pub environment: EnvironmentId,
    /// Human name.
    pub name: Option<String>,
    /// Where the registry token comes from.
    pub credential: CredentialChoice,
    /// Additional CA certificates.
    pub ca_file: Option<PathBuf>,
    /// Whether the end of standard input ends the process.
    pub exit_on_stdin_close: bool,
    /// Where streams are handed to, if they are not served here.
    pub forward: Option<ForwardSettings>,
}

/// Another executor to hand streams to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ForwardSettings {
    /// Where it listens.
    pub destination: RendezvousUrl,
    /// File with the token that it wants.
    pub token_file: Option<PathBuf>,
}

/// Where the registry token comes from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum CredentialChoice {
    /// A file, read again for each call.
    TokenFile(PathBuf),
    /// The first line of standard input.
    Stdin,
    /// The lines of standard input, one after the other.
    Rotating,
    /// `EXEC_SERVER_TOKEN` or `CODEX_API_KEY`.
    Environment,
}

/// Everything that is wrong with the configuration.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ConfigError(pub Vec<String>);

impl fmt::Display for ConfigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0.join("\n"))
    }
}

impl std::error::Error for ConfigError {}

/// Resolves the settings from the command line, the environment and the file, and says where each is
/// from, in the form of `--print-config`.
///
/// `environment` looks up a variable; a blank one counts as absent. `has_secret` says that it held a
/// credential, which was taken out.
pub fn load(
    mut options: Options,
    environment: &dyn Fn(&str) -> Option<String>,
    has_secret: bool,
) -> (Result<Settings, ConfigError>, String) {
    let file = options.config.take();
    let mut layers = Layers::open(&PROGRAM, environment, file.as_deref(), None);
    schema::merge(&mut options, &mut layers);
    let mut report = layers.report();
    if has_secret {
        report.push_str("# Registry token: set by a variable, not shown\n");
    }
    let settings = Settings::check(options, &mut layers, has_secret);
    let problems = layers.take_problems();
    let settings = match settings {
        Some(settings) if problems.is_empty() => Ok(settings),
        _ => Err(ConfigError(problems)),
    };
    (settings, report)
}

impl Settings {
    /// As [`load`], without the report.
    ///
    /// # Errors
    ///
    /// [`ConfigError`] with all problems found.
    pub fn resolve(
        options: Options,
        environment: impl Fn(&str) -> Option<String>,
        has_secret: bool,
    ) -> Result<Self, ConfigError> {
        load(options, &environment, has_secret).0
    }

    fn check(options: Options, layers: &mut Layers<'_>, has_secret: bool) -> Option<Self> {
        let floor = floor(&options, layers);
        let keep_max = within(
            layers,
            "keep_max_secs",
            options.keep_max_secs,
            KEEP_MAX_SECS,
        );
        let limits = limits(&options, layers);
        let output = output(&options, layers);
        let tcp = !(options.no_tcp || floor.is_some());
        let concurrent_requests = options.concurrent_requests;
        let http_header_env = options.http_header_env.clone();
        let inherit_env = options.inherit_env.clone();
        let withhold_env = options.withhold_env.clone();
        let grace_period = options
            .grace_period
            .map_or(DEFAULT_GRACE_PERIOD, Period::get);
        let admin_listen = options.admin_listen.map(|address| address.0);
        let export = Plan::find(options.otlp_endpoint.as_deref(), &|name| {
            layers.variable(name)
        });
        let export = Found::or_problem(export, layers);
        let log_format = options.log_format.unwrap_or_default();
        let mode = if is_remote(&options, layers) {
            remote::resolve(options, layers, has_secret)
                .map(|remote| Mode::Remote(Box::new(remote)))
        } else {
            listen::resolve(options, layers)
        };
        Some(Self {
            mode: mode?,
            concurrent_requests,
            http_header_env,
            tcp,
            inherit_env,
            withhold_env,
            limits,
            floor,
            keep_max: keep_max.map(Duration::from_secs),
            output,
            grace_period,
            admin_listen,
            log_format,
            export,
        })
    }
}

/// The most specific source that names a mode decides.
fn is_remote(options: &Options, layers: &Layers<'_>) -> bool {
    if options.cloud || options.forward {
        return true;
    }
    for source in [Source::Flag, Source::Variable, Source::File] {
        if layers.source("listen") == source {
            return false;
        }
        if layers.source("remote") == source {
            return true;
        }
    }
    false
}

fn within(
    layers: &mut Layers<'_>,
    key: &'static str,
    value: Option<u64>,
    range: RangeInclusive<u64>,
) -> Option<u64> {
    if value.is_some_and(|value| !range.contains(&value)) {
        let (least, most) = (range.start(), range.end());
        let name = layers.name_of(key);
        layers.problem(format!("{name} must be between {least} and {most}"));
    }
    value
}

fn output(options: &Options, layers: &mut Layers<'_>) -> OutputSettings {
    let bytes = within(
        layers,
        "output_retention_bytes",
        options.output_retention_bytes,
        OUTPUT_BYTES_MIN as u64..=OUTPUT_BYTES_MAX as u64,
    );
    let secs = within(
        layers,
        "output_retention_secs",
        options.output_retention_secs,
        KEEP_MAX_SECS,
    );
    let disk_bytes = within(
        layers,
        "output_disk_bytes",
        options.output_disk_bytes,
        OUTPUT_BYTES_MIN as u64..=1 << 40,
    );
    let directory = options.output_directory.clone();
    if directory.as_deref().is_some_and(|path| !path.is_dir()) {
        let name = layers.name_of("output_directory");
        layers.problem(format!("{name} is no directory"));
    }
    OutputSettings {
        bytes: bytes.and_then(|bytes| usize::try_from(bytes).ok()),
        retention: secs.map(Duration::from_secs),
        disk_bytes,
        directory,
    }
}

/// What each command may use.
fn limits(options: &Options, layers: &mut Layers<'_>) -> CommandLimits {
    let mut number = |key, value, range| within(layers, key, value, range);
    let limits = CommandLimits {
        memory: number(
            "command_memory_max",
            options.command_memory_max,
            64 << 20..=1 << 50,
        ),
        processes: number("command_pids_max", options.command_pids_max, 1..=1 << 22),
        cpu: number("command_cpu_max", options.command_cpu_max, 1..=100_000),
        cgroup: options
            .command_cgroup
            .as_ref()
            .map(|path| std::path::absolute(path).unwrap_or_default()),
    };
    if limits.cgroup.is_some() && limits.is_empty() {
        layers.problem(
            "--command-cgroup requires --command-memory-max, --command-pids-max or --command-cpu-max",
        );
    }
    limits
}

/// The sandbox that no request gets out of.
fn floor(options: &Options, layers: &mut Layers<'_>) -> Option<Floor> {
    let roots = options.sandbox_root.clone();
    let Some(kind) = options.sandbox_floor else {
        if !roots.is_empty() {
            layers.problem("--sandbox-root requires --sandbox-floor");
        }
        return None;
    };
    if kind == FloorKind::ReadOnly && !roots.is_empty() {
        layers.problem("--sandbox-root requires --sandbox-floor workspace-write");
    }
    let default = match roots.is_empty() {
        true => std::env::current_dir().ok(),
        false => None,
    };
    let absolute = |root: PathBuf| std::path::absolute(root).unwrap_or_default();
    let roots: Vec<PathBuf> = roots.into_iter().chain(default).map(absolute).collect();
    if kind == FloorKind::WorkspaceWrite && !roots.iter().all(|root| is_possible_root(root)) {
        layers.problem(
            "--sandbox-floor workspace-write needs a --sandbox-root other than the root directory",
        );
    }
    Some(Floor { kind, roots })
}

/// From the life that every session has, so that nobody can be kept longer, to 30 days.
const KEEP_MAX_SECS: RangeInclusive<u64> = 80..=30 * 24 * 60 * 60;

/// Long enough for most commands of an interactive client, and far below the 30 s after which
/// cluster managers kill.
const DEFAULT_GRACE_PERIOD: Duration = Duration::from_secs(5);

#[cfg(test)]
#[path = "config/tests.rs"]
mod tests;
