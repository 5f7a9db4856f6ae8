//! Path URIs: nothing panics, the canonical form of a path is stable, a URI without a path on this host
//! never gets one by being sent on, and no URI reaches a path that its segments do not show.

#![no_main]

use std::path::Component;

use exec_proto::PathUri;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|text: &str| {
    let Ok(uri) = PathUri::parse(text) else {
        return;
    };
    let again = PathUri::parse(uri.as_str()).expect("the canonical form parses");
    let Ok(path) = uri.to_native() else {
        assert!(again.to_native().is_err(), "{text:?} became {again:?}");
        return;
    };
    assert_eq!(uri, again);
    assert!(path.is_absolute());
    let climbs = path.components().any(|part| part == Component::ParentDir);
    assert!(!climbs, "{text:?} became {path:?}");
    let from_path = PathUri::from_native(&path).expect("an absolute path has a URI");
    assert_eq!(from_path.to_native().as_ref(), Ok(&path));
});
