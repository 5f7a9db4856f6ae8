//! The tests of this project, by name, as the sources have them: for tables and documents that name
//! tests, which must be tests and not only words.

use std::collections::BTreeSet;
use std::path::Path;

/// All functions with a test attribute in the crates beside this one.
pub(crate) fn tests_of_this_project() -> BTreeSet<String> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    let mut tests = BTreeSet::new();
    for directory in [
        "agent/src",
        "agent/tests",
        "exec-proto/src",
        "harness/src",
        "harness/tests",
        "tests/tests",
    ] {
        let directory = root.join(directory);
        if directory.exists() {
            collect(&directory, &mut tests);
        }
    }
    tests
}

fn collect(directory: &Path, tests: &mut BTreeSet<String>) {
    for entry in std::fs::read_dir(directory).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            collect(&path, tests);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            tests.extend(in_source(&std::fs::read_to_string(path).unwrap()));
        }
    }
}

fn in_source(source: &str) -> BTreeSet<String> {
    let mut tests = BTreeSet::new();
    let mut has_attribute = false;
    for line in source.lines().map(str::trim) {
        if line.starts_with("#[test]") || line.starts_with("#[tokio::test") {
            has_attribute = true;
        } else if let Some((_, rest)) = line.split_once("fn ") {
            let name = rest.split(['(', '<']).next().unwrap();
            if std::mem::take(&mut has_attribute) {
                tests.insert(name.to_owned());
            }
        } else if !line.starts_with("#[") && !line.starts_with("///") {
            has_attribute = false;
        }
    }
    tests
}

#[test]
fn functions_without_the_attribute_are_no_tests() {
    let source = "fn helper() {}\n/// fn text() {}\n#[test]\nfn plain() {}\nfn after() {}\n\
                  #[tokio::test(start_paused = true)]\n#[cfg(unix)]\n/// Why.\nasync fn late() {}\n\
                  #[test]\nconst X: u8 = 1;\nfn other() {}\n// fn comment() {}\n";
    let expected = ["late", "plain"].map(str::to_owned);
    assert_eq!(in_source(source), expected.into());
}
