//! Files survive the end of the executor: killed in the middle of writing, or losing its peer while a file
//! is being replaced. Runs the real program on standard input and output.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

use std::io::{BufRead as _, BufReader, Write as _};
use std::path::Path;
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};

use exec_proto::PathUri;
use serde_json::{Value, json};

struct Executor {
    child: Child,
    stdin: Option<ChildStdin>,
    stdout: BufReader<ChildStdout>,
    last_id: i64,
}

impl Executor {
    fn start(dir: &Path) -> Self {
        let mut child = Command::new(env!("CARGO_BIN_EXE_exec-server"))
            .args(["--listen", "stdio"])
            .current_dir(dir)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let stdin = child.stdin.take();
        let stdout = BufReader::new(child.stdout.take().unwrap());
        let mut executor = Self {
            child,
            stdin,
            stdout,
            last_id: 0,
        };
        executor.call("initialize", json!({"clientName": "test"}));
        executor.line(&json!({"method": "initialized"}));
        executor
    }

    fn line(&mut self, message: &Value) {
        let stdin = self.stdin.as_mut().unwrap();
        // The program may have been killed.
        let _ = writeln!(stdin, "{message}");
    }

    fn send(&mut self, method: &str, params: Value) {
        self.last_id += 1;
        self.line(&json!({"id": self.last_id, "method": method, "params": params}));
    }

    fn answer(&mut self) -> Value {
        let mut line = String::new();
        self.stdout.read_line(&mut line).unwrap();
        let answer: Value = serde_json::from_str(&line).unwrap();
        answer["result"].clone()
    }

    fn call(&mut self, method: &str, params: Value) -> Value {
        self.send(method, params);
        let result = self.answer();
        assert!(result.is_object(), "{method}");
        result
    }
}

impl Drop for Executor {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn uri(path: &Path) -> PathUri {
    PathUri::from_native(&path.canonicalize().unwrap()).unwrap()
}

#[test]
fn a_kill_in_the_middle_of_writing_leaves_a_whole_file() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("f");
    let contents = ["a".repeat(300_000), "b".repeat(600_000)];
    std::fs::write(&path, &contents[0]).unwrap();
    for round in 0..6 {
        let mut executor = Executor::start(dir.path());
        for content in contents.iter().rev().chain(&contents) {
            let data = exec_proto::base64::encode(content.as_bytes());
            let params = json!({"path": uri(&path), "dataBase64": data});
            executor.send("fs/writeFile", params);
        }
        // The others are on their way or being written.
        for _ in 0..round % 3 {
            executor.answer();
        }
        executor.child.kill().unwrap();
        executor.child.wait().unwrap();
        let found = std::fs::read_to_string(&path).unwrap();
        assert!(contents.contains(&found), "{} bytes", found.len());
    }
}

#[test]
fn a_peer_that_leaves_in_the_middle_of_a_replacement_leaves_the_old_file() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("f");
    std::fs::write(&path, "old").unwrap();
    let mut executor = Executor::start(dir.path());
    let open = json!({"path": uri(&path), "handleId": "h", "mode": "replace"});
    executor.call("fs/open", open);
    let chunk = exec_proto::base64::encode(b"half");
    executor.call(
        "fs/writeBlock",
        json!({"handleId": "h", "offset": 0, "chunk": chunk}),
    );
    assert_eq!(std::fs::read_to_string(&path).unwrap(), "half");
    executor.stdin = None;
    executor.child.wait().unwrap();
    assert_eq!(std::fs::read_to_string(&path).unwrap(), "old");
    assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 1);
}
