//! System calls that no library of ours wraps. All unsafe code of the sandbox is here.
//!
//! The callers run in the sandbox's own processes, which have one thread each and nothing of the
//! executor's memory.

#![expect(
    unsafe_code,
    reason = "process creation, signals and mounts have no safe interface"
)]

use std::ffi::OsString;
use std::io;
use std::mem::MaybeUninit;
use std::os::fd::{AsRawFd as _, BorrowedFd, FromRawFd as _, OwnedFd, RawFd};
use std::path::Path;

use rustix::process::Pid;

use super::bpf;
use crate::child::Image;

/// Where a process finds itself after a fork.
#[derive(Debug, Clone, Copy)]
pub(super) enum Fork {
    /// In the process that forked.
    Parent(Pid),
    /// In the new one.
    Child,
}

/// Makes a copy of this process, in new namespaces if `flags` say so.
pub(super) fn fork(flags: libc::c_int) -> io::Result<Fork> {
    // JUSTIFICATION: new namespaces can only be given to a child when it is made, and a process
    // cannot enter a new process namespace itself.
    // SAFETY: without a stack and without CLONE_VM this is a fork. The process has one thread, so
    // the child's copy of every lock is in order. The pointers are null and not used for these flags.
    let result = unsafe {
        libc::syscall(
            libc::SYS_clone,
            libc::c_long::from(flags | libc::SIGCHLD),
            0,
            0,
            0,
            0,
        )
    };
    if result < 0 {
        return Err(io::Error::last_os_error());
    }
    Ok(match i32::try_from(result).ok().and_then(Pid::from_raw) {
        Some(pid) => Fork::Parent(pid),
        None => Fork::Child,
    })
}

/// Ends the process at once: nothing of the copied memory is run or flushed.
pub(super) fn exit(code: i32) -> ! {
    // JUSTIFICATION: `std::process::exit` runs what the parent registered.
    // SAFETY: the call does not return and touches no memory.
    unsafe { libc::_exit(code) }
}

/// Replaces the program. Returns only if that fails.
pub(super) fn exec(program: &Path, argv: &[OsString], environment: &[OsString]) -> io::Error {
    let [argv, environment] = [argv, environment].map(|list| list.iter().map(OsString::as_os_str));
    match Image::new(program, argv, environment) {
        Ok(image) => image.execute(),
        Err(error) => error,
    }
}

/// Sets attributes of a mount, and with `recursive` of all mounts in it.
pub(super) fn set_mount_attributes(
    mount: BorrowedFd<'_>,
    set: u64,
    recursive: bool,
) -> io::Result<()> {
    let attributes = libc::mount_attr {
        attr_set: set,
        attr_clr: 0,
        propagation: 0,
        userns_fd: 0,
    };
    let recursive = if recursive { libc::AT_RECURSIVE } else { 0 };
    // JUSTIFICATION: no wrapper; the older call cannot change all mounts of a tree at once.
    // SAFETY: the path is an empty string, the structure is valid for its size and only read.
    let result = unsafe {
        libc::syscall(
            libc::SYS_mount_setattr,
            mount.as_raw_fd(),
            c"".as_ptr(),
            libc::AT_EMPTY_PATH | recursive,
            &raw const attributes,
            size_of::<libc::mount_attr>(),
        )
    };
    check(result)
}

/// All signals wait, until [`deliver_signals`]. Returns a descriptor to take them from.
pub(super) fn hold_signals() -> io::Result<OwnedFd> {
    let mut set = MaybeUninit::<libc::sigset_t>::uninit();
    // JUSTIFICATION: signal masks have no safe interface.
    // SAFETY: the set is filled before it is read, and lives until the calls return. The descriptor
    // is new and owned by nobody else.
    unsafe {
        libc::sigfillset(set.as_mut_ptr());
        check(libc::c_long::from(libc::sigprocmask(
            libc::SIG_SETMASK,
            set.as_ptr(),
            std::ptr::null_mut(),
        )))?;
        let fd = libc::signalfd(-1, set.as_ptr(), libc::SFD_CLOEXEC | libc::SFD_NONBLOCK);
        check(libc::c_long::from(fd))?;
        Ok(OwnedFd::from_raw_fd(fd))
    }
}

/// Takes one signal from the descriptor of [`hold_signals`].
pub(super) fn take_signal(fd: &OwnedFd) -> Option<libc::c_int> {
    let mut info = [0u8; size_of::<libc::signalfd_siginfo>()];
    match rustix::io::read(fd, &mut info) {
        Ok(read) if read == info.len() => {
            // The signal's number is the first member.
            let number: [u8; 4] = info.first_chunk().copied()?;
            i32::try_from(u32::from_ne_bytes(number)).ok()
        }
        _ => None,
    }
}

/// Signals are as a new program expects them: none held, none ignored.
pub(super) fn deliver_signals() -> io::Result<()> {
    let mut set = MaybeUninit::<libc::sigset_t>::uninit();
    // JUSTIFICATION: signal masks and dispositions have no safe interface.
    // SAFETY: the set is emptied before it is read. The default disposition runs no code of ours.
    unsafe {
        libc::signal(libc::SIGPIPE, libc::SIG_DFL);
        libc::sigemptyset(set.as_mut_ptr());
        check(libc::c_long::from(libc::sigprocmask(
            libc::SIG_SETMASK,
            set.as_ptr(),
            std::ptr::null_mut(),
        )))
    }
}

/// Sends SIGIO to this process whenever a name leaves the directory, until it is closed.
pub(super) fn signal_removals(directory: BorrowedFd<'_>) -> io::Result<()> {
    let events = DN_DELETE | DN_RENAME | DN_MULTISHOT;
    // JUSTIFICATION: no wrapper; see the caller for why not the other interface.
    // SAFETY: the call takes numbers only.
    let result = unsafe { libc::fcntl(directory.as_raw_fd(), libc::F_NOTIFY, events) };
    check(libc::c_long::from(result))
}

/// Takes over a descriptor that this process was started with.
///
/// The caller must be the only one to use that number, which is so for numbers in the arguments that
/// the executor gives to its own program.
pub(super) fn adopt(number: RawFd) -> io::Result<OwnedFd> {
    if number <= 2 {
        return Err(io::ErrorKind::InvalidInput.into());
    }
    // JUSTIFICATION: an inherited descriptor is only known by its number.
    // SAFETY: the first call fails for numbers that are not open. This runs before anything else in
    // the process opens descriptors, and each number is taken once.
    unsafe {
        let fd = BorrowedFd::borrow_raw(number);
        rustix::io::fcntl_setfd(fd, rustix::io::FdFlags::CLOEXEC)?;
        Ok(OwnedFd::from_raw_fd(number))
    }
}

/// Filters the system calls of this thread and its children from now on.
///
/// With `notices` the result is a descriptor that tells of calls for which the program says so; each
/// waits until [`refuse`] answers it.
///
/// # Errors
///
/// EBUSY if `notices` are wanted and somebody else has that descriptor for this thread.
pub(super) fn install_filter(
    program: &mut [libc::sock_filter],
    notices: bool,
) -> io::Result<Option<OwnedFd>> {
    let program = bpf::for_kernel(program)?;
    let flags = if notices {
        libc::SECCOMP_FILTER_FLAG_NEW_LISTENER
    } else {
        0
    };
    // JUSTIFICATION: no wrapper.
    // SAFETY: the structure and what it points to live until the call returns, and are only read.
    // With the flag the result is a new descriptor that nobody else owns.
    unsafe {
        let result = libc::syscall(
            libc::SYS_seccomp,
            libc::SECCOMP_SET_MODE_FILTER,
            flags,
            &raw const program,
        );
        check(result)?;
        let listener = i32::try_from(result).ok().filter(|_| notices);
        Ok(listener.map(|number| OwnedFd::from_raw_fd(number)))
    }
}

/// Takes a call that waits at the descriptor of [`install_filter`], and makes it fail.
///
/// `before` is done while the caller still waits.
pub(super) fn refuse(listener: &OwnedFd, before: impl FnOnce()) {
    let mut notice = MaybeUninit::<libc::seccomp_notif>::zeroed();
    // JUSTIFICATION: no wrapper.
    // SAFETY: the structure is zeroed, as the kernel demands, valid as such, large enough, and lives
    // until the call returns.
    let notice = unsafe {
        let request = libc::SECCOMP_IOCTL_NOTIF_RECV;
        if libc::ioctl(listener.as_raw_fd(), request, notice.as_mut_ptr()) < 0 {
            // Whoever called is gone.
            return;
        }
        notice.assume_init()
    };
    before();
    let mut answer = libc::seccomp_notif_resp {
        id: notice.id,
        val: 0,
        error: -libc::EPERM,
        flags: 0,
    };
    // JUSTIFICATION: as above.
    // SAFETY: as above. A failure means that the caller is gone.
    unsafe {
        let request = libc::SECCOMP_IOCTL_NOTIF_SEND;
        libc::ioctl(listener.as_raw_fd(), request, &raw mut answer);
    }
}

/// Closes every descriptor above the standard ones except those given.
pub(super) fn close_others(keep: &[BorrowedFd<'_>]) -> io::Result<()> {
    let mut numbers: Vec<u32> = keep
        .iter()
        .filter_map(|fd| u32::try_from(fd.as_raw_fd()).ok())
        .collect();
    numbers.sort_unstable();
    let mut first = 3;
    for number in numbers.into_iter().chain([u32::MAX]) {
        if number > first {
            // JUSTIFICATION: descriptors that other code of this process owns are closed here, so
            // that the ends of pipes are seen in time.
            // SAFETY: the caller ends by `exit` and never drops or uses the owners of the others.
            let result =
                unsafe { libc::syscall(libc::SYS_close_range, first, number.saturating_sub(1), 0) };
            check(result)?;
        }
        first = number.saturating_add(1);
    }
    Ok(())
}

/// Makes the loopback interface of this process's network namespace usable.
pub(super) fn raise_loopback() -> io::Result<()> {
    use rustix::net::{AddressFamily, SocketFlags, SocketType, socket_with};
    let flags = SocketFlags::CLOEXEC;
    let socket = socket_with(AddressFamily::INET, SocketType::DGRAM, flags, None)?;
    let mut request = MaybeUninit::<libc::ifreq>::zeroed();
    // JUSTIFICATION: no wrapper; the other interface to it is netlink, with far more code.
    // SAFETY: all bytes zero are a valid value of that structure. The name ends with zeros, and the
    // call reads the name and the flags of a structure that lives until it returns.
    let result = unsafe {
        let request = request.assume_init_mut();
        for (place, byte) in request.ifr_name.iter_mut().zip(b"lo") {
            *place = byte.cast_signed() as libc::c_char;
        }
        request.ifr_ifru.ifru_flags = UP;
        libc::ioctl(
            socket.as_raw_fd(),
            libc::SIOCSIFFLAGS as _,
            &raw const *request,
        )
    };
    check(libc::c_long::from(result))
}

fn check(result: libc::c_long) -> io::Result<()> {
    if result < 0 {
        Err(io::Error::last_os_error())
    } else {
        Ok(())
    }
}

/// An interface's flags: up and running.
const UP: libc::c_short = 0x41;

// From the kernel's `fcntl.h`; the C library's bindings lack them.
const DN_DELETE: libc::c_int = 0x8;
const DN_RENAME: libc::c_int = 0x10;
const DN_MULTISHOT: libc::c_int = 1 << 31;
