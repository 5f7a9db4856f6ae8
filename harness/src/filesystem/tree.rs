//! Copying files and directories between this machine and the executor.
//!
//! Links to files are followed; links to directories are not, since following them could go round
//! in circles. Those, special files and names that are not text are skipped and reported. Copies are
//! written in place, as the executor has no rename: an interrupted copy leaves a partial file.
//!
//! The protocol carries neither permissions nor times, so files get those of a new file; see
//! [`CopyEvent::Executable`] for the one bit that matters most.

use std::path::{Path, PathBuf};

use exec_proto::{PathUri, fs::DirectoryEntry};
use tokio::{
    fs,
    io::{AsyncReadExt, AsyncWriteExt},
};

use super::{Filesystem, Recursion};
use crate::{Error, limits};

/// What happens during a copy.
#[derive(Debug)]
#[non_exhaustive]
pub enum CopyEvent<'a> {
    /// A file is about to be copied.
    File {
        /// Its path at the source, for display.
        source: &'a str,
        /// Its size when it was looked at.
        size: u64,
    },
    /// Bytes were moved.
    Bytes(u64),
    /// What was moved of the current file does not count; it is started again.
    Restart(u64),
    /// A local file that was copied to the executor may be executed by its owner.
    Executable(&'a PathUri),
    /// Something was left out.
    Skipped {
        /// Its path at the source, for display.
        source: &'a str,
        /// Why.
        why: &'static str,
    },
}

/// What a copy did.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Copied {
    /// Regular files.
    pub files: u64,
    /// Directories, including those that existed.
    pub directories: u64,
    /// Bytes of files.
    pub bytes: u64,
    /// What was left out.
    pub skipped: u64,
}

/// Copies a file or directory of the executor to a local path.
///
/// `to` is the new name of the file or directory itself; an existing directory is merged into.
///
/// # Errors
///
/// The first error ends the copy.
pub async fn download(
    from: &Filesystem,
    source: &PathUri,
    to: &Path,
    report: &mut (dyn FnMut(CopyEvent<'_>) + Send),
) -> Result<Copied, Error> {
    let mut copied = Copied::default();
    let metadata = from.metadata(source).await?;
    let mut todo = vec![(source.clone(), to.to_path_buf(), metadata.is_directory)];
    while let Some((source, to, is_directory)) = todo.pop() {
        if !is_directory {
            download_file(from, &source, &to, &mut copied, report).await?;
            continue;
        }
        fs::create_dir_all(&to)
            .await
            .map_err(|error| local("create", &to, error))?;
        copied.directories += 1;
        let native = source
            .to_native()
            .map_err(|error| Error::Misuse(error.to_string()))?;
        for entry in from.list(&source).await? {
            let (child, shown) = match child(&native, &entry)? {
                Child::Here(child, shown) => (child, shown),
                Child::Skipped(shown, why) => {
                    copied.skipped += 1;
                    report(CopyEvent::Skipped {
                        source: &shown.to_string_lossy(),
                        why,
                    });
                    continue;
                }
            };
            let name = shown.file_name().unwrap_or_default();
            if entry.is_directory && from.metadata(&child).await?.is_symlink {
                copied.skipped += 1;
                report(CopyEvent::Skipped {
                    source: &shown.to_string_lossy(),
                    why: "it is a link to a directory",
                });
                continue;
            }
            todo.push((child, to.join(name), entry.is_directory));
        }
    }
    Ok(copied)
}

/// An entry of a remote directory.
enum Child {
    /// Where it is, as URI and as path.
    Here(PathUri, PathBuf),
    /// It is left out, for this reason.
    Skipped(PathBuf, &'static str),
}

/// Finds an entry's path. Executors are not trusted to name things inside the directory only.
fn child(directory: &Path, entry: &DirectoryEntry) -> Result<Child, Error> {
    let outside = || Error::Protocol("a directory entry is not a plain name".into());
    let expressed = |path: &Path| {
        PathUri::from_native(path)
            .ok_or_else(|| Error::Misuse("a remote path cannot be expressed".into()))
    };
    let shown = directory.join(&entry.file_name);
    if !is_plain_name(&entry.file_name) {
        return Err(outside());
    }
    if !entry.is_file && !entry.is_directory {
        return Ok(Child::Skipped(
            shown,
            "it is neither a file nor a directory",
        ));
    }
    if let Some(uri) = &entry.path {
        let native = uri.to_native().map_err(|_| outside())?;
        let is_inside = native.parent() == Some(directory) && native.file_name().is_some();
        return if is_inside {
            Ok(Child::Here(uri.clone(), native))
        } else {
            Err(outside())
        };
    }
    if entry.file_name.contains('\u{fffd}') {
        // The executor replaced what is not UTF-8, so the name cannot be asked for.
        return Ok(Child::Skipped(shown, "its name is not text"));
    }
    Ok(Child::Here(expressed(&shown)?, shown))
}

async fn download_file(
    from: &Filesystem,
    source: &PathUri,
    to: &Path,
    copied: &mut Copied,
    report: &mut (dyn FnMut(CopyEvent<'_>) + Send),
) -> Result<(), Error> {
    let mut reader = from.open(source).await?;
    let size = reader.metadata().size;
    report(CopyEvent::File {
        source: source.as_str(),
        size,
    });
    let mut file = fs::File::create(to)
        .await
        .map_err(|error| local("create", to, error))?;
    while let Some(block) = reader.next_block().await? {
        file.write_all(&block)
            .await
            .map_err(|error| local("write", to, error))?;
        copied.bytes += block.len() as u64;
        report(CopyEvent::Bytes(block.len() as u64));
    }
    file.flush()
        .await
        .map_err(|error| local("write", to, error))?;
    copied.files += 1;
    Ok(())
}

/// Copies a local file or directory to a path of the executor.
///
/// `target` is the new name of the file or directory itself; an existing directory is merged into.
///
/// # Errors
///
/// The first error ends the copy.
pub async fn upload(
    source: &Path,
    to: &Filesystem,
    target: &PathUri,
    report: &mut (dyn FnMut(CopyEvent<'_>) + Send),
) -> Result<Copied, Error> {
    let mut copied = Copied::default();
    let metadata = fs::metadata(source)
        .await
        .map_err(|error| local("read", source, error))?;
    if !metadata.is_file() && !metadata.is_dir() {
        return Err(Error::Misuse(format!(
            "{} is neither a file nor a directory",
            source.display()
        )));
    }
    let mut todo = vec![(source.to_path_buf(), target.clone(), metadata.is_dir())];
    while let Some((source, target, is_directory)) = todo.pop() {
        if !is_directory {
            upload_file(&source, to, &target, &mut copied, report).await?;
            continue;
        }
        to.create_directory(&target, Recursion::Recursive).await?;
        copied.directories += 1;
        let native = target
            .to_native()
            .map_err(|error| Error::Misuse(error.to_string()))?;
        for (path, why) in local_entries(&source).await? {
            match why {
                Err(why) => {
                    copied.skipped += 1;
                    report(CopyEvent::Skipped {
                        source: &path.to_string_lossy(),
                        why,
                    });
                }
                Ok(is_directory) => {
                    let Some(name) = path.file_name() else {
                        continue;
                    };
                    let child = PathUri::from_native(&native.join(name))
                        .ok_or_else(|| Error::Misuse("a remote path cannot be expressed".into()))?;
                    todo.push((path, child, is_directory));
                }
            }
        }
    }
    Ok(copied)
}

/// The entries of a local directory: whether each is a directory, or why it is skipped.
async fn local_entries(
    directory: &Path,
) -> Result<Vec<(PathBuf, Result<bool, &'static str>)>, Error> {
    let failed = |error| local("read", directory, error);
    let mut entries = Vec::new();
    let mut listing = fs::read_dir(directory).await.map_err(failed)?;
    while let Some(entry) = listing.next_entry().await.map_err(failed)? {
        let path = entry.path();
        let is_link = entry.file_type().await.map_err(failed)?.is_symlink();
        let kind = match fs::metadata(&path).await {
            Ok(metadata) if metadata.is_file() => Ok(false),
            Ok(metadata) if metadata.is_dir() && is_link => Err("it is a link to a directory"),
            Ok(metadata) if metadata.is_dir() => Ok(true),
            Ok(_) => Err("it is neither a file nor a directory"),
            Err(_) if is_link => Err("it is a link to nothing"),
            Err(error) => return Err(local("read", &path, error)),
        };
        entries.push((path, kind));
    }
    entries.sort();
    Ok(entries)
}

async fn upload_file(
    source: &Path,
    to: &Filesystem,
    target: &PathUri,
    copied: &mut Copied,
    report: &mut (dyn FnMut(CopyEvent<'_>) + Send),
) -> Result<(), Error> {
    let metadata = fs::metadata(source)
        .await
        .map_err(|error| local("read", source, error))?;
    report(CopyEvent::File {
        source: &source.to_string_lossy(),
        size: metadata.len(),
    });
    let mut attempt = 1;
    loop {
        let before = copied.bytes;
        let outcome = if metadata.len() <= limits::SMALL_FILE_BYTES {
            upload_small(source, to, target, copied, report).await
        } else {
            upload_blocks(source, to, target, copied, report).await
        };
        match outcome {
            // The contents are still here, so the copy can begin anew.
            Err(Error::ConnectionLost(_) | Error::OutcomeUnknown { .. })
                if attempt < limits::TRANSFER_ATTEMPTS =>
            {
                attempt += 1;
                report(CopyEvent::Restart(copied.bytes - before));
                copied.bytes = before;
            }
            other => break other?,
        }
    }
    copied.files += 1;
    if is_executable(&metadata) {
        report(CopyEvent::Executable(target));
    }
    Ok(())
}

/// One round trip instead of three.
async fn upload_small(
    source: &Path,
    to: &Filesystem,
    target: &PathUri,
    copied: &mut Copied,
    report: &mut (dyn FnMut(CopyEvent<'_>) + Send),
) -> Result<(), Error> {
    let contents = fs::read(source)
        .await
        .map_err(|error| local("read", source, error))?;
    to.write(target, &contents).await?;
    copied.bytes += contents.len() as u64;
    report(CopyEvent::Bytes(contents.len() as u64));
    Ok(())
}

async fn upload_blocks(
    source: &Path,
    to: &Filesystem,
    target: &PathUri,
    copied: &mut Copied,
    report: &mut (dyn FnMut(CopyEvent<'_>) + Send),
) -> Result<(), Error> {
    let mut file = fs::File::open(source)
        .await
        .map_err(|error| local("open", source, error))?;
    let mut writer = to.create(target).await?;
    let mut buffer = vec![0; limits::BLOCK_BYTES];
    loop {
        let n = file
            .read(&mut buffer)
            .await
            .map_err(|error| local("read", source, error))?;
        if n == 0 {
            return writer.finish().await;
        }
        writer.write(buffer.get(..n).unwrap_or_default()).await?;
        copied.bytes += n as u64;
        report(CopyEvent::Bytes(n as u64));
    }
}

/// Whether a name from the executor stays in the directory it is put into.
fn is_plain_name(name: &str) -> bool {
    !name.is_empty() && name != "." && name != ".." && !name.contains(['/', '\0'])
}

#[cfg(unix)]
fn is_executable(metadata: &std::fs::Metadata) -> bool {
    use std::os::unix::fs::PermissionsExt;
    metadata.permissions().mode() & 0o100 != 0
}

#[cfg(not(unix))]
fn is_executable(_metadata: &std::fs::Metadata) -> bool {
    false
}

fn local(verb: &str, path: &Path, error: std::io::Error) -> Error {
    Error::io(format!("failed to {verb} {}", path.display()), error)
}

#[cfg(test)]
mod tests {
    use std::{ffi::OsStr, os::unix::ffi::OsStrExt};

    use super::*;

    fn entry(file_name: &str, path: Option<&str>) -> DirectoryEntry {
        DirectoryEntry {
            file_name: file_name.into(),
            path: path.map(|path| PathUri::parse(path).unwrap()),
            is_directory: false,
            is_file: true,
        }
    }

    #[test]
    fn entry_outside_its_directory_is_refused() {
        let directory = Path::new("/d");
        for (name, path) in [
            ("..", None),
            ("a/b", None),
            ("x", Some("file:///etc/passwd")),
            ("x", Some("file:///d/e/x")),
            ("x", Some("file:///d")),
        ] {
            assert!(
                child(directory, &entry(name, path)).is_err(),
                "{name} {path:?}"
            );
        }
    }

    #[test]
    fn name_that_is_not_text_is_copied_when_the_executor_says_where_it_is() {
        let directory = Path::new("/d");
        let Ok(Child::Here(uri, native)) =
            child(directory, &entry("a\u{fffd}", Some("file:///d/a%FF")))
        else {
            panic!("not found")
        };
        assert_eq!(uri.as_str(), "file:///d/a%FF");
        assert_eq!(native.file_name().unwrap(), OsStr::from_bytes(b"a\xff"));
        let old = child(directory, &entry("a\u{fffd}", None));
        assert!(matches!(old, Ok(Child::Skipped(..))));
    }

    #[test]
    fn name_that_would_leave_the_target_is_not_plain() {
        for bad in ["", ".", "..", "a/b", "/etc/passwd", "a\0"] {
            assert!(!is_plain_name(bad), "{bad:?}");
        }
        for good in ["a", "..a", ".hidden", "with space", "ä"] {
            assert!(is_plain_name(good), "{good:?}");
        }
    }
}
