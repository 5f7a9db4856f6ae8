//! The binary: exit codes, the first line, tokens.

#![allow(clippy::unwrap_used, reason = "failing is how a test reports")]

use std::io::{BufRead as _, BufReader, Read as _};
use std::net::TcpListener;
use std::process::{Child, Command, Stdio};

use serde_json::Value;
use tempfile::TempDir;

struct Run {
    code: Option<i32>,
    stdout: String,
    stderr: String,
}

fn command(arguments: &[&str]) -> Command {
    let mut command = Command::new(assert_cmd::cargo::cargo_bin!("exec-cloud"));
    command.args(arguments).stdin(Stdio::null());
    for (name, _) in std::env::vars_os() {
        if name.to_string_lossy().starts_with("EXEC_CLOUD_") {
            command.env_remove(name);
        }
    }
    command
}

fn run(arguments: &[&str]) -> Run {
    let output = command(arguments).output().unwrap();
    Run {
        code: output.status.code(),
        stdout: String::from_utf8(output.stdout).unwrap(),
        stderr: String::from_utf8(output.stderr).unwrap(),
    }
}

fn directory() -> (TempDir, String) {
    let directory = tempfile::tempdir().unwrap();
    let data = directory.path().join("data").to_str().unwrap().to_owned();
    (directory, data)
}

/// A server that ends with the test.
struct Serving {
    child: Child,
    first_line: String,
}

impl Serving {
    fn start(arguments: &[&str]) -> Self {
        Self::spawn(command(arguments))
    }

    fn spawn(mut command: Command) -> Self {
        let mut child = command
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let mut first_line = String::new();
        BufReader::new(child.stdout.as_mut().unwrap())
            .read_line(&mut first_line)
            .unwrap();
        Self { child, first_line }
    }

    /// Waits for its end and returns the exit code.
    fn ended(mut self) -> Option<i32> {
        self.child.wait().unwrap().code()
    }

    /// Sends a signal by number and returns the exit code and the rest of stdout.
    fn signal(mut self, signal: &str) -> (Option<i32>, String) {
        let pid = self.child.id().to_string();
        assert!(
            Command::new("kill")
                .args([signal, &pid])
                .status()
                .unwrap()
                .success()
        );
        let code = self.child.wait().unwrap().code();
        let mut rest = String::new();
        self.child
            .stdout
            .take()
            .unwrap()
            .read_to_string(&mut rest)
            .unwrap();
        (code, rest)
    }
}

impl Drop for Serving {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// One line that says what is wrong and what to do.
fn assert_error(run: &Run, code: i32, text: &str) {
    assert_eq!(run.code, Some(code), "{}", run.stderr);
    assert_eq!(run.stdout, "");
    let lines: Vec<_> = run.stderr.lines().collect();
    assert_eq!(lines.len(), 1, "{}", run.stderr);
    assert!(lines[0].starts_with("error: "), "{}", run.stderr);
    assert!(lines[0].contains(text), "{}", run.stderr);
    assert!(lines[0].contains("; "), "no remedy: {}", run.stderr);
}

#[test]
fn takes_as_many_descriptors_as_the_hard_limit_allows() {
    let mut limited = Command::new("sh");
    limited
        .args(["-c", "ulimit -Sn 256; ulimit -Hn 300; exec \"$@\"", "sh"])
        .arg(command(&[]).get_program())
        .args(["serve", "--dev", "--listen", "127.0.0.1:0"])
        .stdin(Stdio::null());
    let server = Serving::spawn(limited);
    let limits = std::fs::read_to_string(format!("/proc/{}/limits", server.child.id())).unwrap();
    let line = limits
        .lines()
        .find(|line| line.starts_with("Max open files"));
    let numbers: Vec<_> = line.unwrap().split_whitespace().skip(3).take(2).collect();
    assert_eq!(numbers, ["300", "300"]);
}

#[test]
fn configuration_errors_exit_64() {
    let (_keep, data) = directory();
    for (arguments, text) in [
        (
            &["serve", "--dev", "--listen", "0.0.0.0:0"][..],
            "cannot listen on 0.0.0.0:0",
        ),
        (
            &["serve", "--dev", "--listen", "[::]:0"],
            "cannot listen on [::]:0",
        ),
        (
            &["serve", "--data-dir", &data, "--listen", "192.0.2.1:80"],
            "plain HTTP",
        ),
        (&["serve", "--dev", "--behind-proxy"], "--behind-proxy"),
        (
            &["serve", "--data-dir", &data, "--behind-proxy"],
            "--public-url",
        ),
        (
            &["serve", "--dev", "--public-url", "ftp://x"],
            "--public-url",
        ),
        (&["serve", "--listen", "localhost:7700"], "--listen"),
        (&["serve", "--tls-cert", "/none"], "--tls-key"),
        (
            &[
                "serve",
                "--dev",
                "--tls-cert",
                "/none",
                "--tls-key",
                "/none",
            ],
            "certificate",
        ),
        (&["serve", "--nonsense"], "--nonsense"),
        (&["token", "create", "--data-dir", &data], "--role"),
        (
            &["token", "create", "--role", "king", "--data-dir", &data],
            "king",
        ),
        (
            &[
                "token",
                "create",
                "--role",
                "admin",
                "--ttl",
                "30",
                "--data-dir",
                &data,
            ],
            "30d",
        ),
        (
            &["token", "create", "--role", "admin", "--environment", "a/b"],
            "--environment",
        ),
        (&["token", "list", "--data-dir", &data], "--data-dir"),
        (&["token", "revoke", "x", "--data-dir", &data], "--data-dir"),
        (&["nonsense"], "nonsense"),
        (&[], "exec-cloud"),
    ] {
        let run = run(arguments);
        assert_eq!(run.code, Some(64), "{arguments:?}: {}", run.stderr);
        if !arguments.is_empty() {
            assert_error(&run, 64, text);
        }
    }
    assert!(
        !std::path::Path::new(&data).exists(),
        "nothing is created when something is wrong"
    );
}

#[test]
fn runtime_errors_exit_1() {
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    let run_ = run(&["serve", "--dev", "--listen", &address]);
    // The log is on stderr too; the error is its last line.
    assert_eq!(run_.code, Some(1));
    let last = run_.stderr.lines().last().unwrap();
    assert!(
        last.starts_with(&format!("error: cannot listen on {address}")),
        "{last}"
    );

    let run_ = run(&[
        "serve",
        "--data-dir",
        "/dev/null/x",
        "--listen",
        "127.0.0.1:0",
    ]);
    assert_error(&run_, 1, "data directory");

    let (_keep, data) = directory();
    run(&["token", "create", "--role", "admin", "--data-dir", &data]);
    assert_error(
        &run(&["token", "revoke", "x", "--data-dir", &data]),
        1,
        "no token",
    );
}

#[test]
fn first_line_names_the_real_address_and_sigterm_stops_with_0() {
    for signal in ["-TERM", "-INT"] {
        let server = Serving::start(&["serve", "--dev", "--listen", "127.0.0.1:0"]);
        let port = server
            .first_line
            .strip_prefix("listening on http://127.0.0.1:")
            .unwrap();
        let port: u16 = port.strip_suffix('\n').unwrap().parse().unwrap();
        assert_ne!(port, 0);
        std::net::TcpStream::connect(("127.0.0.1", port)).unwrap();
        assert_eq!(server.signal(signal), (Some(0), String::new()));
    }
}

#[test]
fn one_server_for_one_data_directory() {
    let (_keep, data) = directory();
    let arguments = ["serve", "--data-dir", &data, "--listen", "127.0.0.1:0"];
    let server = Serving::start(&arguments);
    assert!(server.first_line.starts_with("listening on "));
    assert_error(&run(&arguments), 1, "another exec-cloud");
    drop(server);
    let server = Serving::start(&arguments);
    assert!(server.first_line.starts_with("listening on "));
}

#[test]
fn tokens_are_created_listed_and_revoked() {
    let (_keep, data) = directory();
    let plain = run(&["token", "create", "--role", "harness", "--data-dir", &data]);
    assert_eq!(plain.code, Some(0));
    let token = plain.stdout.strip_suffix('\n').unwrap();
    assert!(token.starts_with("exc_") && !token.contains(char::is_whitespace));

    let made = run(&[
        "token",
        "create",
        "--role",
        "executor",
        "--environment",
        "env1",
        "--ttl",
        "30d",
        "--label",
        "build farm",
        "--json",
        "--data-dir",
        &data,
    ]);
    let made: Value = serde_json::from_str(&made.stdout).unwrap();
    assert_eq!(
        (&made["role"], &made["environment_id"]),
        (&"executor".into(), &"env1".into())
    );
    let ttl = made["expires_at"].as_i64().unwrap() - made["created_at"].as_i64().unwrap();
    assert_eq!(ttl, 30 * 24 * 60 * 60);
    let id = made["id"].as_str().unwrap();

    let list = run(&["token", "list", "--data-dir", &data]).stdout;
    assert_eq!(list.lines().count(), 2);
    assert!(list.contains(id) && list.contains("build farm"));
    assert!(!list.contains(token) && !list.contains(made["token"].as_str().unwrap()));

    assert_eq!(
        run(&["token", "revoke", id, "--data-dir", &data]).code,
        Some(0)
    );
    assert_eq!(
        run(&["token", "revoke", id, "--data-dir", &data]).code,
        Some(0)
    );
    let list = run(&["token", "list", "--json", "--data-dir", &data]).stdout;
    let list: Vec<Value> = list
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect();
    let status = |id: &str| {
        list.iter().find(|token| token["id"] == id).unwrap()["status"]
            .as_str()
            .unwrap()
            .to_owned()
    };
    assert_eq!(
        (status(id), status(&token[4..20])),
        ("revoked".to_owned(), "valid".to_owned())
    );
    assert!(list.iter().all(|token| token.get("token").is_none()));
}

#[test]
fn default_data_directory_follows_the_environment() {
    let home = tempfile::tempdir().unwrap();
    let create = ["token", "create", "--role", "admin"];
    for (name, base) in [("XDG_DATA_HOME", "xdg"), ("HOME", "home")] {
        let path = home.path().join(base);
        let status = command(&create)
            .env_remove("XDG_DATA_HOME")
            .env_remove("HOME")
            .env(name, &path)
            .stdout(Stdio::null())
            .status()
            .unwrap();
        assert!(status.success());
        let below = if base == "xdg" {
            "exec-cloud"
        } else {
            ".local/share/exec-cloud"
        };
        assert!(path.join(below).join("exec-cloud.db").is_file(), "{name}");
    }
    let output = command(&create)
        .env_remove("XDG_DATA_HOME")
        .env_remove("HOME")
        .output()
        .unwrap();
    assert_eq!(output.status.code(), Some(64));
}

#[test]
fn help_and_version_go_to_stdout() {
    for flag in ["--help", "--version"] {
        let run = run(&[flag]);
        assert_eq!((run.code, run.stderr.as_str()), (Some(0), ""));
        assert!(run.stdout.contains("exec-cloud"));
    }
}

#[test]
fn drain_ends_the_server_of_the_directory() {
    let (_keep, data) = directory();
    let serve = ["serve", "--listen", "127.0.0.1:0", "--data-dir", &data];
    let none = run(&["drain", "--data-dir", &data]);
    assert_error(&none, 64, "no exec-cloud serves from the data directory");
    for wait in [true, false] {
        let server = Serving::start(&serve);
        let id = server.child.id();
        let mut arguments = vec!["drain", "--data-dir", &data];
        if !wait {
            arguments.push("--no-wait");
        }
        let drained = run(&arguments);
        assert_eq!(drained.code, Some(0), "{}", drained.stderr);
        let word = if wait { "drained" } else { "draining" };
        assert_eq!(drained.stdout, format!("{word}, process {id}\n"));
        assert_eq!(server.ended(), Some(0));
        // What is left of its socket is nobody.
        let none = run(&["drain", "--data-dir", &data]);
        assert_error(&none, 64, "no exec-cloud serves from the data directory");
    }
}

#[test]
fn the_control_socket_is_private_and_the_directory_may_have_a_long_name() {
    use std::os::unix::fs::PermissionsExt as _;

    let keep = tempfile::tempdir().unwrap();
    let data = keep.path().join("x".repeat(200));
    let data = data.to_str().unwrap();
    let server = Serving::start(&["serve", "--listen", "127.0.0.1:0", "--data-dir", data]);
    let socket = std::fs::metadata(format!("{data}/control.sock")).unwrap();
    assert_eq!(socket.permissions().mode() & 0o777, 0o600);
    assert_eq!(run(&["drain", "--data-dir", data]).code, Some(0));
    assert_eq!(server.ended(), Some(0));
}

#[test]
fn a_successor_takes_over_and_nobody_finds_the_port_closed() {
    use std::io::Write as _;
    use std::net::TcpStream;
    use std::sync::Arc;
    use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};

    let (_keep, data) = directory();
    let serve = [
        "serve",
        "--take-over",
        "--listen",
        "127.0.0.1:0",
        "--data-dir",
        &data,
    ];
    // Nobody is there yet to take over from.
    let mut server = Serving::start(&serve);
    let line = server.first_line.clone();
    let address = line.trim().rsplit("http://").next().unwrap().to_owned();

    let over = Arc::new(AtomicBool::new(false));
    let answered = Arc::new(AtomicU32::new(0));
    let asking = {
        let (over, answered) = (Arc::clone(&over), Arc::clone(&answered));
        std::thread::spawn(move || {
            while !over.load(Ordering::Relaxed) {
                let mut stream = TcpStream::connect(&address).unwrap();
                write!(stream, "GET /healthz HTTP/1.0\r\nhost: {address}\r\n\r\n").unwrap();
                let mut answer = String::new();
                stream.read_to_string(&mut answer).unwrap();
                assert!(answer.contains(" 200 OK"), "{answer:?}");
                answered.fetch_add(1, Ordering::Relaxed);
            }
        })
    };
    for _ in 0..5 {
        let before = answered.load(Ordering::Relaxed);
        let successor = Serving::start(&serve);
        assert_eq!(successor.first_line, line);
        assert_eq!(server.ended(), Some(0));
        while answered.load(Ordering::Relaxed) < before + 10 && !asking.is_finished() {
            std::thread::yield_now();
        }
        server = successor;
    }
    over.store(true, Ordering::Relaxed);
    asking.join().unwrap();
    // Without asking for it nobody gets it.
    let refused = run(&["serve", "--listen", "127.0.0.1:0", "--data-dir", &data]);
    assert_error(
        &refused,
        1,
        "another exec-cloud serves from this data directory",
    );
    assert_eq!(run(&["drain", "--data-dir", &data]).code, Some(0));
    assert_eq!(server.ended(), Some(0));
}

/// Asks the admin listener at `port`, which may not listen yet.
fn admin(port: u16, path: &str) -> (u16, String) {
    use std::io::Write as _;

    let mut stream = std::net::TcpStream::connect(("127.0.0.1", port)).unwrap();
    write!(stream, "GET {path} HTTP/1.0\r\nhost: 127.0.0.1\r\n\r\n").unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    let (head, body) = answer.split_once("\r\n\r\n").unwrap();
    let status = head.split(' ').nth(1).unwrap().parse().unwrap();
    (status, body.to_owned())
}

#[test]
fn operators_are_shown_what_goes_on_and_systemd_is_told() {
    let (keep, data) = directory();
    let notified = keep.path().join("notify");
    let socket = std::os::unix::net::UnixDatagram::bind(&notified).unwrap();
    let port = TcpListener::bind("127.0.0.1:0")
        .unwrap()
        .local_addr()
        .unwrap()
        .port();
    let port_text = port.to_string();
    let mut child = command(&[
        "serve",
        "--listen",
        "127.0.0.1:0",
        "--data-dir",
        &data,
        "--admin-listen",
        &port_text,
        // Long enough that it does not end while it is looked at.
        "--drain-delay",
        "1h",
    ])
    .env("NOTIFY_SOCKET", &notified)
    .stdout(Stdio::null())
    .stderr(Stdio::null())
    .spawn()
    .unwrap();
    let word = || {
        let mut buffer = [0; 100];
        let length = socket.recv(&mut buffer).unwrap();
        String::from_utf8(buffer[..length].to_vec()).unwrap()
    };
    assert_eq!(word(), "READY=1");
    assert_eq!(admin(port, "/livez"), (200, "ok\n".to_owned()));
    // It listens before it has begun to serve.
    while admin(port, "/readyz").0 != 200 {}
    let (_, status) = admin(port, "/status");
    let status: Value = serde_json::from_str(&status).unwrap();
    assert_eq!(
        (&status["state"], &status["ready"]),
        (&"serving".into(), &true.into())
    );
    let (_, metrics) = admin(port, "/metrics");
    for line in [
        "server_ready 1\n",
        "server_registrations_total 0\n",
        "# EOF\n",
    ] {
        assert!(metrics.contains(line), "{line} in {metrics}");
    }
    assert_eq!(
        run(&["drain", "--data-dir", &data, "--no-wait"]).code,
        Some(0)
    );
    assert_eq!(word(), "STOPPING=1");
    while admin(port, "/readyz").0 == 200 {}
    let (_, status) = admin(port, "/status");
    let status: Value = serde_json::from_str(&status).unwrap();
    assert_eq!(
        (&status["state"], &status["ready"]),
        (&"draining".into(), &false.into())
    );
    assert_eq!(admin(port, "/livez").0, 200);
    child.kill().unwrap();
    child.wait().unwrap();
}

#[test]
fn audit_log_is_printed() {
    let (_directory, data) = directory();
    let empty = run(&["audit", "--data-dir", &data]);
    assert_eq!(empty.code, Some(64), "{}", empty.stderr);
    let create = [
        "token",
        "create",
        "--role",
        "harness",
        "--environment",
        "env",
        "--json",
    ];
    let created = run(&[&create[..], &["--data-dir", &data]].concat());
    let created: Value = serde_json::from_str(&created.stdout).unwrap();
    let id = created["id"].as_str().unwrap();
    for _ in 0..2 {
        run(&["token", "revoke", id, "--data-dir", &data]);
    }
    let lines = |flags: &[&str]| -> Vec<Value> {
        let audit = run(&[&["audit", "--json", "--data-dir", &data], flags].concat());
        assert_eq!(audit.code, Some(0), "{}", audit.stderr);
        let lines = audit.stdout.lines();
        lines
            .map(|line| serde_json::from_str(line).unwrap())
            .collect()
    };
    let all = lines(&["--since", "1h"]);
    let told: Vec<_> = all
        .iter()
        .map(|line| {
            (
                line["action"].as_str().unwrap(),
                line["outcome"].as_str().unwrap(),
            )
        })
        .collect();
    let expected = [
        ("create_token", "ok"),
        ("revoke_token", "ok"),
        ("revoke_token", "already_revoked"),
    ];
    assert_eq!(told, expected);
    assert!(all.iter().all(|line| line["token_id"] == id));
    let actor = format!("uid {}", rustix::process::getuid().as_raw());
    assert!(all.iter().all(|line| line["actor"] == actor), "{all:?}");
    assert_eq!(lines(&["--refused"]).len(), 1);
    assert_eq!(lines(&["--environment", "env"]).len(), 1);
    assert_eq!(lines(&["--token", "other"]).len(), 0);
    assert_eq!(lines(&["--actor", &actor]).len(), 3);
    assert_eq!(lines(&["--actor", "other"]).len(), 0);
    let plain = run(&["audit", "--data-dir", &data]);
    assert_eq!(plain.stdout.lines().count(), 3);
    assert!(plain.stdout.contains("(command)"), "{}", plain.stdout);
    assert!(!plain.stdout.contains(created["token"].as_str().unwrap()));
}
