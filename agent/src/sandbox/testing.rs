//! A host of a few names, and contexts in short form, for tests.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::io;
use std::path::{Path, PathBuf};

use exec_proto::sandbox::SandboxContext;
use serde_json::{Value, json};

use super::policy::{Policy, Purpose, evaluate};
use super::refusal::Refusal;
use super::view::{Kind, View};

/// Names and what they are.
#[derive(Debug, Clone, Default)]
pub(crate) struct Names(BTreeMap<PathBuf, Node>);

#[derive(Debug, Clone)]
enum Node {
    Directory,
    File(&'static str),
    Link(PathBuf),
    Placeholder,
}

impl Names {
    /// The workspace of the cases: `/w` with a repository, and `/o` outside of it.
    pub(crate) fn workspace() -> Self {
        let mut names = Self::default();
        for path in [
            "/w/.git/config",
            "/w/a.txt",
            "/w/.env",
            "/w/sub/b.env",
            "/w/sub/deep/c.env",
            "/w/private/p.txt",
            "/w/docs/d.md",
            "/o/o.txt",
            "/usr/bin/sh",
            "/etc/hosts",
            "/tmp/t",
            "/proc/self/environ",
        ] {
            names = names.file(path, "");
        }
        names = names
            .directory("/w/private/open")
            .directory("/run/systemd/resolve")
            .directory("/dev");
        names.link("/bin", "usr/bin")
    }

    pub(crate) fn directory(mut self, path: &str) -> Self {
        self.parents(path);
        self.0.insert(path.into(), Node::Directory);
        self
    }

    pub(crate) fn file(mut self, path: &str, content: &'static str) -> Self {
        self.parents(path);
        self.0.insert(path.into(), Node::File(content));
        self
    }

    pub(crate) fn link(mut self, path: &str, target: &str) -> Self {
        self.parents(path);
        self.0.insert(path.into(), Node::Link(target.into()));
        self
    }

    pub(crate) fn placeholder(mut self, path: &str) -> Self {
        self.0.insert(path.into(), Node::Placeholder);
        self
    }

    pub(crate) fn without(mut self, path: &str) -> Self {
        self.0.retain(|name, _| !name.starts_with(path));
        self
    }

    fn parents(&mut self, path: &str) {
        for parent in Path::new(path).ancestors().skip(1) {
            self.0.entry(parent.to_owned()).or_insert(Node::Directory);
        }
    }
}

impl View for Names {
    fn kind(&self, path: &Path) -> io::Result<Option<Kind>> {
        Ok(self.0.get(path).map(|node| match node {
            Node::Directory => Kind::Directory,
            Node::File(_) => Kind::File,
            Node::Link(_) => Kind::Link,
            Node::Placeholder => Kind::Placeholder,
        }))
    }

    fn read_link(&self, path: &Path) -> io::Result<PathBuf> {
        match self.0.get(path) {
            Some(Node::Link(target)) => Ok(target.clone()),
            _ => Err(io::ErrorKind::InvalidInput.into()),
        }
    }

    fn names(&self, path: &Path) -> io::Result<Vec<OsString>> {
        Ok(self
            .0
            .keys()
            .filter(|name| name.parent() == Some(path))
            .filter_map(|name| name.file_name().map(ToOwned::to_owned))
            .collect())
    }

    fn head(&self, path: &Path) -> io::Result<Vec<u8>> {
        match self.0.get(path) {
            Some(Node::File(content)) => Ok(content.as_bytes().to_vec()),
            _ => Err(io::ErrorKind::NotFound.into()),
        }
    }
}

/// An entry from `ACCESS PLACE`. A place is a path, a pattern behind `glob:`, or a special place with
/// its subpath behind a slash.
pub(crate) fn entry(text: &str) -> Value {
    let (access, place) = text.split_once(' ').unwrap();
    let (place, skip) = match place.strip_suffix(" skip") {
        Some(place) => (place, true),
        None => (place, false),
    };
    let path = if let Some(pattern) = place.strip_prefix("glob:") {
        json!({"type": "glob_pattern", "pattern": pattern})
    } else if place.starts_with('/') {
        json!({"type": "path", "path": format!("file://{place}")})
    } else {
        let (kind, subpath) = match place.split_once('/') {
            Some((kind, subpath)) => (kind, Some(subpath)),
            None => (place, None),
        };
        json!({"type": "special", "value": {"kind": kind, "subpath": subpath}})
    };
    let mut entry = json!({"path": path, "access": access});
    if skip {
        entry["missing_path_behavior"] = "skip".into();
    }
    entry
}

/// A context with restricted files, the root `/w` and no network.
pub(crate) fn context(entries: &[&str]) -> Value {
    let entries: Vec<_> = entries.iter().map(|text| entry(text)).collect();
    json!({
        "permissions": {
            "type": "managed", "network": "restricted",
            "file_system": {"type": "restricted", "entries": entries},
        },
        "cwd": "file:///w", "workspaceRoots": ["file:///w"], "windowsSandboxLevel": "disabled",
    })
}

/// What a context means for a command in `/w` whose executor has `/tmp/own` for temporary files.
pub(crate) fn policy(view: &impl View, context: Value) -> Result<Option<Policy>, Refusal> {
    let context: SandboxContext = serde_json::from_value(context).unwrap();
    let purpose = Purpose::Command(Path::new("/w"));
    evaluate(&context, purpose, Some(Path::new("/tmp/own")), view)
}
