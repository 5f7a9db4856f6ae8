//! The processes of a sandbox, from the executor's side to the client's program.
//!
//! ```text
//! executor
//!   `- first process   outside; holds placeholders, passes signals on, ends with the program's code
//!        `- init       process 1 of new namespaces: builds the tree of files, gives up all rights,
//!             |        collects orphans, ends with the program's code, and everything with it
//!             `- program
//! ```
//!
//! To the executor the first process is the program: its end and exit code are the program's. A signal
//! sent to it reaches the program's process group, except that [`END`] ends everything in the sandbox
//! and [`PAUSE`] becomes SIGSTOP. When the executor dies, the kernel sends [`END`]; when the first
//! process dies, it kills init; and when init dies, the kernel kills all that is left in its namespace.
//! So nothing survives whichever of them is killed.
//!
//! Without confined files there is nothing to hold or build: the first process confines itself and
//! becomes the program.

use std::fs::File;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;

use exec_proto::sandbox::NetworkAccess;
use rustix::event::{PollFd, PollFlags, poll};
use rustix::fs::{Mode, OFlags};
use rustix::pipe::{PipeFlags, pipe_with};
use rustix::process::{
    DumpableBehavior, Pid, Resource, Rlimit, Signal, WaitId, WaitIdOptions, WaitIdStatus,
    WaitStatus, getrlimit, kill_process, set_dumpable_behavior, set_parent_process_death_signal,
    setrlimit, waitid,
};
use rustix::thread::{CapabilitySet, CapabilitySets};

use super::failure::{Failure, Stage, at, report_ready};
use super::launch::{ARGUMENT, Confinement, Launch, Task};
use super::notices::{Notices, tell_end};
use super::placeholder::Placeholders;
use super::sys::{self, Fork};
use super::ways::Ways;
use super::{enter, landlock, seccomp, template, worker};
use crate::limits::Bounds;

/// Runs this process as the first of a sandbox, or as the template of such, if that is what it was
/// started for.
///
/// Must come first in `main`: before threads, and before anything opens descriptors.
pub fn run_if_first_process() -> Option<std::process::ExitCode> {
    let mut arguments = std::env::args_os().skip(1);
    let descriptors: io::Result<Vec<_>> = match arguments.next()?.to_str()? {
        ARGUMENT => arguments
            .map(|number| {
                let number = number.to_str().and_then(|number| number.parse().ok());
                sys::adopt(number.ok_or(io::ErrorKind::InvalidInput)?)
            })
            .collect(),
        template::ARGUMENT => match template::serve() {
            Ok(None) => return Some(std::process::ExitCode::SUCCESS),
            Ok(Some(received)) => Ok(received.descriptors),
            Err(err) => Err(err),
        },
        _ => return None,
    };
    let mut descriptors = descriptors.unwrap_or_default().into_iter();
    let mut next = || descriptors.next();
    let (Some(request), Some(report), Some(noticed)) = (next(), next(), next()) else {
        return Some(FAILED.into());
    };
    Some(match run(request, &report, noticed, next()) {
        Ok(code) => u8::try_from(code).unwrap_or(FAILED).into(),
        Err(failure) => {
            failure.report(report);
            FAILED.into()
        }
    })
}

fn run(
    request: OwnedFd,
    report: &OwnedFd,
    noticed: OwnedFd,
    ways_out: Option<OwnedFd>,
) -> Result<i32, Failure> {
    let signals = sys::hold_signals().map_err(at(Stage::Request))?;
    let launch = Launch::receive(request).map_err(at(Stage::Request))?;
    // Whoever died before its death signal could be asked for leaves another parent behind.
    let parent = rustix::process::getppid().map_or(0, |pid| pid.as_raw_nonzero().get());
    if parent != launch.parent {
        return Err(at(Stage::Request)(io::Error::other("the executor is gone")));
    }
    let Launch {
        confinement,
        task,
        ways,
        bounds,
        ..
    } = launch;
    let Some(files) = &confinement.files else {
        if confinement.isolation.is_some() {
            let problem = io::Error::from(io::ErrorKind::InvalidInput);
            return Err(at(Stage::Request)(problem));
        }
        bounds.enter_group().map_err(at(Stage::Limits))?;
        // Nobody would be there to answer.
        confine(&confinement, &bounds, Listen::No)?;
        drop(signals);
        return Err(become_program(task, &bounds, report));
    };

    // In a new namespace the user is nobody at first.
    let identity = (
        rustix::process::geteuid().as_raw(),
        rustix::process::getegid().as_raw(),
    );
    set_parent_process_death_signal(Some(END)).map_err(at(Stage::Privileges))?;
    let ways = Ways {
        ports: ways,
        out: ways_out,
    };
    let (wait, go) = pipe_with(PipeFlags::CLOEXEC).map_err(at(Stage::Request))?;
    let init = match sys::fork(namespaces(&confinement)) {
        Ok(Fork::Child) => {
            drop(go);
            let from = Executor {
                report,
                noticed,
                signals: &signals,
                names: wait,
                ways,
                bounds: &bounds,
            };
            let code = init(&confinement, task, from, identity).unwrap_or_else(|failure| {
                if let Ok(report) = report.try_clone() {
                    failure.report(report);
                }
                FAILED.into()
            });
            sys::exit(code)
        }
        Ok(Fork::Parent(init)) => init,
        Err(err) => return Err(at(Stage::Namespaces)(err)),
    };
    drop(wait);
    // While init builds the rest. File requests look for themselves whether a name is occupied; see
    // [`worker`].
    let occupied = match task {
        Task::Program { .. } => Placeholders::acquire(files.occupied()),
        Task::Files => Ok(Placeholders::default()),
    };
    let occupied = occupied.map_err(|err| {
        let _ = kill_process(init, Signal::KILL);
        at(Stage::Placeholders)(err)
    })?;
    // Who serves file requests does not wait for it. If another init is gone, it has said why.
    if matches!(task, Task::Program { .. }) {
        let _ = rustix::io::write(&go, b"g");
    }
    drop(go);
    let code = supervise(init, &occupied, &signals, &noticed);
    occupied.release();
    tell_end(&noticed, code);
    sys::exit(code)
}

/// What init gets from the process outside.
struct Executor<'a> {
    report: &'a OwnedFd,
    noticed: OwnedFd,
    signals: &'a OwnedFd,
    /// Says when all names are occupied.
    names: OwnedFd,
    ways: Ways,
    bounds: &'a Bounds,
}

fn namespaces(confinement: &Confinement) -> libc::c_int {
    let always = libc::CLONE_NEWUSER | libc::CLONE_NEWNS | libc::CLONE_NEWPID | libc::CLONE_NEWIPC;
    match (confinement.network, confinement.isolation) {
        (NetworkAccess::Restricted, _) | (_, Some(_)) => always | libc::CLONE_NEWNET,
        (NetworkAccess::Enabled, None) => always,
    }
}

/// Waits for init outside, and returns its exit code.
fn supervise(init: Pid, occupied: &Placeholders, signals: &OwnedFd, noticed: &OwnedFd) -> i32 {
    let watched = occupied.watch();
    let mut keep: Vec<_> = occupied.descriptors().collect();
    keep.extend([signals.as_fd(), noticed.as_fd()]);
    let kill = || {
        let _ = kill_process(init, Signal::KILL);
    };
    // The ends of the program's pipes are its own.
    let closed = close_standard().and_then(|()| sys::close_others(&keep));
    // What went before there was a watch is not told by it.
    if watched.and(closed).is_err() || !occupied.are_in_place() {
        kill();
    }
    loop {
        // An interruption looks like an event, and what is waited for is asked for below.
        let _ = poll(&mut [PollFd::new(signals, PollFlags::IN)], None);
        while let Some(signal) = sys::take_signal(signals) {
            match Signal::from_named_raw(signal) {
                // The latter is about a pipe of this process's own.
                Some(Signal::CHILD | Signal::PIPE) | None => {}
                Some(END) => kill(),
                Some(Signal::IO) => {
                    if !occupied.are_in_place() {
                        // The protection of that name is gone.
                        kill();
                    }
                }
                Some(signal) => {
                    let _ = kill_process(init, signal);
                }
            }
        }
        let options = WaitIdOptions::EXITED | WaitIdOptions::NOHANG;
        match waitid(WaitId::Pid(init), options) {
            Ok(None) | Err(rustix::io::Errno::INTR) => {}
            Ok(Some(status)) => return code_of(&status),
            Err(_) => return FAILED.into(),
        }
    }
}

/// The life of process 1. Returns the program's exit code.
fn init(
    confinement: &Confinement,
    task: Task,
    from: Executor<'_>,
    identity: (u32, u32),
) -> Result<i32, Failure> {
    let Executor {
        report,
        noticed,
        signals,
        names: wait,
        ways,
        bounds,
    } = from;
    set_parent_process_death_signal(Some(Signal::KILL)).map_err(at(Stage::Privileges))?;
    // The first process stays outside: it clears up when all in the group are killed.
    bounds.enter_group().map_err(at(Stage::Limits))?;
    keep_identity(identity).map_err(at(Stage::Identity))?;
    if confinement.isolation.is_some() {
        ways.open().map_err(at(Stage::Network))?;
    }
    let terminal = matches!(task, Task::Program { terminal: true, .. });
    if let Some(files) = &confinement.files {
        let stdin = terminal.then(rustix::stdio::stdin);
        let names = match task {
            Task::Program { .. } => enter::Names::Occupied,
            Task::Files => enter::Names::Free,
        };
        enter::enter(files, names, wait, stdin)?;
    }
    let listen = match task {
        Task::Program { .. } => Listen::Yes,
        Task::Files => Listen::No,
    };
    let listener = confine(confinement, bounds, listen)?;
    let notices = listener.map(|listener| Notices {
        listener,
        pipe: noticed,
    });
    let program = match sys::fork(0).map_err(at(Stage::Program))? {
        Fork::Child => {
            let failure = match task {
                Task::Files => {
                    let occupied = confinement.files.iter().flat_map(|files| files.occupied());
                    worker::serve(report, occupied)
                }
                task => become_program(task, bounds, report),
            };
            if let Ok(report) = report.try_clone() {
                failure.report(report);
            }
            sys::exit(FAILED.into())
        }
        Fork::Parent(program) => program,
    };
    // Also cleared by giving up rights.
    set_parent_process_death_signal(Some(Signal::KILL)).map_err(at(Stage::Privileges))?;
    let mut keep = vec![signals.as_fd()];
    if let Some(notices) = &notices {
        keep.extend([notices.listener.as_fd(), notices.pipe.as_fd()]);
    }
    close_standard()
        .and_then(|()| sys::close_others(&keep))
        .map_err(at(Stage::Program))?;
    Ok(collect(program, signals, notices.as_ref()))
}

/// Collects whatever ends, until the program does, and answers refused calls.
fn collect(program: Pid, signals: &OwnedFd, notices: Option<&Notices>) -> i32 {
    loop {
        let listener = notices.map(|notices| &notices.listener);
        let mut awaited: Vec<_> = std::iter::once(signals)
            .chain(listener)
            .map(|fd| PollFd::new(fd, PollFlags::IN))
            .collect();
        let _ = poll(&mut awaited, None);
        let called = awaited
            .get(1)
            .is_some_and(|listener| listener.revents().contains(PollFlags::IN));
        if let Some(notices) = notices.filter(|_| called) {
            notices.take();
        }
        while let Some(signal) = sys::take_signal(signals) {
            let signal = match Signal::from_named_raw(signal) {
                Some(Signal::CHILD | Signal::PIPE) | None => continue,
                Some(PAUSE) => Signal::STOP,
                Some(signal) => signal,
            };
            // The program leads a group of its own.
            let _ = rustix::process::kill_process_group(program, signal);
        }
        loop {
            let options = WaitIdOptions::EXITED | WaitIdOptions::NOHANG | WaitIdOptions::NOWAIT;
            match waitid(WaitId::Pid(program), options) {
                Ok(Some(status)) => return code_of(&status),
                Ok(None) | Err(rustix::io::Errno::INTR) => {}
                Err(_) => return FAILED.into(),
            }
            match rustix::process::wait(rustix::process::WaitOptions::NOHANG) {
                Ok(Some((ended, status))) if ended == program => return wait_code(status),
                Ok(Some(_)) => {}
                _ => break,
            }
        }
    }
}

/// Inside, the user is who it is outside, and nobody else exists.
fn keep_identity((user, group): (u32, u32)) -> io::Result<()> {
    // Without it a process could drop a group that is there to keep it out.
    std::fs::write("/proc/self/setgroups", "deny")?;
    std::fs::write("/proc/self/uid_map", format!("{user} {user} 1"))?;
    std::fs::write("/proc/self/gid_map", format!("{group} {group} 1"))?;
    // No namespace in this one. Where /proc/sys is read-only the filter of system calls is enough.
    let _ = std::fs::write("/proc/sys/user/max_user_namespaces", "0");
    Ok(())
}

/// Gives up everything that the program shall not have. From here on it only gets less.
///
/// The result is where calls wait that somebody has to refuse.
fn confine(
    confinement: &Confinement,
    bounds: &Bounds,
    listen: Listen,
) -> Result<Option<OwnedFd>, Failure> {
    if confinement.files.is_some() {
        drop_capabilities().map_err(at(Stage::Privileges))?;
        // Init is in reach of the program.
        set_dumpable_behavior(DumpableBehavior::NotDumpable).map_err(at(Stage::Privileges))?;
    }
    limit(confinement, bounds).map_err(at(Stage::Limits))?;
    rustix::thread::set_no_new_privs(true).map_err(at(Stage::Privileges))?;
    let writable = confinement.files.as_ref().map(|files| files.writable());
    landlock::restrict(confinement.network, writable)
        .map_err(|err| at(Stage::Landlock)(io::Error::other(err)))?;
    let mut mode = seccomp::Mode {
        network: confinement.network,
        namespaces: confinement.files.is_some(),
        notices: listen == Listen::Yes,
        isolation: confinement.isolation,
    };
    let install = |mode: seccomp::Mode| {
        let mut filter = seccomp::filter(mode)?;
        sys::install_filter(&mut filter, mode.notices)
    };
    let installed = match install(mode) {
        // Whoever confines the executor listens already, and there can be one only.
        Err(err) if err.raw_os_error() == Some(libc::EBUSY) => {
            mode.notices = false;
            install(mode)
        }
        installed => installed,
    };
    installed.map_err(at(Stage::Seccomp))
}

/// Whether somebody will be there to answer calls that are told instead of refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Listen {
    Yes,
    No,
}

/// What a runaway program may use at most.
fn limit(confinement: &Confinement, bounds: &Bounds) -> io::Result<()> {
    // The one value that also keeps the kernel from running the host's program for crashes, which
    // would run outside and may be the superuser's.
    let image = Rlimit {
        current: Some(1),
        maximum: Some(1),
    };
    setrlimit(Resource::Core, image)?;
    // In a namespace of its own a user's processes are counted apart, so this is the sandbox's own.
    // The kernel exempts the superuser of the host.
    if confinement.files.is_some() {
        let present = getrlimit(Resource::Nproc);
        // Init counts, too.
        let most = bounds
            .processes()
            .map(|processes| processes.saturating_add(1));
        let most = most.unwrap_or(PROCESSES).min(PROCESSES);
        let least = |limit: Option<u64>| Some(limit.map_or(most, |limit| limit.min(most)));
        let processes = Rlimit {
            current: least(present.current),
            maximum: least(present.maximum),
        };
        setrlimit(Resource::Nproc, processes)?;
    }
    Ok(())
}

fn drop_capabilities() -> io::Result<()> {
    rustix::thread::clear_ambient_capability_set()?;
    // Executed programs get none back, the superuser's included.
    for number in 0..u64::BITS {
        let Some(capability) = CapabilitySet::from_bits(1 << number) else {
            break;
        };
        match rustix::thread::remove_capability_from_bounding_set(capability) {
            Ok(()) => {}
            // The kernel knows no more.
            Err(rustix::io::Errno::INVAL) => break,
            Err(errno) => return Err(errno.into()),
        }
    }
    let none = CapabilitySets {
        effective: CapabilitySet::empty(),
        permitted: CapabilitySet::empty(),
        inheritable: CapabilitySet::empty(),
    };
    rustix::thread::set_capabilities(None, none)?;
    if rustix::thread::capabilities(None)? != none {
        return Err(io::Error::other("capabilities are left"));
    }
    Ok(())
}

/// Executes the client's program in this process. Returns only if that fails.
fn become_program(task: Task, bounds: &Bounds, report: &OwnedFd) -> Failure {
    match try_program(task, bounds, report) {
        Ok(never) => match never {},
        Err(failure) => failure,
    }
}

fn try_program(
    task: Task,
    bounds: &Bounds,
    report: &OwnedFd,
) -> Result<std::convert::Infallible, Failure> {
    let Task::Program {
        program,
        argv,
        environment,
        cwd,
        terminal,
        ..
    } = task
    else {
        return Err(at(Stage::Request)(io::Error::from(
            io::ErrorKind::InvalidInput,
        )));
    };
    // Fails for the leader of a session, which the first process is when there is no init.
    let _ = rustix::process::setsid();
    if terminal {
        take_terminal().map_err(at(Stage::Terminal))?;
    }
    rustix::process::chdir(&cwd).map_err(at(Stage::WorkingDirectory))?;
    bounds.limit_memory().map_err(at(Stage::Limits))?;
    let pipe = report.try_clone().map_err(at(Stage::Request))?;
    report_ready(&File::from(pipe)).map_err(at(Stage::Request))?;
    sys::deliver_signals().map_err(at(Stage::Program))?;
    Err(at(Stage::Program)(sys::exec(&program, &argv, &environment)))
}

/// Makes the terminal control this session, by the name that it has in here.
fn take_terminal() -> io::Result<()> {
    rustix::process::ioctl_tiocsctty(rustix::stdio::stdin())?;
    let flags = OFlags::RDWR | OFlags::NOCTTY | OFlags::CLOEXEC;
    if let Ok(console) = rustix::fs::open("/dev/console", flags, Mode::empty())
        && rustix::termios::isatty(&console)
        && rustix::fs::fstat(&console)?.st_rdev
            == rustix::fs::fstat(rustix::stdio::stdin())?.st_rdev
    {
        rustix::stdio::dup2_stdin(&console)?;
        rustix::stdio::dup2_stdout(&console)?;
        rustix::stdio::dup2_stderr(&console)?;
    }
    Ok(())
}

/// Lets go of the program's standard descriptors.
fn close_standard() -> io::Result<()> {
    let null = rustix::fs::open(
        Path::new("/dev/null"),
        OFlags::RDWR | OFlags::CLOEXEC,
        Mode::empty(),
    )?;
    rustix::stdio::dup2_stdin(&null)?;
    rustix::stdio::dup2_stdout(&null)?;
    rustix::stdio::dup2_stderr(&null)?;
    Ok(())
}

fn code_of(status: &WaitIdStatus) -> i32 {
    match (status.exit_status(), status.terminating_signal()) {
        (Some(code), _) => code,
        (None, Some(signal)) => 128 + signal,
        (None, None) => FAILED.into(),
    }
}

fn wait_code(status: WaitStatus) -> i32 {
    match (status.exit_status(), status.terminating_signal()) {
        (Some(code), _) => code,
        (None, Some(signal)) => 128 + signal,
        (None, None) => FAILED.into(),
    }
}

/// Stands for SIGKILL to everything in the sandbox.
pub(super) const END: Signal = Signal::POWER;
/// Stands for SIGSTOP.
pub(super) const PAUSE: Signal = Signal::URG;

/// Processes and threads of one sandbox: more than a parallel build has, less than a host suffers from.
const PROCESSES: u64 = 8192;

/// Exit code when there is no program that could have one.
const FAILED: u8 = 125;
