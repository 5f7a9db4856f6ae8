//! What the executor is and what children inherit from it: a snapshot, taken once at start.
//!
//! The executor's own credentials are removed from the snapshot, so nothing that reads variables
//! through it (child processes, HTTP headers, configuration) can reach them. The process's real
//! environment is never consulted again.
//!
//! - `withheld` says what children do not inherit although it is in the snapshot.
//! - `policy` derives a child's environment from the snapshot.
//! - `shell` finds the user's shell.
//! - `info` describes the executor to clients.

mod info;
pub(crate) mod policy;
mod shell;
mod withheld;

use std::collections::BTreeMap;
use std::ffi::{OsStr, OsString};
use std::fmt;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;

use exec_proto::environment::Info;

use crate::sandbox::{Floor, Ground};
use withheld::Withheld;

/// Variables of a child, by name.
pub type Variables = BTreeMap<OsString, OsString>;

/// Credentials of the executor itself. They authenticate it to the registry and its clients, and
/// are of no use to a command.
const OWN_CREDENTIALS: [&str; 4] = [
    "EXEC_SERVER_TOKEN",
    "CODEX_API_KEY",
    "CODEX_ACCESS_TOKEN",
    "CODEX_EXEC_SERVER_NOISE_AUTH_TOKEN",
];

/// Between the executor and whoever supervises it. A command has nothing to say there.
const OWN_SUPERVISION: [&str; 4] = [
    "NOTIFY_SOCKET",
    "WATCHDOG_USEC",
    "WATCHDOG_PID",
    "CREDENTIALS_DIRECTORY",
];

/// The environment that the executor was started with, less its credentials. No `Debug` of values.
pub struct ExecutorEnvironment {
    variables: Variables,
    cwd: PathBuf,
    user: shell::User,
    info: Info,
    withheld: Withheld,
    /// Found out once: it takes a pattern after the other for each variable.
    inheritable: OnceLock<Variables>,
    ground: Ground,
}

impl ExecutorEnvironment {
    /// Takes the snapshot from the running process.
    ///
    /// # Errors
    ///
    /// If the working directory cannot be determined.
    pub fn capture() -> io::Result<Self> {
        Ok(Self::from_parts(
            std::env::vars_os(),
            std::env::current_dir()?,
        ))
    }

    /// A snapshot of the given variables, for tests and for embedding.
    pub fn from_parts(
        variables: impl IntoIterator<Item = (OsString, OsString)>,
        cwd: PathBuf,
    ) -> Self {
        let variables: Variables = variables
            .into_iter()
            .filter(|(name, _)| !is_own(name))
            .collect();
        let user = shell::User::current();
        Self {
            info: info::describe(&variables, &cwd, &user),
            ground: Ground {
                temporary: variables.get(OsStr::new("TMPDIR")).map(Into::into),
                ..Ground::default()
            },
            withheld: Withheld::default(),
            inheritable: OnceLock::new(),
            variables,
            cwd,
            user,
        }
    }

    /// A variable's value.
    pub fn variable(&self, name: &str) -> Option<&OsStr> {
        self.variables
            .get(OsStr::new(name))
            .map(OsString::as_os_str)
    }

    /// The working directory at start.
    pub fn cwd(&self) -> &Path {
        &self.cwd
    }

    /// `$HOME`, else the directory in the password database.
    pub fn home_dir(&self) -> Option<&Path> {
        info::home_dir(&self.variables, &self.user)
    }

    /// `$CODEX_HOME`, else `.codex` in the home directory.
    pub fn codex_home(&self) -> Option<PathBuf> {
        match self.variable("CODEX_HOME") {
            Some(home) if !home.is_empty() => Some(self.cwd.join(home)),
            _ => self.home_dir().map(|home| home.join(".codex")),
        }
    }

    /// The same, without connections on behalf of clients.
    #[must_use]
    pub fn without_tcp(mut self) -> Self {
        self.info.capabilities.tcp_streams = false;
        self
    }

    /// The same, with names or patterns of variables that children inherit although they look like
    /// credentials.
    #[must_use]
    pub fn inheriting(mut self, allowed: Vec<String>) -> Self {
        self.withheld.allowed = allowed;
        self.inheritable = OnceLock::new();
        self
    }

    /// The same, with names and patterns of variables that commands do not inherit besides.
    #[must_use]
    pub fn withholding(mut self, named: Vec<String>) -> Self {
        self.withheld.named = named;
        self.inheritable = OnceLock::new();
        self
    }

    /// The same, with a sandbox that no request gets out of.
    #[must_use]
    pub fn with_floor(mut self, floor: Option<Floor>) -> Self {
        self.ground.floor = floor;
        self
    }

    /// The same, where every process of this machine can make requests over the network.
    #[must_use]
    pub fn with_open_listener(mut self) -> Self {
        self.ground.open_listener = true;
        self
    }

    /// What every sandbox of this executor is made with.
    pub(crate) fn ground(&self) -> &Ground {
        &self.ground
    }

    /// The answer to `environment/info`.
    pub fn info(&self) -> &Info {
        &self.info
    }

    pub(crate) fn variables(&self) -> &Variables {
        &self.variables
    }

    /// Those that a child gets if it asks for all.
    fn inheritable(&self) -> &Variables {
        self.inheritable.get_or_init(|| {
            let inherited = self.variables.iter();
            inherited
                .filter(|(name, _)| !self.withheld.covers(name))
                .map(|(name, value)| (name.clone(), value.clone()))
                .collect()
        })
    }
}

impl fmt::Debug for ExecutorEnvironment {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ExecutorEnvironment")
            .field("variables", &self.variables.len())
            .field("cwd", &self.cwd)
            .finish_non_exhaustive()
    }
}

fn is_own(name: &OsStr) -> bool {
    OWN_CREDENTIALS
        .iter()
        .chain(&OWN_SUPERVISION)
        .any(|own| name.eq_ignore_ascii_case(own))
        || policy::is_restricted(name)
}

#[cfg(test)]
mod tests;
