//! Shell snapshots: the state that a login shell's profile leaves behind, captured once and restored
//! for later commands, so that not every command pays for the profile.
//!
//! ```text
//! bash -lc CAPTURE               profile runs once; then: exported variables, functions, aliases,
//!                                options and umask, between marks that the profile cannot know
//! bash -pc PROLOGUE name CMD ... brings the state back, runs CMD
//! ```
//!
//! A snapshot is a shortcut and nothing depends on it: a command that cannot be restored, for
//! whatever reason, runs as the login shell that was asked for. Failures are not remembered. Changes
//! of profile files are not noticed.
//!
//! Variables reach the command through its environment: those captured, filtered by the request's
//! policy, under the request's own.
//!
//! | module | idea |
//! |---|---|
//! | [`mod@capture`] | runs the login shell and cuts its output into sections |
//! | [`shell`] | what bash, zsh and the POSIX shell are told to say, and how it is brought back |
//!
//! This one keeps the snapshots of a session.

mod capture;
mod shell;

use std::collections::VecDeque;
use std::ffi::OsString;
use std::os::fd::{AsRawFd as _, OwnedFd};
use std::os::unix::ffi::OsStringExt as _;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use exec_proto::RpcError;
use exec_proto::process::{EnvPolicy, ShellSnapshot, StartParams};
use exec_proto::sandbox::SandboxContext;
use tokio::sync::OnceCell;

use super::table::TableConfig;
use crate::environment::{Variables, policy};
use crate::sandbox::Confinement;

use capture::capture;
use shell::Shell;

/// Snapshots of one session; the one used longest ago goes first.
const MAX_SNAPSHOTS: usize = 16;

/// Longest scope id.
const MAX_SCOPE_BYTES: usize = 256;

/// The snapshots of one session.
#[derive(Debug, Default)]
pub(super) struct Snapshots {
    /// Most recently used last.
    cells: Mutex<VecDeque<(Key, Cell)>>,
}

/// Empty while the first command captures; others wait for it. Holds nothing when the profile takes
/// too long for a capture: then it would the next time too, and each command would wait in vain.
type Cell = Arc<OnceCell<Option<Arc<State>>>>;

/// What a snapshot depends on.
#[derive(Debug, Clone, PartialEq)]
struct Key {
    scope: String,
    shell: (Shell, String),
    cwd: PathBuf,
    policy: Option<EnvPolicy>,
    sandbox: Option<SandboxContext>,
    /// Whether the profile has no network but its own.
    isolated: bool,
}

/// What a profile left behind.
struct State {
    variables: Variables,
    commands: Commands,
}

/// What brings back all but the variables, as commands of the shell.
enum Commands {
    /// A sealed memory file.
    File(Arc<OwnedFd>),
    /// The value of [`shell::STATE_VARIABLE`].
    Variable(Vec<u8>),
}

/// A command that restores a snapshot instead of running the profile.
#[derive(Debug)]
pub(super) struct Restored {
    pub(super) argv: Vec<String>,
    pub(super) variables: Variables,
    /// Has to be open in the command, under its number.
    pub(super) state: Option<Arc<OwnedFd>>,
}

/// Refuses a request that no executor could fulfil. What the shell is matters only to a command that
/// could be restored.
pub(super) fn check(snapshot: &ShellSnapshot, argv: &[String]) -> Result<(), RpcError> {
    if snapshot.scope_id.is_empty() || snapshot.scope_id.len() > MAX_SCOPE_BYTES {
        return Err(RpcError::invalid_params(format!(
            "shell snapshot scope must be non-empty and at most {MAX_SCOPE_BYTES} bytes"
        )));
    }
    if login_command(snapshot, argv).is_none() {
        return Ok(());
    }
    let name = snapshot.shell.name.as_str();
    Shell::named(name).map(drop).ok_or_else(|| {
        RpcError::invalid_params(format!(
            "shell snapshots are unsupported for shell `{name}`"
        ))
    })
}

/// The shell, the command and its arguments, if they are what a snapshot is for.
fn login_command<'a>(
    snapshot: &ShellSnapshot,
    argv: &'a [String],
) -> Option<(&'a String, &'a String, &'a [String])> {
    match argv {
        [path, flags, command, rest @ ..] if *path == snapshot.shell.path && flags == "-lc" => {
            Some((path, command, rest))
        }
        _ => None,
    }
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
        let shell = Shell::named(&snapshot.shell.name)?;
        let (path, command, rest) = login_command(snapshot, &params.argv)?;
        let cell = self.cell(Key {
            scope: snapshot.scope_id.clone(),
            shell: (shell, path.clone()),
            cwd: cwd.to_owned(),
            policy: params.env_policy.clone(),
            sandbox: params.sandbox.clone(),
            isolated: params.enforce_managed_network,
        });
        let state = cell.get_or_try_init(|| async {
            let capture = capture(shell, config, params, cwd, confinement);
            match tokio::time::timeout(config.snapshot_time, capture).await {
                Ok(Some(state)) => Ok(Some(Arc::new(state))),
                Ok(None) => Err(()),
                Err(_) => Ok(None),
            }
        });
        let state = state.await.ok()?.as_ref()?;

        let policy = params.env_policy.as_ref();
        let metadata = params.metadata.as_ref();
        let mut variables = policy::derive(state.variables.clone(), policy, &params.env, metadata);
        let file = match &state.commands {
            Commands::File(file) => Some(Arc::clone(file)),
            Commands::Variable(text) => {
                let text = OsString::from_vec(text.clone());
                variables.insert(shell::STATE_VARIABLE.into(), text);
                None
            }
        };
        let prologue = shell.prologue(file.as_ref().map_or(-1, |file| file.as_raw_fd()));
        let own_name = || params.arg0.clone().unwrap_or_else(|| path.clone());
        let name = rest.first().cloned().unwrap_or_else(own_name);
        let mut argv = vec![path.clone(), shell.flags().to_owned(), prologue, name];
        argv.push(command.clone());
        argv.extend(rest.iter().skip(1).cloned());
        Some(Restored {
            argv,
            variables,
            state: file,
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

impl std::fmt::Debug for State {
    /// Variables and functions may hold secrets.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("State")
            .field("variables", &self.variables.len())
            .finish_non_exhaustive()
    }
}
