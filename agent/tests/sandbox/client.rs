//! An executor, a workspace, and commands in it.

use std::collections::VecDeque;
use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::{Value, json};

use crate::support::{Executor, exec_server};

/// An executor over standard input and output.
pub(crate) struct Client {
    pub(crate) executor: Executor,
    events: VecDeque<Value>,
    last_id: i64,
    pub(crate) place: Place,
    /// Notices and questions about the network.
    pub(crate) network: Vec<Value>,
    /// What such questions are answered with.
    pub(crate) decision: Value,
    /// The executor's, unless it is that of the tests.
    pub(crate) user: Option<u32>,
    /// Where every user can execute them.
    programs: tempfile::TempDir,
}

/// What a finished command left.
#[derive(Debug, PartialEq)]
pub(crate) struct Finished {
    pub(crate) code: i64,
    pub(crate) denied: bool,
    pub(crate) output: String,
}

/// A workspace `w` and a directory `o` beside it.
pub(crate) struct Place {
    _directory: tempfile::TempDir,
    pub(crate) root: PathBuf,
}

impl Place {
    pub(crate) fn new() -> Self {
        let directory = tempfile::tempdir().unwrap();
        let root = directory.path().canonicalize().unwrap();
        let place = Self {
            _directory: directory,
            root,
        };
        for (path, content) in [
            ("w/a.txt", "a\n"),
            ("w/.env", "secret\n"),
            ("w/.git/config", "git\n"),
            ("w/sub/b.env", "inner\n"),
            ("w/sub/deep/c.env", "deeper\n"),
            ("w/private/p.txt", "p\n"),
            ("w/private/open/f.txt", "f\n"),
            ("w/docs/d.md", "d\n"),
            ("w2/file", "w2\n"),
            ("o/o.txt", "o\n"),
        ] {
            let path = place.root.join(path);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, content).unwrap();
        }
        place.open();
        place
    }

    /// Lets every user change everything.
    pub(crate) fn open(&self) {
        open_to_all(&self.root);
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.root.join(name)
    }

    pub(crate) fn text(&self, name: &str) -> String {
        self.path(name).to_str().unwrap().to_owned()
    }

    pub(crate) fn uri(&self, name: &str) -> String {
        format!("file://{}", self.text(name))
    }

    /// The names in the workspace.
    pub(crate) fn names(&self) -> Vec<String> {
        let mut names: Vec<String> = std::fs::read_dir(self.path("w"))
            .unwrap()
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .collect();
        names.sort();
        names
    }

    /// A context with restricted files and no network. A place is a path below this, behind `/`; or a
    /// special one; or a pattern behind `glob:`.
    pub(crate) fn context(&self, entries: &[&str]) -> Value {
        let entry = |text: &&str| {
            let (access, place) = text.split_once(' ').unwrap();
            let path = if let Some(pattern) = place.strip_prefix("glob:") {
                json!({"type": "glob_pattern", "pattern": self.text(pattern)})
            } else if let Some(path) = place.strip_prefix('/') {
                json!({"type": "path", "path": self.uri(path)})
            } else {
                json!({"type": "special", "value": {"kind": place}})
            };
            json!({"path": path, "access": access})
        };
        let entries: Vec<Value> = entries.iter().map(entry).collect();
        json!({
            "permissions": {"type": "managed", "network": "restricted",
                "file_system": {"type": "restricted", "entries": entries}},
            "cwd": self.uri("w"), "workspaceRoots": [self.uri("w")],
            "windowsSandboxLevel": "disabled",
        })
    }

    pub(crate) fn read_only(&self) -> Value {
        self.context(&["read root"])
    }

    pub(crate) fn workspace_write(&self, more: &[&str]) -> Value {
        let mut entries = vec!["read root", "write project_roots"];
        entries.extend(more);
        self.context(&entries)
    }
}

/// The same context with network access.
pub(crate) fn with_network(mut context: Value) -> Value {
    context["permissions"]["network"] = "enabled".into();
    context
}

/// What is special about an executor.
#[derive(Debug, Default)]
pub(crate) struct Setup {
    /// Of its environment.
    pub(crate) variables: Vec<(String, String)>,
    /// Besides those that make it listen.
    pub(crate) arguments: Vec<String>,
}

/// Runs `test` with every kind of executor that the user of the tests can start.
pub(crate) fn for_each_user(test: impl Fn(&mut Client)) {
    for_each_user_with(&Setup::default(), test);
}

/// The same with special executors.
pub(crate) fn for_each_user_with(setup: &Setup, test: impl Fn(&mut Client)) {
    test(&mut Client::new(None, setup));
    if rustix::process::geteuid().is_root() {
        test(&mut Client::new(Some(ORDINARY_USER), setup));
    }
}

impl Client {
    fn new(user: Option<u32>, setup: &Setup) -> Self {
        let programs = tempfile::tempdir().unwrap();
        let mut command = Command::new(share(programs.path(), Path::new(EXECUTOR)));
        command.args(["--listen", "stdio"]);
        for (name, value) in exec_server(&[]).get_envs() {
            match value {
                Some(value) => command.env(name, value),
                None => command.env_remove(name),
            };
        }
        command
            .current_dir("/")
            .env("EXECUTOR_ONLY", "value of the executor")
            .args(&setup.arguments)
            .envs(setup.variables.iter().map(|(name, value)| (name, value)));
        if let Some(user) = user {
            command.uid(user).gid(user);
        }
        let mut client = Self {
            executor: Executor::spawn(command),
            events: VecDeque::new(),
            last_id: 0,
            place: Place::new(),
            network: Vec::new(),
            decision: json!({"type": "deny", "reason": "no"}),
            user,
            programs,
        };
        client.ok("initialize", json!({"clientName": "test"}));
        client.executor.send(&json!({"method": "initialized"}));
        client
    }

    /// One more executor of the same user, with a workspace of its own.
    pub(crate) fn another(&self, setup: &Setup) -> Self {
        Self::new(self.user, setup)
    }

    /// Sends a request whose answer nobody waits for.
    pub(crate) fn send(&mut self, method: &str, params: Value) -> i64 {
        self.last_id += 1;
        let id = self.last_id;
        self.executor
            .send(&json!({"id": id, "method": method, "params": params}));
        id
    }

    /// Sends a request and waits for its answer; events before it are kept.
    pub(crate) fn call(&mut self, method: &str, params: Value) -> Result<Value, (i64, String)> {
        let id = self.send(method, params);
        let events = &mut self.events;
        let answer = self.executor.receive(|message| {
            if message.get("method").is_some() {
                events.push_back(message.clone());
                return None;
            }
            (message["id"] == id).then(|| message.clone())
        });
        match answer.get("error") {
            Some(error) => Err((
                error["code"].as_i64().unwrap(),
                error["message"].as_str().unwrap().to_owned(),
            )),
            None => Ok(answer["result"].clone()),
        }
    }

    pub(crate) fn ok(&mut self, method: &str, params: Value) -> Value {
        self.call(method, params)
            .unwrap_or_else(|err| panic!("{method}: {err:?}"))
    }

    /// The executor's program, where every user can start it.
    pub(crate) fn executor_program(&self) -> PathBuf {
        share(self.programs.path(), Path::new(EXECUTOR))
    }

    /// This test program, where the executor can start it.
    pub(crate) fn probe(&self) -> PathBuf {
        share(self.programs.path(), &std::env::current_exe().unwrap())
    }

    /// The parameters of a start in the workspace.
    pub(crate) fn start(&self, argv: &[&str], sandbox: Value) -> Value {
        json!({
            "processId": format!("p{}", self.last_id), "argv": argv, "cwd": self.place.uri("w"),
            "tty": false, "env": {"PATH": "/usr/local/bin:/usr/bin:/bin"}, "sandbox": sandbox,
        })
    }

    /// Runs a script of the POSIX shell to its end, its errors in order with its output.
    pub(crate) fn shell(&mut self, script: &str, sandbox: Value) -> Finished {
        let script = format!("exec 2>&1; {script}");
        let params = self.start(&["/bin/sh", "-c", &script], sandbox);
        self.run(params)
    }

    pub(crate) fn run(&mut self, params: Value) -> Finished {
        let id = params["processId"].clone();
        self.ok("process/start", params);
        self.finish(&id)
    }

    /// Follows a process to its end.
    pub(crate) fn finish(&mut self, id: &Value) -> Finished {
        let mut finished = Finished {
            code: -1,
            denied: false,
            output: String::new(),
        };
        while !self.follow(id, &mut finished) {}
        finished
    }

    /// Follows a process until it has written a text.
    pub(crate) fn until(&mut self, id: &Value, text: &str) -> Finished {
        let mut finished = Finished {
            code: -1,
            denied: false,
            output: String::new(),
        };
        while !finished.output.contains(text) {
            assert!(!self.follow(id, &mut finished), "{finished:?}");
        }
        finished
    }

    fn follow(&mut self, id: &Value, finished: &mut Finished) -> bool {
        let is_of = |event: &Value| event["params"]["processId"] == *id;
        let event = match self.events.iter().position(is_of) {
            Some(at) => self.events.remove(at).unwrap(),
            None => {
                let events = &mut self.events;
                self.executor.receive(|message| {
                    // Nor an answer that nobody waits for.
                    message.get("method")?;
                    if is_of(message) {
                        return Some(message.clone());
                    }
                    events.push_back(message.clone());
                    None
                })
            }
        };
        let params = &event["params"];
        match event["method"].as_str().unwrap() {
            "process/output" => {
                let chunk = exec_proto::base64::decode(params["chunk"].as_str().unwrap()).unwrap();
                finished.output.push_str(&String::from_utf8_lossy(&chunk));
            }
            "process/exited" => {
                finished.code = params["exitCode"].as_i64().unwrap();
                finished.denied = params["sandboxDenied"].as_bool().unwrap();
            }
            "process/closed" => return true,
            "network/policyDecision" => self.network.push(event),
            "network/policyRequest" => {
                let result = json!({"decision": self.decision});
                self.executor
                    .send(&json!({"id": event["id"], "result": result}));
                self.network.push(event);
            }
            other => panic!("unexpected {other}"),
        }
        false
    }
}

/// A file of the build, linked or copied to where every user can execute it.
fn share(directory: &Path, file: &Path) -> PathBuf {
    open_to_all(directory);
    let shared = directory.join(file.file_name().unwrap());
    if !shared.exists() && std::fs::hard_link(file, &shared).is_err() {
        std::fs::copy(file, &shared).unwrap();
    }
    shared
}

pub(crate) fn open_to_all(path: &Path) {
    let metadata = std::fs::symlink_metadata(path).unwrap();
    if metadata.is_symlink() {
        return;
    }
    let mode = metadata.permissions().mode() | 0o666 | if metadata.is_dir() { 0o111 } else { 0 };
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode)).unwrap();
    if metadata.is_dir() {
        for entry in std::fs::read_dir(path).unwrap() {
            open_to_all(&entry.unwrap().path());
        }
    }
}

const EXECUTOR: &str = env!("CARGO_BIN_EXE_exec-server");

/// `nobody` on most systems; need not have a name.
const ORDINARY_USER: u32 = 65_534;
