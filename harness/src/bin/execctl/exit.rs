//! Failures: one line that says what is wrong and what to do, and an exit code.

use harness::Error;

/// Usage or configuration.
pub(crate) const USAGE: u8 = 64;
/// The service, the executor or the way to it is away.
pub(crate) const UNAVAILABLE: u8 = 69;
/// A credential or a permission is lacking.
pub(crate) const REFUSED: u8 = 77;
/// Anything else.
pub(crate) const FAILURE: u8 = 1;
/// A program cannot be executed, as shells say it.
const NOT_EXECUTABLE: u8 = 126;
/// A program was not found, as shells say it.
const NOT_FOUND: u8 = 127;

/// 128 + SIGPIPE.
pub(crate) const BROKEN_PIPE: u8 = 141;

/// Why the command failed.
#[derive(Debug)]
pub(crate) struct Failure {
    /// One line; empty when there is nothing to say.
    pub(crate) message: String,
    /// The kind, for `--json`.
    pub(crate) reason: &'static str,
    pub(crate) code: u8,
}

impl Failure {
    /// The caller has to type or configure something else.
    pub(crate) fn usage(message: impl Into<String>) -> Self {
        Self {
            message: message.into(),
            reason: "usage",
            code: USAGE,
        }
    }

    /// Something did not work.
    pub(crate) fn other(message: impl Into<String>) -> Self {
        Self {
            message: message.into(),
            reason: "failure",
            code: FAILURE,
        }
    }

    /// Standard output cannot be written to. A reader that has had enough, as in `ls | head -1`, is
    /// no failure to talk about; the code is that of a program that SIGPIPE ends.
    pub(crate) fn write(error: &std::io::Error) -> Self {
        if error.kind() == std::io::ErrorKind::BrokenPipe {
            return Self {
                message: String::new(),
                reason: "broken_pipe",
                code: BROKEN_PIPE,
            };
        }
        Self::other(format!("failed to write to standard output: {error}"))
    }

    /// A signal asked this program to end; nobody needs to be told so.
    pub(crate) fn ended(code: u8) -> Self {
        Self {
            message: String::new(),
            reason: "interrupted",
            code,
        }
    }

    /// A program could not be started.
    pub(crate) fn start(program: &str, error: Error) -> Self {
        let code = match &error {
            Error::Rpc { message, .. }
                if message.ends_with("(os error 2)") || message.ends_with("resolve the PATH") =>
            {
                NOT_FOUND
            }
            Error::Rpc { message, .. } if message.ends_with("(os error 13)") => NOT_EXECUTABLE,
            _ => return Self::from(error),
        };
        let what = "not found, or its working directory is not";
        let detail = if code == NOT_FOUND {
            what
        } else {
            "cannot be executed"
        };
        Self {
            message: format!("{program}: {detail}"),
            reason: error.reason(),
            code,
        }
    }

    /// Puts what was being done before the message.
    pub(crate) fn context(mut self, context: &str) -> Self {
        self.message = format!("{context}: {}", self.message);
        self
    }
}

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        let root = error.root();
        let (code, hint) = match root {
            Error::Misuse(_) => (USAGE, ""),
            Error::Refused(_) => (REFUSED, ""),
            Error::UnknownEnvironment(_) => (
                USAGE,
                ": check --environment, or register an executor for it",
            ),
            Error::Offline(_) => (UNAVAILABLE, ": start it, or see its log"),
            // Some say themselves what to do.
            Error::Unavailable { detail, .. } if detail.ends_with("see the executor's log") => {
                (UNAVAILABLE, "")
            }
            Error::Unavailable { .. } => (UNAVAILABLE, ": check that it is running and reachable"),
            Error::ExecutorKeyChanged
            | Error::RecoveryTimedOut { .. }
            | Error::SessionLost(_)
            | Error::ConnectionLost(_)
            | Error::OutcomeUnknown { .. } => (UNAVAILABLE, ""),
            Error::Rpc { message, .. } if message.ends_with("(os error 13)") => (REFUSED, ""),
            _ => (FAILURE, ""),
        };
        let mut message = match root {
            // The method means nothing to someone who typed a subcommand.
            Error::Rpc { message, .. } => message.clone(),
            other => other.to_string(),
        };
        if let Error::Io { source, .. } = root {
            message = format!("{message}: {source}");
        }
        message.push_str(hint);
        Self {
            message,
            reason: root.reason(),
            code,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;

    #[test]
    fn codes_follow_the_kind_of_failure() {
        let unavailable = Error::Unavailable {
            context: "registry".into(),
            detail: "refused".into(),
            retry_after: None,
        };
        let rpc = |message: &str| Error::Rpc {
            method: "fs/readFile",
            code: -32603,
            message: message.into(),
        };
        for (error, code) in [
            (Error::Misuse("x".into()), 64),
            (Error::UnknownEnvironment("x".into()), 64),
            (Error::Refused("x".into()), 77),
            (Error::Offline("x".into()), 69),
            (unavailable.clone(), 69),
            (Error::SessionLost(Arc::new(Error::ExecutorKeyChanged)), 69),
            (Error::SessionLost(Arc::new(unavailable)), 69),
            (rpc("Permission denied (os error 13)"), 77),
            (rpc("Is a directory (os error 21)"), 1),
            (Error::ProcessGone, 1),
        ] {
            assert_eq!(Failure::from(error.clone()).code, code, "{error}");
        }
    }

    #[test]
    fn program_that_cannot_start_has_the_code_of_a_shell() {
        let rpc = |message: &str| Error::Rpc {
            method: "process/start",
            code: -32603,
            message: message.into(),
        };
        for (message, code) in [
            ("No such file or directory (os error 2)", 127),
            (
                "Unable to spawn x because:\nUnable to resolve the PATH",
                127,
            ),
            ("Permission denied (os error 13)", 126),
            ("Exec format error (os error 8)", 1),
        ] {
            assert_eq!(Failure::start("x", rpc(message)).code, code, "{message}");
        }
    }

    #[test]
    fn messages_are_one_line_with_advice() {
        let message = Failure::from(Error::Offline("dev".into())).message;
        assert_eq!(
            message,
            "environment dev is offline: its executor is not connected: start it, or see its log"
        );
    }
}
