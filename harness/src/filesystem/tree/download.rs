//! From the executor to this machine.
//!
//! Directories are listed, entries looked at and small files read many at a time; large files come
//! one after another, each with several blocks on the way.

use std::path::{Path, PathBuf};

use exec_proto::{
    PathUri,
    fs::{DirectoryEntry, GetMetadataResult},
};
use tokio::{fs, task::JoinSet};
use tokio_util::sync::{CancellationToken, DropGuard};

use super::{
    super::{Filesystem, FsCall},
    Complete, Copied, CopyEvent, is_complete, local as disk, modified_ms,
};
use crate::{Error, limits};

/// Copies a file or directory of the executor to a local path.
///
/// `to` is the new name of the file or directory itself; an existing directory is merged into. Files
/// are written in place.
///
/// # Errors
///
/// The first error ends the copy.
pub async fn download(
    from: &Filesystem,
    source: &PathUri,
    to: &Path,
    complete: Complete,
    report: &mut (dyn FnMut(CopyEvent<'_>) + Send),
) -> Result<Copied, Error> {
    let stop = CancellationToken::new();
    let mut download = Download {
        from,
        complete,
        copied: Copied::default(),
        arriving: JoinSet::new(),
        stop: stop.clone(),
        _stop: stop.drop_guard(),
        report,
    };
    let metadata = from.metadata(source).await?;
    if metadata.is_directory {
        download.directories(source, to).await?;
    } else {
        let found = Found {
            source: source.clone(),
            to: to.to_path_buf(),
            metadata,
        };
        download.files(vec![found]).await?;
    }
    download.all_arrived().await?;
    Ok(download.copied)
}

/// A file of the executor and where it goes.
struct Found {
    source: PathUri,
    to: PathBuf,
    metadata: GetMetadataResult,
}

struct Download<'a> {
    from: &'a Filesystem,
    complete: Complete,
    copied: Copied,
    /// Groups of small files that are read, and then written.
    arriving: JoinSet<Result<Vec<(Found, u64)>, Error>>,
    /// Ends what still writes when the copy ends early.
    stop: CancellationToken,
    _stop: DropGuard,
    report: &'a mut (dyn FnMut(CopyEvent<'_>) + Send),
}

impl Download<'_> {
    async fn directories(&mut self, source: &PathUri, to: &Path) -> Result<(), Error> {
        let mut todo = vec![(source.clone(), to.to_path_buf())];
        while !todo.is_empty() {
            // The newest first, so that what waits stays small.
            let some = todo.split_off(todo.len().saturating_sub(limits::DIRECTORIES_AT_ONCE));
            let (children, places) = self.children(some).await?;
            let looks = children.iter().map(|(child, ..)| FsCall::metadata(child));
            let looks = self.from.read_many(looks.collect()).await?;
            let mut files = Vec::new();
            for (((source, shown, is_directory), to), look) in
                children.into_iter().zip(places).zip(looks)
            {
                let metadata = look.metadata()?;
                if is_directory && metadata.is_symlink {
                    self.skipped(&shown, "it is a link to a directory");
                } else if is_directory {
                    todo.push((source, to));
                } else {
                    files.push(Found {
                        source,
                        to,
                        metadata,
                    });
                }
            }
            self.files(files).await?;
        }
        Ok(())
    }

    /// Makes local directories, and lists what is to go into them and where.
    async fn children(
        &mut self,
        directories: Vec<(PathUri, PathBuf)>,
    ) -> Result<(Vec<(PathUri, PathBuf, bool)>, Vec<PathBuf>), Error> {
        let lists = directories.iter().map(|(source, _)| FsCall::list(source));
        let lists = self.from.read_many(lists.collect()).await?;
        let (mut children, mut places) = (Vec::new(), Vec::new());
        let paths = directories.iter().map(|(_, to)| to.clone());
        disk::create_directories(paths.collect()).await?;
        for ((source, to), list) in directories.into_iter().zip(lists) {
            self.copied.directories += 1;
            let native = source
                .to_native()
                .map_err(|error| Error::Misuse(error.to_string()))?;
            for entry in list.entries()? {
                match child(&native, &entry)? {
                    Child::Here(uri, shown) => {
                        places.push(to.join(shown.file_name().unwrap_or_default()));
                        children.push((uri, shown, entry.is_directory));
                    }
                    Child::Skipped(shown, why) => self.skipped(&shown, why),
                }
            }
        }
        Ok((children, places))
    }

    /// Copies files. Small ones may still be on their way when this returns.
    async fn files(&mut self, files: Vec<Found>) -> Result<(), Error> {
        // One file alone costs no more and is not limited in size, should it have grown.
        let alone = files.len() == 1;
        let mut group = Group::default();
        for found in files {
            if self.complete == Complete::Skip && found.is_there().await {
                self.copied.unchanged += 1;
                (self.report)(CopyEvent::Unchanged {
                    source: found.source.as_str(),
                    size: found.metadata.size,
                });
            } else if alone || found.metadata.size > limits::BATCHED_READ_BYTES {
                self.file(&found).await?;
            } else {
                group.bytes += found.metadata.size;
                group.files.push(found);
            }
            if group.bytes >= limits::GROUP_BYTES || group.files.len() >= self.from.batch_calls() {
                self.begin(std::mem::take(&mut group)).await?;
            }
        }
        if !group.files.is_empty() {
            self.begin(group).await?;
        }
        Ok(())
    }

    /// Begins to copy a group as soon as there is room for one more.
    async fn begin(&mut self, group: Group) -> Result<(), Error> {
        while self.arriving.len() >= self.from.requests_at_once() {
            let Some(arrived) = self.arriving.join_next().await else {
                break;
            };
            self.arrived(arrived)?;
        }
        self.arriving
            .spawn(group.copy(self.from.clone(), self.stop.clone()));
        Ok(())
    }

    async fn all_arrived(&mut self) -> Result<(), Error> {
        while let Some(arrived) = self.arriving.join_next().await {
            self.arrived(arrived)?;
        }
        Ok(())
    }

    fn arrived(
        &mut self,
        arrived: Result<Result<Vec<(Found, u64)>, Error>, tokio::task::JoinError>,
    ) -> Result<(), Error> {
        // A copy cannot panic; if one ever does, it must not look like success.
        for (found, bytes) in arrived.unwrap_or(Err(Error::ConnectionLost("fs/batch")))? {
            (self.report)(CopyEvent::File {
                source: found.source.as_str(),
                size: found.metadata.size,
            });
            (self.report)(CopyEvent::Bytes(bytes));
            self.copied.bytes += bytes;
            self.copied.files += 1;
        }
        Ok(())
    }

    async fn file(&mut self, found: &Found) -> Result<(), Error> {
        let mut reader = self.from.open(&found.source).await?;
        (self.report)(CopyEvent::File {
            source: found.source.as_str(),
            size: reader.metadata().size,
        });
        let mut writer = disk::Writer::create(found.to.clone()).await?;
        while let Some(block) = reader.next_block().await? {
            let bytes = block.len() as u64;
            writer.write(block).await?;
            self.copied.bytes += bytes;
            (self.report)(CopyEvent::Bytes(bytes));
        }
        writer.finish().await?;
        self.copied.files += 1;
        Ok(())
    }

    fn skipped(&mut self, shown: &Path, why: &'static str) {
        self.copied.skipped += 1;
        (self.report)(CopyEvent::Skipped {
            source: &shown.to_string_lossy(),
            why,
        });
    }
}

/// Small files that travel together.
#[derive(Default)]
struct Group {
    files: Vec<Found>,
    bytes: u64,
}

impl Group {
    /// Reads the files there and writes them here. Returns how large each was.
    async fn copy(
        self,
        from: Filesystem,
        stop: CancellationToken,
    ) -> Result<Vec<(Found, u64)>, Error> {
        let reads = self
            .files
            .iter()
            .map(|found| FsCall::read_about(&found.source, found.metadata.size));
        let read = from.read_many(reads.collect()).await?;
        let mut writes = Vec::with_capacity(self.files.len());
        let mut copied = Vec::with_capacity(self.files.len());
        for (found, contents) in self.files.into_iter().zip(read) {
            let contents = contents.contents()?;
            let bytes = contents.len() as u64;
            writes.push((found.to.clone(), contents));
            copied.push((found, bytes));
        }
        disk::write_all(writes, stop).await?;
        Ok(copied)
    }
}

impl Found {
    async fn is_there(&self) -> bool {
        fs::metadata(&self.to).await.is_ok_and(|there| {
            let source = (self.metadata.size, self.metadata.modified_at_ms);
            there.is_file() && is_complete(source, (there.len(), modified_ms(&there)))
        })
    }
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

/// Whether a name from the executor stays in the directory it is put into.
fn is_plain_name(name: &str) -> bool {
    !name.is_empty() && name != "." && name != ".." && !name.contains(['/', '\0'])
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
