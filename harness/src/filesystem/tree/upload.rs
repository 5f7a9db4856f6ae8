//! From this machine to the executor.
//!
//! Small files and directories travel in groups, several groups at once; large files one after
//! another, each with several blocks on the way.

use std::{
    collections::HashSet,
    path::{Path, PathBuf},
};

use exec_proto::PathUri;
use tokio::task::JoinSet;

use super::{
    super::{Existing, Filesystem, FsCall, Missing, OnError, Recursion, batch::in_order},
    Complete, Copied, CopyEvent, is_complete,
    local::{self as disk, Entry},
    modified_ms,
};
use crate::{Error, limits};

/// Takes what happens.
type Report<'a> = &'a mut (dyn FnMut(CopyEvent<'_>) + Send);

/// Copies a local file or directory to a path of the executor.
///
/// `target` is the new name of the file or directory itself; an existing directory is merged into.
/// New files appear when they are complete, if the executor can rename.
///
/// # Errors
///
/// The first error ends the copy.
pub async fn upload(
    source: &Path,
    to: &Filesystem,
    target: &PathUri,
    complete: Complete,
    report: &mut (dyn FnMut(CopyEvent<'_>) + Send),
) -> Result<Copied, Error> {
    let metadata = disk::metadata(source).await?;
    if !metadata.is_file() && !metadata.is_dir() {
        return Err(Error::Misuse(format!(
            "{} is neither a file nor a directory",
            source.display()
        )));
    }
    let mut upload = Upload {
        to,
        complete,
        copied: Copied::default(),
        group: Group::default(),
        sending: JoinSet::new(),
        report,
    };
    upload.all(source, target, &metadata).await?;
    Ok(upload.copied)
}

/// A local file and where it goes.
#[derive(Debug)]
struct Item {
    source: PathBuf,
    target: PathUri,
    size: u64,
    modified_ms: i64,
    executable: bool,
}

/// Directories and small files that travel together.
#[derive(Debug, Default)]
struct Group {
    directories: Vec<PathUri>,
    known: HashSet<PathUri>,
    files: Vec<Item>,
    bytes: u64,
}

/// What became of one file.
enum Sent {
    Copied(u64),
    Unchanged,
}

struct Upload<'a> {
    to: &'a Filesystem,
    complete: Complete,
    copied: Copied,
    group: Group,
    sending: JoinSet<Result<Vec<(Item, Sent)>, Error>>,
    report: Report<'a>,
}

impl Upload<'_> {
    async fn all(
        &mut self,
        source: &Path,
        target: &PathUri,
        metadata: &std::fs::Metadata,
    ) -> Result<(), Error> {
        if !metadata.is_dir() {
            let item = Item::new(source.to_path_buf(), target.clone(), metadata);
            self.file(item, None).await?;
        }
        let mut todo = Vec::new();
        if metadata.is_dir() {
            todo.push((source.to_path_buf(), target.clone()));
        }
        while let Some((source, target)) = todo.pop() {
            self.copied.directories += 1;
            self.group.directory(&target);
            self.send_when_full().await?;
            let native = target
                .to_native()
                .map_err(|error| Error::Misuse(error.to_string()))?;
            for Entry { name, kind } in disk::entries(source.clone()).await? {
                let path = source.join(&name);
                let metadata = match kind {
                    Ok(metadata) => metadata,
                    Err(why) => {
                        self.copied.skipped += 1;
                        let source = &*path.to_string_lossy();
                        (self.report)(CopyEvent::Skipped { source, why });
                        continue;
                    }
                };
                let child = PathUri::from_native(&native.join(&name))
                    .ok_or_else(|| Error::Misuse("a remote path cannot be expressed".into()))?;
                if metadata.is_dir() {
                    todo.push((path, child));
                } else {
                    let item = Item::new(path, child, &metadata);
                    self.file(item, Some(&target)).await?;
                }
            }
        }
        self.send_group().await?;
        while let Some(sent) = self.sending.join_next().await {
            self.arrived(sent)?;
        }
        Ok(())
    }

    async fn file(&mut self, item: Item, parent: Option<&PathUri>) -> Result<(), Error> {
        if item.size > limits::SMALL_FILE_BYTES {
            // Its directory is in a group that may not have arrived.
            if let Some(parent) = parent {
                self.to
                    .create_directory(parent, Recursion::Recursive)
                    .await?;
            }
            return self.large(item).await;
        }
        // The group with its directory may arrive after this one.
        if let Some(parent) = parent {
            self.group.directory(parent);
        }
        self.group.bytes += item.size;
        self.group.files.push(item);
        self.send_when_full().await
    }

    async fn send_when_full(&mut self) -> Result<(), Error> {
        let calls = self.group.directories.len() + self.group.files.len();
        if calls >= limits::GROUP_CALLS || self.group.bytes >= limits::GROUP_BYTES {
            self.send_group().await?;
        }
        Ok(())
    }

    async fn send_group(&mut self) -> Result<(), Error> {
        let group = std::mem::take(&mut self.group);
        if group.directories.is_empty() && group.files.is_empty() {
            return Ok(());
        }
        while self.sending.len() >= limits::BATCHES_IN_FLIGHT {
            if let Some(sent) = self.sending.join_next().await {
                self.arrived(sent)?;
            }
        }
        self.sending
            .spawn(group.send(self.to.clone(), self.complete));
        Ok(())
    }

    fn arrived(
        &mut self,
        sent: Result<Result<Vec<(Item, Sent)>, Error>, tokio::task::JoinError>,
    ) -> Result<(), Error> {
        // A copy cannot panic; if one ever does, it must not look like success.
        for (item, sent) in sent.unwrap_or(Err(Error::ConnectionLost("fs/batch")))? {
            let source = &*item.source.to_string_lossy();
            match sent {
                Sent::Unchanged => self.unchanged(&item),
                Sent::Copied(bytes) => {
                    (self.report)(CopyEvent::File {
                        source,
                        size: item.size,
                    });
                    (self.report)(CopyEvent::Bytes(bytes));
                    self.copied.bytes += bytes;
                    self.finished(&item);
                }
            }
        }
        Ok(())
    }

    fn finished(&mut self, item: &Item) {
        self.copied.files += 1;
        if item.executable {
            (self.report)(CopyEvent::Executable(&item.target));
        }
    }

    fn unchanged(&mut self, item: &Item) {
        self.copied.unchanged += 1;
        (self.report)(CopyEvent::Unchanged {
            source: &item.source.to_string_lossy(),
            size: item.size,
        });
        // The earlier copy may have been interrupted before this was noted.
        if item.executable {
            (self.report)(CopyEvent::Executable(&item.target));
        }
    }

    async fn large(&mut self, item: Item) -> Result<(), Error> {
        let can_rename = self.to.client().capabilities().fs_rename;
        let there = match self.to.metadata(&item.target).await {
            Ok(metadata) => Some(metadata),
            Err(error) if error.is_not_found() => None,
            Err(error) => return Err(error),
        };
        if let Some(there) = &there
            && self.complete == Complete::Skip
            && can_rename
            && item.is_at(there.size, there.modified_at_ms)
        {
            self.unchanged(&item);
            return Ok(());
        }
        (self.report)(CopyEvent::File {
            source: &item.source.to_string_lossy(),
            size: item.size,
        });
        // The executor itself keeps what it replaces until the last block is there, and keeps its
        // permissions; only a file that is new needs another name meanwhile.
        let staged = (can_rename && there.is_none())
            .then(|| staging_name(&item.target))
            .transpose()?;
        let path = staged.as_ref().unwrap_or(&item.target);
        let mut attempt = 1;
        loop {
            let before = self.copied.bytes;
            let mut outcome = self.blocks(&item.source, path).await;
            if let (Ok(()), Some(staged)) = (&outcome, &staged) {
                outcome = self
                    .to
                    .rename(staged, &item.target, Existing::Replace)
                    .await;
            }
            match outcome {
                // The contents are still here, so the copy can begin anew.
                Err(Error::ConnectionLost(_) | Error::OutcomeUnknown { .. })
                    if attempt < limits::TRANSFER_ATTEMPTS =>
                {
                    attempt += 1;
                    (self.report)(CopyEvent::Restart(self.copied.bytes - before));
                    self.copied.bytes = before;
                }
                Err(error) => {
                    if let Some(staged) = &staged {
                        let _ = self
                            .to
                            .remove(staged, Recursion::Single, Missing::Succeeds)
                            .await;
                    }
                    return Err(error);
                }
                Ok(()) => break,
            }
        }
        self.finished(&item);
        Ok(())
    }

    async fn blocks(&mut self, source: &Path, target: &PathUri) -> Result<(), Error> {
        let mut reader = disk::Reader::open(source.to_path_buf()).await?;
        let mut writer = self.to.create(target).await?;
        while let Some(block) = reader.next().await? {
            let bytes = block.len() as u64;
            writer.write_block(block).await?;
            self.copied.bytes += bytes;
            (self.report)(CopyEvent::Bytes(bytes));
        }
        writer.finish().await
    }
}

impl Item {
    fn new(source: PathBuf, target: PathUri, metadata: &std::fs::Metadata) -> Self {
        Self {
            source,
            target,
            size: metadata.len(),
            modified_ms: modified_ms(metadata),
            executable: is_executable(metadata),
        }
    }

    fn is_at(&self, size: u64, modified_ms: i64) -> bool {
        is_complete((self.size, self.modified_ms), (size, modified_ms))
    }
}

impl Group {
    fn directory(&mut self, path: &PathUri) {
        if self.known.insert(path.clone()) {
            self.directories.push(path.clone());
        }
    }

    /// Makes the directories and writes the files. Doing it twice does no harm.
    async fn send(self, to: Filesystem, complete: Complete) -> Result<Vec<(Item, Sent)>, Error> {
        let mut attempt = 1;
        loop {
            match self.try_send(&to, complete).await {
                Err(Error::ConnectionLost(_) | Error::OutcomeUnknown { .. })
                    if attempt < limits::TRANSFER_ATTEMPTS =>
                {
                    attempt += 1;
                }
                sent => return Ok(self.files.into_iter().zip(sent?).collect()),
            }
        }
    }

    async fn try_send(&self, to: &Filesystem, complete: Complete) -> Result<Vec<Sent>, Error> {
        let mut unchanged = vec![false; self.files.len()];
        if complete == Complete::Skip {
            let looks = self.files.iter().map(|item| FsCall::metadata(&item.target));
            let found = to.read_many(looks.collect()).await?;
            for ((item, look), unchanged) in self.files.iter().zip(found).zip(&mut unchanged) {
                // Whatever cannot be looked at will say why when it is written.
                *unchanged = look.metadata().is_ok_and(|there| {
                    there.is_file && item.is_at(there.size, there.modified_at_ms)
                });
            }
        }
        let mut calls: Vec<_> = self
            .directories
            .iter()
            .map(|path| FsCall::create_directory(path, Recursion::Recursive))
            .collect();
        let changed = self.files.iter().zip(&unchanged);
        let changed = changed.filter_map(|(item, unchanged)| (!unchanged).then_some(item));
        let wanted = changed.map(|item| (item.source.clone(), item.size));
        let mut contents = disk::read_all(wanted.collect()).await?.into_iter();
        let mut writes = Vec::new();
        let mut sent = Vec::with_capacity(self.files.len());
        for (item, unchanged) in self.files.iter().zip(unchanged) {
            let contents = match unchanged {
                true => None,
                false => contents.next(),
            };
            sent.push(match contents {
                None => Sent::Unchanged,
                Some(contents) => {
                    let bytes = contents.len() as u64;
                    writes.push(FsCall::write_bytes(&item.target, contents));
                    Sent::Copied(bytes)
                }
            });
        }
        if to.batch_calls() > 1 {
            calls.append(&mut writes);
        }
        for outcome in to.batch(calls, OnError::Stop).await? {
            outcome.done()?;
        }
        // Without batches, the files go side by side.
        let writes = writes.into_iter().map(|call| {
            let to = to.clone();
            async move {
                for outcome in to.batch(vec![call], OnError::Stop).await? {
                    outcome.done()?;
                }
                Ok(())
            }
        });
        in_order(writes, to.requests_at_once()).await?;
        Ok(sent)
    }
}

/// A name beside `target` that nobody else uses.
fn staging_name(target: &PathUri) -> Result<PathUri, Error> {
    let native = target
        .to_native()
        .map_err(|error| Error::Misuse(error.to_string()))?;
    let name = format!(".execctl-{}", uuid::Uuid::new_v4().simple());
    PathUri::from_native(&native.with_file_name(name))
        .ok_or_else(|| Error::Misuse("a remote path cannot be expressed".into()))
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
