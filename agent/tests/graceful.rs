//! How the program ends when it is told to, seen from outside.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

mod support;

use std::process::Command;

use rustix::{
    event::{PollFd, PollFlags, Timespec, poll},
    process::{Pid, PidfdFlags, Signal, pidfd_open},
};
use serde_json::{Value, json};
use support::{DEADLINE, Executor, exec_server, handshake};

/// A grace period that no test can wait for.
const LONG: &str = "1h";

fn with_grace(grace: &str) -> Executor {
    let mut executor =
        Executor::spawn(exec_server(&["--listen", "stdio", "--grace-period", grace]));
    handshake(&mut executor);
    executor
}

fn start(executor: &mut Executor, id: &str, script: &str) {
    executor.send(&json!({"id": 2, "method": "process/start", "params": {
        "processId": id, "argv": ["/bin/sh", "-c", script], "cwd": "file:///",
        "env": {"PATH": "/usr/bin:/bin"}, "tty": false}}));
}

fn output(message: &Value) -> Option<String> {
    let is_output =
        message["method"] == "process/output" && message["params"]["stream"] == "stdout";
    is_output.then(|| {
        let chunk = message["params"]["chunk"].as_str().unwrap();
        let bytes =
            base64::Engine::decode(&base64::engine::general_purpose::STANDARD, chunk).unwrap();
        String::from_utf8(bytes).unwrap()
    })
}

/// Everything that the process writes from now on, and its exit code.
fn rest(executor: &mut Executor) -> (String, i64) {
    let mut text = String::new();
    loop {
        let exit = executor.receive(|message| {
            if let Some(chunk) = output(message) {
                text.push_str(&chunk);
            }
            (message["method"] == "process/exited").then(|| message["params"]["exitCode"].as_i64())
        });
        if let Some(code) = exit {
            return (text, code);
        }
    }
}

/// Fails unless the process with this id ends before the deadline.
struct Ends(rustix::fd::OwnedFd);

impl Ends {
    fn of(pid: &str) -> Self {
        let pid = Pid::from_raw(pid.trim().parse().unwrap()).unwrap();
        Self(pidfd_open(pid, PidfdFlags::empty()).unwrap())
    }

    fn check(&self) {
        let mut ended = [PollFd::new(&self.0, PollFlags::IN)];
        let limit = Timespec {
            tv_sec: DEADLINE.as_secs().try_into().unwrap(),
            tv_nsec: 0,
        };
        assert_eq!(poll(&mut ended, Some(&limit)).unwrap(), 1, "it lives on");
    }
}

#[test]
fn a_command_ends_by_itself_within_the_grace_period() {
    for signal in [Signal::TERM, Signal::INT] {
        let directory = tempfile::tempdir().unwrap();
        let go = directory.path().join("go");
        let script = format!(
            "echo started; while [ ! -e {} ]; do sleep 0.05; done; echo done; exit 5",
            go.display()
        );
        let mut executor = with_grace(LONG);
        start(&mut executor, "p", &script);
        executor.receive(output);
        executor.signal(signal);
        executor.log_line("taking no new sessions");
        executor.send(&json!({"id": 3, "method": "process/start", "params": {
            "processId": "q", "argv": ["true"], "cwd": "file:///", "env": {}, "tty": false}}));
        let refusal = executor.answer(3);
        assert_eq!(refusal["error"]["code"], -32011, "{refusal}");
        assert!(executor.is_running());
        std::fs::write(&go, "").unwrap();
        assert_eq!(rest(&mut executor), ("done\n".to_owned(), 5));
        let (code, stdout, log) = executor.finish();
        assert_eq!(code, Some(0), "{log}");
        assert!(stdout.contains("process/closed"), "{stdout}");
    }
}

#[test]
fn a_command_that_goes_on_is_asked_to_end() {
    let mut executor = with_grace("100ms");
    let script = "trap 'echo asked; exit 7' TERM; echo started; while :; do sleep 0.05; done";
    start(&mut executor, "p", script);
    executor.receive(output);
    executor.signal(Signal::TERM);
    assert_eq!(rest(&mut executor), ("asked\n".to_owned(), 7));
    let (code, _, log) = executor.finish();
    assert_eq!(code, Some(0), "{log}");
    assert!(log.contains("grace period is over"), "{log}");
}

#[test]
fn a_command_that_does_not_listen_is_killed_with_its_group() {
    let mut executor = with_grace("0s");
    // Both ignore the signal; the second one is what the first one would leave behind.
    let script = "trap '' TERM; sleep 1000 & echo $!; while :; do sleep 1000; done";
    start(&mut executor, "p", script);
    let child = Ends::of(&executor.receive(output));
    executor.signal(Signal::TERM);
    assert_eq!(rest(&mut executor), (String::new(), 137));
    let (code, _, log) = executor.finish();
    assert_eq!(code, Some(0), "{log}");
    child.check();
}

#[test]
fn a_second_signal_kills_at_once() {
    let mut executor = with_grace(LONG);
    let script = "trap '' TERM INT; echo $$; while :; do sleep 1000; done";
    start(&mut executor, "p", script);
    let process = Ends::of(&executor.receive(output));
    executor.signal(Signal::TERM);
    executor.log_line("taking no new sessions");
    assert!(executor.is_running());
    executor.signal(Signal::INT);
    let (code, _, log) = executor.finish();
    assert_eq!(code, Some(0), "{log}");
    process.check();
}

#[test]
fn the_grace_period_can_come_from_the_environment() {
    let mut command = exec_server(&["--listen", "stdio"]);
    command.env("EXEC_SERVER_GRACE_PERIOD", "50ms");
    let mut executor = Executor::spawn(command);
    handshake(&mut executor);
    start(&mut executor, "p", "echo started; sleep 1000");
    executor.receive(output);
    executor.signal(Signal::TERM);
    assert_eq!(rest(&mut executor), (String::new(), 143));
    assert_eq!(executor.finish().0, Some(0));
}

/// As process 1 of a container: signals arrive, orphans are collected, the exit code is right.
#[test]
fn as_process_1_it_ends_gracefully_and_collects_orphans() {
    let inner = exec_server(&["--listen", "stdio", "--grace-period", LONG]);
    let mut command = Command::new("unshare");
    command
        .args([
            "--user",
            "--map-root-user",
            "--pid",
            "--fork",
            "--kill-child",
        ])
        .arg("--mount-proc")
        .arg(inner.get_program())
        .args(inner.get_args());
    for (name, value) in inner.get_envs() {
        match value {
            Some(value) => command.env(name, value),
            None => command.env_remove(name),
        };
    }
    let mut executor = Executor::spawn(command);
    handshake(&mut executor);
    let directory = tempfile::tempdir().unwrap();
    let go = directory.path().join("go");
    // Nobody's child once its parent has ended, in a session of its own; it is there, if only as a
    // zombie, until somebody collects it.
    let script = format!(
        "orphan=$(setsid sh -c 'sleep 0.05 >&2 & echo $!'); \
         while [ -e /proc/$orphan ]; do sleep 0.05; done; \
         cat /proc/1/comm; \
         while [ ! -e {} ]; do sleep 0.05; done; echo done; exit 5",
        go.display()
    );
    start(&mut executor, "p", &script);
    let mut seen = String::new();
    while !seen.ends_with("exec-server\n") {
        seen.push_str(&executor.receive(output));
    }
    let children = format!("/proc/{0}/task/{0}/children", executor.id());
    let first = std::fs::read_to_string(children).unwrap();
    let first = Pid::from_raw(first.trim().parse().unwrap()).unwrap();
    rustix::process::kill_process(first, Signal::TERM).unwrap();
    executor.log_line("taking no new sessions");
    std::fs::write(&go, "").unwrap();
    assert_eq!(rest(&mut executor), ("done\n".to_owned(), 5));
    let (code, _, log) = executor.finish();
    assert_eq!(code, Some(0), "{log}");
}
