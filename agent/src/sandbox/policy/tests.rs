use proptest::prelude::*;
use serde_json::json;

use super::super::testing::{Names, context, policy};
use super::*;

const RO: &[&str] = &["read root"];
const WW: &[&str] = &["read root", "write project_roots"];

fn with(entries: &[&'static str], more: &[&'static str]) -> Vec<&'static str> {
    entries.iter().chain(more).copied().collect()
}

fn rules(names: &Names, entries: &[&str]) -> Rules {
    let policy = policy(names, context(entries)).unwrap().unwrap();
    policy.files.unwrap()
}

fn access(rules: &Rules, path: &str) -> char {
    match rules.access(Path::new(path)) {
        Access::Hidden => '-',
        Access::Read => 'r',
        Access::Write => 'w',
        Access::Deny => 'd',
    }
}

#[test]
fn access_follows_the_narrowest_entry() {
    let names = Names::workspace();
    // Entries, then paths with the access they get.
    type Case<'a> = (Vec<&'a str>, &'a [(&'a str, char)]);
    let table: &[Case<'_>] = &[
        (RO.into(), &[("/", 'r'), ("/w/a.txt", 'r'), ("/o/new", 'r')]),
        (
            WW.into(),
            &[
                ("/w", 'w'),
                ("/w/new", 'w'),
                ("/o/o.txt", 'r'),
                ("/tmp", 'r'),
            ],
        ),
        (
            with(WW, &["read /w/docs"]),
            &[("/w/docs/d.md", 'r'), ("/w/docsx", 'w')],
        ),
        (
            with(WW, &["read /w/docs", "write /w/docs"]),
            &[("/w/docs/d.md", 'w')],
        ),
        (
            with(WW, &["write /w/docs", "deny /w/docs"]),
            &[("/w/docs/d.md", 'd')],
        ),
        (
            with(WW, &["deny /w/private", "write /w/private/open"]),
            &[("/w/private/p.txt", 'd'), ("/w/private/open/f", 'w')],
        ),
        (
            with(RO, &["deny /w/private", "read /w/private/open"]),
            &[("/w/private", 'd'), ("/w/private/open/f", 'r')],
        ),
        (
            vec!["read root", "deny root"],
            &[("/", 'd'), ("/w/a.txt", 'd')],
        ),
        (
            vec!["deny root", "read minimal", "read project_roots"],
            &[("/etc/hosts", 'r'), ("/w/a.txt", 'r'), ("/o/o.txt", 'd')],
        ),
        (
            vec!["read minimal"],
            &[("/usr/bin/sh", 'r'), ("/w", '-'), ("/", '-')],
        ),
        (
            with(WW, &["write slash_tmp"]),
            &[("/tmp/z", 'w'), ("/var/tmp", 'r')],
        ),
        (with(WW, &["write /missing"]), &[("/missing", 'r')]),
        (
            with(RO, &["write /o/o.txt"]),
            &[("/o/o.txt", 'w'), ("/o", 'r')],
        ),
        (
            with(WW, &["write unknown", "read unknown"]),
            &[("/w/f", 'w')],
        ),
        (
            vec!["write project_roots/sub"],
            &[("/w/sub/x", 'w'), ("/w/a.txt", '-')],
        ),
        (
            with(WW, &["read /w/none", "read /w/nothing skip"]),
            &[("/w/none/x", 'r'), ("/w/nothing", 'w')],
        ),
        (
            with(
                RO,
                &["deny /dev/mem", "write /dev/kvm", "write /proc/self/mem"],
            ),
            &[
                ("/dev/mem", 'd'),
                ("/dev/kvm", 'r'),
                ("/proc/self/mem", 'r'),
            ],
        ),
    ];
    for (entries, expected) in table {
        let rules = rules(&names, entries);
        for (path, expected) in *expected {
            assert_eq!(access(&rules, path), *expected, "{entries:?}: {path}");
        }
    }
}

#[test]
fn metadata_is_read_only_directly_under_writable_directories() {
    let names = Names::workspace();
    let plain = rules(&names, WW);
    for name in METADATA {
        assert_eq!(access(&plain, &format!("/w/{name}/x")), 'r', "{name}");
        assert_eq!(access(&plain, &format!("/w/sub/{name}/x")), 'w', "{name}");
    }
    let entries = with(WW, &["write /w/.git", "deny /w/.aws"]);
    let granted = rules(&names, &entries);
    assert_eq!(access(&granted, "/w/.git/config"), 'w');
    assert_eq!(access(&granted, "/w/.codex"), 'r');
    assert_eq!(access(&granted, "/w/.aws"), 'd');
    // What the client asks for leaves out the missing ones; the protection stays.
    let skipped = rules(&names, &with(WW, &["read project_roots/.codex skip"]));
    assert_eq!(access(&skipped, "/w/.codex"), 'r');
    // A placeholder of another command is as good as nothing.
    let shared = rules(&names.placeholder("/w/.codex"), WW);
    let rule = shared.by_path.get(Path::new("/w/.codex")).unwrap();
    assert_eq!(rule.first_missing.as_deref(), Some(Path::new("/w/.codex")));
    // With the whole disk writable there is no root to protect anything in.
    let all = rules(&Names::workspace(), &["write root", "deny /w/private"]);
    assert_eq!(access(&all, "/.git"), 'w');
    assert_eq!(access(&all, "/w/.git"), 'w');
}

#[test]
fn git_pointers_and_links_protect_what_they_lead_to() {
    let bare = Names::workspace().without("/w/.git");
    let names = bare
        .clone()
        .file("/w/.git", "gitdir: .gd2\n")
        .directory("/w/.gd2");
    let pointed = rules(&names, WW);
    assert_eq!(access(&pointed, "/w/.gd2/config"), 'r');
    assert_eq!(access(&pointed, "/w/.git"), 'r');
    let granted = rules(&names, &with(WW, &["write /w/.gd2"]));
    assert_eq!(access(&granted, "/w/.gd2/config"), 'w');

    let names = bare.link("/w/.git", "real").directory("/w/real");
    let linked = rules(&names, WW);
    assert_eq!(access(&linked, "/w/real/config"), 'r');
    assert_eq!(linked.links, [PathBuf::from("/w/.git")]);
}

#[test]
fn links_in_entries_are_followed() {
    let names = Names::workspace()
        .link("/l", "/w")
        .link("/w/plink", "private")
        .link("/w/z.env", "/o/o.txt");
    let rules = rules(
        &names,
        &[
            "read root",
            "write /l/sub",
            "deny /w/plink",
            "deny glob:/w/*.env",
        ],
    );
    assert_eq!(access(&rules, "/w/sub/x"), 'w');
    assert_eq!(access(&rules, "/w/private/p.txt"), 'd');
    assert_eq!(access(&rules, "/o/o.txt"), 'd', "the target of a match");
}

#[test]
fn patterns_deny_files_directories_and_narrower_grants() {
    let names = Names::workspace();
    let depth = |entries: &[&str], depth: usize| {
        let mut context = context(entries);
        context["permissions"]["file_system"]["glob_scan_max_depth"] = depth.into();
        policy(&names, context).unwrap().unwrap().files.unwrap()
    };
    let env = ["/w/.env", "/w/sub/b.env", "/w/sub/deep/c.env"];
    for pattern in [
        "deny glob:/w/**/*.env",
        "deny glob:**/*.env",
        "deny glob:codex-project-roots://**/*.env",
    ] {
        let entries = with(RO, &[pattern]);
        let all = rules(&names, &entries);
        assert!(
            env.iter().all(|path| access(&all, path) == 'd'),
            "{pattern}"
        );
        assert_eq!(access(&all, "/w/a.txt"), 'r');
        for n in 1..=2 {
            let some = depth(&entries, n);
            let denied = env.iter().filter(|path| access(&some, path) == 'd');
            assert_eq!(denied.count(), n, "{pattern}");
        }
    }
    let directory = rules(
        &names,
        &with(WW, &["deny glob:/w/su*", "write /w/sub/deep"]),
    );
    assert_eq!(access(&directory, "/w/sub/deep/c.env"), 'd');
    let exact = rules(&names, &with(RO, &["deny glob:/w/*.env", "read /w/.env"]));
    assert_eq!(access(&exact, "/w/.env"), 'd');
    let granting = rules(&names, &with(RO, &["write glob:/w/*.env"]));
    assert_eq!(access(&granting, "/w/.env"), 'r');
    let literal = rules(&names, &with(RO, &["deny glob:/w/[a"]));
    assert_eq!(access(&literal, "/w/a.txt"), 'r');
}

#[test]
fn what_cannot_be_enforced_is_refused_with_the_reason() {
    let names = Names::workspace();
    for (entries, part) in [
        (
            with(RO, &["deny glob:/**/*.env"]),
            "non-root directory prefix",
        ),
        (with(RO, &["deny glob:/w/{a"]), "non-root directory prefix"),
        (with(RO, &["deny unknown"]), "not known here"),
    ] {
        let refused = policy(&names, context(&entries)).unwrap_err();
        assert!(
            matches!(&refused, Refusal::Unenforceable(text) if text.contains(part)),
            "{refused:?}"
        );
        let error = refused.for_process();
        assert_eq!(error.code, -32602);
        assert!(
            error
                .message
                .starts_with("sandbox intent cannot be enforced on this executor")
        );
    }
    let outside = policy(&names, context(&["write project_roots/../../o"]));
    assert!(matches!(outside, Err(Refusal::Context(_))));
    let mut mxc = context(RO);
    mxc["windowsSandboxLevel"] = "mxc".into();
    let error = policy(&names, mxc).unwrap_err().for_process();
    assert_eq!((error.code, error.message.as_str()), (-32602, NO_MXC));
}

#[test]
fn temporary_directories_are_the_executors_or_the_contexts() {
    let names = Names::workspace()
        .directory("/tmp/own")
        .directory("/tmp/other");
    let own = rules(&names, &with(RO, &["write tmpdir"]));
    assert_eq!(access(&own, "/tmp/own/x"), 'w');
    assert_eq!(access(&own, "/tmp/x"), 'r');
    let mut named = context(&with(RO, &["write tmpdir"]));
    named["temporaryDirectories"] = json!(["file:///tmp/other"]);
    let named = policy(&names, named).unwrap().unwrap().files.unwrap();
    assert_eq!(access(&named, "/tmp/other/x"), 'w');
    assert_eq!(access(&named, "/tmp/own/x"), 'r');
    let mut none = context(&with(RO, &["deny tmpdir"]));
    none["temporaryDirectories"] = json!([]);
    let none = policy(&names, none).unwrap().unwrap().files.unwrap();
    assert_eq!(access(&none, "/tmp/x"), 'd', "a deny is never dropped");
}

#[test]
fn contexts_have_their_own_places() {
    let names = Names::workspace().directory("/w2");
    let mut moved = context(WW);
    moved["policyContext"] = json!({"cwd": "file:///w2", "workspaceRoots": ["file:///w2"]});
    let moved = policy(&names, moved).unwrap().unwrap().files.unwrap();
    assert_eq!(access(&moved, "/w2/q"), 'w');
    assert_eq!(access(&moved, "/w/q"), 'r');
    let mut rootless = context(WW);
    rootless["workspaceRoots"] = json!([]);
    let rootless = policy(&names, rootless).unwrap().unwrap().files.unwrap();
    assert_eq!(access(&rootless, "/w/q"), 'r');
}

#[test]
fn network_and_files_are_confined_independently() {
    let names = Names::workspace();
    let ask = |permissions: serde_json::Value| {
        let context = json!({"permissions": permissions, "windowsSandboxLevel": "disabled"});
        policy(&names, context)
            .unwrap()
            .map(|policy| policy.files.is_some())
    };
    for network in ["restricted", "enabled"] {
        let expected = (network == "restricted").then_some(false);
        for permissions in [
            json!({"type": "external", "network": network}),
            json!({"type": "managed", "network": network, "file_system": {"type": "unrestricted"}}),
            json!({"type": "managed", "network": network, "file_system":
                context(&["write root"])["permissions"]["file_system"]}),
        ] {
            assert_eq!(ask(permissions.clone()), expected, "{permissions}");
        }
    }
    assert_eq!(ask(json!({"type": "disabled"})), None);
}

#[test]
fn sockets_of_daemons_are_hidden_with_network_unless_named() {
    let names = Names::workspace().file("/run/docker.sock", "");
    let enabled = |entries: &[&str]| {
        let mut context = context(entries);
        context["permissions"]["network"] = "enabled".into();
        policy(&names, context).unwrap().unwrap().files.unwrap()
    };
    let hidden = enabled(RO);
    assert_eq!(access(&hidden, "/run/docker.sock"), '-');
    assert_eq!(access(&hidden, "/run/systemd/resolve/x"), 'r');
    assert_eq!(
        access(&enabled(&["read root", "read /run"]), "/run/docker.sock"),
        'r'
    );
    assert_eq!(
        access(&enabled(&["read minimal"]), "/run/systemd/resolve"),
        '-'
    );
    assert_eq!(
        access(&rules(&names, RO), "/run/docker.sock"),
        'r',
        "no sockets anyway"
    );
}

#[test]
fn file_requests_with_places_of_the_request_need_a_working_directory() {
    let names = Names::workspace();
    let mut without = context(WW);
    without.as_object_mut().unwrap().remove("cwd");
    let evaluate = |context: serde_json::Value| {
        let context = serde_json::from_value(context).unwrap();
        evaluate(&context, Purpose::Files, None, &names)
    };
    let error = evaluate(without.clone()).unwrap_err().for_files();
    assert_eq!(error.code, -32602);
    let text = "file system sandbox context with dynamic permissions requires cwd";
    assert_eq!(error.message, text);
    assert!(evaluate(context(WW)).is_ok());
    let mut fixed = context(&["read root", "deny /w/private"]);
    fixed.as_object_mut().unwrap().remove("cwd");
    assert!(evaluate(fixed).is_ok());
}

fn any_entry() -> impl Strategy<Value = String> {
    let places = [
        "root",
        "project_roots",
        "/w/sub",
        "/w/sub/deep",
        "/w/docs",
        "/w/.git",
        "/o",
        "/w/private",
        "/w/private/open",
        "/w/a.txt",
        "/w/none",
        "/w/none/x",
        "slash_tmp",
    ];
    (
        prop::sample::select(vec!["read", "write", "deny"]),
        prop::sample::select(places.to_vec()),
    )
        .prop_map(|(access, place)| format!("{access} {place}"))
}

const PROBES: [&str; 14] = [
    "/",
    "/w",
    "/w/new",
    "/w/sub",
    "/w/sub/b.env",
    "/w/sub/deep/c.env",
    "/w/docs/d.md",
    "/w/.git/config",
    "/w/.codex/x",
    "/o/o.txt",
    "/w/private/p.txt",
    "/w/private/open/f",
    "/w/a.txt",
    "/w/none/x",
];

proptest! {
    /// A narrower entry decides about its own path, whatever the others say, unless it is a grant of
    /// writing to something that does not exist.
    #[test]
    fn a_narrower_entry_always_wins(entries in prop::collection::vec(any_entry(), 0..8)) {
        let texts: Vec<&str> = entries.iter().map(String::as_str).collect();
        let names = Names::workspace().directory("/w/private/open/very");
        for (text, expected) in [("read", 'r'), ("write", 'w'), ("deny", 'd')] {
            let narrow = format!("{text} /w/private/open/very");
            let mut all = texts.clone();
            all.push(&narrow);
            let found = policy(&names, context(&all)).unwrap().and_then(|policy| policy.files);
            let found = found.map_or('w', |rules| access(&rules, "/w/private/open/very/f"));
            prop_assert_eq!(found, expected, "{:?}", all);
        }
    }

    /// More denying entries never give access to anything.
    #[test]
    fn adding_a_deny_never_widens(
        entries in prop::collection::vec(any_entry(), 0..8),
        denied in prop::sample::select(vec!["deny /w/sub", "deny /o", "deny /w/.git", "deny root",
            "deny glob:/w/**/*.env", "deny glob:/w/s*", "deny /w/none/x", "deny tmpdir"]),
    ) {
        let names = Names::workspace();
        let evaluate = |entries: &[&str]| {
            policy(&names, context(entries)).unwrap().and_then(|policy| policy.files)
        };
        let rank = |rules: &Option<Rules>, path: &str| match rules {
            None => 2,
            Some(rules) => match rules.access(Path::new(path)) {
                Access::Hidden | Access::Deny => 0,
                Access::Read => 1,
                Access::Write => 2,
            },
        };
        let texts: Vec<&str> = entries.iter().map(String::as_str).collect();
        let before = evaluate(&texts);
        let mut more = texts.clone();
        more.push(denied);
        let after = evaluate(&more);
        for path in PROBES {
            prop_assert!(rank(&after, path) <= rank(&before, path), "{more:?}: {path}");
        }
    }
}
