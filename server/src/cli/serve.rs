//! `exec-cloud serve`: from arguments to a configuration, signals, logging.

use std::io::{self, Write as _};
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::pin::pin;

use clap::Args;
use ops::notify::Notify;
use rustix::process::{Resource, getrlimit, setrlimit};
use settings::{Layers, LocalAddress, Period};
use telemetry::export::Export;
use telemetry::logging::{LogFormat, Logging};
use telemetry::plan::{Found, Plan};
use tokio::signal::unix::{SignalKind, signal};
use tokio::time::{MissedTickBehavior, interval};
use tokio_util::sync::CancellationToken;

use super::oidc::OidcOptions;
use super::schema::{self, DataDirectory, PROGRAM};
use super::{Failure, default_data_directory, print};
use crate::auth::Access;
use crate::config::{ConfigError, DrainConfig, ServeConfig, Storage, TlsFiles};
use crate::events;
use crate::limits;
use crate::listener::{Server, StartError};
use crate::oidc::Oidc;
use crate::rendezvous::url::PublicUrl;
use crate::tls::{Tls, TlsError};

#[derive(Debug, Args)]
pub(super) struct Serve {
    #[command(flatten)]
    options: Options,
    /// Check the configuration and exit
    #[arg(long)]
    check_config: bool,
    /// Show the settings in force, and the source of each, and exit
    #[arg(long)]
    print_config: bool,
}

/// Flags, and after [`schema::merge`] what is in force of all sources.
#[derive(Debug, Args)]
pub(super) struct Options {
    /// Address to listen on; port 0 picks one
    #[arg(long, value_name = "IP:PORT")]
    pub(super) listen: Option<SocketAddr>,
    #[command(flatten)]
    pub(super) data: DataDirectory,
    /// Base URL under which clients reach the server, the listening address if not given
    #[arg(long, value_name = "URL")]
    pub(super) public_url: Option<String>,
    /// PEM file with the certificate chain; read again when it changes
    #[arg(long, value_name = "FILE")]
    pub(super) tls_cert: Option<PathBuf>,
    /// PEM file with the private key; read again when it changes
    #[arg(long, value_name = "FILE")]
    pub(super) tls_key: Option<PathBuf>,
    /// Take any bearer token; on loopback only; keeps nothing unless --data-dir is given
    #[arg(long)]
    pub(super) dev: bool,
    /// A proxy in front does TLS and sets X-Forwarded-For: allow plain HTTP on any address
    #[arg(long)]
    pub(super) behind_proxy: bool,
    #[command(flatten)]
    pub(super) oidc: OidcOptions,
    /// Take the place of a server that runs on the same data directory, if there is one: it gives away
    /// its listening socket, drains and ends, and nobody finds the port closed
    #[arg(long)]
    pub(super) take_over: bool,
    /// Where operators find /livez, /readyz, /metrics and /status: a port of 127.0.0.1, or IP:PORT
    #[arg(long, value_name = "[IP:]PORT")]
    pub(super) admin_listen: Option<LocalAddress>,
    /// What log lines look like; RUST_LOG says which there are
    #[arg(long, value_name = "FORMAT")]
    pub(super) log_format: Option<LogFormat>,
    /// Base URL of an OpenTelemetry collector (OTLP over HTTP) for spans and metrics; the standard
    /// variables OTEL_* count if it is not given
    #[arg(long, value_name = "URL")]
    pub(super) otlp_endpoint: Option<String>,
    /// How long draining may take, upon SIGTERM or `exec-cloud drain`, before what is left is cut off
    #[arg(long, value_name = "DURATION")]
    pub(super) drain_timeout: Option<Period>,
    /// How long to be not ready before peers are sent away, so that a load balancer notices
    #[arg(long, value_name = "DURATION")]
    pub(super) drain_delay: Option<Period>,
    /// When peers that are sent away are told to come back
    #[arg(long, value_name = "DURATION")]
    pub(super) retry_after: Option<Period>,
}

/// Serves until a signal says to stop.
pub(super) async fn run(arguments: Serve) -> Result<(), Failure> {
    let lookup = schema::lookup();
    let (config, report) = load(arguments.options, &lookup);
    let (config, telling) = config.map_err(|problems| schema::refused(&problems))?;
    if arguments.print_config {
        return super::printed(io::stdout().lock().write_all(report.as_bytes()));
    }
    if arguments.check_config {
        return Ok(());
    }
    let mut export = export(telling.export.plan)?;
    Logging {
        variable: "RUST_LOG",
        default: "info",
        format: telling.format,
        targets: true,
    }
    .start(export.as_ref().and_then(Export::layer));
    for warning in &telling.export.warnings {
        events::export_differs(warning);
    }
    take_descriptors();
    let server = Server::bind(config).await?;
    let mut signals = Signals::new().map_err(|error| Failure::runtime(&error))?;
    print(&format!("listening on {}", server.url()));
    if let Some(address) = server.admin_address() {
        events::admin_listening(address);
    }
    if let Some(export) = &mut export {
        export.numbers(server.numbers());
    }
    let notify = Notify::new(|name| std::env::var_os(name));
    notify.ready();
    let draining = server.draining();
    let mut told = false;
    let mut keep_alive = pin!(notify.keep_alive());
    let shutdown = CancellationToken::new();
    let tls = server.tls();
    let mut looked_at = interval(limits::TLS_INTERVAL);
    looked_at.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let force = CancellationToken::new();
    let mut serving = pin!(server.run_until(shutdown.clone(), force.clone()));
    loop {
        tokio::select! {
            () = &mut serving => break,
            never = &mut keep_alive => match never {},
            () = draining.cancelled(), if !told => {
                told = true;
                notify.stopping();
            }
            _ = looked_at.tick(), if tls.is_some() => {
                if let Some(tls) = tls.clone() {
                    // Files may be on a disk that is slow.
                    let found = tokio::task::spawn_blocking(move || tls.refresh()).await;
                    told_of(found.ok().flatten());
                }
            }
            signal = signals.next() => match (signal, &tls) {
                (Signal::Stop, _) if shutdown.is_cancelled() => force.cancel(),
                (Signal::Stop, _) => shutdown.cancel(),
                (Signal::Reload, Some(tls)) => told_of(Some(tls.reload())),
                (Signal::Reload, None) => {}
            },
        }
    }
    if let Some(export) = export {
        // It blocks, for a short time. There is nobody left to tell that it went wrong.
        let _ = tokio::task::spawn_blocking(move || export.finish()).await;
    }
    Ok(())
}

/// Begins to export, if that is wanted: through the proxies of the environment.
fn export(plan: Option<Plan>) -> Result<Option<Export>, Failure> {
    let (name, version) = (PROGRAM.name, env!("CARGO_PKG_VERSION"));
    let runtime = tokio::runtime::Handle::current();
    #[cfg(feature = "otlp")]
    let client = || {
        let config = registry_client::ConnectorConfig::default();
        registry_client::Connector::new(config).map(|connector| connector.http().clone())
    };
    #[cfg(not(feature = "otlp"))]
    let client = || Err::<(), _>("nothing is exported");
    Export::start(name, version, plan, client, &runtime)
        .map_err(|problem| schema::refused(&[problem]))
}

/// What the server tells about itself.
#[derive(Debug)]
struct Telling {
    format: LogFormat,
    export: Found,
}

/// Raises the soft limit on open files to the hard one: each socket needs one, and no other program,
/// which might not cope with high numbers, is started from here.
fn take_descriptors() {
    let mut limit = getrlimit(Resource::Nofile);
    limit.current = limit.maximum;
    // With the limit as it was there is room for fewer.
    let _ = setrlimit(Resource::Nofile, limit);
}

fn told_of(reloaded: Option<Result<(), TlsError>>) {
    match reloaded {
        None => {}
        Some(Ok(())) => events::tls_reloaded(Ok(())),
        Some(Err(error)) => events::tls_reloaded(Err(&error)),
    }
}

/// What is in force of all sources, or all that is wrong; and where each setting is from.
fn load(
    mut options: Options,
    environment: &dyn Fn(&str) -> Option<String>,
) -> (Result<(ServeConfig, Telling), Vec<String>>, String) {
    let file = options.data.config.take();
    let mut layers = Layers::open(&PROGRAM, environment, file.as_deref(), None);
    schema::merge(&mut options, &mut layers);
    let report = layers.report();
    let export = Plan::find(options.otlp_endpoint.as_deref(), environment);
    let export = Found::or_problem(export, &mut layers);
    let format = options.log_format.unwrap_or_default();
    let config = options.into_config(&mut layers);
    if let Err(found) = config.check() {
        for problem in found {
            layers.problem(problem.to_string());
        }
    }
    if let Some(files) = config.tls.clone()
        && let Err(error) = Tls::load(files)
    {
        layers.problem(StartError::Tls(error).to_string());
    }
    if let Some(oidc) = config.oidc.clone()
        && let Err(error) = Oidc::new(oidc)
    {
        layers.problem(StartError::Oidc(error).to_string());
    }
    let problems = layers.take_problems();
    match problems.is_empty() {
        true => (Ok((config, Telling { format, export })), report),
        false => (Err(problems), report),
    }
}

impl Options {
    /// What the options mean together. What cannot be used is left out and added to the problems.
    fn into_config(self, layers: &mut Layers<'_>) -> ServeConfig {
        let mut problem = |error: ConfigError| layers.problem(error.to_string());
        let storage = match (self.data.data_dir, self.dev) {
            (Some(directory), _) => Storage::Directory(directory),
            (None, true) => Storage::Memory,
            (None, false) => match default_data_directory() {
                Ok(directory) => Storage::Directory(directory),
                Err(error) => {
                    problem(error);
                    Storage::Memory
                }
            },
        };
        let public_url = self.public_url.and_then(|text| {
            PublicUrl::parse(&text)
                .map_err(|error| {
                    problem(ConfigError::new(
                        format!("--public-url cannot be used: {error}"),
                        "give a base URL such as https://exec.example.com",
                    ));
                })
                .ok()
        });
        let tls = match (self.tls_cert, self.tls_key) {
            (Some(certificates), Some(key)) => Some(TlsFiles { certificates, key }),
            (None, None) => None,
            _ => {
                problem(ConfigError::new(
                    "--tls-cert and --tls-key go together".to_owned(),
                    "give both or neither",
                ));
                None
            }
        };
        let oidc = self.oidc.into_config(&mut problem);
        let default = DrainConfig::default();
        let period = |given: Option<Period>, or| given.map_or(or, Period::get);
        let listen = self.listen.unwrap_or(DEFAULT_LISTEN);
        ServeConfig {
            public_url,
            access: if self.dev {
                Access::Anyone
            } else {
                Access::Tokens
            },
            oidc,
            tls,
            behind_proxy: self.behind_proxy,
            take_over: self.take_over,
            admin: self.admin_listen.map(|address| address.0),
            drain: DrainConfig {
                delay: period(self.drain_delay, default.delay),
                retry_after: period(self.retry_after, default.retry_after),
                timeout: period(self.drain_timeout, default.timeout),
            },
            ..ServeConfig::new(listen, storage)
        }
    }
}

enum Signal {
    Stop,
    Reload,
}

struct Signals {
    terminate: tokio::signal::unix::Signal,
    interrupt: tokio::signal::unix::Signal,
    hangup: tokio::signal::unix::Signal,
}

impl Signals {
    fn new() -> io::Result<Self> {
        Ok(Self {
            terminate: signal(SignalKind::terminate())?,
            interrupt: signal(SignalKind::interrupt())?,
            hangup: signal(SignalKind::hangup())?,
        })
    }

    async fn next(&mut self) -> Signal {
        tokio::select! {
            _ = self.terminate.recv() => Signal::Stop,
            _ = self.interrupt.recv() => Signal::Stop,
            _ = self.hangup.recv() => Signal::Reload,
        }
    }
}

const DEFAULT_LISTEN: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 7700);

#[cfg(test)]
#[path = "serve/tests.rs"]
mod tests;
