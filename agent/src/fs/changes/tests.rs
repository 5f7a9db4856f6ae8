use std::os::unix::fs::{FileTypeExt as _, PermissionsExt as _, symlink};

use super::*;

fn text(path: &Path) -> String {
    std::fs::read_to_string(path).unwrap()
}

fn errno<T: std::fmt::Debug>(result: Result<T, FsError>) -> Option<i32> {
    match result.unwrap_err() {
        FsError::Io(err) => err.raw_os_error(),
        other => panic!("{other}"),
    }
}

fn fifo(path: &Path) {
    let mode = Mode::RUSR | Mode::WUSR;
    rustix::fs::mknodat(CWD, path, FileType::Fifo, mode, 0).unwrap();
}

#[test]
fn appends_go_to_the_end_and_say_where_that_was() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("log");
    symlink("log", dir.path().join("link")).unwrap();
    assert_eq!(append(&path, Links::Follow, b"one\n").unwrap(), 0);
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o640)).unwrap();
    let link = dir.path().join("link");
    assert_eq!(append(&link, Links::Follow, b"two\n").unwrap(), 4);
    assert_eq!(append(&path, Links::Refuse, b"").unwrap(), 8);
    assert_eq!(append(&path, Links::Refuse, b"three\n").unwrap(), 8);
    assert_eq!(text(&path), "one\ntwo\nthree\n");
    let mode = std::fs::metadata(&path).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o640, "the file is the same one");
}

#[test]
fn appends_of_several_writers_do_not_overlap() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("log");
    std::thread::scope(|scope| {
        for writer in ["a", "b", "c", "d"] {
            let path = &path;
            scope.spawn(move || {
                for _ in 0..100 {
                    append(path, Links::Follow, writer.repeat(100).as_bytes()).unwrap();
                }
            });
        }
    });
    let all = text(&path);
    assert_eq!(all.len(), 4 * 100 * 100);
    for piece in all.as_bytes().chunks(100) {
        assert!(piece.iter().all(|byte| *byte == piece[0]), "{piece:?}");
    }
}

#[test]
fn only_regular_files_are_appended_to() {
    let dir = tempfile::tempdir().unwrap();
    let at = |name: &str| dir.path().canonicalize().unwrap().join(name);
    fifo(&at("fifo"));
    symlink("target", at("link")).unwrap();
    std::fs::create_dir(at("dir")).unwrap();
    symlink("dir", at("to dir")).unwrap();
    let special = append(&at("fifo"), Links::Follow, b"x").unwrap_err();
    assert!(matches!(special, FsError::NotAFile(_)), "{special}");
    let special = append(&at("fifo"), Links::Refuse, b"x").unwrap_err();
    assert!(matches!(special, FsError::NotRegular), "{special}");
    let device = append(Path::new("/dev/null"), Links::Follow, b"x").unwrap_err();
    assert!(matches!(device, FsError::NotAFile(_)), "{device}");
    for links in [Links::Follow, Links::Refuse] {
        assert_eq!(errno(append(&at("dir"), links, b"x")), Some(21));
        assert_eq!(errno(append(&at("none/f"), links, b"x")), Some(2));
    }
    assert_eq!(errno(append(&at("link"), Links::Refuse, b"x")), Some(40));
    assert_eq!(
        errno(append(&at("to dir/f"), Links::Refuse, b"x")),
        Some(20)
    );
    assert!(!at("target").exists());
    append(&at("link"), Links::Follow, b"x").unwrap();
    assert_eq!(
        text(&at("target")),
        "x",
        "a dangling link is written through"
    );
}

#[test]
fn own_memory_is_not_appended_to() {
    let own = format!("/proc/{}/mem", std::process::id());
    assert_eq!(
        errno(append(Path::new(&own), Links::Follow, b"x")),
        Some(13)
    );
}

#[test]
fn rename_replaces_unless_it_may_not() {
    let dir = tempfile::tempdir().unwrap();
    let at = |name: &str| dir.path().join(name);
    std::fs::write(at("a"), "a").unwrap();
    std::fs::write(at("b"), "b").unwrap();
    assert_eq!(errno(rename(&at("a"), &at("b"), Existing::Keep)), Some(17));
    assert_eq!((text(&at("a")), text(&at("b"))), ("a".into(), "b".into()));
    rename(&at("a"), &at("c"), Existing::Keep).unwrap();
    rename(&at("c"), &at("b"), Existing::Replace).unwrap();
    assert_eq!(text(&at("b")), "a");
    assert!(!at("a").exists() && !at("c").exists());
    assert_eq!(
        errno(rename(&at("a"), &at("d"), Existing::Replace)),
        Some(2)
    );
    assert_eq!(errno(rename(&at("a"), &at("d"), Existing::Keep)), Some(2));
}

#[test]
fn rename_moves_links_themselves_and_whole_directories() {
    let dir = tempfile::tempdir().unwrap();
    let at = |name: &str| dir.path().join(name);
    symlink("nowhere", at("link")).unwrap();
    rename(&at("link"), &at("moved"), Existing::Replace).unwrap();
    assert_eq!(
        std::fs::read_link(at("moved")).unwrap(),
        Path::new("nowhere")
    );
    std::fs::create_dir_all(at("d/sub")).unwrap();
    std::fs::create_dir(at("full")).unwrap();
    std::fs::write(at("full/f"), "").unwrap();
    for existing in [Existing::Replace, Existing::Keep] {
        let inside = rename(&at("d"), &at("d/sub/d"), existing);
        assert_eq!(errno(inside), Some(22), "into itself");
    }
    assert_eq!(
        errno(rename(&at("d"), &at("full"), Existing::Replace)),
        Some(39)
    );
    rename(&at("d"), &at("e"), Existing::Keep).unwrap();
    assert!(at("e/sub").is_dir());
}

#[test]
fn files_and_directories_are_synced_and_nothing_else() {
    let dir = tempfile::tempdir().unwrap();
    let at = |name: &str| dir.path().join(name);
    std::fs::write(at("f"), "x").unwrap();
    std::fs::set_permissions(at("f"), std::fs::Permissions::from_mode(0o200)).unwrap();
    fifo(&at("fifo"));
    sync(&at("f")).unwrap();
    sync(dir.path()).unwrap();
    assert!(matches!(
        sync(&at("fifo")).unwrap_err(),
        FsError::NotAFile(_)
    ));
    assert!(
        std::fs::metadata("/dev/null")
            .unwrap()
            .file_type()
            .is_char_device()
    );
    let device = sync(Path::new("/dev/null")).unwrap_err();
    assert!(matches!(device, FsError::NotAFile(_)), "{device}");
    assert_eq!(errno(sync(&at("none"))), Some(2));
}
