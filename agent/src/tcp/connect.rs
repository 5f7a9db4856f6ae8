//! From a host and a port to a socket.

use std::io;
use std::net::{IpAddr, SocketAddr, ToSocketAddrs as _};
use std::sync::Arc;

use tokio::net::TcpStream;
use tokio::sync::Semaphore;

/// Connects, for one JSON-RPC connection.
pub(super) struct Connector {
    /// One permit for each lookup, which occupies a thread even after its request was given up.
    lookups: Arc<Semaphore>,
}

impl Connector {
    pub(super) fn new() -> Self {
        Self {
            lookups: Arc::new(Semaphore::new(MAX_LOOKUPS)),
        }
    }

    /// Tries the addresses of `host` one after another; the last failure counts.
    pub(super) async fn connect(&self, host: String, port: u16) -> io::Result<TcpStream> {
        let mut failure = io::Error::new(io::ErrorKind::NotFound, "the host has no address");
        for address in self.resolve(host, port).await? {
            match TcpStream::connect(address).await {
                Ok(socket) => {
                    socket.set_nodelay(true)?;
                    return Ok(socket);
                }
                Err(error) => failure = error,
            }
        }
        Err(failure)
    }

    async fn resolve(&self, host: String, port: u16) -> io::Result<Vec<SocketAddr>> {
        let literal = host
            .strip_prefix('[')
            .and_then(|host| host.strip_suffix(']'));
        if let Ok(address) = literal.unwrap_or(&host).parse::<IpAddr>() {
            return Ok(vec![SocketAddr::new(address, port)]);
        }
        let permit = Arc::clone(&self.lookups).acquire_owned().await;
        let lookup = tokio::task::spawn_blocking(move || {
            let _permit = permit;
            let addresses = (host.as_str(), port).to_socket_addrs()?;
            io::Result::Ok(addresses.take(MAX_ADDRESSES).collect())
        });
        lookup.await.map_err(io::Error::other)?
    }
}

/// Lookups of one connection at the same time.
const MAX_LOOKUPS: usize = 8;
/// Addresses of one host that are tried.
const MAX_ADDRESSES: usize = 16;
