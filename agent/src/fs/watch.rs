//! `fs/watchMissing`: tells once that a path which did not exist may exist now.
//!
//! For each missing path, every directory from the root to its deepest existing ancestor is observed for
//! changes to the one name in it that leads to the path. So the watch fires when the path or a missing
//! ancestor appears, and also when an existing ancestor is moved, removed or replaced. Everything else in
//! those directories is ignored. `present` is observed the same way, and for changes of its own. A change of
//! the mounts fires as well, because a mount makes paths appear without any event in a directory.
//!
//! A watch is refused, not weakened, where it could miss something: paths through links, below files, on
//! filesystems whose changes come from elsewhere.

use std::collections::{HashMap, HashSet};
use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::io;
use std::mem::MaybeUninit;
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Component, Path, PathBuf};

use rustix::fs::inotify::{self, CreateFlags, ReadFlags, WatchFlags};
use rustix::fs::{FileType, Mode, OFlags};
use rustix::io::Errno;
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;

use super::limits::WATCHED_DIRECTORIES;

/// A watch that has been set up and not yet fired.
#[derive(Debug)]
pub(crate) struct Armed {
    inotify: OwnedFd,
    mounts: Option<File>,
    directories: HashMap<i32, HashSet<OsString>>,
    /// Observed for any event of its own.
    present: Option<i32>,
}

impl Armed {
    /// Sets up a watch. `None` if the paths cannot be watched, in particular because one of `missing`
    /// exists or `present` does not.
    ///
    /// Each directory is observed before it is looked at, so nothing is missed in between.
    pub(crate) fn new(missing: &[PathBuf], present: Option<&Path>) -> Option<Self> {
        let inotify = inotify::init(CreateFlags::CLOEXEC | CreateFlags::NONBLOCK).ok()?;
        let mounts = File::open("/proc/self/mountinfo").ok();
        let mut armed = Self {
            inotify,
            mounts,
            directories: HashMap::new(),
            present: None,
        };
        let mut known = HashMap::new();
        for path in missing {
            match armed.follow(path, &mut known) {
                Ok(End::Missing) => {}
                Ok(End::Exists) | Err(_) => return None,
            }
        }
        if let Some(path) = present {
            match armed.follow(path, &mut known) {
                Ok(End::Exists) => {
                    let flags = PRESENT | WatchFlags::DONT_FOLLOW | WatchFlags::MASK_ADD;
                    armed.present = Some(inotify::add_watch(&armed.inotify, path, flags).ok()?);
                }
                Ok(End::Missing) | Err(_) => return None,
            }
        }
        Some(armed)
    }

    /// Ends when something happened that the watch is for.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future ends the watch.
    pub(crate) async fn fired(self) {
        let Self {
            inotify,
            mounts,
            directories,
            present,
        } = self;
        let Ok(events) = register(inotify, Interest::READABLE) else {
            return;
        };
        let mounts = mounts.and_then(|file| register(file, Interest::PRIORITY).ok());
        let mounts_changed = async {
            match &mounts {
                Some(mounts) => drop(mounts.ready(Interest::PRIORITY).await),
                None => std::future::pending().await,
            }
        };
        let path_changed = async {
            while let Ok(mut ready) = events.readable().await {
                if matters(events.get_ref(), &directories, present) {
                    break;
                }
                ready.clear_ready();
            }
        };
        tokio::select! {
            () = mounts_changed => {}
            () = path_changed => {}
        }
    }

    /// Observes all that leads to `path`.
    fn follow(&mut self, path: &Path, known: &mut HashMap<PathBuf, i32>) -> io::Result<End> {
        let mut directory = PathBuf::from("/");
        let mut components = path.components().peekable();
        while let Some(component) = components.next() {
            let name = match component {
                Component::RootDir | Component::CurDir => continue,
                Component::Normal(name) => name,
                Component::ParentDir | Component::Prefix(_) => return Err(Errno::INVAL.into()),
            };
            // The watch comes before the look, so that nothing is missed in between.
            self.observe(&directory, name, known)?;
            directory.push(name);
            let stat = match rustix::fs::lstat(&directory) {
                Ok(stat) => stat,
                Err(Errno::NOENT) => {
                    directory.pop();
                    return if tells_changes(&directory)? {
                        Ok(End::Missing)
                    } else {
                        Err(Errno::NOTSUP.into())
                    };
                }
                Err(errno) => return Err(errno.into()),
            };
            let is_last = components.peek().is_none();
            match FileType::from_raw_mode(stat.st_mode) {
                FileType::Directory => {}
                FileType::Symlink if !is_last => return Err(Errno::LOOP.into()),
                _ if !is_last => return Err(Errno::NOTDIR.into()),
                _ => {}
            }
        }
        if tells_changes(&directory)? {
            Ok(End::Exists)
        } else {
            Err(Errno::NOTSUP.into())
        }
    }

    /// Observes one name in a directory.
    fn observe(
        &mut self,
        directory: &Path,
        name: &OsStr,
        known: &mut HashMap<PathBuf, i32>,
    ) -> io::Result<()> {
        let id = match known.get(directory) {
            Some(id) => *id,
            None if known.len() == WATCHED_DIRECTORIES => return Err(Errno::NOSPC.into()),
            None => {
                let id = inotify::add_watch(&self.inotify, directory, NAMES)?;
                known.insert(directory.to_path_buf(), id);
                id
            }
        };
        self.directories
            .entry(id)
            .or_default()
            .insert(name.to_owned());
        Ok(())
    }
}

/// Where a path ends.
enum End {
    Missing,
    Exists,
}

/// Has the runtime wait for a descriptor.
#[expect(
    deprecated,
    reason = "sound for descriptors that the value owns and never changes; the successor is unsafe to call"
)]
fn register<T: Into<OwnedFd> + AsRawFd>(owned: T, interest: Interest) -> io::Result<AsyncFd<T>> {
    AsyncFd::with_interest(owned, interest)
}

/// Reads what there is to read and says whether any of it counts.
fn matters(
    inotify: &OwnedFd,
    directories: &HashMap<i32, HashSet<OsString>>,
    present: Option<i32>,
) -> bool {
    let mut buffer = [MaybeUninit::uninit(); EVENT_BUFFER_BYTES];
    let mut reader = inotify::Reader::new(inotify, &mut buffer);
    loop {
        let event = match reader.next() {
            Ok(event) => event,
            Err(Errno::INTR) => continue,
            Err(Errno::AGAIN) => return false,
            Err(_) => return true,
        };
        // Events were lost, or the directory is no longer observed.
        let lost = ReadFlags::QUEUE_OVERFLOW | ReadFlags::UNMOUNT | ReadFlags::IGNORED;
        if event.events().intersects(lost) {
            return true;
        }
        if let Some(name) = event.file_name()
            && let Some(names) = directories.get(&event.wd())
            && names.contains(OsStr::from_bytes(name.to_bytes()))
        {
            return true;
        }
        if present == Some(event.wd()) {
            let own = event.file_name().is_none();
            // A directory that is present and also leads to a missing path: its names are looked at above.
            if own || !directories.contains_key(&event.wd()) {
                return true;
            }
        }
    }
}

/// Whether the kernel sees all changes to what is in that directory or file.
fn tells_changes(path: &Path) -> io::Result<bool> {
    let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let kind = rustix::fs::fstatfs(rustix::fs::open(path, flags, Mode::empty())?)?.f_type;
    Ok(!SILENT_FILESYSTEMS.contains(&kind))
}

/// What happens to names in a directory.
const NAMES: WatchFlags = WatchFlags::CREATE
    .union(WatchFlags::DELETE)
    .union(WatchFlags::MOVED_FROM)
    .union(WatchFlags::MOVED_TO)
    .union(WatchFlags::ONLYDIR)
    .union(WatchFlags::DONT_FOLLOW)
    .union(WatchFlags::MASK_ADD);

/// What happens to a file that is present.
const PRESENT: WatchFlags = WatchFlags::MODIFY
    .union(WatchFlags::ATTRIB)
    .union(WatchFlags::CREATE)
    .union(WatchFlags::DELETE)
    .union(WatchFlags::MOVED_FROM)
    .union(WatchFlags::MOVED_TO)
    .union(WatchFlags::DELETE_SELF)
    .union(WatchFlags::MOVE_SELF);

/// Room for a good number of events; each is 16 bytes and a name of at most 256.
const EVENT_BUFFER_BYTES: usize = 8192;

/// Filesystems that change without telling: made up by the kernel, or changed by other hosts.
const SILENT_FILESYSTEMS: [rustix::fs::FsWord; 11] = [
    0x9fa0,      // proc
    0x6265_6572, // sysfs
    0x0027_e0eb, // cgroup
    0x6367_7270, // cgroup2
    0x6969,      // nfs
    0x517b,      // smb
    0xff53_4d42, // cifs
    0xfe53_4d42, // smb2
    0x6573_5546, // fuse
    0x0102_1997, // 9p
    0x00c3_6400, // ceph
];

#[cfg(test)]
mod tests;
