//! With directories that look like control groups. What the kernel does is simulated.

use std::path::Path;

use super::*;

fn limits() -> CommandLimits {
    CommandLimits {
        memory: Some(64 << 20),
        processes: Some(7),
        cpu: Some(150),
        cgroup: None,
    }
}

fn delegated(controllers: &str) -> tempfile::TempDir {
    let base = tempfile::tempdir().unwrap();
    std::fs::write(base.path().join("cgroup.controllers"), controllers).unwrap();
    base
}

fn at(base: &Path, limits: CommandLimits) -> Result<(Limiter, Vec<String>), Unavailable> {
    Limiter::new(CommandLimits {
        cgroup: Some(base.to_owned()),
        ..limits
    })
}

/// What the kernel does when a group is removed.
fn clear(group: &Path) {
    for file in std::fs::read_dir(group).unwrap() {
        std::fs::remove_file(file.unwrap().path()).unwrap();
    }
}

fn groups(base: &Path) -> Vec<PathBuf> {
    let mut found: Vec<_> = std::fs::read_dir(base)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.is_dir())
        .collect();
    found.sort();
    found
}

#[test]
fn a_command_gets_a_group_with_its_limits() {
    let base = delegated("cpuset cpu io memory pids\n");
    let (limiter, warnings) = at(base.path(), limits()).unwrap();
    assert!(warnings.is_empty(), "{warnings:?}");
    // The one that was made to see whether it can be.
    groups(base.path()).iter().for_each(|group| clear(group));
    let (bounds, group) = limiter.command().unwrap();
    let group = group.unwrap();
    let made = groups(base.path());
    let [made] = &made[..] else {
        panic!("{made:?}")
    };
    let read = |name: &str| std::fs::read_to_string(made.join(name)).unwrap();
    assert_eq!(read("memory.max"), "67108864");
    assert_eq!(read("memory.swap.max"), "0");
    assert_eq!(read("pids.max"), "7");
    assert_eq!(read("cpu.max"), "150000 100000");

    bounds.enter_group().unwrap();
    assert_eq!(read("cgroup.procs"), "0");
    // The group limits it, and nothing else.
    assert_eq!((bounds.memory_limit(), bounds.processes()), (None, None));

    assert!(group.reached().is_empty());
    std::fs::write(made.join("memory.events"), "oom 2\noom_kill 0\n").unwrap();
    std::fs::write(made.join("pids.events"), "max 0\n").unwrap();
    assert!(group.reached().is_empty());
    std::fs::write(made.join("memory.events"), "low 0\noom_kill 1\n").unwrap();
    std::fs::write(made.join("pids.events"), "max 3\n").unwrap();
    let texts: Vec<_> = group.reached().iter().map(ToString::to_string).collect();
    let [memory, processes] = &texts[..] else {
        panic!("{texts:?}")
    };
    assert!(memory.contains("67108864 bytes"), "{memory}");
    assert!(processes.ends_with("limit is 7"), "{processes}");
}

#[test]
fn a_group_that_still_has_something_is_removed_later() {
    let base = delegated("memory pids cpu");
    let (limiter, _) = at(base.path(), limits()).unwrap();
    groups(base.path()).iter().for_each(|group| clear(group));
    let (_, first) = limiter.command().unwrap();
    let made = groups(base.path());
    drop(first);
    assert_eq!(groups(base.path()), made, "files are in it");
    made.iter().for_each(|group| clear(group));
    let (_, second) = limiter.command().unwrap();
    let now = groups(base.path());
    assert!(now.len() == 1 && now != made, "{now:?}");
    now.iter().for_each(|group| clear(group));
    drop(second);
    assert_eq!(groups(base.path()).len(), 0);
}

#[test]
fn groups_of_an_executor_that_was_killed_are_removed() {
    let base = delegated("memory");
    let left = base.path().join("command-1-1");
    let other = base.path().join("somebody");
    std::fs::create_dir(&left).unwrap();
    std::fs::create_dir(&other).unwrap();
    let only_memory = CommandLimits {
        memory: Some(64 << 20),
        ..CommandLimits::default()
    };
    at(base.path(), only_memory).unwrap();
    assert!(!left.exists() && other.exists());
}

#[test]
fn a_directory_that_does_not_do_is_an_error_that_says_why() {
    let base = delegated("cpu io\n");
    let error = at(base.path(), limits()).unwrap_err().to_string();
    assert!(error.ends_with("has no controller memory, pids"), "{error}");
    let nothing = tempfile::tempdir().unwrap();
    let error = at(nothing.path(), limits()).unwrap_err().to_string();
    assert!(error.contains("no control group of version 2"), "{error}");
}

#[test]
fn without_limits_nothing_is_looked_for() {
    let (limiter, warnings) = Limiter::new(CommandLimits::default()).unwrap();
    assert!(warnings.is_empty());
    let (bounds, group) = limiter.command().unwrap();
    assert_eq!(bounds, Bounds::default());
    assert!(group.is_none());
}

#[test]
fn what_does_not_hold_without_groups_is_named() {
    let texts = limits().weaker("there are none");
    assert_eq!(texts.len(), 3);
    for (text, option) in texts.iter().zip(["memory", "pids", "cpu"]) {
        let option = format!("--command-{option}-max ");
        assert!(
            text.starts_with(&option) && text.ends_with(": there are none"),
            "{text}"
        );
    }
    let limiter = Limiter {
        limits: limits(),
        groups: None,
    };
    let (bounds, group) = limiter.command().unwrap();
    assert!(group.is_none());
    assert_eq!(bounds.processes(), Some(7));
    let memory = bounds.memory_limit().unwrap();
    assert!(memory.current.unwrap() <= 64 << 20 && memory.maximum.unwrap() <= 64 << 20);
}

#[test]
fn bounds_survive_the_way_to_the_sandbox() {
    let bounds = Bounds {
        group: Some("/sys/fs/cgroup/a b".into()),
        memory: Some(1),
        processes: None,
    };
    let text = serde_json::to_string(&bounds).unwrap();
    assert_eq!(serde_json::from_str::<Bounds>(&text).unwrap(), bounds);
}
