//! Runs a login shell once, and cuts what it says into sections.

use std::ffi::{OsStr, OsString};
use std::os::fd::OwnedFd;
use std::os::unix::ffi::{OsStrExt as _, OsStringExt as _};
use std::path::Path;
use std::sync::Arc;

use exec_proto::process::StartParams;
use rustix::fs::{MemfdFlags, SealFlags};
use tokio::io::Interest;
use uuid::Uuid;

use super::shell::{Sections, Shell};
use super::{Commands, State};
use crate::environment::Variables;
use crate::limits::Bounds;
use crate::process::group::ProcessGroup;
use crate::process::spawn::{SpawnRequest, StdioKind};
use crate::process::table::TableConfig;
use crate::process::watched::{WatchedFd, watch};
use crate::sandbox::Confinement;

/// Longest output of a capture, the profile's own included.
const MAX_CAPTURE_BYTES: usize = 512 << 10;

/// Longest state that is passed as a variable. The kernel takes 128 KiB.
const MAX_VARIABLE_BYTES: usize = 120 << 10;

/// Variables of the capturing shell that mean nothing to another one.
const NOT_RESTORED: [&str; 4] = ["PWD", "OLDPWD", "SHLVL", "_"];

/// Runs the login shell once. `None` if the profile does not let the capture finish, or has left
/// behind what cannot be brought back.
pub(super) async fn capture(
    shell: Shell,
    config: &TableConfig,
    params: &StartParams,
    cwd: &Path,
    confinement: Option<&Confinement>,
) -> Option<State> {
    let mark = Uuid::new_v4().simple().to_string();
    let none = std::collections::BTreeMap::new();
    let variables = config
        .environment
        .child_variables(params.env_policy.as_ref(), &none, None);
    let request = SpawnRequest {
        argv: shell.capture(params.argv.first()?, &mark),
        arg0: None,
        cwd: cwd.to_owned(),
        variables,
        stdio: StdioKind::Capture,
        extra: None,
        confinement: confinement.cloned(),
        ways: Vec::new(),
        bounds: Bounds::default(),
    };
    let mut spawned = config.spawner.spawn(request).await.ok()?;
    let (_, output) = spawned.outputs.pop()?;
    // Ends with this function, and everything that the profile started in its group with it.
    let (_group, _) = ProcessGroup::new(spawned.leader, spawned.pidfd).ok()?;
    let output = watch(output, Interest::READABLE).ok()?;
    let mark = format!("\n{mark}\n");
    let text = read_until_mark(&output, mark.as_bytes(), 4).await?;

    let mut sections = split(&text, mark.as_bytes());
    let sections = Sections {
        noise: sections.next()?,
        options: sections.next()?,
        environ: sections.next()?,
        state: sections.next()?,
    };
    let commands = shell.commands(&sections)?;
    Some(State {
        variables: parse_environ(sections.environ),
        commands: if !shell.takes_variable() {
            Commands::File(Arc::new(sealed(&commands).ok()?))
        } else if commands.len() <= MAX_VARIABLE_BYTES {
            Commands::Variable(commands)
        } else {
            return None;
        },
    })
}

/// Reads until the mark came `count` times. A program that the profile left in the background may
/// hold the pipe open, so its end is not waited for.
async fn read_until_mark(fd: &WatchedFd, mark: &[u8], count: usize) -> Option<Vec<u8>> {
    let mut text = Vec::new();
    let mut buffer = vec![0; 16 << 10];
    loop {
        let mut ready = fd.readable().await.ok()?;
        match ready.try_io(|fd| Ok(rustix::io::read(fd, &mut buffer)?)) {
            Ok(Ok(0) | Err(_)) => return None,
            Ok(Ok(read)) => text.extend_from_slice(buffer.get(..read)?),
            Err(_) => continue,
        }
        // The pieces are one more than the marks.
        if split(&text, mark).count() > count {
            return Some(text);
        }
        if text.len() > MAX_CAPTURE_BYTES {
            return None;
        }
    }
}

/// The pieces between occurrences of `mark`.
fn split<'a>(text: &'a [u8], mark: &'a [u8]) -> impl Iterator<Item = &'a [u8]> {
    let mut rest = Some(text);
    std::iter::from_fn(move || {
        let text = rest.take()?;
        let Some(at) = text.windows(mark.len()).position(|window| window == mark) else {
            return Some(text);
        };
        let (piece, behind) = text.split_at(at);
        rest = behind.get(mark.len()..);
        Some(piece)
    })
}

fn parse_environ(text: &[u8]) -> Variables {
    text.split(|byte| *byte == 0)
        .filter_map(|entry| {
            let at = entry.iter().position(|byte| *byte == b'=')?;
            let (name, value) = entry.split_at(at);
            // Exported functions come back as functions.
            let is_function = name.starts_with(b"BASH_FUNC_");
            let name = OsStr::from_bytes(name);
            let keep = !is_function && !NOT_RESTORED.iter().any(|other| name == *other);
            let value = OsString::from_vec(value.get(1..)?.to_vec());
            keep.then(|| (name.to_owned(), value))
        })
        .collect()
}

/// A memory file that no process can change, as every restored command gets the same one.
fn sealed(text: &[u8]) -> std::io::Result<OwnedFd> {
    use std::io::Write as _;
    let flags = MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING;
    let fd = rustix::fs::memfd_create("shell-snapshot", flags)?;
    let mut file = std::fs::File::from(fd);
    file.write_all(text)?;
    let seals = SealFlags::WRITE | SealFlags::GROW | SealFlags::SHRINK | SealFlags::SEAL;
    rustix::fs::fcntl_add_seals(&file, seals)?;
    Ok(file.into())
}
