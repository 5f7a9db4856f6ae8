//! The simulated network, as the programs see it.

use std::{io, net::SocketAddr};

use registry_client::{Connecting, Network, NetworkIo};
use server::Listen;
use turmoil::net::{TcpListener, TcpStream};

/// Dials the hosts of the simulation by name.
#[derive(Debug)]
pub(crate) struct Simulated;

impl Network for Simulated {
    fn connect(&self, host: &str, port: u16) -> Connecting {
        let host = host.to_owned();
        Box::pin(async move {
            let stream = TcpStream::connect((host.as_str(), port)).await?;
            Ok(NetworkIo::new(stream))
        })
    }
}

/// Listens on a host of the simulation.
pub(crate) struct Listener(pub(crate) TcpListener);

impl Listen for Listener {
    type Io = TcpStream;

    async fn accept(&mut self) -> io::Result<(TcpStream, SocketAddr)> {
        self.0.accept().await
    }
}
