//! The way of the bytes of one TCP stream to its reader, and its window.

use std::sync::Arc;

use bytes::{Bytes, BytesMut};
use exec_proto::tcp::{self, ClosedNotification, DataNotification, WindowParams};

use super::Engine;
use crate::{Error, limits, queue::Queue};

/// What error texts call a stream.
pub(crate) const STREAM: &str = "a TCP stream";

/// The way of one stream's bytes to its reader.
#[derive(Debug)]
pub(crate) struct TcpRoute {
    queue: Arc<Queue<Result<Bytes, Error>>>,
    /// The answer to `tcp/connect` has come.
    pub(crate) open: bool,
    next_seq: u64,
    received: u64,
    allowed: u64,
}

/// What became of a notification.
#[derive(Debug, PartialEq, Eq)]
enum Taken {
    /// More may follow.
    Open,
    /// The executor broke a rule; the reader was told.
    Broken,
}

impl TcpRoute {
    pub(crate) fn new(queue: Arc<Queue<Result<Bytes, Error>>>) -> Self {
        Self {
            queue,
            open: false,
            next_seq: 1,
            received: 0,
            allowed: limits::TCP_WINDOW_BYTES,
        }
    }

    fn push(&mut self, data: DataNotification) -> Taken {
        if let Taken::Broken = self.follows(data.seq) {
            return Taken::Broken;
        }
        let chunk = data.chunk_base64;
        if chunk.is_empty() {
            self.queue.end();
            return Taken::Open;
        }
        self.received += chunk.len() as u64;
        if self.received > self.allowed {
            return self.breaks("it sent more on a TCP stream than its window");
        }
        self.queue.push_or_join(chunk.len(), Ok(chunk), join);
        Taken::Open
    }

    fn follows(&mut self, seq: u64) -> Taken {
        if seq != self.next_seq {
            return self.breaks("a part of a TCP stream is missing");
        }
        self.next_seq += 1;
        Taken::Open
    }

    fn breaks(&self, how: &str) -> Taken {
        self.fail(Error::Protocol(how.to_owned()));
        Taken::Broken
    }

    /// The new end of the window, when enough was read since it was told the last time.
    fn widened(&mut self) -> Option<u64> {
        let through = self.queue.taken() + limits::TCP_WINDOW_BYTES;
        let is_due = through - self.allowed >= limits::TCP_WINDOW_STEP_BYTES;
        is_due.then(|| {
            self.allowed = through;
            through
        })
    }

    /// Whether nobody holds the stream any more.
    pub(crate) fn is_abandoned(&self) -> bool {
        self.queue.is_abandoned()
    }

    /// Ends the stream with an error, behind what has arrived.
    pub(crate) fn fail(&self, error: Error) {
        self.queue.push(0, Err(error));
        self.queue.end();
    }
}

/// Puts a small piece into the one before it that still waits.
fn join(
    last: &mut Result<Bytes, Error>,
    item: Result<Bytes, Error>,
) -> Option<Result<Bytes, Error>> {
    match (last, item) {
        (Ok(last), Ok(chunk)) if last.len() + chunk.len() <= limits::TCP_JOIN_BYTES => {
            let mut joined = BytesMut::with_capacity(last.len() + chunk.len());
            joined.extend_from_slice(last);
            joined.extend_from_slice(&chunk);
            *last = joined.freeze();
            None
        }
        (_, item) => Some(item),
    }
}

impl Engine {
    /// Takes bytes of a stream. Unknown streams are ignored: they were given up.
    pub(super) fn tcp_data(&mut self, data: DataNotification) {
        let Some(route) = self.streams.get_mut(&data.stream_id) else {
            return;
        };
        let stream_id = data.stream_id.clone();
        if route.push(data) == Taken::Broken {
            self.streams.remove(&stream_id);
            self.tell(tcp::CLOSE, &tcp::CloseParams { stream_id });
        }
    }

    /// Takes the end of a stream.
    pub(super) fn tcp_closed(&mut self, closed: ClosedNotification) {
        let Some(mut route) = self.streams.remove(&closed.stream_id) else {
            return;
        };
        if route.follows(closed.seq) == Taken::Broken {
            return;
        }
        match closed.error {
            Some(message) => route.fail(Error::Rpc {
                method: STREAM,
                code: exec_proto::rpc::code::INTERNAL,
                message,
            }),
            None => route.queue.end(),
        }
    }

    /// Tells the executor of the room that readers have made.
    pub(super) fn widen_windows(&mut self) {
        let due: Vec<_> = self
            .streams
            .iter_mut()
            .filter(|(_, route)| route.open)
            .filter_map(|(id, route)| Some((id.clone(), route.widened()?)))
            .collect();
        for (stream_id, through_bytes) in due {
            let params = WindowParams {
                stream_id,
                through_bytes,
            };
            self.tell(tcp::WINDOW, &params);
        }
    }
}

#[cfg(test)]
mod tests {
    use tokio::sync::Notify;

    use super::*;

    fn data(seq: u64, bytes: &[u8]) -> DataNotification {
        DataNotification {
            stream_id: "s".into(),
            seq,
            chunk_base64: Bytes::copy_from_slice(bytes),
        }
    }

    fn route() -> (TcpRoute, Arc<Queue<Result<Bytes, Error>>>) {
        let queue = Queue::with_steps(
            usize::MAX,
            limits::TCP_WINDOW_STEP_BYTES,
            Arc::new(Notify::new()),
        );
        (TcpRoute::new(queue.clone()), queue)
    }

    #[tokio::test]
    async fn small_pieces_that_wait_are_joined_and_nothing_is_lost() {
        let (mut route, queue) = route();
        let mut expected = Vec::new();
        for seq in 1..=20_000_u64 {
            let piece = seq.to_be_bytes();
            assert_eq!(route.push(data(seq, &piece)), Taken::Open);
            expected.extend_from_slice(&piece);
        }
        assert_eq!(route.push(data(20_001, b"")), Taken::Open);
        let (mut all, mut items) = (Vec::new(), 0);
        while let Some(item) = queue.pop().await {
            all.extend_from_slice(&item.unwrap());
            items += 1;
        }
        assert!(all == expected, "{} bytes", all.len());
        assert_eq!(items, 160_000_usize.div_ceil(limits::TCP_JOIN_BYTES));
    }

    #[tokio::test]
    async fn window_grows_with_what_was_read_and_is_enforced() {
        let (mut route, queue) = route();
        let chunk = vec![0; 64 << 10];
        for seq in 1..=16 {
            assert_eq!(route.push(data(seq, &chunk)), Taken::Open);
        }
        assert_eq!(route.widened(), None);
        for _ in 0..4 {
            queue.pop().await.unwrap().unwrap();
        }
        assert_eq!(route.widened(), Some((1 << 20) + (256 << 10)));
        assert_eq!(route.widened(), None);
        for seq in 17..=20 {
            assert_eq!(route.push(data(seq, &chunk)), Taken::Open);
        }
        assert_eq!(route.push(data(21, b"x")), Taken::Broken);
    }

    #[tokio::test]
    async fn missing_piece_is_an_error_behind_what_came_before() {
        let (mut route, queue) = route();
        route.push(data(1, b"a"));
        assert_eq!(route.push(data(3, b"c")), Taken::Broken);
        assert_eq!(queue.pop().await.unwrap().unwrap(), "a");
        assert!(matches!(queue.pop().await, Some(Err(Error::Protocol(_)))));
        assert!(queue.pop().await.is_none());
    }
}
