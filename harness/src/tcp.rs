//! TCP connections made by the executor, from where it is.

use std::{collections::VecDeque, num::NonZeroU16, sync::Arc, time::Duration};

use bytes::Bytes;
use exec_proto::{
    Empty,
    tcp::{self as wire, ConnectParams, ConnectResult, ShutdownParams, WriteParams},
};

use crate::{
    Client, Error,
    client::Answer,
    engine::{
        Job,
        call::{Asker, Retry},
        tcp::TcpRoute,
    },
    limits,
    queue::Queue,
};

/// A TCP connection whose near end is at the executor.
///
/// Each direction ends by itself. A reader that is slow holds up the other side of its own
/// connection and nothing else. The connection ends when both halves are dropped, at the latest with
/// the client's connection to the executor: it is not resumed.
#[derive(Debug)]
pub struct TcpStream {
    reader: TcpReader,
    writer: TcpWriter,
    /// The executor's end, as it tells it.
    pub local_addr: Option<String>,
    /// The other end, as the executor tells it.
    pub peer_addr: Option<String>,
}

/// The half that reads.
#[derive(Debug)]
pub struct TcpReader {
    half: Arc<Half>,
}

/// The half that writes.
#[derive(Debug)]
pub struct TcpWriter {
    half: Arc<Half>,
    client: Client,
    generation: u64,
    /// The number of the last write.
    seq: u64,
    under_way: VecDeque<Answer>,
}

/// What the halves share; the stream ends with the last of them.
#[derive(Debug)]
struct Half {
    stream: String,
    queue: Arc<Queue<Result<Bytes, Error>>>,
}

impl Drop for Half {
    fn drop(&mut self) {
        self.queue.abandon();
    }
}

impl Client {
    /// Lets the executor connect to `host` (a name, which it resolves, or an address) and `port`,
    /// within `limit`, or 30 s.
    ///
    /// # Errors
    ///
    /// [`Error::Unsupported`] when the executor offers no TCP connections, as Codex 0.169;
    /// [`Error::Rpc`] when it cannot connect.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future gives the attempt up.
    pub async fn tcp(
        &self,
        host: &str,
        port: NonZeroU16,
        limit: Option<Duration>,
    ) -> Result<TcpStream, Error> {
        if !self.capabilities().tcp_streams {
            return Err(Error::Unsupported("TCP connections"));
        }
        let stream = self.unique_name();
        let queue = Queue::with_steps(usize::MAX, limits::TCP_WINDOW_STEP_BYTES, self.drained());
        let route = TcpRoute::new(queue.clone());
        // Made before the request, so that it is given up when this future is dropped.
        let half = Arc::new(Half {
            stream: stream.clone(),
            queue,
        });
        let params = ConnectParams {
            stream_id: stream.clone(),
            host: host.to_owned(),
            port,
            timeout_ms: limit.map(|t| u64::try_from(t.as_millis()).unwrap_or(u64::MAX)),
            window_bytes: Some(limits::TCP_WINDOW_BYTES),
            sandbox: None,
        };
        // A stream that a lost connection took along has had no bytes, so another one is as good.
        let connected: ConnectResult = self
            .submit(
                wire::CONNECT,
                &params,
                Retry::Repeat,
                |reply| Asker::Tcp(stream.clone(), reply),
                |call| Job::Connect {
                    call,
                    stream: stream.clone(),
                    route,
                },
            )
            .await?;
        Ok(TcpStream {
            reader: TcpReader { half: half.clone() },
            writer: TcpWriter {
                half,
                generation: self.generation(),
                client: self.clone(),
                seq: 0,
                under_way: VecDeque::new(),
            },
            local_addr: connected.local_addr,
            peer_addr: connected.peer_addr,
        })
    }
}

impl TcpStream {
    /// The two directions, to be used at the same time.
    pub fn into_split(self) -> (TcpReader, TcpWriter) {
        (self.reader, self.writer)
    }
}

impl TcpReader {
    /// The next bytes, `None` when the other side sends no more.
    ///
    /// # Errors
    ///
    /// [`Error::Rpc`] when the connection broke, [`Error::ConnectionLost`] when the one to the
    /// executor did. What came before has been returned then.
    ///
    /// # Cancel safety
    ///
    /// Nothing is lost when the future is dropped.
    pub async fn next_chunk(&mut self) -> Result<Option<Bytes>, Error> {
        self.half.queue.pop().await.transpose()
    }
}

impl TcpWriter {
    /// Sends bytes, and waits while too many of earlier ones are under way.
    ///
    /// # Errors
    ///
    /// [`Error::Rpc`] when the other side takes no more, [`Error::ConnectionLost`]. An error may be
    /// that of an earlier write.
    ///
    /// # Cancel safety
    ///
    /// When the future is dropped, a part of the bytes may have been sent.
    pub async fn write(&mut self, mut bytes: Bytes) -> Result<(), Error> {
        while !bytes.is_empty() {
            let chunk_base64 = bytes.split_to(bytes.len().min(limits::TCP_WRITE_BYTES));
            let share = self.place().await?;
            let params = WriteParams {
                stream_id: self.half.stream.clone(),
                seq: self.seq + 1,
                chunk_base64,
            };
            let answer = self
                .client
                .begin(
                    wire::WRITE,
                    &params,
                    Retry::Within(self.generation),
                    share,
                    Asker::Caller,
                    Job::Call,
                )
                .await?;
            self.seq += 1;
            self.under_way.push_back(answer);
        }
        Ok(())
    }

    /// Waits until the executor has taken everything.
    ///
    /// # Errors
    ///
    /// As for [`write`](Self::write).
    ///
    /// # Cancel safety
    ///
    /// Nothing is lost when the future is dropped.
    pub async fn flush(&mut self) -> Result<(), Error> {
        while !self.under_way.is_empty() {
            self.first_answered().await?;
        }
        Ok(())
    }

    /// Ends this direction, behind everything that was written.
    ///
    /// # Errors
    ///
    /// As for [`write`](Self::write).
    pub async fn shutdown(&mut self) -> Result<(), Error> {
        self.flush().await?;
        let params = ShutdownParams {
            stream_id: self.half.stream.clone(),
        };
        let retry = Retry::Within(self.generation);
        let _: Empty = self.client.call(wire::SHUTDOWN, &params, retry).await?;
        Ok(())
    }

    /// Waits until another write may be made. One may always be under way; for more there is a
    /// budget that the streams of a client share.
    async fn place(&mut self) -> Result<Option<tokio::sync::OwnedSemaphorePermit>, Error> {
        loop {
            if self.under_way.is_empty() {
                return Ok(None);
            }
            if self.under_way.len() < limits::TCP_WRITES_IN_FLIGHT
                && let Ok(share) = self.client.tcp_writes().clone().try_acquire_owned()
            {
                return Ok(Some(share));
            }
            self.first_answered().await?;
        }
    }

    async fn first_answered(&mut self) -> Result<(), Error> {
        if let Some(first) = self.under_way.front_mut() {
            let outcome: Result<Empty, _> = first.wait_mut().await;
            self.under_way.pop_front();
            outcome?;
        }
        Ok(())
    }
}
