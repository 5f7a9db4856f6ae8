//! The same answers as the crate that the reference uses, and bounded work.

use globset::GlobBuilder;
use proptest::prelude::*;
use proptest::sample::select;

use super::*;

fn is_match(pattern: &Pattern, path: &[u8]) -> bool {
    let mut reader = pattern.reader();
    let start = reader.start();
    let end = reader.read(&start, path);
    reader.is_match(&end)
}

/// Whether the pattern matches, or `None` if it is none.
fn ours(pattern: &str, path: &str) -> Option<bool> {
    Pattern::parse(pattern).map(|pattern| is_match(&pattern, path.as_bytes()))
}

#[test]
fn each_kind_of_part_matches_what_it_is_for() {
    let cases = [
        ("/w/*.env", "/w/.env", true),
        ("/w/*.env", "/w/a/.env", false),
        ("/w/**/*.env", "/w/.env", true),
        ("/w/**/*.env", "/w/a/b/c.env", true),
        ("/w/**/*.env", "/wa/.env", false),
        ("/w/**", "/w", false),
        ("/w/**", "/w/a/b", true),
        ("/w/a**", "/w/ab", true),
        ("/w/a**", "/w/a/b", false),
        ("/w/?", "/w/a", true),
        ("/w/?", "/w//", false),
        ("/w/??", "/w/é", true),
        ("/w/{a,b*,}", "/w/bc", true),
        ("/w/{a,b*,}", "/w/", false),
        ("/w/{a,{b,c}/d}", "/w/c/d", true),
        ("/w/[a-c]", "/w/b", true),
        ("/w/[!a-c]", "/w/b", false),
        ("/w/[!a-c]", "/w/d", true),
        ("/w/[]-]", "/w/]", true),
        ("/w/[[]", "/w/[", true),
        (r"/w/\*", "/w/*", true),
        (r"/w/\*", "/w/a", false),
        ("/w/{**/c,x}", "/w/a/c", true),
        ("**", "/w/a", true),
        ("{}", "", true),
    ];
    for (pattern, path, expected) in cases {
        assert_eq!(ours(pattern, path), Some(expected), "{pattern} {path}");
    }
    for pattern in ["/w/{a", "/w/a}", "/w/[a", "/w/[b-a]", "/w/\\"] {
        assert_eq!(ours(pattern, ""), None, "{pattern}");
    }
}

#[test]
fn path_may_be_read_in_pieces() {
    let pattern = Pattern::parse("/w/**/*.{env,key}").unwrap();
    let mut reader = pattern.reader();
    let start = reader.start();
    let directory = reader.read(&start, b"/w/a/");
    for (name, expected) in [("b.env", true), ("b", false), ("c.key", true)] {
        let end = reader.read(&directory, name.as_bytes());
        assert_eq!(reader.is_match(&end), expected, "{name}");
    }
    assert!(!reader.is_match(&directory));
}

#[test]
fn large_pattern_is_refused_and_none_takes_long() {
    let depth = |count: usize| format!("/w/{}a{}", "{".repeat(count), "}".repeat(count));
    assert!(Pattern::parse(&depth(MAX_DEPTH)).is_some());
    assert!(Pattern::parse(&depth(MAX_DEPTH + 1)).is_none());
    assert!(Pattern::parse(&depth(1_000_000)).is_none());
    assert!(Pattern::parse(&"a".repeat(MAX_STEPS - 1)).is_some());
    assert!(Pattern::parse(&"a".repeat(MAX_STEPS)).is_none());
    // Somebody who tries each star at each place in turn would never be done.
    let pattern = Pattern::parse(&format!("/{}b", "*a".repeat(100))).unwrap();
    let path = format!("/{}", "a".repeat(4095));
    assert!(!is_match(&pattern, path.as_bytes()));
    let mut reader = pattern.reader();
    let start = reader.start();
    let end = reader.read(&start, path.as_bytes());
    assert!(end.0.len() <= pattern.steps.len());
}

/// Pieces that stand in each other's way.
const PATTERN: &[&str] = &[
    "a", "b", "/", "/", "*", "**", "**/", "/**", "/**/", "?", "{", "}", "{a,", ",", "[", "[!",
    "[a-", "[^", "]", "-", "\\", "é", "{**,", ".",
];

const PATH: &[&str] = &[
    "a", "b", "/", "/a", "a/b", "-", ",", "]", "[", "é", ".", "*",
];

fn text(pieces: &'static [&'static str]) -> impl Strategy<Value = String> {
    proptest::collection::vec(select(pieces), 0..9).prop_map(|pieces| pieces.concat())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1000))]

    #[test]
    fn answers_are_those_of_the_crate_of_the_reference(
        pattern in text(PATTERN),
        paths in proptest::collection::vec(text(PATH), 20),
    ) {
        let expected = GlobBuilder::new(&pattern).literal_separator(true).build();
        let expected = expected.ok().map(|glob| glob.compile_matcher());
        for path in &paths {
            let expected = expected.as_ref().map(|glob| glob.is_match(path));
            prop_assert_eq!(ours(&pattern, path), expected, "{} {}", &pattern, path);
        }
    }
}
