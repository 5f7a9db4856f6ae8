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
use std::os::fd::OwnedFd;
use std::os::unix::process::CommandExt as _;
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::sync::Arc;

use exec_proto::process::Stream;
use rustix::fs::{OFlags, fcntl_getfl, fcntl_setfl};
use rustix::pipe::{PipeFlags, pipe_with};
use rustix::process::{Pid, PidfdFlags, Signal, pidfd_open};
use tokio::sync::{mpsc, oneshot};

use super::descriptors;
use super::lookup;
use super::pty::{Size, Terminal};
use crate::environment::Variables;

/// Requests that wait for the spawning thread. A spawn takes about a millisecond.
const QUEUE: usize = 64;

/// A checked request.
pub(super) struct SpawnRequest {
    pub(super) argv: Vec<String>,
    pub(super) arg0: Option<String>,
    pub(super) cwd: PathBuf,
    pub(super) variables: Variables,
    pub(super) stdio: StdioKind,
    /// A descriptor that the child gets besides its standard ones, under the same number.
    pub(super) extra: Option<Arc<OwnedFd>>,
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
    pub(super) pid: Pid,
    pub(super) pidfd: OwnedFd,
    /// The executor's end of standard input; non-blocking.
    pub(super) input: Option<OwnedFd>,
    /// The executor's ends of output; non-blocking.
    pub(super) outputs: Vec<(Stream, OwnedFd)>,
    /// The executor's end of the terminal, if there is one, to change its size.
    pub(super) terminal: Option<OwnedFd>,
}

/// Why a program was not started. The text goes to the client with code -32603.
#[derive(Debug, thiserror::Error)]
pub(super) enum SpawnError {
    /// An empty program name.
    #[error("missing program for {0} spawn")]
    NoProgram(&'static str),
    /// No program of that name for a terminal.
    #[error("Unable to spawn {program} because:\nUnable to resolve the PATH")]
    Unresolved {
        /// As requested.
        program: String,
    },
    /// The operating system's refusal.
    #[error(transparent)]
    Io(#[from] io::Error),
    /// The executor is shutting down.
    #[error("the executor is shutting down")]
    ShuttingDown,
}

/// Hands requests to the spawning thread.
#[derive(Debug, Clone)]
pub(crate) struct Spawner {
    jobs: mpsc::Sender<Job>,
}

type Job = (SpawnRequest, oneshot::Sender<Result<Spawned, SpawnError>>);

impl Spawner {
    /// Starts the thread. It ends when the last clone is dropped.
    pub(crate) fn start() -> io::Result<Self> {
        close_inherited_on_exec();
        let (jobs, mut queue) = mpsc::channel::<Job>(QUEUE);
        std::thread::Builder::new()
            .name("spawner".to_owned())
            .spawn(move || {
                while let Some((request, answer)) = queue.blocking_recv() {
                    if let Err(Ok(unclaimed)) = answer.send(spawn(&request)) {
                        unclaimed.kill();
                    }
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
        let (answer, spawned) = oneshot::channel();
        self.jobs
            .send((request, answer))
            .await
            .map_err(|_| SpawnError::ShuttingDown)?;
        spawned.await.map_err(|_| SpawnError::ShuttingDown)?
    }
}

impl Spawned {
    /// Kills and reaps a child that nobody wants.
    pub(super) fn kill(&self) {
        use std::os::fd::AsFd as _;
        let _ = rustix::process::kill_process_group(self.pid, Signal::KILL);
        let id = rustix::process::WaitId::PidFd(self.pidfd.as_fd());
        let _ = rustix::process::waitid(id, rustix::process::WaitIdOptions::EXITED);
    }
}

fn spawn(request: &SpawnRequest) -> Result<Spawned, SpawnError> {
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
    let file = lookup::find(OsStr::new(program), path, &request.cwd)?;

    let mut command = Command::new(file);
    command
        .arg0(request.arg0.as_ref().unwrap_or(program))
        .args(request.argv.iter().skip(1))
        .current_dir(&request.cwd)
        .env_clear()
        .envs(&request.variables);
    let Ends {
        input,
        outputs,
        terminal: master,
    } = connect(&mut command, request.stdio)?;
    lead_session(&mut command, terminal, request.extra.clone());

    let child = command.spawn()?;
    let pid = Pid::from_child(&child);
    match pidfd_open(pid, PidfdFlags::empty()) {
        Ok(pidfd) => Ok(Spawned {
            pid,
            pidfd,
            input,
            outputs,
            terminal: master,
        }),
        Err(err) => {
            let mut child = child;
            let _ = rustix::process::kill_process_group(pid, Signal::KILL);
            let _ = child.wait();
            Err(io::Error::from(err).into())
        }
    }
}

/// The executor's ends of a child's standard descriptors.
struct Ends {
    input: Option<OwnedFd>,
    outputs: Vec<(Stream, OwnedFd)>,
    terminal: Option<OwnedFd>,
}

/// Gives the command its standard descriptors and returns the executor's ends.
fn connect(command: &mut Command, kind: StdioKind) -> io::Result<Ends> {
    if let StdioKind::Terminal(size) = kind {
        let Terminal { master, slave } = Terminal::open(size)?;
        command
            .stdin(slave.try_clone()?)
            .stdout(slave.try_clone()?)
            .stderr(slave);
        set_nonblocking(&master)?;
        return Ok(Ends {
            input: Some(master.try_clone()?),
            terminal: Some(master.try_clone()?),
            outputs: vec![(Stream::Pty, master)],
        });
    }
    let (stdout, child_stdout) = pipe_with(PipeFlags::CLOEXEC)?;
    set_nonblocking(&stdout)?;
    command.stdout(child_stdout);
    if kind == StdioKind::Capture {
        command.stdin(Stdio::null()).stderr(Stdio::null());
        return Ok(Ends {
            input: None,
            outputs: vec![(Stream::Stdout, stdout)],
            terminal: None,
        });
    }
    let (stderr, child_stderr) = pipe_with(PipeFlags::CLOEXEC)?;
    set_nonblocking(&stderr)?;
    command.stderr(child_stderr);
    let input = if kind == StdioKind::InputOutput {
        let (child_stdin, stdin) = pipe_with(PipeFlags::CLOEXEC)?;
        set_nonblocking(&stdin)?;
        command.stdin(child_stdin);
        Some(stdin)
    } else {
        command.stdin(Stdio::null());
        None
    };
    Ok(Ends {
        input,
        outputs: vec![(Stream::Stdout, stdout), (Stream::Stderr, stderr)],
        terminal: None,
    })
}

/// Only our end: the child's end is another open file description.
fn set_nonblocking(fd: &OwnedFd) -> io::Result<()> {
    Ok(fcntl_setfl(fd, fcntl_getfl(fd)? | OFlags::NONBLOCK)?)
}

/// Makes the child lead a session of its own, with the terminal as its controlling one.
#[expect(
    unsafe_code,
    reason = "work between fork and exec has no safe interface"
)]
fn lead_session(command: &mut Command, terminal: bool, extra: Option<Arc<OwnedFd>>) {
    // JUSTIFICATION: the standard library offers a process group but neither a session nor a
    // controlling terminal nor a parent-death signal nor limits.
    let limit = descriptors::inherited_limit();
    let prepare = move || {
        rustix::process::setsid()?;
        if terminal {
            rustix::process::ioctl_tiocsctty(rustix::stdio::stdin())?;
        }
        if let Some(extra) = &extra {
            rustix::io::fcntl_setfd(extra, rustix::io::FdFlags::empty())?;
        }
        if let Some(limit) = &limit {
            rustix::process::setrlimit(rustix::process::Resource::Nofile, *limit)?;
        }
        // If the executor is killed, programs get a chance to end in order.
        rustix::process::set_parent_process_death_signal(Some(Signal::TERM))?;
        Ok(())
    };
    // SAFETY: between fork and exec the closure makes a few system calls. It does not allocate,
    // take locks, touch shared memory or panic; errors are plain numbers.
    unsafe {
        command.pre_exec(prepare);
    }
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
            let fd = unsafe { std::os::fd::BorrowedFd::borrow_raw(number) };
            let _ = rustix::io::fcntl_setfd(fd, rustix::io::FdFlags::CLOEXEC);
        }
    }
}
