//! The command line of `exec-cloud`.
//!
//! stdout carries results only: the line that says where the server listens, tokens, lists. Logs and
//! errors go to stderr. An error is one line, `error: what is wrong; what to do`.

use std::ffi::OsString;
use std::fmt;
use std::io::{self, Write as _};
use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use clap::{Args, Parser, Subcommand, ValueEnum};
use relay_proto::ids::EnvironmentId;
use serde_json::json;
use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;
use tracing_subscriber::EnvFilter;
use tracing_subscriber::filter::LevelFilter;

use crate::auth::{Access, Role};
use crate::clock::{Clock as _, SystemClock, Timestamp};
use crate::config::{ConfigError, ServeConfig, Storage, TlsFiles};
use crate::events::{self, Chain};
use crate::listener::{Server, StartError};
use crate::rendezvous::url::PublicUrl;
use crate::store::{
    NewToken, RevokeOutcome, Store, StoreError, TokenId, TokenRecord, database_file,
};

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
    /// Make, list and revoke the tokens of executors and harnesses, also while the server runs
    #[command(subcommand)]
    Token(Token),
}

#[derive(Debug, Args)]
struct Serve {
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

#[derive(Debug, Args)]
struct DataDirectory {
    /// Directory of the database [default: $XDG_DATA_HOME/exec-cloud or ~/.local/share/exec-cloud]
    #[arg(long, value_name = "DIR", env = "EXEC_CLOUD_DATA_DIR")]
    data_dir: Option<PathBuf>,
}

#[derive(Debug, Subcommand)]
enum Token {
    /// Make a token and print it; it cannot be shown again
    Create {
        /// What its bearer may do
        #[arg(long)]
        role: RoleName,
        /// The only environment it is good for [default: all]
        #[arg(long, value_name = "ID")]
        environment: Option<String>,
        /// How long it works, for example 90m, 12h, 30d [default: until revoked]
        #[arg(long, value_name = "TIME", value_parser = parse_duration)]
        ttl: Option<Duration>,
        /// A name for people, shown in the list
        #[arg(long, value_name = "TEXT")]
        label: Option<String>,
        /// Print one JSON object
        #[arg(long)]
        json: bool,
        #[command(flatten)]
        data: DataDirectory,
    },
    /// List all tokens, without their secrets
    List {
        /// Print one JSON object per line
        #[arg(long)]
        json: bool,
        #[command(flatten)]
        data: DataDirectory,
    },
    /// Revoke a token; a running server closes its sockets within seconds
    Revoke {
        /// Id of the token, from `create --json` or `list`
        id: String,
        /// Print one JSON object
        #[arg(long)]
        json: bool,
        #[command(flatten)]
        data: DataDirectory,
    },
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum RoleName {
    /// Registers environments and validates harnesses
    Executor,
    /// Connects to environments
    Harness,
    /// Both
    Admin,
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
            Command::Serve(arguments) => serve(arguments).await,
            Command::Token(command) => token(command).await,
        }
    })
}

async fn serve(arguments: Serve) -> Result<(), Failure> {
    log_to_stderr();
    let server = Server::bind(arguments.into_config()?).await?;
    let mut signals = Signals::new().map_err(|error| Failure::runtime(&error))?;
    print(&format!("listening on {}", server.url()));
    let shutdown = CancellationToken::new();
    let tls = server.tls();
    let mut serving = std::pin::pin!(server.run(shutdown.clone()));
    loop {
        tokio::select! {
            () = &mut serving => return Ok(()),
            signal = signals.next() => match (signal, &tls) {
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

async fn token(command: Token) -> Result<(), Failure> {
    let now = SystemClock.now();
    match command {
        Token::Create {
            role,
            environment,
            ttl,
            label,
            json,
            data,
        } => {
            let new = NewToken {
                role: role.into(),
                environment: environment.map(environment_id).transpose()?,
                label,
                expires_at: ttl.map(|ttl| now.after(ttl)),
            };
            let store = Store::open(&data.resolve()?).await?;
            let created = store.create_token(new, now).await?;
            store.close().await;
            if json {
                let mut object = to_json(&created.record, now);
                if let Some(members) = object.as_object_mut() {
                    members.insert("token".to_owned(), json!(created.text));
                }
                print(&object.to_string());
            } else {
                print(&created.text);
            }
        }
        Token::List { json, data } => {
            let store = data.open_existing().await?;
            let tokens = store.tokens().await?;
            store.close().await;
            for record in &tokens {
                if json {
                    print(&to_json(record, now).to_string());
                } else {
                    print(&to_line(record, now));
                }
            }
        }
        Token::Revoke { id, json, data } => {
            let store = data.open_existing().await?;
            let id = TokenId::from(id);
            let outcome = store.revoke_token(&id, now).await?;
            store.close().await;
            if outcome == RevokeOutcome::Unknown {
                return Err(Failure {
                    code: FAILED,
                    text: "there is no token with this id; see `exec-cloud token list`".to_owned(),
                });
            }
            if json {
                print(&json!({ "id": id.as_str(), "status": "revoked" }).to_string());
            } else {
                print(&format!("revoked {id}"));
            }
        }
    }
    Ok(())
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

impl From<RoleName> for Role {
    fn from(name: RoleName) -> Self {
        match name {
            RoleName::Executor => Self::Executor,
            RoleName::Harness => Self::Harness,
            RoleName::Admin => Self::Admin,
        }
    }
}

fn environment_id(text: String) -> Result<EnvironmentId, Failure> {
    crate::http::environment_id(&text).map_err(|error| {
        Failure::configuration(&ConfigError::new(
            error.to_string(),
            "give another --environment",
        ))
    })
}

fn status(record: &TokenRecord, now: Timestamp) -> &'static str {
    match (record.revoked_at, record.is_valid(now)) {
        (Some(_), _) => "revoked",
        (None, true) => "valid",
        (None, false) => "expired",
    }
}

fn to_json(record: &TokenRecord, now: Timestamp) -> serde_json::Value {
    json!({
        "id": record.id.as_str(),
        "role": record.role.as_str(),
        "environment_id": record.environment.as_ref().map(EnvironmentId::as_str),
        "label": record.label,
        "created_at": record.created_at.as_unix_seconds(),
        "expires_at": record.expires_at.map(Timestamp::as_unix_seconds),
        "revoked_at": record.revoked_at.map(Timestamp::as_unix_seconds),
        "status": status(record, now),
    })
}

fn to_line(record: &TokenRecord, now: Timestamp) -> String {
    let environment = record
        .environment
        .as_ref()
        .map_or("(all)", EnvironmentId::as_str);
    let expiry = record
        .expires_at
        .map_or_else(|| "never".to_owned(), |time| time.to_string());
    let label: String = record
        .label
        .iter()
        .flat_map(|label| label.chars())
        .filter(|character| !character.is_control())
        .collect();
    let (id, role, status) = (&record.id, record.role.as_str(), status(record, now));
    format!("{id}  {role:<8}  {status:<7}  expires {expiry:<20}  {environment}  {label}")
        .trim_end()
        .to_owned()
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

/// Reads `90s`, `15m`, `12h`, `30d`.
fn parse_duration(text: &str) -> Result<Duration, &'static str> {
    const HINT: &str = "expected a number above 0 with s, m, h or d, for example 30d";
    let unit = text.chars().last().ok_or(HINT)?;
    let seconds: u64 = match unit {
        's' => 1,
        'm' => 60,
        'h' => 60 * 60,
        'd' => 24 * 60 * 60,
        _ => return Err(HINT),
    };
    let number = text.strip_suffix(unit).unwrap_or_default();
    if !number.bytes().all(|byte| byte.is_ascii_digit()) {
        return Err(HINT);
    }
    number
        .parse()
        .ok()
        .and_then(|number: u64| number.checked_mul(seconds))
        .filter(|seconds| (1..=MAX_TTL_SECS).contains(seconds))
        .map(Duration::from_secs)
        .ok_or(HINT)
}

fn print(line: &str) {
    // A reader that is gone does not stop a server.
    let mut stdout = io::stdout().lock();
    let _ = writeln!(stdout, "{line}").and_then(|()| stdout.flush());
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

/// A hundred years, so that no expiry overflows.
const MAX_TTL_SECS: u64 = 100 * 365 * 24 * 60 * 60;

#[cfg(test)]
mod tests {
    use clap::CommandFactory as _;

    use super::*;

    #[test]
    fn command_line_is_consistent() {
        Cli::command().debug_assert();
    }

    #[test]
    fn durations_have_a_unit() {
        for (text, seconds) in [("1s", 1), ("15m", 900), ("12h", 43_200), ("30d", 2_592_000)] {
            assert_eq!(
                parse_duration(text),
                Ok(Duration::from_secs(seconds)),
                "{text}"
            );
        }
        for text in [
            "", "d", "30", "0d", "-1d", "+1d", "1.5h", "30D", "1w", "36501d", "é",
        ] {
            assert!(parse_duration(text).is_err(), "{text}");
        }
    }
}
