//! The real program as a child process whose output is waited for line by line.
#![allow(dead_code, reason = "each test program uses a part of it")]

use std::{
    io::{BufRead as _, BufReader, Read, Write as _},
    process::{Child, ChildStdin, Command, ExitStatus, Stdio},
    sync::mpsc::{Receiver, RecvTimeoutError, channel},
    time::{Duration, Instant},
};

use rustix::process::{Pid, Signal};

/// No wait is expected to take nearly as long; a test that reaches it has failed.
pub(crate) const DEADLINE: Duration = Duration::from_secs(20);

/// The program with an environment that holds nothing it would react to.
pub(crate) fn exec_server(arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_exec-server"));
    command.args(arguments);
    for (name, _) in std::env::vars_os() {
        let name_text = name.to_string_lossy().to_uppercase();
        let prefixes = ["EXEC_SERVER_", "CODEX_", "OPENAI_", "SSL_CERT_"];
        if prefixes.iter().any(|prefix| name_text.starts_with(prefix))
            || name_text.ends_with("_PROXY")
            || name_text == "RUST_LOG"
        {
            command.env_remove(name);
        }
    }
    command
}

/// A running program, killed when dropped.
pub(crate) struct Executor {
    child: Child,
    stdin: Option<ChildStdin>,
    stdout: Lines,
    stderr: Lines,
}

impl Executor {
    pub(crate) fn spawn(mut command: Command) -> Self {
        let mut child = command
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        Self {
            stdin: child.stdin.take(),
            stdout: Lines::of(child.stdout.take().unwrap()),
            stderr: Lines::of(child.stderr.take().unwrap()),
            child,
        }
    }

    pub(crate) fn id(&self) -> u32 {
        self.child.id()
    }

    /// Waits for a line of the log that contains `text`.
    pub(crate) fn log_line(&mut self, text: &str) -> String {
        self.stderr.find(|line| line.contains(text), text)
    }

    /// All of the log so far.
    pub(crate) fn log(&self) -> String {
        self.stderr.seen.join("\n")
    }

    /// Waits for the next line of standard output.
    pub(crate) fn output_line(&mut self) -> String {
        self.stdout.find(|_| true, "a line on standard output")
    }

    pub(crate) fn send(&mut self, message: &serde_json::Value) {
        writeln!(self.stdin.as_mut().unwrap(), "{message}").unwrap();
    }

    /// Waits for the message on standard output for which `pick` gives something.
    pub(crate) fn receive<T>(
        &mut self,
        mut pick: impl FnMut(&serde_json::Value) -> Option<T>,
    ) -> T {
        loop {
            let message = serde_json::from_str(&self.output_line()).unwrap();
            if let Some(picked) = pick(&message) {
                return picked;
            }
        }
    }

    pub(crate) fn answer(&mut self, id: i64) -> serde_json::Value {
        self.receive(|message| (message["id"] == id).then(|| message.clone()))
    }

    pub(crate) fn write_stdin(&mut self, text: &str) {
        self.stdin
            .as_mut()
            .unwrap()
            .write_all(text.as_bytes())
            .unwrap();
    }

    pub(crate) fn close_stdin(&mut self) {
        self.stdin = None;
    }

    pub(crate) fn signal(&self, signal: Signal) {
        let pid = Pid::from_raw(self.child.id().try_into().unwrap()).unwrap();
        rustix::process::kill_process(pid, signal).unwrap();
    }

    /// Waits for the end; its output ends with it.
    pub(crate) fn wait(&mut self) -> ExitStatus {
        self.stderr.until_end();
        self.stdout.until_end();
        self.child.wait().unwrap()
    }

    /// Waits for the end and gives exit code, standard output and standard error.
    pub(crate) fn finish(mut self) -> (Option<i32>, String, String) {
        let status = self.wait();
        (
            status.code(),
            self.stdout.seen.join("\n"),
            self.stderr.seen.join("\n"),
        )
    }

    pub(crate) fn is_running(&mut self) -> bool {
        self.child.try_wait().unwrap().is_none()
    }
}

impl Drop for Executor {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Runs the program to its end with an empty standard input.
pub(crate) fn run(arguments: &[&str], variables: &[(&str, &str)]) -> (Option<i32>, String, String) {
    let mut command = exec_server(arguments);
    command.envs(variables.iter().copied());
    let mut executor = Executor::spawn(command);
    executor.close_stdin();
    executor.finish()
}

/// The lines of a pipe, read by a thread.
struct Lines {
    lines: Receiver<String>,
    seen: Vec<String>,
}

impl Lines {
    fn of(pipe: impl Read + Send + 'static) -> Self {
        let (sender, lines) = channel();
        std::thread::spawn(move || {
            for line in BufReader::new(pipe).lines().map_while(Result::ok) {
                if sender.send(line).is_err() {
                    return;
                }
            }
        });
        Self {
            lines,
            seen: Vec::new(),
        }
    }

    fn find(&mut self, is_it: impl Fn(&str) -> bool, what: &str) -> String {
        let deadline = Instant::now() + DEADLINE;
        loop {
            match self
                .lines
                .recv_timeout(deadline.saturating_duration_since(Instant::now()))
            {
                Ok(line) => {
                    self.seen.push(line.clone());
                    if is_it(&line) {
                        return line;
                    }
                }
                Err(error) => panic!(
                    "{error} while waiting for {what:?}; so far: {:#?}",
                    self.seen
                ),
            }
        }
    }

    fn until_end(&mut self) {
        let deadline = Instant::now() + DEADLINE;
        loop {
            match self
                .lines
                .recv_timeout(deadline.saturating_duration_since(Instant::now()))
            {
                Ok(line) => self.seen.push(line),
                Err(RecvTimeoutError::Disconnected) => return,
                Err(RecvTimeoutError::Timeout) => panic!("still running; so far: {:#?}", self.seen),
            }
        }
    }
}

/// Opens a session over standard input and output.
pub(crate) fn handshake(executor: &mut Executor) {
    executor.send(
        &serde_json::json!({"id": 1, "method": "initialize", "params": {"clientName": "test"}}),
    );
    let answer = executor.answer(1);
    assert!(answer["result"]["sessionId"].is_string(), "{answer}");
    executor.send(&serde_json::json!({"method": "initialized"}));
}
