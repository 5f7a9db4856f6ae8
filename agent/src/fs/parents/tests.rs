use std::io::Read as _;
use std::os::unix::fs::{PermissionsExt as _, symlink};

use super::*;
use crate::fs::write::write_file;

fn read(parents: &mut Parents, path: &Path) -> Result<String, FsError> {
    let (mut file, _) = parents.open_to_read(path, Links::Follow)?;
    let mut text = String::new();
    file.read_to_string(&mut text)?;
    Ok(text)
}

fn write(parents: &mut Parents, path: &Path, text: &str) -> Result<(), FsError> {
    write_file(parents.target(path, Links::Follow)?, text.as_bytes())
}

fn root() -> (tempfile::TempDir, PathBuf) {
    let dir = tempfile::tempdir().unwrap();
    let root = dir.path().canonicalize().unwrap();
    (dir, root)
}

#[test]
fn files_of_several_directories_are_written_and_read_where_they_belong() {
    let (_dir, root) = root();
    let mut parents = Parents::default();
    for (directory, name) in [("a", "1"), ("a", "2"), ("b", "1"), ("a", "3")] {
        std::fs::create_dir_all(root.join(directory)).unwrap();
        let path = root.join(directory).join(name);
        write(&mut parents, &path, "first, and longer").unwrap();
        write(&mut parents, &path, &format!("{directory}{name}")).unwrap();
        assert_eq!(
            read(&mut parents, &path).unwrap(),
            format!("{directory}{name}")
        );
    }
    for (path, text) in [("a/1", "a1"), ("a/2", "a2"), ("b/1", "b1"), ("a/3", "a3")] {
        assert_eq!(std::fs::read_to_string(root.join(path)).unwrap(), text);
    }
    assert_eq!(
        std::fs::read_dir(root.join("a")).unwrap().count(),
        3,
        "nothing is left behind"
    );
}

#[test]
fn links_are_written_and_read_through_and_stay_links() {
    let (_dir, root) = root();
    let mut parents = Parents::default();
    std::fs::create_dir(root.join("d")).unwrap();
    symlink("d", root.join("l")).unwrap();
    symlink("target", root.join("d/to-file")).unwrap();
    write(&mut parents, &root.join("l/plain"), "plain").unwrap();
    write(&mut parents, &root.join("l/to-file"), "dangling").unwrap();
    assert_eq!(
        std::fs::read_to_string(root.join("d/target")).unwrap(),
        "dangling"
    );
    write(&mut parents, &root.join("l/to-file"), "existing").unwrap();
    assert_eq!(
        read(&mut parents, &root.join("l/to-file")).unwrap(),
        "existing"
    );
    assert_eq!(
        read(&mut parents, &root.join("l/target")).unwrap(),
        "existing"
    );
    assert!(root.join("d/to-file").is_symlink());
    let target = parents.target(&root.join("l/to-file"), Links::Refuse);
    assert!(target.is_err(), "a link that is not to be followed");
}

#[test]
fn errors_are_those_of_the_whole_path() {
    let (_dir, root) = root();
    std::fs::create_dir(root.join("d")).unwrap();
    std::fs::write(root.join("f"), "").unwrap();
    for path in ["none/x", "f/x", "d", "none", ".."] {
        let path = root.join(path);
        let mut parents = Parents::default();
        let text = |found: FsError| found.to_string();
        assert_eq!(
            parents
                .open_to_read(&path, Links::Follow)
                .map(drop)
                .map_err(text),
            open_to_read(&path, Links::Follow).map(drop).map_err(text),
            "{}",
            path.display()
        );
        assert_eq!(
            parents.target(&path, Links::Follow).map(drop).map_err(text),
            Target::open(&path, Links::Follow).map(drop).map_err(text),
            "{}",
            path.display()
        );
    }
}

#[test]
fn mode_of_a_replaced_file_stays() {
    let (_dir, root) = root();
    let (path, mut parents) = (root.join("f"), Parents::default());
    write(&mut parents, &path, "1").unwrap();
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o640)).unwrap();
    write(&mut parents, &path, "2").unwrap();
    assert_eq!(
        std::fs::metadata(&path).unwrap().permissions().mode() & 0o777,
        0o640
    );
}

#[test]
fn directory_that_took_the_place_of_another_is_found_after_forgetting() {
    let (_dir, root) = root();
    let mut parents = Parents::default();
    std::fs::create_dir(root.join("d")).unwrap();
    write(&mut parents, &root.join("d/f"), "old").unwrap();
    std::fs::rename(root.join("d"), root.join("e")).unwrap();
    std::fs::create_dir(root.join("d")).unwrap();
    parents.forget();
    write(&mut parents, &root.join("d/f"), "new").unwrap();
    assert_eq!(std::fs::read_to_string(root.join("e/f")).unwrap(), "old");
    assert_eq!(std::fs::read_to_string(root.join("d/f")).unwrap(), "new");
}
