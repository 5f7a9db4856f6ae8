//! Files block by block, several blocks on the way at once.
//!
//! The wait for one block is one round trip; with [`limits::BLOCKS_IN_FLIGHT`] of them on the way
//! the path is kept busy without either end holding more than that many blocks.

use std::collections::VecDeque;

use bytes::{Bytes, BytesMut};
use exec_proto::{
    Empty, PathUri,
    fs::{
        self as wire, CloseParams, GetMetadataResult, OpenMode, OpenParams, OpenResult,
        ReadBlockParams, ReadBlockResult, WriteBlockParams,
    },
};
use tokio::task::JoinSet;

use super::Filesystem;
use crate::{Client, Error, engine::call::Retry, limits};

/// An open file on the executor, bound to one connection.
#[derive(Debug, Clone)]
struct Handle {
    client: Client,
    id: String,
    generation: u64,
}

impl Handle {
    async fn open(client: &Client, path: &PathUri, mode: OpenMode) -> Result<Self, Error> {
        let generation = client.generation();
        let id = uuid::Uuid::new_v4().simple().to_string();
        let params = OpenParams {
            handle_id: id.clone(),
            path: path.clone(),
            mode,
            sandbox: None,
        };
        let retry = Retry::Within(generation);
        let _: OpenResult = client.call(wire::OPEN, &params, retry).await?;
        Ok(Self {
            client: client.clone(),
            id,
            generation,
        })
    }

    async fn read(self, offset: u64) -> Result<ReadBlockResult, Error> {
        let params = ReadBlockParams {
            handle_id: self.id,
            offset,
            len: limits::BLOCK_BYTES,
        };
        self.client
            .call(wire::READ_BLOCK, &params, Retry::Within(self.generation))
            .await
    }

    async fn write(self, offset: u64, chunk: Bytes) -> Result<(), Error> {
        let params = WriteBlockParams {
            handle_id: self.id,
            offset,
            chunk,
        };
        let _: Empty = self
            .client
            .call(wire::WRITE_BLOCK, &params, Retry::Within(self.generation))
            .await?;
        Ok(())
    }

    async fn close(&self) -> Result<(), Error> {
        let params = CloseParams {
            handle_id: self.id.clone(),
        };
        let _: Empty = self
            .client
            .call(wire::CLOSE, &params, Retry::Within(self.generation))
            .await?;
        Ok(())
    }
}

/// Reads a file from front to back, across lost connections.
///
/// Dropped before its end, the executor keeps the file open as long as the connection lives;
/// [`FileReader::close`] gives it back at once.
#[derive(Debug)]
pub struct FileReader {
    filesystem: Filesystem,
    path: PathUri,
    metadata: GetMetadataResult,
    handle: Handle,
    /// Blocks on the way, in order of their offsets.
    blocks: VecDeque<JoinSet<Result<ReadBlockResult, Error>>>,
    /// Where the next block to be asked for starts.
    ask_at: u64,
    /// Where the next block to be returned starts.
    position: u64,
    ended: bool,
    attempts: u32,
}

impl Filesystem {
    /// Opens a regular file for reading.
    ///
    /// # Errors
    ///
    /// See [`Filesystem`].
    pub async fn open(&self, path: &PathUri) -> Result<FileReader, Error> {
        let mut attempts = 0;
        let (handle, metadata) = loop {
            attempts += 1;
            let opened = Handle::open(self.client(), path, OpenMode::Read);
            let (handle, metadata) = tokio::join!(opened, self.metadata(path));
            match handle {
                Err(Error::ConnectionLost(_)) if attempts < limits::TRANSFER_ATTEMPTS => {}
                handle => break (handle?, metadata?),
            }
        };
        Ok(FileReader {
            filesystem: self.clone(),
            path: path.clone(),
            metadata,
            handle,
            blocks: VecDeque::new(),
            ask_at: 0,
            position: 0,
            ended: false,
            attempts,
        })
    }

    /// Opens a file for writing: creates it, or empties it at once.
    ///
    /// # Errors
    ///
    /// See [`Filesystem`]. [`Error::Unsupported`] when the executor is of before release 0.169.
    pub async fn create(&self, path: &PathUri) -> Result<FileWriter, Error> {
        if !self.client().info().capabilities.file_write_streaming {
            return Err(Error::Unsupported("writing files in blocks"));
        }
        let handle = Handle::open(self.client(), path, OpenMode::Replace).await?;
        Ok(FileWriter {
            handle,
            blocks: JoinSet::new(),
            buffer: BytesMut::new(),
            position: 0,
        })
    }
}

impl FileReader {
    /// What the file was when it was opened.
    pub fn metadata(&self) -> &GetMetadataResult {
        &self.metadata
    }

    /// The next block, `None` at the end. Blocks are not empty.
    ///
    /// # Errors
    ///
    /// See [`Filesystem`]; [`Error::Misuse`] when the connection was lost and the file has changed
    /// since it was opened.
    ///
    /// # Cancel safety
    ///
    /// Nothing is lost when the future is dropped.
    pub async fn next_block(&mut self) -> Result<Option<Bytes>, Error> {
        while !self.ended {
            self.ask();
            let Some(first) = self.blocks.front_mut() else {
                break;
            };
            let block = match first.join_next().await {
                Some(Ok(block)) => block,
                // A request cannot panic; if one ever does, it must not look like the end.
                _ => Err(Error::ConnectionLost(wire::READ_BLOCK)),
            };
            self.blocks.pop_front();
            match block {
                Ok(block) => {
                    self.ended = block.eof;
                    if self.ended {
                        self.blocks.clear();
                        self.close().await?;
                    }
                    if !block.chunk.is_empty() {
                        self.position += block.chunk.len() as u64;
                        return Ok(Some(block.chunk));
                    }
                }
                Err(Error::ConnectionLost(_)) => self.reopen().await?,
                Err(error) => return Err(error),
            }
        }
        Ok(None)
    }

    /// Gives the file back.
    ///
    /// # Errors
    ///
    /// What ended the session.
    pub async fn close(&mut self) -> Result<(), Error> {
        self.ended = true;
        self.blocks.clear();
        match self.handle.close().await {
            // The executor closed it with the connection.
            Err(Error::ConnectionLost(_)) => Ok(()),
            other => other,
        }
    }

    /// Keeps as many blocks on the way as is useful: one until the file is known to have a second.
    fn ask(&mut self) {
        let wanted = if self.metadata.size <= limits::BLOCK_BYTES as u64 && self.position == 0 {
            1
        } else {
            limits::BLOCKS_IN_FLIGHT
        };
        while self.blocks.len() < wanted {
            let mut task = JoinSet::new();
            task.spawn(self.handle.clone().read(self.ask_at));
            self.ask_at += limits::BLOCK_BYTES as u64;
            self.blocks.push_back(task);
        }
    }

    async fn reopen(&mut self) -> Result<(), Error> {
        self.blocks.clear();
        self.ask_at = self.position;
        loop {
            self.attempts += 1;
            if self.attempts > limits::TRANSFER_ATTEMPTS {
                return Err(Error::ConnectionLost(wire::READ_BLOCK));
            }
            let client = self.filesystem.client();
            let handle = match Handle::open(client, &self.path, OpenMode::Read).await {
                Err(Error::ConnectionLost(_)) => continue,
                other => other?,
            };
            let now = self.filesystem.metadata(&self.path).await?;
            let before = &self.metadata;
            if (now.size, now.modified_at_ms) != (before.size, before.modified_at_ms) {
                return Err(Error::Misuse("the file changed while it was read".into()));
            }
            self.handle = handle;
            return Ok(());
        }
    }
}

/// Writes a file from front to back.
///
/// A lost connection fails the writer with [`Error::ConnectionLost`] and leaves a partial file: the
/// protocol can only begin anew, which needs the contents from the start.
#[derive(Debug)]
pub struct FileWriter {
    handle: Handle,
    blocks: JoinSet<Result<(), Error>>,
    buffer: BytesMut,
    position: u64,
}

impl FileWriter {
    /// Appends bytes. Waits while [`limits::BLOCKS_IN_FLIGHT`] blocks are on the way.
    ///
    /// # Errors
    ///
    /// See [`Filesystem`]; the failure may be that of an earlier block.
    ///
    /// # Cancel safety
    ///
    /// When the future is dropped, a part of the bytes may have been taken.
    pub async fn write(&mut self, bytes: &[u8]) -> Result<(), Error> {
        let mut rest = bytes;
        while !rest.is_empty() {
            let room = limits::BLOCK_BYTES - self.buffer.len();
            let (now, later) = rest.split_at(rest.len().min(room));
            self.buffer.extend_from_slice(now);
            rest = later;
            if self.buffer.len() == limits::BLOCK_BYTES {
                self.flush().await?;
            }
        }
        Ok(())
    }

    /// Appends a whole block without a copy. Every block but the last has to have the largest size.
    pub(super) async fn write_block(&mut self, block: Bytes) -> Result<(), Error> {
        if self.buffer.is_empty() && block.len() <= limits::BLOCK_BYTES {
            self.send(block).await
        } else {
            self.write(&block).await
        }
    }

    /// Waits until everything is written, and closes the file.
    ///
    /// # Errors
    ///
    /// As for [`FileWriter::write`].
    pub async fn finish(mut self) -> Result<(), Error> {
        self.flush().await?;
        while let Some(block) = self.blocks.join_next().await {
            written(block)?;
        }
        self.handle.close().await
    }

    async fn flush(&mut self) -> Result<(), Error> {
        if self.buffer.is_empty() {
            return Ok(());
        }
        let chunk = self.buffer.split().freeze();
        self.send(chunk).await
    }

    async fn send(&mut self, chunk: Bytes) -> Result<(), Error> {
        while self.blocks.len() >= limits::BLOCKS_IN_FLIGHT {
            if let Some(block) = self.blocks.join_next().await {
                written(block)?;
            }
        }
        let offset = self.position;
        self.position += chunk.len() as u64;
        self.blocks.spawn(self.handle.clone().write(offset, chunk));
        Ok(())
    }
}

fn written(block: Result<Result<(), Error>, tokio::task::JoinError>) -> Result<(), Error> {
    // A request cannot panic; if one ever does, the block counts as not written.
    block.unwrap_or(Err(Error::ConnectionLost(wire::WRITE_BLOCK)))
}
