//! Starting a program in a new process.
//!
//! The usual way is to copy the executor with `fork` and to have the copy execute the program. To copy
//! its page tables takes longer than everything else, and afterwards the executor pays for each page
//! that it writes to. So the new process borrows the executor's memory until it executes the program,
//! and the thread that made it stands still meanwhile, as `posix_spawn` does it. That one makes neither
//! sessions with a controlling terminal, nor limits, nor a parent-death signal, so this is our own.
//!
//! A process that enters a control group of its own gets a copy after all: if it used up the memory of
//! that group before it has executed the program, the kernel would kill everybody who shares its memory.
//!
//! What the standard library would do for a child is done here too: it has only the descriptors that it
//! is given, its signals are not blocked, and SIGPIPE has its default effect.

#![expect(
    unsafe_code,
    reason = "no safe interface runs code between the making of a process and its program"
)]

use std::cell::OnceCell;
use std::ffi::{CStr, CString, OsStr, OsString};
use std::io;
use std::mem::MaybeUninit;
use std::os::fd::{AsFd as _, BorrowedFd, FromRawFd as _, OwnedFd};
use std::os::unix::ffi::OsStrExt as _;
use std::path::Path;
use std::ptr::{null, null_mut};
use std::sync::atomic::{AtomicI32, Ordering};

use rustix::fs::{Mode, OFlags};
use rustix::io::{Errno, FdFlags};
use rustix::mm::{MapFlags, ProtFlags, mmap_anonymous, munmap};
use rustix::process::{
    Pid, PidfdFlags, Resource, Rlimit, Signal, WaitId, WaitIdOptions, chdir, kill_process,
    pidfd_open, pidfd_send_signal, set_parent_process_death_signal, setrlimit, setsid, waitid,
};

use crate::limits::{Bounds, SELF};
use crate::process::descriptors::{inherited_core_limit, inherited_limit};

/// A program, and what its process does to itself before.
pub(crate) struct NewProcess<'a> {
    /// A path, absolute or from `cwd`.
    pub(crate) program: &'a Path,
    /// Its name and arguments.
    pub(crate) argv: Vec<&'a OsStr>,
    /// `NAME=value`.
    pub(crate) environment: Vec<OsString>,
    /// Where it works.
    pub(crate) cwd: &'a Path,
    /// Input, output and errors.
    pub(crate) standard: [BorrowedFd<'a>; 3],
    /// Input is a terminal, which controls the new session.
    pub(crate) terminal: bool,
    /// What it gets besides, under the same numbers.
    pub(crate) inherited: Vec<BorrowedFd<'a>>,
    /// What it may use.
    pub(crate) bounds: Option<&'a Bounds>,
}

/// A process that leads a session and executes its program. A child of the thread that started it, and
/// asked to end when that thread ends.
#[derive(Debug)]
pub(crate) struct Started {
    pub(crate) pid: Pid,
    pub(crate) pidfd: OwnedFd,
}

impl Started {
    /// A child that another process of ours has made. It is killed if nobody could watch it.
    ///
    /// # Errors
    ///
    /// If there can be no more descriptors.
    pub(crate) fn of(pid: Pid) -> io::Result<Self> {
        match pidfd_open(pid, PidfdFlags::empty()) {
            Ok(pidfd) => Ok(Self { pid, pidfd }),
            Err(errno) => {
                let _ = kill_process(pid, Signal::KILL);
                let _ = waitid(WaitId::Pid(pid), WaitIdOptions::EXITED);
                Err(errno.into())
            }
        }
    }

    /// Kills and collects it.
    pub(crate) fn end(&self) {
        let _ = pidfd_send_signal(&self.pidfd, Signal::KILL);
        let _ = waitid(WaitId::PidFd(self.pidfd.as_fd()), WaitIdOptions::EXITED);
    }
}

impl NewProcess<'_> {
    /// Starts it. Returns when it executes its program.
    ///
    /// # Errors
    ///
    /// Whatever of all this failed first; then there is no process.
    pub(crate) fn start(&self) -> io::Result<Started> {
        let members = self.bounds.map_or(Ok(None), Bounds::members)?;
        let standard = [
            above_standard(self.standard[0])?,
            above_standard(self.standard[1])?,
            above_standard(self.standard[2])?,
        ];
        let environment = self.environment.iter().map(OsString::as_os_str);
        let image = Image::new(self.program, self.argv.iter().copied(), environment)?;
        let memory = self.bounds.and_then(Bounds::memory_limit);
        // A copy of the executor has a copy of what is its own.
        let shared = members.as_ref().map(|_| Mapping::shared()).transpose()?;
        let borrowed = AtomicI32::new(0);
        let error = shared.as_ref().map_or(&borrowed, Mapping::get);
        let plan = Plan {
            image: &image,
            cwd: &c_string(self.cwd.as_os_str())?,
            standard: &standard,
            terminal: self.terminal,
            inherited: &self.inherited,
            members: members.as_ref(),
            limits: [
                // The executor has changed its own.
                inherited_limit().map(|limit| (Resource::Nofile, limit)),
                inherited_core_limit().map(|limit| (Resource::Core, limit)),
                memory.map(|limit| (Resource::As, limit)),
            ],
            error,
        };
        let memory = if members.is_none() { libc::CLONE_VM } else { 0 };
        let started = plan.run(memory)?;
        match error.load(Ordering::Relaxed) {
            0 => Ok(started),
            errno => {
                let id = WaitId::PidFd(started.pidfd.as_fd());
                rustix::io::retry_on_intr(|| waitid(id.clone(), WaitIdOptions::EXITED))?;
                Err(io::Error::from_raw_os_error(errno))
            }
        }
    }
}

/// Everything that the new process needs, so that it does not allocate.
struct Plan<'a> {
    image: &'a Image,
    cwd: &'a CStr,
    standard: &'a [OwnedFd; 3],
    terminal: bool,
    inherited: &'a [BorrowedFd<'a>],
    members: Option<&'a OwnedFd>,
    limits: [Option<(Resource, Rlimit)>; 3],
    /// Where the new process says what went wrong.
    error: &'a AtomicI32,
}

impl Plan<'_> {
    /// Makes the process, and waits until it has executed its program or ended.
    fn run(&self, memory: libc::c_int) -> io::Result<Started> {
        let stack = own_stack()?;
        let mut pidfd: libc::c_int = -1;
        let flags = memory | libc::CLONE_VFORK | libc::CLONE_PIDFD | libc::SIGCHLD;
        let argument: *const Self = self;
        let blocked = AllSignals::block();
        // JUSTIFICATION: see the module.
        // SAFETY: `begin` gets the stack of this thread's processes, which is mapped as long as this
        // thread lives, and which nothing else uses until the process has left this memory:
        // CLONE_VFORK holds this thread until then. So do `self` and all it refers to
        // outlive its use. No handler of ours runs in the new process, since all signals are blocked
        // in it until their handlers are gone. `pidfd` is written before the call returns.
        let pid = unsafe {
            libc::clone(
                begin,
                stack,
                flags,
                argument.cast_mut().cast(),
                &raw mut pidfd,
            )
        };
        let error = io::Error::last_os_error();
        drop(blocked);
        let Some(pid) = Pid::from_raw(pid).filter(|_| pid > 0) else {
            return Err(error);
        };
        // SAFETY: the kernel has just made this descriptor for us.
        let pidfd = unsafe { OwnedFd::from_raw_fd(pidfd) };
        Ok(Started { pid, pidfd })
    }

    /// In the new process. Returns only if something fails.
    ///
    /// Makes system calls and nothing else: no allocation, no lock, no panic.
    fn execute(&self) -> Result<(), Errno> {
        let [input, output, errors] = self.standard;
        rustix::stdio::dup2_stdin(input)?;
        rustix::stdio::dup2_stdout(output)?;
        rustix::stdio::dup2_stderr(errors)?;
        chdir(self.cwd)?;
        setsid()?;
        if self.terminal {
            rustix::process::ioctl_tiocsctty(rustix::stdio::stdin())?;
        }
        for fd in self.inherited {
            rustix::io::fcntl_setfd(fd, FdFlags::empty())?;
        }
        if let Some(members) = self.members {
            rustix::io::write(members, SELF)?;
        }
        for (resource, limit) in self.limits.iter().flatten() {
            setrlimit(*resource, *limit)?;
        }
        // If the executor is killed, programs get a chance to end in order.
        set_parent_process_death_signal(Some(Signal::TERM))?;
        default_signals();
        let errno = self.image.execute().raw_os_error();
        Err(Errno::from_raw_os_error(errno.unwrap_or(libc::ENOEXEC)))
    }
}

/// Where the stack of the processes that this thread makes begins, one after the other. Mapped with the
/// first one: to map and unmap it for each takes as long as much of the rest, because the kernel has to
/// tell all processors.
fn own_stack() -> io::Result<*mut libc::c_void> {
    thread_local! {
        static OWN: OnceCell<Mapping<[u8; STACK]>> = const { OnceCell::new() };
    }
    OWN.with(|own| match own.get() {
        Some(stack) => Ok(stack.end()),
        None => {
            let stack = Mapping::private()?;
            Ok(own.get_or_init(|| stack).end())
        }
    })
}

/// Where the new process begins.
extern "C" fn begin(plan: *mut libc::c_void) -> libc::c_int {
    // SAFETY: `Plan::run` passes itself, and stands still until this process is elsewhere.
    let plan = unsafe { &*plan.cast_const().cast::<Plan<'_>>() };
    if let Err(errno) = plan.execute() {
        plan.error.store(errno.raw_os_error(), Ordering::Relaxed);
    }
    // SAFETY: ends this process without running anything that belongs to the executor.
    unsafe { libc::_exit(FAILED) }
}

/// Gives every signal that has a handler, and SIGPIPE, its default effect, and then lets all come.
/// The handlers are the executor's, and so is the memory that they would work on.
fn default_signals() {
    // SAFETY: the structures are plain data for which all zeros are valid; the calls read and write
    // them and nothing else. Numbers that are no signals are refused.
    unsafe {
        for signal in 1..=LAST_SIGNAL {
            let mut action: libc::sigaction = MaybeUninit::zeroed().assume_init();
            let found = libc::sigaction(signal, null(), &raw mut action) == 0;
            let is_ignored = action.sa_sigaction == libc::SIG_IGN && signal != libc::SIGPIPE;
            if found && action.sa_sigaction != libc::SIG_DFL && !is_ignored {
                action = MaybeUninit::zeroed().assume_init();
                action.sa_sigaction = libc::SIG_DFL;
                libc::sigaction(signal, &raw const action, null_mut());
            }
        }
        let mut none: libc::sigset_t = MaybeUninit::zeroed().assume_init();
        libc::sigemptyset(&raw mut none);
        libc::pthread_sigmask(libc::SIG_SETMASK, &raw const none, null_mut());
    }
}

/// While it lives, this thread gets no signals, nor does what it starts.
struct AllSignals(libc::sigset_t);

impl AllSignals {
    fn block() -> Self {
        // SAFETY: as above.
        unsafe {
            let mut all: libc::sigset_t = MaybeUninit::zeroed().assume_init();
            let mut before: libc::sigset_t = MaybeUninit::zeroed().assume_init();
            libc::sigfillset(&raw mut all);
            libc::pthread_sigmask(libc::SIG_SETMASK, &raw const all, &raw mut before);
            Self(before)
        }
    }
}

impl Drop for AllSignals {
    fn drop(&mut self) {
        // SAFETY: restores what was found.
        unsafe {
            libc::pthread_sigmask(libc::SIG_SETMASK, &raw const self.0, null_mut());
        }
    }
}

/// Zeroed memory of its own for a `T` that zeros are valid for.
struct Mapping<T>(*mut T);

impl Mapping<AtomicI32> {
    /// Shared with copies of this process.
    fn shared() -> io::Result<Self> {
        Self::new(MapFlags::SHARED)
    }

    fn get(&self) -> &AtomicI32 {
        // SAFETY: mapped, aligned to a page, and zeros are a valid value.
        unsafe { &*self.0 }
    }
}

impl Mapping<[u8; STACK]> {
    fn private() -> io::Result<Self> {
        Self::new(MapFlags::PRIVATE | MapFlags::STACK)
    }

    /// Where a stack begins that grows downwards. Aligned, since it is the end of a page.
    fn end(&self) -> *mut libc::c_void {
        self.0.wrapping_add(1).cast()
    }
}

impl<T> Mapping<T> {
    fn new(flags: MapFlags) -> io::Result<Self> {
        let access = ProtFlags::READ | ProtFlags::WRITE;
        // SAFETY: a mapping where nothing else is.
        let start = unsafe { mmap_anonymous(null_mut(), size_of::<T>(), access, flags) }?;
        Ok(Self(start.cast()))
    }
}

impl<T> Drop for Mapping<T> {
    fn drop(&mut self) {
        // SAFETY: mapped by `new`, and borrowed by nobody any more.
        let _ = unsafe { munmap(self.0.cast(), size_of::<T>()) };
    }
}

/// A copy with a number that none of the standard ones overwrites.
fn above_standard(fd: BorrowedFd<'_>) -> io::Result<OwnedFd> {
    Ok(rustix::io::fcntl_dupfd_cloexec(fd, 3)?)
}

/// A program with its arguments and variables, in the form in which the system takes them.
pub(crate) struct Image {
    program: CString,
    argv: Texts,
    environment: Texts,
}

/// Strings, and pointers to them that end with a null pointer.
struct Texts {
    _strings: Vec<CString>,
    pointers: Vec<*const libc::c_char>,
}

impl Image {
    /// `argv` is the program's name and its arguments, `environment` is `NAME=value`.
    ///
    /// # Errors
    ///
    /// If there is a zero byte in one of them.
    pub(crate) fn new<'a>(
        program: &Path,
        argv: impl Iterator<Item = &'a OsStr>,
        environment: impl Iterator<Item = &'a OsStr>,
    ) -> io::Result<Self> {
        Ok(Self {
            program: c_string(program.as_os_str())?,
            argv: Texts::new(argv)?,
            environment: Texts::new(environment)?,
        })
    }

    /// Replaces the program of this process, without an allocation. Returns only if that fails.
    pub(crate) fn execute(&self) -> io::Error {
        let (argv, environment) = (&self.argv.pointers, &self.environment.pointers);
        // JUSTIFICATION: the standard library's `exec` searches for the program, changes signal handling
        // and cannot pass a variable without a name.
        // SAFETY: both arrays end with null and point to strings that live as long as this.
        unsafe { libc::execve(self.program.as_ptr(), argv.as_ptr(), environment.as_ptr()) };
        io::Error::last_os_error()
    }
}

impl Texts {
    fn new<'a>(texts: impl Iterator<Item = &'a OsStr>) -> io::Result<Self> {
        let strings: Vec<_> = texts.map(c_string).collect::<io::Result<_>>()?;
        let pointers = strings.iter().map(|string| string.as_ptr());
        Ok(Self {
            pointers: pointers.chain([null()]).collect(),
            _strings: strings,
        })
    }
}

fn c_string(text: &OsStr) -> io::Result<CString> {
    // In the words of the standard library, which clients know.
    CString::new(text.as_bytes()).map_err(|_| {
        let text = "nul byte found in provided data";
        io::Error::new(io::ErrorKind::InvalidInput, text)
    })
}

/// What stands for a standard descriptor that is not there.
pub(crate) fn null_device() -> io::Result<OwnedFd> {
    let flags = OFlags::RDWR | OFlags::CLOEXEC;
    Ok(rustix::fs::open("/dev/null", flags, Mode::empty())?)
}

/// What the new process runs on until it executes its program, in bytes. It needs a small part.
const STACK: usize = 64 * 1024;

/// Exit code of a process that does not get as far as its program; nobody sees it.
const FAILED: libc::c_int = 127;

const LAST_SIGNAL: libc::c_int = 64;

#[cfg(test)]
mod tests;
