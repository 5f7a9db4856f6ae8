use std::fs::File;
use std::io::Read as _;
use std::os::fd::AsRawFd as _;

use rustix::pipe::{PipeFlags, pipe_with};

use super::*;

/// A shell that runs `script` with a pipe for output. Tells what it printed and how it ended.
#[derive(Clone)]
struct Shell {
    script: String,
    cwd: String,
    program: String,
    bounds: Bounds,
}

impl Shell {
    fn new(script: &str) -> Self {
        Self {
            script: script.to_owned(),
            cwd: "/".to_owned(),
            program: "/bin/sh".to_owned(),
            bounds: Bounds::default(),
        }
    }

    fn start(&self, inherited: Vec<BorrowedFd<'_>>) -> io::Result<(Started, File)> {
        let (ours, theirs) = pipe_with(PipeFlags::CLOEXEC)?;
        let null = File::open("/dev/null")?;
        let process = NewProcess {
            program: Path::new(&self.program),
            argv: ["sh", "-c", &self.script].map(OsStr::new).to_vec(),
            environment: vec!["PATH=/usr/bin:/bin".into(), "SOME=thing".into()],
            cwd: Path::new(&self.cwd),
            standard: [null.as_fd(), theirs.as_fd(), theirs.as_fd()],
            terminal: false,
            inherited,
            bounds: Some(&self.bounds),
        };
        Ok((process.start()?, ours.into()))
    }

    fn output(&self) -> String {
        let (started, mut output) = self.start(Vec::new()).unwrap();
        let mut text = String::new();
        output.read_to_string(&mut text).unwrap();
        assert_eq!(code(&started), Some(0), "{text}");
        text
    }
}

fn code(started: &Started) -> Option<i32> {
    let id = WaitId::PidFd(started.pidfd.as_fd());
    let status = waitid(id, WaitIdOptions::EXITED).unwrap().unwrap();
    status.exit_status()
}

#[test]
fn it_gets_its_place_its_environment_and_nothing_else() {
    let mut shell = Shell::new("pwd; env | sort; ls -l /proc/self/fd");
    shell.cwd = "/usr".to_owned();
    let text = shell.output();
    let (variables, descriptors) = text.split_at(text.find("total ").unwrap());
    // The shell adds one of its own.
    let variables: Vec<_> = variables
        .lines()
        .filter(|line| !line.starts_with("PWD="))
        .collect();
    assert_eq!(variables, ["/usr", "PATH=/usr/bin:/bin", "SOME=thing"]);
    // Its output and errors; neither what those are copies of nor the other end. What this process
    // has inherited itself is there too.
    let output = descriptors
        .lines()
        .find_map(|line| line.split_once(" 1 -> "));
    let (_, pipe) = output.unwrap();
    assert_eq!(descriptors.matches(pipe).count(), 2, "{descriptors}");
}

#[test]
fn it_leads_a_session_whose_signals_do_what_they_do_by_default() {
    let text = Shell::new("ps -o sid= -p $$; echo $$; cat /proc/self/status").output();
    let mut words = text.split_whitespace();
    assert_eq!(words.next(), words.next(), "{text}");
    let mask = |name: &str| {
        let line = text.lines().find_map(|line| line.strip_prefix(name));
        u64::from_str_radix(line.unwrap().trim(), 16).unwrap()
    };
    assert_eq!(mask("SigBlk:"), 0);
    assert_eq!(mask("SigCgt:"), 0);
    // This process ignores it, as every Rust program does.
    assert_eq!(mask("SigIgn:") >> (libc::SIGPIPE - 1) & 1, 0);
}

#[test]
fn a_descriptor_that_it_inherits_keeps_its_number() {
    let (ours, theirs) = pipe_with(PipeFlags::CLOEXEC).unwrap();
    let shell = Shell::new(&format!("echo through >&{}", theirs.as_raw_fd()));
    let (started, _) = shell.start(vec![theirs.as_fd()]).unwrap();
    assert_eq!(code(&started), Some(0));
    drop(theirs);
    let mut text = String::new();
    File::from(ours).read_to_string(&mut text).unwrap();
    assert_eq!(text, "through\n");
}

#[test]
fn what_fails_in_the_new_process_is_an_error_here_and_leaves_nothing() {
    let mut nowhere = Shell::new("true");
    nowhere.cwd = "/nowhere".to_owned();
    let mut missing = Shell::new("true");
    missing.program = "/nowhere/program".to_owned();
    let mut no_program = Shell::new("true");
    no_program.program = "/etc/passwd".to_owned();
    for (shell, errno) in [
        (nowhere, libc::ENOENT),
        (missing, libc::ENOENT),
        (no_program, libc::EACCES),
    ] {
        // Also where the new process has a copy of the memory.
        for group in [None, Some(tempfile::NamedTempFile::new().unwrap())] {
            let mut shell = shell.clone();
            if let Some(group) = &group {
                shell.bounds = Bounds::in_group(group.path());
            }
            let error = shell.start(Vec::new()).unwrap_err();
            assert_eq!(error.raw_os_error(), Some(errno), "{}", shell.program);
        }
    }
    let children = std::fs::read_to_string("/proc/thread-self/children").unwrap();
    assert_eq!(children, "", "somebody was not collected");
}

#[test]
fn it_enters_its_group_itself() {
    let group = tempfile::NamedTempFile::new().unwrap();
    let mut shell = Shell::new("true");
    shell.bounds = Bounds::in_group(group.path());
    shell.output();
    assert_eq!(std::fs::read(group.path()).unwrap(), SELF);
}

/// The executor's memory is not the new process's to change, though it is lent to it.
#[test]
fn many_at_once_leave_the_executor_as_it_was() {
    let threads: Vec<_> = (0..4)
        .map(|thread| {
            std::thread::spawn(move || {
                for n in 0..50 {
                    let text = Shell::new(&format!("echo {thread} {n}")).output();
                    assert_eq!(text, format!("{thread} {n}\n"));
                }
            })
        })
        .collect();
    for thread in threads {
        thread.join().unwrap();
    }
}
