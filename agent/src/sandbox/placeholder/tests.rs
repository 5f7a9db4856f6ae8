use super::*;

fn directory() -> (tempfile::TempDir, PathBuf) {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().canonicalize().unwrap().join(".codex");
    (directory, path)
}

fn acquire(path: &Path) -> io::Result<Placeholders> {
    Placeholders::acquire(std::iter::once(path))
}

#[test]
fn the_last_user_removes_it() {
    let (_directory, path) = directory();
    let first = acquire(&path).unwrap();
    let second = acquire(&path).unwrap();
    assert!(path.is_dir());
    first.release();
    drop(first);
    assert!(path.is_dir() && second.are_in_place());
    second.release();
    assert!(!path.exists());
}

#[test]
fn what_a_killed_user_left_behind_is_taken_over() {
    let (_directory, path) = directory();
    // Dropped without a release, as by SIGKILL.
    drop(acquire(&path).unwrap());
    let mode = std::os::unix::fs::MetadataExt::mode(&std::fs::metadata(&path).unwrap());
    assert!(looks_like_one(&path, mode));
    acquire(&path).unwrap().release();
    assert!(!path.exists());
}

#[test]
fn what_somebody_else_made_is_left_alone() {
    let (_directory, path) = directory();
    std::fs::create_dir(&path).unwrap();
    let err = acquire(&path).unwrap_err();
    assert_eq!(err.raw_os_error(), Some(Errno::EXIST.raw_os_error()));
    std::fs::remove_dir(&path).unwrap();

    let occupied = acquire(&path).unwrap();
    std::fs::remove_dir(&path).unwrap();
    assert!(!occupied.are_in_place());
    std::fs::create_dir(&path).unwrap();
    assert!(!occupied.are_in_place());
    occupied.release();
    assert!(path.is_dir(), "it is not ours");
}
