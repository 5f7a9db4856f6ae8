//! Control groups of version 2: one for each command, below a directory that is delegated to us.
//!
//! ```text
//! BASE/                   delegated: we may make groups in it and give them its controllers
//!   cgroup.controllers    what there is; `memory`, `pids` and `cpu` as far as they are wanted
//!   cgroup.subtree_control
//!   command-PID-N/        PID: the executor's; N counts
//!     memory.max  memory.swap.max  pids.max  cpu.max  cgroup.procs  memory.events  pids.events
//! ```
//!
//! The kernel gives no controllers to groups in a directory that has processes of its own, so the
//! executor must not be in BASE itself: systemd puts it into one of its own with `DelegateSubgroup=`.
//! A group can be removed only when all that was in it is gone, so one that still has something is tried
//! again with the next. Those that an executor left that was killed are removed when there is a new one.

use std::fmt;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use rustix::fs::{Access, access};

use super::CommandLimits;

/// The directory, and what holds in it.
#[derive(Debug)]
pub(super) struct Groups {
    base: PathBuf,
    limits: CommandLimits,
    count: AtomicU64,
    /// Groups that could not be removed yet.
    left: Mutex<Vec<PathBuf>>,
}

/// The group of one command. Dropping it removes it, as soon as nothing is left in it.
#[derive(Debug)]
pub(crate) struct Group {
    groups: Arc<Groups>,
    path: PathBuf,
}

impl Groups {
    /// Looks whether a directory could be taken over, and leaves it alone.
    ///
    /// # Errors
    ///
    /// What it lacks, for people.
    pub(super) fn look(base: &Path, limits: &CommandLimits) -> Result<(), String> {
        find_controllers(base, limits)?;
        for path in [base.to_owned(), base.join("cgroup.subtree_control")] {
            access(&path, Access::WRITE_OK).map_err(|err| {
                let name = path.display();
                format!("{name} is not delegated to this user ({err})")
            })?;
        }
        Ok(())
    }

    /// Takes a directory over.
    ///
    /// # Errors
    ///
    /// What it lacks, for people.
    pub(super) fn open(base: &Path, limits: &CommandLimits) -> Result<Self, String> {
        find_controllers(base, limits)?;
        let wanted = limits.controllers();
        let name = base.display();
        for controller in &wanted {
            let control = base.join("cgroup.subtree_control");
            write(&control, format!("+{controller}")).map_err(|err| {
                format!("{name} does not give its controller {controller} to groups in it ({err})")
            })?;
        }
        let groups = Self {
            base: base.to_owned(),
            limits: limits.clone(),
            count: AtomicU64::new(0),
            left: Mutex::default(),
        };
        groups.find_left();
        // Whether groups can be made is better known now than with the first command.
        let groups = Arc::new(groups);
        let tried = groups.make();
        tried.map_err(|err| format!("no group can be made in {name} ({err})"))?;
        Arc::into_inner(groups).ok_or_else(|| format!("{name} is in use"))
    }

    /// Groups of executors that are gone. Those that still have processes cannot be removed.
    fn find_left(&self) {
        let Ok(entries) = std::fs::read_dir(&self.base) else {
            return;
        };
        for entry in entries.flatten() {
            let name = entry.file_name();
            if name.to_str().is_some_and(|name| name.starts_with(PREFIX)) {
                let _ = std::fs::remove_dir(entry.path());
            }
        }
    }

    /// One more group, with its limits.
    pub(super) fn make(self: &Arc<Self>) -> io::Result<Group> {
        let mut left = self.left.lock().unwrap_or_else(PoisonError::into_inner);
        left.retain(|path| !is_removed(path));
        drop(left);
        let number = self.count.fetch_add(1, Ordering::Relaxed);
        let name = format!("{PREFIX}{}-{number}", std::process::id());
        let path = self.base.join(name);
        std::fs::create_dir(&path)?;
        let group = Group {
            groups: Arc::clone(self),
            path,
        };
        let set = |name: &str, value: String| write(&group.path.join(name), value);
        if let Some(memory) = self.limits.memory {
            set("memory.max", memory.to_string())?;
            // Not there without swap.
            let _ = set("memory.swap.max", "0".to_owned());
        }
        if let Some(processes) = self.limits.processes {
            set("pids.max", processes.to_string())?;
        }
        if let Some(percent) = self.limits.cpu {
            let share = percent.saturating_mul(CPU_PERIOD_MICROS / 100);
            set("cpu.max", format!("{share} {CPU_PERIOD_MICROS}"))?;
        }
        Ok(group)
    }
}

/// Looks for the controllers that the limits need.
fn find_controllers(base: &Path, limits: &CommandLimits) -> Result<(), String> {
    let wanted = limits.controllers();
    let name = base.display();
    let there = std::fs::read_to_string(base.join("cgroup.controllers"))
        .map_err(|err| format!("{name} is no control group of version 2 ({err})"))?;
    let there: Vec<_> = there.split_whitespace().collect();
    let missing = wanted.into_iter().filter(|it| !there.contains(it));
    let missing: Vec<_> = missing.collect();
    if !missing.is_empty() {
        return Err(format!("{name} has no controller {}", missing.join(", ")));
    }
    Ok(())
}

impl CommandLimits {
    fn controllers(&self) -> Vec<&'static str> {
        [
            ("memory", self.memory),
            ("pids", self.processes),
            ("cpu", self.cpu),
        ]
        .into_iter()
        .filter_map(|(name, limit)| limit.map(|_| name))
        .collect()
    }
}

/// What a command ran into.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Reached {
    Memory(u64),
    Processes(u64),
}

impl fmt::Display for Reached {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Memory(bytes) => write!(
                f,
                "exec-server: the command was out of memory: the operator's limit is {bytes} bytes"
            ),
            Self::Processes(count) => write!(
                f,
                "exec-server: the command could not start more processes: the operator's limit is {count}"
            ),
        }
    }
}

impl Group {
    /// The file that lists its processes.
    pub(super) fn members(&self) -> PathBuf {
        self.path.join("cgroup.procs")
    }

    /// The limits that were in the way so far.
    pub(crate) fn reached(&self) -> Vec<Reached> {
        let limits = &self.groups.limits;
        let mut reached = Vec::new();
        if let Some(bytes) = limits.memory
            && self.count("memory.events", "oom_kill") > 0
        {
            reached.push(Reached::Memory(bytes));
        }
        if let Some(count) = limits.processes
            && self.count("pids.events", "max") > 0
        {
            reached.push(Reached::Processes(count));
        }
        reached
    }

    fn count(&self, file: &str, event: &str) -> u64 {
        let text = std::fs::read_to_string(self.path.join(file)).unwrap_or_default();
        let mut events = text.lines().filter_map(|line| line.split_once(' '));
        events
            .find(|(name, _)| *name == event)
            .and_then(|(_, count)| count.trim().parse().ok())
            .unwrap_or(0)
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        if !is_removed(&self.path) {
            let mut left = self.groups.left.lock();
            let left = left.as_mut();
            if let Ok(left) = left {
                left.push(std::mem::take(&mut self.path));
            }
        }
    }
}

/// Removes a group if nothing is in it any more.
fn is_removed(path: &Path) -> bool {
    match std::fs::remove_dir(path) {
        Ok(()) => true,
        Err(err) => err.kind() == io::ErrorKind::NotFound,
    }
}

/// The directory above the executor's own group, where groups of commands may be made.
///
/// # Errors
///
/// Why there is none, for people.
pub(super) fn above_own() -> Result<PathBuf, String> {
    let read = |path: &str| {
        std::fs::read_to_string(path).map_err(|err| format!("{path} cannot be read ({err})"))
    };
    let own = own(&read("/proc/self/cgroup")?, &read("/proc/self/mounts")?)
        .ok_or("there are no control groups of version 2")?;
    let above = own
        .parent()
        .filter(|above| above.join("cgroup.procs").exists());
    let above = above.ok_or("the executor's control group is the topmost one")?;
    Ok(above.to_owned())
}

/// Where the group of this process is, from what the kernel says of it.
fn own(groups: &str, mounts: &str) -> Option<PathBuf> {
    let own = groups.lines().find_map(|line| line.strip_prefix("0::/"))?;
    let mount = mounts.lines().find_map(|line| {
        let mut words = line.split(' ');
        let (_, place, kind) = (words.next()?, words.next()?, words.next()?);
        (kind == "cgroup2").then_some(place)
    })?;
    Some(Path::new(mount).join(own))
}

/// Writes a value in one go, as the kernel wants it.
fn write(path: &Path, value: String) -> io::Result<()> {
    std::fs::write(path, value)
}

const PREFIX: &str = "command-";

/// The kernel's default.
const CPU_PERIOD_MICROS: u64 = 100_000;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_own_group_is_found_in_what_the_kernel_says() {
        let mounts = "proc /proc proc rw 0 0\ncgroup /sys/fs/cgroup/pids cgroup rw 0 0\n\
            cgroup2 /sys/fs/cgroup cgroup2 rw 0 0\n";
        for (groups, expected) in [
            ("0::/a.slice/b\n", Some("/sys/fs/cgroup/a.slice/b")),
            ("8:pids:/x\n0::/\n", Some("/sys/fs/cgroup/")),
            ("8:pids:/x\n", None),
        ] {
            assert_eq!(own(groups, mounts), expected.map(PathBuf::from));
        }
        assert_eq!(own("0::/a\n", "proc /proc proc rw 0 0\n"), None);
    }
}
