//! Programs in a sandbox: starts, ends, signals, terminals.

use std::time::Instant;

use rustix::process::{Pid, Signal, kill_process};
use serde_json::{Value, json};

use crate::client::{Client, Finished, for_each_user};
use crate::support::DEADLINE;
use crate::weaknesses::children;

#[test]
fn the_reported_type_is_true() {
    for_each_user(|client| {
        let sandbox = |permissions: Value| json!({"permissions": permissions, "windowsSandboxLevel": "disabled"});
        let restricted = client.place.read_only();
        for (context, expected) in [
            (Value::Null, "none"),
            (sandbox(json!({"type": "disabled"})), "none"),
            (
                sandbox(json!({"type": "external", "network": "enabled"})),
                "none",
            ),
            (
                sandbox(json!({"type": "external", "network": "restricted"})),
                "linuxSeccomp",
            ),
            (restricted, "linuxSeccomp"),
        ] {
            let params = client.start(
                &["/bin/sh", "-c", "grep Seccomp: /proc/self/status"],
                context,
            );
            let id = params["processId"].clone();
            let result = client.ok("process/start", params);
            assert_eq!(result["sandboxType"], expected);
            let mode = if expected == "none" { "0" } else { "2" };
            assert_eq!(client.finish(&id).output, format!("Seccomp:\t{mode}\n"));
        }
    });
}

#[test]
fn a_program_that_cannot_be_executed_is_a_failed_start() {
    for_each_user(|client| {
        let context = client.place.read_only();
        let params = client.start(&["/nope"], context.clone());
        let error = client.call("process/start", params).unwrap_err();
        assert_eq!(
            error,
            (-32603, "No such file or directory (os error 2)".to_owned())
        );
        // Present outside, absent inside.
        let hidden = client.place.context(&["read project_roots"]);
        let params = client.start(&["/bin/sh", "-c", "true"], hidden);
        let (code, text) = client.call("process/start", params).unwrap_err();
        assert!(code == -32603 && text.ends_with("(os error 2)"), "{text}");
    });
}

/// Nobody needs the process that first ones are copied from to stay.
#[test]
fn a_killed_template_is_replaced() {
    for_each_user(|client| {
        let context = client.place.read_only();
        let mut before = None;
        for _ in 0..3 {
            let finished = client.shell("cat a.txt", context.clone());
            assert_eq!((finished.code, finished.output.as_str()), (0, "a\n"));
            let template = template(client);
            assert_ne!(Some(template), before);
            kill_process(template, Signal::KILL).unwrap();
            before = Some(template);
        }
    });
}

/// The template of an executor, once it is the only process of a sandbox: the end of a command is told
/// before its first process has ended.
fn template(client: &Client) -> Pid {
    let deadline = Instant::now() + DEADLINE;
    loop {
        let mut left = children(client);
        left.retain(|id| {
            let line = std::fs::read(format!("/proc/{id}/cmdline")).unwrap_or_default();
            String::from_utf8_lossy(&line).contains("--sandbox-template")
        });
        if let [template] = left[..] {
            return Pid::from_raw(template.try_into().unwrap()).unwrap();
        }
        assert!(Instant::now() < deadline, "{left:?}");
        std::thread::yield_now();
    }
}

#[test]
fn a_command_never_runs_in_another_directory() {
    for_each_user(|client| {
        let place = &client.place;
        for context in [
            place.context(&["read minimal"]),
            place.context(&["read root", "deny /w"]),
        ] {
            let params = client.start(&["/bin/sh", "-c", "pwd"], context);
            let (code, text) = client.call("process/start", params).unwrap_err();
            assert_eq!(code, -32603);
            assert!(
                text.starts_with("the working directory is not accessible"),
                "{text}"
            );
        }
        let mut params = client.start(&["true"], client.place.read_only());
        params["cwd"] = json!(client.place.uri("w/none"));
        let error = client.call("process/start", params).unwrap_err();
        assert_eq!(
            error,
            (-32603, "No such file or directory (os error 2)".to_owned())
        );
    });
}

#[test]
fn exit_codes_and_signals_are_the_programs() {
    for_each_user(|client| {
        for (script, code, denied) in [
            ("exit 0", 0, false),
            ("exit 3", 3, false),
            ("kill -9 $$", 137, false),
            ("kill -15 $$", 143, false),
            ("kill -31 $$", 159, true),
            ("no-such-command-here 2>/dev/null", 127, false),
            ("echo 'a castle of sandbox'; exit 1", 1, false),
            ("echo 'Permission denied'; exit 1", 1, true),
            ("echo 'Permission denied'", 0, false),
        ] {
            let finished = client.shell(script, client.place.read_only());
            assert_eq!((finished.code, finished.denied), (code, denied), "{script}");
        }
    });
}

/// Curl, for one, says that it could not resolve a name.
#[test]
fn a_refused_connection_is_known_without_words() {
    for_each_user(|client| {
        let connect = "(exec 3<>/dev/tcp/127.0.0.1/9) 2>/dev/null; echo no luck;";
        for (script, denied) in [
            (format!("{connect} exit 6"), true),
            (format!("{connect} exit 0"), false),
            ("echo no luck; exit 6".to_owned(), false),
        ] {
            let context = client.place.read_only();
            let params = client.start(&["/bin/bash", "-c", &script], context);
            let finished = client.run(params);
            assert_eq!(
                (finished.output.as_str(), finished.denied),
                ("no luck\n", denied)
            );
        }
    });
}

#[test]
fn signals_reach_the_program_and_not_a_launcher() {
    for_each_user(|client| {
        let script =
            "trap 'echo interrupted; exit 7' INT; echo ready; while :; do sleep 0.05; done";
        let params = client.start(
            &["/bin/sh", "-c", script],
            client.place.workspace_write(&[]),
        );
        let id = params["processId"].clone();
        client.ok("process/start", params);
        client.until(&id, "ready");
        client.ok(
            "process/signal",
            json!({"processId": id, "signal": "interrupt"}),
        );
        let Finished { code, output, .. } = client.finish(&id);
        assert_eq!((code, output.as_str()), (7, "interrupted\n"));
    });
}

#[test]
fn the_terminal_controls_the_program() {
    for_each_user(|client| {
        let script = "tty && echo words > /dev/tty && stty size && ps -o pid= -o sid= -p $$; \
            echo out > /dev/stdout; set -m; sleep 0 & wait; fg 2>&1; read line; echo got $line";
        let mut params = client.start(&["/bin/sh", "-c", script], client.place.read_only());
        params["tty"] = json!(true);
        let id = params["processId"].clone();
        client.ok("process/start", params);
        client.until(&id, "24 80");
        let chunk = exec_proto::base64::encode(b"typed\n");
        client.ok(
            "process/write",
            json!({"processId": id, "writeId": "1", "chunk": chunk}),
        );
        let finished = client.finish(&id);
        assert!(finished.output.ends_with("got typed\r\n"), "{finished:?}");
        assert!(
            !finished.output.contains("cannot set terminal"),
            "{finished:?}"
        );
        let script =
            "trap 'echo interrupted; exit 7' INT; echo ready; while :; do sleep 0.05; done";
        let mut params = client.start(&["/bin/sh", "-c", script], client.place.read_only());
        params["tty"] = json!(true);
        let id = params["processId"].clone();
        client.ok("process/start", params);
        client.until(&id, "ready");
        let chunk = exec_proto::base64::encode(b"\x03");
        client.ok(
            "process/write",
            json!({"processId": id, "writeId": "1", "chunk": chunk}),
        );
        let finished = client.finish(&id);
        assert_eq!(finished.code, 7, "{finished:?}");
    });
}

#[test]
fn the_environment_is_that_of_the_request_alone() {
    for_each_user(|client| {
        let mut params = client.start(&["/usr/bin/env"], client.place.read_only());
        // Loaded into the sandbox's own processes it would run before anything is confined.
        params["env"] = json!({"LD_PRELOAD": "", "A=B": "c", "ODD": "x=y"});
        let finished = client.run(params);
        let mut lines: Vec<&str> = finished.output.lines().collect();
        lines.sort_unstable();
        assert_eq!(lines, ["A=B=c", "LD_PRELOAD=", "ODD=x=y"]);
    });
}

/// Bash reads the file when it takes its input for a network connection, which it does when it is
/// refused the question.
#[test]
fn without_network_bash_does_not_read_the_file_for_interactive_shells() {
    for_each_user(|client| {
        std::fs::write(client.place.path("w/.bashrc"), "echo sourced\n").unwrap();
        let mut params = client.start(
            &["/bin/bash", "-c", "echo command"],
            client.place.read_only(),
        );
        params["env"] = json!({"HOME": client.place.text("w"), "PATH": "/usr/bin:/bin"});
        assert_eq!(client.run(params).output, "command\n");
    });
}

#[test]
fn unconfined_files_keep_their_host_without_network() {
    for_each_user(|client| {
        let context = json!({"permissions": {"type": "external", "network": "restricted"},
            "windowsSandboxLevel": "disabled"});
        let finished = client.shell(
            "echo x > ../o/x && cat ../o/x && test -e .codex || echo absent",
            context,
        );
        assert_eq!(finished.output, "x\nabsent\n");
    });
}
