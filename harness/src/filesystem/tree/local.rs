//! The files of this machine, on threads that may block: many of them for one change of threads.

use std::{
    ffi::OsString,
    fs,
    io::{Read as _, Write as _},
    path::{Path, PathBuf},
};

use bytes::Bytes;
use tokio::{
    sync::mpsc,
    task::{JoinHandle, spawn_blocking},
};
use tokio_util::sync::CancellationToken;

use super::local;
use crate::{Error, limits};

/// Runs something that blocks.
async fn run<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, Error> + Send + 'static,
) -> Result<T, Error> {
    ended(&mut spawn_blocking(work)).await
}

async fn ended<T>(thread: &mut JoinHandle<Result<T, Error>>) -> Result<T, Error> {
    let failed = |error| Error::io("failed to run on a thread", std::io::Error::other(error));
    thread.await.map_err(failed)?
}

/// What a path is, links followed.
pub(super) async fn metadata(path: &Path) -> Result<fs::Metadata, Error> {
    let path = path.to_path_buf();
    run(move || fs::metadata(&path).map_err(|error| local("read", &path, error))).await
}

/// An entry of a directory: what it is, or why it is skipped.
#[derive(Debug)]
pub(super) struct Entry {
    pub(super) name: OsString,
    pub(super) kind: Result<fs::Metadata, &'static str>,
}

/// The entries of a directory, in the order of their names.
pub(super) async fn entries(directory: PathBuf) -> Result<Vec<Entry>, Error> {
    run(move || {
        let failed = |error| local("read", &directory, error);
        let mut entries = Vec::new();
        for entry in fs::read_dir(&directory).map_err(failed)? {
            let entry = entry.map_err(failed)?;
            let is_link = entry.file_type().map_err(failed)?.is_symlink();
            // What is no link is looked at without a look at all of its path.
            let found = match is_link {
                true => fs::metadata(entry.path()),
                false => entry.metadata(),
            };
            let kind = match found {
                Ok(metadata) if metadata.is_file() => Ok(metadata),
                Ok(metadata) if metadata.is_dir() && is_link => Err("it is a link to a directory"),
                Ok(metadata) if metadata.is_dir() => Ok(metadata),
                Ok(_) => Err("it is neither a file nor a directory"),
                Err(_) if is_link => Err("it is a link to nothing"),
                Err(error) => return Err(local("read", &entry.path(), error)),
            };
            let name = entry.file_name();
            entries.push(Entry { name, kind });
        }
        entries.sort_by(|a, b| a.name.cmp(&b.name));
        Ok(entries)
    })
    .await
}

/// The contents of files, whose sizes are thought to be these.
pub(super) async fn read_all(files: Vec<(PathBuf, u64)>) -> Result<Vec<Bytes>, Error> {
    run(move || {
        let read = |(path, size): (PathBuf, u64)| {
            let read = || {
                // One byte more lets the end be seen without growing the buffer.
                let room = usize::try_from(size).unwrap_or(0).saturating_add(1);
                let mut contents = Vec::with_capacity(room);
                // Not asked for its size once more.
                let mut file = fs::File::open(&path)?.take(u64::MAX);
                file.read_to_end(&mut contents)?;
                Ok(contents.into())
            };
            read().map_err(|error| local("read", &path, error))
        };
        files.into_iter().map(read).collect()
    })
    .await
}

/// Makes directories, with those above them.
pub(super) async fn create_directories(paths: Vec<PathBuf>) -> Result<(), Error> {
    run(move || {
        let mut paths = paths.iter();
        paths.try_for_each(|path| {
            fs::create_dir_all(path).map_err(|error| local("create", path, error))
        })
    })
    .await
}

/// Writes files in place, until `stop`.
pub(super) async fn write_all(
    files: Vec<(PathBuf, Bytes)>,
    stop: CancellationToken,
) -> Result<(), Error> {
    run(move || {
        for (path, contents) in &files {
            if stop.is_cancelled() {
                return Err(Error::Closed);
            }
            let write = || fs::File::create(path)?.write_all(contents);
            write().map_err(|error| local("write", path, error))?;
        }
        Ok(())
    })
    .await
}

/// A file that is read by a thread of its own, a few blocks ahead.
#[derive(Debug)]
pub(super) struct Reader {
    blocks: mpsc::Receiver<Bytes>,
    /// Ends with the file, or when nobody takes blocks any more.
    thread: JoinHandle<Result<(), Error>>,
}

impl Reader {
    /// Opens a file.
    pub(super) async fn open(path: PathBuf) -> Result<Self, Error> {
        let (path, file) = run(move || match fs::File::open(&path) {
            Ok(file) => Ok((path, file)),
            Err(error) => Err(local("open", &path, error)),
        })
        .await?;
        let (queue, blocks) = mpsc::channel(limits::LOCAL_BLOCKS);
        let thread = spawn_blocking(move || {
            loop {
                let mut block = Vec::with_capacity(limits::BLOCK_BYTES);
                let mut next = (&file).take(limits::BLOCK_BYTES as u64);
                let read = next.read_to_end(&mut block);
                read.map_err(|error| local("read", &path, error))?;
                if block.is_empty() || queue.blocking_send(block.into()).is_err() {
                    return Ok(());
                }
            }
        });
        Ok(Self { blocks, thread })
    }

    /// The next block, `None` at the end. All but the last are as large as a block can be.
    pub(super) async fn next(&mut self) -> Result<Option<Bytes>, Error> {
        match self.blocks.recv().await {
            Some(block) => Ok(Some(block)),
            None => ended(&mut self.thread).await.map(|()| None),
        }
    }
}

/// A file that is written by a thread of its own.
#[derive(Debug)]
pub(super) struct Writer {
    blocks: mpsc::Sender<Bytes>,
    /// Ends when there are no more blocks.
    thread: JoinHandle<Result<(), Error>>,
}

impl Writer {
    /// Creates a file, or empties it.
    pub(super) async fn create(path: PathBuf) -> Result<Self, Error> {
        let (path, mut file) = run(move || match fs::File::create(&path) {
            Ok(file) => Ok((path, file)),
            Err(error) => Err(local("create", &path, error)),
        })
        .await?;
        let (blocks, mut queue) = mpsc::channel::<Bytes>(limits::LOCAL_BLOCKS);
        let thread = spawn_blocking(move || {
            while let Some(block) = queue.blocking_recv() {
                let written = file.write_all(&block);
                written.map_err(|error| local("write", &path, error))?;
            }
            Ok(())
        });
        Ok(Self { blocks, thread })
    }

    /// Appends a block.
    pub(super) async fn write(&mut self, block: Bytes) -> Result<(), Error> {
        match self.blocks.send(block).await {
            Ok(()) => Ok(()),
            // It has ended, which it does by itself only when it has failed.
            Err(_) => ended(&mut self.thread).await,
        }
    }

    /// Waits until everything is written.
    pub(super) async fn finish(self) -> Result<(), Error> {
        let Self { blocks, mut thread } = self;
        drop(blocks);
        ended(&mut thread).await
    }
}
