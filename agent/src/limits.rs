//! What the operator lets each command use at most: memory, processes and processor time.
//!
//! ```text
//! control group (version 2)   a group for each command, in a directory that the operator delegates;
//!                             holds for all processes of the command together, and tells when a limit
//!                             was reached
//! resource limits             otherwise: memory of each process; processes of a confined command;
//!                             processor time not at all. Nothing tells when one is reached.
//! ```
//!
//! Whoever starts a command asks for its [`Bounds`], which the new process applies to itself before it
//! does anything else, and keeps the [`Group`] until the command has closed.
//! How groups are made is in [`group`].

mod group;

use std::io;
use std::path::PathBuf;
use std::sync::Arc;

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use serde::{Deserialize, Serialize};

pub(crate) use group::Group;
use group::Groups;

/// What each command may use.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct CommandLimits {
    /// Bytes of memory.
    pub memory: Option<u64>,
    /// Processes and threads.
    pub processes: Option<u64>,
    /// Processor time in percent of one processor.
    pub cpu: Option<u64>,
    /// A delegated directory of control groups; without, the one above the executor's own is tried.
    pub cgroup: Option<PathBuf>,
}

/// Makes the limits of commands hold.
#[derive(Debug, Default)]
pub(crate) struct Limiter {
    limits: CommandLimits,
    groups: Option<Arc<Groups>>,
}

/// What a new process applies to itself.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Bounds {
    /// The file of its group that lists its processes.
    #[serde(with = "crate::sandbox::raw::optional")]
    group: Option<PathBuf>,
    memory: Option<u64>,
    processes: Option<u64>,
}

/// A limit of a command that cannot be kept.
#[derive(Debug, thiserror::Error)]
#[error(
    "limits of commands need a directory of control groups that is delegated to the executor: {0}"
)]
pub struct Unavailable(String);

impl Limiter {
    /// Looks for what the limits need. The texts say which do not hold as they should, and why.
    ///
    /// # Errors
    ///
    /// If the operator names a directory and it does not do.
    pub(crate) fn new(limits: CommandLimits) -> Result<(Self, Vec<String>), Unavailable> {
        if limits.is_empty() {
            return Ok((Self::default(), Vec::new()));
        }
        let found = match &limits.cgroup {
            Some(directory) => Some(Groups::open(directory, &limits).map_err(Unavailable)?),
            None => None,
        };
        let (groups, problem) = match found {
            Some(groups) => (Some(groups), None),
            None => match group::above_own().and_then(|base| Groups::open(&base, &limits)) {
                Ok(groups) => (Some(groups), None),
                Err(problem) => (None, Some(problem)),
            },
        };
        let warnings = problem.map(|problem| limits.weaker(&problem));
        let groups = groups.map(Arc::new);
        Ok((Self { limits, groups }, warnings.unwrap_or_default()))
    }

    /// The limits of one more command.
    ///
    /// # Errors
    ///
    /// If no group can be made for it.
    pub(crate) fn command(&self) -> io::Result<(Bounds, Option<Group>)> {
        if let Some(groups) = &self.groups {
            let group = groups.make()?;
            let bounds = Bounds {
                group: Some(group.members()),
                ..Bounds::default()
            };
            return Ok((bounds, Some(group)));
        }
        let bounds = Bounds {
            group: None,
            memory: self.limits.memory,
            processes: self.limits.processes,
        };
        Ok((bounds, None))
    }
}

impl CommandLimits {
    /// Whether there is no limit.
    pub(crate) fn is_empty(&self) -> bool {
        self.memory.is_none() && self.processes.is_none() && self.cpu.is_none()
    }

    /// Looks at the directory that the operator names, if there is one, and leaves it alone.
    ///
    /// # Errors
    ///
    /// If it does not do.
    pub(crate) fn look(&self) -> Result<(), Unavailable> {
        let Some(directory) = self.cgroup.as_ref().filter(|_| !self.is_empty()) else {
            return Ok(());
        };
        Groups::look(directory, self).map_err(Unavailable)
    }

    /// What does not hold as it should without groups, one text each.
    fn weaker(&self, problem: &str) -> Vec<String> {
        let mut texts = Vec::new();
        if self.memory.is_some() {
            texts.push(format!(
                "--command-memory-max holds for each process and not for a command: {problem}"
            ));
        }
        if self.processes.is_some() {
            texts.push(format!(
                "--command-pids-max holds for commands in a sandbox of an ordinary user only: {problem}"
            ));
        }
        if self.cpu.is_some() {
            texts.push(format!("--command-cpu-max does not hold: {problem}"));
        }
        texts
    }
}

impl Bounds {
    /// With a file in place of that of a group.
    #[cfg(test)]
    pub(crate) fn in_group(members: &std::path::Path) -> Self {
        Self {
            group: Some(members.to_owned()),
            ..Self::default()
        }
    }

    /// The file to write `0` to, for whoever has to do it between fork and exec.
    pub(crate) fn members(&self) -> io::Result<Option<std::os::fd::OwnedFd>> {
        let Some(group) = &self.group else {
            return Ok(None);
        };
        // Made only where the kernel does not, which is in tests.
        let mut options = std::fs::OpenOptions::new();
        let file = options
            .write(true)
            .create(true)
            .truncate(false)
            .open(group)?;
        Ok(Some(file.into()))
    }

    /// Memory for each process, for whoever has to limit it between fork and exec.
    pub(crate) fn memory_limit(&self) -> Option<Rlimit> {
        let least = |limit: Option<u64>| {
            self.memory
                .map(|memory| limit.map_or(memory, |limit| limit.min(memory)))
        };
        let present = getrlimit(Resource::As);
        self.memory.map(|_| Rlimit {
            current: least(present.current),
            maximum: least(present.maximum),
        })
    }

    /// Processes that a sandbox may have, where nothing else limits them.
    pub(crate) fn processes(&self) -> Option<u64> {
        self.processes
    }

    /// Moves this process into its group.
    ///
    /// # Errors
    ///
    /// If the group is gone, or does not take it.
    pub(crate) fn enter_group(&self) -> io::Result<()> {
        if let Some(members) = self.members()? {
            rustix::io::write(&members, SELF)?;
        }
        Ok(())
    }

    /// Limits the memory of this process and its children.
    ///
    /// # Errors
    ///
    /// If the system refuses.
    pub(crate) fn limit_memory(&self) -> io::Result<()> {
        match self.memory_limit() {
            Some(limit) => Ok(setrlimit(Resource::As, limit)?),
            None => Ok(()),
        }
    }
}

/// What a process writes to be moved itself.
pub(crate) const SELF: &[u8] = b"0";

#[cfg(test)]
mod tests;
