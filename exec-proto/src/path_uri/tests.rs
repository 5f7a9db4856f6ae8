use proptest::prelude::*;

use super::*;

fn native(uri: &str) -> PathBuf {
    PathUri::parse(uri).unwrap().to_native().unwrap()
}

fn refusal(uri: &str) -> String {
    PathUri::parse(uri).unwrap_err().to_string()
}

#[test]
fn spellings_of_one_path_are_equal() {
    for uri in [
        "file:///a/b",
        "file:/a/b",
        "file:a/b",
        "FILE:///a/b",
        "file://localhost/a/b",
        "file://LOCALHOST/a/b",
        "file:\\\\/a/b",
        "  file:///a/b ",
        "fi\nle:///a/\tb",
        "file:///x/../a/./b",
        "file:///x/%2e%2E/a/%2e/b",
        "file:///%61/b",
    ] {
        assert_eq!(native(uri), Path::new("/a/b"), "{uri}");
        assert_eq!(
            PathUri::parse(uri).unwrap().to_string(),
            "file:///a/b",
            "{uri}"
        );
    }
    for uri in ["file:", "file://", "file:///"] {
        assert_eq!(native(uri), Path::new("/"), "{uri}");
        assert_eq!(PathUri::parse(uri).unwrap().as_str(), "file:///");
    }
}

#[test]
fn inner_and_trailing_slashes_are_kept_by_the_uri() {
    assert_eq!(
        PathUri::parse("file:///a//b/").unwrap().as_str(),
        "file:///a//b/"
    );
    assert_eq!(native("file:///a//b/"), Path::new("/a/b"));
}

#[test]
fn escapes_decode_to_bytes_and_come_back_canonical() {
    let cases: [(&str, &[u8], &str); 7] = [
        (
            "file:///b%5C%5E%7C%7B%7D",
            b"/b\\^|{}",
            "file:///b%5C^|%7B%7D",
        ),
        ("file:///100%.txt", b"/100%.txt", "file:///100%25.txt"),
        ("file:///a b", b"/a b", "file:///a%20b"),
        (
            "file:///a%3Fb%23c%5Cd",
            b"/a?b#c\\d",
            "file:///a%3Fb%23c%5Cd",
        ),
        ("file:///%FF%FE", b"/\xff\xfe", "file:///%FF%FE"),
        ("file:///\u{e9}", b"/\xc3\xa9", "file:///%C3%A9"),
        (
            "file:///t~'()*!;@&=+$,",
            b"/t~'()*!;@&=+$,",
            "file:///t~'()*!;@&=+$,",
        ),
    ];
    for (uri, bytes, canonical) in cases {
        let parsed = PathUri::parse(uri).unwrap();
        assert_eq!(
            parsed.to_native().unwrap().as_os_str().as_bytes(),
            bytes,
            "{uri}"
        );
        assert_eq!(parsed.as_str(), canonical);
    }
}

#[test]
fn texts_of_refusals_are_those_of_the_protocol() {
    for uri in ["/a/b", "a/b", ""] {
        assert_eq!(refusal(uri), "invalid URI: relative URL without a base");
    }
    assert_eq!(refusal("http://x/"), "unsupported path URI scheme `http`");
    assert_eq!(
        refusal("file:///a?"),
        "query parameters are not allowed in path URIs"
    );
    assert_eq!(
        refusal("file:///a#"),
        "fragments are not allowed in path URIs"
    );
    assert_eq!(
        refusal("file://u@h/a"),
        "invalid URI: invalid international domain name"
    );
    assert_eq!(
        refusal("file://h:1/a"),
        "invalid URI: invalid international domain name"
    );
    assert_eq!(
        refusal("file:///a%00b"),
        "'file:///a%00b' is invalid on 'linux'"
    );
}

#[test]
fn encoded_separator_is_refused() {
    for uri in ["file:///a%2Fb", "file:///a%2fb", "file:///dir%2f..%2ff.txt"] {
        assert!(
            matches!(PathUri::parse(uri), Err(PathUriError::Foreign(_))),
            "{uri}"
        );
    }
}

#[test]
fn drives_and_other_hosts_parse_but_have_no_native_path() {
    for (uri, shown) in [
        ("file:///C:/x", "file:///C:/x"),
        ("file:///c:", "file:///C:"),
        ("file:///c%3A/x", "file:///C%3A/x"),
        ("file:///c%3a/./%41/\u{e9}", "file:///C%3a/%41/%C3%A9"),
        ("file:///c:/a%2Fb", "file:///C:/a%2Fb"),
        ("file://host/x", "file://host/x"),
        ("file://host/c%3A/%41", "file://host/c%3A/%41"),
        ("file://127.0.0.1/x", "file://127.0.0.1/x"),
    ] {
        let err = PathUri::parse(uri).unwrap().to_native().unwrap_err();
        assert_eq!(err.to_string(), format!("'{shown}' is invalid on 'linux'"));
    }
}

#[test]
fn fallback_form_is_only_for_paths_that_need_it() {
    let uri = PathUri::from_native(Path::new("/C:/x")).unwrap();
    assert!(uri.as_str().starts_with("file:///%00/bad/path/"));
    assert_eq!(PathUri::parse(uri.as_str()).unwrap(), uri);
    assert_eq!(native(uri.as_str()), Path::new("/C:/x"));

    // An escaped letter makes no drive, so this is a path, and is told in the form that it needs.
    let escaped = PathUri::parse("file:///%43:/x").unwrap();
    assert_eq!(escaped, uri);
    assert_eq!(native("file:///%43%3A/x"), Path::new("/C:/x"));

    let plain = format!(
        "file:///%00/bad/path/{}",
        URL_SAFE_NO_PAD.encode("/etc/passwd")
    );
    assert!(PathUri::parse(&plain).unwrap().to_native().is_err());
    assert!(PathUri::parse("file:///%00/bad/path/???").is_err());
    for undecodable in ["", "!!", "YQ=="] {
        let uri = format!("file:///%00/bad/path/{undecodable}");
        let refused = PathUri::parse(&uri).unwrap_err();
        assert_eq!(
            refused.to_string(),
            format!("'{uri}' is invalid on 'linux'")
        );
    }
}

#[test]
fn a_letter_and_a_bar_are_an_ordinary_name() {
    assert_eq!(native("file:///C|/x"), Path::new("/C|/x"));
}

#[test]
fn relative_paths_have_no_uri() {
    assert_eq!(PathUri::from_native(Path::new("a/b")), None);
}

#[test]
fn json_form_is_a_string() {
    let uri: PathUri = serde_json::from_str("\"file:///a b\"").unwrap();
    assert_eq!(serde_json::to_string(&uri).unwrap(), "\"file:///a%20b\"");
}

/// A path of names of any bytes but NUL and slash, without `.` and `..`.
fn any_native_path() -> impl Strategy<Value = PathBuf> {
    let name = prop::collection::vec(
        any::<u8>().prop_filter("no separator", |b| !matches!(b, 0 | b'/')),
        1..12,
    )
    .prop_filter("no dot names", |name| name != b"." && name != b"..");
    prop::collection::vec(name, 0..6).prop_map(|names| {
        let mut path = PathBuf::from("/");
        path.extend(names.into_iter().map(OsString::from_vec));
        path
    })
}

proptest! {
    #[test]
    fn native_paths_survive_a_round_trip(path in any_native_path()) {
        let uri = PathUri::from_native(&path).unwrap();
        prop_assert!(uri.as_str().is_ascii());
        prop_assert_eq!(uri.to_native().unwrap(), path.clone());
        let parsed = PathUri::parse(uri.as_str()).unwrap();
        prop_assert_eq!(parsed.to_native().unwrap(), path);
        prop_assert_eq!(parsed, uri);
    }

    #[test]
    fn any_text_parses_or_is_refused_and_canonical_form_is_stable(text in "(file:)?[/\\\\]{0,4}.{0,40}") {
        if let Ok(uri) = PathUri::parse(&text) {
            let again = PathUri::parse(uri.as_str()).unwrap();
            prop_assert_eq!(again.as_str(), uri.as_str());
            prop_assert_eq!(again.to_native(), uri.to_native());
            if let Ok(path) = uri.to_native() {
                prop_assert!(path.is_absolute());
                prop_assert!(!path.components().any(|c| matches!(c, std::path::Component::ParentDir)));
            }
        }
    }
}
