use std::os::unix::fs::symlink;
use std::time::Duration;

use super::*;

fn scratch() -> (tempfile::TempDir, PathBuf) {
    let dir = tempfile::tempdir().unwrap();
    let root = dir.path().canonicalize().unwrap();
    (dir, root)
}

fn arm(root: &Path, missing: &[&str], present: Option<&str>) -> Option<Armed> {
    let missing: Vec<_> = missing.iter().map(|name| root.join(name)).collect();
    let present = present.map(|name| root.join(name));
    Armed::new(&missing, present.as_deref())
}

async fn fires(armed: Armed) {
    tokio::time::timeout(Duration::from_secs(5), armed.fired())
        .await
        .expect("an event");
}

/// The kernel queues events before the call that caused them returns, so what is to be ignored can be
/// read at once.
fn ignores(armed: &Armed) {
    assert!(!matters(&armed.inotify, &armed.directories, armed.present));
}

#[tokio::test]
async fn fires_when_the_path_or_a_missing_ancestor_appears() {
    let (_dir, root) = scratch();
    type Happen = fn(&Path);
    let appear: [(&str, Happen); 4] = [
        ("a", |root| std::fs::write(root.join("a"), "").unwrap()),
        ("b/c/d", |root| std::fs::create_dir(root.join("b")).unwrap()),
        ("e", |root| symlink("nowhere", root.join("e")).unwrap()),
        ("f", |root| {
            std::fs::rename(root.join("a"), root.join("f")).unwrap()
        }),
    ];
    for (path, happen) in appear {
        let armed = arm(&root, &["other", path], None).unwrap();
        happen(&root);
        fires(armed).await;
    }
}

#[tokio::test]
async fn siblings_do_not_count() {
    let (_dir, root) = scratch();
    std::fs::create_dir(root.join("d")).unwrap();
    let armed = arm(&root, &["new", "d/deep/new"], None).unwrap();
    std::fs::write(root.join("newer"), "").unwrap();
    std::fs::write(root.join("d/new"), "").unwrap();
    std::fs::remove_file(root.join("d/new")).unwrap();
    ignores(&armed);
    std::fs::write(root.join("new"), "").unwrap();
    fires(armed).await;
}

#[tokio::test]
async fn an_existing_ancestor_that_is_moved_or_replaced_counts() {
    let (_dir, root) = scratch();
    std::fs::create_dir_all(root.join("a/b/c")).unwrap();
    let armed = arm(&root, &["a/b/c/new"], None).unwrap();
    std::fs::rename(root.join("a"), root.join("z")).unwrap();
    fires(armed).await;
}

#[tokio::test]
async fn what_is_present_is_watched_for_changes() {
    let (_dir, root) = scratch();
    let change: [fn(&Path); 4] = [
        |file| std::fs::write(file, "more").unwrap(),
        |file| std::fs::rename(file, file.with_extension("moved")).unwrap(),
        |file| std::fs::remove_file(file).unwrap(),
        |file| {
            std::fs::write(file.with_extension("tmp"), "new").unwrap();
            std::fs::rename(file.with_extension("tmp"), file).unwrap();
        },
    ];
    for happen in change {
        std::fs::write(root.join("here"), "x").unwrap();
        let armed = arm(&root, &["new"], Some("here")).unwrap();
        std::fs::write(root.join("unrelated"), "").unwrap();
        ignores(&armed);
        happen(&root.join("here"));
        fires(armed).await;
    }
}

#[test]
fn what_could_be_missed_is_not_watched() {
    let (_dir, root) = scratch();
    std::fs::create_dir(root.join("d")).unwrap();
    std::fs::write(root.join("f"), "").unwrap();
    symlink("d", root.join("l")).unwrap();
    symlink("none", root.join("dangling")).unwrap();
    for missing in [
        "f",
        "d",
        "l",
        "dangling",
        "l/new",
        "f/new",
        "/",
        "/proc/new",
        "/sys/new",
    ] {
        assert!(arm(&root, &["new", missing], None).is_none(), "{missing}");
    }
    for present in ["none", "l/x", "f/x", "/proc/version"] {
        assert!(arm(&root, &["new"], Some(present)).is_none(), "{present}");
    }
    assert!(arm(&root, &["new", "no/where"], Some("d")).is_some());
}

#[tokio::test]
async fn names_need_not_be_unicode() {
    let (_dir, root) = scratch();
    let path = root.join(OsStr::from_bytes(b"\xff\n"));
    let armed = Armed::new(std::slice::from_ref(&path), None).unwrap();
    std::fs::write(&path, "").unwrap();
    fires(armed).await;
}
