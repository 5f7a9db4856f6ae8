//! What the executor finds on this host: sandbox, limits, terminals, disk.

use std::{
    path::Path,
    process::{Command, Stdio},
};

use landlock::{
    ABI, Access as _, AccessFs, CompatLevel, Compatible as _, Ruleset, RulesetAttr as _,
};
use registry_client::checkup::Finding;
use rustix::process::{Resource, getrlimit};

use crate::limits::CommandLimits;

pub(super) fn findings() -> Vec<Finding> {
    vec![
        sandbox(),
        landlock(),
        descriptors(),
        processes(),
        terminals(),
    ]
}

/// Runs this program in a sandbox, with all that a command would get.
fn sandbox() -> Finding {
    let remedy = "let this user make user namespaces (sysctl kernel.unprivileged_userns_clone=1, \
                  user.max_user_namespaces, kernel.apparmor_restrict_unprivileged_userns=0; in a \
                  container, a seccomp profile that allows it and an unmasked /proc); without, \
                  requests that ask for a sandbox are refused";
    let tried = std::env::current_exe().and_then(|program| {
        Command::new(&program)
            .args(["sandbox", "--policy", "read-only", "--"])
            .arg(&program)
            .arg("--version")
            .stdin(Stdio::null())
            .output()
    });
    match tried {
        Ok(output) if output.status.success() => Finding::pass(
            "sandbox",
            "commands can be confined, with namespaces and seccomp",
        ),
        Ok(output) => {
            let told = String::from_utf8_lossy(&output.stderr);
            let told = told.lines().last().unwrap_or_default();
            let told = told.trim_start_matches("error: ");
            Finding::fail("sandbox", told, remedy)
        }
        Err(error) => Finding::fail("sandbox", format!("it cannot be tried: {error}"), remedy),
    }
}

/// Makes a ruleset and applies it to nobody.
fn landlock() -> Finding {
    let made = Ruleset::default()
        .set_compatibility(CompatLevel::HardRequirement)
        .handle_access(AccessFs::from_all(ABI::V1))
        .and_then(Ruleset::create);
    match made {
        Ok(_) => Finding::pass("landlock", "the kernel has it, as a second layer"),
        Err(_) => Finding::warn(
            "landlock",
            "the kernel lacks it; mounts and seccomp confine commands alone",
            "boot a kernel with Landlock, and name it in lsm=",
        ),
    }
}

/// The executor raises its limit to the hard one.
fn descriptors() -> Finding {
    let Some(hard) = getrlimit(Resource::Nofile).maximum else {
        return Finding::pass("descriptors", "no limit");
    };
    let text = format!("at most {hard}; each running program takes up to 4");
    match hard >= ENOUGH_DESCRIPTORS {
        true => Finding::pass("descriptors", text),
        false => Finding::warn("descriptors", text, "raise LimitNOFILE= or `ulimit -Hn`"),
    }
}

fn processes() -> Finding {
    let Some(soft) = getrlimit(Resource::Nproc).current else {
        return Finding::pass("processes", "no limit for this user");
    };
    let text = format!("at most {soft} of this user");
    match soft >= ENOUGH_PROCESSES {
        true => Finding::pass("processes", text),
        false => Finding::warn("processes", text, "raise LimitNPROC= or `ulimit -u`"),
    }
}

fn terminals() -> Finding {
    match std::fs::OpenOptions::new()
        .read(true)
        .write(true)
        .open("/dev/ptmx")
    {
        Ok(_) => Finding::pass("terminals", "can be opened"),
        Err(error) => Finding::warn(
            "terminals",
            format!("cannot be opened: {error}"),
            "mount devpts, with /dev/ptmx; without, commands with a terminal are refused",
        ),
    }
}

/// Whether `directory` can be written and has room for `wanted` bytes.
pub(super) fn space(directory: &Path, wanted: u64) -> Finding {
    if let Err(error) = tempfile::tempfile_in(directory) {
        return Finding::fail(
            "output",
            format!("no file can be made in the directory for output: {error}"),
            "give --output-directory",
        );
    }
    let free = match rustix::fs::statvfs(directory) {
        Ok(about) => about.f_bavail.saturating_mul(about.f_frsize),
        Err(_) => return Finding::pass("output", "files can be made in its directory"),
    };
    let text = format!("{} MiB free for {} MiB", free >> 20, wanted >> 20);
    match free >= wanted {
        true => Finding::pass("output", text),
        false => Finding::warn(
            "output",
            text,
            "make room, or give a smaller --output-disk-bytes or another --output-directory",
        ),
    }
}

/// Whether the limits of commands can hold. A directory that is not named is the one above the
/// executor's own group, which is not ours.
pub(super) fn commands(limits: &CommandLimits) -> Finding {
    if limits.is_empty() {
        return Finding::pass("commands", "the operator does not limit them");
    }
    if limits.cgroup.is_none() {
        return Finding::skip(
            "commands",
            "whether their limits hold depends on the executor's own control group; its log warns of \
             those that do not",
        );
    }
    match limits.look() {
        Ok(()) => Finding::pass("commands", "their limits hold, by control groups"),
        Err(error) => Finding::fail(
            "commands",
            error.to_string(),
            "delegate a directory: Delegate= and DelegateSubgroup= of systemd, or chown it",
        ),
    }
}

/// For some hundred programs.
const ENOUGH_DESCRIPTORS: u64 = 4096;
const ENOUGH_PROCESSES: u64 = 1024;

#[cfg(test)]
mod tests {
    use registry_client::checkup::Verdict;

    use super::*;

    #[test]
    fn a_directory_that_is_full_or_missing_is_told() {
        let directory = tempfile::tempdir().unwrap();
        assert_eq!(space(directory.path(), 1).verdict, Verdict::Pass);
        assert_eq!(space(directory.path(), u64::MAX).verdict, Verdict::Warn);
        let missing = directory.path().join("none");
        assert_eq!(space(&missing, 1).verdict, Verdict::Fail);
    }

    #[test]
    fn limits_of_commands_are_looked_at_where_the_directory_is_named() {
        let directory = tempfile::tempdir().unwrap();
        let mut limits = CommandLimits::default();
        assert_eq!(commands(&limits).verdict, Verdict::Pass);
        limits.memory = Some(1 << 30);
        assert_eq!(commands(&limits).verdict, Verdict::Skip);
        limits.cgroup = Some(directory.path().to_owned());
        assert_eq!(commands(&limits).verdict, Verdict::Fail);
        for (name, content) in [
            ("cgroup.controllers", "cpu memory pids"),
            ("cgroup.subtree_control", ""),
        ] {
            std::fs::write(directory.path().join(name), content).unwrap();
        }
        assert_eq!(commands(&limits).verdict, Verdict::Pass);
        limits.cpu = Some(50);
        std::fs::write(directory.path().join("cgroup.controllers"), "memory").unwrap();
        assert_eq!(commands(&limits).verdict, Verdict::Fail);
    }
}
