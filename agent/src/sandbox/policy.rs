//! From the permissions of a request to rules about paths: a pure function over a view of the files.
//!
//! # Precedence
//!
//! Each entry becomes rules about absolute paths without links. For one path, the rule with the most
//! components that is the path itself or an ancestor decides; on the same path deny beats write beats
//! read. A path that a deny pattern matched is denied whatever names it. Without a rule there is no
//! access.
//!
//! Directly under a writable directory, the names of [`METADATA`] are read-only, whether they exist or
//! not, unless an entry grants writing to them or below.
//!
//! # What differs from the reference, always towards less access or what was asked for
//!
//! - A deny on a place that is not known is refused, one on an unset `tmpdir` means `/tmp`.
//! - `tmpdir` is what the context or the executor says, never the environment of the command.
//! - A narrower entry is effective also below a denied directory.
//! - Matches of patterns that are directories or links are denied like files.
//! - With network access, [`SERVICES`] is hidden, where the sockets of daemons are.

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::io;
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Component, Path, PathBuf};

use exec_proto::PathUri;
use exec_proto::sandbox::{
    Access as WireAccess, Entry, EntryPath, FileSystem, MissingPathBehavior, NetworkAccess,
    Permissions, SandboxContext, SpecialKind, SpecialPath, WindowsSandboxLevel,
};

use super::glob::{self, DenyGlob};
use super::refusal::Refusal;
use super::view::{Kind, Resolved, View, resolve};

/// What may be done with a path. Later ones win on the same path.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Access {
    /// It is not there.
    Hidden,
    /// Reading.
    Read,
    /// Reading and writing.
    Write,
    /// Its name shows, its content does not.
    Deny,
}

/// A rule about a path and what is below.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Rule {
    /// What may be done.
    pub(crate) access: Access,
    /// What is there now.
    pub(crate) kind: Option<Kind>,
    /// The first component that does not exist.
    pub(crate) first_missing: Option<PathBuf>,
}

/// What a request is to be confined to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Policy {
    /// `None`: every file as the executor's user may.
    pub(crate) files: Option<Rules>,
    /// Whether sockets may be used.
    pub(crate) network: NetworkAccess,
}

/// Rules by path without links.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Rules {
    /// In the order of paths, so that a directory comes before what is in it.
    pub(crate) by_path: BTreeMap<PathBuf, Rule>,
    /// Links that paths of entries went through. What a name of the policy means must not change.
    pub(crate) links: Vec<PathBuf>,
}

/// What the entries of a request are relative to.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Bases {
    /// For relative patterns.
    pub(crate) cwd: Option<PathBuf>,
    /// What `project_roots` means.
    pub(crate) roots: Vec<PathBuf>,
    /// What `tmpdir` means.
    pub(crate) temporary: Vec<PathBuf>,
}

/// Where a context comes from, which decides about errors and fallbacks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Purpose<'a> {
    /// A command with that working directory.
    Command(&'a Path),
    /// A file request.
    Files,
}

impl Rules {
    /// What may be done with a path without links.
    pub(crate) fn access(&self, path: &Path) -> Access {
        path.ancestors()
            .find_map(|path| self.by_path.get(path))
            .map_or(Access::Hidden, |rule| rule.access)
    }

    fn add(&mut self, resolved: Resolved, access: Access) {
        self.links.extend(resolved.links);
        let rule = Rule {
            access,
            kind: resolved.kind,
            first_missing: resolved.first_missing,
        };
        let present = self.by_path.entry(resolved.path).or_insert(rule);
        present.access = present.access.max(access);
    }
}

impl Bases {
    /// The bases of a context; `default_temporary` is the executor's own.
    pub(crate) fn of(
        context: &SandboxContext,
        purpose: Purpose<'_>,
        default_temporary: Option<&Path>,
    ) -> Result<Self, Refusal> {
        let (cwd, roots) = match &context.policy_context {
            Some(policy) => (policy.cwd.as_ref(), &policy.workspace_roots),
            None => (context.cwd.as_ref(), &context.workspace_roots),
        };
        let cwd = match (cwd, purpose) {
            (Some(uri), _) => Some(base(uri, purpose, "invalid sandbox policy cwd")?),
            (None, Purpose::Command(cwd)) => Some(cwd.to_owned()),
            (None, Purpose::Files) => None,
        };
        let roots = roots
            .iter()
            .map(|uri| base(uri, purpose, "invalid sandbox workspace root"))
            .collect::<Result<_, _>>()?;
        let temporary = match &context.temporary_directories {
            Some(directories) => directories
                .iter()
                .map(|uri| base(uri, purpose, "invalid sandbox temporary directory"))
                .collect::<Result<_, _>>()?,
            None => default_temporary
                .filter(|path| path.is_absolute())
                .map(Path::to_owned)
                .into_iter()
                .collect(),
        };
        Ok(Self {
            cwd,
            roots,
            temporary,
        })
    }
}

/// What a context asks for; `None` if nothing.
pub(crate) fn evaluate(
    context: &SandboxContext,
    purpose: Purpose<'_>,
    default_temporary: Option<&Path>,
    view: &impl View,
) -> Result<Option<Policy>, Refusal> {
    if context.windows_sandbox_level == WindowsSandboxLevel::Mxc {
        return Err(match purpose {
            Purpose::Command(_) => Refusal::Context(NO_MXC.to_owned()),
            Purpose::Files => Refusal::ForeignPath(format!(
                "failed to prepare fs sandbox: failed to prepare MXC sandbox: {NO_MXC}"
            )),
        });
    }
    let (entries, depth, network) = match &context.permissions {
        Permissions::Disabled => return Ok(None),
        Permissions::External { network }
        | Permissions::Managed {
            file_system: FileSystem::Unrestricted,
            network,
        } => return Ok(network_only(*network)),
        Permissions::Managed {
            file_system:
                FileSystem::Restricted {
                    entries,
                    glob_scan_max_depth,
                },
            network,
        } => (entries, glob_scan_max_depth, *network),
    };
    if purpose == Purpose::Files && context.cwd.is_none() && is_dynamic(entries) {
        let text = "file system sandbox context with dynamic permissions requires cwd";
        return Err(Refusal::Context(text.to_owned()));
    }
    // Also for entries that turn out to have no effect.
    let bases = Bases::of(context, purpose, default_temporary)?;
    if !context.restricts_files() {
        return Ok(network_only(network));
    }
    let mut rules = entry_rules(entries, &bases, view)?;
    protect_metadata(&mut rules, view)?;
    if network == NetworkAccess::Enabled {
        hide_services(&mut rules, view)?;
    }
    deny_matches(&mut rules, entries, depth.map(Into::into), &bases, view)?;
    Ok(Some(Policy {
        files: Some(rules),
        network,
    }))
}

fn network_only(network: NetworkAccess) -> Option<Policy> {
    (network == NetworkAccess::Restricted).then_some(Policy {
        files: None,
        network,
    })
}

/// Whether entries depend on the place of the request.
fn is_dynamic(entries: &[Entry]) -> bool {
    entries.iter().any(|entry| match &entry.path {
        EntryPath::Path { .. } => false,
        EntryPath::GlobPattern { pattern } => !pattern.starts_with('/'),
        EntryPath::Special { value } => value.kind == SpecialKind::ProjectRoots,
    })
}

/// The rules of all entries that name paths.
fn entry_rules(entries: &[Entry], bases: &Bases, view: &impl View) -> Result<Rules, Refusal> {
    let mut rules = Rules::default();
    for entry in entries {
        let access = match entry.access {
            WireAccess::Read => Access::Read,
            WireAccess::Write => Access::Write,
            WireAccess::Deny => Access::Deny,
        };
        for path in entry_paths(&entry.path, access, bases)? {
            let resolved = resolve(view, &path).map_err(unknown)?;
            let skip = entry.missing_path_behavior == Some(MissingPathBehavior::Skip);
            // A place for writing is not created; other missing places are kept from appearing.
            if resolved.kind.is_none() && (access == Access::Write || skip) {
                continue;
            }
            // The sandbox brings these along, and grants for the host's would be a way out.
            let own = OWN.iter().any(|own| resolved.path.starts_with(own));
            if own && access != Access::Deny {
                continue;
            }
            rules.add(resolved, access);
        }
    }
    Ok(rules)
}

/// The paths that an entry means.
fn entry_paths(path: &EntryPath, access: Access, bases: &Bases) -> Result<Vec<PathBuf>, Refusal> {
    match path {
        EntryPath::Path { path } => Ok(vec![path.to_native().map_err(|err| {
            Refusal::ForeignPath(format!("invalid sandbox permission path URI: {err}"))
        })?]),
        // See `deny_matches`. Patterns that grant have no meaning.
        EntryPath::GlobPattern { .. } => Ok(Vec::new()),
        EntryPath::Special { value } => special_paths(value, access, bases),
    }
}

fn special_paths(
    special: &SpecialPath,
    access: Access,
    bases: &Bases,
) -> Result<Vec<PathBuf>, Refusal> {
    let places = match special.kind {
        SpecialKind::Root => vec![PathBuf::from("/")],
        SpecialKind::Minimal => MINIMAL.iter().map(PathBuf::from).collect(),
        SpecialKind::ProjectRoots => bases.roots.clone(),
        SpecialKind::SlashTmp => vec![PathBuf::from("/tmp")],
        SpecialKind::Tmpdir if bases.temporary.is_empty() && access == Access::Deny => {
            vec![PathBuf::from("/tmp")]
        }
        SpecialKind::Tmpdir => bases.temporary.clone(),
        SpecialKind::Unknown if access == Access::Deny => {
            let text = "a place that is not known here is to be denied";
            return Err(Refusal::Unenforceable(text.to_owned()));
        }
        SpecialKind::Unknown => Vec::new(),
    };
    let Some(subpath) = &special.subpath else {
        return Ok(places);
    };
    let inside = Path::new(subpath)
        .components()
        .all(|part| matches!(part, Component::Normal(_) | Component::CurDir));
    if !inside {
        let text = "a subpath of a sandbox permission leads out of its place";
        return Err(Refusal::Context(text.to_owned()));
    }
    Ok(places
        .into_iter()
        .map(|place| place.join(subpath).components().collect())
        .collect())
}

/// Makes the metadata directly under each writable directory read-only.
fn protect_metadata(rules: &mut Rules, view: &impl View) -> Result<(), Refusal> {
    let written: Vec<PathBuf> = rules
        .by_path
        .iter()
        .filter(|(_, rule)| rule.access == Access::Write && rule.kind == Some(Kind::Directory))
        .map(|(path, _)| path.clone())
        .collect();
    let is_granted = |path: &Path| written.iter().any(|written| written.starts_with(path));
    for root in &written {
        let is_metadata = METADATA.iter().any(|name| root.ends_with(name));
        if root.parent().is_none() || is_metadata {
            continue;
        }
        for name in METADATA {
            let path = root.join(name);
            let resolved = resolve(view, &path).map_err(unknown)?;
            if is_granted(&path) || is_granted(&resolved.path) {
                continue;
            }
            let pointer = resolved.clone();
            // What a link leads to need not be writable; the link itself is kept in any case.
            protect(rules, resolved);
            if name == ".git"
                && pointer.kind == Some(Kind::File)
                && let Some(target) = git_directory(view, root, &pointer.path).map_err(unknown)?
            {
                let resolved = resolve(view, &target).map_err(unknown)?;
                if !is_granted(&resolved.path) {
                    protect(rules, resolved);
                }
            }
        }
    }
    Ok(())
}

/// Makes a path read-only if it is writable.
fn protect(rules: &mut Rules, resolved: Resolved) {
    if rules.access(&resolved.path) == Access::Write {
        rules.add(resolved, Access::Read);
    } else {
        rules.links.extend(resolved.links);
    }
}

/// Where a `.git` file points to.
fn git_directory(view: &impl View, root: &Path, file: &Path) -> io::Result<Option<PathBuf>> {
    let head = view.head(file)?;
    let line = head.split(|byte| *byte == b'\n').next().unwrap_or_default();
    Ok(line
        .strip_prefix(b"gitdir:")
        .map(<[u8]>::trim_ascii)
        .filter(|target| !target.is_empty())
        .map(|target| root.join(OsStr::from_bytes(target))))
}

/// Hides where daemons have their sockets, unless an entry is about that place.
fn hide_services(rules: &mut Rules, view: &impl View) -> Result<(), Refusal> {
    let resolved = resolve(view, Path::new(SERVICES)).map_err(unknown)?;
    // Who may write everywhere can reach the daemons in other ways.
    if rules.access(&resolved.path) != Access::Read {
        return Ok(());
    }
    let named = rules
        .by_path
        .keys()
        .any(|path| path.starts_with(&resolved.path));
    if named || resolved.kind != Some(Kind::Directory) {
        return Ok(());
    }
    rules.add(resolved, Access::Hidden);
    for shown in SHOWN_SERVICES {
        let resolved = resolve(view, Path::new(shown)).map_err(unknown)?;
        if resolved.kind.is_some() && resolved.path.starts_with(SERVICES) {
            rules.add(resolved, Access::Read);
        }
    }
    Ok(())
}

/// Denies what the patterns match now.
fn deny_matches(
    rules: &mut Rules,
    entries: &[Entry],
    depth: Option<usize>,
    bases: &Bases,
    view: &impl View,
) -> Result<(), Refusal> {
    for entry in entries {
        let EntryPath::GlobPattern { pattern } = &entry.path else {
            continue;
        };
        if entry.access != WireAccess::Deny {
            continue;
        }
        for pattern in absolute_patterns(pattern, bases)? {
            for path in DenyGlob::parse(&pattern)?.expand(view, depth)? {
                let resolved = resolve(view, &path).map_err(unknown)?;
                // Whatever was granted below is denied as well.
                let below: Vec<PathBuf> = rules
                    .by_path
                    .range(resolved.path.clone()..)
                    .map(|(path, _)| path)
                    .take_while(|path| path.starts_with(&resolved.path))
                    .cloned()
                    .collect();
                for path in below {
                    if let Some(rule) = rules.by_path.get_mut(&path) {
                        rule.access = Access::Deny;
                    }
                }
                rules.add(resolved, Access::Deny);
            }
        }
    }
    Ok(())
}

/// A pattern for each of its bases.
fn absolute_patterns(pattern: &str, bases: &Bases) -> Result<Vec<String>, Refusal> {
    let join = |base: &Path, pattern: &str| {
        glob::join(base, pattern).ok_or_else(|| {
            Refusal::Unenforceable("a deny glob has a base that is not text".to_owned())
        })
    };
    if let Some(pattern) = pattern.strip_prefix("codex-project-roots://") {
        let pattern = pattern.trim_start_matches('/');
        return bases.roots.iter().map(|root| join(root, pattern)).collect();
    }
    if pattern.starts_with('/') {
        return Ok(vec![pattern.to_owned()]);
    }
    let cwd = bases.cwd.as_deref().ok_or_else(|| {
        let text = "file system sandbox context with dynamic permissions requires cwd";
        Refusal::Context(text.to_owned())
    })?;
    Ok(vec![join(cwd, pattern)?])
}

fn base(uri: &PathUri, purpose: Purpose<'_>, what: &str) -> Result<PathBuf, Refusal> {
    let path = uri.to_native().map_err(|err| match purpose {
        Purpose::Command(_) => {
            Refusal::Context(format!("failed to prepare process sandbox: {what}: {err}"))
        }
        Purpose::Files if what.ends_with("cwd") => Refusal::ForeignPath(err.to_string()),
        Purpose::Files => Refusal::ForeignPath(format!(
            "file system sandbox workspace root is not native to this exec-server host: {err}"
        )),
    })?;
    Ok(path.components().collect())
}

/// A path that cannot be examined cannot be protected.
fn unknown(err: io::Error) -> Refusal {
    Refusal::Unenforceable(format!("a path of the policy cannot be examined: {err}"))
}

/// Names that configure what later commands do.
pub(crate) const METADATA: [&str; 4] = [".git", ".agents", ".codex", ".aws"];

/// What every program needs.
const MINIMAL: [&str; 8] = [
    "/bin",
    "/sbin",
    "/usr",
    "/etc",
    "/lib",
    "/lib64",
    "/nix/store",
    "/run/current-system/sw",
];

/// Places that the sandbox has its own version of.
const OWN: [&str; 2] = ["/proc", "/dev"];

/// Where daemons have their sockets.
const SERVICES: &str = "/run";

/// What is of use in there to programs that talk to the network.
const SHOWN_SERVICES: [&str; 5] = [
    "/run/systemd/resolve",
    "/run/resolvconf",
    "/run/NetworkManager/resolv.conf",
    "/run/current-system",
    "/run/opengl-driver",
];

const NO_MXC: &str = "native MXC is unavailable on this executor";

#[cfg(test)]
mod tests;
