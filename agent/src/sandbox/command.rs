//! `exec-server sandbox`: a policy without a client, for people who debug one.
//!
//! The command runs exactly as a client's would, with this terminal's input and output and without a
//! controlling terminal. `explain` prints what a policy comes to on this host, and starts nothing.

use std::ffi::{OsStr, OsString};
use std::fmt;
use std::io::{self, Read as _, Write as _};
use std::os::fd::AsFd as _;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};

use exec_proto::sandbox::SandboxContext;
use rustix::event::{PollFd, PollFlags, poll};
use rustix::process::{Pid, PidfdFlags, Signal, kill_process, pidfd_open};
use serde_json::{Value, json};

use super::failure::{self, Failure, Stage};
use super::launch::PROGRAM;
use super::policy::{Purpose, evaluate};
use super::steps::MountPlan;
use super::{
    Confinement, FloorKind, Launch, Prepared, Task, Told, explain, relayed, sys, variable, view,
};
use crate::cli::SandboxArguments;
use crate::limits::Bounds;
use crate::process::find_program;

/// Does what was asked, and returns the exit code.
pub fn run(arguments: &SandboxArguments) -> ExitCode {
    match try_run(arguments) {
        Ok(code) => u8::try_from(code).map_or(ExitCode::FAILURE, ExitCode::from),
        Err(problem) => {
            // Nowhere else to report it to.
            let _ = writeln!(io::stderr().lock(), "error: {problem}");
            ExitCode::from(problem.code())
        }
    }
}

fn try_run(arguments: &SandboxArguments) -> Result<i32, Problem> {
    let cwd = std::env::current_dir()?;
    let context = context(arguments, &cwd)?;
    let temporary = std::env::var_os("TMPDIR").map(PathBuf::from);
    let host = view::Host;
    let policy = evaluate(
        &context,
        Purpose::Command(&cwd),
        temporary.as_deref(),
        &host,
    )
    .map_err(|err| Problem::Refused(err.to_string()))?;
    let plan = policy
        .as_ref()
        .and_then(|policy| policy.files.as_ref())
        .map(|rules| MountPlan::new(rules, &host))
        .transpose()
        .map_err(|err| Problem::Refused(err.to_string()))?;
    let [program, rest @ ..] = arguments.command.as_slice() else {
        return Err(Problem::Usage("a command is missing".to_owned()));
    };
    if program == "explain" {
        let text = match rest {
            [] => explain::text(policy.as_ref(), plan.as_ref()),
            [json] if json == "--json" => explain::json(policy.as_ref(), plan.as_ref()),
            _ => {
                let text = "options of the policy come before `explain`, and only --json after it";
                return Err(Problem::Usage(text.to_owned()));
            }
        };
        io::stdout().lock().write_all(text.as_bytes())?;
        return Ok(0);
    }
    let Some(policy) = policy else {
        return Err(Problem::Usage(
            "the policy asks for no sandbox; run the command without one".to_owned(),
        ));
    };
    let confinement = Confinement {
        files: plan,
        network: policy.network,
        isolation: None,
    };
    start(confinement, program, &arguments.command, cwd)
}

/// The context that the arguments describe.
fn context(arguments: &SandboxArguments, cwd: &Path) -> Result<SandboxContext, Problem> {
    let uri = |path: &Path| {
        let uri = exec_proto::PathUri::from_native(&cwd.join(path));
        uri.ok_or_else(|| Problem::Usage("a path is not absolute".to_owned()))
    };
    let roots = match arguments.root.is_empty() {
        true => vec![uri(cwd)?],
        false => arguments
            .root
            .iter()
            .map(|root| uri(root))
            .collect::<Result<_, _>>()?,
    };
    let mut context = json!({
        "cwd": uri(cwd)?, "workspaceRoots": roots, "windowsSandboxLevel": "disabled",
    });
    if let Some(path) = &arguments.profile {
        let text = std::fs::read_to_string(path)?;
        let given: Value = serde_json::from_str(&text)
            .map_err(|err| Problem::Usage(format!("the profile is no JSON: {err}")))?;
        match given.get("permissions").and(given.as_object()) {
            Some(whole) => {
                for (name, value) in whole {
                    context[name] = value.clone();
                }
            }
            None => context["permissions"] = given,
        }
    } else {
        let special = |kind: &str| json!({"type": "special", "value": {"kind": kind}});
        let mut entries = vec![json!({"path": special("root"), "access": "read"})];
        if arguments.policy == FloorKind::WorkspaceWrite {
            for kind in ["project_roots", "slash_tmp", "tmpdir"] {
                entries.push(json!({"path": special(kind), "access": "write"}));
            }
        }
        for place in &arguments.deny {
            let path = match place.contains(['*', '?', '[']) {
                true => json!({"type": "glob_pattern", "pattern": place}),
                false => json!({"type": "path", "path": uri(Path::new(place))?}),
            };
            entries.push(json!({"path": path, "access": "deny"}));
        }
        let network = match arguments.network {
            true => "enabled",
            false => "restricted",
        };
        context["permissions"] = json!({"type": "managed", "network": network,
            "file_system": {"type": "restricted", "entries": entries}});
    }
    serde_json::from_value(context)
        .map_err(|err| Problem::Usage(format!("the profile is not one: {err}")))
}

/// Runs a command to its end.
fn start(
    confinement: Confinement,
    program: &OsStr,
    argv: &[OsString],
    cwd: PathBuf,
) -> Result<i32, Problem> {
    let path = std::env::var_os("PATH");
    let program = find_program(program, path.as_deref(), &cwd).map_err(Problem::Program)?;
    let environment = std::env::vars_os();
    let launch = Launch {
        confinement,
        task: Task::Program {
            program,
            argv: argv.to_vec(),
            environment: environment
                .map(|(name, value)| variable(&name, &value))
                .collect(),
            cwd,
            terminal: false,
        },
        parent: rustix::process::getpid().as_raw_nonzero().get(),
        ways: Vec::new(),
        bounds: Bounds::default(),
    };
    let prepared = launch.prepare()?;
    // It stays in the session of whoever wants it, and gets signals from the terminal.
    let mut command = Command::new(PROGRAM);
    command
        .args(prepared.arguments())
        .env_clear()
        .current_dir("/");
    let Prepared {
        outcome,
        notices,
        inherited,
        ..
    } = prepared;
    let signals = sys::hold_signals()?;
    // There is one thread, so nothing else is started that could inherit them.
    for fd in inherited.iter() {
        let flags = rustix::io::FdFlags::empty();
        rustix::io::fcntl_setfd(fd, flags).map_err(io::Error::from)?;
    }
    let mut child = command.spawn()?;
    drop(inherited);
    let pid = Pid::from_child(&child);
    let ended = pidfd_open(pid, PidfdFlags::empty()).map_err(io::Error::from)?;
    let mut told = Vec::new();
    std::fs::File::from(outcome)
        .take(failure::MAX_BYTES as u64)
        .read_to_end(&mut told)?;
    if let Err(failure) = failure::parse(&told) {
        let _ = child.kill();
        let _ = child.wait();
        return Err(Problem::from(failure));
    }
    let mut told = Told::default();
    loop {
        let mut awaited = vec![
            PollFd::from_borrowed_fd(signals.as_fd(), PollFlags::IN),
            PollFd::from_borrowed_fd(ended.as_fd(), PollFlags::IN),
        ];
        if !told.is_all {
            awaited.push(PollFd::from_borrowed_fd(notices.as_fd(), PollFlags::IN));
        }
        let _ = poll(&mut awaited, None);
        while let Some(signal) = sys::take_signal(&signals) {
            // The end of the child is no signal for it.
            let signal = Signal::from_named_raw(signal).filter(|signal| *signal != Signal::CHILD);
            if let Some(signal) = signal {
                let _ = kill_process(pid, relayed(signal));
            }
        }
        let _ = told.read(&notices);
        if let Some(code) = told.code {
            return Ok(code);
        }
        if let Some(status) = child.try_wait()? {
            return Ok(status.code().unwrap_or(FAILED));
        }
    }
}

/// Why nothing ran.
#[derive(Debug)]
enum Problem {
    Usage(String),
    Refused(String),
    Program(io::Error),
    Io(io::Error),
}

impl Problem {
    fn code(&self) -> u8 {
        match self {
            Self::Usage(_) => 64,
            Self::Refused(_) => 77,
            Self::Program(_) => 127,
            Self::Io(_) => 1,
        }
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Usage(text) => f.write_str(text),
            Self::Refused(text) => write!(f, "the sandbox cannot be enforced: {text}"),
            Self::Program(error) => write!(f, "the command cannot be executed: {error}"),
            Self::Io(error) => write!(f, "{error}"),
        }
    }
}

impl From<io::Error> for Problem {
    fn from(error: io::Error) -> Self {
        Self::Io(error)
    }
}

impl From<Failure> for Problem {
    fn from(failure: Failure) -> Self {
        match failure.stage {
            Stage::Program => Self::Program(failure.error),
            _ => Self::Refused(format!("{failure}: {}", failure.error)),
        }
    }
}

/// When the child was killed from outside.
const FAILED: i32 = 125;
