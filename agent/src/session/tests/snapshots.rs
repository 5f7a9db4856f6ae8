use super::*;

/// A home directory with a profile that counts how often it ran.
fn home(profile: &str) -> tempfile::TempDir {
    let home = tempfile::tempdir().unwrap();
    let count = home.path().join("runs");
    let text = format!("echo run >> {}\n{profile}\n", count.display());
    std::fs::write(home.path().join(".bash_profile"), text).unwrap();
    home
}

fn runs(home: &tempfile::TempDir) -> usize {
    std::fs::read_to_string(home.path().join("runs")).map_or(0, |text| text.lines().count())
}

/// A start of a login shell that may use the snapshot of scope `s`.
fn login(id: &str, home: &tempfile::TempDir, argv: &[&str]) -> Value {
    let policy = json!({
        "inherit": "none", "ignoreDefaultExcludes": true, "exclude": ["DROPPED"], "includeOnly": [],
        "set": {"HOME": home.path(), "PATH": "/usr/bin:/bin"},
    });
    let snapshot = json!({"scopeId": "s", "shell": {"name": "bash", "path": "/bin/bash"}});
    let argv: Vec<&str> = ["/bin/bash", "-lc"].iter().chain(argv).copied().collect();
    let params = with(start(id, &argv), "envPolicy", policy);
    with(
        with(params, "shellSnapshot", snapshot),
        "env",
        json!({"GIVEN": "request"}),
    )
}

async fn run(client: &mut Client, params: Value) -> Collected {
    let id = params["processId"].as_str().unwrap().to_owned();
    client.ok("process/start", params).await;
    client.collect(&id).await
}

#[tokio::test]
async fn state_of_the_profile_is_restored_without_running_it_again() {
    let sessions = sessions();
    let (mut client, _) = Client::open(&sessions).await;
    let home = home(
        "echo noise; echo noise >&2\n\
         export EXPORTED='a b\nc' GIVEN=profile DROPPED=1\n\
         shopt -s extglob expand_aliases\n\
         alias greet='echo hello'\n\
         matches() { case $1 in @(x|y)) echo yes;; *) echo no;; esac; }\n\
         exported_function() { echo exported; }; export -f exported_function\n\
         set -o noglob",
    );
    let command = "echo \"$EXPORTED|$GIVEN|${DROPPED-unset}|$0|$*\"\ngreet; matches x; echo *; \
                   bash -c exported_function; ls /proc/self/fd | tr '\\n' ' '; exit 3";
    for id in ["first", "second"] {
        let all = run(
            &mut client,
            login(id, &home, &[command, "name", "one", "two"]),
        )
        .await;
        let expected = "a b\nc|request|unset|name|one two\nhello\nyes\n*\nexported\n0 1 2 3 ";
        assert_eq!(
            (all.stdout.as_str(), all.stderr.as_str()),
            (expected, ""),
            "{id}"
        );
        assert_eq!(all.exit_code, Some(3));
    }
    assert_eq!(runs(&home), 1);
}

#[tokio::test]
async fn snapshot_and_login_shell_agree_on_names_and_arguments() {
    let sessions = sessions();
    let (mut client, _) = Client::open(&sessions).await;
    let home = home("");
    let command = "printf '<%s>' \"$0\" \"$#\" \"$@\"";
    let cases: [&[&str]; 3] = [
        &[command],
        &[command, "n"],
        &[command, "n", "", "a b", "$x"],
    ];
    for (i, argv) in cases.iter().enumerate() {
        let restored = run(&mut client, login(&format!("r{i}"), &home, argv)).await;
        let plain = with(
            login(&format!("p{i}"), &home, argv),
            "shellSnapshot",
            json!(null),
        );
        assert_eq!(
            restored.stdout,
            run(&mut client, plain).await.stdout,
            "{argv:?}"
        );
    }
    assert_eq!(runs(&home), 1 + cases.len());
}

#[tokio::test]
async fn profile_that_cannot_be_captured_leaves_a_plain_login_shell() {
    let sessions = sessions();
    let (mut client, _) = Client::open(&sessions).await;
    // The capture's command is not the one that the profile lets through.
    let home = home("case $BASH_EXECUTION_STRING in *MARKED*) ;; *) exit 0;; esac");
    for id in ["first", "second"] {
        let all = run(&mut client, login(id, &home, &["echo MARKED"])).await;
        assert_eq!(all.stdout, "MARKED\n");
    }
    assert_eq!(runs(&home), 4, "failures are not remembered");
}

#[tokio::test]
async fn snapshots_are_kept_apart_by_scope_directory_and_session() {
    let sessions = sessions();
    let (mut client, _) = Client::open(&sessions).await;
    let home = home("export WHERE=$PWD");
    run(&mut client, login("a", &home, &["true"])).await;
    let elsewhere = with(login("b", &home, &["echo $WHERE"]), "cwd", "file:///tmp");
    assert_eq!(run(&mut client, elsewhere).await.stdout, "/tmp\n");
    let mut scope = login("c", &home, &["true"]);
    scope["shellSnapshot"]["scopeId"] = json!("other");
    run(&mut client, scope).await;
    let (mut other, _) = Client::open(&sessions).await;
    run(&mut other, login("a", &home, &["true"])).await;
    assert_eq!(runs(&home), 4);
}

#[tokio::test]
async fn other_commands_and_shells_run_as_they_are() {
    let sessions = sessions();
    let (mut client, _) = Client::open(&sessions).await;
    let home = home("");
    let mut plain = login("plain", &home, &["echo x"]);
    plain["argv"][1] = json!("-c");
    assert_eq!(run(&mut client, plain).await.stdout, "x\n");
    assert_eq!(runs(&home), 0);
    let mut sh = login("sh", &home, &["echo x"]);
    sh["argv"][0] = json!("/bin/sh");
    sh["shellSnapshot"]["shell"] = json!({"name": "sh", "path": "/bin/sh"});
    assert_eq!(run(&mut client, sh).await.stdout, "x\n");
}

#[tokio::test]
async fn invalid_snapshots_are_refused() {
    let sessions = sessions();
    let (mut client, _) = Client::open(&sessions).await;
    let home = home("");
    for scope in [String::new(), "x".repeat(257)] {
        let mut params = login("p", &home, &["true"]);
        params["shellSnapshot"]["scopeId"] = json!(scope);
        let expected = "shell snapshot scope must be non-empty and at most 256 bytes";
        assert_eq!(
            client.err("process/start", params).await,
            (-32602, expected.into())
        );
    }
    let mut params = login("p", &home, &["true"]);
    params["shellSnapshot"]["shell"]["name"] = json!("fish");
    let expected = "shell snapshots are unsupported for shell `fish`";
    assert_eq!(
        client.err("process/start", params).await,
        (-32602, expected.into())
    );
}
