//! `exec-cloud serve`: from arguments to a configuration, signals, logging.

use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::pin::pin;
use std::time::Duration;

use clap::Args;
use ops::notify::Notify;
use rustix::process::{Resource, getrlimit, setrlimit};
use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;
use tracing_subscriber::EnvFilter;
use tracing_subscriber::filter::LevelFilter;

use super::{DataDirectory, Failure, default_data_directory, parse_period, print};
use crate::auth::Access;
use crate::config::{ConfigError, DrainConfig, ServeConfig, Storage, TlsFiles};
use crate::events;
use crate::listener::Server;
use crate::rendezvous::url::PublicUrl;

#[derive(Debug, Args)]
pub(super) struct Serve {
    /// Address to listen on; port 0 picks one
    #[arg(
        long,
        value_name = "IP:PORT",
        default_value = "127.0.0.1:7700",
        env = "EXEC_CLOUD_LISTEN"
    )]
    listen: SocketAddr,
    #[command(flatten)]
    data: DataDirectory,
    /// Base URL under which clients reach the server [default: the listening address]
    #[arg(long, value_name = "URL", env = "EXEC_CLOUD_PUBLIC_URL")]
    public_url: Option<String>,
    /// PEM file with the certificate chain
    #[arg(
        long,
        value_name = "FILE",
        requires = "tls_key",
        env = "EXEC_CLOUD_TLS_CERT"
    )]
    tls_cert: Option<PathBuf>,
    /// PEM file with the private key
    #[arg(
        long,
        value_name = "FILE",
        requires = "tls_cert",
        env = "EXEC_CLOUD_TLS_KEY"
    )]
    tls_key: Option<PathBuf>,
    /// Take any bearer token; on loopback only; keeps nothing unless --data-dir is given
    #[arg(long)]
    dev: bool,
    /// A proxy in front does TLS and sets X-Forwarded-For: allow plain HTTP on any address
    #[arg(long)]
    behind_proxy: bool,
    /// Take the place of a server that runs on the same data directory, if there is one: it gives away
    /// its listening socket, drains and ends, and nobody finds the port closed
    #[arg(long)]
    take_over: bool,
    /// Where operators find /livez, /readyz, /metrics and /status: a port of 127.0.0.1, or IP:PORT
    #[arg(
        long,
        value_name = "[IP:]PORT",
        value_parser = ops::admin::parse_address,
        env = "EXEC_CLOUD_ADMIN_LISTEN"
    )]
    admin_listen: Option<SocketAddr>,
    /// How long draining may take, upon SIGTERM or `exec-cloud drain`, before what is left is cut off
    #[arg(
        long,
        value_name = "DURATION",
        default_value = "10s",
        value_parser = parse_period,
        env = "EXEC_CLOUD_DRAIN_TIMEOUT"
    )]
    drain_timeout: Duration,
    /// How long to be not ready before peers are sent away, so that a load balancer notices
    #[arg(
        long,
        value_name = "DURATION",
        default_value = "0s",
        value_parser = parse_period,
        env = "EXEC_CLOUD_DRAIN_DELAY"
    )]
    drain_delay: Duration,
    /// When peers that are sent away are told to come back
    #[arg(
        long,
        value_name = "DURATION",
        default_value = "500ms",
        value_parser = parse_period,
        env = "EXEC_CLOUD_RETRY_AFTER"
    )]
    retry_after: Duration,
}

/// Serves until a signal says to stop.
pub(super) async fn run(arguments: Serve) -> Result<(), Failure> {
    log_to_stderr();
    take_descriptors();
    let server = Server::bind(arguments.into_config()?).await?;
    let mut signals = Signals::new().map_err(|error| Failure::runtime(&error))?;
    print(&format!("listening on {}", server.url()));
    if let Some(address) = server.admin_address() {
        events::admin_listening(address);
    }
    let notify = Notify::new(|name| std::env::var_os(name));
    notify.ready();
    let draining = server.draining();
    let mut told = false;
    let mut keep_alive = pin!(notify.keep_alive());
    let shutdown = CancellationToken::new();
    let tls = server.tls();
    let force = CancellationToken::new();
    let mut serving = pin!(server.run_until(shutdown.clone(), force.clone()));
    loop {
        tokio::select! {
            () = &mut serving => return Ok(()),
            never = &mut keep_alive => match never {},
            () = draining.cancelled(), if !told => {
                told = true;
                notify.stopping();
            }
            signal = signals.next() => match (signal, &tls) {
                (Signal::Stop, _) if shutdown.is_cancelled() => force.cancel(),
                (Signal::Stop, _) => shutdown.cancel(),
                (Signal::Reload, Some(tls)) => match tls.reload() {
                    Ok(()) => events::tls_reloaded(Ok(())),
                    Err(error) => events::tls_reloaded(Err(&error)),
                },
                (Signal::Reload, None) => {}
            },
        }
    }
}

/// Raises the soft limit on open files to the hard one: each socket needs one, and no other program,
/// which might not cope with high numbers, is started from here.
fn take_descriptors() {
    let mut limit = getrlimit(Resource::Nofile);
    limit.current = limit.maximum;
    // With the limit as it was there is room for fewer.
    let _ = setrlimit(Resource::Nofile, limit);
}

impl Serve {
    fn into_config(self) -> Result<ServeConfig, Failure> {
        let storage = match (self.data.data_dir, self.dev) {
            (Some(directory), _) => Storage::Directory(directory),
            (None, true) => Storage::Memory,
            (None, false) => Storage::Directory(default_data_directory()?),
        };
        let public_url = self
            .public_url
            .map(|text| PublicUrl::parse(&text))
            .transpose();
        let public_url = public_url.map_err(|problem| {
            Failure::configuration(&ConfigError::new(
                format!("--public-url cannot be used: {problem}"),
                "give a base URL such as https://exec.example.com",
            ))
        })?;
        Ok(ServeConfig {
            public_url,
            access: if self.dev {
                Access::Anyone
            } else {
                Access::Tokens
            },
            tls: self
                .tls_cert
                .zip(self.tls_key)
                .map(|(certificates, key)| TlsFiles { certificates, key }),
            behind_proxy: self.behind_proxy,
            take_over: self.take_over,
            admin: self.admin_listen,
            drain: DrainConfig {
                delay: self.drain_delay,
                retry_after: self.retry_after,
                timeout: self.drain_timeout,
            },
            ..ServeConfig::new(self.listen, storage)
        })
    }
}

/// Logs to stderr, at `info` unless `RUST_LOG` says otherwise.
fn log_to_stderr() {
    let mut filter = EnvFilter::builder()
        .with_default_directive(LevelFilter::INFO.into())
        .from_env_lossy();
    // Below these levels the libraries log requests and frames as they are, signed URLs included.
    for quiet in [
        "hyper=info",
        "hyper_util=info",
        "axum=info",
        "tungstenite=info",
        "sqlx=warn",
    ] {
        if let Ok(directive) = quiet.parse() {
            filter = filter.add_directive(directive);
        }
    }
    // A second subscriber in one process is a test's business.
    let _ = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(io::stderr)
        .with_ansi(io::IsTerminal::is_terminal(&io::stderr()))
        .try_init();
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
