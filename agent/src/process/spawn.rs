//! Starting a program: everything between a checked request and a running child.
//!
//! The child leads a new session, has only descriptors 0 to 2, default signal handling, and exactly
//! the environment of the request. [`Spawner::spawn`] returns after a successful `exec`, so a
//! program that cannot be executed is an error and not an exit.
//!
//! All children are started by one thread that lives as long as the executor. The kernel sends the
//! parent-death signal when the *thread* that forked ends, so a child started on a pool thread would
//! die with that thread.

use std::ffi::{OsStr, OsString};
use std::io;
use std::os::fd::{AsFd as _, BorrowedFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use exec_proto::RpcError;
use exec_proto::process::Stream;
use rustix::fs::{OFlags, fcntl_getfl, fcntl_setfl};
use rustix::pipe::{PipeFlags, pipe_with};
use rustix::process::Signal;
use tokio::io::Interest;
use tokio::sync::{mpsc, oneshot};

use super::group::{Leader, LeaderKind, ProcessGroup};
use super::lookup;
use super::pty::{Size, Terminal};
use super::watched::watch;
use crate::child::{NewProcess, Started, null_device};
use crate::environment::Variables;
use crate::events;
use crate::limits::Bounds;
use crate::sandbox::{self, Confinement, Journal, Launch, OUTCOME_BYTES, Prepared, Task, Template};

/// Requests that wait for the spawning thread. A spawn takes about a millisecond.
const QUEUE: usize = 64;

/// How long a sandbox may take to be set up. Milliseconds unless a file system hangs.
const OUTCOME_TIME: Duration = Duration::from_secs(30);

/// How long a process for file requests may take to end.
const FILES_END_TIME: Duration = Duration::from_secs(2);

/// A checked request.
pub(super) struct SpawnRequest {
    pub(super) argv: Vec<String>,
    pub(super) arg0: Option<String>,
    pub(super) cwd: PathBuf,
    pub(super) variables: Variables,
    pub(super) stdio: StdioKind,
    /// A descriptor that the child gets besides its standard ones, under the same number.
    pub(super) extra: Option<Arc<OwnedFd>>,
    /// What the program is confined to.
    pub(super) confinement: Option<Confinement>,
    /// Ports of loopback in the program's own network whose listeners the executor gets.
    pub(super) ways: Vec<u16>,
    /// What the program may use.
    pub(super) bounds: Bounds,
}

/// What the child's standard descriptors are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum StdioKind {
    /// Pipes for output, the null device for input.
    Output,
    /// Pipes for both.
    InputOutput,
    /// A terminal of that size.
    Terminal(Size),
    /// A pipe for standard output only; input and errors are the null device.
    Capture,
}

/// A running child.
#[derive(Debug)]
pub(super) struct Spawned {
    pub(super) leader: Leader,
    pub(super) pidfd: OwnedFd,
    /// The executor's end of standard input; non-blocking.
    pub(super) input: Option<OwnedFd>,
    /// The executor's ends of output; non-blocking.
    pub(super) outputs: Vec<(Stream, OwnedFd)>,
    /// The executor's end of the terminal, if there is one, to change its size.
    pub(super) terminal: Option<OwnedFd>,
    /// Where the sandbox tells what was refused.
    pub(super) notices: Option<OwnedFd>,
    /// Where the sandbox tells whether the program runs.
    outcome: Option<OwnedFd>,
    /// Where the listeners of the program's own network come from, and how many.
    ways: Option<(UnixStream, usize)>,
}

/// Why a program was not started. The text goes to the client with code -32603.
#[derive(Debug, thiserror::Error)]
pub(crate) enum SpawnError {
    /// An empty program name.
    #[error("missing program for {0} spawn")]
    NoProgram(&'static str),
    /// No program of that name for a terminal.
    #[error("Unable to spawn {program} because:\nUnable to resolve the PATH")]
    Unresolved {
        /// As requested.
        program: String,
    },
    /// No program of that name on the path, for a terminal.
    #[error("Unable to spawn {program} because:\nNo viable candidates found in PATH {path:?}")]
    NotOnPath {
        /// As requested.
        program: String,
        /// Where it was looked for.
        path: OsString,
    },
    /// The operating system's refusal.
    #[error(transparent)]
    Io(#[from] io::Error),
    /// The sandbox could not be set up, or the program not executed in it.
    #[error(transparent)]
    Sandbox(#[from] sandbox::Failure),
    /// The sandbox did not say anything for too long.
    #[error("the sandbox was not ready within {} seconds", OUTCOME_TIME.as_secs())]
    SandboxTimeout,
    /// The executor is shutting down.
    #[error("the executor is shutting down")]
    ShuttingDown,
}

impl SpawnError {
    /// The error of a file request.
    pub(crate) fn for_files(&self) -> RpcError {
        match self {
            Self::Sandbox(failure) => failure.for_files(),
            err => RpcError::internal(err.to_string()),
        }
    }
}

impl From<SpawnError> for RpcError {
    fn from(err: SpawnError) -> Self {
        match err {
            SpawnError::Sandbox(failure) => failure.for_process(),
            err => Self::internal(err.to_string()),
        }
    }
}

/// Hands requests to the spawning thread.
#[derive(Debug, Clone)]
pub(crate) struct Spawner {
    jobs: mpsc::Sender<Job>,
}

type Job = Box<dyn FnOnce(&mut Copies) + Send>;

impl Spawner {
    /// Starts the thread. It ends when the last clone is dropped. `names` is where it is written down
    /// which names sandboxes occupy; what is left in it from earlier is cleared up.
    pub(crate) fn start(names: Option<PathBuf>) -> io::Result<Self> {
        close_inherited_on_exec();
        if let Some(names) = names.clone() {
            // A file system that hangs must hold nothing up.
            std::thread::Builder::new()
                .name("sandbox-sweep".to_owned())
                .spawn(move || sandbox::sweep_names(&names))?;
        }
        let (jobs, mut queue) = mpsc::channel::<Job>(QUEUE);
        std::thread::Builder::new()
            .name("spawner".to_owned())
            .spawn(move || {
                let mut copies = Copies {
                    template: None,
                    journal: names.map(Journal::new),
                };
                while let Some(job) = queue.blocking_recv() {
                    job(&mut copies);
                }
            })?;
        Ok(Self { jobs })
    }

    /// Starts a program.
    ///
    /// # Cancel safety
    ///
    /// If the call is cancelled, a program that was started is killed.
    pub(super) async fn spawn(&self, request: SpawnRequest) -> Result<Spawned, SpawnError> {
        self.run(move |copies| spawn(&request, copies)).await
    }

    /// Starts a process that serves file requests in a sandbox, over the returned socket.
    ///
    /// # Cancel safety
    ///
    /// As [`Self::spawn`].
    pub(crate) async fn confine_files(
        &self,
        confinement: &Confinement,
    ) -> Result<(Confined, UnixStream), SpawnError> {
        let (ours, theirs) = UnixStream::pair()?;
        let launch = Launch {
            task: Task::Files,
            parent: rustix::process::getpid().as_raw_nonzero().get(),
            confinement: confinement.clone(),
            ways: Vec::new(),
            bounds: Bounds::default(),
        };
        let spawned = self
            .run(move |copies| spawn_files(&launch, theirs.into(), copies))
            .await?;
        let group = ProcessGroup::new(spawned.leader, spawned.pidfd)?.0;
        let input = ours.try_clone()?;
        let confined = Confined {
            group: Some(group),
            input,
        };
        Ok((confined, ours))
    }

    /// Runs something on the thread and waits until its sandbox, if it has one, is ready.
    async fn run(
        &self,
        start: impl FnOnce(&mut Copies) -> Result<Spawned, SpawnError> + Send + 'static,
    ) -> Result<Spawned, SpawnError> {
        let (answer, spawned) = oneshot::channel();
        let job = move |copies: &mut Copies| {
            if let Err(Ok(unclaimed)) = answer.send(start(copies)) {
                unclaimed.kill();
            }
        };
        self.jobs
            .send(Box::new(job))
            .await
            .map_err(|_| SpawnError::ShuttingDown)?;
        let mut spawned = Unclaimed(Some(spawned.await.map_err(|_| SpawnError::ShuttingDown)??));
        if let Some(outcome) = spawned
            .0
            .as_mut()
            .and_then(|spawned| spawned.outcome.take())
        {
            await_outcome(outcome).await?;
        }
        spawned.0.take().ok_or(SpawnError::ShuttingDown)
    }
}

/// A process that serves file requests in a sandbox. Dropping it ends its input.
#[derive(Debug)]
pub(crate) struct Confined {
    group: Option<ProcessGroup>,
    input: UnixStream,
}

impl Drop for Confined {
    fn drop(&mut self) {
        let _ = self.input.shutdown(std::net::Shutdown::Write);
        // It finishes what it has begun, puts files back, and is killed if that takes too long.
        if let Some(group) = self.group.take() {
            let _ = std::thread::Builder::new()
                .name("sandbox-end".to_owned())
                .spawn(move || group.end_within(FILES_END_TIME));
        }
    }
}

/// Kills the child unless it is taken out.
struct Unclaimed(Option<Spawned>);

impl Drop for Unclaimed {
    fn drop(&mut self) {
        if let Some(spawned) = &self.0 {
            spawned.kill();
        }
    }
}

/// Waits until the program runs in its sandbox.
async fn await_outcome(pipe: OwnedFd) -> Result<(), SpawnError> {
    set_nonblocking(&pipe)?;
    let pipe = watch(pipe, Interest::READABLE).map_err(|(_, err)| err)?;
    let told = async {
        let mut told = Vec::new();
        let mut buffer = [0; OUTCOME_BYTES];
        while told.len() < buffer.len() {
            let mut ready = pipe.readable().await?;
            match ready.try_io(|pipe| Ok(rustix::io::read(pipe, &mut buffer)?)) {
                Ok(Ok(0)) => break,
                Ok(Ok(read)) => told.extend_from_slice(buffer.get(..read).unwrap_or_default()),
                Ok(Err(err)) => return Err(err),
                Err(_) => {}
            }
        }
        Ok(told)
    };
    let told = tokio::time::timeout(OUTCOME_TIME, told).await;
    let told = told.map_err(|_| SpawnError::SandboxTimeout)??;
    Ok(sandbox::parse_outcome(&told)?)
}

impl Spawned {
    /// A child of this process that was just started and is not known to anybody yet.
    fn new(started: Started, kind: LeaderKind) -> Self {
        let Started { pid, pidfd } = started;
        Self {
            leader: Leader { pid, kind },
            pidfd,
            input: None,
            outputs: Vec::new(),
            terminal: None,
            notices: None,
            outcome: None,
            ways: None,
        }
    }

    /// The listeners that were asked for, in the order of their ports.
    pub(super) fn listeners(&mut self) -> io::Result<Vec<std::net::TcpListener>> {
        match self.ways.take() {
            Some((ways, count)) => sandbox::receive_ways(&ways, count),
            None => Ok(Vec::new()),
        }
    }

    /// Kills and reaps a child that nobody wants.
    pub(super) fn kill(&self) {
        self.leader.signal(Signal::KILL);
        let id = rustix::process::WaitId::PidFd(self.pidfd.as_fd());
        let _ = rustix::process::waitid(id, rustix::process::WaitIdOptions::EXITED);
    }
}

fn spawn(request: &SpawnRequest, copies: &mut Copies) -> Result<Spawned, SpawnError> {
    let terminal = matches!(request.stdio, StdioKind::Terminal(_));
    let program = match request.argv.first() {
        Some(program) if !program.is_empty() => program,
        _ => return Err(SpawnError::NoProgram(if terminal { "PTY" } else { "pipe" })),
    };
    let path = request
        .variables
        .get(OsStr::new("PATH"))
        .map(OsString::as_os_str);
    if terminal && path.is_none() && !program.starts_with('/') {
        return Err(SpawnError::Unresolved {
            program: program.clone(),
        });
    }
    let has_nul = |text: &OsString| text.as_encoded_bytes().contains(&0);
    let mut variables = request.variables.iter();
    if variables.any(|(name, value)| has_nul(name) || has_nul(value)) {
        let text = "data provided contains a nul byte";
        return Err(io::Error::new(io::ErrorKind::InvalidInput, text).into());
    }
    let file = match lookup::find(OsStr::new(program), path, &request.cwd) {
        Err(err) if terminal && err.kind() == io::ErrorKind::NotFound && !program.contains('/') => {
            return Err(SpawnError::NotOnPath {
                program: program.clone(),
                path: path.unwrap_or_default().to_owned(),
            });
        }
        found => found?,
    };

    let name = request.arg0.as_ref().unwrap_or(program);
    let argv = || std::iter::once(name).chain(request.argv.iter().skip(1));
    let environment = || {
        let variables = request.variables.iter();
        variables
            .map(|(name, value)| sandbox::variable(name, value))
            .collect()
    };
    let Ends {
        input,
        outputs,
        terminal: master,
        theirs,
    } = connect(request.stdio)?;
    let null = null_device()?;
    let extra = request.extra.iter().map(|extra| extra.as_fd());
    let mut spawned = match &request.confinement {
        None => {
            let process = NewProcess {
                program: &file,
                argv: argv().map(OsStr::new).collect(),
                environment: environment(),
                cwd: &request.cwd,
                standard: theirs.or_null(&null),
                terminal,
                inherited: extra.collect(),
                bounds: Some(&request.bounds),
            };
            Spawned::new(process.start()?, LeaderKind::Program)
        }
        Some(confinement) => {
            // As without a sandbox, and without asking inside, where it may not even exist.
            std::fs::read_dir(&request.cwd)?;
            let launch = Launch {
                task: Task::Program {
                    program: file,
                    argv: argv().map(OsString::from).collect(),
                    environment: environment(),
                    cwd: request.cwd.clone(),
                    terminal,
                },
                parent: rustix::process::getpid().as_raw_nonzero().get(),
                confinement: confinement.clone(),
                ways: request.ways.clone(),
                bounds: request.bounds.clone(),
            };
            let kind = match confinement.files {
                Some(_) => LeaderKind::Sandbox,
                None => LeaderKind::Confined,
            };
            if let (Some(journal), Some(files)) = (&mut copies.journal, &confinement.files)
                && let Err(error) = journal.note(files.occupied())
            {
                events::names_not_noted(&error);
            }
            let prepared = launch.prepare()?;
            let started = match &request.extra {
                None => copies.make(theirs.or_null(&null), &prepared)?,
                // Under its own number, which may be another descriptor's in a copy.
                Some(_) => prepared.start(theirs.or_null(&null), extra)?,
            };
            let mut spawned = Spawned::new(started, kind);
            spawned.outcome = Some(prepared.outcome);
            spawned.notices = Some(prepared.notices);
            spawned.ways = prepared.ways.map(|ways| (ways, request.ways.len()));
            spawned
        }
    };
    spawned.input = input;
    spawned.outputs = outputs;
    spawned.terminal = master;
    Ok(spawned)
}

fn spawn_files(
    launch: &Launch,
    socket: OwnedFd,
    copies: &mut Copies,
) -> Result<Spawned, SpawnError> {
    let prepared = launch.prepare()?;
    let theirs = Standard {
        input: Some(socket),
        output: None,
        errors: None,
    };
    let started = copies.make(theirs.or_null(&null_device()?), &prepared)?;
    let mut spawned = Spawned::new(started, LeaderKind::Sandbox);
    spawned.outcome = Some(prepared.outcome);
    Ok(spawned)
}

/// Makes the first processes of sandboxes, on the spawning thread, whose children they become.
#[derive(Debug)]
struct Copies {
    template: Option<Template>,
    /// Of the names that they occupy.
    journal: Option<Journal>,
}

impl Copies {
    fn make(
        &mut self,
        standard: [BorrowedFd<'_>; 3],
        prepared: &Prepared,
    ) -> Result<Started, SpawnError> {
        let copy = |template: &Template| template.copy(standard, &prepared.inherited);
        // One that somebody has killed is replaced.
        let kept = self.template.take().and_then(|template| {
            let pid = copy(&template).ok()?;
            Some((template, pid))
        });
        let (template, pid) = match kept {
            Some(kept) => kept,
            None => {
                let template = Template::start()?;
                let pid = copy(&template)?;
                (template, pid)
            }
        };
        self.template = Some(template);
        Ok(Started::of(pid)?)
    }
}

/// A child's standard descriptors. What is not there is the null device.
struct Standard {
    input: Option<OwnedFd>,
    output: Option<OwnedFd>,
    errors: Option<OwnedFd>,
}

impl Standard {
    fn or_null<'a>(&'a self, null: &'a OwnedFd) -> [BorrowedFd<'a>; 3] {
        [&self.input, &self.output, &self.errors].map(|end| end.as_ref().unwrap_or(null).as_fd())
    }
}

/// The executor's ends of a child's standard descriptors, and the child's.
struct Ends {
    input: Option<OwnedFd>,
    outputs: Vec<(Stream, OwnedFd)>,
    terminal: Option<OwnedFd>,
    theirs: Standard,
}

/// Makes a child's standard descriptors.
fn connect(kind: StdioKind) -> io::Result<Ends> {
    if let StdioKind::Terminal(size) = kind {
        let Terminal { master, slave } = Terminal::open(size)?;
        set_nonblocking(&master)?;
        return Ok(Ends {
            input: Some(master.try_clone()?),
            terminal: Some(master.try_clone()?),
            outputs: vec![(Stream::Pty, master)],
            theirs: Standard {
                input: Some(slave.try_clone()?),
                output: Some(slave.try_clone()?),
                errors: Some(slave),
            },
        });
    }
    let (stdout, child_stdout) = pipe_with(PipeFlags::CLOEXEC)?;
    set_nonblocking(&stdout)?;
    let mut ends = Ends {
        input: None,
        outputs: vec![(Stream::Stdout, stdout)],
        terminal: None,
        theirs: Standard {
            input: None,
            output: Some(child_stdout),
            errors: None,
        },
    };
    if kind == StdioKind::Capture {
        return Ok(ends);
    }
    let (stderr, child_stderr) = pipe_with(PipeFlags::CLOEXEC)?;
    set_nonblocking(&stderr)?;
    ends.outputs.push((Stream::Stderr, stderr));
    ends.theirs.errors = Some(child_stderr);
    if kind == StdioKind::InputOutput {
        let (child_stdin, stdin) = pipe_with(PipeFlags::CLOEXEC)?;
        set_nonblocking(&stdin)?;
        ends.input = Some(stdin);
        ends.theirs.input = Some(child_stdin);
    }
    Ok(ends)
}

/// Only our end: the child's end is another open file description.
fn set_nonblocking(fd: &OwnedFd) -> io::Result<()> {
    Ok(fcntl_setfl(fd, fcntl_getfl(fd)? | OFlags::NONBLOCK)?)
}

/// Marks descriptors that the executor itself inherited, so that children do not get them.
/// Everything opened later is marked when it is opened.
#[expect(
    unsafe_code,
    reason = "descriptors named by /proc have no owner to borrow from"
)]
fn close_inherited_on_exec() {
    let Ok(entries) = std::fs::read_dir("/proc/self/fd") else {
        return;
    };
    for entry in entries.flatten() {
        let number = entry
            .file_name()
            .to_str()
            .and_then(|name| name.parse::<i32>().ok());
        if let Some(number) = number.filter(|number| *number > 2) {
            // JUSTIFICATION: there is no safe way to name a descriptor that was inherited.
            // SAFETY: the number is only used for one flag change within this statement. If the
            // descriptor was closed meanwhile, the call fails; if it was reused, the new file was
            // opened with this very flag.
            let fd = unsafe { BorrowedFd::borrow_raw(number) };
            let _ = rustix::io::fcntl_setfd(fd, rustix::io::FdFlags::CLOEXEC);
        }
    }
}
