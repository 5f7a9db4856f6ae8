//! The sandbox of the reference and ours, asked the same: what a client sees must be the same.
//!
//! Only cases in which the reference does what it should; where it is weaker, we differ, and other
//! tests are about that.

use std::path::Path;

use anyhow::{Context as _, Result};
use serde_json::{Value, json};
use tempfile::TempDir;
use testkit::{
    peer::Peer,
    processes::{Child, CodexListener, Listener},
    workspace::Workspace,
};

/// An executor, its workspace, and a directory beside that.
struct Side {
    executor: Child,
    peer: Peer,
    workspace: Workspace,
    outside: TempDir,
    _state: TempDir,
}

#[derive(Clone, Copy)]
enum Whose {
    Ours,
    Reference,
}

impl Side {
    async fn start(whose: Whose) -> Result<Self> {
        let workspace = Workspace::new()?;
        let outside = tempfile::tempdir_in("/var/tmp")?;
        std::fs::write(outside.path().join("o.txt"), "o\n")?;
        for (name, content) in [
            ("a.txt", "a\n"),
            (".env", "secret\n"),
            ("sub/b.env", "inner\n"),
            ("private/p.txt", "p\n"),
            ("docs/d.md", "d\n"),
            (".git/config", "[core]\n"),
        ] {
            let path = workspace.path().join(name);
            std::fs::create_dir_all(path.parent().context("no parent")?)?;
            std::fs::write(path, content)?;
        }
        let state = tempfile::tempdir_in("/var/tmp")?;
        let (executor, url) = match whose {
            Whose::Ours => Listener::start(&workspace, &[]).await?,
            Whose::Reference => CodexListener::start_confining(&workspace, state.path()).await?,
        };
        Ok(Self {
            executor,
            peer: Peer::connect(&url).await?,
            workspace,
            outside,
            _state: state,
        })
    }

    /// A place below `$w`, the workspace, or `$o`, the directory beside it.
    fn place(&self, text: &str) -> String {
        let show = |path: &Path| path.display().to_string();
        text.replace("$w", &show(self.workspace.path()))
            .replace("$o", &show(self.outside.path()))
    }

    /// The same backwards.
    fn anonymous(&self, text: &str) -> String {
        let show = |path: &Path| path.display().to_string();
        text.replace(&show(self.workspace.path()), "$w")
            .replace(&show(self.outside.path()), "$o")
    }

    fn context(&self, policy: Policy) -> Value {
        let special = |kind: &str, access: &str| json!({"path": {"type": "special", "value": {"kind": kind}}, "access": access});
        let below = |name: &str| {
            json!({"path": {"type": "special", "value": {"kind": "project_roots", "subpath": name}},
                "access": "read", "missing_path_behavior": "skip"})
        };
        let path = |place: &str, access: &str| {
            let path = format!("file://{}", self.place(place));
            json!({"path": {"type": "path", "path": path}, "access": access})
        };
        let glob =
            json!({"path": {"type": "glob_pattern", "pattern": "**/*.env"}, "access": "deny"});
        let mut entries = vec![special("root", "read")];
        if policy != Policy::ReadOnly {
            entries.push(special("project_roots", "write"));
            entries.extend([".git", ".agents", ".codex", ".aws"].map(below));
        }
        if policy == Policy::Denying {
            entries.extend([path("$w/private", "deny"), path("$w/docs", "read"), glob]);
        }
        let root = format!("file://{}", self.place("$w"));
        json!({
            "permissions": {"type": "managed", "network": "restricted",
                "file_system": {"type": "restricted", "entries": entries}},
            "cwd": root, "workspaceRoots": [root], "windowsSandboxLevel": "disabled",
        })
    }

    /// What a client sees of a command.
    async fn command(&mut self, number: usize, policy: Policy, script: &str) -> Result<Seen> {
        // One stream, so that there is one order.
        let command = format!("exec 2>&1; {}", self.place(script));
        let params = json!({
            "processId": format!("p{number}"), "argv": ["/bin/sh", "-c", command],
            "cwd": format!("file://{}", self.place("$w")), "tty": false,
            "env": {"PATH": "/usr/bin:/bin"}, "sandbox": self.context(policy),
        });
        Ok(match self.peer.run(params).await? {
            Ok(ended) => {
                let what = format!("{} {:?} {:?}", ended.sandbox, ended.code, ended.output);
                Seen {
                    what: format!("{policy:?} `{}`: {}", script, self.anonymous(&what)),
                    denied: ended.denied,
                }
            }
            Err((code, text)) => Seen::of(format!("{code} {text}")),
        })
    }

    /// What a client sees of a file request.
    async fn request(&mut self, policy: Policy, method: &str, places: Value) -> Result<String> {
        let mut params = json!({"sandbox": self.context(policy)});
        for (name, value) in places.as_object().context("no places")? {
            params[name] = match value.as_str() {
                Some(text) if text.starts_with('$') => {
                    format!("file://{}", self.place(text)).into()
                }
                _ => value.clone(),
            };
        }
        Ok(match self.peer.call(method, params).await? {
            Ok(result) => self.anonymous(&result.to_string()),
            // The words of the system depend on the C library.
            Err((code, text)) => match text.split_once("(os error ") {
                Some((_, number)) => format!("{code} (os error {number}"),
                None => format!("{code} {}", self.anonymous(&text)),
            },
        })
    }

    /// Runs all cases, and then lists what is in the workspace and beside it.
    async fn all(mut self) -> Result<Vec<Seen>> {
        let mut seen = Vec::new();
        for (number, (policy, script)) in COMMANDS.into_iter().enumerate() {
            seen.push(self.command(number, policy, script).await?);
        }
        let requests = [
            (
                Policy::ReadOnly,
                "fs/writeFile",
                json!({"path": "$w/a.txt", "dataBase64": "eA=="}),
            ),
            (Policy::ReadOnly, "fs/readFile", json!({"path": "$w/a.txt"})),
            (
                Policy::ReadOnly,
                "fs/createDirectory",
                json!({"path": "$w/d", "recursive": false}),
            ),
            (
                Policy::Workspace,
                "fs/writeFile",
                json!({"path": "$w/f", "dataBase64": "eA=="}),
            ),
            (
                Policy::Workspace,
                "fs/writeFile",
                json!({"path": "$o/f", "dataBase64": "eA=="}),
            ),
            (
                Policy::Workspace,
                "fs/writeFile",
                json!({"path": "$w/.git/config", "dataBase64": ""}),
            ),
            (
                Policy::Workspace,
                "fs/copy",
                json!({"sourcePath": "$w/a.txt", "destinationPath": "$o/c", "recursive": false}),
            ),
            (
                Policy::Workspace,
                "fs/remove",
                json!({"path": "$o/o.txt", "recursive": false, "force": false}),
            ),
            (
                Policy::Denying,
                "fs/readFile",
                json!({"path": "$w/private/p.txt"}),
            ),
            (
                Policy::Denying,
                "fs/readFile",
                json!({"path": "$w/sub/b.env"}),
            ),
            (Policy::Denying, "fs/readFile", json!({"path": "$w/a.txt"})),
            (Policy::Denying, "fs/readFile", json!({"path": "$w/absent"})),
            (
                Policy::Denying,
                "fs/readDirectory",
                json!({"path": "$w/private"}),
            ),
            (
                Policy::Denying,
                "fs/writeFile",
                json!({"path": "$w/docs/d.md", "dataBase64": ""}),
            ),
        ];
        for (policy, method, places) in requests {
            let asked = format!("{policy:?} {method} {places}");
            let line = self.request(policy, method, places).await?;
            seen.push(Seen::of(format!("{asked}: {line}")));
        }
        for (name, path) in [("$w", self.workspace.path()), ("$o", self.outside.path())] {
            let mut names = Vec::new();
            for entry in std::fs::read_dir(path)? {
                names.push(entry?.file_name());
            }
            names.sort();
            seen.push(Seen::of(format!("{name}: {names:?}")));
        }
        self.executor.never_panicked()?;
        Ok(seen)
    }
}

/// What a client sees.
#[derive(Debug)]
struct Seen {
    what: String,
    /// Whether the sandbox is said to have stopped it.
    denied: bool,
}

impl Seen {
    fn of(what: String) -> Self {
        let denied = false;
        Self { what, denied }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Policy {
    ReadOnly,
    Workspace,
    Denying,
}

#[tokio::test]
async fn the_same_is_confined_as_by_the_reference() -> Result<()> {
    let reference = Side::start(Whose::Reference).await?;
    let ours = Side::start(Whose::Ours).await?;
    let (reference, ours) = tokio::try_join!(reference.all(), ours.all())?;
    for (ours, theirs) in ours.iter().zip(&reference) {
        assert_eq!(ours.what, theirs.what);
        // The reference looks for words in what it has read within 20 ms of the end, which is not
        // always all of it.
        assert!(ours.denied || !theirs.denied, "{}", ours.what);
    }
    assert_eq!(ours.len(), reference.len());
    // Not by both doing nothing.
    let refused = ours.iter().filter(|seen| seen.denied);
    assert_eq!(refused.count(), 10, "{ours:#?}");
    Ok(())
}

/// Of the shell that all systems have, and few of its programs.
const COMMANDS: [(Policy, &str); 20] = [
    (Policy::ReadOnly, "cat a.txt"),
    (Policy::ReadOnly, "echo x > a.txt"),
    (Policy::ReadOnly, "echo x > /tmp/side-by-side"),
    (Policy::ReadOnly, "exit 7"),
    (Policy::ReadOnly, "kill -9 $$"),
    (
        Policy::ReadOnly,
        "grep -e NoNewPrivs -e Seccomp: /proc/self/status",
    ),
    (Policy::ReadOnly, "echo Permission denied; exit 0"),
    (Policy::ReadOnly, "cat"),
    (Policy::Workspace, "echo x > new.txt && cat new.txt"),
    (Policy::Workspace, "echo x > $o/n"),
    (Policy::Workspace, "echo x >> .git/config"),
    (
        Policy::Workspace,
        "mkdir -p sub/.git && echo x > sub/.git/config && cat sub/.git/config",
    ),
    (Policy::Workspace, "echo x > .codex/config.toml"),
    (Policy::Workspace, "echo x > .aws/credentials"),
    (
        Policy::Workspace,
        "ln $o/o.txt linked 2>/dev/null || echo refused",
    ),
    (Policy::Denying, "cat private/p.txt"),
    (Policy::Denying, "cat .env"),
    (Policy::Denying, "cat sub/b.env"),
    (Policy::Denying, "cat docs/d.md && echo x > docs/d.md"),
    (Policy::Denying, "cat a.txt && echo y > a.txt && cat a.txt"),
];
