//! A path that carries little, and how much it has carried.

use std::{
    net::SocketAddr,
    num::NonZeroU32,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use anyhow::Result;
use tokio::{
    io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _},
    net::{TcpListener, TcpStream},
    task::JoinSet,
    time::{Instant, sleep_until},
};

/// Passes connections on, byte for byte, and counts. Dropping it cuts them.
#[derive(Debug)]
pub struct NarrowPath {
    address: SocketAddr,
    carried: Arc<AtomicU64>,
    _tasks: JoinSet<()>,
}

impl NarrowPath {
    /// Leads to this address, with at most so many bytes a second in each direction of a connection.
    ///
    /// # Errors
    ///
    /// When no port can be bound.
    pub async fn to(end: SocketAddr, bytes_per_second: Option<NonZeroU32>) -> Result<Self> {
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let address = listener.local_addr()?;
        let carried = Arc::new(AtomicU64::new(0));
        let count = Arc::clone(&carried);
        let mut tasks = JoinSet::new();
        tasks.spawn(async move {
            let mut connections = JoinSet::new();
            while let Ok((client, _)) = listener.accept().await {
                let count = Arc::clone(&count);
                connections.spawn(async move {
                    let Ok(server) = TcpStream::connect(end).await else {
                        return;
                    };
                    let (from_client, to_client) = client.into_split();
                    let (from_server, to_server) = server.into_split();
                    tokio::join!(
                        carry(from_client, to_server, bytes_per_second, &count),
                        carry(from_server, to_client, bytes_per_second, &count),
                    );
                });
            }
        });
        Ok(Self {
            address,
            carried,
            _tasks: tasks,
        })
    }

    /// Where it begins.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Bytes of both directions of all connections so far.
    pub fn carried(&self) -> u64 {
        self.carried.load(Ordering::Relaxed)
    }
}

async fn carry(
    mut from: impl AsyncRead + Unpin,
    mut to: impl AsyncWrite + Unpin,
    bytes_per_second: Option<NonZeroU32>,
    count: &AtomicU64,
) {
    let mut buffer = vec![0; 16 * 1024];
    let mut due = Instant::now();
    while let Ok(length @ 1..) = from.read(&mut buffer).await {
        count.fetch_add(length as u64, Ordering::Relaxed);
        if let Some(rate) = bytes_per_second {
            // What was not used in time is lost.
            let time = Duration::from_secs(length as u64) / rate.get();
            due = due.max(Instant::now()) + time;
            sleep_until(due).await;
        }
        if to.write_all(&buffer[..length]).await.is_err() {
            return;
        }
    }
    // The other side may have gone first.
    drop(to.shutdown().await);
}
