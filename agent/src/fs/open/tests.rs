use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::symlink;

use super::*;

fn errno(result: Result<impl Sized, FsError>) -> Option<i32> {
    match result.err().expect("an error") {
        FsError::Io(err) => err.raw_os_error(),
        other => panic!("{other}"),
    }
}

#[test]
fn links_on_the_way_are_refused_by_both_methods() {
    let dir = tempfile::tempdir().unwrap();
    let root = dir.path().canonicalize().unwrap();
    std::fs::create_dir_all(root.join("d/e")).unwrap();
    symlink("d", root.join("l")).unwrap();
    std::fs::write(root.join("f"), "").unwrap();
    for open in [open_directory_no_follow, open_directory_by_component] {
        open(&root.join("d/e")).unwrap();
        open(Path::new("/")).unwrap();
        assert_eq!(errno(open(&root.join("l"))), Some(20));
        assert_eq!(errno(open(&root.join("l/e"))), Some(20));
        assert_eq!(errno(open(&root.join("f"))), Some(20));
        assert_eq!(errno(open(&root.join("f/x"))), Some(20));
        assert_eq!(errno(open(&root.join("none"))), Some(2));
    }
}

#[test]
fn a_dangling_chain_of_links_leads_to_the_name_it_would_create() {
    let dir = tempfile::tempdir().unwrap();
    let root = dir.path();
    std::fs::create_dir_all(root.join("a/b")).unwrap();
    symlink("a/b/up", root.join("one")).unwrap();
    symlink("../../two", root.join("a/b/up")).unwrap();
    symlink(root.join("a/target"), root.join("two")).unwrap();
    let location = locate_following(&root.join("one")).unwrap();
    assert_eq!(location.name, "target");
    let found = rustix::fs::fstat(&location.dir).unwrap();
    assert_eq!(
        found.st_ino,
        rustix::fs::stat(root.join("a")).unwrap().st_ino
    );
}

#[test]
fn a_loop_of_links_ends() {
    let dir = tempfile::tempdir().unwrap();
    symlink("m", dir.path().join("l")).unwrap();
    symlink("l", dir.path().join("m")).unwrap();
    assert_eq!(errno(locate_following(&dir.path().join("l"))), Some(40));
    assert_eq!(
        errno(open_to_read(&dir.path().join("l"), Links::Follow)),
        Some(40)
    );
    assert_eq!(
        errno(open_to_read(&dir.path().join("l"), Links::Refuse)),
        Some(40)
    );
}

#[test]
fn what_is_not_a_file_is_refused_without_opening_it() {
    let dir = tempfile::tempdir().unwrap();
    let fifo = dir.path().join("p");
    rustix::fs::mkfifoat(CWD, &fifo, Mode::from_raw_mode(0o600)).unwrap();
    for path in [
        fifo.as_path(),
        dir.path(),
        Path::new("/dev/null"),
        Path::new("/"),
    ] {
        let err = open_to_read(path, Links::Follow).unwrap_err();
        assert_eq!(
            err.to_string(),
            format!("path `{}` is not a file", path.display())
        );
    }
    let err = open_to_read(&fifo, Links::Refuse).unwrap_err();
    assert_eq!(err.to_string(), "path is not a regular file");
    let err = open_to_read(Path::new("/"), Links::Refuse).unwrap_err();
    assert_eq!(err.to_string(), "path must name an entry");
    let socket = dir.path().join("s");
    let _listener = std::os::unix::net::UnixListener::bind(&socket).unwrap();
    assert_eq!(errno(open_to_read(&socket, Links::Follow)), Some(6));
}

#[test]
fn files_of_proc_are_read_to_their_real_end() {
    let (file, stat) = open_to_read(Path::new("/proc/self/status"), Links::Follow).unwrap();
    assert_eq!(stat.st_size, 0);
    assert!(
        read_to_end(&file, &stat, 1 << 20)
            .unwrap()
            .starts_with(b"Name:")
    );
}

#[test]
fn the_own_environment_and_memory_cannot_be_read() {
    let thread = format!("task/{}/environ", std::process::id());
    for name in ["environ", "mem", thread.as_str()] {
        let path = Path::new("/proc/self").join(name);
        assert_eq!(
            errno(open_to_read(&path, Links::Follow)),
            Some(13),
            "{name}"
        );
    }
    let own = format!("/proc/{}/environ", std::process::id());
    assert_eq!(
        errno(open_to_read(Path::new(&own), Links::Refuse)),
        Some(13)
    );
}

#[test]
fn the_limit_holds_for_files_that_grow_while_they_are_read() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("f");
    std::fs::write(&path, "12345").unwrap();
    let (file, stat) = open_to_read(&path, Links::Follow).unwrap();
    assert_eq!(read_to_end(&file, &stat, 5).unwrap().as_ref(), b"12345");
    assert!(matches!(
        read_to_end(&file, &stat, 4),
        Err(FsError::TooLarge)
    ));
    let (file, stat) = open_to_read(&path, Links::Follow).unwrap();
    std::fs::write(&path, "1234567890").unwrap();
    assert!(matches!(
        read_to_end(&file, &stat, 9),
        Err(FsError::TooLarge)
    ));
}

#[test]
fn names_need_not_be_unicode() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join(std::ffi::OsStr::from_bytes(b"\xff\n\xfe"));
    std::fs::write(&path, "x").unwrap();
    let root = dir.path().canonicalize().unwrap();
    let path = root.join(path.file_name().unwrap());
    for links in [Links::Follow, Links::Refuse] {
        let (file, stat) = open_to_read(&path, links).unwrap();
        assert_eq!(read_to_end(&file, &stat, 9).unwrap().as_ref(), b"x");
    }
}
