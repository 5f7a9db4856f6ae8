//! Reading this program's standard input without tying up the runtime.

use std::{
    io::{IsTerminal, Read},
    time::Duration,
};

use bytes::{Bytes, BytesMut};
use tokio::{sync::mpsc, time::timeout};

/// Pieces that wait to be sent; further ones stay in the pipe, so its writer waits.
const PIECES: usize = 8;

/// Bytes of one read.
const READ_BYTES: usize = 128 << 10;

/// Bytes sent in one write at most; small pieces are joined up to this.
const JOIN_BYTES: usize = 1 << 20;

/// How long to wait for the end of an input that may be empty, before a pipe is set up for it.
const EMPTY_GRACE: Duration = Duration::from_millis(20);

/// Standard input, read by a thread of its own that ends with the process: a blocking read of a
/// terminal or pipe cannot be cancelled.
pub(crate) struct Input {
    pieces: mpsc::Receiver<std::io::Result<Bytes>>,
    /// What was read while looking whether there is anything.
    first: Option<std::io::Result<Bytes>>,
}

/// What standard input turned out to be.
pub(crate) enum Kind {
    /// It has ended already, or is `/dev/null`.
    Empty,
    /// A person types.
    Terminal(Input),
    /// A file, pipe or socket.
    Stream(Input),
}

/// Starts reading and says what there is.
pub(crate) async fn open() -> Kind {
    let is_terminal = std::io::stdin().is_terminal();
    if !is_terminal && is_null() {
        return Kind::Empty;
    }
    let (sender, pieces) = mpsc::channel(PIECES);
    let reader = std::thread::Builder::new().name("stdin".into());
    if reader.spawn(move || read_all(&sender)).is_err() {
        return Kind::Empty;
    }
    let mut input = Input {
        pieces,
        first: None,
    };
    if is_terminal {
        return Kind::Terminal(input);
    }
    match timeout(EMPTY_GRACE, input.pieces.recv()).await {
        Ok(None) => Kind::Empty,
        Ok(first) => {
            input.first = first;
            Kind::Stream(input)
        }
        Err(_) => Kind::Stream(input),
    }
}

impl Input {
    /// The next bytes, `None` at the end.
    ///
    /// Pieces that are there already are joined, since each write to the executor is a round trip.
    pub(crate) async fn next(&mut self) -> Option<std::io::Result<Bytes>> {
        let first = match self.first.take() {
            Some(first) => first,
            None => self.pieces.recv().await?,
        };
        let first = match first {
            Ok(first) => first,
            Err(error) => return Some(Err(error)),
        };
        let mut joined = BytesMut::from(first);
        while joined.len() < JOIN_BYTES {
            match self.pieces.try_recv() {
                Ok(Ok(more)) => joined.extend_from_slice(&more),
                Ok(error) => {
                    self.first = Some(error);
                    break;
                }
                Err(_) => break,
            }
        }
        Some(Ok(joined.freeze()))
    }
}

fn read_all(sender: &mpsc::Sender<std::io::Result<Bytes>>) {
    let mut stdin = std::io::stdin().lock();
    let mut buffer = vec![0; READ_BYTES];
    loop {
        let piece = match stdin.read(&mut buffer) {
            Ok(0) => return,
            Ok(n) => Ok(Bytes::copy_from_slice(buffer.get(..n).unwrap_or_default())),
            Err(error) if error.kind() == std::io::ErrorKind::Interrupted => continue,
            Err(error) => Err(error),
        };
        let failed = piece.is_err();
        if sender.blocking_send(piece).is_err() || failed {
            return;
        }
    }
}

fn is_null() -> bool {
    let same = || {
        let stdin = rustix::fs::fstat(std::io::stdin()).ok()?;
        let null = rustix::fs::stat("/dev/null").ok()?;
        Some(stdin.st_rdev == null.st_rdev && stdin.st_mode == null.st_mode)
    };
    same().unwrap_or(false)
}
