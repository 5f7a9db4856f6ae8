use super::*;

/// A shell with the file that its login shells read.
struct Shell {
    name: &'static str,
    path: &'static str,
    profile: &'static str,
}

const BASH: Shell = Shell {
    name: "bash",
    path: "/bin/bash",
    profile: ".bash_profile",
};
const ZSH: Shell = Shell {
    name: "zsh",
    path: "/bin/zsh",
    profile: ".zprofile",
};
const SH: Shell = Shell {
    name: "sh",
    path: "/bin/sh",
    profile: ".profile",
};

impl Shell {
    /// A home directory with a profile that counts how often it ran.
    fn home(&self, profile: &str) -> tempfile::TempDir {
        let home = tempfile::tempdir().unwrap();
        let count = home.path().join("runs");
        let text = format!("echo run >> {}\n{profile}\n", count.display());
        std::fs::write(home.path().join(self.profile), text).unwrap();
        home
    }

    /// A start of a login shell that may use the snapshot of scope `s`.
    fn login(&self, id: &str, home: &tempfile::TempDir, argv: &[&str]) -> Value {
        let policy = json!({
            "inherit": "none", "ignoreDefaultExcludes": true, "exclude": ["DROPPED"], "includeOnly": [],
            "set": {"HOME": home.path(), "PATH": "/usr/bin:/bin"},
        });
        let shell = json!({"name": self.name, "path": self.path});
        let argv: Vec<&str> = [self.path, "-lc"].iter().chain(argv).copied().collect();
        let params = with(start(id, &argv), "envPolicy", policy);
        let params = with(
            params,
            "shellSnapshot",
            json!({"scopeId": "s", "shell": shell}),
        );
        with(params, "env", json!({"GIVEN": "request"}))
    }
}

fn home(profile: &str) -> tempfile::TempDir {
    BASH.home(profile)
}

fn runs(home: &tempfile::TempDir) -> usize {
    std::fs::read_to_string(home.path().join("runs")).map_or(0, |text| text.lines().count())
}

fn login(id: &str, home: &tempfile::TempDir, argv: &[&str]) -> Value {
    BASH.login(id, home, argv)
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
async fn state_of_zsh_is_restored_with_its_options_and_all_kinds_of_aliases() {
    let sessions = sessions();
    let (mut client, _) = Client::open(&sessions).await;
    let home = ZSH.home(
        "echo noise; echo noise >&2\n\
         export EXPORTED='a b\nc' GIVEN=profile DROPPED=1\n\
         setopt extended_glob ksh_glob err_return no_unset\n\
         alias greet='echo hello' printf='printf ' eval='false'; alias -g LOUD='| tr a-z A-Z'; alias -s txt='echo text'\n\
         fpath=($HOME/functions $fpath); autoload -Uz loaded_late\n\
         zmodload zsh/datetime; hash -d there=/usr; umask 027\n\
         matches() { case $1 in @(x|y)) echo yes;; *) echo no;; esac; }\n\
         'odd name'() { echo odd; }",
    );
    std::fs::create_dir(home.path().join("functions")).unwrap();
    std::fs::write(home.path().join("functions/loaded_late"), "echo late\n").unwrap();
    let command = "echo \"$EXPORTED|$GIVEN|${DROPPED-unset}|$0|$*\"\ngreet; echo up LOUD; a.txt\n\
                   matches x; 'odd name'; loaded_late; echo ${EPOCHSECONDS//[0-9]##/digits} ~there; umask\n\
                   for option in login extendedglob kshglob errreturn unset aliases rcs; do [[ -o $option ]] && echo -n $option\\ || echo -n no_$option\\ ; done\n\
                   ls /proc/self/fd | tr '\\n' ' '; exit 3";
    for id in ["first", "second"] {
        let all = run(
            &mut client,
            ZSH.login(id, &home, &[command, "name", "one", "two"]),
        )
        .await;
        let expected = "a b\nc|request|unset|name|one two\nhello\nUP\ntext a.txt\n\
                        yes\nodd\nlate\ndigits /usr\n027\n\
                        login extendedglob kshglob errreturn no_unset aliases rcs 0 1 2 3 ";
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
async fn state_of_the_posix_shell_is_restored_as_far_as_it_can_be_told() {
    let sessions = sessions();
    let (mut client, _) = Client::open(&sessions).await;
    let home = SH.home(
        "echo noise; echo noise >&2\n\
         export EXPORTED='a b\nc' GIVEN=profile DROPPED=1\n\
         alias greet='echo hello' quote='echo \"it'\\''s\ntwo\"' echo='echo'\n\
         set -f -u; umask 027",
    );
    let command = "echo \"$EXPORTED|$GIVEN|${DROPPED-unset}|$0|$*\"\ngreet; quote; echo *; umask\n\
                   env | grep -c STATE; ls /proc/self/fd | tr '\\n' ' '; echo $NOT_SET; echo never";
    for id in ["first", "second"] {
        let params = SH.login(id, &home, &[command, "name", "one", "two"]);
        let all = run(&mut client, params).await;
        let expected = "a b\nc|request|unset|name|one two\nhello\nit's\ntwo\n*\n0027\n0\n0 1 2 3 ";
        assert_eq!(all.stdout, expected, "{id}: {}", all.stderr);
        assert!(all.stderr.contains("NOT_SET"), "{}", all.stderr);
    }
    assert_eq!(runs(&home), 1);
}

#[tokio::test]
async fn functions_of_the_posix_shell_are_never_missing() {
    let sessions = sessions();
    let (mut client, _) = Client::open(&sessions).await;
    for (i, profile) in [
        "greet() { echo hello; }",
        "eval 'gre''et() { echo hello; }'",
        ". $HOME/more",
    ]
    .iter()
    .enumerate()
    {
        let home = SH.home(profile);
        std::fs::write(home.path().join("more"), "greet ( )\n{ echo hello; }\n").unwrap();
        for round in 0..2 {
            let params = SH.login(&format!("p{i}{round}"), &home, &["greet"]);
            assert_eq!(
                run(&mut client, params).await.stdout,
                "hello\n",
                "{profile}"
            );
        }
    }
}

/// Where the POSIX shell is bash, it can tell its functions.
#[tokio::test]
async fn functions_come_back_where_the_posix_shell_is_bash() {
    let sessions = sessions();
    let (mut client, _) = Client::open(&sessions).await;
    let home = SH.home("greet() { echo hello; }; export -f greet; alias again=greet; set -u");
    let sh = home.path().join("sh");
    std::os::unix::fs::symlink("/bin/bash", &sh).unwrap();
    let command = "greet; again; bash -c greet; echo $-";
    for id in ["first", "second"] {
        let mut params = SH.login(id, &home, &[command]);
        params["argv"][0] = json!(sh);
        params["shellSnapshot"]["shell"]["path"] = json!(sh);
        let all = run(&mut client, params).await;
        assert_eq!(all.stdout, "hello\nhello\nhello\nhuBc\n", "{}", all.stderr);
    }
    assert_eq!(runs(&home), 1);
}

#[tokio::test]
async fn snapshot_and_login_shell_agree_on_names_and_arguments() {
    let sessions = sessions();
    let (mut client, _) = Client::open(&sessions).await;
    for shell in [BASH, ZSH, SH] {
        let home = shell.home("");
        let command = "printf '<%s>' \"$0\" \"$#\" \"$@\"; false";
        let cases: [&[&str]; 3] = [
            &[command],
            &[command, "n"],
            &[command, "n", "", "a b", "$x"],
        ];
        for (i, argv) in cases.iter().enumerate() {
            let id = format!("{}{i}", shell.name);
            let restored = run(&mut client, shell.login(&id, &home, argv)).await;
            let plain = shell.login(&format!("{id} plain"), &home, argv);
            let plain = run(&mut client, with(plain, "shellSnapshot", json!(null))).await;
            assert_eq!(
                (&restored.stdout, restored.exit_code),
                (&plain.stdout, plain.exit_code),
                "{id}"
            );
        }
        assert_eq!(runs(&home), 1 + cases.len(), "{}", shell.name);
    }
}

#[tokio::test]
async fn profile_that_cannot_be_captured_leaves_a_plain_login_shell() {
    let sessions = sessions();
    let (mut client, _) = Client::open(&sessions).await;
    // The capture's command is not the one that the profile lets through.
    for (shell, profile) in [
        (
            BASH,
            "case $BASH_EXECUTION_STRING in *MARKED*) ;; *) exit 0;; esac",
        ),
        (
            ZSH,
            "case $ZSH_EXECUTION_STRING in *MARKED*) ;; *) exit 0;; esac",
        ),
        (SH, "case $- in *v*) exit 0;; esac"),
    ] {
        let home = shell.home(profile);
        for id in ["first", "second"] {
            let params = shell.login(&format!("{id} {}", shell.name), &home, &["echo MARKED"]);
            assert_eq!(run(&mut client, params).await.stdout, "MARKED\n");
        }
        assert_eq!(runs(&home), 4, "failures are not remembered");
    }
}

/// The reference tries again for each command, each of which then takes ten seconds longer.
#[tokio::test]
async fn profile_that_takes_too_long_is_not_waited_for_again() {
    let config = SessionsConfig {
        snapshot_time: Duration::from_millis(200),
        ..config()
    };
    let sessions = Sessions::new(config).unwrap();
    let (mut client, _) = Client::open(&sessions).await;
    let home = home("case $BASH_EXECUTION_STRING in *MARKED*) ;; *) sleep 600;; esac");
    for id in ["first", "second", "third"] {
        let all = run(&mut client, login(id, &home, &["echo MARKED"])).await;
        assert_eq!(all.stdout, "MARKED\n");
    }
    assert_eq!(runs(&home), 1 + 3, "one capture");
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
async fn other_commands_run_as_they_are() {
    let sessions = sessions();
    let (mut client, _) = Client::open(&sessions).await;
    let home = home("");
    let mut plain = login("plain", &home, &["echo x"]);
    plain["argv"][1] = json!("-c");
    assert_eq!(run(&mut client, plain).await.stdout, "x\n");
    assert_eq!(runs(&home), 0);
    let mut elsewhere = login("elsewhere", &home, &["echo x"]);
    elsewhere["shellSnapshot"]["shell"]["path"] = json!("/usr/bin/bash");
    assert_eq!(run(&mut client, elsewhere).await.stdout, "x\n");
    assert_eq!(runs(&home), 1);
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
    // Only a command that it could be for is refused.
    let other = with(params.clone(), "argv", json!(["/bin/bash", "-c", "echo x"]));
    assert_eq!(run(&mut client, other).await.stdout, "x\n");
    params["processId"] = json!("q");
    let expected = "shell snapshots are unsupported for shell `fish`";
    assert_eq!(
        client.err("process/start", params).await,
        (-32602, expected.into())
    );
}
