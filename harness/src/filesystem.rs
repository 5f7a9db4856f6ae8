//! Files on the executor: whole, block by block, and the directories around them.
//!
//! Reads and looks at metadata are repeated after a lost connection. Changes are not: they fail with
//! [`Error::OutcomeUnknown`], since somebody else may have changed the same path meanwhile. Open
//! files belong to one connection; [`FileReader`] opens its file again and goes on where it was, if
//! the file is still the same.

use bytes::Bytes;
use exec_proto::{
    Empty, PathUri,
    fs::{
        self as wire, AppendParams, AppendResult, CanonicalizeParams, CanonicalizeResult,
        CopyParams, CreateDirectoryParams, DirectoryEntry, GetMetadataParams, GetMetadataResult,
        ReadDirectoryParams, ReadDirectoryResult, ReadFileParams, ReadFileResult, RemoveParams,
        RenameParams, SyncParams, WalkOptions, WalkParams, WalkResult, WriteFileParams,
    },
};

use crate::{Client, Error, engine::call::Retry};

mod batch;
mod blocks;
mod tree;
mod watch;

pub use batch::{FsCall, FsOutcome, OnError};
pub use blocks::{FileReader, FileWriter};
pub use tree::{Complete, Copied, CopyEvent, download, upload};
pub use watch::MissingWatch;

/// The executor's files. Cheap to make: `client.filesystem()`.
#[derive(Clone, Debug)]
pub struct Filesystem {
    client: Client,
}

/// Whether the directories above, or the contents below, are included.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Recursion {
    /// This path only.
    Single,
    /// Parents when creating, contents when removing.
    Recursive,
}

/// What a rename does with what is at the destination.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Existing {
    /// Takes its place in one step.
    Replace,
    /// Leaves it, and fails.
    Keep,
}

/// What a missing path means to a removal.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Missing {
    /// An error.
    Fails,
    /// Nothing to do.
    Succeeds,
}

impl Client {
    /// The executor's files.
    pub fn filesystem(&self) -> Filesystem {
        Filesystem {
            client: self.clone(),
        }
    }
}

/// Every method fails as [`Error`] says for requests; [`Error::is_not_found`] tells a missing path.
impl Filesystem {
    /// Reads a regular file of at most about 48 MiB whole. Use [`Filesystem::open`] for larger ones.
    ///
    /// # Errors
    ///
    /// See the type.
    pub async fn read(&self, path: &PathUri) -> Result<Bytes, Error> {
        let params = ReadFileParams {
            path: path.clone(),
            follow_symlinks: None,
            sandbox: None,
        };
        let result: ReadFileResult = self
            .client
            .call(wire::READ_FILE, &params, Retry::Repeat)
            .await?;
        Ok(result.data_base64)
    }

    /// Creates or replaces a file. Not atomic: the executor writes in place.
    ///
    /// # Errors
    ///
    /// See the type.
    pub async fn write(&self, path: &PathUri, contents: &[u8]) -> Result<(), Error> {
        self.write_file(path, contents, Retry::Never).await
    }

    /// The same for a file that nobody else knows, which therefore may be written twice.
    pub(crate) async fn write_again(&self, path: &PathUri, contents: &[u8]) -> Result<(), Error> {
        self.write_file(path, contents, Retry::Repeat).await
    }

    async fn write_file(&self, path: &PathUri, contents: &[u8], retry: Retry) -> Result<(), Error> {
        let params = WriteFileParams {
            path: path.clone(),
            data_base64: Bytes::copy_from_slice(contents).into(),
            follow_symlinks: None,
            sandbox: None,
        };
        let _: Empty = self.client.call(wire::WRITE_FILE, &params, retry).await?;
        Ok(())
    }

    /// What a path is, following links.
    ///
    /// # Errors
    ///
    /// See the type.
    pub async fn metadata(&self, path: &PathUri) -> Result<GetMetadataResult, Error> {
        let params = GetMetadataParams {
            path: path.clone(),
            follow_symlinks: None,
            sandbox: None,
        };
        self.client
            .call(wire::GET_METADATA, &params, Retry::Repeat)
            .await
    }

    /// The path with links resolved.
    ///
    /// # Errors
    ///
    /// See the type.
    pub async fn canonicalize(&self, path: &PathUri) -> Result<PathUri, Error> {
        let params = CanonicalizeParams {
            path: path.clone(),
            sandbox: None,
        };
        let result: CanonicalizeResult = self
            .client
            .call(wire::CANONICALIZE, &params, Retry::Repeat)
            .await?;
        Ok(result.path)
    }

    /// The names in a directory, sorted. Links count as what they point to.
    ///
    /// # Errors
    ///
    /// See the type.
    pub async fn list(&self, path: &PathUri) -> Result<Vec<DirectoryEntry>, Error> {
        let params = ReadDirectoryParams {
            path: path.clone(),
            sandbox: None,
        };
        let result: ReadDirectoryResult = self
            .client
            .call(wire::READ_DIRECTORY, &params, Retry::Repeat)
            .await?;
        let mut entries = result.entries;
        entries.sort_by(|a, b| a.file_name.cmp(&b.file_name));
        Ok(entries)
    }

    /// The names below a directory, breadth first.
    ///
    /// # Errors
    ///
    /// See the type.
    pub async fn walk(&self, path: &PathUri, options: WalkOptions) -> Result<WalkResult, Error> {
        let params = WalkParams {
            path: path.clone(),
            options,
            sandbox: None,
        };
        self.client.call(wire::WALK, &params, Retry::Repeat).await
    }

    /// Makes a directory.
    ///
    /// # Errors
    ///
    /// See the type.
    pub async fn create_directory(&self, path: &PathUri, parents: Recursion) -> Result<(), Error> {
        let recursive = parents == Recursion::Recursive;
        let params = CreateDirectoryParams {
            path: path.clone(),
            recursive: Some(recursive),
            follow_symlinks: None,
            sandbox: None,
        };
        // With parents, an existing directory is fine, so once more does no harm.
        let retry = if recursive {
            Retry::Repeat
        } else {
            Retry::Never
        };
        let _: Empty = self
            .client
            .call(wire::CREATE_DIRECTORY, &params, retry)
            .await?;
        Ok(())
    }

    /// Removes a path. Of a link, removes the link.
    ///
    /// # Errors
    ///
    /// See the type.
    pub async fn remove(
        &self,
        path: &PathUri,
        contents: Recursion,
        missing: Missing,
    ) -> Result<(), Error> {
        let params = RemoveParams {
            path: path.clone(),
            recursive: Some(contents == Recursion::Recursive),
            force: Some(missing == Missing::Succeeds),
            follow_symlinks: None,
            sandbox: None,
        };
        let _: Empty = self
            .client
            .call(wire::REMOVE, &params, Retry::Never)
            .await?;
        Ok(())
    }

    /// Copies on the executor itself.
    ///
    /// # Errors
    ///
    /// See the type.
    pub async fn copy(
        &self,
        from: &PathUri,
        to: &PathUri,
        contents: Recursion,
    ) -> Result<(), Error> {
        let params = CopyParams {
            source_path: from.clone(),
            destination_path: to.clone(),
            recursive: contents == Recursion::Recursive,
            sandbox: None,
        };
        let _: Empty = self.client.call(wire::COPY, &params, Retry::Never).await?;
        Ok(())
    }

    /// Gives a file, directory or link another name on the same filesystem, in one step.
    ///
    /// # Errors
    ///
    /// See the type; [`Error::Unsupported`] when the executor cannot rename.
    pub async fn rename(
        &self,
        from: &PathUri,
        to: &PathUri,
        existing: Existing,
    ) -> Result<(), Error> {
        if !self.client.capabilities().fs_rename {
            return Err(Error::Unsupported("renaming"));
        }
        let params = RenameParams {
            source_path: from.clone(),
            destination_path: to.clone(),
            replace: Some(existing == Existing::Replace),
            sandbox: None,
        };
        let _: Empty = self
            .client
            .call(wire::RENAME, &params, Retry::Never)
            .await?;
        Ok(())
    }

    /// Adds to the end of a file, which is made if there is none. Returns where in the file the
    /// added bytes begin.
    ///
    /// # Errors
    ///
    /// See the type; [`Error::Unsupported`] when the executor cannot append.
    pub async fn append(&self, path: &PathUri, contents: impl Into<Bytes>) -> Result<u64, Error> {
        if !self.client.capabilities().fs_append {
            return Err(Error::Unsupported("appending"));
        }
        let params = AppendParams {
            path: path.clone(),
            data_base64: contents.into(),
            follow_symlinks: None,
            sandbox: None,
        };
        let result: AppendResult = self
            .client
            .call(wire::APPEND, &params, Retry::Never)
            .await?;
        Ok(result.offset)
    }

    /// Brings a file, or the names in a directory, to the disk.
    ///
    /// # Errors
    ///
    /// See the type; [`Error::Unsupported`] when the executor cannot do it on demand.
    pub async fn sync(&self, path: &PathUri) -> Result<(), Error> {
        if !self.client.capabilities().fs_sync {
            return Err(Error::Unsupported("syncing"));
        }
        let params = SyncParams {
            path: Some(path.clone()),
            ..SyncParams::default()
        };
        let _: Empty = self.client.call(wire::SYNC, &params, Retry::Repeat).await?;
        Ok(())
    }

    pub(crate) fn client(&self) -> &Client {
        &self.client
    }
}
