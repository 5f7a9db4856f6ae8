//! Bodies of requests that come in parts, with backpressure.

use std::fmt;
use std::io;
use std::sync::Arc;

use bytes::Bytes;
use exec_proto::http::{MAX_CHUNK_BYTES, RequestHeader};
use exec_proto::rpc::RpcError;
use futures_util::stream;
use tokio::sync::{Mutex, OwnedSemaphorePermit, Semaphore, mpsc};
use tokio_util::sync::CancellationToken;

use super::Claim;

/// A request whose body follows. Holds its id until the request is over.
pub struct Upload {
    pub(super) claim: Claim,
    pub(super) body: reqwest::Body,
}

/// Where the parts of a body go.
pub(super) struct Feed {
    parts: mpsc::Sender<Part>,
    room: Arc<Semaphore>,
    /// What was taken. Held while waiting for room: a body's parts come one after another.
    taken: Mutex<Taken>,
    /// The request is over. The HTTP library may hold on to the body for a while, when the server does
    /// not read it.
    over: CancellationToken,
}

enum Part {
    /// Bytes and their share of the room.
    Bytes(Bytes, OwnedSemaphorePermit),
    /// The regular end. Without it the body is broken off, and the server must not take it for whole.
    End,
}

#[derive(Default)]
struct Taken {
    seq: u64,
    is_done: bool,
    /// What may still come, if the client has said how much that is.
    left: Option<u64>,
}

/// The length that `headers` give a body which is still to come.
pub(super) fn length(headers: &[RequestHeader]) -> Result<Option<u64>, RpcError> {
    let mut lengths = headers
        .iter()
        .filter(|header| header.name.eq_ignore_ascii_case("content-length"));
    match (lengths.next(), lengths.next()) {
        (None, _) => Ok(None),
        (
            Some(RequestHeader {
                value,
                value_env_var: None,
                ..
            }),
            None,
        ) if value.bytes().all(|byte| byte.is_ascii_digit()) => {
            let length = value.parse().map_err(|_| wrong_length())?;
            Ok(Some(length))
        }
        _ => Err(wrong_length()),
    }
}

fn wrong_length() -> RpcError {
    RpcError::invalid_params("http/request content-length of a streamed body must be one number")
}

impl Feed {
    /// A body that is sent as it comes, with this length if it is known.
    pub(super) fn new(length: Option<u64>) -> (Arc<Self>, reqwest::Body) {
        let (parts, receiver) = mpsc::channel(MAX_PARTS);
        let feed = Self {
            parts,
            room: Arc::new(Semaphore::new(MAX_CHUNK_BYTES)),
            taken: Mutex::new(Taken {
                left: length,
                ..Taken::default()
            }),
            over: CancellationToken::new(),
        };
        let pieces = stream::unfold(Some(receiver), |receiver| async {
            let mut receiver: mpsc::Receiver<Part> = receiver?;
            match receiver.recv().await {
                Some(Part::Bytes(bytes, _share)) => Some((Ok(bytes), Some(receiver))),
                Some(Part::End) => None,
                None => Some((Err(io::Error::from(io::ErrorKind::UnexpectedEof)), None)),
            }
        });
        (Arc::new(feed), reqwest::Body::wrap_stream(pieces))
    }

    /// Gives up the parts that wait for room.
    pub(super) fn end(&self) {
        self.over.cancel();
    }

    /// Takes the next part, when there is room for it.
    pub(super) async fn add(&self, seq: u64, bytes: Bytes, done: bool) -> Result<(), RpcError> {
        if bytes.len() > MAX_CHUNK_BYTES {
            return Err(invalid(format!(
                "chunk of {} bytes exceeds limit of {MAX_CHUNK_BYTES} bytes",
                bytes.len()
            )));
        }
        let mut taken = self.taken.lock().await;
        if taken.is_done {
            return Err(invalid("the body is complete".to_owned()));
        }
        let expected = taken.seq.saturating_add(1);
        if seq != expected {
            return Err(invalid(format!("seq must be {expected}, got {seq}")));
        }
        let left = taken.left.map(|left| left.checked_sub(bytes.len() as u64));
        if left == Some(None) {
            return Err(invalid("exceeds the content-length".to_owned()));
        }
        let size = u32::try_from(bytes.len()).unwrap_or(u32::MAX);
        let places = async {
            let share = Arc::clone(&self.room).acquire_many_owned(size).await.ok()?;
            // One for the bytes and one for the end, so that a part is taken whole or not at all.
            Some((self.parts.reserve_many(2).await.ok()?, share))
        };
        let places = tokio::select! {
            places = places => places,
            () = self.parts.closed() => None,
            () = self.over.cancelled() => None,
        };
        let Some((mut places, share)) = places else {
            return Err(RpcError::invalid_request(
                "http/request/bodyChunk: the request takes no more of its body",
            ));
        };
        // An empty piece would end a chunked body on the wire.
        if let (false, Some(place)) = (bytes.is_empty(), places.next()) {
            place.send(Part::Bytes(bytes, share));
        }
        if let (true, Some(place)) = (done, places.next()) {
            place.send(Part::End);
        }
        taken.seq = seq;
        taken.is_done = done;
        taken.left = left.flatten();
        Ok(())
    }
}

impl fmt::Debug for Upload {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Upload").finish_non_exhaustive()
    }
}

fn invalid(text: String) -> RpcError {
    RpcError::invalid_params(format!("http/request/bodyChunk {text}"))
}

/// Parts of one body that wait for the server, however small they are.
const MAX_PARTS: usize = 64;
