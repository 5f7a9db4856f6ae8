//! Protected names that do not exist.

use std::path::Path;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;

use crate::client::{Client, Setup, for_each_user, for_each_user_with, open_to_all};
use crate::weaknesses::descendants;

/// Starts a command that waits for ever, and waits until it runs.
fn start_waiting(client: &mut Client, script: &str, context: Value) -> Value {
    let script = format!("echo started; {script}\nexec sleep 600");
    let params = client.start(&["/bin/sh", "-c", &script], context);
    let id = params["processId"].clone();
    client.ok("process/start", params);
    client.until(&id, "started");
    id
}

/// Waits until a path does not exist any more.
fn wait_until_gone(path: &Path) {
    let deadline = Instant::now() + Duration::from_secs(10);
    while path.exists() {
        assert!(
            Instant::now() < deadline,
            "{} is still there",
            path.display()
        );
        std::thread::yield_now();
    }
}

/// Waits until a process has closed all that it had open.
fn wait_until_dead(id: u32) {
    let deadline = Instant::now() + Duration::from_secs(10);
    let is_alive = || {
        let status = std::fs::read_to_string(format!("/proc/{id}/status")).unwrap_or_default();
        let state = status.lines().find_map(|line| line.strip_prefix("State:"));
        state.is_some_and(|state| !state.contains("(zombie)") && !state.contains("(dead)"))
    };
    while is_alive() {
        assert!(Instant::now() < deadline, "{id} still lives");
        std::thread::yield_now();
    }
}

#[test]
fn absent_protected_names_cannot_be_made_and_leave_nothing_behind() {
    for_each_user(|client| {
        let before = client.place.names();
        let context = client
            .place
            .workspace_write(&["deny /w/secret/x", "read /w/later"]);
        let script = "for n in .codex .agents .aws secret later; do \
            mkdir $n && echo made; mkdir -p $n/x && echo made; echo x > $n && echo made; \
            rmdir $n && echo removed; mv $n q && echo moved; ln -sfn /tmp $n/l && echo linked; done; true";
        let finished = client.shell(script, context);
        for word in ["made", "removed", "moved", "linked"] {
            assert!(!finished.output.contains(word), "{finished:?}");
        }
        assert_eq!(client.place.names(), before);
    });
}

#[test]
fn a_terminated_command_leaves_nothing_behind() {
    for_each_user(|client| {
        let before = client.place.names();
        let context = client.place.workspace_write(&[]);
        let id = start_waiting(client, "setsid sleep 600 &", context);
        assert_ne!(client.place.names(), before);
        client.ok("process/terminate", serde_json::json!({"processId": id}));
        assert_eq!(client.finish(&id).code, 137);
        assert_eq!(client.place.names(), before);
    });
}

#[test]
fn a_killed_executor_leaves_nothing_behind() {
    for_each_user(|client| {
        let before = client.place.names();
        let alive = client.place.path("w/alive");
        let context = client.place.workspace_write(&[]);
        // Ignores what the executor's death could send it.
        start_waiting(client, "trap '' TERM HUP PWR", context);
        std::fs::write(&alive, "").unwrap();
        client.executor.signal(Signal::KILL);
        client.executor.wait();
        wait_until_gone(&client.place.path("w/.codex"));
        std::fs::remove_file(alive).unwrap();
        assert_eq!(client.place.names(), before);
    });
}

/// Nobody is left who could clear up, so the next executor does.
#[test]
fn what_stays_when_everything_is_killed_goes_with_the_next_start() {
    let state = tempfile::tempdir().unwrap();
    open_to_all(state.path());
    let setup = Setup {
        variables: vec![(
            "STATE_DIRECTORY".to_owned(),
            state.path().display().to_string(),
        )],
        ..Setup::default()
    };
    for_each_user_with(&setup, |client| {
        let before = client.place.names();
        let context = client.place.workspace_write(&[]);
        start_waiting(client, "", context);
        let occupied = client.place.names();
        assert_ne!(occupied, before);
        // None of them can do anything before all are killed.
        client.executor.signal(Signal::STOP);
        let all = descendants(client);
        for signal in [Signal::STOP, Signal::KILL] {
            for id in &all {
                let pid = Pid::from_raw(i32::try_from(*id).unwrap()).unwrap();
                // Init of the sandbox takes the program with it.
                let _ = kill_process(pid, signal);
            }
        }
        client.executor.signal(Signal::KILL);
        client.executor.wait();
        all.iter().for_each(|id| wait_until_dead(*id));
        assert_eq!(client.place.names(), occupied);

        let _next = client.another(&setup);
        for name in occupied.iter().filter(|name| !before.contains(name)) {
            wait_until_gone(&client.place.path("w").join(name));
        }
        assert_eq!(client.place.names(), before);
        for file in std::fs::read_dir(state.path()).unwrap() {
            std::fs::remove_dir_all(file.unwrap().path()).unwrap();
        }
    });
}

#[test]
fn commands_share_protected_names() {
    for_each_user(|client| {
        let before = client.place.names();
        let context = client.place.workspace_write(&[]);
        let first = start_waiting(client, "", context.clone());
        let finished = client.shell(
            "rmdir .codex; mkdir -p .codex/x && echo made; true",
            context,
        );
        assert!(!finished.output.contains("made"), "{finished:?}");
        assert!(
            client.place.path("w/.codex").exists(),
            "the first one still needs it"
        );
        client.ok("process/terminate", serde_json::json!({"processId": first}));
        client.finish(&first);
        assert_eq!(client.place.names(), before);
    });
}

#[test]
fn removing_a_protected_name_from_outside_ends_the_command() {
    for_each_user(|client| {
        let context = client.place.workspace_write(&[]);
        let id = start_waiting(client, "", context);
        std::fs::remove_dir(client.place.path("w/.codex")).unwrap();
        assert_eq!(client.finish(&id).code, 137);
    });
}

#[test]
fn what_is_left_of_a_command_ends_with_it() {
    for_each_user(|client| {
        let context = client.place.workspace_write(&[]);
        let script = "setsid sh -c 'trap \"\" HUP TERM; sleep 600' & echo done";
        let finished = client.shell(script, context);
        assert_eq!((finished.code, finished.output.as_str()), (0, "done\n"));
    });
}
