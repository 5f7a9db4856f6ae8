//! Standard output and standard error for much data, written by a thread of their own.
//!
//! The next piece is fetched while the last one is written, a reader that has stopped reading stops
//! nothing else, and a piece goes to the system as it came: no copy, no search for the ends of lines.

use std::{
    fs::File,
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
pub(crate) struct Sink {
    work: mpsc::Sender<Work>,
    failed: Option<oneshot::Receiver<io::Error>>,
}

enum Work {
    Write(Out, Bytes),
    /// Everything before it is written.
    Tell(oneshot::Sender<()>),
}

impl Sink {
    /// Starts the thread. It ends with the sink, or with the program if a write is stuck.
    ///
    /// # Errors
    ///
    /// When there can be no more descriptors or threads.
    pub(crate) fn start() -> io::Result<Self> {
        let results = File::from(io::stdout().as_fd().try_clone_to_owned()?);
        let errors = File::from(io::stderr().as_fd().try_clone_to_owned()?);
        Self::to(results, errors)
    }

    /// Runs `work` with a new sink, and waits until what it gave is written, also if it fails.
    ///
    /// # Errors
    ///
    /// What `work` says, else [`Failure::write`].
    pub(crate) async fn with<T>(
        work: impl AsyncFnOnce(&mut Self) -> Result<T, Failure>,
    ) -> Result<T, Failure> {
        let mut sink = Self::start().map_err(|error| Failure::write(&error))?;
        let outcome = work(&mut sink).await;
        let written = sink.written().await;
        let value = outcome?;
        written.map_err(|error| Failure::write(&error))?;
        Ok(value)
    }

    fn to(mut results: File, mut errors: File) -> io::Result<Self> {
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
                    // The channel closes afterwards, so whoever finds it closed finds this too.
                    let _ = failure.send(error);
                    return;
                }
            }
        };
        thread::Builder::new().name("sink".to_owned()).spawn(run)?;
        Ok(Self {
            work,
            failed: Some(failed),
        })
    }

    /// Has `bytes` written, once there is room.
    ///
    /// # Errors
    ///
    /// The failure may be that of an earlier piece.
    ///
    /// # Cancel safety
    ///
    /// When the future is dropped, the piece has not been taken.
    pub(crate) async fn write(&mut self, out: Out, bytes: Bytes) -> io::Result<()> {
        match self.work.send(Work::Write(out, bytes)).await {
            Ok(()) => Ok(()),
            Err(_) => Err(self.failure().await),
        }
    }

    /// Waits until everything given so far is written.
    ///
    /// # Errors
    ///
    /// As for [`Sink::write`].
    pub(crate) async fn written(&mut self) -> io::Result<()> {
        let (done, told) = oneshot::channel();
        if self.work.send(Work::Tell(done)).await.is_ok() && told.await.is_ok() {
            return Ok(());
        }
        Err(self.failure().await)
    }

    async fn failure(&mut self) -> io::Error {
        let failure = match self.failed.take() {
            Some(failed) => failed.await.ok(),
            None => None,
        };
        failure.unwrap_or_else(|| io::Error::other("an earlier write has failed"))
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

    use super::*;

    /// A sink into a pipe, both ways, and the end to read from.
    fn piped() -> (Sink, File) {
        let (reader, writer) = io::pipe().unwrap();
        let writer = File::from(std::os::fd::OwnedFd::from(writer));
        let flags = rustix::fs::fcntl_getfl(&writer).unwrap();
        rustix::fs::fcntl_setfl(&writer, flags | rustix::fs::OFlags::NONBLOCK).unwrap();
        let sink = Sink::to(writer.try_clone().unwrap(), writer).unwrap();
        (sink, File::from(std::os::fd::OwnedFd::from(reader)))
    }

    #[tokio::test]
    async fn pieces_are_written_in_order_also_through_a_full_pipe() {
        let (mut sink, mut reader) = piped();
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
            sink.write(out, piece.into()).await.unwrap();
        }
        sink.written().await.unwrap();
        drop(sink);
        assert!(reading.join().unwrap().unwrap() == expected);
    }

    #[tokio::test]
    async fn a_reader_that_has_gone_is_told_once_and_nothing_hangs() {
        let (mut sink, reader) = piped();
        drop(reader);
        let mut failures = Vec::new();
        for _ in 0..3 {
            // Taken, perhaps, but not written.
            let _ = sink.write(Out::Results, Bytes::from_static(b"x")).await;
            failures.extend(sink.written().await.err().map(|error| error.kind()));
        }
        assert_eq!(failures.len(), 3);
        assert!(
            failures[1..]
                .iter()
                .all(|kind| *kind == io::ErrorKind::Other)
        );
    }
}
