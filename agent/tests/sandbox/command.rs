//! `exec-server sandbox`.

use std::os::unix::process::CommandExt as _;
use std::process::{Command, Output};

use crate::client::for_each_user;

/// Runs the program in the workspace, as the executor's user.
fn sandbox(client: &crate::client::Client, arguments: &[&str]) -> Output {
    let mut command = Command::new(client.executor_program());
    command
        .arg("sandbox")
        .args(arguments)
        .current_dir(client.place.path("w"));
    if let Some(user) = client.user {
        command.uid(user).gid(user);
    }
    command.output().unwrap()
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

#[test]
fn a_command_runs_under_the_policy_of_the_arguments() {
    for_each_user(|client| {
        let script =
            "echo x > n && echo wrote; echo x > /usr/never-made; cat .env; mkdir .codex; exit 7";
        let output = sandbox(client, &["--deny", ".env", "--", "/bin/sh", "-c", script]);
        assert_eq!(output.status.code(), Some(7), "{output:?}");
        assert_eq!(text(&output.stdout), "wrote\n");
        let errors = text(&output.stderr);
        for expected in [
            "Read-only file system",
            ".env: Permission denied",
            "File exists",
        ] {
            assert!(errors.contains(expected), "{errors}");
        }
        let output = sandbox(
            client,
            &[
                "--policy",
                "read-only",
                "--",
                "/bin/sh",
                "-c",
                "echo x > n2",
            ],
        );
        assert_eq!(output.status.code(), Some(2));
        let output = sandbox(client, &["--", "/bin/sh", "-c", "kill -TERM $$"]);
        assert_eq!(output.status.code(), Some(143));
    });
}

#[test]
fn profiles_are_those_of_clients() {
    for_each_user(|client| {
        let profile = client.place.path("o/profile.json");
        let context = client.place.context(&["read root", "deny /w/private"]);
        for content in [&context, &context["permissions"]] {
            std::fs::write(&profile, content.to_string()).unwrap();
            client.place.open();
            let arguments = [
                "--profile",
                profile.to_str().unwrap(),
                "--",
                "cat",
                "private/p.txt",
            ];
            let output = sandbox(client, &arguments);
            assert!(
                text(&output.stderr).contains("Permission denied"),
                "{output:?}"
            );
        }
    });
}

#[test]
fn the_plan_is_explained_to_programs() {
    for_each_user(|client| {
        let output = sandbox(client, &["--deny", ".env", "explain", "--json"]);
        let explained: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
        let path = |name: &str| client.place.text(name);
        assert_eq!(explained["sandbox"], true);
        assert_eq!(explained["network"], "none");
        let files = &explained["files"];
        assert_eq!(files["root"], "read");
        for rule in [
            serde_json::json!({"path": path("w"), "access": "write", "exists": true}),
            serde_json::json!({"path": path("w/.env"), "access": "deny", "exists": true}),
            serde_json::json!({"path": path("w/.codex"), "access": "read", "exists": false}),
        ] {
            assert!(
                files["rules"].as_array().unwrap().contains(&rule),
                "{explained}"
            );
        }
        for mount in [
            serde_json::json!({"path": path("w/.env"), "action": "cover-file"}),
            serde_json::json!({"path": path("w/.codex"), "action": "keep-absent"}),
        ] {
            assert!(
                files["mounts"].as_array().unwrap().contains(&mount),
                "{explained}"
            );
        }
    });
}

#[test]
fn the_plan_is_explained() {
    for_each_user(|client| {
        let output = sandbox(client, &["--deny", ".env", "explain"]);
        let explained = text(&output.stdout);
        let path = |name: &str| client.place.text(name);
        for expected in [
            "network: none".to_owned(),
            format!("write  {}", path("w")),
            format!("deny   {}", path("w/.env")),
            format!("read   {}   (does not exist)", path("w/.codex")),
            format!("cover by an empty file: {}", path("w/.env")),
            format!("keep the absent name from being made: {}", path("w/.codex")),
        ] {
            assert!(explained.contains(&expected), "{expected} in {explained}");
        }
        assert_eq!(
            client
                .place
                .names()
                .iter()
                .filter(|name| *name == ".codex")
                .count(),
            0
        );
    });
}

#[test]
fn what_cannot_run_has_its_own_exit_code() {
    for_each_user(|client| {
        let code = |arguments: &[&str]| sandbox(client, arguments).status.code();
        assert_eq!(code(&["--", "/nope"]), Some(127));
        assert_eq!(code(&["--deny", "/**/*.env", "--", "true"]), Some(77));
        assert_eq!(code(&["--profile", "a.txt", "--", "true"]), Some(64));
        assert_eq!(code(&["explain", "more"]), Some(64));
    });
}
