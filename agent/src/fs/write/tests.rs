use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _, symlink};
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};

use rustix::fs::{CWD, OFlags};

use super::*;
use crate::fs::open::Links;

fn write(path: impl AsRef<Path>, data: &str) -> Result<(), FsError> {
    write_file(path.as_ref(), Links::Follow, data.as_bytes())
}

fn errno(result: Result<(), FsError>) -> Option<i32> {
    match result.unwrap_err() {
        FsError::Io(err) => err.raw_os_error(),
        other => panic!("{other}"),
    }
}

/// Names in the directory; nothing temporary may be left.
fn names(dir: &Path) -> Vec<String> {
    let entries = std::fs::read_dir(dir).unwrap();
    let mut names: Vec<_> = entries
        .map(|entry| entry.unwrap().file_name().to_string_lossy().into_owned())
        .collect();
    names.sort();
    names
}

fn unprivileged() -> bool {
    !rustix::process::geteuid().is_root()
}

fn write_file(path: &Path, links: Links, data: &[u8]) -> Result<(), FsError> {
    super::write_file(Target::open(path, links)?, data)
}

#[test]
fn a_reader_never_sees_a_part() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("f");
    let contents = ["a".repeat(300_000), "b".repeat(500_000)];
    write(&path, &contents[0]).unwrap();
    let done = AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            for turn in 0..40 {
                write(&path, &contents[turn % 2]).unwrap();
            }
            done.store(true, Ordering::Relaxed);
        });
        while !done.load(Ordering::Relaxed) {
            let seen = std::fs::read_to_string(&path).unwrap();
            assert!(contents.contains(&seen), "{} bytes", seen.len());
        }
    });
    assert_eq!(names(dir.path()), ["f"]);
}

#[test]
fn a_write_that_fails_half_way_leaves_the_old_content() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("f");
    write(&path, "old").unwrap();
    let target = Target::open(&path, Links::Follow).unwrap();
    let result = replace(target, Permissions::Keep, &mut |mut file| {
        io::Write::write_all(&mut file, b"ne")?;
        // What a reader sees while the write goes on, and what stays if the process dies here.
        assert_eq!(std::fs::read_to_string(&path).unwrap(), "old");
        Err(io::ErrorKind::StorageFull.into())
    });
    result.unwrap_err();
    assert_eq!(std::fs::read_to_string(&path).unwrap(), "old");
    assert_eq!(names(dir.path()), ["f"]);
    let missing = Target::open(&dir.path().join("new"), Links::Follow).unwrap();
    replace(missing, Permissions::Keep, &mut |_| {
        Err(io::ErrorKind::StorageFull.into())
    })
    .unwrap_err();
    assert_eq!(names(dir.path()), ["f"]);
}

#[test]
fn mode_and_attributes_are_kept() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("f");
    write(&path, "old").unwrap();
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o751)).unwrap();
    rustix::fs::setxattr(&path, "user.note", b"kept", rustix::fs::XattrFlags::empty()).unwrap();
    write(&path, "new").unwrap();
    assert_eq!(std::fs::read_to_string(&path).unwrap(), "new");
    assert_eq!(std::fs::metadata(&path).unwrap().mode() & 0o7777, 0o751);
    let mut value = Vec::with_capacity(16);
    rustix::fs::getxattr(
        &path,
        "user.note",
        rustix::buffer::spare_capacity(&mut value),
    )
    .unwrap();
    assert_eq!(value, b"kept");
}

#[test]
fn a_new_file_has_the_mode_of_a_plain_creation() {
    let dir = tempfile::tempdir().unwrap();
    std::fs::write(dir.path().join("plain"), "").unwrap();
    write(dir.path().join("ours"), "").unwrap();
    let mode = |name| std::fs::metadata(dir.path().join(name)).unwrap().mode();
    assert_eq!(mode("ours"), mode("plain"));
}

#[test]
fn links_are_written_through() {
    let dir = tempfile::tempdir().unwrap();
    let at = |name: &str| dir.path().join(name);
    std::fs::create_dir(at("d")).unwrap();
    symlink("d/target", at("dangling")).unwrap();
    symlink("dangling", at("chain")).unwrap();
    write(at("chain"), "one").unwrap();
    assert_eq!(std::fs::read_to_string(at("d/target")).unwrap(), "one");
    write(at("dangling"), "two").unwrap();
    assert_eq!(std::fs::read_to_string(at("d/target")).unwrap(), "two");
    assert!(at("chain").is_symlink() && at("dangling").is_symlink());
    assert_eq!(names(&at("d")), ["target"]);
}

#[test]
fn hard_links_go_on_sharing_their_content() {
    let dir = tempfile::tempdir().unwrap();
    let (one, two) = (dir.path().join("one"), dir.path().join("two"));
    write(&one, "a longer old content").unwrap();
    std::fs::hard_link(&one, &two).unwrap();
    write(&one, "new").unwrap();
    assert_eq!(std::fs::read_to_string(&two).unwrap(), "new");
    assert_eq!(
        std::fs::metadata(&one).unwrap().ino(),
        std::fs::metadata(&two).unwrap().ino()
    );
}

#[test]
fn what_cannot_be_written_is_refused_and_nothing_is_made() {
    let dir = tempfile::tempdir().unwrap();
    let root = dir.path().canonicalize().unwrap();
    let at = |name: &str| root.join(name);
    std::fs::create_dir(at("d")).unwrap();
    std::fs::write(at("f"), "f").unwrap();
    symlink("l", at("l")).unwrap();
    symlink("f", at("to-f")).unwrap();
    symlink("d", at("to-d")).unwrap();
    rustix::fs::mkfifoat(CWD, at("p"), Mode::from_raw_mode(0o600)).unwrap();
    let before = names(&root);
    let table = [
        ("d", 21, 21),
        ("f/x", 20, 20),
        ("no/x", 2, 2),
        ("l", 40, 40),
        ("p", 6, 6),
    ];
    for (name, following, refusing) in table {
        assert_eq!(errno(write(at(name), "x")), Some(following), "{name}");
        let result = write_file(&at(name), Links::Refuse, b"x");
        assert_eq!(errno(result), Some(refusing), "{name}");
    }
    assert_eq!(
        errno(write_file(&at("to-f"), Links::Refuse, b"x")),
        Some(40)
    );
    assert_eq!(
        errno(write_file(&at("to-d/x"), Links::Refuse, b"x")),
        Some(20)
    );
    assert_eq!(errno(write("/", "x")), Some(21));
    let result = write_file(Path::new("/"), Links::Refuse, b"x");
    assert_eq!(result.unwrap_err().to_string(), "path must name an entry");
    assert_eq!(names(&root), before);
    assert_eq!(std::fs::read_to_string(at("f")).unwrap(), "f");
}

#[test]
fn devices_take_the_data() {
    write("/dev/null", "x").unwrap();
    assert_eq!(errno(write("/dev/full", "x")), Some(28));
    let result = write_file(Path::new("/dev/null"), Links::Refuse, b"x");
    assert_eq!(
        result.unwrap_err().to_string(),
        "path is not a regular file"
    );
}

#[test]
fn a_fifo_that_is_full_does_not_block() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("p");
    rustix::fs::mkfifoat(CWD, &path, Mode::from_raw_mode(0o600)).unwrap();
    let flags = OFlags::RDONLY | OFlags::NONBLOCK;
    let _reader = rustix::fs::open(&path, flags, Mode::empty()).unwrap();
    assert_eq!(errno(write(&path, &"x".repeat(1 << 20))), Some(11));
}

#[test]
fn names_may_be_long_and_need_not_be_unicode() {
    let dir = tempfile::tempdir().unwrap();
    let longest = "n".repeat(255);
    write(dir.path().join(&longest), "x").unwrap();
    write(dir.path().join(&longest), "y").unwrap();
    assert_eq!(
        errno(write(dir.path().join("n".repeat(256)), "x")),
        Some(36)
    );
    let strange = dir.path().join(std::ffi::OsStr::from_bytes(b"\xff\n"));
    write_file(&strange, Links::Follow, b"z").unwrap();
    assert_eq!(std::fs::read(&strange).unwrap(), b"z");
    assert_eq!(names(dir.path()).len(), 2);
}

#[test]
fn a_file_in_a_directory_of_others_is_written_in_place() {
    // As root, permissions do not count; an open file without a name takes the same path.
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("f");
    std::fs::write(&path, "old and long").unwrap();
    if unprivileged() {
        std::fs::set_permissions(dir.path(), std::fs::Permissions::from_mode(0o555)).unwrap();
    }
    let file = File::options().read(true).write(true).open(&path).unwrap();
    let unnamed = format!("/proc/self/fd/{}", std::os::fd::AsRawFd::as_raw_fd(&file));
    if !unprivileged() {
        std::fs::remove_file(&path).unwrap();
    }
    write(&unnamed, "new").unwrap();
    let mut content = String::new();
    io::Read::read_to_string(&mut &file, &mut content).unwrap();
    assert_eq!(content, "new");
    std::fs::set_permissions(dir.path(), std::fs::Permissions::from_mode(0o755)).unwrap();
}
