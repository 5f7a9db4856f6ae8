//! `exec-cloud serve`: from arguments to a configuration, signals, logging.

use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::pin::pin;

use clap::Args;
use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;
use tracing_subscriber::EnvFilter;
use tracing_subscriber::filter::LevelFilter;

use super::{DataDirectory, Failure, default_data_directory, print};
use crate::auth::Access;
use crate::config::{ConfigError, ServeConfig, Storage, TlsFiles};
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
}

/// Serves until a signal says to stop.
pub(super) async fn run(arguments: Serve) -> Result<(), Failure> {
    log_to_stderr();
    let server = Server::bind(arguments.into_config()?).await?;
    let mut signals = Signals::new().map_err(|error| Failure::runtime(&error))?;
    print(&format!("listening on {}", server.url()));
    let shutdown = CancellationToken::new();
    let tls = server.tls();
    let force = CancellationToken::new();
    let mut serving = pin!(server.run_until(shutdown.clone(), force.clone()));
    loop {
        tokio::select! {
            () = &mut serving => return Ok(()),
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
