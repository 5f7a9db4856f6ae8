//! Building the tree of files of a sandbox and going into it.
//!
//! Runs in the first process of new namespaces, as their superuser, before anything of the client's
//! runs. Every path is opened without following links, since the plan has none: what became a link
//! meanwhile is an error.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt as _;
use std::path::Path;

use rustix::fs::{AtFlags, CWD, FileType, Mode, OFlags, ResolveFlags};
use rustix::io::Errno;
use rustix::mount::{
    FsMountFlags, FsOpenFlags, MountAttrFlags, MountPropagationFlags, MoveMountFlags,
    OpenTreeFlags, UnmountFlags,
};

use super::failure::{Failure, Stage, at};
use super::steps::{Action, Base, MountPlan, Point, PointKind, Step};
use super::sys;

/// Replaces the root directory of this process by what the plan says.
///
/// `occupied` says when there is something to cover for all names, if that is wanted. `terminal` appears
/// as `/dev/console`.
pub(super) fn enter(
    plan: &MountPlan,
    names: Names,
    occupied: OwnedFd,
    terminal: Option<BorrowedFd<'_>>,
) -> Result<(), Failure> {
    let host = rustix::fs::open("/", DIRECTORY, Mode::empty()).map_err(at(Stage::Mounts))?;
    rustix::mount::mount_change(
        "/",
        MountPropagationFlags::PRIVATE | MountPropagationFlags::REC,
    )
    .map_err(at(Stage::Mounts))?;

    let root = match &plan.base {
        Base::Host { writable } => copy(&host, Path::new("/"), *writable),
        Base::Empty { points } => {
            let own = ["/proc", "/dev"].map(|path| Point {
                path: path.into(),
                kind: PointKind::Directory,
            });
            let points: Vec<Point> = points.iter().cloned().chain(own).collect();
            empty(0o755, Path::new("/"), &points)
        }
    }
    .map_err(at(Stage::Mounts))?;
    let from_path = MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH;
    rustix::mount::move_mount(&root, "", CWD, "/", from_path).map_err(at(Stage::Mounts))?;

    // While nothing covers it, `/dev` holds what is mounted in many places.
    let blanks = Blanks::attach(&root).map_err(at(Stage::Mounts))?;
    let proc =
        mount("proc", &[], QUIET | MountAttrFlags::MOUNT_ATTR_RDONLY).map_err(at(Stage::Proc))?;
    attach(&proc, &root, Path::new("/proc")).map_err(at(Stage::Proc))?;
    devices(&host, &root, terminal).map_err(at(Stage::Devices))?;
    if plan.base == (Base::Host { writable: true }) {
        match copy(&host, Path::new("/sys"), false) {
            Ok(sys) => attach(&sys, &root, Path::new("/sys")).map_err(at(Stage::Mounts))?,
            Err(err) if err.raw_os_error() == Some(Errno::NOENT.raw_os_error()) => {}
            Err(err) => return Err(at(Stage::Mounts)(err)),
        }
    }
    if names == Names::Occupied {
        match rustix::io::read(&occupied, &mut [0; 1]) {
            Ok(1) => {}
            // Whoever should have done it tells why not.
            Ok(_) => return Err(at(Stage::Placeholders)(Errno::CANCELED)),
            Err(errno) => return Err(at(Stage::Placeholders)(errno)),
        }
    }
    for step in &plan.steps {
        if names == Names::Free && matches!(step.action, Action::Occupy { .. }) {
            continue;
        }
        make(step, &host, &root, &blanks).map_err(at(Stage::Mounts))?;
    }

    let leave = || -> io::Result<()> {
        rustix::process::fchdir(&root)?;
        // The old root ends up under the new one's own root, and goes away from there.
        rustix::process::pivot_root(".", ".")?;
        rustix::mount::unmount(".", UnmountFlags::DETACH)?;
        Ok(rustix::process::chdir("/")?)
    };
    leave().map_err(at(Stage::Mounts))
}

/// What is done about protected names that do not exist.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Names {
    /// There are placeholders for them, which are covered.
    Occupied,
    /// Nothing: whoever runs inside looks for itself.
    Free,
}

fn make(step: &Step, host: &OwnedFd, root: &OwnedFd, blanks: &Blanks) -> io::Result<()> {
    let path = &step.path;
    let mount = match &step.action {
        Action::Bind { writable } => copy(host, path, *writable)?,
        // Through the mount that it is in, to keep what that allows.
        Action::Pin => {
            let there = locate(root, path)?;
            let flags = if is_directory(&there)? {
                OpenTreeFlags::AT_RECURSIVE
            } else {
                OpenTreeFlags::empty()
            };
            copy_tree(&there, flags)?
        }
        Action::Cover { mode, points } if points.is_empty() => blanks.directory(*mode)?,
        Action::Cover { mode, points } => empty(*mode, path, points)?,
        Action::Occupy { mode } => blanks.directory(*mode)?,
        Action::Blank => blanks.file()?,
    };
    attach(&mount, root, path)
}

/// Empty things without access, to be mounted where nothing shall show.
struct Blanks {
    mount: OwnedFd,
}

impl Blanks {
    fn attach(root: &OwnedFd) -> io::Result<Self> {
        let mount = mount("tmpfs", &[("mode", "0755"), ("size", "64k")], QUIET)?;
        for mode in Self::MODES {
            let name = format!("{mode:o}");
            rustix::fs::mkdirat(&mount, name.as_str(), Mode::from_raw_mode(0o700))?;
            let flags = AtFlags::empty();
            rustix::fs::chmodat(&mount, name.as_str(), Mode::from_raw_mode(mode), flags)?;
        }
        let flags = OFlags::CREATE | OFlags::EXCL | OFlags::WRONLY | OFlags::CLOEXEC;
        rustix::fs::openat(&mount, "file", flags, Mode::empty())?;
        attach(&mount, root, Path::new("/dev"))?;
        Ok(Self { mount })
    }

    fn directory(&self, mode: u32) -> io::Result<OwnedFd> {
        self.take(&format!("{mode:o}"))
    }

    fn file(&self) -> io::Result<OwnedFd> {
        self.take("file")
    }

    fn take(&self, name: &str) -> io::Result<OwnedFd> {
        let flags = OpenTreeFlags::OPEN_TREE_CLONE | OpenTreeFlags::OPEN_TREE_CLOEXEC;
        let tree = rustix::mount::open_tree(&self.mount, name, flags)?;
        sys::set_mount_attributes(tree.as_fd(), READ_ONLY | SAFE, false)?;
        Ok(tree)
    }

    const MODES: [u32; 2] = [0o000, 0o555];
}

/// Puts the sandbox's own `/dev` in place.
fn devices(host: &OwnedFd, root: &OwnedFd, terminal: Option<BorrowedFd<'_>>) -> io::Result<()> {
    let quiet = MountAttrFlags::MOUNT_ATTR_NOSUID | MountAttrFlags::MOUNT_ATTR_NOEXEC;
    let dev = mount("tmpfs", &[("mode", "0755"), ("size", "64k")], quiet)?;
    let file = OFlags::CREATE | OFlags::EXCL | OFlags::WRONLY | OFlags::CLOEXEC;
    let readable = Mode::from_raw_mode(0o666);
    let mut nodes = Vec::new();
    for name in NODES {
        let source = Path::new("/dev").join(name);
        let Ok(node) = locate(host, &source) else {
            continue;
        };
        rustix::fs::openat(&dev, name, file, readable)?;
        nodes.push((name, copy_tree(&node, OpenTreeFlags::empty())?));
    }
    if let Some(terminal) = terminal
        && let Some(node) = node_of(host, terminal)
    {
        rustix::fs::openat(&dev, "console", file, readable)?;
        nodes.push(("console", copy_tree(&node, OpenTreeFlags::empty())?));
    }
    for name in ["pts", "shm"] {
        rustix::fs::mkdirat(&dev, name, Mode::from_raw_mode(0o755))?;
    }
    for (target, name) in LINKS {
        rustix::fs::symlinkat(target, &dev, name)?;
    }
    sys::set_mount_attributes(dev.as_fd(), READ_ONLY, false)?;
    attach(&dev, root, Path::new("/dev"))?;
    for (name, node) in nodes {
        let attributes = libc::MOUNT_ATTR_NOSUID | libc::MOUNT_ATTR_NOEXEC;
        sys::set_mount_attributes(node.as_fd(), attributes, false)?;
        attach(&node, root, &Path::new("/dev").join(name))?;
    }
    let options = [("ptmxmode", "0666"), ("mode", "0620")];
    let terminals = mount("devpts", &options, quiet)?;
    attach(&terminals, root, Path::new("/dev/pts"))?;
    let options = [("mode", "1777"), ("size", SHARED_MEMORY)];
    let shared = MountAttrFlags::MOUNT_ATTR_NOSUID | MountAttrFlags::MOUNT_ATTR_NODEV;
    let memory = mount("tmpfs", &options, shared)?;
    attach(&memory, root, Path::new("/dev/shm"))
}

/// A terminal's device file among the mounts of this namespace, which the open one is not.
fn node_of(host: &OwnedFd, terminal: BorrowedFd<'_>) -> Option<OwnedFd> {
    let name = rustix::termios::ttyname(terminal, Vec::new()).ok()?;
    let path = Path::new(std::ffi::OsStr::from_bytes(name.as_bytes()));
    let node = locate(host, path).ok()?;
    let (found, wanted) = (
        rustix::fs::fstat(&node).ok()?,
        rustix::fs::fstat(terminal).ok()?,
    );
    ((found.st_dev, found.st_ino) == (wanted.st_dev, wanted.st_ino)).then_some(node)
}

/// A new file system that is not attached yet.
fn mount(kind: &str, options: &[(&str, &str)], attributes: MountAttrFlags) -> io::Result<OwnedFd> {
    let context = rustix::mount::fsopen(kind, FsOpenFlags::FSOPEN_CLOEXEC)?;
    for (key, value) in options {
        rustix::mount::fsconfig_set_string(&context, *key, *value)?;
    }
    rustix::mount::fsconfig_create(&context)?;
    let flags = FsMountFlags::FSMOUNT_CLOEXEC;
    Ok(rustix::mount::fsmount(&context, flags, attributes)?)
}

/// A copy of the host's mounts at and below a path.
fn copy(host: &OwnedFd, path: &Path, writable: bool) -> io::Result<OwnedFd> {
    let source = locate(host, path)?;
    let tree = copy_tree(&source, OpenTreeFlags::AT_RECURSIVE)?;
    let attributes = if writable { SAFE } else { SAFE | READ_ONLY };
    sys::set_mount_attributes(tree.as_fd(), attributes, true)?;
    Ok(tree)
}

fn copy_tree(source: impl AsFd, flags: OpenTreeFlags) -> io::Result<OwnedFd> {
    let flags = flags
        | OpenTreeFlags::OPEN_TREE_CLONE
        | OpenTreeFlags::OPEN_TREE_CLOEXEC
        | OpenTreeFlags::AT_EMPTY_PATH;
    Ok(rustix::mount::open_tree(source, "", flags)?)
}

/// An empty directory with mount points.
fn empty(mode: u32, path: &Path, points: &[Point]) -> io::Result<OwnedFd> {
    let tree = mount("tmpfs", &[("mode", "0700"), ("size", "1m")], QUIET)?;
    // What leads to a mount point can be passed through, and seen if the top can.
    let between = Mode::from_raw_mode(mode | 0o111);
    for point in points {
        let inside = point.path.strip_prefix(path).map_err(|_| Errno::INVAL)?;
        let mut directory = tree.try_clone()?;
        if let Some(above) = inside.parent() {
            for name in above {
                make_directory(&directory, name, between)?;
                directory = rustix::fs::openat(&directory, name, CHILD, Mode::empty())?;
            }
        }
        let name = inside.file_name().ok_or(Errno::INVAL)?;
        match &point.kind {
            PointKind::Directory => make_directory(&directory, name, between)?,
            PointKind::File => {
                let flags = OFlags::CREATE | OFlags::WRONLY | OFlags::CLOEXEC | OFlags::NOFOLLOW;
                rustix::fs::openat(&directory, name, flags, Mode::empty())?;
            }
            PointKind::Link(target) => rustix::fs::symlinkat(target, &directory, name)?,
        }
    }
    rustix::fs::chmodat(&tree, ".", Mode::from_raw_mode(mode), AtFlags::empty())?;
    sys::set_mount_attributes(tree.as_fd(), READ_ONLY, false)?;
    Ok(tree)
}

fn make_directory(dir: &OwnedFd, name: &std::ffi::OsStr, mode: Mode) -> io::Result<()> {
    match rustix::fs::mkdirat(dir, name, Mode::from_raw_mode(0o700)) {
        // Before the mode may take away the right to make more in it: the superuser of this
        // namespace is not held up by modes of its own file systems.
        Ok(()) => Ok(rustix::fs::chmodat(dir, name, mode, AtFlags::empty())?),
        Err(Errno::EXIST) => Ok(()),
        Err(errno) => Err(errno.into()),
    }
}

/// Attaches a mount at a path of the new root.
fn attach(tree: &OwnedFd, root: &OwnedFd, path: &Path) -> io::Result<()> {
    let place = locate(root, path)?;
    let flags = MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH | MoveMountFlags::MOVE_MOUNT_T_EMPTY_PATH;
    Ok(rustix::mount::move_mount(tree, "", &place, "", flags)?)
}

/// Opens a path below a directory, through mounts and without links. A link at the end is itself.
fn locate(root: &OwnedFd, path: &Path) -> io::Result<OwnedFd> {
    let relative = path.strip_prefix("/").unwrap_or(path);
    let relative = if relative.as_os_str().is_empty() {
        Path::new(".")
    } else {
        relative
    };
    let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let resolve = ResolveFlags::NO_SYMLINKS | ResolveFlags::BENEATH;
    Ok(rustix::fs::openat2(
        root,
        relative,
        flags,
        Mode::empty(),
        resolve,
    )?)
}

fn is_directory(fd: &OwnedFd) -> io::Result<bool> {
    Ok(FileType::from_raw_mode(rustix::fs::fstat(fd)?.st_mode) == FileType::Directory)
}

/// Device files that every program may use.
const NODES: [&str; 6] = ["null", "zero", "full", "random", "urandom", "tty"];

const LINKS: [(&str, &str); 5] = [
    ("/proc/self/fd", "fd"),
    ("/proc/self/fd/0", "stdin"),
    ("/proc/self/fd/1", "stdout"),
    ("/proc/self/fd/2", "stderr"),
    ("pts/ptmx", "ptmx"),
];

/// Memory that one sandbox may use under `/dev/shm`.
const SHARED_MEMORY: &str = "50%";

const READ_ONLY: u64 = libc::MOUNT_ATTR_RDONLY;
/// What is needed by no command and useful for escapes.
const SAFE: u64 = libc::MOUNT_ATTR_NOSUID | libc::MOUNT_ATTR_NODEV;

const QUIET: MountAttrFlags = MountAttrFlags::MOUNT_ATTR_NOSUID
    .union(MountAttrFlags::MOUNT_ATTR_NODEV)
    .union(MountAttrFlags::MOUNT_ATTR_NOEXEC);

const DIRECTORY: OFlags = OFlags::PATH.union(OFlags::DIRECTORY).union(OFlags::CLOEXEC);
const CHILD: OFlags = DIRECTORY.union(OFlags::NOFOLLOW);
