use std::os::unix::fs::symlink;

use super::*;

fn errno(result: Result<impl Sized, FsError>) -> Option<i32> {
    match result.err().expect("an error") {
        FsError::Io(err) => err.raw_os_error(),
        other => panic!("{other}"),
    }
}

/// `d/x`, `f`, `l` to `d`, `dangling`, `p` a FIFO.
fn scratch() -> (tempfile::TempDir, std::path::PathBuf) {
    let dir = tempfile::tempdir().unwrap();
    let root = dir.path().canonicalize().unwrap();
    std::fs::create_dir(root.join("d")).unwrap();
    std::fs::write(root.join("d/x"), "x").unwrap();
    std::fs::write(root.join("f"), "f").unwrap();
    symlink("d", root.join("l")).unwrap();
    symlink("none", root.join("dangling")).unwrap();
    rustix::fs::mkfifoat(CWD, root.join("p"), Mode::from_raw_mode(0o600)).unwrap();
    (dir, root)
}

#[test]
fn directories_are_made_or_refused_with_the_codes_of_the_protocol() {
    use Links::{Follow, Refuse};
    let (_dir, root) = scratch();
    let table = [
        ("d", true, Follow, None),
        ("l", true, Follow, None),
        ("a/b/c", true, Follow, None),
        ("a/b/d", false, Follow, None),
        ("d", false, Follow, Some(17)),
        ("f", true, Follow, Some(17)),
        ("dangling", true, Follow, Some(17)),
        ("f/x", true, Follow, Some(20)),
        ("no/x", false, Follow, Some(2)),
        ("d", true, Refuse, None),
        ("r/s/t", true, Refuse, None),
        ("r/u", false, Refuse, None),
        ("d", false, Refuse, Some(17)),
        ("f", true, Refuse, Some(20)),
        ("l", true, Refuse, Some(20)),
        ("l/y", true, Refuse, Some(20)),
        ("l/y", false, Refuse, Some(20)),
        ("no/x", false, Refuse, Some(2)),
    ];
    for (name, recursive, links, expected) in table {
        let result = create_directory(&root.join(name), recursive, links);
        match expected {
            None => {
                result.unwrap();
                assert!(root.join(name).is_dir(), "{name}");
            }
            Some(_) => assert_eq!(errno(result), expected, "{name} {recursive} {links:?}"),
        }
    }
    assert!(!root.join("d/y").exists());
    create_directory(Path::new("/"), true, Refuse).unwrap();
    let root_again = create_directory(Path::new("/"), false, Refuse).unwrap_err();
    assert_eq!(root_again.to_string(), "directory already exists");
}

#[test]
fn listings_show_what_links_lead_to_and_leave_out_what_leads_nowhere() {
    let (_dir, root) = scratch();
    let strange = std::ffi::OsStr::from_bytes(b"\xff\n");
    std::fs::write(root.join(strange), "").unwrap();
    symlink("loop", root.join("loop")).unwrap();
    let mut entries = read_directory(&root, &Cancelled::never()).unwrap();
    entries.sort_by(|a, b| a.name.cmp(&b.name));
    let entry = |name: &std::ffi::OsStr, kind| Entry {
        name: name.to_owned(),
        kind,
    };
    let expected = [
        entry("d".as_ref(), FileType::Directory),
        entry("f".as_ref(), FileType::RegularFile),
        entry("l".as_ref(), FileType::Directory),
        entry("p".as_ref(), FileType::Fifo),
        entry(strange, FileType::RegularFile),
    ];
    assert_eq!(entries, expected);
    assert_eq!(
        errno(read_directory(&root.join("f"), &Cancelled::never())),
        Some(20)
    );
    assert_eq!(
        errno(read_directory(&root.join("none"), &Cancelled::never())),
        Some(2)
    );
}

#[test]
fn removal_takes_the_link_and_never_its_target() {
    let (_dir, root) = scratch();
    symlink("../f", root.join("d/link")).unwrap();
    remove(&root.join("l"), true, false, Links::Follow).unwrap();
    assert!(root.join("d/x").exists() && !root.join("l").is_symlink());
    remove(&root.join("d"), true, false, Links::Follow).unwrap();
    assert!(!root.join("d").exists() && root.join("f").exists());
    remove(&root.join("dangling"), false, false, Links::Follow).unwrap();
    assert!(!root.join("dangling").is_symlink());
    remove(&root.join("p"), true, true, Links::Follow).unwrap();
    assert!(!root.join("p").exists());
}

#[test]
fn removal_is_refused_with_the_codes_of_the_protocol() {
    use Links::{Follow, Refuse};
    let (_dir, root) = scratch();
    let table = [
        ("none", true, true, Follow, None),
        ("no/where", false, true, Follow, None),
        ("none", true, false, Follow, Some(2)),
        ("f/x", true, true, Follow, Some(20)),
        ("d", false, true, Follow, Some(39)),
        ("no/where", false, true, Refuse, None),
        ("none", false, false, Refuse, Some(2)),
        ("d", false, true, Refuse, Some(39)),
        ("l/x", false, true, Refuse, Some(20)),
    ];
    for (name, recursive, force, links, expected) in table {
        let result = remove(&root.join(name), recursive, force, links);
        match expected {
            None => result.unwrap(),
            Some(_) => assert_eq!(
                errno(result),
                expected,
                "{name} {recursive} {force} {links:?}"
            ),
        }
    }
    let text = |path: &Path, recursive, links| {
        remove(path, recursive, true, links)
            .unwrap_err()
            .to_string()
    };
    let refused = "recursive no-follow removal is unsupported";
    assert_eq!(text(&root.join("f"), true, Refuse), refused);
    assert_eq!(
        text(&root.join("l"), false, Refuse),
        "path contains a symbolic link"
    );
    assert_eq!(
        text(Path::new("/"), false, Refuse),
        "path must name an entry"
    );
    assert_eq!(
        text(Path::new("/"), true, Follow),
        "the root directory cannot be removed"
    );
    assert!(root.join("d/x").exists() && root.join("f").exists());
}

#[test]
fn a_deep_tree_is_removed() {
    let (_dir, root) = scratch();
    let mut path = root.join("deep");
    for _ in 0..300 {
        path.push("d");
    }
    create_directory(&path, true, Links::Follow).unwrap();
    std::fs::write(path.join("f"), "").unwrap();
    remove(&root.join("deep"), true, false, Links::Follow).unwrap();
    assert!(!root.join("deep").exists());
}
