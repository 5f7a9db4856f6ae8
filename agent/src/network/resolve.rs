//! From a name to addresses, and from addresses to a connection.

use std::io;
use std::net::{IpAddr, SocketAddr, ToSocketAddrs as _};
use std::sync::Arc;
use std::time::Duration;

use tokio::net::TcpStream;
use tokio::sync::Semaphore;

/// Where names are looked up.
pub(super) trait Names: Send + Sync + 'static {
    /// The addresses of a name. May block.
    fn lookup(&self, name: &str) -> io::Result<Vec<IpAddr>>;
}

/// The executor's own name service.
#[derive(Debug)]
pub(super) struct System;

impl Names for System {
    fn lookup(&self, name: &str) -> io::Result<Vec<IpAddr>> {
        let addresses = (name, 0).to_socket_addrs()?;
        Ok(addresses.map(|address| address.ip()).collect())
    }
}

/// Looks names up for one process, in bounded time and on a bounded number of threads.
pub(super) struct Resolver {
    names: Arc<dyn Names>,
    /// One permit for each lookup, which occupies a thread even after it was given up.
    lookups: Arc<Semaphore>,
}

impl Resolver {
    pub(super) fn new(names: Arc<dyn Names>) -> Self {
        Self {
            names,
            lookups: Arc::new(Semaphore::new(MAX_LOOKUPS)),
        }
    }

    /// The addresses of a name, in canonical form; `None` if there are none within the time.
    pub(super) async fn lookup(&self, name: &str) -> Option<Vec<IpAddr>> {
        let (names, name) = (Arc::clone(&self.names), name.to_owned());
        let lookup = async {
            let permit = Arc::clone(&self.lookups).acquire_owned().await;
            let lookup = tokio::task::spawn_blocking(move || {
                let _permit = permit;
                names.lookup(&name)
            });
            lookup.await.map_err(io::Error::other)?
        };
        let found = tokio::time::timeout(LOOKUP_TIME, lookup).await.ok()?.ok()?;
        let canonical: Vec<_> = found.iter().map(IpAddr::to_canonical).collect();
        (!canonical.is_empty()).then_some(canonical)
    }
}

/// Tries addresses one after another; the last failure counts.
pub(super) async fn connect(addresses: &[SocketAddr]) -> io::Result<TcpStream> {
    let mut failure = io::Error::new(io::ErrorKind::NotFound, "the host has no address");
    for address in addresses.iter().take(MAX_TRIED) {
        match tokio::time::timeout(CONNECT_TIME, TcpStream::connect(address)).await {
            Ok(Ok(stream)) => {
                // Small messages must not wait for each other; without it they are only slower.
                let _ = stream.set_nodelay(true);
                return Ok(stream);
            }
            Ok(Err(err)) => failure = err,
            Err(_) => failure = io::ErrorKind::TimedOut.into(),
        }
    }
    Err(failure)
}

/// Lookups of one process at the same time.
const MAX_LOOKUPS: usize = 8;

/// As in the reference.
const LOOKUP_TIME: Duration = Duration::from_secs(2);

/// Addresses of one host that are tried.
const MAX_TRIED: usize = 4;

/// For each address.
const CONNECT_TIME: Duration = Duration::from_secs(10);
