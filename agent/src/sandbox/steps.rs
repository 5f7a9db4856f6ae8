//! From rules to the mounts that enforce them, in the order in which they are made.
//!
//! The sandbox's root is a copy of the host's tree of mounts, read-only or writable as the rule for `/`
//! says, or an empty directory. On top of it, from the root downwards:
//!
//! ```text
//! Bind     the host's file or directory, writable or read-only
//! Cover    an empty directory; with mount points in it where something deeper shows again
//! Blank    an empty file that cannot be read
//! Occupy   an empty directory over a placeholder, where nothing may be created
//! Pin      a directory or link over itself: a mount point cannot be renamed or removed
//! ```
//!
//! Pins keep the meaning of names: without them a command could rename the directory around a
//! protected path, or replace a link on the way to it, and put its own content under the protected name.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::policy::{Access, Rules};
use super::refusal::Refusal;
use super::view::{Kind, View};

/// The mounts of a sandbox.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct MountPlan {
    pub(crate) base: Base,
    /// Each directory comes before what is in it.
    pub(crate) steps: Vec<Step>,
}

/// What the root directory is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Base {
    /// The host's.
    Host { writable: bool },
    /// An empty directory with those mount points.
    Empty { points: Vec<Point> },
}

/// One mount.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Step {
    #[serde(with = "super::raw")]
    pub(crate) path: PathBuf,
    pub(crate) action: Action,
}

/// What is mounted.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Action {
    Bind { writable: bool },
    Cover { mode: u32, points: Vec<Point> },
    Blank,
    Occupy { mode: u32 },
    Pin,
}

/// Something to mount on in an empty directory. Directories on the way are made as needed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Point {
    /// Absolute; below the directory.
    #[serde(with = "super::raw")]
    pub(crate) path: PathBuf,
    pub(crate) kind: PointKind,
}

/// What a mount point is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum PointKind {
    Directory,
    File,
    /// Nothing is mounted on it: it leads to where something is.
    Link(#[serde(with = "super::raw")] PathBuf),
}

impl MountPlan {
    /// The mounts that enforce `rules`.
    ///
    /// # Errors
    ///
    /// [`Refusal::Unenforceable`] if a link that has to be shown cannot be read.
    pub(crate) fn new(rules: &Rules, view: &impl View) -> Result<Self, Refusal> {
        let root = Path::new("/");
        let mut builder = Builder {
            effective: BTreeMap::from([(root.to_owned(), rules.access(root))]),
            actions: BTreeMap::new(),
            points: BTreeMap::new(),
        };
        for (path, rule) in rules.by_path.iter().filter(|(path, _)| *path != root) {
            match (&rule.first_missing, rule.kind) {
                (Some(missing), _) => builder.keep_missing(missing, rule.access),
                (None, Some(kind)) => builder.mount(path, kind, rule.access),
                (None, None) => {}
            }
        }
        for link in &rules.links {
            builder.link(link, view)?;
        }
        Ok(builder.finish())
    }

    /// Every file as the host has it, but for what no command may touch.
    pub(crate) fn unrestricted() -> Self {
        Self {
            base: Base::Host { writable: true },
            steps: Vec::new(),
        }
    }

    /// Where files may be written, for the second layer.
    pub(crate) fn writable(&self) -> impl Iterator<Item = &Path> {
        let base = matches!(self.base, Base::Host { writable: true }).then_some(Path::new("/"));
        let steps = self.steps.iter().filter_map(|step| match step.action {
            Action::Bind { writable: true } => Some(step.path.as_path()),
            _ => None,
        });
        base.into_iter().chain(steps)
    }

    /// Names that do not exist and must not come into being.
    pub(crate) fn occupied(&self) -> impl Iterator<Item = &Path> {
        self.steps.iter().filter_map(|step| match step.action {
            Action::Occupy { .. } => Some(step.path.as_path()),
            _ => None,
        })
    }
}

struct Builder {
    /// The access that a mount gives to what is below it.
    effective: BTreeMap<PathBuf, Access>,
    actions: BTreeMap<PathBuf, Action>,
    /// By the directory that is empty.
    points: BTreeMap<PathBuf, Vec<Point>>,
}

impl Builder {
    /// The mount that a path shows through, and what it allows.
    fn above(&self, path: &Path) -> (PathBuf, Access) {
        path.ancestors()
            .skip(1)
            .find_map(|above| Some((above.to_owned(), *self.effective.get(above)?)))
            .unwrap_or_else(|| (PathBuf::from("/"), Access::Hidden))
    }

    fn mount(&mut self, path: &Path, kind: Kind, access: Access) {
        let (above, around) = self.above(path);
        let is_directory = kind == Kind::Directory;
        let action = match (access, around) {
            (wanted, present) if wanted == present => return,
            // What is not there cannot be read either.
            (Access::Deny, Access::Hidden) | (Access::Hidden, Access::Deny) => return,
            (Access::Read, _) => Action::Bind { writable: false },
            (Access::Write, _) => Action::Bind { writable: true },
            (Access::Deny, _) if is_directory => Action::Cover {
                mode: 0o000,
                points: Vec::new(),
            },
            (Access::Hidden, _) if is_directory => Action::Cover {
                mode: 0o555,
                points: Vec::new(),
            },
            (Access::Deny | Access::Hidden, _) => Action::Blank,
        };
        self.keep_around(path, &above, around);
        if matches!(around, Access::Deny | Access::Hidden) {
            let kind = if is_directory {
                PointKind::Directory
            } else {
                PointKind::File
            };
            self.point(above, path, kind);
        }
        self.effective.insert(path.to_owned(), access);
        self.actions.insert(path.to_owned(), action);
    }

    /// A path that does not exist must not be created. Where nothing can be written, nothing has to be
    /// done.
    fn keep_missing(&mut self, path: &Path, access: Access) {
        let (above, around) = self.above(path);
        if around != Access::Write {
            return;
        }
        let mode = if access == Access::Deny { 0o000 } else { 0o555 };
        self.keep_around(path, &above, around);
        match self.actions.get_mut(path) {
            Some(Action::Occupy { mode: present }) => *present &= mode,
            _ => {
                self.actions
                    .insert(path.to_owned(), Action::Occupy { mode });
                self.effective.insert(path.to_owned(), access);
            }
        }
    }

    /// Keeps the directories between a writable mount and a path below from being renamed.
    fn keep_around(&mut self, path: &Path, above: &Path, around: Access) {
        if around != Access::Write {
            return;
        }
        for between in path.ancestors().skip(1).take_while(|path| *path != above) {
            self.actions
                .entry(between.to_owned())
                .or_insert(Action::Pin);
        }
    }

    /// Keeps a link as it is, or shows it where its directory is empty.
    fn link(&mut self, link: &Path, view: &impl View) -> Result<(), Refusal> {
        let (above, around) = self.above(link);
        match around {
            Access::Write => {
                self.keep_around(link, &above, around);
                self.actions.entry(link.to_owned()).or_insert(Action::Pin);
            }
            // Under a denied directory a narrower rule shows something, by the way that leads there.
            Access::Hidden | Access::Deny => {
                let target = view.read_link(link).map_err(|err| {
                    Refusal::Unenforceable(format!("a link of the policy cannot be read: {err}"))
                })?;
                self.point(above, link, PointKind::Link(target));
            }
            Access::Read => {}
        }
        Ok(())
    }

    fn point(&mut self, above: PathBuf, path: &Path, kind: PointKind) {
        let points = self.points.entry(above).or_default();
        if !points.iter().any(|point| point.path == path) {
            points.push(Point {
                path: path.to_owned(),
                kind,
            });
        }
    }

    fn finish(mut self) -> MountPlan {
        let root = PathBuf::from("/");
        let base = match self.effective.get(&root) {
            Some(Access::Write) => Base::Host { writable: true },
            Some(Access::Read) => Base::Host { writable: false },
            _ => Base::Empty {
                points: self.points.remove(&root).unwrap_or_default(),
            },
        };
        let mut steps = Vec::with_capacity(self.actions.len());
        for (path, mut action) in self.actions {
            if let Action::Cover { mode, points } = &mut action
                && let Some(inside) = self.points.remove(&path)
            {
                // Passing through is needed to get to what shows; listing is not.
                *mode |= 0o111;
                *points = inside;
            }
            steps.push(Step { path, action });
        }
        MountPlan { base, steps }
    }
}

#[cfg(test)]
mod tests;
