//! What a sandbox costs: a program and a file request, without one and with one, in turns.
//!
//! The executor listens, and the client is as bare as can be, so that little else is in the times.

use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail, ensure};
use serde_json::{Value, json};
use testkit::peer::Peer;
use testkit::processes::{CodexListener, Listener};
use testkit::workspace::Workspace;

use crate::promise::Promise;
use crate::series::Series;
use crate::subject::Subject;

pub(crate) async fn run(subject: Subject) -> Result<Vec<Series>> {
    let workspace = Workspace::new()?;
    // The reference confines nothing with its state in a directory for temporary files.
    let state = tempfile::tempdir_in("/var/tmp")?;
    let (mut executor, url) = match subject {
        Subject::Ours => Listener::start(&workspace, &[]).await?,
        Subject::Reference => CodexListener::start_confining(&workspace, state.path()).await?,
        Subject::Ssh | Subject::Machine => bail!("{} does not listen", subject.name()),
    };
    let mut bench = Bench {
        peer: Peer::connect(&url).await?,
        root: format!("file://{}", path_text(workspace.path())?),
        number: 0,
    };
    let mut all: Vec<(&'static str, Vec<Duration>)> = ROWS.map(|name| (name, Vec::new())).into();
    for round in 0..WARM_UP + ROUNDS {
        for ((_, times), row) in all.iter_mut().zip(ROWS) {
            let time = bench.time(row).await?;
            if round >= WARM_UP {
                times.push(time);
            }
        }
    }
    executor.never_panicked()?;
    executor.kill().await?;
    let added = ADDED.map(|(name, with, without, promises)| {
        let times = |row| {
            let found = all.iter().find(|(name, _)| *name == row);
            found.map(|(_, times)| times.as_slice()).unwrap_or_default()
        };
        // Each beside the one of the same round.
        let pairs = times(with).iter().zip(times(without));
        let added = pairs.map(|(with, without)| with.saturating_sub(*without));
        Series::times(name, added.collect()).promised(promises)
    });
    let all = all.into_iter();
    let all = all.map(|(name, times)| Series::times(name, times));
    Ok(all.chain(added).collect())
}

struct Bench {
    peer: Peer,
    root: String,
    number: u32,
}

impl Bench {
    async fn time(&mut self, row: &str) -> Result<Duration> {
        self.number += 1;
        let (params, is_program) = match row {
            PROGRAM => (self.program(&Value::Null), true),
            PROGRAM_READ_ONLY => (self.program(&self.context(&[])), true),
            PROGRAM_WORKSPACE => (self.program(&self.context(&self.workspace())), true),
            READ => (self.read(&Value::Null), false),
            READ_CONFINED => {
                let mut entries = self.workspace();
                entries.push(self.denied("image.png"));
                (self.read(&self.context(&entries)), false)
            }
            // A policy that was not there before.
            _ => {
                let mut entries = self.workspace();
                entries.push(self.denied(&format!("secret-{}", self.number)));
                (self.read(&self.context(&entries)), false)
            }
        };
        let start = Instant::now();
        if is_program {
            let ended = self.peer.run(params).await?;
            let time = start.elapsed();
            let ended = ended.map_err(|(_, text)| anyhow::anyhow!(text))?;
            ensure!(ended.code == Some(0), "{ended:?}");
            return Ok(time);
        }
        let read = self.peer.call("fs/readFile", params).await?;
        let time = start.elapsed();
        read.map_err(|(_, text)| anyhow::anyhow!(text))?;
        Ok(time)
    }

    fn program(&self, sandbox: &Value) -> Value {
        json!({
            "processId": format!("p{}", self.number), "argv": ["/bin/true"], "cwd": self.root,
            "env": {}, "tty": false, "sandbox": sandbox,
        })
    }

    fn read(&self, sandbox: &Value) -> Value {
        json!({"path": format!("{}/AGENTS.md", self.root), "sandbox": sandbox})
    }

    /// Everything may be read, and what else the entries say.
    fn context(&self, more: &[Value]) -> Value {
        let mut entries = vec![special("root", "read")];
        entries.extend_from_slice(more);
        json!({
            "permissions": {"type": "managed", "network": "restricted",
                "file_system": {"type": "restricted", "entries": entries}},
            "cwd": self.root, "workspaceRoots": [self.root], "windowsSandboxLevel": "disabled",
        })
    }

    fn workspace(&self) -> Vec<Value> {
        ["project_roots", "slash_tmp"]
            .map(|kind| special(kind, "write"))
            .into()
    }

    fn denied(&self, name: &str) -> Value {
        let path = format!("{}/{name}", self.root);
        json!({"path": {"type": "path", "path": path}, "access": "deny"})
    }
}

fn special(kind: &str, access: &str) -> Value {
    json!({"path": {"type": "special", "value": {"kind": kind}}, "access": access})
}

fn path_text(path: &Path) -> Result<&str> {
    path.to_str().context("the path is no text")
}

const PROGRAM: &str = "`/bin/true` until closed, no sandbox";
const PROGRAM_READ_ONLY: &str = "the same, read-only";
const PROGRAM_WORKSPACE: &str = "the same, workspace-write";
const READ: &str = "`fs/readFile`, no sandbox";
const READ_CONFINED: &str = "the same, one file denied";
const READ_FIRST: &str = "the same, first of its policy";

const ROWS: [&str; 6] = [
    PROGRAM,
    PROGRAM_READ_ONLY,
    PROGRAM_WORKSPACE,
    READ,
    READ_CONFINED,
    READ_FIRST,
];

/// What a sandbox adds: a row, two others of which it is the difference, and what is promised.
const ADDED: [(&str, &str, &str, &[Promise]); 2] = [
    (
        "what workspace-write adds to a program",
        PROGRAM_WORKSPACE,
        PROGRAM,
        &[Promise::AtMost(5.0)],
    ),
    (
        "what a denied file adds to a request",
        READ_CONFINED,
        READ,
        &[Promise::AtMost(1.0)],
    ),
];

/// The first ones find their way.
const WARM_UP: u32 = 5;
const ROUNDS: u32 = 60;
