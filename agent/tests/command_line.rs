//! The program from the outside: arguments, exit codes, output, signals.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

mod support;

use std::{
    io::{Read as _, Write as _},
    net::TcpStream,
};

use rustix::process::Signal;
use support::{Executor, exec_server, handshake, run};

const HELP_NEEDED: Option<i32> = Some(2);
const CONFIGURATION: Option<i32> = Some(64);

#[test]
fn command_line_errors_exit_2() {
    for arguments in [
        &["--no-such-flag"][..],
        &["--listen", "stdio", "--remote", "https://r"],
        &["--concurrent-requests", "0"],
        &["no-such-command"],
    ] {
        let (code, stdout, stderr) = run(arguments, &[]);
        assert_eq!((code, stdout.as_str()), (HELP_NEEDED, ""), "{arguments:?}");
        assert!(stderr.starts_with("error: "), "{stderr}");
    }
}

#[test]
fn configuration_errors_exit_64_with_one_line_each() {
    for (arguments, variables, expected) in [
        (
            &["--cloud"][..],
            &[][..],
            &[
                "error: the registry URL is missing; give --remote URL or set EXEC_SERVER_REMOTE_URL",
                "error: the environment id is missing; give --environment-id ID or set \
                 EXEC_SERVER_ENVIRONMENT_ID",
                "error: no registry credential; give --token-file PATH, --registration-bearer-stdin \
                 or --executor-credential-stdin, or set EXEC_SERVER_TOKEN or CODEX_API_KEY",
            ][..],
        ),
        (
            &["--listen", "ws://0.0.0.0:0"],
            &[],
            &[
                "error: refusing to listen on 0.0.0.0:0 without authentication, because other machines \
               can reach it; add `--ws-auth`, or listen on 127.0.0.1",
            ],
        ),
        (
            &["--listen", "ws://localhost:0"],
            &[],
            &["error: invalid websocket --listen URL `ws://localhost:0`; expected `ws://IP:PORT`"],
        ),
        (
            &["--ws-auth", "capability-token"],
            &[],
            &[
                "error: `--ws-token-file` or `--ws-token-sha256` is required when \
               `--ws-auth capability-token` is set",
            ],
        ),
        (
            &[
                "--remote",
                "http://registry.example",
                "--environment-id",
                "e",
            ],
            &[("EXEC_SERVER_TOKEN", "t")],
            &[
                "error: remote transport requires https for non-loopback endpoints; use https, or \
               --allow-insecure-http on a network you trust",
            ],
        ),
        (
            &["--remote", "http://127.0.0.1:9", "--environment-id", "e"],
            &[("EXEC_SERVER_TOKEN", "two words")],
            &[
                "error: the registry token cannot be used: credential has blank, control or non-ascii \
               characters",
            ],
        ),
        (
            &[
                "--remote",
                "http://127.0.0.1:9",
                "--environment-id",
                "e",
                "--token-file",
                "/nonexistent",
            ],
            &[],
            &[
                "error: the registry token cannot be used: failed to read the credential file: No such \
               file or directory (os error 2)",
            ],
        ),
        (
            &[
                "--remote",
                "http://127.0.0.1:9",
                "--environment-id",
                "e",
                "--registration-bearer-stdin",
            ],
            &[("RUST_LOG", "warn")],
            &[
                "error: standard input ended before the registration bearer; \
               --registration-bearer-stdin needs one line that ends with a newline",
            ],
        ),
        (
            &[
                "--remote",
                "http://127.0.0.1:9",
                "--environment-id",
                "e",
                "--ca-file",
                "/nonexistent",
            ],
            &[("EXEC_SERVER_TOKEN", "t")],
            &[
                "error: failed to read certificate authorities from the ca file option: No such file or directory \
               (os error 2)",
            ],
        ),
    ] {
        let (code, stdout, stderr) = run(arguments, variables);
        assert_eq!(
            (code, stdout.as_str()),
            (CONFIGURATION, ""),
            "{arguments:?}: {stderr}"
        );
        assert_eq!(
            stderr.lines().collect::<Vec<_>>(),
            expected,
            "{arguments:?}"
        );
    }
}

#[test]
fn an_unknown_key_names_the_nearest() {
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), "lissen = 'stdio'\n").unwrap();
    let (code, _, stderr) = run(&["--config", file.path().to_str().unwrap()], &[]);
    assert_eq!(code, CONFIGURATION);
    assert_eq!(
        stderr,
        "error: unknown configuration key `lissen`; did you mean `listen`?"
    );
}

#[test]
fn check_config_says_nothing_when_all_is_well() {
    let arguments = [
        "--check-config",
        "--remote",
        "https://registry.example",
        "--environment-id",
        "e",
    ];
    let (code, stdout, stderr) = run(&arguments, &[("EXEC_SERVER_TOKEN", "t")]);
    assert_eq!((code, stdout.as_str(), stderr.as_str()), (Some(0), "", ""));
}

#[test]
fn a_port_in_use_is_a_runtime_failure() {
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap();
    let (code, stdout, stderr) = run(&["--listen", &format!("ws://{address}")], &[]);
    assert_eq!((code, stdout.as_str()), (Some(1), ""));
    assert_eq!(
        stderr,
        format!("error: failed to listen on {address}: Address already in use (os error 98)")
    );
}

#[test]
fn the_listener_prints_one_line_and_every_signal_ends_it_in_order() {
    for signal in [Signal::TERM, Signal::INT, Signal::HUP, Signal::QUIT] {
        let mut executor = Executor::spawn(exec_server(&[]));
        let url = executor.output_line();
        let address = url.strip_prefix("ws://").unwrap().to_owned();

        let mut tcp = TcpStream::connect(&address).unwrap();
        tcp.write_all(b"GET /readyz HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n")
            .unwrap();
        let mut answer = String::new();
        tcp.read_to_string(&mut answer).unwrap();
        assert!(answer.starts_with("HTTP/1.1 200 OK\r\n"), "{answer}");

        executor.signal(signal);
        let (code, stdout, stderr) = executor.finish();
        assert_eq!((code, stdout), (Some(0), url), "{stderr}");
        assert!(stderr.contains("stopping"), "{stderr}");
        assert!(
            !stderr.contains('\u{1b}'),
            "colors without a terminal: {stderr}"
        );
    }
}

#[test]
fn stdio_writes_the_replies_that_are_due_and_ends_with_its_input() {
    let mut executor = Executor::spawn(exec_server(&["--listen", "stdio"]));
    executor.write_stdin(
        "{\"id\":1,\"method\":\"initialize\",\"params\":{\"clientName\":\"\"}}\n\
         {\"method\":\"initialized\"}\n\nnonsense\r\n\
         {\"id\":2,\"method\":\"environment/info\"}\n\
         {\"id\":3,\"method\":\"fs/readDirectory\",\"params\":{\"path\":\"file:///\"}}\n\
         {\"id\":4,\"method\":\"fs/walk\",\"params\":{\"path\":\"file:///etc\"}}\n\
         {\"id\":5,\"method\":\"unfinished",
    );
    executor.close_stdin();
    let (code, stdout, stderr) = executor.finish();
    assert_eq!(code, Some(0), "{stderr}");
    let mut ids: Vec<_> = stdout
        .lines()
        .map(|line| serde_json::from_str::<serde_json::Value>(line).unwrap()["id"].as_i64())
        .collect();
    ids.sort_unstable();
    assert_eq!(
        ids,
        [Some(-1), Some(1), Some(2), Some(3), Some(4)],
        "{stdout}"
    );
}

#[test]
fn operator_limits_how_long_a_session_is_kept() {
    for (arguments, granted) in [
        (&["--listen", "stdio"][..], 86_400_000),
        (&["--listen", "stdio", "--keep-max-secs", "600"], 600_000),
        (
            &["--listen", "stdio", "--keep-max-secs", "172800"],
            172_800_000,
        ),
    ] {
        let mut executor = Executor::spawn(exec_server(arguments));
        handshake(&mut executor);
        executor.send(&serde_json::json!({
            "id": 2, "method": "session/keep", "params": {"detachedMs": 1_000_000_000}}));
        let answer = executor.answer(2);
        assert_eq!(
            answer["result"]["detachedMs"], granted,
            "{arguments:?}: {answer}"
        );
    }
}

#[test]
fn shutdown_kills_the_processes() {
    let mut executor = Executor::spawn(exec_server(&["--listen", "stdio"]));
    handshake(&mut executor);
    executor.send(&serde_json::json!({"id": 2, "method": "process/start", "params": {
        "processId": "p", "argv": ["/bin/sh", "-c", "trap '' TERM HUP; echo $$; while :; do sleep 1000; done"],
        "cwd": "file:///", "env": {"PATH": "/usr/bin:/bin"}, "tty": false}}));
    let chunk = executor.receive(|message| {
        (message["method"] == "process/output")
            .then(|| message["params"]["chunk"].as_str().unwrap().to_owned())
    });
    let pid = String::from_utf8(base64_decode(&chunk))
        .unwrap()
        .trim()
        .parse::<i32>()
        .unwrap();
    let process = rustix::process::pidfd_open(
        rustix::process::Pid::from_raw(pid).unwrap(),
        rustix::process::PidfdFlags::empty(),
    )
    .unwrap();
    executor.signal(Signal::TERM);
    let (code, _, stderr) = executor.finish();
    assert_eq!(code, Some(0), "{stderr}");
    let mut ended = [rustix::event::PollFd::new(
        &process,
        rustix::event::PollFlags::IN,
    )];
    let limit = rustix::event::Timespec {
        tv_sec: 10,
        tv_nsec: 0,
    };
    assert_eq!(
        rustix::event::poll(&mut ended, Some(&limit)).unwrap(),
        1,
        "the process lives on"
    );
}

fn base64_decode(text: &str) -> Vec<u8> {
    base64::Engine::decode(&base64::engine::general_purpose::STANDARD, text).unwrap()
}
