//! The websocket as the loop sees it: read and write polled together, output in batches.

use std::future::poll_fn;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Instant;

use bytes::Bytes;
use futures_util::future::FutureExt;
use futures_util::{Sink, SinkExt, Stream, StreamExt};
use relay_proto::{Connection, Transmit, limits};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::{Error, Message};

use crate::WRITE_BATCH_BYTES;

/// A websocket and the state of its output.
pub(crate) struct Socket<S> {
    websocket: WebSocketStream<S>,
    /// Bytes given to the websocket since it was last flushed.
    unflushed: usize,
    /// When what it holds must be gone.
    write_deadline: Option<Instant>,
}

/// Something happened at the websocket.
pub(crate) enum Io {
    Read(Option<Result<Message, Error>>),
    /// Output was taken from the connection, which may have events for it.
    Wrote,
    WriteFailed(Error),
}

impl<S: AsyncRead + AsyncWrite + Unpin> Socket<S> {
    pub(crate) fn new(websocket: WebSocketStream<S>) -> Self {
        Self {
            websocket,
            unflushed: 0,
            write_deadline: None,
        }
    }

    /// Writes what the connection has to say and reads the next message.
    ///
    /// # Cancel safety
    ///
    /// Cancel safe: what was taken from the connection is with the websocket.
    pub(crate) async fn next(&mut self, connection: &mut Connection) -> Io {
        poll_fn(|cx| {
            let wrote = match self.poll_write(connection, cx) {
                Ok(wrote) => wrote,
                Err(error) => return Poll::Ready(Io::WriteFailed(error)),
            };
            match self.poll_read(connection, cx) {
                Poll::Pending if wrote => Poll::Ready(Io::Wrote),
                read => read,
            }
        })
        .await
    }

    /// Returns a message that is already here.
    pub(crate) fn read_now(&mut self, connection: &Connection) -> Option<Io> {
        poll_fn(|cx| self.poll_read(connection, cx)).now_or_never()
    }

    pub(crate) fn write_deadline(&self) -> Option<Instant> {
        self.write_deadline
    }

    /// Writes everything the connection still has to say, and a close frame.
    pub(crate) async fn goodbye(&mut self, connection: &mut Connection) -> Result<(), Error> {
        // Nothing can be written to a websocket that the peer has closed, except the answer to that.
        let written = poll_fn(|cx| {
            loop {
                match self.poll_write(connection, cx) {
                    Ok(true) => {}
                    Ok(false) if self.unflushed > 0 => return Poll::Pending,
                    Ok(false) => return Poll::Ready(Ok(())),
                    Err(error) => return Poll::Ready(Err(error)),
                }
            }
        })
        .await;
        SinkExt::close(&mut self.websocket).await?;
        written
    }

    /// Reads and discards whatever still comes, until the peer has closed its side as well.
    pub(crate) async fn until_end(&mut self) {
        while let Some(Ok(_)) = StreamExt::next(&mut self.websocket).await {}
    }

    fn poll_read(&mut self, connection: &Connection, cx: &mut Context<'_>) -> Poll<Io> {
        if connection.wants_input() {
            Pin::new(&mut self.websocket).poll_next(cx).map(Io::Read)
        } else {
            Poll::Pending
        }
    }

    /// Hands at most one batch to the websocket. Returns whether the connection gave anything.
    fn poll_write(
        &mut self,
        connection: &mut Connection,
        cx: &mut Context<'_>,
    ) -> Result<bool, Error> {
        let mut wrote = false;
        loop {
            while self.unflushed < WRITE_BATCH_BYTES {
                match Pin::new(&mut self.websocket).poll_ready(cx) {
                    Poll::Ready(result) => result?,
                    Poll::Pending => return Ok(self.wait_for_room(wrote)),
                }
                if self.write_deadline.is_some() {
                    connection.handle_write_progress(now());
                }
                let message = match connection.poll_transmit(now()) {
                    Some(Transmit::Frame(frame)) => Message::Binary(frame),
                    Some(Transmit::Ping) => Message::Ping(Bytes::new()),
                    None => break,
                };
                wrote = true;
                // A ping counts as something, or it would not be flushed.
                self.unflushed += message.len().max(1);
                Pin::new(&mut self.websocket).start_send(message)?;
            }
            if self.unflushed == 0 {
                return Ok(wrote);
            }
            match Pin::new(&mut self.websocket).poll_flush(cx) {
                Poll::Ready(result) => result?,
                Poll::Pending => return Ok(self.wait_for_room(wrote)),
            }
            self.unflushed = 0;
            if self.write_deadline.take().is_some() {
                connection.handle_write_progress(now());
            }
            if wrote {
                return Ok(true);
            }
        }
    }

    fn wait_for_room(&mut self, wrote: bool) -> bool {
        self.write_deadline
            .get_or_insert_with(|| now() + limits::WRITE_TIMEOUT);
        wrote
    }
}

/// The clock, which tests may pause.
pub(crate) fn now() -> Instant {
    tokio::time::Instant::now().into_std()
}
