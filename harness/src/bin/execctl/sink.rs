//! Standard output and standard error for much data, written by a thread of their own.
//!
//! The next piece is fetched while the last one is written, a reader that has stopped reading stops
//! nothing else, and a piece goes to the system as it came: no copy, no search for the ends of lines.

use std::{
    fs::File,
    future::pending,
    io::{self, Write as _},
    os::fd::AsFd,
    thread,
};

use bytes::Bytes;
use rustix::event::{PollFd, PollFlags, poll};
use tokio::sync::{mpsc, oneshot};

use crate::exit::Failure;

/// Where a piece goes.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Out {
    /// Standard output.
    Results,
    /// Standard error.
    Errors,
}

/// Writes pieces one after another, in the order in which they were given, whichever way they go.
#[derive(Debug)]
pub(crate) struct Sink(mpsc::Sender<Work>);

/// Tells when a sink has failed, which may be long after it was given anything.
#[derive(Debug)]
struct Failed(oneshot::Receiver<io::Error>);

#[derive(Debug)]
enum Work {
    Write(Out, Bytes),
    /// Everything before it is written.
    Tell(oneshot::Sender<()>),
}

impl Sink {
    /// Runs `work` with a new sink, which is not waited for: see [`Sink::written`].
    ///
    /// # Errors
    ///
    /// When there can be no more descriptors or threads, and as soon as something cannot be written;
    /// then `work` is dropped.
    pub(crate) async fn run<T>(work: impl AsyncFnOnce(&Self) -> T) -> io::Result<T> {
        let results = File::from(io::stdout().as_fd().try_clone_to_owned()?);
        let errors = File::from(io::stderr().as_fd().try_clone_to_owned()?);
        let (sink, failed) = Self::to(results, errors)?;
        tokio::select! {
            done = work(&sink) => Ok(done),
            error = failed.wait() => Err(error),
        }
    }

    /// The same, and waits until what `work` gave is written, also if it fails.
    ///
    /// # Errors
    ///
    /// What `work` says, or [`Failure::write`] as soon as something cannot be written.
    pub(crate) async fn with<T>(
        work: impl AsyncFnOnce(&Self) -> Result<T, Failure>,
    ) -> Result<T, Failure> {
        let done = Self::run(async |sink| {
            let outcome = work(sink).await;
            sink.written().await;
            outcome
        });
        done.await.map_err(|error| Failure::write(&error))?
    }

    /// Starts the thread. It ends with the sink, or with the program if a write is stuck.
    fn to(mut results: File, mut errors: File) -> io::Result<(Self, Failed)> {
        let (work, mut waiting) = mpsc::channel(PIECES);
        let (failure, failed) = oneshot::channel();
        let run = move || {
            while let Some(next) = waiting.blocking_recv() {
                let written = match next {
                    Work::Write(Out::Results, bytes) => write_all(&mut results, &bytes),
                    Work::Write(Out::Errors, bytes) => write_all(&mut errors, &bytes),
                    Work::Tell(done) => {
                        // Whoever asked may have left.
                        let _ = done.send(());
                        Ok(())
                    }
                };
                if let Err(error) = written {
                    // Nobody may want to know.
                    let _ = failure.send(error);
                    return;
                }
            }
        };
        thread::Builder::new().name("sink".to_owned()).spawn(run)?;
        Ok((Self(work), Failed(failed)))
    }

    /// Has `bytes` written, once there is room. Never returns after a failure: [`Sink::run`] tells that.
    ///
    /// # Cancel safety
    ///
    /// When the future is dropped, the piece has not been taken.
    pub(crate) async fn write(&self, out: Out, bytes: Bytes) {
        if self.0.send(Work::Write(out, bytes)).await.is_err() {
            pending::<()>().await;
        }
    }

    /// Waits until everything given so far is written. Never returns after a failure.
    pub(crate) async fn written(&self) {
        let (done, told) = oneshot::channel();
        if self.0.send(Work::Tell(done)).await.is_err() || told.await.is_err() {
            pending::<()>().await;
        }
    }
}

impl Failed {
    /// Waits for a failure.
    async fn wait(self) -> io::Error {
        match self.0.await {
            Ok(error) => error,
            // The sink has ended without one.
            Err(_) => pending().await,
        }
    }
}

/// Writes all of it, also to what another program has made non-blocking.
fn write_all(file: &mut File, mut bytes: &[u8]) -> io::Result<()> {
    while !bytes.is_empty() {
        match file.write(bytes) {
            Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
            Ok(written) => bytes = &bytes[written..],
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                let mut room = [PollFd::new(&*file, PollFlags::OUT)];
                rustix::io::retry_on_intr(|| poll(&mut room, None))?;
            }
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

/// Pieces that wait to be written: at most 4 MiB, as blocks of files have 1 MiB, and output of programs
/// much less.
const PIECES: usize = 4;

#[cfg(test)]
mod tests {
    use std::io::Read as _;
    use std::os::fd::OwnedFd;

    use futures_util::FutureExt as _;

    use super::*;

    /// A sink into a pipe, both ways, and the end to read from.
    fn piped() -> (Sink, Failed, File) {
        let (reader, writer) = io::pipe().unwrap();
        let writer = File::from(OwnedFd::from(writer));
        let flags = rustix::fs::fcntl_getfl(&writer).unwrap();
        rustix::fs::fcntl_setfl(&writer, flags | rustix::fs::OFlags::NONBLOCK).unwrap();
        let (sink, failed) = Sink::to(writer.try_clone().unwrap(), writer).unwrap();
        (sink, failed, File::from(OwnedFd::from(reader)))
    }

    #[tokio::test]
    async fn pieces_are_written_in_order_also_through_a_full_pipe() {
        let (sink, _failed, mut reader) = piped();
        let reading = thread::spawn(move || {
            let mut text = Vec::new();
            reader.read_to_end(&mut text).map(|_| text)
        });
        let mut expected = Vec::new();
        for number in 0..=9 {
            let out = if number % 2 == 0 {
                Out::Results
            } else {
                Out::Errors
            };
            let piece = vec![b'0' + number; 100_000];
            expected.extend_from_slice(&piece);
            sink.write(out, piece.into()).await;
        }
        sink.written().await;
        drop(sink);
        assert!(reading.join().unwrap().unwrap() == expected);
    }

    #[tokio::test]
    async fn a_reader_that_has_gone_is_told_without_another_piece() {
        let (sink, failed, reader) = piped();
        drop(reader);
        sink.write(Out::Results, Bytes::from_static(b"x")).await;
        assert_eq!(failed.wait().await.kind(), io::ErrorKind::BrokenPipe);
        // From now on there is nothing to wait for.
        assert!(sink.written().now_or_never().is_none());
    }
}
