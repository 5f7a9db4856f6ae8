//! `fs/createDirectory`, `fs/readDirectory` and `fs/remove`.

use std::ffi::OsString;
use std::io;
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Component, Path};

use rustix::fs::{AtFlags, CWD, Dir, FileType, Mode, OFlags};
use rustix::io::Errno;

use super::FsError;
use super::limits::DIRECTORY_ENTRIES;
use super::open::{Links, QUIET, locate_no_follow, open_child_directory};
use super::pool::Cancelled;

/// Makes a directory, with `recursive` its parents as well, in which case it may exist.
pub(crate) fn create_directory(path: &Path, recursive: bool, links: Links) -> Result<(), FsError> {
    match (links, recursive) {
        (Links::Follow, true) => Ok(std::fs::create_dir_all(path)?),
        (Links::Follow, false) => Ok(std::fs::create_dir(path)?),
        (Links::Refuse, false) => match locate_no_follow(path) {
            Ok(found) => Ok(rustix::fs::mkdirat(&found.dir, &found.name, NEW_DIRECTORY)?),
            Err(FsError::NoName) => Err(FsError::RootExists),
            Err(err) => Err(err),
        },
        (Links::Refuse, true) => {
            let mut dir = open_child_directory(CWD, "/")?;
            for component in path.components() {
                let Component::Normal(name) = component else {
                    continue;
                };
                dir = match open_child_directory(&dir, name) {
                    Err(Errno::NOENT) => {
                        match rustix::fs::mkdirat(&dir, name, NEW_DIRECTORY) {
                            // Somebody else made it; what it is shows when it is opened.
                            Ok(()) | Err(Errno::EXIST) => {}
                            Err(errno) => return Err(errno.into()),
                        }
                        open_child_directory(&dir, name)?
                    }
                    opened => opened?,
                };
            }
            Ok(())
        }
    }
}

/// A name in a directory.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Entry {
    /// As the filesystem has it; need not be UTF-8.
    pub(crate) name: OsString,
    /// Of a link's target.
    pub(crate) kind: FileType,
}

/// Lists a directory in no order, without links that lead nowhere.
///
/// # Errors
///
/// [`FsError::TooManyEntries`] as soon as there is one too many.
pub(crate) fn read_directory(path: &Path, cancelled: &Cancelled) -> Result<Vec<Entry>, FsError> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | QUIET;
    let directory = rustix::fs::open(path, flags, Mode::empty())?;
    let mut entries = Vec::new();
    let mut found = 0;
    for entry in Dir::read_from(&directory)? {
        let entry = entry?;
        let name = entry.file_name().to_bytes();
        if matches!(name, b"." | b"..") {
            continue;
        }
        found += 1;
        if found > DIRECTORY_ENTRIES {
            return Err(FsError::TooManyEntries { found });
        }
        cancelled.check()?;
        let kind = match entry.file_type() {
            // Links, and filesystems that do not tell.
            FileType::Symlink | FileType::Unknown => {
                match rustix::fs::statat(&directory, entry.file_name(), AtFlags::empty()) {
                    Ok(stat) => FileType::from_raw_mode(stat.st_mode),
                    Err(_) => continue,
                }
            }
            kind => kind,
        };
        let name = std::ffi::OsStr::from_bytes(name).to_owned();
        entries.push(Entry { name, kind });
    }
    Ok(entries)
}

/// Removes what `path` names: a link itself, a directory with `recursive` whole and else only when it is
/// empty.
///
/// With `force`, nothing there is a success.
pub(crate) fn remove(
    path: &Path,
    recursive: bool,
    force: bool,
    links: Links,
) -> Result<(), FsError> {
    let result = match links {
        Links::Follow => remove_following(path, recursive),
        Links::Refuse if recursive => return Err(FsError::RecursiveNoFollow),
        Links::Refuse => remove_no_follow(path),
    };
    match result {
        Err(err) if force && err.is_not_found() => Ok(()),
        result => result,
    }
}

fn remove_following(path: &Path, recursive: bool) -> Result<(), FsError> {
    if path.parent().is_none() {
        return Err(FsError::RemoveRoot);
    }
    let stat = rustix::fs::lstat(path)?;
    if FileType::from_raw_mode(stat.st_mode) != FileType::Directory {
        return Ok(std::fs::remove_file(path)?);
    }
    if !recursive {
        return Ok(std::fs::remove_dir(path)?);
    }
    // Works by descriptor, so a directory that turns into a link is not followed.
    let result = std::fs::remove_dir_all(path);
    match result {
        Err(err) if err.kind() == io::ErrorKind::NotFound => Ok(()),
        result => Ok(result?),
    }
}

fn remove_no_follow(path: &Path) -> Result<(), FsError> {
    let found = locate_no_follow(path)?;
    let stat = rustix::fs::statat(&found.dir, &found.name, AtFlags::SYMLINK_NOFOLLOW)?;
    let flags = match FileType::from_raw_mode(stat.st_mode) {
        FileType::Symlink => return Err(FsError::SymbolicLink),
        FileType::Directory => AtFlags::REMOVEDIR,
        _ => AtFlags::empty(),
    };
    Ok(rustix::fs::unlinkat(&found.dir, &found.name, flags)?)
}

/// Less the umask.
const NEW_DIRECTORY: Mode = Mode::from_raw_mode(0o777);

#[cfg(test)]
mod tests;
