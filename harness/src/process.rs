//! Programs on the executor: start them, follow their events, write to them, end them.
//!
//! What an executor of release 0.169 lacks is made up for where that is possible without touching
//! the data, with a few lines of POSIX shell in front of the program:
//!
//! | lacking | instead |
//! |---|---|
//! | end of standard input | [`Stdin::Piped`] goes through a FIFO that a shell loop fills; see `feed` |
//! | size of a terminal | `stty` before the program, and from a second process on [`ProcessControl::resize`] |
//! | signals but interrupt | nothing: [`ProcessControl::interrupt`] and [`ProcessControl::terminate`] are all there is |
//!
//! Executors that announce the extension for it are asked instead, and none of this happens.
//!
//! In each case the program then replaces the shell (`exec`), so process id, process group, signals
//! and exit code are its own. A program that does not exist then shows as exit code 127, not as a
//! failed start.

use std::{collections::BTreeMap, sync::Arc};

use bytes::Bytes;
use exec_proto::{
    PathUri,
    process::{self as wire, EnvInherit, EnvPolicy, ReadParams, StartParams, StartResult, Stream},
};

use crate::{
    Client, Error, Network,
    engine::{
        Job,
        call::{Asker, Retry},
        route::ProcessRoute,
    },
    limits,
    queue::Queue,
};

mod control;
mod feed;
mod terminal;

pub use control::ProcessControl;
pub use terminal::TtySize;

/// Which output a chunk came from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum OutputStream {
    /// Standard output.
    Stdout,
    /// Standard error.
    Stderr,
    /// A terminal, which has only one.
    Pty,
}

/// How a process ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ExitStatus {
    /// The exit code; 128 plus the signal's number after a signal, and -1 when nobody knows.
    pub code: i32,
    /// The executor guesses that its sandbox stopped the process.
    pub sandbox_denied: bool,
}

/// What happens to a process, in order, each exactly once.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ProcessEvent {
    /// It wrote something.
    Output {
        /// Where.
        stream: OutputStream,
        /// What.
        chunk: Bytes,
    },
    /// These events were evicted by the executor. Readers get [`Error::OutputLost`] in its place.
    #[doc(hidden)]
    Lost {
        /// The first of them.
        first: u64,
        /// The last of them.
        last: u64,
    },
    /// Its main process has ended. Output may still follow.
    Exited(ExitStatus),
    /// Nothing follows. Comes when every holder of its outputs has closed them.
    Closed,
}

impl ProcessEvent {
    /// The bytes of payload, for budgets.
    pub(crate) fn bytes(&self) -> usize {
        match self {
            Self::Output { chunk, .. } => chunk.len(),
            _ => 0,
        }
    }
}

/// What becomes of standard input.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Stdin {
    /// `/dev/null`.
    #[default]
    Null,
    /// A pipe that can be written and ended, with any executor.
    Piped,
    /// A pipe that can be written. It can be ended only when the executor has an extension for it.
    /// Needs no shell on the executor.
    PipedWithoutEnd,
}

/// What happens when the reader of a process's events is slower than the process.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Overflow {
    /// The process runs on. Events beyond the queue are read back later; should the executor have
    /// evicted them by then, the reader gets [`Error::OutputLost`].
    #[default]
    ReadBack,
    /// The process waits, and every other operation of the client waits with it. Nothing is lost.
    /// For a client that runs one process; see [`Client::sibling`].
    Block,
}

/// A program to be started.
#[derive(Debug, Clone)]
pub struct Command {
    argv: Vec<String>,
    env: BTreeMap<String, String>,
    inherit: EnvInherit,
    cwd: Option<PathUri>,
    id: Option<String>,
    tty: Option<TtySize>,
    stdin: Stdin,
    overflow: Overflow,
    network: Option<Network>,
}

impl Command {
    /// A program and its arguments. It inherits the executor's environment and working directory.
    pub fn new<S: Into<String>>(argv: impl IntoIterator<Item = S>) -> Self {
        Self {
            argv: argv.into_iter().map(Into::into).collect(),
            env: BTreeMap::new(),
            inherit: EnvInherit::All,
            cwd: None,
            id: None,
            tty: None,
            stdin: Stdin::Null,
            overflow: Overflow::ReadBack,
            network: None,
        }
    }

    /// Limits what it may reach over the network. Default: whatever the executor can.
    #[must_use]
    pub fn network(mut self, network: Network) -> Self {
        self.network = Some(network);
        self
    }

    /// Sets a variable, over what is inherited.
    #[must_use]
    pub fn env(mut self, name: impl Into<String>, value: impl Into<String>) -> Self {
        self.env.insert(name.into(), value.into());
        self
    }

    /// Says which of the executor's variables are inherited.
    #[must_use]
    pub fn inherit(mut self, inherit: EnvInherit) -> Self {
        self.inherit = inherit;
        self
    }

    /// Sets the working directory. Default: the executor's.
    #[must_use]
    pub fn cwd(mut self, directory: PathUri) -> Self {
        self.cwd = Some(directory);
        self
    }

    /// Sets the process's name, which no other process of the session may have. Default: a unique
    /// one.
    #[must_use]
    pub fn id(mut self, id: impl Into<String>) -> Self {
        self.id = Some(id.into());
        self
    }

    /// Runs it on a terminal of this size. Its standard input is the terminal.
    #[must_use]
    pub fn tty(mut self, size: TtySize) -> Self {
        self.tty = Some(size);
        self
    }

    /// Says what becomes of standard input, when it is not a terminal.
    #[must_use]
    pub fn stdin(mut self, stdin: Stdin) -> Self {
        self.stdin = stdin;
        self
    }

    /// Says what happens when the events are read too slowly.
    #[must_use]
    pub fn overflow(mut self, overflow: Overflow) -> Self {
        self.overflow = overflow;
        self
    }
}

/// A started program: its events, and the means to control it.
///
/// Dropping it stops the reading of events, not the program; that ends by itself, by
/// [`ProcessControl::terminate`], or with the executor's session.
#[derive(Debug)]
pub struct Process {
    control: ProcessControl,
    queue: Arc<Queue<Result<ProcessEvent, Error>>>,
    /// `Closed` was taken from the queue but not returned yet.
    closing: bool,
}

/// What a process wrote and how it ended.
#[derive(Debug, Clone)]
pub struct Output {
    /// How it ended.
    pub status: ExitStatus,
    /// Standard output; of a terminal, everything.
    pub stdout: Vec<u8>,
    /// Standard error.
    pub stderr: Vec<u8>,
}

impl Client {
    /// Starts a program.
    ///
    /// A start whose answer is lost with the connection is asked again with the same process id,
    /// by which the executor knows it, so it happens once.
    ///
    /// # Errors
    ///
    /// [`Error::Rpc`] when the executor cannot start it, [`Error::Misuse`] for an empty command,
    /// [`Error::Unsupported`] when its network is limited and the executor cannot do that.
    ///
    /// # Cancel safety
    ///
    /// When the future is dropped the program may or may not be started, and is not terminated.
    pub async fn start(&self, command: Command) -> Result<Process, Error> {
        if command.argv.first().is_none_or(String::is_empty) {
            return Err(Error::Misuse("the command is empty".into()));
        }
        let info = self.info();
        if command.network.is_some() && !info.capabilities.network_proxy_launch {
            return Err(Error::Unsupported("limiting the network of a program"));
        }
        let cwd = match command.cwd.or(info.cwd) {
            Some(cwd) => cwd,
            None => PathUri::parse("file:///").map_err(|error| Error::Misuse(error.to_string()))?,
        };
        let mut argv = command.argv;
        let mut terminal = None;
        let mut feed = None;
        let mut pipe_stdin = false;
        let mut options = None;
        if let Some(size) = command.tty.filter(|_| info.capabilities.process_resize) {
            options = Some(size.options());
        } else if let Some(size) = command.tty {
            let (wrapped, prepared) = terminal::Terminal::prepare(self, size, argv);
            argv = wrapped;
            terminal = Some(prepared);
        } else if command.stdin != Stdin::Null {
            pipe_stdin = true;
            if command.stdin == Stdin::Piped && !info.capabilities.process_stdin_close {
                let (wrapped, prepared) = feed::Feed::prepare(self, argv).await?;
                argv = wrapped;
                feed = Some(prepared);
            }
        }
        let id = command.id.unwrap_or_else(|| self.unique_name());
        let params = StartParams {
            process_id: id.clone(),
            metadata: None,
            argv,
            cwd,
            env_policy: Some(EnvPolicy {
                inherit: command.inherit,
                // A caller who runs a program remotely expects the remote machine's environment as
                // it is; names such as MONKEY would be dropped otherwise. The executor removes its
                // own credentials in any case.
                ignore_default_excludes: true,
                exclude: Vec::new(),
                set: BTreeMap::new(),
                include_only: Vec::new(),
            }),
            shell_snapshot: None,
            env: command.env,
            tty: command.tty.is_some(),
            pipe_stdin,
            arg0: None,
            sandbox: command.network.as_ref().map(|_| Network::sandbox()),
            enforce_managed_network: command.network.is_some(),
            managed_network: None,
            network_proxy: command.network.map(Network::into_proxy),
            terminal: options,
        };
        let (queue, route) = self.route(command.overflow);
        let stdin = match (command.tty.is_some(), command.stdin, feed) {
            (true, ..) => control::Input::Terminal,
            (false, Stdin::Null, _) => control::Input::None,
            (false, _, Some(feed)) => control::Input::Feed(feed),
            (false, _, None) => control::Input::Pipe {
                can_end: info.capabilities.process_stdin_close,
            },
        };
        // Made before the start, so that its drop frees the route when this future is dropped.
        let process = Process {
            control: ProcessControl::new(self.clone(), id.clone(), stdin, terminal, String::new()),
            queue,
            closing: false,
        };
        let started: Result<StartResult, Error> = self
            .submit(
                wire::START,
                &params,
                Retry::Repeat,
                |reply| Asker::Start(id.clone(), reply),
                |call| Job::Start {
                    call,
                    process: id.clone(),
                    route,
                },
            )
            .await;
        if let Err(error) = started {
            process.control.clean_up().await;
            return Err(error);
        }
        Ok(process)
    }

    /// Takes over a process of the session that an earlier client has started. Its events come from
    /// the oldest that the executor retains; when older ones are gone, [`Error::OutputLost`] comes
    /// first.
    ///
    /// `has_terminal` says whether the process was started with one; see [`Client::processes`].
    ///
    /// # Errors
    ///
    /// [`Error::ProcessGone`] when the session has no such process.
    pub async fn attach(
        &self,
        id: &str,
        has_terminal: bool,
        overflow: Overflow,
    ) -> Result<Process, Error> {
        let (queue, route) = self.route(overflow);
        let process = Process {
            control: self.control(id, has_terminal),
            queue,
            closing: false,
        };
        let params = ReadParams {
            process_id: id.to_owned(),
            after_seq: Some(0),
            max_bytes: None,
            wait_ms: Some(0),
        };
        let _: exec_proto::Empty = self
            .submit(
                wire::READ,
                &params,
                Retry::Repeat,
                |reply| Asker::Attach(id.to_owned(), reply),
                |call| Job::Start {
                    call,
                    process: id.to_owned(),
                    route,
                },
            )
            .await?;
        Ok(process)
    }

    /// The means to control a process of the session that an earlier client has started. Whether
    /// there is one shows when it is used.
    pub fn control(&self, id: &str, has_terminal: bool) -> ProcessControl {
        let input = if has_terminal {
            control::Input::Terminal
        } else {
            control::Input::Pipe {
                can_end: self.capabilities().process_stdin_close,
            }
        };
        // The executor knows the writes of the earlier client by their names.
        let writes = format!("{}-", self.unique_name());
        ProcessControl::new(self.clone(), id.to_owned(), input, None, writes)
    }

    fn route(&self, overflow: Overflow) -> (Arc<Queue<Result<ProcessEvent, Error>>>, ProcessRoute) {
        let room = match overflow {
            Overflow::ReadBack => limits::EVENT_QUEUE_BYTES,
            Overflow::Block => limits::BLOCKING_QUEUE_BYTES,
        };
        let queue = Queue::new(room, self.drained());
        let route = ProcessRoute::new(queue.clone(), overflow);
        (queue, route)
    }
}

impl Process {
    /// The process's name in the session.
    pub fn id(&self) -> &str {
        self.control.id()
    }

    /// The means to write to the process and to end it, independent of reading its events.
    pub fn control(&self) -> &ProcessControl {
        &self.control
    }

    /// Waits for the next event; `None` after [`ProcessEvent::Closed`] or an error that ends the
    /// process's stream. [`Error::OutputLost`] does not end it.
    ///
    /// # Cancel safety
    ///
    /// No event is lost when the future is dropped.
    pub async fn next_event(&mut self) -> Option<Result<ProcessEvent, Error>> {
        if !self.closing {
            let item = self.queue.pop().await?;
            if !matches!(item, Ok(ProcessEvent::Closed)) {
                return Some(item);
            }
            self.closing = true;
        }
        self.control.clean_up().await;
        self.closing = false;
        Some(Ok(ProcessEvent::Closed))
    }

    /// Waits until the process has ended and its outputs are closed, throwing output away.
    ///
    /// # Errors
    ///
    /// The error that ended the stream of events, such as [`Error::SessionLost`].
    pub async fn wait(&mut self) -> Result<ExitStatus, Error> {
        self.collect(|_, _| Ok(())).await
    }

    /// Waits for the end and collects the output.
    ///
    /// # Errors
    ///
    /// [`Error::Limit`] when more than `limit_bytes` were written, [`Error::OutputLost`] when some
    /// of it is gone, or the error that ended the stream of events.
    pub async fn output(mut self, limit_bytes: usize) -> Result<Output, Error> {
        let (mut stdout, mut stderr) = (Vec::new(), Vec::new());
        let status = self
            .collect(|stream, chunk: Result<Bytes, Error>| {
                let target = if stream == OutputStream::Stderr {
                    &mut stderr
                } else {
                    &mut stdout
                };
                target.extend_from_slice(&chunk?);
                let size = stdout.len() + stderr.len();
                if size > limit_bytes {
                    return Err(Error::Limit {
                        what: "output",
                        size: size as u64,
                        limit: limit_bytes as u64,
                    });
                }
                Ok(())
            })
            .await?;
        Ok(Output {
            status,
            stdout,
            stderr,
        })
    }

    async fn collect(
        &mut self,
        mut take: impl FnMut(OutputStream, Result<Bytes, Error>) -> Result<(), Error>,
    ) -> Result<ExitStatus, Error> {
        let mut status = None;
        while let Some(event) = self.next_event().await {
            match event {
                Ok(ProcessEvent::Output { stream, chunk }) => take(stream, Ok(chunk))?,
                Ok(ProcessEvent::Exited(exit)) => status = Some(exit),
                Ok(ProcessEvent::Closed | ProcessEvent::Lost { .. }) => {}
                Err(error @ Error::OutputLost { .. }) => take(OutputStream::Stdout, Err(error))?,
                Err(error) => return Err(error),
            }
        }
        status.ok_or_else(|| {
            Error::Protocol("it closed a process without saying how it ended".into())
        })
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        self.queue.abandon();
    }
}

pub(crate) fn output_stream(stream: Stream) -> OutputStream {
    match stream {
        Stream::Stdout => OutputStream::Stdout,
        Stream::Stderr => OutputStream::Stderr,
        Stream::Pty => OutputStream::Pty,
    }
}
