//! A command must not be able to find the executor's credential.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

mod support;

use support::{Executor, exec_server, handshake};

const SECRET: &str = "s3cr3t-0123456789";

/// Starts the program with the secret in `variable` and lets a command look for it.
fn what_a_command_sees(variable: &str) -> (String, String) {
    let mut command = exec_server(&["--listen", "stdio"]);
    command
        .env(variable, SECRET)
        .env("ORDINARY_VARIABLE", "kept");
    let mut executor = Executor::spawn(command);
    handshake(&mut executor);
    // The parent of the command is the executor. `env` is what the command inherits.
    let script = "env; echo --parent--; tr '\\0' '\\n' </proc/$PPID/environ; \
                  echo --arguments--; tr '\\0' '\\n' </proc/$PPID/cmdline; \
                  echo --descriptors--; ls -l /proc/self/fd /proc/$PPID/fd";
    executor.send(
        &serde_json::json!({"id": 2, "method": "process/start", "params": {
        "processId": "p", "argv": ["/bin/sh", "-c", script], "cwd": "file:///", "tty": false,
        "env": {}, "envPolicy": {"inherit": "all", "ignoreDefaultExcludes": true, "exclude": [],
                                 "set": {}, "includeOnly": []}}}),
    );
    let mut output = Vec::new();
    executor.receive(|message| {
        if message["method"] == "process/output" {
            let chunk = message["params"]["chunk"].as_str().unwrap();
            output.extend(
                base64::Engine::decode(&base64::engine::general_purpose::STANDARD, chunk).unwrap(),
            );
        }
        assert!(
            message["id"] != 2 || message["error"].is_null(),
            "{message}"
        );
        (message["method"] == "process/closed").then_some(())
    });
    executor.close_stdin();
    let (code, _, log) = executor.finish();
    assert_eq!(code, Some(0), "{log}");
    (String::from_utf8_lossy(&output).into_owned(), log)
}

#[test]
fn the_secret_is_in_no_environment_argument_descriptor_or_log() {
    for variable in [
        "EXEC_SERVER_TOKEN",
        "CODEX_API_KEY",
        "CODEX_ACCESS_TOKEN",
        "CODEX_EXEC_SERVER_NOISE_AUTH_TOKEN",
    ] {
        let (seen, log) = what_a_command_sees(variable);
        assert!(seen.contains("ORDINARY_VARIABLE=kept"), "{seen}");
        assert!(seen.contains("--descriptors--"), "{seen}");
        assert!(
            !seen.contains(SECRET),
            "{variable} reached a command:\n{seen}"
        );
        assert!(
            !seen.contains("exec-server-secret"),
            "the memory file is still open:\n{seen}"
        );
        assert!(!log.contains(SECRET), "{variable} reached the log:\n{log}");
    }
}

#[test]
fn the_process_keeps_its_arguments_and_id_when_it_starts_again() {
    let (seen, _) = what_a_command_sees("EXEC_SERVER_TOKEN");
    let arguments: Vec<_> = seen
        .split("--arguments--\n")
        .nth(1)
        .unwrap()
        .lines()
        .take_while(|line| *line != "--descriptors--")
        .collect();
    assert_eq!(arguments[1..], ["--listen", "stdio"]);
    assert!(arguments[0].ends_with("exec-server"), "{arguments:?}");
}
