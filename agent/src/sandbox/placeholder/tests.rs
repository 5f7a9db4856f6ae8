use super::*;

fn directory() -> (tempfile::TempDir, std::path::PathBuf) {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().canonicalize().unwrap().join(".codex");
    (directory, path)
}

#[test]
fn the_last_user_removes_it() {
    let (_directory, path) = directory();
    let first = Placeholder::acquire(&path).unwrap();
    let second = Placeholder::acquire(&path).unwrap();
    assert!(path.is_dir());
    first.release();
    assert!(path.is_dir() && second.is_in_place());
    second.release();
    assert!(!path.exists());
}

#[test]
fn what_a_killed_user_left_behind_is_taken_over() {
    let (_directory, path) = directory();
    // Dropped without a release, as by SIGKILL.
    drop(Placeholder::acquire(&path).unwrap());
    let mode = std::os::unix::fs::MetadataExt::mode(&std::fs::metadata(&path).unwrap());
    assert!(looks_like_one(&path, mode));
    Placeholder::acquire(&path).unwrap().release();
    assert!(!path.exists());
}

#[test]
fn what_somebody_else_made_is_left_alone() {
    let (_directory, path) = directory();
    std::fs::create_dir(&path).unwrap();
    let err = Placeholder::acquire(&path).unwrap_err();
    assert_eq!(err.raw_os_error(), Some(Errno::EXIST.raw_os_error()));
    std::fs::remove_dir(&path).unwrap();

    let occupied = Placeholder::acquire(&path).unwrap();
    std::fs::remove_dir(&path).unwrap();
    assert!(!occupied.is_in_place());
    std::fs::create_dir(&path).unwrap();
    assert!(!occupied.is_in_place());
    occupied.release();
    assert!(path.is_dir(), "it is not ours");
}
