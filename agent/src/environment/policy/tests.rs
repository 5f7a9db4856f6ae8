use std::path::PathBuf;

use super::*;

fn snapshot() -> ExecutorEnvironment {
    let variables = [
        ("PATH", "/bin"),
        ("path", "lower"),
        ("HOME", "/home/x"),
        ("PLAIN", "plain"),
        ("OTHER", "other"),
        ("MONKEY", "ape"),
        ("MY_SECRET", "s"),
        ("AWS_TOKEN", "t"),
        ("CODEX_API_KEY", "own"),
        ("EXEC_SERVER_TOKEN", "own"),
        ("node_repl_auth_token", "restricted"),
    ];
    ExecutorEnvironment::from_parts(
        variables.map(|(name, value)| (name.into(), value.into())),
        PathBuf::from("/"),
    )
}

fn policy(inherit: EnvInherit) -> EnvPolicy {
    EnvPolicy {
        inherit,
        ignore_default_excludes: true,
        exclude: Vec::new(),
        set: BTreeMap::new(),
        include_only: Vec::new(),
    }
}

fn names(variables: &Variables) -> Vec<&str> {
    variables
        .keys()
        .map(|name| name.to_str().unwrap())
        .collect()
}

fn child(policy: &EnvPolicy, overlay: &[(&str, &str)]) -> Variables {
    let overlay = overlay
        .iter()
        .map(|(n, v)| ((*n).to_owned(), (*v).to_owned()))
        .collect();
    let everything = snapshot().inheriting(vec!["*".to_owned()]);
    everything.child_variables(Some(policy), &overlay, None)
}

#[test]
fn inherit_all_core_and_none() {
    let all = child(&policy(EnvInherit::All), &[]);
    assert_eq!(
        names(&all),
        [
            "AWS_TOKEN",
            "HOME",
            "MONKEY",
            "MY_SECRET",
            "OTHER",
            "PATH",
            "PLAIN",
            "path"
        ],
        "everything but the executor's credentials and restricted names"
    );
    assert_eq!(
        names(&child(&policy(EnvInherit::Core), &[])),
        ["HOME", "PATH", "path"]
    );
    assert!(child(&policy(EnvInherit::None), &[]).is_empty());
    let withheld = snapshot().child_variables(
        Some(&policy(EnvInherit::All)),
        &BTreeMap::from([("MY_SECRET".to_owned(), "of the request".to_owned())]),
        None,
    );
    assert_eq!(
        names(&withheld),
        [
            "HOME",
            "MONKEY",
            "MY_SECRET",
            "OTHER",
            "PATH",
            "PLAIN",
            "path"
        ],
        "what looks like a credential stays behind, unless the request sets it"
    );
}

#[test]
fn default_excludes_drop_names_that_look_like_credentials() {
    let policy = EnvPolicy {
        ignore_default_excludes: false,
        ..policy(EnvInherit::All)
    };
    assert_eq!(
        names(&child(&policy, &[])),
        ["HOME", "OTHER", "PATH", "PLAIN", "path"]
    );
}

#[test]
fn set_beats_excludes_and_include_only_beats_set_and_overlay_beats_all() {
    let mut policy = policy(EnvInherit::All);
    policy.exclude = vec!["p*".into(), "EXTRA".into()];
    policy.set = BTreeMap::from([
        ("EXTRA".into(), "set".into()),
        ("PLAIN".into(), "set".into()),
    ]);
    let result = child(&policy, &[]);
    assert_eq!(result[OsStr::new("EXTRA")], "set");
    assert_eq!(result[OsStr::new("PLAIN")], "set");
    assert!(!result.contains_key(OsStr::new("PATH")));

    policy.include_only = vec!["plain".into()];
    assert_eq!(names(&child(&policy, &[])), ["PLAIN"]);
    let result = child(
        &policy,
        &[("PLAIN", "env"), ("EXTRA", "env"), ("AWS_TOKEN", "env")],
    );
    assert_eq!(names(&result), ["AWS_TOKEN", "EXTRA", "PLAIN"]);
    assert!(result.values().all(|value| value == "env"));
}

#[test]
fn restricted_names_are_dropped_wherever_they_come_from() {
    let mut policy = policy(EnvInherit::None);
    policy.set = BTreeMap::from([("openai_identity_token_file".into(), "x".into())]);
    let overlay = [
        ("Node_Repl_Auth_Token", "x"),
        ("CODEX_EXEC_SERVER_EXIT_ON_STDIN_CLOSE", "x"),
        ("codex_exec_server_exit_on_stdin_close", "kept"),
        ("CODEX_API_KEY", "given by the client"),
    ];
    assert_eq!(
        names(&child(&policy, &overlay)),
        ["CODEX_API_KEY", "codex_exec_server_exit_on_stdin_close"]
    );
}

#[test]
fn no_policy_means_only_the_overlay() {
    let overlay = BTreeMap::from([
        ("A".to_owned(), "1".to_owned()),
        (String::new(), "odd".to_owned()),
    ]);
    let result = snapshot().child_variables(None, &overlay, None);
    assert_eq!(names(&result), ["", "A"]);
}

#[test]
fn metadata_comes_last() {
    let id = "01A1FADF-C9E2-79C0-AB41-9E5C9CE145EF";
    let metadata: Metadata =
        serde_json::from_value(serde_json::json!({"threadId": id, "toolCallId": "call"})).unwrap();
    let overlay = BTreeMap::from([("CODEX_THREAD_ID".to_owned(), "overlay".to_owned())]);
    let result = snapshot().child_variables(None, &overlay, Some(&metadata));
    assert_eq!(result[OsStr::new("CODEX_THREAD_ID")], *id.to_lowercase());
    assert_eq!(result[OsStr::new("CODEX_TOOL_CALL_ID")], "call");

    let nul = Metadata {
        thread_id: None,
        tool_call_id: Some("a\0b".into()),
    };
    assert!(
        snapshot()
            .child_variables(None, &BTreeMap::new(), Some(&nul))
            .is_empty()
    );
}

#[test]
fn globs_match_whole_names_without_case() {
    let cases = [
        ("FOO", "foo", true),
        ("F?O", "FxO", true),
        ("F?O", "FO", false),
        ("F?O*", "FéOß", true),
        ("*", "", true),
        ("", "", false),
        ("", "A", false),
        ("*B*", "ABC", true),
        ("A*C", "ABCD", false),
        ("A**C", "AC", true),
        ("*AB*AB", "ABxABAB", true),
        ("[F]OO", "FOO", false),
        ("{A,B}", "A", false),
        ("FOO", "FOOD", false),
    ];
    for (glob, name, expected) in cases {
        assert_eq!(glob_matches(glob, name), expected, "{glob} {name:?}");
    }
    // Would take ages if every star could go back.
    assert!(!glob_matches(
        &"a*".repeat(100).replace("a*a*", "*a*a"),
        &("a".repeat(500) + "b")
    ));
}
