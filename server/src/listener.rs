//! The listening socket: accepts connections, speaks TLS and HTTP/1.1 on them, and stops in order.

use std::convert::Infallible;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::os::fd::AsFd as _;
use std::path::Path;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use axum::body::Body;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use ops::admin::Admin;
use ops::state::State;
#[cfg(target_os = "linux")]
use socket2::SockRef;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio::time::{Instant, timeout, timeout_at};
use tokio_rustls::TlsAcceptor;
use tokio_util::sync::CancellationToken;
use tokio_util::task::AbortOnDropHandle;

use crate::auth::Access;
use crate::clock::Clock;
use crate::config::{ConfigError, DrainConfig, ServeConfig, Storage};
use crate::control::{Commander, Control, Heritage};
use crate::events::{self, Chain};
use crate::limits::RendezvousLimits;
use crate::oidc::{Oidc, SourceConfigError};
use crate::overview::{DRAINING, Overview, SERVING};
use crate::rendezvous::url::PublicUrl;
use crate::service::{ConnectionPermit, Service, ServiceParts};
use crate::store::{DirectoryClaim, Store, StoreError};
use crate::tls::{Tls, TlsError};
use crate::{http, limits, maintenance};

/// Where connections come from.
pub trait Listen: Send + 'static {
    /// One of them.
    type Io: AsyncRead + AsyncWrite + Unpin + Send + 'static;

    /// Waits for the next connection, and says who it is from.
    ///
    /// Dropping the future loses no connection.
    fn accept(&mut self) -> impl Future<Output = io::Result<(Self::Io, SocketAddr)>> + Send;
}

impl Listen for TcpListener {
    type Io = TcpStream;

    async fn accept(&mut self) -> io::Result<(TcpStream, SocketAddr)> {
        let (stream, peer) = Self::accept(self).await?;
        // Failing means the peer is gone already.
        let _ = set_options(&stream);
        Ok((stream, peer))
    }
}

/// A server that listens. Connections wait until it [runs](Self::run).
#[derive(Debug)]
pub struct Server<L = TcpListener> {
    listener: L,
    service: Arc<Service>,
    tls: Option<Arc<Tls>>,
    url: String,
    revocation_interval: Duration,
    drain: DrainConfig,
    control: Option<Control>,
    admin: Option<Admin>,
    _claim: Option<DirectoryClaim>,
}

impl Server {
    /// Checks the configuration, opens the storage and listens.
    ///
    /// # Errors
    ///
    /// [`StartError`]; nothing is bound unless everything else is in order.
    pub async fn bind(config: ServeConfig) -> Result<Self, StartError> {
        config.check().map_err(StartError::Config)?;
        let tls = config
            .tls
            .map(Tls::load)
            .transpose()
            .map_err(StartError::Tls)?
            .map(Arc::new);
        let oidc = config
            .oidc
            .map(Oidc::new)
            .transpose()
            .map_err(StartError::Oidc)?;
        let (store, claim, inherited) = match &config.storage {
            Storage::Memory => (Store::in_memory().await?, None, None),
            Storage::Directory(directory) => {
                let (claim, inherited) = claim(directory, config.take_over)?;
                (Store::open(directory).await?, Some(claim), inherited)
            }
        };
        let bind_error = |source| StartError::Bind {
            address: config.listen,
            source,
        };
        let listener = match inherited {
            Some(listener) => listener,
            None => TcpListener::bind(config.listen).await.map_err(bind_error)?,
        };
        let address = listener.local_addr().map_err(bind_error)?;
        let url = format!(
            "{}://{address}",
            if tls.is_some() { "https" } else { "http" }
        );
        let public_url = match config.public_url {
            Some(public_url) => public_url,
            None => PublicUrl::parse(&url).map_err(|problem| {
                StartError::Config(vec![ConfigError::new(
                    format!("the listening address makes no URL: {problem}"),
                    "give --public-url",
                )])
            })?,
        };
        if config.access == Access::Anyone {
            events::development_mode();
        }
        let control = match (&config.storage, &claim) {
            (Storage::Directory(directory), Some(claim)) => {
                let control = control(directory, config.drain, &listener, claim);
                Some(control.map_err(StartError::Control)?)
            }
            _ => None,
        };
        let admin = match config.admin {
            None => None,
            Some(address) => {
                Some(Admin::bind(address).map_err(|source| StartError::Admin { address, source })?)
            }
        };
        let service = Service::new(ServiceParts {
            store,
            public_url,
            access: config.access,
            oidc,
            behind_proxy: config.behind_proxy,
            clock: config.clock,
            limits: config.limits,
        })
        .await?;
        events::listening(&url, env!("CARGO_PKG_VERSION"));
        Ok(Self {
            listener,
            service,
            tls,
            url,
            revocation_interval: config.revocation_interval,
            drain: config.drain,
            control,
            admin,
            _claim: claim,
        })
    }
}

impl<L: Listen> Server<L> {
    /// Serves what comes from `listener`, plain HTTP, with a store that the caller has opened.
    ///
    /// # Errors
    ///
    /// [`StartError`].
    pub async fn over(
        listener: L,
        store: Store,
        public_url: PublicUrl,
        clock: Arc<dyn Clock>,
    ) -> Result<Self, StartError> {
        let url = public_url.to_string();
        let service = Service::new(ServiceParts {
            store,
            public_url,
            access: Access::Tokens,
            oidc: None,
            behind_proxy: false,
            clock,
            limits: RendezvousLimits::default(),
        })
        .await?;
        Ok(Self {
            listener,
            service,
            tls: None,
            url,
            revocation_interval: limits::REVOCATION_INTERVAL,
            drain: DrainConfig::default(),
            control: None,
            admin: None,
            _claim: None,
        })
    }

    /// The base URL that the server listens on, with the real port: `http://127.0.0.1:7700`.
    pub fn url(&self) -> &str {
        &self.url
    }

    /// The storage, to make tokens in.
    pub fn store(&self) -> &Store {
        &self.service.store
    }

    /// Where the admin listener is, if there is one, with the real port.
    pub fn admin_address(&self) -> Option<SocketAddr> {
        self.admin.as_ref().map(Admin::address)
    }

    /// What `/metrics` would show, at any time from now on.
    pub fn numbers(&self) -> impl Fn() -> String + Send + Sync + 'static {
        let overview = Overview {
            service: Arc::clone(&self.service),
            state: Arc::new(State::new(SERVING)),
        };
        move || ops::admin::numbers(&overview)
    }

    /// Cancelled when the server starts to drain, for whatever reason.
    pub fn draining(&self) -> CancellationToken {
        self.service.draining.clone()
    }

    /// The certificates, to have them read again.
    pub(crate) fn tls(&self) -> Option<Arc<Tls>> {
        self.tls.clone()
    }

    /// Serves until `shutdown` is cancelled, then [stops in order](Self::run_until).
    ///
    /// # Cancel safety
    ///
    /// Dropping the future leaves open connections to run to their own end; cancel `shutdown`.
    pub async fn run(self, shutdown: CancellationToken) {
        self.run_until(shutdown, CancellationToken::new()).await;
    }

    /// Serves until `shutdown` is cancelled, or a command at the control socket says so, then drains:
    ///
    /// 1. The server is no longer ready. It refuses new websockets and registrations, unless another
    ///    server has taken over, which then gets them. Handshakes are still validated.
    /// 2. After a delay its websockets are closed with code 1001 and the time after which to come back,
    ///    environment by environment, within at most [`limits::DRAIN_WINDOW`].
    /// 3. When everybody has gone, or time is up, it ends.
    ///
    /// `force` cuts that short.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future leaves open connections to run to their own end; cancel the tokens.
    pub async fn run_until(self, shutdown: CancellationToken, force: CancellationToken) {
        let Self {
            listener,
            service,
            tls,
            revocation_interval,
            drain: configured,
            control,
            admin,
            _claim,
            ..
        } = self;
        let maintenance = maintenance::run(Arc::clone(&service), revocation_interval);
        service.tasks.spawn(maintenance);
        if let Some(oidc) = service.oidc.clone() {
            let draining = service.draining.clone();
            service.tasks.spawn(async move {
                draining.run_until_cancelled(oidc.run()).await;
            });
        }
        let commands = control.as_ref().map(Control::state);
        let mut control = pin!(async {
            match control {
                Some(control) => control.run().await,
                None => std::future::pending().await,
            }
        });
        let state = Arc::new(State::new(SERVING));
        let overview = Arc::new(Overview {
            service: Arc::clone(&service),
            state: Arc::clone(&state),
        });
        let mut showing =
            admin.map(|admin| AbortOnDropHandle::new(tokio::spawn(admin.run(overview))));
        let ordered = async {
            match &commands {
                Some(commands) => commands.ordered().await,
                None => std::future::pending().await,
            }
        };
        let close_port = CancellationToken::new();
        let serve = async {
            let mut accepting = pin!(async {
                close_port
                    .run_until_cancelled(accept(listener, &service, tls))
                    .await;
                std::future::pending::<()>().await;
            });
            let drain = tokio::select! {
                () = &mut accepting => configured,
                () = shutdown.cancelled() => configured,
                drain = ordered => drain,
                () = force.cancelled() => configured,
            };
            if commands
                .as_ref()
                .is_some_and(|commands| commands.is_handed_over())
            {
                // Whoever comes gets to the successor from now on.
                close_port.cancel();
                showing = None;
                events::handed_over();
            }
            state.enter(DRAINING);
            events::shutting_down();
            service.start_draining(drain.retry_after);
            let send_away = async {
                tokio::time::sleep(drain.delay).await;
                service.hub.drain(drain.window(), drain.retry_after).await;
            };
            let started = Instant::now();
            // Whoever comes meanwhile is told to come back, which a closed port cannot do.
            tokio::select! {
                () = &mut accepting => {}
                () = send_away => {}
                () = force.cancelled() => {}
            }
            (drain, started + drain.delay + drain.timeout)
        };
        let (drain, deadline) = tokio::select! {
            served = serve => served,
            never = &mut control => match never {},
        };
        if let Some(commands) = &commands {
            commands.forget_heritage();
        }
        service.hub.send_all_away(drain.retry_after);
        service.stopping.cancel();
        service.tasks.close();
        let complete = tokio::select! {
            ended = timeout_at(deadline, service.tasks.wait()) => ended.is_ok(),
            () = force.cancelled() => false,
            never = &mut control => match never {},
        };
        drop(showing);
        service.abort.cancel();
        service.tasks.wait().await;
        service.store.close().await;
        events::stopped(complete);
        if let Some(commands) = &commands {
            let told = async {
                tokio::select! {
                    () = commands.stopped(complete) => {}
                    never = &mut control => match never {},
                }
            };
            // Whoever waits is on this machine.
            let _ = timeout(LAST_WORD, told).await;
        }
    }
}

/// Claims the data directory, or has the server that holds it hand it over, with its socket.
fn claim(
    directory: &Path,
    take_over: bool,
) -> Result<(DirectoryClaim, Option<TcpListener>), StartError> {
    let unusable = |error| StartError::Store(StoreError::Directory(error));
    if take_over
        && let Some(commander) = Commander::connect(directory).map_err(StartError::TakeOver)?
    {
        let heritage = commander.take_over().map_err(StartError::TakeOver)?;
        let heritage = heritage.ok_or(StartError::DirectoryInUse)?;
        let listener = std::net::TcpListener::from(heritage.listener);
        listener
            .set_nonblocking(true)
            .map_err(StartError::TakeOver)?;
        let listener = TcpListener::from_std(listener).map_err(StartError::TakeOver)?;
        events::taken_over();
        return Ok((DirectoryClaim::inherited(heritage.claim), Some(listener)));
    }
    let claim = DirectoryClaim::take(directory)
        .map_err(unusable)?
        .ok_or(StartError::DirectoryInUse)?;
    Ok((claim, None))
}

/// Opens the control socket, with what a successor would get.
fn control(
    directory: &Path,
    drain: DrainConfig,
    listener: &TcpListener,
    claim: &DirectoryClaim,
) -> io::Result<Control> {
    let heritage = Heritage {
        listener: listener.as_fd().try_clone_to_owned()?,
        claim: claim.share()?,
    };
    Control::bind(directory, drain, heritage)
}

/// Why a server did not start.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StartError {
    /// The configuration is wrong.
    #[error("{}", .0.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n"))]
    Config(Vec<ConfigError>),
    /// The certificates cannot be used.
    #[error("{}; check --tls-cert and --tls-key", Chain(.0))]
    Tls(TlsError),
    /// The keys of the identity provider can be had nowhere.
    #[error("{}", Chain(.0))]
    Oidc(SourceConfigError),
    /// Another server runs on the data directory.
    #[error(
        "another exec-cloud serves from this data directory; stop it, or use another --data-dir"
    )]
    DirectoryInUse,
    /// The storage cannot be used.
    #[error("{}; check --data-dir", Chain(.0))]
    Store(#[from] StoreError),
    /// The control socket cannot be opened.
    #[error("cannot open the control socket: {0}; check --data-dir")]
    Control(#[source] io::Error),
    /// The running server did not hand over.
    #[error(
        "cannot take over from the running server: {0}; drain it, then start without --take-over"
    )]
    TakeOver(#[source] io::Error),
    /// The admin listener cannot be opened.
    #[error(
        "cannot listen on {address} for operators: {source}; use another --admin-listen address"
    )]
    Admin {
        /// The address.
        address: SocketAddr,
        /// Why.
        source: io::Error,
    },
    /// The address cannot be bound.
    #[error("cannot listen on {address}: {source}; use another --listen address")]
    Bind {
        /// The address.
        address: SocketAddr,
        /// Why.
        source: io::Error,
    },
}

impl StartError {
    /// Whether the configuration is at fault, and not the state of the machine.
    pub fn is_configuration(&self) -> bool {
        matches!(self, Self::Config(_) | Self::Tls(_) | Self::Oidc(_))
    }
}

async fn accept(mut listener: impl Listen, service: &Arc<Service>, tls: Option<Arc<Tls>>) {
    let permits = Arc::new(Semaphore::new(limits::CONNECTIONS));
    loop {
        // The semaphore is never closed.
        let Ok(permit) = Arc::clone(&permits).acquire_owned().await else {
            return;
        };
        match listener.accept().await {
            Ok((stream, address)) => {
                let connection = Connection {
                    service: Arc::clone(service),
                    peer: address.ip(),
                    permit: ConnectionPermit(Arc::new(permit)),
                };
                let tls = tls.as_ref().map(|tls| TlsAcceptor::from(tls.config()));
                let abort = service.abort.clone();
                service
                    .tasks
                    .spawn(abort.run_until_cancelled_owned(connection.serve(stream, tls)));
            }
            Err(error) => {
                events::accept_failed(&error);
                // Out of descriptors, most likely: trying again at once would only burn time.
                tokio::time::sleep(ACCEPT_PAUSE).await;
            }
        }
    }
}

/// One accepted connection.
struct Connection {
    service: Arc<Service>,
    peer: IpAddr,
    permit: ConnectionPermit,
}

impl Connection {
    async fn serve(
        self,
        stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static,
        tls: Option<TlsAcceptor>,
    ) {
        match tls {
            None => self.serve_http(stream).await,
            Some(acceptor) => {
                match timeout(limits::TLS_HANDSHAKE_TIMEOUT, acceptor.accept(stream)).await {
                    Ok(Ok(stream)) => self.serve_http(stream).await,
                    Ok(Err(error)) => events::connection_failed(self.peer, &error),
                    Err(error) => events::connection_failed(self.peer, &error),
                }
            }
        }
    }

    async fn serve_http(self, stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static) {
        let Self {
            service,
            peer,
            permit,
        } = self;
        // A connection of the time before must not be kept for later requests, which this server may no
        // longer answer; one that comes now gets its answer.
        let stopping = match service.is_draining() {
            false => service.draining.clone(),
            true => service.stopping.clone(),
        };
        let asked = CancellationToken::new();
        let first_request = asked.clone();
        let leave = async {
            stopping.cancelled().await;
            // A client that has just connected is about to ask, and may have been promised an answer.
            let _ = timeout(limits::FIRST_REQUEST, asked.cancelled()).await;
        };
        let answer = service_fn(move |request: hyper::Request<hyper::body::Incoming>| {
            let service = Arc::clone(&service);
            let mut request = request.map(Body::new);
            request.extensions_mut().insert(permit.clone());
            first_request.cancel();
            async move { Ok::<_, Infallible>(http::handle(service, peer, request).await) }
        });
        let connection = http1::Builder::new()
            .timer(TokioTimer::new())
            .header_read_timeout(limits::HEAD_TIMEOUT)
            .max_buf_size(limits::HEAD_BYTES)
            .serve_connection(TokioIo::new(stream), answer)
            .with_upgrades();
        let mut connection = pin!(connection);
        let result = tokio::select! {
            result = connection.as_mut() => result,
            () = leave => {
                connection.as_mut().graceful_shutdown();
                connection.await
            }
        };
        if let Err(error) = result {
            events::connection_failed(peer, &error);
        }
    }
}

/// Relay frames are small and each is waited for.
fn set_options(stream: &TcpStream) -> io::Result<()> {
    stream.set_nodelay(true)?;
    #[cfg(target_os = "linux")]
    SockRef::from(stream).set_tcp_notsent_lowat(limits::TCP_NOTSENT_LOWAT_BYTES)?;
    Ok(())
}

const ACCEPT_PAUSE: Duration = Duration::from_millis(200);
/// How long the answer to a command that waits may take.
const LAST_WORD: Duration = Duration::from_secs(1);

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn little_waits_in_the_system() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let (_near, accepted) = tokio::join!(TcpStream::connect(address), listener.accept());
        let (stream, _) = accepted.unwrap();
        set_options(&stream).unwrap();
        assert!(stream.nodelay().unwrap());
        #[cfg(target_os = "linux")]
        assert_eq!(
            SockRef::from(&stream).tcp_notsent_lowat().unwrap(),
            limits::TCP_NOTSENT_LOWAT_BYTES
        );
    }
}
