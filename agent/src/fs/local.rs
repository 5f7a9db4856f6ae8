//! What the stateless requests do, once it is this process that may do it: from parameters to results,
//! on a thread that may block.

use exec_proto::PathUri;
use exec_proto::fs as wire;
use rustix::fs::FileType;

use super::changes::{self, Existing};
use super::open::{Links, read_to_end};
use super::parents::Parents;
use super::pool::Cancelled;
use super::walk::{Failed, Found};
use super::{FsError, WalkOptions, directory, metadata, native, write};

/// `fs/readFile`. Fails with [`FsError::TooLarge`] beyond `limit` bytes.
pub(super) fn read_file(
    params: &wire::ReadFileParams,
    limit: u64,
    parents: &mut Parents,
) -> Result<wire::ReadFileResult, FsError> {
    let path = native(&params.path)?;
    let (file, stat) = parents.open_to_read(&path, Links::from_param(params.follow_symlinks))?;
    Ok(wire::ReadFileResult {
        data_base64: read_to_end(&file, &stat, limit)?,
    })
}

/// `fs/writeFile`
pub(super) fn write_file(
    params: &wire::WriteFileParams,
    parents: &mut Parents,
) -> Result<(), FsError> {
    let path = native(&params.path)?;
    let data = params.data_base64.decode().map_err(FsError::Base64)?;
    let target = parents.target(&path, Links::from_param(params.follow_symlinks))?;
    write::write_file(target, &data)
}

/// `fs/createDirectory`
pub(super) fn create_directory(params: &wire::CreateDirectoryParams) -> Result<(), FsError> {
    let links = Links::from_param(params.follow_symlinks);
    let recursive = params.recursive.unwrap_or(true);
    directory::create_directory(&native(&params.path)?, recursive, links)
}

/// `fs/getMetadata`
pub(super) fn get_metadata(
    params: &wire::GetMetadataParams,
) -> Result<wire::GetMetadataResult, FsError> {
    let links = Links::from_param(params.follow_symlinks);
    let found = metadata::metadata(&native(&params.path)?, links)?;
    Ok(wire::GetMetadataResult {
        is_directory: found.kind == FileType::Directory,
        is_file: found.kind == FileType::RegularFile,
        is_symlink: found.is_symlink,
        size: found.size,
        created_at_ms: found.created_at_ms,
        modified_at_ms: found.modified_at_ms,
    })
}

/// `fs/canonicalize`
pub(super) fn canonicalize(
    params: &wire::CanonicalizeParams,
) -> Result<wire::CanonicalizeResult, FsError> {
    let path = metadata::canonicalize(&native(&params.path)?)?;
    let path =
        PathUri::from_native(&path).ok_or(FsError::Io(std::io::ErrorKind::NotFound.into()))?;
    Ok(wire::CanonicalizeResult { path })
}

/// `fs/readDirectory`
pub(super) fn read_directory(
    params: &wire::ReadDirectoryParams,
    cancelled: &Cancelled,
) -> Result<wire::ReadDirectoryResult, FsError> {
    let path = native(&params.path)?;
    let entry = |entry: directory::Entry| wire::DirectoryEntry {
        path: match entry.name.to_str() {
            Some(_) => None,
            None => PathUri::from_native(&path.join(&entry.name)),
        },
        file_name: entry.name.to_string_lossy().into_owned(),
        is_directory: entry.kind == FileType::Directory,
        is_file: entry.kind == FileType::RegularFile,
    };
    let entries = directory::read_directory(&path, cancelled)?;
    Ok(wire::ReadDirectoryResult {
        entries: entries.into_iter().map(entry).collect(),
    })
}

/// `fs/walk`
pub(super) fn walk(
    params: &wire::WalkParams,
    cancelled: &Cancelled,
) -> Result<wire::WalkResult, FsError> {
    let path = native(&params.path)?;
    let options = WalkOptions {
        max_depth: params.options.max_depth,
        max_directories: params.options.max_directories,
        max_entries: params.options.max_entries,
        follow_directory_links: params.options.follow_directory_symlinks,
        prune_hidden: params.options.prune_hidden_directories,
    };
    options.check()?;
    let walked = super::walk::walk(&path, options, cancelled)?;
    let entry = |found: Found| wire::WalkEntry {
        path: found.uri,
        kind: if found.is_directory {
            wire::WalkEntryKind::Directory
        } else {
            wire::WalkEntryKind::File
        },
    };
    let error = |failed: Failed| wire::WalkError {
        path: failed.uri,
        message: failed.message,
    };
    Ok(wire::WalkResult {
        entries: walked.entries.into_iter().map(entry).collect(),
        errors: walked.errors.into_iter().map(error).collect(),
        truncated: walked.truncated,
    })
}

/// `fs/remove`
pub(super) fn remove(params: &wire::RemoveParams) -> Result<(), FsError> {
    let links = Links::from_param(params.follow_symlinks);
    let recursive = params.recursive.unwrap_or(true);
    let force = params.force.unwrap_or(true);
    directory::remove(&native(&params.path)?, recursive, force, links)
}

/// `fs/rename`
pub(super) fn rename(params: &wire::RenameParams) -> Result<(), FsError> {
    let existing = match params.replace.unwrap_or(true) {
        true => Existing::Replace,
        false => Existing::Keep,
    };
    let (source, destination) = (
        native(&params.source_path)?,
        native(&params.destination_path)?,
    );
    changes::rename(&source, &destination, existing)
}
