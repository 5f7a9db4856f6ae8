//! The program: puts the parts together and runs them until they end or a signal comes.

use std::{
    ffi::OsString,
    io::{self, Write as _},
    path::PathBuf,
    pin::pin,
    sync::Arc,
    time::Duration,
};

use anyhow::Context as _;
use ops::{admin::Admin, notify::Notify, state::State};
use registry_client::{
    Connector, ConnectorConfig, ConnectorConfigError, ErrorBodies, RegistryClient,
};
use relay_proto::{Identity, ids::EnvironmentId};
use secrecy::SecretString;
use telemetry::export::Export;
use tokio_util::{sync::CancellationToken, task::AbortOnDropHandle};

use crate::{
    config::{CredentialChoice, ForwardSettings, Mode, RemoteSettings, Settings},
    credential::{self, SourceError},
    environment::ExecutorEnvironment,
    events,
    forward::Forwarder,
    http::{HeaderVariables, HttpClient},
    listener::{self, Keepalive, ListenAddress, Listener, ListenerConfig},
    memory, process, random,
    serve::Serve,
    session::{Sessions, SessionsConfig},
    shutdown::{Signals, Stop},
    status::{self, Overview},
    supervisor::{BACKOFF, Supervisor},
};

/// Why the program ends other than by being told to.
#[derive(Debug)]
pub enum Failure {
    /// What it was told to do cannot be done: exit code 64. One text for each problem.
    Configuration(Vec<String>),
    /// Something went wrong while doing it: exit code 1.
    Runtime(anyhow::Error),
}

impl<E: Into<anyhow::Error>> From<E> for Failure {
    fn from(error: E) -> Self {
        Self::Runtime(error.into())
    }
}

/// Runs until a signal, the end of standard input where that counts, or a failure.
///
/// `secret` is the credential that was in the environment, if any.
///
/// # Errors
///
/// [`Failure`]. In remote mode there is none after the start.
pub async fn run(
    settings: Settings,
    secret: Option<SecretString>,
    export: Option<&mut Export>,
) -> Result<(), Failure> {
    let signals = Signals::register()?;
    if let Err(error) = process::raise_descriptor_limit() {
        events::descriptor_limit_kept(&error);
    }
    process::forbid_memory_image()?;
    let stop = Stop::default();
    let cancel = stop.now.clone();
    let grace = settings.grace_period;
    let sessions = sessions(&settings)?;
    let state = Arc::new(State::new(status::STARTING));
    let admin = settings.admin_listen.map(Admin::bind).transpose();
    let admin = admin.context("failed to open the admin listener")?;
    let overview = Arc::new(Overview::new(Arc::clone(&state), Arc::clone(&sessions)));
    if let Some(export) = export {
        let overview = Arc::clone(&overview);
        export.numbers(move || ops::admin::numbers(&*overview));
    }
    let _showing = admin.map(|admin| {
        events::admin_listening(admin.address());
        AbortOnDropHandle::new(tokio::spawn(admin.run(overview)))
    });
    let notify = Notify::new(|name| std::env::var_os(name));
    let _settling = AbortOnDropHandle::new(tokio::spawn(memory::settle()));
    let serve = async {
        let ended = match settings.mode {
            Mode::Remote(remote) => {
                serve_remote(*remote, secret, &sessions, &stop, (&state, &notify)).await
            }
            Mode::Listen {
                address: ListenAddress::Stdio,
                ..
            } => {
                notify.ready();
                state.enter(status::LISTENING);
                listener::serve_stdio(Arc::clone(&sessions), cancel.clone()).await;
                Ok(())
            }
            Mode::Listen {
                address: ListenAddress::WebSocket(address),
                auth,
            } => {
                let config = ListenerConfig {
                    address,
                    auth,
                    keepalive: Keepalive::default(),
                };
                serve_listener(config, &sessions, &cancel, (&state, &notify)).await
            }
        };
        cancel.cancel();
        ended
    };
    let drain = async {
        tokio::select! {
            () = stop.gracefully.cancelled() => {}
            () = cancel.cancelled() => return,
        }
        notify.stopping();
        let drained = async {
            sessions.drain(grace).await;
            // Everything delivers what is left, and ends by itself.
            tokio::time::sleep(FINISH_TIMEOUT).await;
        };
        tokio::select! {
            () = drained => cancel.cancel(),
            () = cancel.cancelled() => {}
        }
    };
    // Processes that are left are killed at once, while the peers are still being told.
    let end = async {
        cancel.cancelled().await;
        let _ = tokio::time::timeout(SHUTDOWN_TIMEOUT, sessions.shutdown()).await;
    };
    let work = async {
        tokio::select! {
            ended = async { tokio::join!(serve, drain, end).0 } => ended,
            never = notify.keep_alive() => match never {},
        }
    };
    // Without an outcome a third signal has cut it short.
    signals.guard(&stop, work).await.unwrap_or(Ok(()))
}

/// What exports go through: as for the registry, the proxies of the environment and the authorities.
///
/// # Errors
///
/// As for the registry.
pub fn export_client(settings: &Settings) -> Result<reqwest::Client, ConnectorConfigError> {
    let ca_file = match &settings.mode {
        Mode::Remote(remote) => remote.ca_file.clone(),
        Mode::Listen { .. } => None,
    };
    let connector = Connector::new(ConnectorConfig {
        ca_file,
        ..ConnectorConfig::default()
    })?;
    Ok(connector.http().clone())
}

fn sessions(settings: &Settings) -> Result<Arc<Sessions>, Failure> {
    let environment = ExecutorEnvironment::capture()?;
    let environment = match settings.tcp {
        true => environment,
        false => environment.without_tcp(),
    }
    .inheriting(settings.inherit_env.clone())
    .withholding(settings.withhold_env.clone())
    .with_floor(settings.floor.clone());
    let environment = match &settings.mode {
        Mode::Listen {
            address: ListenAddress::WebSocket(_),
            auth: None,
        } => environment.with_open_listener(),
        _ => environment,
    };
    let environment = Arc::new(environment);
    let variables = Arc::clone(&environment);
    let http = HttpClient::new(
        ConnectorConfig::default(),
        HeaderVariables::new(
            move |name| variables.variable(name).map(ToOwned::to_owned),
            settings.http_header_env.iter().cloned(),
        ),
    );
    let mut config = SessionsConfig::new(environment, Arc::new(http));
    if let Some(count) = settings.concurrent_requests {
        config.concurrent_requests = count.get();
    }
    if let Some(longest) = settings.keep_max {
        config.detached_ttl_max = longest;
    }
    config.limits.clone_from(&settings.limits);
    config.names_directory = names_directory(|name| std::env::var_os(name));
    let output = &settings.output;
    config.output_bytes = output.bytes.unwrap_or(config.output_bytes);
    config.closed_retention = output.retention.unwrap_or(config.closed_retention);
    config.output_disk_bytes = output.disk_bytes.unwrap_or(config.output_disk_bytes);
    if let Some(directory) = &output.directory {
        config.output_directory.clone_from(directory);
    }
    Ok(Sessions::new(config)?)
}

/// Where state of the executor's user is kept: what systemd says, else what is usual. Not a directory
/// for temporary files, which commands may write.
fn names_directory(variable: impl Fn(&str) -> Option<OsString>) -> Option<PathBuf> {
    let variable = |name: &str| variable(name).map(PathBuf::from);
    let usual = || variable("HOME").map(|home| home.join(".local/state"));
    let own = variable("STATE_DIRECTORY").or_else(|| {
        let all = variable("XDG_STATE_HOME").or_else(usual);
        all.map(|all| all.join("exec-server"))
    });
    own.filter(|own| own.is_absolute())
        .map(|own| own.join("names"))
}

async fn serve_listener(
    config: ListenerConfig,
    sessions: &Arc<Sessions>,
    cancel: &CancellationToken,
    (state, notify): (&State, &Notify),
) -> Result<(), Failure> {
    let listener = Listener::bind(config).await?;
    announce(&listener.url())?;
    state.enter(status::LISTENING);
    notify.ready();
    listener.run(Arc::clone(sessions), cancel.clone()).await;
    Ok(())
}

/// Prints the one line of standard output, for whoever started the program.
fn announce(url: &str) -> io::Result<()> {
    let mut stdout = io::stdout().lock();
    writeln!(stdout, "{url}")?;
    stdout.flush()
}

async fn serve_remote(
    settings: RemoteSettings,
    secret: Option<SecretString>,
    sessions: &Arc<Sessions>,
    stop: &Stop,
    (state, notify): (&Arc<State>, &Notify),
) -> Result<(), Failure> {
    let connector = Connector::new(ConnectorConfig {
        ca_file: settings.ca_file.clone(),
        ..ConnectorConfig::default()
    })
    .map_err(|error| configuration(&error))?;
    let source = tokio::select! {
        // In this order: a source that has ended the program has something to say.
        biased;
        source = credential::open(
            &settings.credential,
            secret,
            &settings.environment,
            &stop.gracefully,
        ) => source,
        () = stop.gracefully.cancelled() => return Ok(()),
    };
    let source = source.map_err(|error| match error {
        SourceError::Stdin(_) | SourceError::Rotation(_) => Failure::Runtime(error.into()),
        error => configuration(&error),
    })?;
    if settings.exit_on_stdin_close {
        end_with_stdin(stop.gracefully.clone())?;
    }
    let error_bodies = match settings.credential {
        // A registry could echo it, and whoever hands it over this way wants it nowhere else.
        CredentialChoice::Stdin | CredentialChoice::Rotating => ErrorBodies::Omitted,
        _ => ErrorBodies::Shown,
    };
    events::starting_remote(
        &settings.environment,
        settings.name.as_deref(),
        &settings.base_url.host(),
    );
    let registry = RegistryClient::new(connector.clone(), settings.base_url, source.credentials())
        .with_error_bodies(error_bodies);
    let attached = Attached {
        registry,
        environment: settings.environment,
        identity: Arc::new(random::identity()?),
        state,
    };
    match settings.forward {
        None => {
            // It does what it can from here on; whether the registry can be reached is for
            // `/readyz` to say.
            notify.ready();
            let sessions = Arc::clone(sessions);
            attached.serve(sessions, stop.now.clone()).await;
        }
        Some(settings) => {
            let forwarder = forwarder(connector, settings, sessions.finishing()).await?;
            notify.ready();
            forward(&attached, Arc::new(forwarder), stop).await;
        }
    }
    source.failure().map_or(Ok(()), |error| Err(error.into()))
}

/// What stays the same over all attachments to the environment.
struct Attached<'a> {
    registry: RegistryClient,
    environment: EnvironmentId,
    identity: Arc<Identity>,
    state: &'a Arc<State>,
}

impl Attached<'_> {
    /// Stays attached until `cancel`, or until what is served has come to its end.
    async fn serve<S: Serve>(&self, served: Arc<S>, cancel: CancellationToken) {
        Supervisor::new(
            self.registry.clone(),
            self.environment.clone(),
            Arc::clone(&self.identity),
            served,
            BACKOFF,
            random::seed(),
        )
        .showing(Arc::clone(self.state))
        .run(cancel)
        .await;
    }
}

/// Is attached while the destination can be reached, and only then.
async fn forward(attached: &Attached<'_>, forwarder: Arc<Forwarder>, stop: &Stop) {
    while !stop.now.is_cancelled() {
        attached
            .state
            .enter_because(status::WAITING, "forward destination".to_owned(), None);
        tokio::select! {
            () = forwarder.reached() => {}
            () = stop.gracefully.cancelled() => return,
            () = stop.now.cancelled() => return,
        }
        let cancel = stop.now.child_token();
        let mut serving = pin!(attached.serve(Arc::clone(&forwarder), cancel.clone()));
        tokio::select! {
            () = &mut serving => return,
            () = forwarder.lost() => {
                cancel.cancel();
                serving.await;
            }
        }
    }
}

async fn forwarder(
    connector: Connector,
    settings: ForwardSettings,
    finishing: CancellationToken,
) -> Result<Forwarder, Failure> {
    let credential = match settings.token_file {
        None => None,
        Some(path) => {
            let choice = CredentialChoice::TokenFile(path);
            let source = credential::lasting(&choice, None).await;
            Some(source.map_err(|error| configuration(&error))?)
        }
    };
    let destination = settings.destination;
    Ok(Forwarder::new(
        connector,
        destination,
        credential,
        finishing,
    ))
}

fn configuration(error: &(dyn std::error::Error + 'static)) -> Failure {
    Failure::Configuration(vec![events::Chain(error).to_string()])
}

/// Reads and discards standard input, and cancels `stop` at its end.
///
/// A thread of its own: it may block for the life of the process, and ends with it.
fn end_with_stdin(stop: CancellationToken) -> io::Result<()> {
    std::thread::Builder::new()
        .name("stdin".to_owned())
        .spawn(move || {
            let _ = io::copy(&mut io::stdin().lock(), &mut io::sink());
            events::stopping("standard input closed");
            stop.cancel();
        })?;
    Ok(())
}

/// How long answers and output may take to reach the peers after everything has ended: as long as
/// a stream waits for its acknowledgements, and a little more.
const FINISH_TIMEOUT: Duration = Duration::from_secs(7);
/// How long killed processes may take to be gone, which is the kernel's time.
const SHUTDOWN_TIMEOUT: Duration = Duration::from_secs(5);
