//! A child process with captured output and an owned lifetime.

use std::{
    ffi::OsStr,
    path::Path,
    process::{ExitStatus, Stdio},
    time::Duration,
};

use anyhow::{Context as _, Result, bail};
use rustix::process::{Pid, Signal, kill_process};
use tempfile::TempDir;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    process::{ChildStdin, Command},
    task::JoinSet,
    time::timeout,
};

use super::{Binary, Log, locate};

/// A program that is about to be started.
#[derive(Debug)]
pub struct Launch {
    name: String,
    command: Command,
    home: TempDir,
}

impl Launch {
    /// Prepares `binary` with a home directory of its own and an environment that holds only
    /// `PATH`, `HOME` and what the test adds.
    ///
    /// # Errors
    ///
    /// When the binary has not been built or installed.
    pub fn new(binary: Binary) -> Result<Self> {
        Self::program(binary.name(), &locate(binary)?)
    }

    /// Prepares any program in the same way.
    ///
    /// # Errors
    ///
    /// When its home directory cannot be made.
    pub fn program(name: &str, program: &Path) -> Result<Self> {
        let home = tempfile::Builder::new().prefix("e2e-home-").tempdir()?;
        let path = std::env::var_os("PATH").context("PATH is not set")?;
        let mut command = Command::new(program);
        command
            .env_clear()
            .env("PATH", path)
            .env("HOME", home.path())
            .env("NO_COLOR", "1")
            .kill_on_drop(true);
        Ok(Self {
            name: name.to_owned(),
            command,
            home,
        })
    }

    /// Adds one argument.
    #[must_use]
    pub fn arg(mut self, arg: impl AsRef<OsStr>) -> Self {
        self.command.arg(arg);
        self
    }

    /// Adds arguments.
    #[must_use]
    pub fn args(mut self, args: impl IntoIterator<Item = impl AsRef<OsStr>>) -> Self {
        self.command.args(args);
        self
    }

    /// Sets an environment variable.
    #[must_use]
    pub fn env(mut self, name: &str, value: impl AsRef<OsStr>) -> Self {
        self.command.env(name, value);
        self
    }

    /// Sets the working directory.
    #[must_use]
    pub fn current_dir(mut self, directory: &Path) -> Self {
        self.command.current_dir(directory);
        self
    }

    /// The home directory that the program will get; tests may put files there first.
    pub fn home(&self) -> &Path {
        self.home.path()
    }

    /// The command itself, for tests that connect its input and output to something else. Its home
    /// directory is that of nobody.
    pub fn into_command(mut self) -> Command {
        self.command.env("HOME", "/nonexistent");
        self.command
    }

    /// Starts the program and leaves it running.
    ///
    /// # Errors
    ///
    /// When the program cannot be started.
    pub fn spawn(self) -> Result<Child> {
        self.spawn_on(Stdio::null())
    }

    /// Starts the program, leaves it running, and returns its standard input as well.
    ///
    /// # Errors
    ///
    /// When the program cannot be started.
    pub fn spawn_with_input(self) -> Result<(Child, ChildStdin)> {
        let mut child = self.spawn_on(Stdio::piped())?;
        let input = child.process.stdin.take().context("stdin is piped")?;
        Ok((child, input))
    }

    fn spawn_on(mut self, stdin: Stdio) -> Result<Child> {
        self.command
            .stdin(stdin)
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        let mut process = self
            .command
            .spawn()
            .with_context(|| format!("failed to start {}", self.name))?;
        let (stdout, stderr) = (Log::new(), Log::new());
        let mut readers = JoinSet::new();
        if let Some(pipe) = process.stdout.take() {
            readers.spawn(stdout.clone().capture(pipe));
        }
        if let Some(pipe) = process.stderr.take() {
            readers.spawn(stderr.clone().capture(pipe));
        }
        Ok(Child {
            name: self.name,
            process,
            stdout,
            stderr,
            readers,
            _home: self.home,
        })
    }

    /// Runs the program to its end with `input` on its standard input.
    ///
    /// # Errors
    ///
    /// When it cannot be started or does not end within `deadline`.
    pub async fn finish(mut self, input: &[u8], deadline: Duration) -> Result<Finished> {
        self.command
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        let mut process = self
            .command
            .spawn()
            .with_context(|| format!("failed to start {}", self.name))?;
        let stdin = process.stdin.take();
        let mut stdout_pipe = process.stdout.take().context("stdout is piped")?;
        let mut stderr_pipe = process.stderr.take().context("stderr is piped")?;
        let (mut stdout, mut stderr) = (Vec::new(), Vec::new());
        let run = async {
            let feed = async {
                if let Some(mut stdin) = stdin {
                    // The program may end without reading all of its input.
                    drop(stdin.write_all(input).await);
                }
            };
            let (_, out, err, status) = tokio::join!(
                feed,
                stdout_pipe.read_to_end(&mut stdout),
                stderr_pipe.read_to_end(&mut stderr),
                process.wait()
            );
            out?;
            err?;
            status
        };
        let ended = timeout(deadline, run).await;
        let stderr = String::from_utf8_lossy(&stderr).into_owned();
        let Ok(status) = ended else {
            bail!(
                "{} still runs after {deadline:?}; stderr so far:\n{stderr}",
                self.name
            );
        };
        Ok(Finished {
            status: status?,
            stdout,
            stderr,
        })
    }
}

/// What a program left behind.
#[derive(Debug)]
pub struct Finished {
    /// How it ended.
    pub status: ExitStatus,
    /// Its standard output, byte for byte.
    pub stdout: Vec<u8>,
    /// Its standard error.
    pub stderr: String,
}

impl Finished {
    /// The exit code, if it was not killed by a signal.
    pub fn code(&self) -> Option<i32> {
        self.status.code()
    }
}

/// A running program; killed when dropped.
#[derive(Debug)]
pub struct Child {
    name: String,
    process: tokio::process::Child,
    stdout: Log,
    stderr: Log,
    readers: JoinSet<()>,
    _home: TempDir,
}

impl Child {
    /// Lines of its standard output.
    pub fn stdout(&self) -> &Log {
        &self.stdout
    }

    /// Lines of its standard error.
    pub fn stderr(&self) -> &Log {
        &self.stderr
    }

    /// Its process id.
    ///
    /// # Errors
    ///
    /// When it has ended.
    pub fn pid(&self) -> Result<u32> {
        self.process
            .id()
            .with_context(|| format!("{} has ended", self.name))
    }

    /// Checks that it still runs.
    ///
    /// # Errors
    ///
    /// When it has ended; the error shows its standard error.
    pub fn still_runs(&mut self) -> Result<()> {
        if let Some(status) = self.process.try_wait()? {
            bail!("{} ended with {status}:\n{}", self.name, self.stderr.text());
        }
        Ok(())
    }

    /// Sends `signal`.
    ///
    /// # Errors
    ///
    /// When it has ended.
    pub fn signal(&self, signal: Signal) -> Result<()> {
        let id = i32::try_from(self.pid()?)?;
        let pid = Pid::from_raw(id).context("a process id is not zero")?;
        kill_process(pid, signal).with_context(|| format!("failed to signal {}", self.name))
    }

    /// Kills it at once and waits for its end.
    ///
    /// # Errors
    ///
    /// When the system refuses.
    pub async fn kill(&mut self) -> Result<()> {
        self.process
            .kill()
            .await
            .with_context(|| format!("failed to kill {}", self.name))
    }

    /// Waits for its end by itself, and for the end of its output.
    ///
    /// # Errors
    ///
    /// When it still runs at the deadline.
    pub async fn ended(&mut self, deadline: Duration) -> Result<ExitStatus> {
        let end = async {
            let status = self.process.wait().await;
            while self.readers.join_next().await.is_some() {}
            status
        };
        match timeout(deadline, end).await {
            Ok(status) => Ok(status?),
            Err(_) => bail!("{} still runs after {deadline:?}", self.name),
        }
    }

    /// Checks that nothing in its output speaks of a panic.
    ///
    /// # Errors
    ///
    /// When something does; the error shows the output.
    pub fn never_panicked(&self) -> Result<()> {
        let text = format!("{}\n{}", self.stdout.text(), self.stderr.text());
        if text.contains("panicked") {
            bail!("{} panicked:\n{text}", self.name);
        }
        Ok(())
    }
}
