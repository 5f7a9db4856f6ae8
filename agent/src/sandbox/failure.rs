//! What went wrong between the executor's request and the running program, and how it is told.
//!
//! The sandbox's processes write into a pipe that closes when the program runs: one byte just before
//! the program is executed, and one line when something fails. Nothing but that byte is success.

use std::io::{self, Write as _};
use std::os::fd::OwnedFd;

use exec_proto::RpcError;

/// A step of the way.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Stage {
    /// There is no process that could get the request.
    Template,
    /// The request did not arrive whole.
    Request,
    Placeholders,
    Limits,
    Namespaces,
    Identity,
    Network,
    Mounts,
    Proc,
    Devices,
    Privileges,
    Landlock,
    Seccomp,
    Terminal,
    WorkingDirectory,
    Program,
}

impl Stage {
    const ALL: [(Self, &'static str, &'static str); 16] = [
        (
            Self::Template,
            "template",
            "start the process that makes sandboxes",
        ),
        (Self::Request, "request", "receive the request"),
        (
            Self::Placeholders,
            "placeholders",
            "occupy protected names that do not exist",
        ),
        (Self::Limits, "limits", "limit what the command uses"),
        (Self::Namespaces, "namespaces", "create user namespaces"),
        (Self::Identity, "identity", "map the user into a namespace"),
        (
            Self::Network,
            "network",
            "open the ways out of a network namespace",
        ),
        (Self::Mounts, "mounts", "build the tree of files"),
        (
            Self::Proc,
            "proc",
            "mount /proc, which takes a host whose own /proc is whole",
        ),
        (Self::Devices, "devices", "build /dev"),
        (Self::Privileges, "privileges", "drop privileges"),
        (Self::Landlock, "landlock", "apply Landlock rules"),
        (Self::Seccomp, "seccomp", "filter system calls"),
        (Self::Terminal, "terminal", "take the terminal"),
        (Self::WorkingDirectory, "cwd", "enter the working directory"),
        (Self::Program, "program", "execute the program"),
    ];

    fn name(self) -> &'static str {
        self.texts().0
    }

    fn texts(self) -> (&'static str, &'static str) {
        Self::ALL
            .iter()
            .find(|(stage, ..)| *stage == self)
            .map_or(("", ""), |(_, name, what)| (name, what))
    }
}

/// A step that failed.
#[derive(Debug, thiserror::Error)]
#[error("failed to {}", .stage.texts().1)]
pub(crate) struct Failure {
    pub(crate) stage: Stage,
    #[source]
    pub(crate) error: io::Error,
}

/// Makes an error one of that step.
pub(crate) fn at<E: Into<io::Error>>(stage: Stage) -> impl Fn(E) -> Failure {
    move |error| Failure {
        stage,
        error: error.into(),
    }
}

impl Failure {
    /// Tells the executor.
    pub(super) fn report(&self, pipe: OwnedFd) {
        let number = self.error.raw_os_error().unwrap_or(0);
        let line = format!("{} {number}\n", self.stage.name());
        // Without a reader there is nobody to tell.
        let _ = std::fs::File::from(pipe).write_all(line.as_bytes());
    }

    /// The error of the request.
    pub(crate) fn for_process(&self) -> RpcError {
        let error = &self.error;
        match self.stage {
            // As without a sandbox.
            Stage::Program => RpcError::internal(error.to_string()),
            Stage::WorkingDirectory => RpcError::internal(format!(
                "the working directory is not accessible inside the sandbox: {error}"
            )),
            _ => RpcError::invalid_params(format!(
                "sandbox intent cannot be enforced on this executor: {self}: {error}"
            )),
        }
    }
}

impl Failure {
    /// The error of a file request.
    pub(crate) fn for_files(&self) -> RpcError {
        RpcError::invalid_request(format!(
            "filesystem sandbox cannot be enforced on this executor: {self}: {}",
            self.error
        ))
    }
}

/// Tells that the program is about to be executed.
pub(super) fn report_ready(mut pipe: &std::fs::File) -> io::Result<()> {
    pipe.write_all(READY)
}

/// What was told, once the pipe is closed.
///
/// # Errors
///
/// [`Failure`] unless the program runs.
pub(crate) fn parse(told: &[u8]) -> Result<(), Failure> {
    let failed = told.strip_prefix(READY).unwrap_or(told);
    if failed.is_empty() && !told.is_empty() {
        return Ok(());
    }
    let text = String::from_utf8_lossy(failed);
    let (name, number) = text.trim_end().split_once(' ').unwrap_or(("", ""));
    let stage = Stage::ALL
        .iter()
        .find(|(_, known, _)| *known == name)
        .map_or(Stage::Request, |(stage, ..)| *stage);
    let error = match number.parse() {
        Ok(number) if number > 0 => io::Error::from_raw_os_error(number),
        _ => io::Error::other("the sandbox ended before the program began"),
    };
    Err(Failure { stage, error })
}

const READY: &[u8] = b"r";

/// More than any report.
pub(crate) const MAX_BYTES: usize = 256;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_ready_byte_alone_means_that_the_program_runs() {
        assert!(parse(b"r").is_ok());
        for told in [
            &b""[..],
            b"rr",
            b"x",
            b"rprogram 2\n",
            b"mounts 1\n",
            b"r\n",
        ] {
            assert!(parse(told).is_err(), "{told:?}");
        }
    }

    #[test]
    fn every_stage_is_told_apart() {
        for (stage, name, _) in Stage::ALL {
            let failure = parse(format!("r{name} 13\n").as_bytes()).unwrap_err();
            assert_eq!(
                (failure.stage, failure.error.raw_os_error()),
                (stage, Some(13))
            );
        }
    }
}
