//! What the operator is promised, whatever a client asks for.

use serde_json::{Value, json};

use crate::client::{Client, Setup, for_each_user, for_each_user_with, open_to_all, with_network};
use crate::probe::try_inside;

/// Everything that the executor was started with, as a client asks for it.
fn inherit_all() -> Value {
    json!({"inherit": "all", "ignoreDefaultExcludes": true, "exclude": [], "set": {}, "includeOnly": []})
}

fn variables(client: &mut Client) -> String {
    let mut params = client.start(&["/usr/bin/env"], Value::Null);
    params["envPolicy"] = inherit_all();
    client.run(params).output
}

#[test]
fn credentials_are_inherited_only_if_the_operator_says_so() {
    let variable = |name: &str| (name.to_owned(), format!("value of {name}"));
    let mut setup = Setup {
        variables: [
            "GITHUB_TOKEN",
            "GH_TOKEN",
            "AWS_SECRET_ACCESS_KEY",
            "DATABASE_URL",
            "ACME_TOKEN",
            "ORDINARY",
        ]
        .map(variable)
        .to_vec(),
        ..Setup::default()
    };
    setup
        .variables
        .push(("LD_LIBRARY_PATH".to_owned(), "/nowhere".to_owned()));
    for_each_user_with(&setup, |client| {
        let found = variables(client);
        assert!(found.contains("ORDINARY=value"), "{found}");
        // Only the client's excludes cover it, and this client has turned them off.
        assert!(found.contains("ACME_TOKEN=value"), "{found}");
        for name in [
            "GITHUB_TOKEN",
            "GH_TOKEN",
            "AWS_SECRET_ACCESS_KEY",
            "DATABASE_URL",
            "LD_LIBRARY_PATH",
        ] {
            let line = format!("\n{name}=");
            assert!(!found.contains(&line), "{name} in {found}");
        }
    });
    setup.arguments = [
        "--inherit-env",
        "GH_TOKEN",
        "--inherit-env",
        "LD_*",
        "--withhold-env",
        "ACME_*",
    ]
    .map(str::to_owned)
    .to_vec();
    for_each_user_with(&setup, |client| {
        let found = variables(client);
        assert!(found.contains("GH_TOKEN=value"), "{found}");
        assert!(found.contains("LD_LIBRARY_PATH=/nowhere"), "{found}");
        assert!(!found.contains("GITHUB_TOKEN="), "{found}");
        assert!(!found.contains("ACME_TOKEN="), "{found}");
    });
}

/// By environment, `/proc`, descriptors and file requests.
#[test]
fn no_way_leads_from_a_sandbox_to_the_executors_credentials() {
    const SECRET: &str = "s3cr3t-of-the-executor";
    let setup = Setup {
        variables: vec![("CODEX_API_KEY".to_owned(), SECRET.to_owned())],
        ..Setup::default()
    };
    for_each_user_with(&setup, |client| {
        let executor = client.executor.id();
        let script = format!(
            "env; cat /proc/*/environ /proc/*/cmdline /proc/*/task/*/environ /proc/{executor}/environ; \
            for f in /proc/*/fd/*; do readlink $f; test -f $f && cat $f; done; \
            cat /proc/{executor}/mem /proc/{executor}/maps /proc/{executor}/root/proc/self/environ; true"
        );
        let contexts = [
            Value::Null,
            client.place.read_only(),
            with_network(client.place.read_only()),
            client.place.context(&["write root", "deny /o"]),
        ];
        for context in contexts {
            // Without a sandbox the superuser's commands have every process to look at.
            let confined = context != Value::Null;
            let script = if confined {
                script.as_str()
            } else {
                "env; true"
            };
            let mut params = client.start(
                &["/bin/sh", "-c", &format!("exec 2>&1; {script}")],
                context.clone(),
            );
            params["envPolicy"] = inherit_all();
            let found = client.run(params).output;
            assert!(found.contains("PATH="), "{found}");
            assert!(!found.contains(SECRET), "{found}");
            for file in [
                "environ",
                "mem",
                "maps",
                "fd/0",
                "fd/1",
                "root/proc/self/environ",
            ] {
                for process in [executor.to_string(), "self".to_owned(), "1".to_owned()] {
                    let path = format!("file:///proc/{process}/{file}");
                    let params = json!({"path": path, "sandbox": context});
                    let answer = client.call("fs/readFile", params);
                    let data = answer.ok().map(|answer| {
                        let data = answer["dataBase64"].as_str().unwrap().to_owned();
                        exec_proto::base64::decode(&data).unwrap()
                    });
                    let data = String::from_utf8_lossy(&data.unwrap_or_default()).into_owned();
                    assert!(
                        !data.contains(SECRET) && !data.contains("EXECUTOR_ONLY"),
                        "{path}"
                    );
                }
            }
        }
    });
}

#[test]
fn no_request_gets_below_the_floor() {
    let root = tempfile::tempdir_in("/var/tmp").unwrap();
    let path = root.path().canonicalize().unwrap();
    open_to_all(&path);
    // Not below a directory for temporary files, which stay writable.
    let outside = tempfile::tempdir_in("/var/tmp").unwrap();
    open_to_all(outside.path());
    let setup = Setup {
        arguments: [
            "--sandbox-floor",
            "workspace-write",
            "--sandbox-root",
            path.to_str().unwrap(),
        ]
        .map(str::to_owned)
        .to_vec(),
        ..Setup::default()
    };
    for_each_user_with(&setup, |client| {
        let sandbox = |permissions: Value| json!({"permissions": permissions, "windowsSandboxLevel": "disabled"});
        let contexts = [
            Value::Null,
            sandbox(json!({"type": "disabled"})),
            sandbox(json!({"type": "external", "network": "enabled"})),
            with_network(client.place.context(&["write root"])),
            with_network(client.place.workspace_write(&["write project_roots"])),
        ];
        let inside = path.join("inside");
        for context in contexts {
            let _ = std::fs::remove_file(&inside);
            let script = format!(
                "for f in {1}/n /usr/never-made; do echo x > $f && echo written; done; mkdir {0}/.git && echo obtained; \
                echo x > {0}/inside || echo refused; true",
                path.display(),
                outside.path().display()
            );
            let params = client.start(
                &["/bin/sh", "-c", &format!("exec 2>&1; {script}")],
                context.clone(),
            );
            let id = params["processId"].clone();
            let started = client.ok("process/start", params);
            assert_eq!(started["sandboxType"], "linuxSeccomp");
            let finished = client.finish(&id);
            assert!(
                !finished.output.contains("written") && !finished.output.contains("obtained"),
                "{finished:?}"
            );
            // Only what asks for the workspace alone gets less than the floor.
            let less = context.to_string().contains("project_roots");
            assert_eq!(inside.exists(), !less, "{finished:?}");
            let network = format!("socket {} {}", libc::AF_INET, libc::SOCK_STREAM);
            assert_eq!(try_inside(client, &network, context.clone()), libc::EPERM);
            let params = json!({"path": format!("file://{}/n", outside.path().display()), "dataBase64": "eA==", "sandbox": context});
            let (code, text) = client.call("fs/writeFile", params).unwrap_err();
            assert!(code == -32603 && text.contains("os error 30"), "{text}");
        }
        let info = client.ok("environment/info", json!({}));
        assert_eq!(info["capabilities"]["tcpStreams"], false);
    });
}

#[test]
fn a_crash_leaves_no_image_and_starts_no_program_of_the_host() {
    for_each_user(|client| {
        let script = "grep 'Max core file size' /proc/self/limits; ulimit -c unlimited; sh -c 'kill -SEGV $$'; ls core* 2>/dev/null; true";
        let finished = client.shell(script, client.place.workspace_write(&[]));
        let words: Vec<&str> = finished
            .output
            .lines()
            .next()
            .unwrap()
            .split_whitespace()
            .collect();
        // One byte: with zero, a program that the kernel pipes images to would still be started.
        assert_eq!(words[4..], ["1", "1", "bytes"]);
        assert!(
            !client
                .place
                .names()
                .iter()
                .any(|name| name.starts_with("core")),
            "{finished:?}"
        );
    });
}

#[test]
fn processes_of_a_sandbox_are_limited() {
    for_each_user(|client| {
        let script = "grep 'Max processes' /proc/self/limits";
        let finished = client.shell(script, client.place.read_only());
        let most: u64 = finished
            .output
            .split_whitespace()
            .nth(2)
            .unwrap()
            .parse()
            .unwrap();
        assert!(most <= 8192, "{most}");
        // A sandbox does not count what its user runs elsewhere.
        let script = "ulimit -u 10; sh -c 'sh -c \"echo deep; true\"; true'; true";
        let params = client.start(&["/bin/bash", "-c", script], client.place.read_only());
        assert_eq!(client.run(params).output, "deep\n");
    });
}
