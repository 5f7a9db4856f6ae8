use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _, symlink};

use super::*;

fn text(path: &Path) -> String {
    std::fs::read_to_string(path).unwrap()
}

fn names(dir: &Path) -> Vec<String> {
    let entries = std::fs::read_dir(dir).unwrap();
    let mut names: Vec<_> = entries
        .map(|entry| entry.unwrap().file_name().to_string_lossy().into_owned())
        .collect();
    names.sort();
    names
}

fn open(table: &Arc<HandleTable>, id: &str, path: &Path) -> Result<(), FsError> {
    let reservation = table.reserve(id)?;
    reservation.fill(Handle::replace(path)?);
    Ok(())
}

#[test]
fn blocks_are_in_the_file_before_it_is_closed() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("f");
    for old in [None, Some("old content")] {
        if let Some(old) = old {
            std::fs::write(&path, old).unwrap();
        }
        let handle = Handle::replace(&path).unwrap();
        assert_eq!(text(&path), "");
        handle.write_block(0, b"aaaaaa").unwrap();
        handle.write_block(2, b"BB").unwrap();
        assert_eq!(text(&path), "aaBBaa");
        handle.close();
        drop(handle);
        assert_eq!(text(&path), "aaBBaa");
        assert_eq!(names(dir.path()), ["f"]);
    }
}

#[test]
fn a_handle_that_is_never_closed_leaves_what_was_there_before() {
    let dir = tempfile::tempdir().unwrap();
    let (old, new) = (dir.path().join("old"), dir.path().join("new"));
    std::fs::write(&old, "old").unwrap();
    std::fs::set_permissions(&old, std::fs::Permissions::from_mode(0o640)).unwrap();
    symlink("old", dir.path().join("link")).unwrap();
    let inode = std::fs::metadata(&old).unwrap().ino();
    let table = Arc::new(HandleTable::default());
    open(&table, "1", &dir.path().join("link")).unwrap();
    open(&table, "2", &new).unwrap();
    for id in ["1", "2"] {
        table.find(id).unwrap().write_block(0, b"half").unwrap();
    }
    assert_eq!(
        (text(&old), text(&new)),
        ("half".to_owned(), "half".to_owned())
    );
    assert_eq!(std::fs::metadata(&old).unwrap().mode() & 0o777, 0o640);
    drop(table);
    assert_eq!(text(&old), "old");
    assert_eq!(std::fs::metadata(&old).unwrap().ino(), inode);
    assert_eq!(names(dir.path()), ["link", "old"]);
}

#[test]
fn a_path_that_somebody_else_replaced_is_left_alone() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("f");
    std::fs::write(&path, "old").unwrap();
    let (replaced, removed) = (Handle::replace(&path).unwrap(), dir.path().join("g"));
    let created = Handle::replace(&removed).unwrap();
    std::fs::write(dir.path().join("theirs"), "theirs").unwrap();
    std::fs::rename(dir.path().join("theirs"), &path).unwrap();
    std::fs::remove_file(&removed).unwrap();
    drop((replaced, created));
    assert_eq!(text(&path), "theirs");
    assert_eq!(names(dir.path()), ["f"]);
}

#[test]
fn hard_links_are_truncated_in_place() {
    let dir = tempfile::tempdir().unwrap();
    let (one, two) = (dir.path().join("one"), dir.path().join("two"));
    std::fs::write(&one, "old").unwrap();
    std::fs::hard_link(&one, &two).unwrap();
    let handle = Handle::replace(&one).unwrap();
    handle.write_block(0, b"new").unwrap();
    drop(handle);
    assert_eq!(text(&two), "new");
}

#[test]
fn a_block_is_short_only_at_the_end_of_the_file() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("f");
    std::fs::write(&path, "0123456789").unwrap();
    let handle = Handle::read(&path).unwrap();
    std::fs::remove_file(&path).unwrap();
    let read = |offset, length| handle.read_block(offset, length).unwrap();
    assert_eq!(read(4, 6).as_ref(), b"456789");
    assert_eq!(read(4, 7).as_ref(), b"456789");
    assert!(read(1 << 53, 5).is_empty());
    let errno = |result: Result<Bytes, FsError>| match result.unwrap_err() {
        FsError::Io(err) => err.raw_os_error(),
        other => panic!("{other}"),
    };
    assert_eq!(errno(handle.read_block(u64::MAX, 5)), Some(22));
    let write = Handle::replace(&path).unwrap();
    assert_eq!(errno(write.read_block(0, 1)), Some(9));
    assert!(
        matches!(handle.write_block(0, b"x"), Err(FsError::Io(err)) if err.raw_os_error() == Some(9))
    );
}

#[test]
fn ids_are_bounded_in_length_and_number() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("f");
    std::fs::write(&path, "x").unwrap();
    let table = Arc::new(HandleTable::default());
    let open = |id: &str| -> Result<(), FsError> {
        table.reserve(id)?.fill(Handle::read(&path)?);
        Ok(())
    };
    open("").unwrap();
    open(&"x".repeat(32)).unwrap();
    let long = "x".repeat(33);
    assert!(matches!(open(&long), Err(FsError::HandleIdTooLong)));
    assert!(matches!(table.find(&long), Err(FsError::HandleIdTooLong)));
    assert!(matches!(table.take(&long), Err(FsError::HandleIdTooLong)));
    assert!(matches!(open(""), Err(FsError::HandleExists(_))));
    for n in 2..HANDLES {
        open(&n.to_string()).unwrap();
    }
    assert!(matches!(open("more"), Err(FsError::TooManyHandles)));
    assert!(table.take("5").unwrap().is_some());
    assert!(table.take("5").unwrap().is_none());
    assert!(matches!(table.find("5"), Err(FsError::HandleUnknown(_))));
    // An id that is only reserved is not usable, counts, and comes back when opening fails.
    let reserved = table.reserve("5").unwrap();
    assert!(matches!(table.find("5"), Err(FsError::HandleUnknown(_))));
    assert!(table.take("5").unwrap().is_none());
    assert!(matches!(open("more"), Err(FsError::TooManyHandles)));
    drop(reserved);
    open("more").unwrap();
}

#[test]
fn ranges_are_checked() {
    check_write_range(i64::MAX as u64 - 1, 1).unwrap();
    assert!(matches!(
        check_write_range(i64::MAX as u64, 1),
        Err(FsError::WriteRange)
    ));
    assert!(matches!(
        check_write_range(u64::MAX, 1),
        Err(FsError::WriteRange)
    ));
    for length in [0, BLOCK_BYTES + 1] {
        assert!(matches!(
            check_write_range(0, length),
            Err(FsError::WriteBlockLength)
        ));
        assert!(matches!(
            check_read_length(length),
            Err(FsError::ReadBlockLength)
        ));
    }
    check_read_length(BLOCK_BYTES).unwrap();
    check_write_range(0, BLOCK_BYTES).unwrap();
}

#[test]
fn what_is_not_a_file_cannot_be_opened() {
    let dir = tempfile::tempdir().unwrap();
    let text = |result: Result<Handle, FsError>| result.unwrap_err().to_string();
    let null = Path::new("/dev/null");
    assert_eq!(
        text(Handle::replace(null)),
        "path `/dev/null` is not a file"
    );
    assert_eq!(text(Handle::read(null)), "path `/dev/null` is not a file");
    assert!(text(Handle::replace(dir.path())).contains("(os error 21)"));
    let fifo = dir.path().join("p");
    let mode = rustix::fs::Mode::from_raw_mode(0o600);
    rustix::fs::mkfifoat(rustix::fs::CWD, &fifo, mode).unwrap();
    assert!(text(Handle::replace(&fifo)).contains("(os error 6)"));
    assert!(text(Handle::read(&fifo)).contains("is not a file"));
}

#[test]
fn handles_of_both_modes_are_synced() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("f");
    for old in [None, Some("old")] {
        if let Some(old) = old {
            std::fs::write(&path, old).unwrap();
        }
        let handle = Handle::replace(&path).unwrap();
        handle.write_block(0, b"new").unwrap();
        handle.sync().unwrap();
        // Syncing commits nothing: the old content comes back with the end of the connection.
        drop(handle);
        assert_eq!(std::fs::read_to_string(&path).ok().as_deref(), old);
    }
    Handle::read(&path).unwrap().sync().unwrap();
}
