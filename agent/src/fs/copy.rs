//! `fs/copy`.
//!
//! Each file arrives whole or not at all. A copied tree is not one transaction: it stops at the first
//! error, and the copy can simply be repeated, because a link that already exists as it should be is no
//! error.

use std::collections::VecDeque;
use std::fs::File;
use std::io::{self, Seek as _};
use std::path::{Path, PathBuf};

use rustix::fs::{CWD, FileType, Mode, OFlags};
use rustix::io::Errno;

use super::FsError;
use super::open::{Links, QUIET};
use super::pool::Cancelled;
use super::target::Target;
use super::write::{Permissions, replace};

/// Copies a file, a link or, if `recursive`, a directory.
pub(crate) fn copy(
    source: &Path,
    destination: &Path,
    recursive: bool,
    cancelled: &Cancelled,
) -> Result<(), FsError> {
    match kind(source)? {
        FileType::RegularFile => copy_file(source, destination),
        FileType::Symlink => copy_link(source, destination),
        FileType::Directory if recursive => copy_tree(source, destination, cancelled),
        FileType::Directory => Err(FsError::CopyNeedsRecursive),
        _ => Err(FsError::CopySpecial),
    }
}

/// Copies content and permission bits. The destination is written through links. A file copied onto
/// itself stays as it is.
fn copy_file(source: &Path, destination: &Path) -> Result<(), FsError> {
    let flags = OFlags::RDONLY | OFlags::NOFOLLOW | QUIET;
    let mut from = File::from(rustix::fs::open(source, flags, Mode::empty())?);
    let stat = rustix::fs::fstat(&from)?;
    if FileType::from_raw_mode(stat.st_mode) != FileType::RegularFile {
        return Err(FsError::CopySpecial);
    }
    super::open::refuse_own_secrets(&from)?;
    let target = Target::open(destination, Links::Follow)?;
    if let Target::Regular { stat: there, .. } = &target
        && (there.st_dev, there.st_ino) == (stat.st_dev, stat.st_ino)
    {
        return Ok(());
    }
    let permissions = Permissions::Set(Mode::from_raw_mode(stat.st_mode & 0o7777));
    replace(target, permissions, &mut |mut to| {
        from.rewind()?;
        // The standard library uses copy_file_range where it can.
        io::copy(&mut from, &mut to).map(|_| ())
    })
}

/// Makes the same link at a place where nothing is.
fn copy_link(source: &Path, destination: &Path) -> Result<(), FsError> {
    let target = rustix::fs::readlinkat(CWD, source, Vec::new())?;
    Ok(rustix::fs::symlinkat(target, CWD, destination)?)
}

/// Copies a directory with all it holds into `destination`, which may exist. Files are overwritten,
/// links to the same target are left, devices and FIFOs and sockets are left out.
fn copy_tree(source: &Path, destination: &Path, cancelled: &Cancelled) -> Result<(), FsError> {
    if resolve(destination)?.starts_with(source.canonicalize()?) {
        return Err(FsError::CopyIntoItself);
    }
    // What is missing above the copy of a directory is made, unlike above that of a file.
    std::fs::create_dir_all(destination)?;
    let mut directories = VecDeque::from([(source.to_path_buf(), destination.to_path_buf())]);
    while let Some((from, to)) = directories.pop_front() {
        make_directory(&to)?;
        for entry in std::fs::read_dir(&from)? {
            cancelled.check()?;
            let name = entry?.file_name();
            let (from, to) = (from.join(&name), to.join(&name));
            match kind(&from)? {
                FileType::RegularFile => copy_file(&from, &to)?,
                FileType::Directory => directories.push_back((from, to)),
                FileType::Symlink => merge_link(&from, &to)?,
                _ => {}
            }
        }
    }
    Ok(())
}

fn make_directory(path: &Path) -> Result<(), FsError> {
    match std::fs::create_dir(path) {
        Err(err) if err.kind() == io::ErrorKind::AlreadyExists && path.is_dir() => Ok(()),
        other => Ok(other?),
    }
}

/// Copies a link unless the same one is already there.
fn merge_link(source: &Path, destination: &Path) -> Result<(), FsError> {
    match copy_link(source, destination) {
        Err(FsError::Io(err))
            if err.raw_os_error() == Some(Errno::EXIST.raw_os_error())
                && std::fs::read_link(destination).ok() == std::fs::read_link(source).ok() =>
        {
            Ok(())
        }
        other => other,
    }
}

/// What the path itself is, not what it leads to.
fn kind(path: &Path) -> Result<FileType, FsError> {
    Ok(FileType::from_raw_mode(rustix::fs::lstat(path)?.st_mode))
}

/// The path without links, as far as it exists.
fn resolve(path: &Path) -> Result<PathBuf, FsError> {
    let mut missing = Vec::new();
    let mut existing = path;
    loop {
        match existing.canonicalize() {
            Ok(resolved) => {
                return Ok(missing
                    .iter()
                    .rev()
                    .fold(resolved, |path, name| path.join(name)));
            }
            Err(err) if err.kind() == io::ErrorKind::NotFound => {
                let (Some(parent), Some(name)) = (existing.parent(), existing.file_name()) else {
                    return Err(err.into());
                };
                missing.push(name);
                existing = parent;
            }
            Err(err) => return Err(err.into()),
        }
    }
}

#[cfg(test)]
mod tests;
