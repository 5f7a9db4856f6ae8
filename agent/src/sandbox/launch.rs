//! What the executor hands to the sandbox's first process, and how that process is started.
//!
//! Everything travels through a sealed memory file, never through arguments or the environment: those
//! can be read by other users, are limited in size, and the environment of a command could make the
//! loader run the client's code before anything is confined.

use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::io::{self, Read as _, Seek as _, Write as _};
use std::os::fd::{AsFd as _, AsRawFd as _, BorrowedFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use exec_proto::sandbox::NetworkAccess;
use rustix::fs::{MemfdFlags, SealFlags};
use rustix::pipe::{PipeFlags, pipe_with};
use serde::{Deserialize, Serialize};

use super::steps::MountPlan;
use crate::child::{NewProcess, Started};
use crate::limits::Bounds;

/// What to confine, and what to run.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Launch {
    pub(crate) confinement: Confinement,
    pub(crate) task: Task,
    /// Whoever waits for the outcome. If it is gone, nothing shall run.
    pub(crate) parent: i32,
    /// Ports of loopback inside whose listeners the executor gets.
    pub(crate) ways: Vec<u16>,
    /// What the program may use.
    pub(crate) bounds: Bounds,
}

/// What a program is confined to.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Confinement {
    /// `None`: files are as without a sandbox, and no namespaces are used.
    pub(crate) files: Option<MountPlan>,
    pub(crate) network: NetworkAccess,
    /// Set if there is a network, of which only the ways of [`Launch::ways`] lead out. Files are
    /// confined then.
    pub(crate) isolation: Option<Isolation>,
}

/// How a program is kept from any network but its own.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Isolation {
    /// Whether it may connect to Unix sockets, by whatever path it sees.
    pub(crate) all_unix_sockets: bool,
}

/// What runs in the sandbox.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) enum Task {
    /// A program of the client.
    Program {
        #[serde(with = "super::raw")]
        program: PathBuf,
        #[serde(with = "super::raw::list")]
        argv: Vec<OsString>,
        /// `NAME=value`.
        #[serde(with = "super::raw::list")]
        environment: Vec<OsString>,
        #[serde(with = "super::raw")]
        cwd: PathBuf,
        /// Standard input is a terminal, which shall control the program.
        terminal: bool,
    },
    /// The file requests of a connection, from standard input.
    Files,
}

/// What the sandbox's first process needs, and the pipe that tells what came of it.
#[derive(Debug)]
pub(crate) struct Prepared {
    pub(crate) outcome: OwnedFd,
    /// Where notices arrive; see [`notices`](super::notices). Non-blocking.
    pub(crate) notices: OwnedFd,
    /// What the process needs to inherit: request, report, notices, and where its listeners go.
    pub(crate) inherited: Arc<[OwnedFd]>,
    /// Where the listeners come from, if there are any.
    pub(crate) ways: Option<UnixStream>,
}

impl Prepared {
    /// The arguments of the first process. It inherits the descriptors that they name.
    pub(super) fn arguments(&self) -> Vec<String> {
        let numbers = self.inherited.iter().map(|fd| fd.as_raw_fd().to_string());
        std::iter::once(ARGUMENT.to_owned())
            .chain(numbers)
            .collect()
    }

    /// Starts the first process without a [`Template`](super::Template), for whoever gives it `extra`
    /// descriptors.
    ///
    /// # Errors
    ///
    /// Whatever the system says.
    pub(crate) fn start<'a>(
        &'a self,
        standard: [BorrowedFd<'a>; 3],
        extra: impl Iterator<Item = BorrowedFd<'a>>,
    ) -> io::Result<Started> {
        let arguments = self.arguments();
        let process = NewProcess {
            program: Path::new(PROGRAM),
            argv: std::iter::once(PROGRAM)
                .chain(arguments.iter().map(String::as_str))
                .map(OsStr::new)
                .collect(),
            environment: Vec::new(),
            cwd: Path::new("/"),
            standard,
            // In a sandbox the program takes the terminal itself.
            terminal: false,
            inherited: self
                .inherited
                .iter()
                .map(OwnedFd::as_fd)
                .chain(extra)
                .collect(),
            bounds: None,
        };
        process.start()
    }
}

impl Launch {
    /// Writes the request down for the sandbox's first process.
    ///
    /// # Errors
    ///
    /// If the system gives no memory file or pipe.
    pub(crate) fn prepare(&self) -> io::Result<Prepared> {
        let (ways, ways_out) = if self.ways.is_empty() {
            (None, None)
        } else {
            let (ours, theirs) = UnixStream::pair()?;
            (Some(ours), Some(OwnedFd::from(theirs)))
        };
        let text = serde_json::to_vec(self)?;
        let flags = MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING;
        let mut file = File::from(rustix::fs::memfd_create("sandbox-request", flags)?);
        file.write_all(&text)?;
        file.rewind()?;
        let seals = SealFlags::WRITE | SealFlags::GROW | SealFlags::SHRINK | SealFlags::SEAL;
        rustix::fs::fcntl_add_seals(&file, seals)?;
        let (outcome, report) = pipe_with(PipeFlags::CLOEXEC)?;
        let (notices, noticed) = pipe_with(PipeFlags::CLOEXEC | PipeFlags::NONBLOCK)?;
        Ok(Prepared {
            outcome,
            notices,
            inherited: [file.into(), report, noticed]
                .into_iter()
                .chain(ways_out)
                .collect(),
            ways,
        })
    }

    /// Reads the request from the memory file.
    pub(super) fn receive(file: OwnedFd) -> io::Result<Self> {
        let mut text = Vec::new();
        File::from(file).read_to_end(&mut text)?;
        Ok(serde_json::from_slice(&text)?)
    }
}

/// `NAME=value`.
pub(crate) fn variable(name: &OsStr, value: &OsStr) -> OsString {
    let mut text = OsString::with_capacity(name.len() + 1 + value.len());
    text.push(name);
    text.push("=");
    text.push(value);
    text
}

/// Not for people, so not in the help text.
pub(super) const ARGUMENT: &str = "--sandbox-first-process";

/// This very program, even if its file was replaced since.
pub(super) const PROGRAM: &str = "/proc/self/exe";
