//! Where protected names were occupied, for the case that everything is killed at once.
//!
//! Names are given back by the first process of each sandbox, whatever happens to the executor, and by the
//! executor's next command in that place, whatever happens to the first process. If both are killed and no
//! command follows, an empty directory would stay. So each executor writes down the names before the first
//! command that occupies them, once for each, in a file of its own that it keeps locked:
//!
//! ```text
//! DIRECTORY/names-UUID      paths, each with a zero byte behind it
//! ```
//!
//! An executor that starts looks at the files that nobody has locked, removes what is left of the names in
//! them, and then the files, unless a name is still in use. Only what is empty, has the mode of a placeholder, belongs to its user and is in
//! use by nobody is ever removed, so a file that lies does no harm.

use std::collections::BTreeSet;
use std::ffi::OsStr;
use std::fs::{DirBuilder, File, OpenOptions};
use std::io::{self, Read as _, Write as _};
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

use rustix::fs::{FlockOperation, OFlags, flock};
use rustix::io::Errno;
use uuid::Uuid;

use super::placeholder;

/// The names that one executor has occupied.
#[derive(Debug)]
pub(crate) struct Journal {
    directory: PathBuf,
    /// Made with the first name; with its lock.
    file: Option<File>,
    known: BTreeSet<PathBuf>,
}

impl Journal {
    /// In a directory that is made when it is needed.
    pub(crate) fn new(directory: PathBuf) -> Self {
        Self {
            directory,
            file: None,
            known: BTreeSet::new(),
        }
    }

    /// Writes down names that were not yet.
    ///
    /// # Errors
    ///
    /// Whatever the system says. Names that were not written down are tried again.
    pub(crate) fn note<'a>(&mut self, names: impl Iterator<Item = &'a Path>) -> io::Result<()> {
        let new: Vec<_> = names.filter(|name| !self.known.contains(*name)).collect();
        if new.is_empty() {
            return Ok(());
        }
        let mut file = match self.file.take() {
            Some(file) => file,
            None => self.make()?,
        };
        let mut text = Vec::new();
        for name in &new {
            text.extend_from_slice(name.as_os_str().as_bytes());
            text.push(0);
        }
        let written = file.write_all(&text);
        self.file = Some(file);
        written?;
        self.known.extend(new.into_iter().map(Path::to_owned));
        Ok(())
    }

    fn make(&self) -> io::Result<File> {
        let mut builder = DirBuilder::new();
        builder
            .recursive(true)
            .mode(0o700)
            .create(&self.directory)?;
        let path = self.directory.join(format!("{PREFIX}{}", Uuid::new_v4()));
        let mut options = OpenOptions::new();
        let file = options
            .append(true)
            .create_new(true)
            .mode(0o600)
            .open(path)?;
        flock(&file, FlockOperation::NonBlockingLockExclusive)?;
        Ok(file)
    }
}

/// Removes what executors have left that were killed with all that they had started.
pub(crate) fn sweep(directory: &Path) {
    let Ok(entries) = std::fs::read_dir(directory) else {
        // Nothing was ever written down.
        return;
    };
    for entry in entries.flatten() {
        let name = entry.file_name();
        if name.to_str().is_some_and(|name| name.starts_with(PREFIX)) {
            // Another one may be faster, or not allowed to.
            let _ = sweep_one(&entry.path());
        }
    }
}

fn sweep_one(path: &Path) -> io::Result<()> {
    let flags = (OFlags::NOFOLLOW | OFlags::NONBLOCK).bits().cast_signed();
    let file = OpenOptions::new()
        .read(true)
        .custom_flags(flags)
        .open(path)?;
    // Its executor lives.
    flock(&file, FlockOperation::NonBlockingLockExclusive)?;
    let mut text = Vec::new();
    (&file).take(MAX_BYTES).read_to_end(&mut text)?;
    let mut is_used = false;
    for name in text.split(|byte| *byte == 0) {
        // What is not there any more, or never was one, is none of ours.
        if let Err(err) = placeholder::remove_abandoned(Path::new(OsStr::from_bytes(name))) {
            is_used |= err.raw_os_error() == Some(Errno::BUSY.raw_os_error());
        }
    }
    if is_used {
        // The next executor looks again.
        return Ok(());
    }
    std::fs::remove_file(path)
}

const PREFIX: &str = "names-";

/// Of one file: far more than an executor sees workspaces.
const MAX_BYTES: u64 = 16 << 20;

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    fn make(path: &Path, mode: u32) {
        std::fs::create_dir(path).unwrap();
        std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode)).unwrap();
    }

    fn files(directory: &Path) -> usize {
        std::fs::read_dir(directory).unwrap().count()
    }

    #[test]
    fn what_is_left_of_a_killed_executor_is_removed_and_nothing_else() {
        let place = tempfile::tempdir().unwrap();
        let place = place.path().canonicalize().unwrap();
        let state = place.join("state/names");
        let [left, own, full, absent] = ["left", "own", "full", "absent"].map(|it| place.join(it));
        make(&left, 0o1555);
        make(&own, 0o755);
        make(&full, 0o755);
        std::fs::write(full.join("file"), "").unwrap();
        std::fs::set_permissions(&full, std::fs::Permissions::from_mode(0o1555)).unwrap();

        let mut journal = Journal::new(state.clone());
        let names = [&left, &own, &full, &absent];
        for _ in 0..2 {
            journal
                .note(names.iter().map(|name| name.as_path()))
                .unwrap();
        }
        sweep(&state);
        assert!(left.exists(), "its executor lives");
        drop(journal);
        sweep(&state);
        assert!(!left.exists() && own.exists() && full.join("file").exists());
        assert_eq!(files(&state), 0);
    }

    #[test]
    fn a_name_that_is_used_is_left_for_the_next_time() {
        let place = tempfile::tempdir().unwrap();
        let place = place.path().canonicalize().unwrap();
        let (state, name) = (place.join("names"), place.join("name"));
        make(&name, 0o1555);
        let mut journal = Journal::new(state.clone());
        journal.note([name.as_path()].into_iter()).unwrap();
        drop(journal);
        let user = File::open(&name).unwrap();
        flock(&user, FlockOperation::LockShared).unwrap();
        sweep(&state);
        assert!(name.exists());
        assert_eq!(files(&state), 1);
        drop(user);
        sweep(&state);
        assert!(!name.exists());
        assert_eq!(files(&state), 0);
    }

    #[test]
    fn names_are_written_down_once_and_none_makes_no_file() {
        let place = tempfile::tempdir().unwrap();
        let state = place.path().join("names");
        let mut journal = Journal::new(state.clone());
        journal.note(std::iter::empty()).unwrap();
        assert!(!state.exists());
        for names in [&["/a", "/b"][..], &["/b", "/c"], &["/a"]] {
            journal.note(names.iter().map(Path::new)).unwrap();
        }
        let file = std::fs::read_dir(&state).unwrap().next().unwrap().unwrap();
        assert_eq!(std::fs::read(file.path()).unwrap(), b"/a\0/b\0/c\0");
        assert_eq!(files(&state), 1);
    }
}
