//! A TCP proxy that can cut everything that goes through it.

use std::{
    net::SocketAddr,
    sync::{Arc, Mutex, PoisonError},
};

use anyhow::{Context as _, Result};
use tokio::{
    io::copy_bidirectional,
    net::{TcpListener, TcpStream},
    sync::watch,
    task::JoinSet,
};

/// The proxy. Dropping it ends it and all its connections.
#[derive(Debug)]
pub struct CutProxy {
    address: SocketAddr,
    target: Arc<Mutex<Option<SocketAddr>>>,
    /// Each change ends the connections of before.
    cuts: watch::Sender<u32>,
    _server: JoinSet<()>,
}

impl CutProxy {
    /// Starts it on a free port, with nothing behind it yet.
    ///
    /// # Errors
    ///
    /// When no port can be bound.
    pub async fn start() -> Result<Self> {
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let address = listener.local_addr()?;
        let target = Arc::new(Mutex::new(None));
        let cuts = watch::Sender::new(0);
        let mut server = JoinSet::new();
        server.spawn(accept(listener, Arc::clone(&target), cuts.clone()));
        Ok(Self {
            address,
            target,
            cuts,
            _server: server,
        })
    }

    /// Its address as base URL.
    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// Passes connections on to `port` of this machine from now on.
    pub fn forward_to(&self, port: u16) {
        let target = SocketAddr::from(([127, 0, 0, 1], port));
        *self.target.lock().unwrap_or_else(PoisonError::into_inner) = Some(target);
    }

    /// Ends all present connections without a word; returns how many there were. New ones are
    /// passed on as before.
    pub fn cut(&self) -> usize {
        // Each connection holds one receiver.
        let connections = self.cuts.receiver_count();
        self.cuts.send_modify(|cuts| *cuts += 1);
        connections
    }
}

async fn accept(
    listener: TcpListener,
    target: Arc<Mutex<Option<SocketAddr>>>,
    cuts: watch::Sender<u32>,
) {
    let mut connections = JoinSet::new();
    while let Ok((client, _)) = listener.accept().await {
        let target = *target.lock().unwrap_or_else(PoisonError::into_inner);
        let cut = cuts.subscribe();
        // What goes wrong here is the ends' business: they see a broken connection.
        connections.spawn(async move { drop(forward(client, target, cut).await) });
        while connections.try_join_next().is_some() {}
    }
}

async fn forward(
    mut client: TcpStream,
    target: Option<SocketAddr>,
    mut cut: watch::Receiver<u32>,
) -> Result<()> {
    let target = target.context("nothing is behind the proxy yet")?;
    let mut server = TcpStream::connect(target).await?;
    tokio::select! {
        copied = copy_bidirectional(&mut client, &mut server) => { copied?; }
        _ = cut.changed() => {
            // A reset rather than an orderly end, as when a router forgets the connection.
            client.set_zero_linger()?;
            server.set_zero_linger()?;
        }
    }
    Ok(())
}
