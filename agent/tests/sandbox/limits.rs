//! What the operator lets each command use. The control groups are a directory that looks like one: what
//! the kernel would do in it is done by the commands.

use std::path::Path;

use serde_json::Value;

use crate::client::{Client, Setup, for_each_user_with, open_to_all};
use crate::support;

fn limited(arguments: &[&str]) -> Setup {
    Setup {
        arguments: arguments.iter().map(|text| (*text).to_owned()).collect(),
        ..Setup::default()
    }
}

/// The hard limit of that name that a command has.
fn limit(client: &mut Client, name: &str, context: Value) -> String {
    let script = format!("grep '{name}' /proc/self/limits");
    let finished = client.shell(&script, context);
    let words = finished.output.split_whitespace().rev().nth(1);
    words.unwrap_or_else(|| panic!("{finished:?}")).to_owned()
}

/// There is no delegated directory where tests run.
#[test]
fn without_control_groups_processes_are_limited_and_the_log_says_what_is_not() {
    let setup = limited(&[
        "--command-memory-max",
        "1073741824",
        "--command-pids-max",
        "99",
        "--command-cpu-max",
        "50",
    ]);
    for_each_user_with(&setup, |client| {
        for option in [
            "memory-max holds for each",
            "pids-max holds for",
            "cpu-max does not hold",
        ] {
            client.executor.log_line(option);
        }
        let confined = client.place.read_only();
        for context in [Value::Null, confined.clone()] {
            assert_eq!(limit(client, "Max address space", context), "1073741824");
        }
        // Init of the sandbox is one more.
        assert_eq!(limit(client, "Max processes", confined), "100");
        assert_ne!(limit(client, "Max processes", Value::Null), "100");
    });
}

/// A directory with all controllers, which every user may write.
fn delegated() -> tempfile::TempDir {
    let base = tempfile::tempdir().unwrap();
    std::fs::write(base.path().join("cgroup.controllers"), "cpu memory pids\n").unwrap();
    std::fs::write(base.path().join("cgroup.subtree_control"), "").unwrap();
    open_to_all(base.path());
    base
}

/// Removes all groups, for the next user.
fn clear(base: &Path) {
    for group in std::fs::read_dir(base).unwrap() {
        let group = group.unwrap().path();
        if group.is_dir() {
            std::fs::remove_dir_all(group).unwrap();
        }
    }
}

fn arguments(base: &Path) -> Setup {
    limited(&[
        "--command-memory-max",
        "1073741824",
        "--command-pids-max",
        "99",
        "--command-cgroup",
        base.to_str().unwrap(),
    ])
}

#[test]
fn a_command_that_reached_a_limit_says_so() {
    let base = delegated();
    for_each_user_with(&arguments(base.path()), |client| {
        let place = base.path().display();
        let script = format!(
            "for group in {place}/command-*; do echo 'oom_kill 1' > $group/memory.events; \
             echo 'max 2' > $group/pids.events; done; echo over"
        );
        let finished = client.shell(&script, Value::Null);
        let expected = "over\n\
            exec-server: the command was out of memory: the operator's limit is 1073741824 bytes\n\
            exec-server: the command could not start more processes: the operator's limit is 99\n";
        assert_eq!((finished.code, finished.output.as_str()), (0, expected));
        clear(base.path());
    });
}

#[test]
fn every_command_is_moved_into_a_group_of_its_own() {
    let base = delegated();
    for_each_user_with(&arguments(base.path()), |client| {
        let script = format!(
            "cd {}; for group in command-*; do test -e $group/cgroup.procs && echo $group; done; true",
            base.path().display()
        );
        let mut seen = Vec::new();
        for context in [Value::Null, client.place.read_only()] {
            let groups = client.shell(&script, context).output;
            let groups: Vec<_> = groups.lines().map(ToOwned::to_owned).collect();
            assert_eq!(groups.len(), seen.len() + 1, "{groups:?}");
            seen = groups;
        }
        clear(base.path());
    });
}

#[test]
fn a_directory_of_the_operator_that_does_not_do_ends_the_executor() {
    let nothing = tempfile::tempdir().unwrap();
    let directory = nothing.path().to_str().unwrap();
    let arguments = [
        "--listen",
        "ws://127.0.0.1:0",
        "--command-pids-max",
        "5",
        "--command-cgroup",
        directory,
    ];
    let (code, output, errors) = support::run(&arguments, &[]);
    assert_eq!((code, output.as_str()), (Some(1), ""));
    assert!(
        errors.contains("is no control group of version 2"),
        "{errors}"
    );
}
