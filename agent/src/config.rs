//! What the executor was told to do, checked.
//!
//! Precedence: flag, environment, file, default. Everything is checked before anything is bound or
//! dialed, and all problems are reported at once. Not responsible for reading credentials, beyond
//! which source is to be used.

mod file;
mod period;

use std::{
    fmt, net::SocketAddr, num::NonZeroUsize, ops::RangeInclusive, path::PathBuf, time::Duration,
};

use clap::ValueEnum as _;
use registry_client::{RegistryUrl, RegistryUrlError};
use relay_proto::ids::EnvironmentId;

use file::FileConfig;
pub use period::{Period, PeriodError};

use crate::{
    cli::Cli,
    listener::{AuthOptions, ListenAddress, WebSocketAuth},
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
}

/// Where the registry token comes from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum CredentialChoice {
    /// A file, read again for each call.
    TokenFile(PathBuf),
    /// The first line of standard input.
    Stdin,
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

impl Settings {
    /// Resolves the settings from the command line, the environment and the file it names.
    ///
    /// `environment` looks up a variable; a blank one counts as absent.
    ///
    /// # Errors
    ///
    /// [`ConfigError`] with all problems found.
    pub fn resolve(
        cli: Cli,
        environment: impl Fn(&str) -> Option<String>,
        has_secret: bool,
    ) -> Result<Self, ConfigError> {
        let environment = |name: &str| environment(name).filter(|value| !value.trim().is_empty());
        let mut problems = Vec::new();
        let file = match &cli.config {
            Some(path) => file::load(path, &mut problems),
            None => FileConfig::default(),
        };

        let concurrent_requests = cli.concurrent_requests.or(file.concurrent_requests);
        let http_header_env = match &file.http_header_env {
            Some(names) if cli.http_header_env.is_empty() => names.clone(),
            _ => cli.http_header_env.clone(),
        };
        let floor = floor(&cli, &file, &mut problems);
        let tcp = !(cli.no_tcp || file.no_tcp.unwrap_or(false) || floor.is_some());
        let inherit_env = match &file.inherit_env {
            Some(names) if cli.inherit_env.is_empty() => names.clone(),
            _ => cli.inherit_env.clone(),
        };
        let withhold_env = match &file.withhold_env {
            Some(names) if cli.withhold_env.is_empty() => names.clone(),
            _ => cli.withhold_env.clone(),
        };
        let keep_max = cli.keep_max_secs.or(file.keep_max_secs);
        if keep_max.is_some_and(|secs| !KEEP_MAX_SECS.contains(&secs)) {
            problems.push(format!(
                "--keep-max-secs must be between {} and {}",
                KEEP_MAX_SECS.start(),
                KEEP_MAX_SECS.end()
            ));
        }
        let output = output(&cli, &file, &mut problems);
        let grace_period = grace_period(&cli, &environment, &file, &mut problems);
        let admin_listen = admin_listen(&cli, &environment, &file, &mut problems);
        let mode = if is_remote(&cli, &environment, &file) {
            remote(cli, environment, file, has_secret, &mut problems)
                .map(|remote| Mode::Remote(Box::new(remote)))
        } else {
            listen(cli, environment, file, &mut problems)
        };
        match mode {
            Some(mode) if problems.is_empty() => Ok(Self {
                mode,
                concurrent_requests,
                http_header_env,
                tcp,
                inherit_env,
                withhold_env,
                floor,
                keep_max: keep_max.map(Duration::from_secs),
                output,
                grace_period,
                admin_listen,
            }),
            _ => Err(ConfigError(problems)),
        }
    }
}

fn output(cli: &Cli, file: &FileConfig, problems: &mut Vec<String>) -> OutputSettings {
    let mut within = |name: &str, value: Option<u64>, range: RangeInclusive<u64>| {
        if value.is_some_and(|value| !range.contains(&value)) {
            let (least, most) = (range.start(), range.end());
            problems.push(format!("--{name} must be between {least} and {most}"));
        }
        value
    };
    let bytes = within(
        "output-retention-bytes",
        cli.output_retention_bytes.or(file.output_retention_bytes),
        OUTPUT_BYTES_MIN as u64..=OUTPUT_BYTES_MAX as u64,
    );
    let secs = within(
        "output-retention-secs",
        cli.output_retention_secs.or(file.output_retention_secs),
        KEEP_MAX_SECS,
    );
    let disk_bytes = within(
        "output-disk-bytes",
        cli.output_disk_bytes.or(file.output_disk_bytes),
        OUTPUT_BYTES_MIN as u64..=1 << 40,
    );
    let directory = cli
        .output_directory
        .clone()
        .or_else(|| file.output_directory.clone());
    if directory.as_deref().is_some_and(|path| !path.is_dir()) {
        problems.push("--output-directory is no directory".to_owned());
    }
    OutputSettings {
        bytes: bytes.and_then(|bytes| usize::try_from(bytes).ok()),
        retention: secs.map(Duration::from_secs),
        disk_bytes,
        directory,
    }
}

fn grace_period(
    cli: &Cli,
    environment: &dyn Fn(&str) -> Option<String>,
    file: &FileConfig,
    problems: &mut Vec<String>,
) -> Duration {
    let from_environment = environment(GRACE_PERIOD).and_then(|text| match text.parse() {
        Ok(period) => Some(period),
        Err(error) => {
            problems.push(format!("{GRACE_PERIOD} cannot be used: {error}"));
            None
        }
    });
    cli.grace_period
        .or(from_environment)
        .or(file.grace_period)
        .map_or(DEFAULT_GRACE_PERIOD, Period::get)
}

fn admin_listen(
    cli: &Cli,
    environment: &dyn Fn(&str) -> Option<String>,
    file: &FileConfig,
    problems: &mut Vec<String>,
) -> Option<SocketAddr> {
    let mut parse = |name: &str, text: &str| match ops::admin::parse_address(text) {
        Ok(address) => Some(address),
        Err(error) => {
            problems.push(format!("{name} cannot be used: {error}"));
            None
        }
    };
    let from_environment = environment(ADMIN_LISTEN).and_then(|text| parse(ADMIN_LISTEN, &text));
    let from_file = file
        .admin_listen
        .as_deref()
        .and_then(|text| parse("configuration key `admin_listen`", text));
    cli.admin_listen.or(from_environment).or(from_file)
}

/// The sandbox that no request gets out of.
fn floor(cli: &Cli, file: &FileConfig, problems: &mut Vec<String>) -> Option<Floor> {
    let kind = cli.sandbox_floor.or_else(|| {
        let text = file.sandbox_floor.as_ref()?;
        let kind = FloorKind::from_str(text, false);
        if kind.is_err() {
            problems.push(
                "configuration key `sandbox_floor` must be `read-only` or `workspace-write`"
                    .to_owned(),
            );
        }
        kind.ok()
    });
    let roots = match &file.sandbox_roots {
        Some(roots) if cli.sandbox_root.is_empty() => roots.clone(),
        _ => cli.sandbox_root.clone(),
    };
    let Some(kind) = kind else {
        if !roots.is_empty() {
            problems.push("--sandbox-root requires --sandbox-floor".to_owned());
        }
        return None;
    };
    if kind == FloorKind::ReadOnly && !roots.is_empty() {
        problems.push("--sandbox-root requires --sandbox-floor workspace-write".to_owned());
    }
    let default = match roots.is_empty() {
        true => std::env::current_dir().ok(),
        false => None,
    };
    let absolute = |root: PathBuf| std::path::absolute(root).unwrap_or_default();
    let roots: Vec<PathBuf> = roots.into_iter().chain(default).map(absolute).collect();
    if kind == FloorKind::WorkspaceWrite && !roots.iter().all(|root| is_possible_root(root)) {
        problems.push(
            "--sandbox-floor workspace-write needs a --sandbox-root other than the root directory"
                .to_owned(),
        );
    }
    Some(Floor { kind, roots })
}

/// The most specific source that names a mode decides.
fn is_remote(cli: &Cli, environment: &dyn Fn(&str) -> Option<String>, file: &FileConfig) -> bool {
    if cli.remote.is_some() || cli.cloud {
        return true;
    }
    if cli.listen.is_some() {
        return false;
    }
    environment(REMOTE_URL).is_some() || (file.remote.is_some() && file.listen.is_none())
}

fn remote(
    cli: Cli,
    environment: impl Fn(&str) -> Option<String>,
    file: FileConfig,
    has_secret: bool,
    problems: &mut Vec<String>,
) -> Option<RemoteSettings> {
    let allow_insecure_http = cli.allow_insecure_http || file.allow_insecure_http.unwrap_or(false);
    let base_url = match cli
        .remote
        .or_else(|| environment(REMOTE_URL))
        .or(file.remote)
    {
        None => {
            problems.push(format!(
                "the registry URL is missing; give --remote URL or set {REMOTE_URL}"
            ));
            None
        }
        Some(url) => base_url(&url, allow_insecure_http)
            .map_err(|problem| problems.push(problem))
            .ok(),
    };
    let id = match cli
        .environment_id
        .or_else(|| environment(ENVIRONMENT_ID))
        .or(file.environment_id)
    {
        None => {
            problems.push(format!(
                "the environment id is missing; give --environment-id ID or set {ENVIRONMENT_ID}"
            ));
            None
        }
        Some(id) => EnvironmentId::new(id)
            .map_err(|error| problems.push(format!("--environment-id cannot be used: {error}")))
            .ok(),
    };
    let exit_on_stdin_close = cli.exit_on_stdin_close
        || match environment(EXIT_ON_STDIN_CLOSE).as_deref().map(str::trim) {
            None => file.exit_on_stdin_close.unwrap_or(false),
            Some("true") => true,
            Some("false") => false,
            Some(_) => {
                problems.push(format!("{EXIT_ON_STDIN_CLOSE} must be `true` or `false`"));
                false
            }
        };
    let credential = if cli.registration_bearer_stdin {
        Some(CredentialChoice::Stdin)
    } else if let Some(path) = cli.token_file {
        Some(CredentialChoice::TokenFile(path))
    } else if has_secret {
        Some(CredentialChoice::Environment)
    } else if let Some(path) = file.token_file {
        Some(CredentialChoice::TokenFile(path))
    } else {
        problems.push(
            "no registry credential; give --token-file PATH or --registration-bearer-stdin, \
             or set EXEC_SERVER_TOKEN or CODEX_API_KEY"
                .to_owned(),
        );
        None
    };
    let auth = AuthOptions {
        mode: cli.ws_auth,
        token_file: cli.ws_token_file,
        token_sha256: cli.ws_token_sha256,
        shared_secret_file: cli.ws_shared_secret_file,
        issuer: cli.ws_issuer,
        audience: cli.ws_audience,
        max_clock_skew_secs: cli.ws_max_clock_skew_seconds,
    };
    if !auth.is_empty() {
        problems
            .push("websocket auth flags require a listener; remove them or --remote".to_owned());
    }
    Some(RemoteSettings {
        base_url: base_url?,
        environment: id?,
        name: cli
            .name
            .or(file.name)
            .filter(|name| !name.trim().is_empty()),
        credential: credential?,
        ca_file: cli.ca_file.or(file.ca_file),
        exit_on_stdin_close,
    })
}

/// Checks where the credential would go: `https` anywhere, plain `http` to a loopback host only,
/// because the token and the executor's key would otherwise travel unprotected.
fn base_url(text: &str, allow_insecure_http: bool) -> Result<RegistryUrl, String> {
    let checked = RegistryUrl::parse(text).and_then(|url| {
        if !allow_insecure_http {
            url.require_protection()?;
        }
        Ok(url)
    });
    checked.map_err(|error| match error {
        RegistryUrlError::Unprotected => {
            format!("{error}; use https, or --allow-insecure-http on a network you trust")
        }
        error => format!("{error}; expected https://HOST[:PORT][/PATH]"),
    })
}

fn listen(
    cli: Cli,
    environment: impl Fn(&str) -> Option<String>,
    file: FileConfig,
    problems: &mut Vec<String>,
) -> Option<Mode> {
    for (given, flag) in [
        (cli.environment_id.is_some(), "--environment-id"),
        (cli.name.is_some(), "--name"),
        (cli.registration_bearer_stdin, "--registration-bearer-stdin"),
        (cli.token_file.is_some(), "--token-file"),
        (cli.ca_file.is_some(), "--ca-file"),
        (cli.allow_insecure_http, "--allow-insecure-http"),
        (cli.exit_on_stdin_close, "--exit-on-stdin-close"),
        (
            environment(EXIT_ON_STDIN_CLOSE).is_some_and(|value| value.trim() != "false"),
            EXIT_ON_STDIN_CLOSE,
        ),
    ] {
        if given {
            problems.push(format!("{flag} requires --remote"));
        }
    }
    let address = match cli.listen.or(file.listen) {
        None => Some(ListenAddress::default()),
        Some(text) => text
            .parse::<ListenAddress>()
            .map_err(|error| problems.push(error.to_string()))
            .ok(),
    };
    let options = AuthOptions {
        mode: cli.ws_auth.or(file.ws_auth),
        token_file: cli.ws_token_file.or(file.ws_token_file),
        token_sha256: cli.ws_token_sha256.or(file.ws_token_sha256),
        shared_secret_file: cli.ws_shared_secret_file.or(file.ws_shared_secret_file),
        issuer: cli.ws_issuer.or(file.ws_issuer),
        audience: cli.ws_audience.or(file.ws_audience),
        max_clock_skew_secs: cli
            .ws_max_clock_skew_seconds
            .or(file.ws_max_clock_skew_seconds),
    };
    let address = address?;
    if address == ListenAddress::Stdio && !options.is_empty() {
        problems.push("WebSocket auth requires a WebSocket listener, not stdio".to_owned());
        return None;
    }
    let auth = match options.resolve() {
        Ok(auth) => auth,
        Err(found) => {
            problems.extend(found);
            return None;
        }
    };
    if auth.is_none()
        && let ListenAddress::WebSocket(socket) = address
        && address.is_exposed()
    {
        problems.push(crate::listener::ListenError::Exposed(socket).to_string());
    }
    Some(Mode::Listen { address, auth })
}

/// From the life that every session has, so that nobody can be kept longer, to 30 days.
const KEEP_MAX_SECS: RangeInclusive<u64> = 80..=30 * 24 * 60 * 60;
const REMOTE_URL: &str = "EXEC_SERVER_REMOTE_URL";
const ENVIRONMENT_ID: &str = "EXEC_SERVER_ENVIRONMENT_ID";
const EXIT_ON_STDIN_CLOSE: &str = "EXEC_SERVER_EXIT_ON_STDIN_CLOSE";
const ADMIN_LISTEN: &str = "EXEC_SERVER_ADMIN_LISTEN";
const GRACE_PERIOD: &str = "EXEC_SERVER_GRACE_PERIOD";

/// Long enough for most commands of an interactive client, and far below the 30 s after which
/// cluster managers kill.
const DEFAULT_GRACE_PERIOD: Duration = Duration::from_secs(5);

#[cfg(test)]
#[path = "config/tests.rs"]
mod tests;
