//! Shell snapshots: the state that a login shell's profile leaves behind, captured once and restored
//! for later commands, so that not every command pays for the profile.
//!
//! ```text
//! bash -lc CAPTURE               profile runs once; then: exported variables, functions, aliases,
//!                                options, between marks that the profile cannot know
//! bash -pc PROLOGUE name CMD ... sources the state from a sealed memory file, closes it, runs CMD
//! ```
//!
//! A snapshot is a shortcut and nothing depends on it: a command that cannot be restored, for
//! whatever reason, runs as the login shell that was asked for. Only bash is captured. The POSIX shell
//! cannot list its functions, so a restored one would miss them; it always runs as a login shell, and
//! so does zsh. Failures are not remembered. Changes of profile files are not noticed.
//!
//! Variables reach the command through its environment: those captured, filtered by the request's
//! policy, under the request's own.

use std::collections::VecDeque;
use std::ffi::{OsStr, OsString};
use std::os::fd::{AsRawFd as _, OwnedFd};
use std::os::unix::ffi::{OsStrExt as _, OsStringExt as _};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use exec_proto::RpcError;
use exec_proto::process::{EnvPolicy, ShellSnapshot, StartParams};
use exec_proto::sandbox::SandboxContext;
use rustix::fs::{MemfdFlags, SealFlags};
use tokio::io::Interest;
use tokio::sync::OnceCell;
use uuid::Uuid;

use super::group::ProcessGroup;
use super::spawn::{SpawnRequest, StdioKind};
use super::table::TableConfig;
use super::watched::{WatchedFd, watch};
use crate::environment::{Variables, policy};
use crate::sandbox::Confinement;

/// Snapshots of one session; the one used longest ago goes first.
const MAX_SNAPSHOTS: usize = 16;

/// Longest scope id.
const MAX_SCOPE_BYTES: usize = 256;

/// Longest output of a capture, the profile's own included.
const MAX_CAPTURE_BYTES: usize = 512 << 10;

/// Longest time of a capture.
const CAPTURE_TIME: Duration = Duration::from_secs(10);

/// Variables of the capturing shell that mean nothing to another one.
const NOT_RESTORED: [&str; 4] = ["PWD", "OLDPWD", "SHLVL", "_"];

/// What the capturing shell runs after the profile; `MARK` is replaced. Builtins are named as such,
/// because the profile may have given their names to functions and aliases.
///
/// The order is that of restoring: shell options come before the functions that may need them to be
/// parsed, functions before the aliases that must not be expanded in them, and `set` options last.
const CAPTURE: &str = r#"\builtin printf '\n%s\n' MARK
\builtin command -p cat /proc/self/environ
\builtin printf '\n%s\n' MARK
\builtin shopt -p
\builtin declare -f
\builtin declare -Fx | while \builtin read -r _ _ name; do \builtin printf 'export -f %s\n' "$name"; done
\builtin alias -p
\builtin set +o
\builtin printf '\n%s\n' MARK
\builtin exit 0
"#;

/// The snapshots of one session.
#[derive(Debug, Default)]
pub(super) struct Snapshots {
    /// Most recently used last.
    cells: Mutex<VecDeque<(Key, Cell)>>,
}

/// Empty while the first command captures; others wait for it.
type Cell = Arc<OnceCell<Arc<State>>>;

/// What a snapshot depends on.
#[derive(Debug, Clone, PartialEq)]
struct Key {
    scope: String,
    shell: String,
    cwd: PathBuf,
    policy: Option<EnvPolicy>,
    sandbox: Option<SandboxContext>,
}

/// What a profile left behind.
struct State {
    variables: Variables,
    /// A sealed memory file with commands that bring the rest back.
    commands: Arc<OwnedFd>,
}

/// A command that restores a snapshot instead of running the profile.
#[derive(Debug)]
pub(super) struct Restored {
    pub(super) argv: Vec<String>,
    pub(super) variables: Variables,
    pub(super) state: Arc<OwnedFd>,
}

/// Refuses a request that no executor could fulfil.
pub(super) fn check(snapshot: &ShellSnapshot) -> Result<(), RpcError> {
    if snapshot.scope_id.is_empty() || snapshot.scope_id.len() > MAX_SCOPE_BYTES {
        return Err(RpcError::invalid_params(format!(
            "shell snapshot scope must be non-empty and at most {MAX_SCOPE_BYTES} bytes"
        )));
    }
    let name = snapshot.shell.name.as_str();
    if !matches!(name, "bash" | "zsh" | "sh") {
        return Err(RpcError::invalid_params(format!(
            "shell snapshots are unsupported for shell `{name}`"
        )));
    }
    Ok(())
}

impl Snapshots {
    /// The command that restores the request's snapshot, captured now if need be. `None` if the
    /// request has to run as it is.
    pub(super) async fn restore(
        &self,
        config: &TableConfig,
        params: &StartParams,
        cwd: &Path,
        confinement: Option<&Confinement>,
    ) -> Option<Restored> {
        let snapshot = params.shell_snapshot.as_ref()?;
        let [shell, flags, command, rest @ ..] = params.argv.as_slice() else {
            return None;
        };
        if snapshot.shell.name != "bash" || *shell != snapshot.shell.path || flags != "-lc" {
            return None;
        }
        let cell = self.cell(Key {
            scope: snapshot.scope_id.clone(),
            shell: shell.clone(),
            cwd: cwd.to_owned(),
            policy: params.env_policy.clone(),
            sandbox: params.sandbox.clone(),
        });
        let state = cell.get_or_try_init(|| async {
            let capture =
                tokio::time::timeout(CAPTURE_TIME, capture(config, params, cwd, confinement));
            capture.await.ok().flatten().map(Arc::new).ok_or(())
        });
        let state = state.await.ok()?;

        let mut restored = vec![shell.clone(), "-pc".to_owned(), prologue(&state.commands)];
        let own_name = || params.arg0.clone().unwrap_or_else(|| shell.clone());
        restored.push(rest.first().cloned().unwrap_or_else(own_name));
        restored.push(command.clone());
        restored.extend(rest.iter().skip(1).cloned());
        let metadata = params.metadata.as_ref();
        let start = state.variables.clone();
        Some(Restored {
            argv: restored,
            variables: policy::derive(start, params.env_policy.as_ref(), &params.env, metadata),
            state: Arc::clone(&state.commands),
        })
    }

    fn cell(&self, key: Key) -> Cell {
        let mut cells = self.cells.lock().unwrap_or_else(PoisonError::into_inner);
        let found = cells.iter().position(|(other, _)| *other == key);
        let (key, cell) = found
            .and_then(|at| cells.remove(at))
            .unwrap_or((key, Cell::default()));
        if cells.len() >= MAX_SNAPSHOTS {
            cells.pop_front();
        }
        cells.push_back((key, Arc::clone(&cell)));
        cell
    }
}

/// What a restored shell runs: `$1` is the command, the rest are its arguments. The command is
/// evaluated after the state was sourced, so that it is parsed with the aliases and options.
fn prologue(commands: &OwnedFd) -> String {
    let fd = commands.as_raw_fd();
    format!(
        ". /dev/fd/{fd} >/dev/null 2>&1 || echo 'failed to restore shell snapshot' >&2\n\
         exec {fd}<&-\n\
         eval \"shift\n$1\""
    )
}

/// Runs the login shell once. `None` if the profile does not let the capture finish.
async fn capture(
    config: &TableConfig,
    params: &StartParams,
    cwd: &Path,
    confinement: Option<&Confinement>,
) -> Option<State> {
    let mark = Uuid::new_v4().simple().to_string();
    let shell = params.argv.first()?;
    let none = std::collections::BTreeMap::new();
    let variables = config
        .environment
        .child_variables(params.env_policy.as_ref(), &none, None);
    let request = SpawnRequest {
        argv: vec![
            shell.clone(),
            "-lc".to_owned(),
            CAPTURE.replace("MARK", &mark),
        ],
        arg0: None,
        cwd: cwd.to_owned(),
        variables,
        stdio: StdioKind::Capture,
        extra: None,
        confinement: confinement.cloned(),
    };
    let mut spawned = config.spawner.spawn(request).await.ok()?;
    let (_, output) = spawned.outputs.pop()?;
    // Ends with this function, and everything that the profile started in its group with it.
    let (_group, _) = ProcessGroup::new(spawned.leader, spawned.pidfd).ok()?;
    let output = watch(output, Interest::READABLE).ok()?;
    let mark = format!("\n{mark}\n");
    let text = read_until_mark(&output, mark.as_bytes(), 3).await?;

    let mut parts = split(&text, mark.as_bytes()).skip(1);
    let variables = parse_environ(parts.next()?);
    let commands = [parts.next()?, b"\ntrue\n"].concat();
    Some(State {
        variables,
        commands: Arc::new(sealed(&commands).ok()?),
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

impl std::fmt::Debug for State {
    /// Variables and functions may hold secrets.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("State")
            .field("variables", &self.variables.len())
            .finish_non_exhaustive()
    }
}
