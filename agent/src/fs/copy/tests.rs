use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _, symlink};

use super::*;

fn run(dir: &tempfile::TempDir, from: &str, to: &str, recursive: bool) -> Result<(), FsError> {
    copy(
        &dir.path().join(from),
        &dir.path().join(to),
        recursive,
        &Cancelled::never(),
    )
}

fn text(dir: &tempfile::TempDir, name: &str) -> String {
    std::fs::read_to_string(dir.path().join(name)).unwrap()
}

fn scratch(files: &[(&str, &str)]) -> tempfile::TempDir {
    let dir = tempfile::tempdir().unwrap();
    for (name, content) in files {
        let path = dir.path().join(name);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, content).unwrap();
    }
    dir
}

#[test]
fn a_file_copied_onto_itself_stays_as_it_is() {
    let dir = scratch(&[("f", "content")]);
    symlink("f", dir.path().join("link")).unwrap();
    std::fs::hard_link(dir.path().join("f"), dir.path().join("hard")).unwrap();
    let before = std::fs::metadata(dir.path().join("f")).unwrap();
    for to in ["f", "link", "hard"] {
        run(&dir, "f", to, false).unwrap();
        assert_eq!(text(&dir, "f"), "content");
    }
    let after = std::fs::metadata(dir.path().join("f")).unwrap();
    assert_eq!(
        (before.ino(), before.mtime_nsec()),
        (after.ino(), after.mtime_nsec())
    );
}

#[test]
fn the_copy_has_the_permission_bits_of_the_source() {
    let dir = scratch(&[("f", "new"), ("old", "something longer")]);
    let mode = std::fs::Permissions::from_mode(0o751);
    std::fs::set_permissions(dir.path().join("f"), mode).unwrap();
    for to in ["old", "fresh"] {
        run(&dir, "f", to, false).unwrap();
        assert_eq!(text(&dir, to), "new");
        assert_eq!(
            std::fs::metadata(dir.path().join(to)).unwrap().mode() & 0o7777,
            0o751
        );
    }
}

#[test]
fn a_link_is_copied_as_a_link_to_a_free_name() {
    let dir = scratch(&[("b", "b")]);
    symlink("nowhere", dir.path().join("l")).unwrap();
    run(&dir, "l", "m", false).unwrap();
    assert_eq!(
        std::fs::read_link(dir.path().join("m")).unwrap(),
        Path::new("nowhere")
    );
    assert!(
        matches!(run(&dir, "l", "b", false), Err(FsError::Io(err)) if err.raw_os_error() == Some(17))
    );
    assert_eq!(text(&dir, "b"), "b");
}

#[test]
fn a_tree_is_merged_and_the_copy_can_be_repeated() {
    let dir = scratch(&[
        ("d/x", "x"),
        ("d/s/y", "y"),
        ("e/x", "old"),
        ("e/z", "stays"),
    ]);
    symlink("x", dir.path().join("d/l")).unwrap();
    let fifo = dir.path().join("d/p");
    rustix::fs::mkfifoat(CWD, fifo, Mode::from_raw_mode(0o600)).unwrap();
    for _ in 0..2 {
        run(&dir, "d", "e", true).unwrap();
        assert_eq!(
            (text(&dir, "e/x"), text(&dir, "e/s/y")),
            ("x".to_owned(), "y".to_owned())
        );
        assert_eq!(text(&dir, "e/z"), "stays");
        assert_eq!(
            std::fs::read_link(dir.path().join("e/l")).unwrap(),
            Path::new("x")
        );
        assert!(!dir.path().join("e/p").exists());
    }
    std::fs::remove_file(dir.path().join("e/l")).unwrap();
    symlink("other", dir.path().join("e/l")).unwrap();
    assert!(
        matches!(run(&dir, "d", "e", true), Err(FsError::Io(err)) if err.raw_os_error() == Some(17))
    );
}

#[test]
fn what_is_missing_above_is_made_for_a_directory_and_not_for_a_file() {
    let dir = scratch(&[("d/x", "x"), ("f", "f")]);
    run(&dir, "d", "a/b/c", true).unwrap();
    assert_eq!(text(&dir, "a/b/c/x"), "x");
    let missing = run(&dir, "f", "n/f", true);
    assert!(matches!(missing, Err(FsError::Io(err)) if err.raw_os_error() == Some(2)));
    symlink("nowhere", dir.path().join("l")).unwrap();
    let taken = run(&dir, "d", "l/x", true);
    assert!(matches!(taken, Err(FsError::Io(err)) if err.raw_os_error() == Some(17)));
}

#[test]
fn a_directory_is_not_copied_into_itself() {
    let dir = scratch(&[("d/s/x", "x")]);
    symlink("d/s", dir.path().join("l")).unwrap();
    for to in ["d", "d/s/new", "d/a/b/c", "l/new"] {
        assert!(
            matches!(run(&dir, "d", to, true), Err(FsError::CopyIntoItself)),
            "{to}"
        );
    }
    run(&dir, "d/s", "d", true).unwrap();
    run(&dir, "d", "d2", true).unwrap();
    assert_eq!(text(&dir, "d2/s/x"), "x");
    assert!(matches!(
        run(&dir, "d", "e", false),
        Err(FsError::CopyNeedsRecursive)
    ));
}

#[test]
fn special_files_are_refused_without_opening_them() {
    let dir = scratch(&[]);
    let fifo = dir.path().join("p");
    rustix::fs::mkfifoat(CWD, fifo, Mode::from_raw_mode(0o600)).unwrap();
    assert!(matches!(
        run(&dir, "p", "q", false),
        Err(FsError::CopySpecial)
    ));
}

#[test]
fn a_file_of_proc_is_copied_to_its_real_end() {
    let dir = scratch(&[]);
    let to = dir.path().join("v");
    copy(Path::new("/proc/version"), &to, false, &Cancelled::never()).unwrap();
    assert_eq!(
        text(&dir, "v"),
        std::fs::read_to_string("/proc/version").unwrap()
    );
    let secret = copy(
        Path::new("/proc/self/environ"),
        &to,
        false,
        &Cancelled::never(),
    );
    assert!(matches!(secret, Err(FsError::Io(err)) if err.raw_os_error() == Some(13)));
}
