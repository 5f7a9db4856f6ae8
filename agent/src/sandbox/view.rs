//! What the policy needs to know about files, behind a trait, so that it can be tested as a table.

use std::collections::VecDeque;
use std::ffi::OsString;
use std::fs::File;
use std::io::{self, Read as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Component, Path, PathBuf};

use rustix::fs::{FileType, OFlags};
use rustix::io::Errno;

use super::placeholder;

/// What a name is, links not followed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    /// A directory.
    Directory,
    /// A symbolic link.
    Link,
    /// Anything else.
    File,
    /// An empty directory that only keeps a name occupied while commands run; see
    /// [`placeholder`](mod@super::placeholder).
    Placeholder,
}

/// Looks at files.
pub(crate) trait View {
    /// What the name is; `None` when there is nothing.
    fn kind(&self, path: &Path) -> io::Result<Option<Kind>>;
    /// Where a link leads.
    fn read_link(&self, path: &Path) -> io::Result<PathBuf>;
    /// The names in a directory.
    fn names(&self, path: &Path) -> io::Result<Vec<OsString>>;
    /// The first bytes of a small file.
    fn head(&self, path: &Path) -> io::Result<Vec<u8>>;
}

/// The files of this host.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Host;

impl View for Host {
    fn kind(&self, path: &Path) -> io::Result<Option<Kind>> {
        let stat = match rustix::fs::lstat(path) {
            Ok(stat) => stat,
            Err(Errno::NOENT | Errno::NOTDIR) => return Ok(None),
            Err(errno) => return Err(errno.into()),
        };
        Ok(Some(match FileType::from_raw_mode(stat.st_mode) {
            FileType::Symlink => Kind::Link,
            FileType::Directory if placeholder::looks_like_one(path, stat.st_mode) => {
                Kind::Placeholder
            }
            FileType::Directory => Kind::Directory,
            _ => Kind::File,
        }))
    }

    fn read_link(&self, path: &Path) -> io::Result<PathBuf> {
        std::fs::read_link(path)
    }

    fn names(&self, path: &Path) -> io::Result<Vec<OsString>> {
        std::fs::read_dir(path)?
            .map(|entry| Ok(entry?.file_name()))
            .collect()
    }

    fn head(&self, path: &Path) -> io::Result<Vec<u8>> {
        let flags = i32::try_from((OFlags::NONBLOCK | OFlags::NOFOLLOW | OFlags::NOCTTY).bits());
        let file = std::fs::OpenOptions::new()
            .read(true)
            .custom_flags(flags.unwrap_or(0))
            .open(path)?;
        if !file.metadata()?.is_file() {
            return Ok(Vec::new());
        }
        let mut head = Vec::new();
        File::take(file, HEAD_BYTES).read_to_end(&mut head)?;
        Ok(head)
    }
}

/// Where a path leads.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Resolved {
    /// Without links, as far as the path exists.
    pub(crate) path: PathBuf,
    /// What is there; `None` when nothing is.
    pub(crate) kind: Option<Kind>,
    /// The part of `path` that does not exist, from its first component on.
    pub(crate) first_missing: Option<PathBuf>,
    /// The links on the way, each by its path without links.
    pub(crate) links: Vec<PathBuf>,
}

/// Follows all links of an absolute path, and goes on by name where nothing exists.
///
/// # Errors
///
/// ELOOP after too many links; what the host says when it does not let us look.
pub(crate) fn resolve(view: &impl View, path: &Path) -> io::Result<Resolved> {
    let mut rest: VecDeque<OsString> = normal(path).collect();
    let mut at = PathBuf::from("/");
    let mut kind = Some(Kind::Directory);
    let mut first_missing = None;
    let mut links = Vec::new();
    while let Some(name) = rest.pop_front() {
        if name == ".." {
            at.pop();
            continue;
        }
        at.push(&name);
        if first_missing.is_some() {
            continue;
        }
        match view.kind(&at)? {
            Some(Kind::Link) => {
                if links.len() == MAX_LINKS {
                    return Err(Errno::LOOP.into());
                }
                let target = view.read_link(&at)?;
                links.push(at.clone());
                at.pop();
                if target.is_absolute() {
                    at = PathBuf::from("/");
                }
                for (index, name) in normal(&target).enumerate() {
                    rest.insert(index, name);
                }
                kind = Some(Kind::Directory);
            }
            None | Some(Kind::Placeholder) => {
                first_missing = Some(at.clone());
                kind = None;
            }
            found => kind = found,
        }
    }
    // A missing component that `..` led out of again is not part of the result.
    if let Some(missing) = &first_missing
        && !at.starts_with(missing)
    {
        return resolve(view, &at);
    }
    Ok(Resolved {
        path: at,
        kind,
        first_missing,
        links,
    })
}

/// The components that matter; `..` included.
fn normal(path: &Path) -> impl Iterator<Item = OsString> + '_ {
    path.components().filter_map(|component| match component {
        Component::Normal(name) => Some(name.to_owned()),
        Component::ParentDir => Some(OsString::from("..")),
        Component::RootDir | Component::CurDir | Component::Prefix(_) => None,
    })
}

/// Links in one path, as the kernel has it.
const MAX_LINKS: usize = 40;

/// More than a `gitdir:` line can have.
const HEAD_BYTES: u64 = 8 << 10;
