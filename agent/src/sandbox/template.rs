//! The process that the first processes of sandboxes are copies of.
//!
//! To start our own program takes longer than to build a sandbox: it has to be loaded and thousands of
//! its addresses adjusted. So that is done once, when the first sandbox is wanted. The process waits at a
//! socket, gets the descriptors of each sandbox over it, and copies itself:
//!
//! ```text
//! executor ==> template      one byte, with: input, output, errors, then as the arguments of the first
//!                            process name them
//! executor <== copy          its process id, once it leads a session; or an error number from the
//!                            template, negative
//! ```
//!
//! A copy is a child of the executor as if that had started it, so its end is collected and signals are
//! sent as ever. It has nothing of the executor's memory, and nothing of other requests: only copies read
//! them. No process can look into the template. When the executor ends, so does the template.

use std::ffi::OsStr;
use std::io::{self, IoSlice, IoSliceMut};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd as _, BorrowedFd, OwnedFd};
use std::path::Path;
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;
use rustix::net::{
    AddressFamily, RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer,
    SendAncillaryMessage, SendFlags, SocketFlags, SocketType, recvmsg, sendmsg, socketpair,
};
use rustix::process::{
    DumpableBehavior, Pid, Signal, set_dumpable_behavior, set_parent_process_death_signal,
};

use crate::child::{NewProcess, Started, null_device};

use super::failure::{Failure, Stage, at};
use super::launch::PROGRAM;
use super::sys::{self, Fork};

/// The executor's side.
#[derive(Debug)]
pub(crate) struct Template {
    socket: OwnedFd,
    process: Started,
}

impl Template {
    /// Starts the process.
    ///
    /// # Errors
    ///
    /// Whatever the system says.
    pub(crate) fn start() -> Result<Self, Failure> {
        Self::try_start().map_err(at(Stage::Template))
    }

    fn try_start() -> io::Result<Self> {
        let kind = SocketType::SEQPACKET;
        let (socket, theirs) = socketpair(AddressFamily::UNIX, kind, SocketFlags::CLOEXEC, None)?;
        let null = null_device()?;
        let process = NewProcess {
            program: Path::new(PROGRAM),
            argv: [PROGRAM, ARGUMENT].map(OsStr::new).to_vec(),
            environment: Vec::new(),
            cwd: Path::new("/"),
            standard: [theirs.as_fd(), null.as_fd(), null.as_fd()],
            terminal: false,
            inherited: Vec::new(),
            bounds: None,
        };
        let process = process.start()?;
        Ok(Self { socket, process })
    }

    /// Starts the first process of a sandbox, a child of the thread that has started the template.
    ///
    /// # Errors
    ///
    /// If the template is gone or does not answer, or there can be no more processes.
    pub(crate) fn copy(
        &self,
        standard: [BorrowedFd<'_>; 3],
        inherited: &[OwnedFd],
    ) -> Result<Pid, Failure> {
        let copied = self.try_copy(standard, inherited);
        copied.map_err(at(Stage::Template))
    }

    fn try_copy(&self, standard: [BorrowedFd<'_>; 3], inherited: &[OwnedFd]) -> io::Result<Pid> {
        let descriptors: Vec<_> = standard
            .into_iter()
            .chain(inherited.iter().map(OwnedFd::as_fd))
            .collect();
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(DESCRIPTORS))];
        let mut attached = SendAncillaryBuffer::new(&mut space);
        if !attached.push(SendAncillaryMessage::ScmRights(&descriptors)) {
            return Err(io::ErrorKind::InvalidInput.into());
        }
        let byte = [IoSlice::new(&[0])];
        sendmsg(&self.socket, &byte, &mut attached, SendFlags::NOSIGNAL)?;
        let patience = Timespec::try_from(PATIENCE).map_err(|_| Errno::INVAL)?;
        let mut answered = [PollFd::new(&self.socket, PollFlags::IN)];
        if rustix::io::retry_on_intr(|| poll(&mut answered, Some(&patience)))? == 0 {
            return Err(Errno::TIMEDOUT.into());
        }
        let mut answer = [0; 4];
        if rustix::io::read(&self.socket, &mut answer)? != answer.len() {
            return Err(Errno::PIPE.into());
        }
        let answer = i32::from_ne_bytes(answer);
        Pid::from_raw(answer)
            .filter(|_| answer > 0)
            .ok_or_else(|| io::Error::from_raw_os_error(answer.wrapping_neg()))
    }
}

impl Drop for Template {
    fn drop(&mut self) {
        // Nothing is lost with it, and nothing waits for it for long.
        self.process.end();
    }
}

/// What a copy got.
pub(super) struct Received {
    /// As the arguments of the first process name them.
    pub(super) descriptors: Vec<OwnedFd>,
}

/// The life of the template. Returns in its copies only, and with `None` at the executor's end.
///
/// # Errors
///
/// Whatever the system says.
pub(super) fn serve() -> io::Result<Option<Received>> {
    let socket = rustix::io::fcntl_dupfd_cloexec(rustix::stdio::stdin(), 3)?;
    set_dumpable_behavior(DumpableBehavior::NotDumpable)?;
    loop {
        let descriptors = receive(&socket)?;
        if descriptors.is_empty() {
            return Ok(None);
        }
        match sys::fork(libc::CLONE_PARENT) {
            Ok(Fork::Parent(_)) => {}
            Ok(Fork::Child) => return begin(&socket, descriptors).map(Some),
            Err(err) => {
                let number = err.raw_os_error().unwrap_or(libc::EAGAIN);
                rustix::io::write(&socket, &number.wrapping_neg().to_ne_bytes())?;
            }
        }
    }
}

/// The next message; nothing if there will be none.
fn receive(socket: &OwnedFd) -> io::Result<Vec<OwnedFd>> {
    let mut byte = [0];
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(DESCRIPTORS))];
    let mut attached = RecvAncillaryBuffer::new(&mut space);
    let mut bytes = [IoSliceMut::new(&mut byte)];
    let flags = RecvFlags::CMSG_CLOEXEC;
    rustix::io::retry_on_intr(|| recvmsg(socket, &mut bytes, &mut attached, flags))?;
    let mut descriptors = Vec::new();
    for message in attached.drain() {
        if let RecvAncillaryMessage::ScmRights(received) = message {
            descriptors.extend(received);
        }
    }
    Ok(descriptors)
}

/// Makes a copy what a process is that the executor has started itself.
fn begin(socket: &OwnedFd, mut descriptors: Vec<OwnedFd>) -> io::Result<Received> {
    let session = rustix::process::setsid()?;
    set_parent_process_death_signal(Some(Signal::TERM))?;
    set_dumpable_behavior(DumpableBehavior::Dumpable)?;
    let rest = descriptors.split_off(descriptors.len().min(3));
    let [input, output, errors] = descriptors.as_slice() else {
        return Err(Errno::INVAL.into());
    };
    rustix::stdio::dup2_stdin(input)?;
    rustix::stdio::dup2_stdout(output)?;
    rustix::stdio::dup2_stderr(errors)?;
    // If nobody waits for it any more, it must not go on.
    rustix::io::write(socket, &session.as_raw_nonzero().get().to_ne_bytes())?;
    Ok(Received { descriptors: rest })
}

/// Not for people, so not in the help text.
pub(super) const ARGUMENT: &str = "--sandbox-template";

/// Standard ones, request, report, notices, ways out; and room.
const DESCRIPTORS: usize = 8;

/// How long a copy may take. Well below a millisecond, unless the machine stands still.
const PATIENCE: Duration = Duration::from_secs(10);
