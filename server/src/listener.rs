//! The listening socket: accepts connections, speaks TLS and HTTP/1.1 on them, and stops in order.

use std::convert::Infallible;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use axum::body::Body;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio::time::timeout;
use tokio_rustls::TlsAcceptor;
use tokio_util::sync::CancellationToken;

use crate::auth::Access;
use crate::config::{ConfigError, ServeConfig, Storage};
use crate::events::{self, Chain};
use crate::rendezvous::routes::CloseCause;
use crate::rendezvous::url::PublicUrl;
use crate::service::{ConnectionPermit, Service, ServiceParts};
use crate::store::{DirectoryClaim, Store, StoreError};
use crate::tls::{Tls, TlsError};
use crate::{http, limits, maintenance};

/// A server that listens. Connections wait until it [runs](Self::run).
#[derive(Debug)]
pub struct Server {
    listener: TcpListener,
    service: Arc<Service>,
    tls: Option<Arc<Tls>>,
    url: String,
    revocation_interval: Duration,
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
        let (store, claim) = match &config.storage {
            Storage::Memory => (Store::in_memory().await?, None),
            Storage::Directory(directory) => {
                let claim = DirectoryClaim::take(directory)
                    .map_err(|error| StartError::Store(StoreError::Directory(error)))?
                    .ok_or(StartError::DirectoryInUse)?;
                (Store::open(directory).await?, Some(claim))
            }
        };
        let listener =
            TcpListener::bind(config.listen)
                .await
                .map_err(|source| StartError::Bind {
                    address: config.listen,
                    source,
                })?;
        let address = listener.local_addr().map_err(|source| StartError::Bind {
            address: config.listen,
            source,
        })?;
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
        let service = Service::new(ServiceParts {
            store,
            public_url,
            access: config.access,
            behind_proxy: config.behind_proxy,
            clock: config.clock,
            limits: config.limits,
        })
        .await?;
        let revocation_interval = config.revocation_interval;
        events::listening(&url, env!("CARGO_PKG_VERSION"));
        Ok(Self {
            listener,
            service,
            tls,
            url,
            revocation_interval,
            _claim: claim,
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

    /// Serves until `shutdown` is cancelled. Then the server is no longer ready and refuses new
    /// websockets; those that there are are closed with code 1001, spread over at most
    /// [`limits::DRAIN_WINDOW`]; and after at most [`limits::SHUTDOWN_TIMEOUT`] more all is over.
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
            ..
        } = self;
        let maintenance = maintenance::run(Arc::clone(&service), revocation_interval);
        service.tasks.spawn(maintenance);
        {
            let mut accepting = pin!(accept(listener, &service, tls));
            tokio::select! {
                () = &mut accepting => {}
                () = shutdown.cancelled() => {}
                () = force.cancelled() => {}
            }
            events::shutting_down();
            service.draining.cancel();
            // Whoever comes meanwhile is told to come back, which a closed port cannot do.
            tokio::select! {
                () = &mut accepting => {}
                () = service.hub.drain() => {}
                () = force.cancelled() => {}
            }
        }
        service.hub.close_all(CloseCause::ShuttingDown);
        service.stopping.cancel();
        service.tasks.close();
        let complete = tokio::select! {
            ended = timeout(limits::SHUTDOWN_TIMEOUT, service.tasks.wait()) => ended.is_ok(),
            () = force.cancelled() => false,
        };
        service.abort.cancel();
        service.tasks.wait().await;
        service.store.close().await;
        events::stopped(complete);
    }
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
    /// Another server runs on the data directory.
    #[error(
        "another exec-cloud serves from this data directory; stop it, or use another --data-dir"
    )]
    DirectoryInUse,
    /// The storage cannot be used.
    #[error("{}; check --data-dir", Chain(.0))]
    Store(#[from] StoreError),
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
        matches!(self, Self::Config(_) | Self::Tls(_))
    }
}

async fn accept(listener: TcpListener, service: &Arc<Service>, tls: Option<Arc<Tls>>) {
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
    async fn serve(self, stream: TcpStream, tls: Option<TlsAcceptor>) {
        // Relay frames are small and each is waited for. Failing means the peer is gone already.
        let _ = stream.set_nodelay(true);
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
        let stopping = service.stopping.clone();
        let answer = service_fn(move |request: hyper::Request<hyper::body::Incoming>| {
            let service = Arc::clone(&service);
            let mut request = request.map(Body::new);
            request.extensions_mut().insert(permit.clone());
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
            () = stopping.cancelled() => {
                connection.as_mut().graceful_shutdown();
                connection.await
            }
        };
        if let Err(error) = result {
            events::connection_failed(peer, &error);
        }
    }
}

const ACCEPT_PAUSE: Duration = Duration::from_millis(200);
