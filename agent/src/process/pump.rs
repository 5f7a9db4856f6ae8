//! From a program's output to numbered events: reading, coalescing, delivery, and the end.
//!
//! ```text
//! quiet program   a write comes      -> event at once
//! asked program   input came first   -> event at once, it may be the answer
//! busy program    writes pile up     -> one event per COALESCE, or per MAX_CHUNK_BYTES
//! slow client     the outbox is full -> the pump waits, the pipe fills, the program blocks
//! exit            what is in the pipes is read, then `exited`
//! all ends closed, or terminated     -> `closed`
//! ```
//!
//! An event is logged before it is offered to the connection. A client that attaches and then reads
//! the log therefore misses nothing: what it does not see in the log will be pushed to it.

use std::cell::RefCell;
use std::io;
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use exec_proto::process::{
    CLOSED, ClosedNotification, EXITED, ExitedNotification, OUTPUT, OutputNotification, Stream,
};
use exec_proto::rpc::Form;
use relay_proto::limits::RECORD_PLAINTEXT_BYTES;
use rustix::buffer::spare_capacity;
use serde::Serialize;
use tokio::io::Interest;
use tokio::time::Instant;
use tracing::Span;

use super::Process;
use super::group::ExitWatch;
use super::stdin::StdinWriter;
use super::watched::{WatchedFd, watch};
use crate::limits;
use crate::rpc::Lane;
use crate::session::Attachment;

/// How long output may wait for more. Short against a round trip, long against a program's
/// unbuffered writes.
const COALESCE: Duration = Duration::from_millis(2);

/// Largest event, about the size of a full pipe: with what is around it, it fits into one record of a
/// relay, so that nobody has to put it together again. Small against the retained output, so that
/// eviction of whole chunks loses little.
const MAX_CHUNK_BYTES: usize = RECORD_PLAINTEXT_BYTES - ENVELOPE_BYTES;

/// The same where it travels as base64.
const MAX_BASE64_CHUNK_BYTES: usize = MAX_CHUNK_BYTES / 4 * 3;

/// What is around an event's bytes, unless the process has a very long name.
const ENVELOPE_BYTES: usize = 512;

/// A read of so much makes a source busy.
const BUSY_BYTES: usize = MAX_BASE64_CHUNK_BYTES / 2;

/// Size of the pipe of a source that has been busy: the program and the pump take turns less often.
const BUSY_PIPE_BYTES: usize = 256 << 10;

/// Most output that is read between the exit and the `exited` event. A descendant that floods the
/// pipe must not hold the event back.
const MAX_BYTES_BEFORE_EXITED: usize = 1 << 20;

/// The moving half of a process. Runs once, to the end.
#[derive(Debug)]
pub(super) struct Pump {
    process: Arc<Process>,
    attachment: Arc<Attachment>,
    exit: Arc<ExitWatch>,
    sources: Vec<Source>,
    input: Option<StdinWriter>,
    last_event: Option<Instant>,
    /// Writes that the program had got by then.
    answered: u64,
    /// What it may use, if somebody counts.
    limited: Option<limits::Group>,
    /// From its start until it is closed, for those who export spans.
    span: Span,
}

/// Whether reading relies on what the runtime knows of the descriptor.
#[derive(Debug, Clone, Copy)]
enum Trust {
    /// Read only when it is said to be readable.
    Readiness,
    /// Ask the kernel.
    Nothing,
}

/// One stream of output, and what was read from it but not sent yet.
#[derive(Debug)]
struct Source {
    stream: Stream,
    /// `None` at the end of the stream.
    fd: Option<WatchedFd>,
    pending: Vec<u8>,
    /// The last read brought much. Then the next one likely will, and goes to where it stays.
    is_busy: bool,
    /// Whether its pipe was made larger.
    is_wide: bool,
}

impl Pump {
    /// Must be called inside the runtime.
    pub(super) fn new(
        process: Arc<Process>,
        attachment: Arc<Attachment>,
        exit: ExitWatch,
        outputs: Vec<(Stream, OwnedFd)>,
        input: Option<StdinWriter>,
    ) -> io::Result<Self> {
        let sources = outputs
            .into_iter()
            .map(|(stream, fd)| {
                let fd = watch(fd, Interest::READABLE).map_err(|(_, err)| err)?;
                Ok(Source {
                    stream,
                    fd: Some(fd),
                    pending: Vec::new(),
                    is_busy: false,
                    is_wide: false,
                })
            })
            .collect::<io::Result<Vec<_>>>()?;
        Ok(Self {
            process,
            attachment,
            exit: Arc::new(exit),
            sources,
            input,
            last_event: None,
            answered: 0,
            limited: None,
            span: Span::none(),
        })
    }

    /// Of a process in a group of its own, which is kept as long.
    pub(super) fn limited(self, limited: Option<limits::Group>) -> Self {
        Self { limited, ..self }
    }

    /// Of a process whose life is this span.
    pub(super) fn traced(self, span: Span) -> Self {
        Self { span, ..self }
    }

    /// Moves everything until the process is closed.
    pub(super) async fn run(mut self) {
        let input = self.input.take();
        let process = Arc::clone(&self.process);
        let feed = async {
            if let Some(input) = input {
                // A terminated program's input may be held open by others.
                tokio::select! {
                    () = input.run() => {}
                    () = process.stop.cancelled() => {}
                }
            }
        };
        tokio::pin!(feed);
        let mut feeding = true;
        {
            let moving = self.run_output();
            tokio::pin!(moving);
            loop {
                tokio::select! {
                    () = &mut moving => break,
                    () = &mut feed, if feeding => feeding = false,
                }
            }
        }
    }

    async fn run_output(&mut self) {
        let process = Arc::clone(&self.process);
        let exit = Arc::clone(&self.exit);
        let mut exited = false;
        while !exited || self.sources.iter().any(|source| source.fd.is_some()) {
            let deadline = self.deadline();
            let chunk_bytes = self.chunk_bytes();
            tokio::select! {
                () = process.stop.cancelled() => break,
                code = exit.wait(&process.group), if !exited => {
                    exited = true;
                    self.drain();
                    self.tell_limits();
                    self.flush().await;
                    self.emit_exited(code).await;
                }
                () = fill_any(&mut self.sources, chunk_bytes) => {}
                () = tokio::time::sleep_until(deadline.unwrap_or_else(Instant::now)),
                    if deadline.is_some() => self.flush().await,
            }
            // A timer takes a millisecond even if it is due.
            let is_due = self.deadline().is_some_and(|at| at <= Instant::now());
            if is_due || self.is_chunk_full(chunk_bytes) {
                self.flush().await;
            }
        }
        self.flush().await;
        for source in &mut self.sources {
            source.fd = None;
        }
        process.release_terminal();
        if !exited {
            let code = exit.wait(&process.group).await;
            self.emit_exited(code).await;
        }
        process.group.reap();
        process.stdin.end();
        let seq = process.update(|log| log.push_closed());
        let closed = ClosedNotification {
            process_id: process.id.clone(),
            seq,
        };
        self.emit(CLOSED, &closed).await;
        // The first process of a sandbox still has to clear up, which nobody waits for.
        exit.leader_ended().await;
        process.group.reap();
    }

    /// When pending output has to go. The first output after a pause, or after input, goes at once.
    fn deadline(&self) -> Option<Instant> {
        let pending = self.sources.iter().any(|source| !source.pending.is_empty());
        pending.then(|| match self.last_event {
            Some(last) if self.answered == self.process.stdin.fed() => last + COALESCE,
            _ => Instant::now(),
        })
    }

    /// Largest event for who listens at the moment.
    fn chunk_bytes(&self) -> usize {
        match self.attachment.current().map(|outbox| outbox.form()) {
            Some(Form::Json) => MAX_BASE64_CHUNK_BYTES,
            Some(Form::Bulk | Form::Compressed) | None => MAX_CHUNK_BYTES,
        }
    }

    fn is_chunk_full(&self, chunk_bytes: usize) -> bool {
        self.sources
            .iter()
            .any(|source| source.pending.len() >= chunk_bytes)
    }

    /// Reads what the program left in the pipes, without waiting. The runtime may have heard of the
    /// exit and not yet of the output before it, so its idea of what is readable does not count.
    fn drain(&mut self) {
        for source in &mut self.sources {
            let mut left = MAX_BYTES_BEFORE_EXITED;
            while left > 0 && source.fd.is_some() {
                let before = source.pending.len();
                source.read_available(before + MAX_CHUNK_BYTES.min(left), Trust::Nothing);
                let read = source.pending.len() - before;
                if read == 0 {
                    break;
                }
                left = left.saturating_sub(read);
            }
        }
    }

    /// Says which limits were in the program's way, where it would say so itself.
    fn tell_limits(&mut self) {
        let reached = self.limited.as_ref().map(limits::Group::reached);
        let Some(source) = self.sources.last_mut() else {
            return;
        };
        for reached in reached.into_iter().flatten() {
            if !matches!(source.pending.last(), None | Some(b'\n')) {
                source.pending.push(b'\n');
            }
            let text = format!("{reached}\n");
            source.pending.extend_from_slice(text.as_bytes());
        }
    }

    /// Logs and sends what is pending, in chunks.
    async fn flush(&mut self) {
        let mut events = Vec::new();
        let chunk_bytes = self.chunk_bytes();
        for source in &mut self.sources {
            let pending = std::mem::take(&mut source.pending);
            if pending.len() <= chunk_bytes && pending.len() >= pending.capacity() / 2 {
                if !pending.is_empty() {
                    events.push((source.stream, Bytes::from(pending)));
                }
                continue;
            }
            for chunk in pending.chunks(chunk_bytes) {
                // A copy of exactly this size, because the log keeps it.
                events.push((source.stream, Bytes::copy_from_slice(chunk)));
            }
        }
        for (stream, chunk) in events {
            let seq = self
                .process
                .update(|log| log.push_output(stream, chunk.clone()));
            self.process.spill().await;
            let process_id = self.process.id.clone();
            self.emit(
                OUTPUT,
                &OutputNotification {
                    process_id,
                    seq,
                    stream,
                    chunk,
                },
            )
            .await;
            self.last_event = Some(Instant::now());
            self.answered = self.process.stdin.fed();
        }
    }

    async fn emit_exited(&self, exit_code: i32) {
        self.span.record("process.exit.code", exit_code);
        let confined = self.process.group.is_confined();
        let noticed = self.exit.has_notice();
        let (denied, seq) = self.process.update(|log| {
            let denied = confined && log.judge_exit(exit_code, noticed);
            (denied, log.push_exited(exit_code))
        });
        let process_id = self.process.id.clone();
        let sandbox_denied = Some(denied);
        self.emit(
            EXITED,
            &ExitedNotification {
                process_id,
                seq,
                exit_code,
                sandbox_denied,
            },
        )
        .await;
    }

    /// Offers an event to the attached connection, waiting for room. Without a connection, or when
    /// it ends meanwhile, the event stays in the log only.
    async fn emit<P: Serialize>(&self, method: &'static str, params: &P) {
        if let Some(outbox) = self.attachment.current() {
            // All events of a process are of one class, so that they keep their order.
            let lane = match self.process.is_interactive() {
                true => Lane::Prompt,
                false => Lane::Ordinary,
            };
            let _ = outbox.notify_in(lane, method, params).await;
        }
    }
}

impl Source {
    /// Waits for output and takes what is there, up to a chunk. Never returns at the end.
    async fn fill(&mut self, chunk_bytes: usize) {
        let Some(fd) = &self.fd else {
            return std::future::pending().await;
        };
        match fd.readable().await {
            // The flag stays set; reading clears it when there is nothing left.
            Ok(ready) => drop(ready),
            Err(_) => self.fd = None,
        }
        self.read_available(chunk_bytes, Trust::Readiness);
    }

    /// Notes how much a read brought.
    fn note(&mut self, bytes: usize) {
        self.is_busy = bytes >= BUSY_BYTES;
        if self.is_busy
            && !std::mem::replace(&mut self.is_wide, true)
            && let Some(fd) = &self.fd
        {
            widen(fd.get_ref());
        }
    }

    /// Reads until there is nothing more, the end, or at least `limit` pending bytes.
    fn read_available(&mut self, limit: usize, trust: Trust) {
        while let Some(fd) = &self.fd
            && self.pending.len() < limit
        {
            let pending = &mut self.pending;
            let room = limit - pending.len();
            let mut read = |fd: &OwnedFd| {
                if self.is_busy {
                    pending.reserve_exact(room);
                    return Ok(rustix::io::read(fd, spare_capacity(pending))?);
                }
                SCRATCH.with_borrow_mut(|scratch| {
                    let room = scratch.len().min(room);
                    let room = scratch.get_mut(..room).unwrap_or_default();
                    let read = rustix::io::read(fd, &mut *room)?;
                    pending.extend_from_slice(room.get(..read).unwrap_or_default());
                    Ok(read)
                })
            };
            let read = match trust {
                Trust::Readiness => fd.try_io(Interest::READABLE, read),
                Trust::Nothing => read(fd.get_ref()),
            };
            match read {
                Ok(0) => self.fd = None,
                Ok(bytes) => self.note(bytes),
                Err(err) if err.kind() == io::ErrorKind::WouldBlock => return,
                Err(err) if err.kind() == io::ErrorKind::Interrupted => {}
                // A terminal's end is EIO.
                Err(_) => self.fd = None,
            }
        }
    }
}

/// Gives the program room to go on while its output is being carried away. Without effect on a
/// terminal, and where the user's share of the system's pipes is used up.
fn widen(fd: &OwnedFd) {
    let _ = rustix::pipe::fcntl_setpipe_size(fd, BUSY_PIPE_BYTES);
}

thread_local! {
    /// Where output is read to, so that an idle process holds no buffer.
    static SCRATCH: RefCell<Vec<u8>> = RefCell::new(vec![0; MAX_CHUNK_BYTES]);
}

/// Waits until one of the sources has output or ends, and takes it.
async fn fill_any(sources: &mut [Source], chunk_bytes: usize) {
    match sources {
        [only] => only.fill(chunk_bytes).await,
        [first, second] => tokio::select! {
            () = first.fill(chunk_bytes) => {}
            () = second.fill(chunk_bytes) => {}
        },
        // No other number of streams is ever opened.
        _ => std::future::pending().await,
    }
}

#[cfg(test)]
mod tests;
