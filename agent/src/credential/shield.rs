//! Takes credentials out of the process's environment before anything else runs.
//!
//! Commands run as the same user as the executor. A credential in its environment could be read by
//! every one of them, through `/proc/<parent>/environ`, even when they do not inherit it: the kernel
//! shows the memory that the process was started with, and clearing variables later does not
//! change it. So the process puts the credential into a sealed memory file and starts itself again,
//! with the same id, the same arguments and an environment without it:
//!
//! ```text
//! exec-server (EXEC_SERVER_TOKEN=...)  --memfd, exec-->  exec-server
//!                                                        finds the file among its descriptors,
//!                                                        reads and closes it
//! ```
//!
//! It also makes the process undumpable, so that processes of the same user can neither attach to
//! it nor read its memory, environment or descriptors. Processes with `CAP_SYS_PTRACE` still can.

use std::{
    fs::File,
    io::{self, Write as _},
    os::{
        fd::{FromRawFd as _, OwnedFd, RawFd},
        unix::{ffi::OsStringExt as _, fs::FileExt as _, process::CommandExt as _},
    },
    path::{Path, PathBuf},
    process::Command,
};

use rustix::{
    fs::{MemfdFlags, SealFlags, fcntl_add_seals, memfd_create},
    process::{DumpableBehavior, set_dumpable_behavior},
};
use secrecy::SecretString;
use zeroize::Zeroizing;

/// Why the environment could not be cleaned. The process must not go on.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ShieldError {
    /// The credential could not be moved.
    #[error("failed to move the credential out of the environment; use --token-file instead")]
    Move(#[source] io::Error),
    /// The memory file cannot be read.
    #[error("failed to read the credential that was moved out of the environment")]
    Receive(#[source] io::Error),
    /// The credential is not text.
    #[error("the credential in the environment is not valid UTF-8")]
    NotUtf8,
}

/// Makes the process undumpable and takes the credential of the environment, if there is one.
///
/// Must run first in `main`: before threads, and before anything reads the environment. When a
/// credential variable is set, this does not return but starts the program again.
///
/// # Errors
///
/// [`ShieldError`]; the credential is then still in the environment.
pub fn shield() -> Result<Option<SecretString>, ShieldError> {
    forbid_dumps();
    if is_in_environment() {
        return Err(ShieldError::Move(restart()));
    }
    match inherited_memory_file() {
        None => Ok(None),
        Some(file) => read_token(&file).map(Some),
    }
}

/// Makes the process undumpable and gives up the credential that it was handed over unread, if there
/// is one: for a process that has started the program again and needs none itself.
pub(crate) fn disown() {
    forbid_dumps();
    drop(inherited_memory_file());
}

fn forbid_dumps() {
    // Best effort: old kernels and strict filters may refuse, and the environment is clean anyway.
    let _ = set_dumpable_behavior(DumpableBehavior::NotDumpable);
}

/// Whether a credential variable is set, so that [`shield`] starts the program again.
pub fn is_in_environment() -> bool {
    SECRET_VARIABLES
        .iter()
        .any(|name| std::env::var_os(name).is_some())
}

/// Starts the program again without the variables. Returns only if that fails.
fn restart() -> io::Error {
    let secret = TOKEN_VARIABLES
        .iter()
        .filter_map(std::env::var_os)
        .map(|value| Zeroizing::new(value.into_vec()))
        .find(|value| !value.trim_ascii().is_empty());
    // Stays open until the program is replaced, and across that.
    let _handed_over = match secret.map(|secret| memory_file(&secret)).transpose() {
        Ok(file) => file,
        Err(error) => return error,
    };
    let mut error = io::Error::from(io::ErrorKind::NotFound);
    // The real path keeps the process's name; the link also works when the file was replaced.
    for program in [
        std::env::current_exe().ok(),
        Some(PathBuf::from("/proc/self/exe")),
    ] {
        let Some(program) = program else { continue };
        let mut command = Command::new(program);
        let mut arguments = std::env::args_os();
        if let Some(name) = arguments.next() {
            command.arg0(name);
        }
        command.args(arguments);
        for name in SECRET_VARIABLES {
            command.env_remove(name);
        }
        error = command.exec();
    }
    error
}

/// A sealed memory file that survives `exec`.
fn memory_file(content: &[u8]) -> io::Result<OwnedFd> {
    let mut file = File::from(memfd_create(MEMORY_FILE_NAME, MemfdFlags::ALLOW_SEALING)?);
    file.write_all(content)?;
    fcntl_add_seals(
        &file,
        SealFlags::SEAL | SealFlags::SHRINK | SealFlags::GROW | SealFlags::WRITE,
    )?;
    Ok(file.into())
}

/// Takes over the memory file that the first incarnation left, if there is one.
///
/// JUSTIFICATION for the unsafe block: an inherited descriptor is only known by its number.
#[expect(
    unsafe_code,
    reason = "an inherited descriptor is only known by its number"
)]
fn inherited_memory_file() -> Option<File> {
    let number: RawFd = std::fs::read_dir("/proc/self/fd")
        .ok()?
        .filter_map(Result::ok)
        .find(|entry| std::fs::read_link(entry.path()).is_ok_and(|target| is_memory_file(&target)))?
        .file_name()
        .to_str()?
        .parse()
        .ok()?;
    // SAFETY: the descriptor is open, as the link just read shows, and it is the memory file that
    // `restart` made, as its name shows. Nothing else owns it: this is the first thing that `main`
    // does, so no other code of this process has opened or adopted descriptors yet.
    Some(unsafe { File::from_raw_fd(number) })
}

fn is_memory_file(link: &Path) -> bool {
    link.to_str()
        .and_then(|link| link.strip_prefix("/memfd:"))
        .and_then(|rest| rest.strip_prefix(MEMORY_FILE_NAME))
        .is_some_and(|rest| rest.is_empty() || rest.starts_with(' '))
}

/// Reads the whole file wherever its position is, and leaves that alone: it is shared with every
/// process that inherited the descriptor, and one of them may be reading at the same time.
fn read_token(file: &File) -> Result<SecretString, ShieldError> {
    // Sealed, so this is its length for ever.
    let length = file.metadata().map_err(ShieldError::Receive)?.len();
    let length = usize::try_from(length)
        .unwrap_or(READ_LIMIT)
        .min(READ_LIMIT);
    let mut content = Zeroizing::new(vec![0; length]);
    file.read_exact_at(&mut content, 0)
        .map_err(ShieldError::Receive)?;
    let text = str::from_utf8(&content).map_err(|_| ShieldError::NotUtf8)?;
    Ok(SecretString::from(text.trim()))
}

/// Variables that give the executor's own token, in order of precedence.
const TOKEN_VARIABLES: [&str; 2] = ["EXEC_SERVER_TOKEN", "CODEX_API_KEY"];

/// Variables that must not stay: the above, and credentials that the reference reads.
const SECRET_VARIABLES: [&str; 4] = [
    "EXEC_SERVER_TOKEN",
    "CODEX_API_KEY",
    "CODEX_ACCESS_TOKEN",
    "CODEX_EXEC_SERVER_NOISE_AUTH_TOKEN",
];

const MEMORY_FILE_NAME: &str = "exec-server-secret";
/// More than a usable token has, so that one that is too long is still refused as such.
const READ_LIMIT: usize = 64 << 10;

#[cfg(test)]
mod tests {
    use std::io::{Seek as _, SeekFrom};

    use secrecy::ExposeSecret as _;

    use super::*;

    #[test]
    fn memory_file_is_sealed_and_read_back_trimmed() {
        let mut file = File::from(memory_file(b" tok-1\n").unwrap());
        assert!(file.write_all(b"x").is_err());
        assert_eq!(read_token(&file).unwrap().expose_secret(), "tok-1");
        // Process 1 of a container and the executor share the position.
        let mut inherited = file.try_clone().unwrap();
        for position in [0, 3, 7] {
            inherited.seek(SeekFrom::Start(position)).unwrap();
            assert_eq!(read_token(&file).unwrap().expose_secret(), "tok-1");
            assert_eq!(inherited.stream_position().unwrap(), position);
        }
        let broken = File::from(memory_file(b"\xff").unwrap());
        assert!(matches!(read_token(&broken), Err(ShieldError::NotUtf8)));
    }

    #[test]
    fn only_our_own_memory_file_is_taken_over() {
        for (link, expected) in [
            ("/memfd:exec-server-secret (deleted)", true),
            ("/memfd:exec-server-secret", true),
            ("/memfd:exec-server-secrets (deleted)", false),
            ("/memfd:other (deleted)", false),
            ("/tmp/memfd:exec-server-secret", false),
            ("pipe:[1]", false),
        ] {
            assert_eq!(is_memory_file(Path::new(link)), expected, "{link}");
        }
    }
}
