//! The listeners of one process, and the connections that they take.
//!
//! ```text
//! on the host                     in the sandbox's network namespace
//!   bind 127.0.0.1:0                first process binds fixed ports, hands the listeners out
//!        \                         /
//!         Gateway::run: accept, at most MAX_CONNECTIONS, one task each
//! ```
//!
//! A gateway is a future with everything in it: dropping it closes the listeners and ends every
//! connection. It is polled beside the pump of its process and ends with that.

use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use exec_proto::RpcError;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio::task::JoinSet;

use super::decide::Decider;
use super::notice::Notices;
use super::plan::{self, Plan};
use super::questions::Questions;
use super::resolve::{Names, Resolver, System};
use super::{http, socks, variables};
use crate::environment::Variables;
use crate::session::Attachment;

/// The way out of one process.
pub(crate) struct Gateway {
    listeners: Vec<(TcpListener, Service)>,
}

/// What a listener does with connections.
#[derive(Clone)]
enum Service {
    Http(Arc<Decider>),
    Socks(Arc<Decider>),
    /// Carries them to that port of the host's loopback.
    Port(u16),
}

/// A way out whose listeners are still to be made inside a sandbox.
pub(crate) struct Routes {
    services: Vec<(u16, Service)>,
}

/// Where the listeners of a gateway are.
pub(crate) enum Opening {
    /// Already there, on the host.
    Host(Gateway),
    /// To be made inside the sandbox.
    Sandbox(Routes),
}

/// What questions and notices of a process need.
pub(crate) struct Surroundings {
    pub(crate) questions: Arc<Questions>,
    pub(crate) attachment: Arc<Attachment>,
}

impl Plan {
    /// Prepares the way out, and tells the command by its variables. Looks at files and ports.
    ///
    /// # Errors
    ///
    /// If the variables name no proxy that the command could be confined to (-32602), or no port can
    /// be had (-32603).
    pub(crate) async fn open(
        self,
        variables: &mut Variables,
        surroundings: Surroundings,
    ) -> Result<Opening, RpcError> {
        self.open_with(variables, surroundings, Arc::new(System))
            .await
    }

    pub(super) async fn open_with(
        mut self,
        variables: &mut Variables,
        surroundings: Surroundings,
        names: Arc<dyn Names>,
    ) -> Result<Opening, RpcError> {
        let isolated = self.isolation().is_some();
        let Some(proxy) = self.proxy.take() else {
            let ports = self.foreign_ports(variables)?;
            let services = ports.into_iter().map(|port| (port, Service::Port(port)));
            return Ok(Opening::Sandbox(Routes {
                services: services.collect(),
            }));
        };
        let plan::Proxy {
            mut policy,
            socks,
            process_id,
        } = proxy;
        let settled = tokio::task::spawn_blocking(move || {
            policy.settle_sockets();
            policy
        });
        let policy = settled
            .await
            .map_err(|_| RpcError::internal("the network policy was not evaluated"))?;
        let local = policy.local;
        let decider = Arc::new(Decider {
            policy,
            questions: surroundings.questions,
            notices: Notices::new(surroundings.attachment, process_id.clone()),
            process_id,
            resolver: Resolver::new(names),
            isolated,
        });
        let mut services = vec![(HTTP_PORT, Service::Http(Arc::clone(&decider)))];
        if socks {
            services.push((SOCKS_PORT, Service::Socks(decider)));
        }
        if isolated {
            variables::set(variables, HTTP_PORT, socks.then_some(SOCKS_PORT), local);
            return Ok(Opening::Sandbox(Routes { services }));
        }
        let opened = async {
            let (mut listeners, mut ports) = (Vec::new(), Vec::new());
            for (_, service) in services {
                let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await?;
                ports.push(listener.local_addr()?.port());
                listeners.push((listener, service));
            }
            io::Result::Ok((listeners, ports))
        };
        let (listeners, ports) = opened
            .await
            .map_err(|err| RpcError::internal(format!("failed to start network proxy: {err}")))?;
        if let [http, socks @ ..] = ports.as_slice() {
            variables::set(variables, *http, socks.first().copied(), local);
        }
        Ok(Opening::Host(Gateway { listeners }))
    }
}

impl Routes {
    /// The loopback ports that are needed inside.
    pub(crate) fn ports(&self) -> Vec<u16> {
        self.services.iter().map(|(port, _)| *port).collect()
    }

    /// Serves on listeners for [`Self::ports`], in their order.
    ///
    /// # Errors
    ///
    /// If there are not as many, or they cannot be watched.
    pub(crate) fn with(self, listeners: Vec<std::net::TcpListener>) -> io::Result<Gateway> {
        if listeners.len() != self.services.len() {
            return Err(io::Error::other("the sandbox made too few listeners"));
        }
        let services = self.services.into_iter().map(|(_, service)| service);
        let listeners = listeners.into_iter().zip(services);
        let watched = listeners.map(|(listener, service)| {
            listener.set_nonblocking(true)?;
            Ok((TcpListener::from_std(listener)?, service))
        });
        Ok(Gateway {
            listeners: watched.collect::<io::Result<_>>()?,
        })
    }
}

impl Gateway {
    /// Serves until dropped.
    pub(crate) async fn run(self) -> std::convert::Infallible {
        let room = Arc::new(Semaphore::new(MAX_CONNECTIONS));
        let mut listening = JoinSet::new();
        for (listener, service) in self.listeners {
            listening.spawn(accept(listener, service, Arc::clone(&room)));
        }
        // They do not end.
        while listening.join_next().await.is_some() {}
        std::future::pending().await
    }
}

/// Takes connections, as long as there is room; others wait in the kernel.
async fn accept(listener: TcpListener, service: Service, room: Arc<Semaphore>) {
    let mut connections = JoinSet::new();
    loop {
        while connections.try_join_next().is_some() {}
        let Ok(permit) = Arc::clone(&room).acquire_owned().await else {
            return;
        };
        let (stream, client) = match listener.accept().await {
            Ok(accepted) => accepted,
            Err(err) => {
                tracing::debug!(error = %err, "network proxy cannot take a connection");
                // No descriptors are left, for example. Those in use have to end first.
                tokio::time::sleep(PAUSE).await;
                continue;
            }
        };
        let service = service.clone();
        connections.spawn(async move {
            let _permit = permit;
            let _ = stream.set_nodelay(true);
            match service {
                Service::Http(decider) => http::serve(decider, stream, Some(client)).await,
                Service::Socks(decider) => socks::serve(decider, stream, Some(client)).await,
                Service::Port(port) => carry(stream, port).await,
            }
        });
    }
}

async fn carry(near: TcpStream, port: u16) {
    if let Ok(far) = TcpStream::connect(SocketAddr::from((Ipv4Addr::LOCALHOST, port))).await {
        let _ = far.set_nodelay(true);
        join(near, far).await;
    }
}

/// Carries bytes both ways until both ends have closed. Each direction ends by itself, and waits for
/// the slower side.
pub(super) async fn join(
    mut near: impl AsyncRead + AsyncWrite + Unpin,
    mut far: impl AsyncRead + AsyncWrite + Unpin,
) {
    // A broken connection is seen by both ends as such.
    let _ = tokio::io::copy_bidirectional_with_sizes(&mut near, &mut far, BUFFER, BUFFER).await;
}

/// Where the proxies listen inside a sandbox. Nothing else is there, and the kernel gives no program
/// these ports of its own accord.
const HTTP_PORT: u16 = 61_128;
const SOCKS_PORT: u16 = 61_080;

/// Connections of one process at the same time. Browsers use up to six for each host.
const MAX_CONNECTIONS: usize = 256;

/// For each direction of a connection.
const BUFFER: usize = 16 << 10;

/// After a connection that could not be taken.
const PAUSE: Duration = Duration::from_millis(50);
