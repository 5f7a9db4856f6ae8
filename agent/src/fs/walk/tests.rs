use std::collections::BTreeMap;
use std::os::unix::fs::symlink;

use proptest::prelude::*;

use super::*;

const WIDE: Options = Options {
    max_depth: 64,
    max_directories: 10_000,
    max_entries: 50_000,
    follow_directory_links: false,
    prune_hidden: false,
};

/// Paths below `root` in the order of the walk; directories end in a slash.
fn run(root: &Path, options: Options) -> (Vec<String>, bool) {
    let walked = walk(root, options, &Cancelled::never()).unwrap();
    assert!(walked.errors.is_empty());
    let name = |found: &Found| {
        assert_eq!(PathUri::from_native(&found.path), Some(found.uri.clone()));
        let path = found
            .path
            .strip_prefix(root)
            .unwrap()
            .to_string_lossy()
            .into_owned();
        if found.is_directory { path + "/" } else { path }
    };
    (walked.entries.iter().map(name).collect(), walked.truncated)
}

fn tree(files: &[&str]) -> tempfile::TempDir {
    let dir = tempfile::tempdir().unwrap();
    for name in files {
        let path = dir.path().join(name);
        if name.ends_with('/') {
            std::fs::create_dir_all(path).unwrap();
        } else {
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, "").unwrap();
        }
    }
    dir
}

#[test]
fn limits_cut_a_walk_where_the_protocol_says() {
    let dir = tree(&["a/f", "a/in/", "b/f", "c", ".h/x"]);
    let all = [".h/", "a/", "b/", "c", ".h/x", "a/f", "a/in/", "b/f"];
    let expect = |options, n: usize, truncated| {
        let (found, cut) = run(dir.path(), options);
        assert_eq!(found, all[..n], "{options:?}");
        assert_eq!(cut, truncated, "{options:?}");
    };
    expect(WIDE, 8, false);
    expect(
        Options {
            max_depth: 0,
            ..WIDE
        },
        4,
        false,
    );
    expect(
        Options {
            max_entries: 8,
            ..WIDE
        },
        8,
        false,
    );
    expect(
        Options {
            max_entries: 7,
            ..WIDE
        },
        7,
        true,
    );
    expect(
        Options {
            max_entries: 3,
            ..WIDE
        },
        3,
        true,
    );
    expect(
        Options {
            max_directories: 1,
            ..WIDE
        },
        4,
        true,
    );
    expect(
        Options {
            max_directories: 2,
            ..WIDE
        },
        5,
        true,
    );
    expect(
        Options {
            max_directories: 3,
            ..WIDE
        },
        7,
        true,
    );
    let (found, cut) = run(
        dir.path(),
        Options {
            prune_hidden: true,
            ..WIDE
        },
    );
    assert_eq!((found.len(), cut), (7, false));
    assert!(!found.contains(&".h/x".to_owned()));
}

#[test]
fn links_to_directories_are_entered_once_and_others_are_left_out() {
    let dir = tree(&["b/f", "b/in/"]);
    let root = dir.path();
    symlink("b", root.join("B")).unwrap();
    symlink("b/f", root.join("file")).unwrap();
    symlink("none", root.join("dangling")).unwrap();
    symlink("loop", root.join("loop")).unwrap();
    symlink("..", root.join("b/up")).unwrap();
    rustix::fs::mkfifoat(rustix::fs::CWD, root.join("p"), Mode::from_raw_mode(0o600)).unwrap();
    assert_eq!(run(root, WIDE).0, ["b/", "b/f", "b/in/"]);
    let follow = Options {
        follow_directory_links: true,
        ..WIDE
    };
    assert_eq!(run(root, follow).0, ["B/", "b/", "B/f", "B/in/", "B/up/"]);
    assert!(run(&root.join("B"), WIDE).0.is_empty());
    assert!(run(&root.join("b/f"), WIDE).0.is_empty());
    assert_eq!(
        run(&root.join("B"), follow).0,
        ["f", "in/", "up/", "up/B/", "up/b/"]
    );
    assert!(
        walk(&root.join("dangling"), follow, &Cancelled::never())
            .unwrap_err()
            .is_not_found()
    );
}

#[test]
fn names_that_are_not_unicode_are_listed_and_entered() {
    let dir = tempfile::tempdir().unwrap();
    let strange = dir.path().join(OsStr::from_bytes(b"\xff\xfe"));
    std::fs::create_dir(&strange).unwrap();
    std::fs::write(strange.join("line\nbreak"), "").unwrap();
    let walked = walk(dir.path(), WIDE, &Cancelled::never()).unwrap();
    assert!(walked.errors.is_empty());
    assert!(walked.entries[0].uri.as_str().ends_with("/%FF%FE"));
    assert!(
        walked.entries[1]
            .uri
            .as_str()
            .ends_with("/%FF%FE/line%0Abreak")
    );
    assert_eq!(
        walked.entries[1].uri.to_native().unwrap(),
        strange.join("line\nbreak")
    );
}

#[test]
fn the_answer_has_a_bounded_size() {
    let dir = tempfile::tempdir().unwrap();
    // Each name is 255 bytes and takes three times as much in a URI.
    for n in 0..6000 {
        let name = format!("{n:05}").into_bytes();
        let name = [name, vec![0xff; 250]].concat();
        std::fs::write(dir.path().join(OsStr::from_bytes(&name)), "").unwrap();
    }
    let walked = walk(dir.path(), WIDE, &Cancelled::never()).unwrap();
    assert!(walked.truncated);
    let bytes: usize = walked
        .entries
        .iter()
        .map(|found| found.uri.as_str().len() + 64)
        .sum();
    assert!(
        (WALK_RESPONSE_BYTES - 1000..=WALK_RESPONSE_BYTES).contains(&bytes),
        "{bytes}"
    );
}

/// As if they were not there, which is what `fs/readDirectory` says.
#[test]
fn links_that_lead_nowhere_do_not_count() {
    let dir = tempfile::tempdir().unwrap();
    std::fs::write(dir.path().join("z"), "").unwrap();
    let count = |limit| {
        let options = Options {
            max_entries: limit,
            ..WIDE
        };
        run(dir.path(), options)
    };
    for (name, target) in [("a", "no"), ("b", "b")] {
        symlink(target, dir.path().join(name)).unwrap();
    }
    assert_eq!(count(1), (vec!["z".to_owned()], false));
    symlink("z", dir.path().join("c")).unwrap();
    assert_eq!(count(1), (vec![], true), "the link to a file counts");
    assert_eq!(count(2), (vec!["z".to_owned()], false));
}

#[test]
fn limits_are_checked() {
    let text = |options: Options| options.check().unwrap_err().to_string();
    for zero in [
        Options {
            max_entries: 0,
            ..WIDE
        },
        Options {
            max_directories: 0,
            ..WIDE
        },
    ] {
        assert_eq!(
            text(zero),
            "filesystem walk limits must be greater than zero"
        );
    }
    for high in [
        Options {
            max_depth: 65,
            ..WIDE
        },
        Options {
            max_directories: 10_001,
            ..WIDE
        },
        Options {
            max_entries: 50_001,
            ..WIDE
        },
    ] {
        assert!(text(high).starts_with("filesystem walk limits exceed maximums"));
    }
    WIDE.check().unwrap();
    Options {
        max_depth: 0,
        ..WIDE
    }
    .check()
    .unwrap();
}

/// A tree in memory: `None` is a file.
#[derive(Debug, Clone)]
struct Node(Option<BTreeMap<String, Self>>);

fn node() -> impl Strategy<Value = Node> {
    let leaf = prop_oneof![Just(Node(None)), Just(Node(Some(BTreeMap::new())))];
    leaf.prop_recursive(4, 40, 5, |inner| {
        prop::collection::btree_map("[.a-cA-C]{1,3}", inner, 0..5).prop_map(|mut children| {
            children.retain(|name, _| name != "." && name != "..");
            Node(Some(children))
        })
    })
}

fn build(node: &Node, path: &Path) {
    match &node.0 {
        None => std::fs::write(path, "").unwrap(),
        Some(children) => {
            std::fs::create_dir_all(path).unwrap();
            for (name, child) in children {
                build(child, &path.join(name));
            }
        }
    }
}

/// The definition of a walk, on the tree in memory.
fn model(root: &Node, options: Options) -> (Vec<String>, bool) {
    let (mut found, mut truncated) = (Vec::new(), false);
    let (mut examined, mut entered) = (0, 0);
    let mut queue = VecDeque::from([(String::new(), root, 0)]);
    while let Some((prefix, node, depth)) = queue.pop_front() {
        let Some(children) = &node.0 else { continue };
        if entered == options.max_directories {
            truncated = true;
            continue;
        }
        entered += 1;
        for (name, child) in children {
            if examined == options.max_entries {
                return (found, true);
            }
            examined += 1;
            let path = format!("{prefix}{name}");
            if child.0.is_none() {
                found.push(path);
                continue;
            }
            let path = path + "/";
            found.push(path.clone());
            if depth < options.max_depth && !(options.prune_hidden && name.starts_with('.')) {
                queue.push_back((path, child, depth + 1));
            }
        }
    }
    (found, truncated)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 48, ..ProptestConfig::default() })]

    #[test]
    fn a_walk_finds_what_the_naive_model_finds(
        root in node(),
        max_depth in 0..5usize,
        max_directories in 1..8usize,
        max_entries in 1..30usize,
        follow_directory_links: bool,
        prune_hidden: bool,
    ) {
        let options = Options {
            max_depth, max_directories, max_entries, follow_directory_links, prune_hidden,
        };
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("root");
        build(&root, &path);
        prop_assert_eq!(run(&path, options), model(&root, options));
    }
}
