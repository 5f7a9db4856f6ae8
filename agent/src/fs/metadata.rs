//! `fs/getMetadata` and `fs/canonicalize`.

use std::path::{Path, PathBuf};

use rustix::fs::{AtFlags, CWD, FileType, StatxFlags, StatxTimestamp};
use rustix::io::Errno;

use super::FsError;
use super::open::{Links, locate_no_follow};

/// What is known about a path.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Metadata {
    /// Of the target.
    pub(crate) kind: FileType,
    /// Whether the name itself is a link.
    pub(crate) is_symlink: bool,
    /// Of the target, in bytes.
    pub(crate) size: u64,
    /// Of the target, in milliseconds since 1970; 0 where the filesystem does not know it.
    pub(crate) created_at_ms: i64,
    /// Of the target, in milliseconds since 1970.
    pub(crate) modified_at_ms: i64,
}

/// Looks at `path`.
///
/// # Errors
///
/// ENOENT for a dangling link when links are followed, [`FsError::SymbolicLink`] for a link otherwise.
pub(crate) fn metadata(path: &Path, links: Links) -> Result<Metadata, FsError> {
    match links {
        Links::Follow => {
            let own = attributes(CWD, path, AtFlags::SYMLINK_NOFOLLOW)?;
            if !own.is_symlink {
                return Ok(own);
            }
            Ok(Metadata {
                is_symlink: true,
                ..attributes(CWD, path, AtFlags::empty())?
            })
        }
        Links::Refuse => {
            let own = match locate_no_follow(path) {
                Ok(found) => attributes(&found.dir, &found.name, AtFlags::SYMLINK_NOFOLLOW)?,
                Err(FsError::NoName) => attributes(CWD, path, AtFlags::SYMLINK_NOFOLLOW)?,
                Err(err) => return Err(err),
            };
            if own.is_symlink {
                Err(FsError::SymbolicLink)
            } else {
                Ok(own)
            }
        }
    }
}

/// The path without links, dots and repeated slashes.
pub(crate) fn canonicalize(path: &Path) -> Result<PathBuf, FsError> {
    Ok(path.canonicalize()?)
}

fn attributes(
    dir: impl std::os::fd::AsFd,
    path: impl rustix::path::Arg + Copy,
    flags: AtFlags,
) -> Result<Metadata, Errno> {
    let wanted = StatxFlags::BASIC_STATS | StatxFlags::BTIME;
    match rustix::fs::statx(dir.as_fd(), path, flags, wanted) {
        Ok(found) => {
            let known = StatxFlags::from_bits_retain(found.stx_mask).contains(StatxFlags::BTIME);
            let kind = FileType::from_raw_mode(found.stx_mode.into());
            Ok(Metadata {
                kind,
                is_symlink: kind == FileType::Symlink,
                size: found.stx_size,
                created_at_ms: if known {
                    milliseconds(found.stx_btime)
                } else {
                    0
                },
                modified_at_ms: milliseconds(found.stx_mtime),
            })
        }
        // Kernels before 4.11, and sandboxes that do not know the call.
        Err(Errno::NOSYS | Errno::PERM) => {
            let found = rustix::fs::statat(dir, path, flags)?;
            let kind = FileType::from_raw_mode(found.st_mode);
            let nanoseconds = i64::try_from(found.st_mtime_nsec).unwrap_or(0);
            Ok(Metadata {
                kind,
                is_symlink: kind == FileType::Symlink,
                size: u64::try_from(found.st_size).unwrap_or(0),
                created_at_ms: 0,
                modified_at_ms: found.st_mtime.saturating_mul(1000) + nanoseconds / 1_000_000,
            })
        }
        Err(errno) => Err(errno),
    }
}

fn milliseconds(time: StatxTimestamp) -> i64 {
    time.tv_sec
        .saturating_mul(1000)
        .saturating_add(i64::from(time.tv_nsec / 1_000_000))
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;
    use std::time::{Duration, SystemTime};

    use super::*;

    fn errno(result: Result<Metadata, FsError>) -> Option<i32> {
        match result.unwrap_err() {
            FsError::Io(err) => err.raw_os_error(),
            other => panic!("{other}"),
        }
    }

    #[test]
    fn times_and_size_are_those_of_the_target() {
        let dir = tempfile::tempdir().unwrap();
        let root = dir.path().canonicalize().unwrap();
        let path = root.join("f");
        let now = || {
            let since = SystemTime::now()
                .duration_since(SystemTime::UNIX_EPOCH)
                .unwrap();
            i64::try_from(since.as_millis()).unwrap()
        };
        // The clock of the filesystem may lag by one tick of the kernel.
        let before = now() - 20;
        std::fs::write(&path, "hello\n").unwrap();
        let after = now();
        let past = SystemTime::UNIX_EPOCH + Duration::from_millis(1_000_000_000_123);
        std::fs::File::open(&path)
            .unwrap()
            .set_modified(past)
            .unwrap();
        symlink("f", root.join("l")).unwrap();
        for (name, links) in [
            ("f", Links::Follow),
            ("f", Links::Refuse),
            ("l", Links::Follow),
        ] {
            let found = metadata(&root.join(name), links).unwrap();
            assert_eq!(found.kind, FileType::RegularFile);
            assert_eq!(found.is_symlink, name == "l");
            assert_eq!(found.size, 6);
            assert_eq!(found.modified_at_ms, 1_000_000_000_123);
            assert!((before..=after).contains(&found.created_at_ms), "{found:?}");
        }
    }

    #[test]
    fn links_that_lead_nowhere_and_links_that_are_refused_differ() {
        let dir = tempfile::tempdir().unwrap();
        let root = dir.path().canonicalize().unwrap();
        let at = |name: &str| root.join(name);
        symlink("none", at("dangling")).unwrap();
        symlink("loop", at("loop")).unwrap();
        std::fs::create_dir(at("d")).unwrap();
        symlink("d", at("l")).unwrap();
        assert_eq!(errno(metadata(&at("dangling"), Links::Follow)), Some(2));
        assert_eq!(errno(metadata(&at("loop"), Links::Follow)), Some(40));
        assert_eq!(errno(metadata(&at("l/x"), Links::Refuse)), Some(20));
        for name in ["dangling", "loop", "l"] {
            let refused = metadata(&at(name), Links::Refuse).unwrap_err();
            assert_eq!(refused.to_string(), "path contains a symbolic link");
        }
        assert_eq!(
            metadata(Path::new("/"), Links::Refuse).unwrap().kind,
            FileType::Directory
        );
    }
}
