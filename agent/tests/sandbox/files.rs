//! File requests with a sandbox.

use serde_json::{Value, json};

use crate::client::{Client, Setup, for_each_user, for_each_user_with, open_to_all};

fn read(client: &mut Client, path: &str, sandbox: Value) -> Result<String, (i64, String)> {
    let uri = if path.starts_with('/') {
        format!("file://{path}")
    } else {
        client.place.uri(path)
    };
    let result = client.call("fs/readFile", json!({"path": uri, "sandbox": sandbox}))?;
    let data = exec_proto::base64::decode(result["dataBase64"].as_str().unwrap()).unwrap();
    Ok(String::from_utf8_lossy(&data).into_owned())
}

fn write(client: &mut Client, path: &str, sandbox: Value) -> Result<Value, (i64, String)> {
    let data = exec_proto::base64::encode(b"new\n");
    let uri = client.place.uri(path);
    client.call(
        "fs/writeFile",
        json!({"path": uri, "dataBase64": data, "sandbox": sandbox}),
    )
}

fn refusal(result: Result<impl std::fmt::Debug, (i64, String)>) -> (i64, i32) {
    let (code, text) = result.unwrap_err();
    let number = text
        .rsplit_once("(os error ")
        .map_or("0", |(_, number)| number);
    (code, number.trim_end_matches(')').parse().unwrap())
}

const DENIED: (i64, i32) = (-32600, 13);
const READ_ONLY: (i64, i32) = (-32603, 30);
const ABSENT: (i64, i32) = (-32004, 2);

#[test]
fn writing_follows_the_policy() {
    for_each_user(|client| {
        let names = client.place.names();
        let inside = client
            .place
            .workspace_write(&["read /w/docs", "deny /w/later"]);
        assert_eq!(write(client, "w/new.txt", inside.clone()), Ok(json!({})));
        assert_eq!(
            std::fs::read_to_string(client.place.path("w/new.txt")).unwrap(),
            "new\n"
        );
        for path in [
            "o/new",
            "w/docs/d.md",
            "w/.git/config",
            "w/.codex",
            "w/later",
        ] {
            assert_eq!(
                refusal(write(client, path, inside.clone())),
                READ_ONLY,
                "{path}"
            );
        }
        let make = json!({"path": client.place.uri("w/.codex/x"), "sandbox": inside});
        assert_eq!(refusal(client.call("fs/createDirectory", make)), READ_ONLY);
        for (method, source, target) in [
            ("fs/copy", "w/a.txt", "o/zz"),
            ("fs/copy", "w/a.txt", "w/.codex"),
            ("fs/rename", "w/new.txt", "w/.agents"),
        ] {
            let params = json!({"sourcePath": client.place.uri(source), "recursive": true,
                "destinationPath": client.place.uri(target), "sandbox": inside});
            assert_eq!(
                refusal(client.call(method, params)),
                READ_ONLY,
                "{method} {target}"
            );
        }
        std::fs::create_dir_all(client.place.path("o/tree/.codex")).unwrap();
        let params = json!({"sourcePath": client.place.uri("o/tree"), "recursive": true,
            "destinationPath": client.place.uri("w"), "sandbox": inside});
        assert_eq!(refusal(client.call("fs/copy", params)), READ_ONLY);
        let remove = json!({"path": client.place.uri("w/new.txt"), "sandbox": inside});
        client.ok("fs/remove", remove);
        assert_eq!(client.place.names(), names, "nothing is left of the policy");
        let only_reading = client.place.read_only();
        assert_eq!(refusal(write(client, "w/a.txt", only_reading)), READ_ONLY);
    });
}

#[test]
fn reading_follows_the_policy() {
    for_each_user(|client| {
        let inside = client
            .place
            .context(&["read root", "deny /w/private", "deny /w/.env"]);
        assert_eq!(read(client, "w/a.txt", inside.clone()).unwrap(), "a\n");
        assert_eq!(refusal(read(client, "w/.env", inside.clone())), DENIED);
        assert_eq!(
            refusal(read(client, "w/private/p.txt", inside.clone())),
            DENIED
        );
        let list = json!({"path": client.place.uri("w/private"), "sandbox": inside});
        assert_eq!(refusal(client.call("fs/readDirectory", list)), DENIED);
        // A link to it is no way around.
        std::os::unix::fs::symlink("private", client.place.path("w/way")).unwrap();
        assert_eq!(refusal(read(client, "w/way/p.txt", inside.clone())), DENIED);
        let copy = json!({"sourcePath": client.place.uri("w/private/p.txt"), "recursive": false,
            "destinationPath": client.place.uri("w/zz"), "sandbox": inside});
        assert_eq!(refusal(client.call("fs/copy", copy)), DENIED);
        let hidden = client
            .place
            .context(&["read minimal", "read project_roots"]);
        assert_eq!(refusal(read(client, "o/o.txt", hidden.clone())), ABSENT);
        let directory = read(client, "w", hidden.clone()).unwrap_err();
        assert_eq!(directory.0, -32600);
        assert_eq!(read(client, "w/a.txt", hidden).unwrap(), "a\n");
    });
}

#[test]
fn calls_in_a_batch_obey_their_sandbox() {
    for_each_user(|client| {
        let inside = client.place.context(&["read root", "deny /w/.env"]);
        let call = |path: &str| {
            json!({"method": "fs/readFile",
            "params": {"path": client.place.uri(path), "sandbox": inside}})
        };
        let calls = [call("w/a.txt"), call("w/.env")];
        let results = client.ok("fs/batch", json!({"calls": calls}))["results"].clone();
        assert!(results[0].to_string().contains("dataBase64"), "{results}");
        assert!(results[1].to_string().contains("os error 13"), "{results}");
    });
}

#[test]
fn the_executors_environment_cannot_be_read_through_a_file_request() {
    for_each_user(|client| {
        let inside = client.place.read_only();
        let own = read(client, "/proc/self/environ", inside.clone()).unwrap_or_default();
        assert!(!own.contains("value of the executor"), "{own}");
        let path = format!("/proc/{}/environ", client.executor.id());
        assert_eq!(refusal(read(client, &path, inside)), ABSENT);
    });
}

#[test]
fn handles_in_a_sandbox_read_write_and_end() {
    for_each_user(|client| {
        let inside = client.place.workspace_write(&["deny /w/.env"]);
        let open = |client: &Client, path: &str, mode: &str| {
            json!({"handleId": "h", "mode": mode,
            "path": client.place.uri(path), "sandbox": inside})
        };
        let denied = open(client, "w/.env", "read");
        assert_eq!(refusal(client.call("fs/open", denied)), DENIED);
        let outside = open(client, "o/o.txt", "replace");
        assert_eq!(refusal(client.call("fs/open", outside)), READ_ONLY);
        let reading = open(client, "w/a.txt", "read");
        client.ok("fs/open", reading.clone());
        let again = client.call("fs/open", reading).unwrap_err();
        assert_eq!(again.1, "file handle `h` already exists");
        let block = json!({"handleId": "h", "offset": 0, "len": 10});
        let result = client.ok("fs/readBlock", block.clone());
        assert_eq!(
            result,
            json!({"chunk": exec_proto::base64::encode(b"a\n"), "eof": true})
        );
        client.ok("fs/close", json!({"handleId": "h"}));
        assert_eq!(client.call("fs/readBlock", block).unwrap_err().0, -32004);
        let writing = open(client, "w/a.txt", "replace");
        client.ok("fs/open", writing);
        let chunk = exec_proto::base64::encode(b"other");
        client.ok(
            "fs/writeBlock",
            json!({"handleId": "h", "offset": 0, "chunk": chunk}),
        );
        client.ok("fs/close", json!({"handleId": "h"}));
        assert_eq!(
            std::fs::read_to_string(client.place.path("w/a.txt")).unwrap(),
            "other"
        );
    });
}

#[test]
fn a_policy_whose_files_changed_is_applied_as_it_is_now() {
    for_each_user(|client| {
        let inside = client.place.workspace_write(&["deny glob:w/*.key"]);
        assert_eq!(write(client, "w/new", inside.clone()), Ok(json!({})));
        std::fs::write(client.place.path("w/a.key"), "secret").unwrap();
        std::fs::create_dir(client.place.path("w/.codex")).unwrap();
        assert_eq!(refusal(read(client, "w/a.key", inside.clone())), DENIED);
        assert_eq!(refusal(write(client, "w/.codex/config", inside)), READ_ONLY);
    });
}

#[test]
fn discovery_sees_what_the_sandbox_shows() {
    let home = tempfile::tempdir_in("/var/tmp").unwrap();
    let home_path = home.path().canonicalize().unwrap();
    let skill = "---\nname: n\ndescription: d\n---\n";
    std::fs::create_dir_all(home_path.join("skills/one")).unwrap();
    std::fs::write(home_path.join("skills/one/SKILL.md"), skill).unwrap();
    open_to_all(&home_path);
    let setup = Setup {
        variables: vec![
            ("CODEX_HOME".to_owned(), home_path.display().to_string()),
            ("HOME".to_owned(), "/nonexistent".to_owned()),
        ],
        ..Setup::default()
    };
    for_each_user_with(&setup, |client| {
        let info = client.ok("environment/info", json!({}));
        assert_eq!(info["capabilities"]["capabilityDiscoverySandbox"], true);
        for name in ["w/open/SKILL.md", "w/private/SKILL.md"] {
            let path = client.place.path(name);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, skill).unwrap();
        }
        client.place.open();
        let denied = client.place.context(&["read root", "deny /w/private"]);
        let root = |client: &Client, name: &str, sandbox: &Value| json!({"id": name, "path": client.place.uri(name), "sandbox": sandbox});
        let roots = [
            root(client, "w/open", &denied),
            root(client, "w/private", &denied),
            root(client, "w/private", &Value::Null),
            root(client, "w", &denied),
        ];
        let found =
            client.ok("capabilityRoots/discoverV1", json!({"roots": roots}))["roots"].clone();
        let skills = |index: usize| found[index]["skills"].as_array().unwrap().len();
        assert_eq!(
            (skills(0), skills(1), skills(2), skills(3)),
            (1, 0, 1, 1),
            "{found}"
        );
        let error = found[1]["error"].clone();
        assert!(
            error.is_null() || error.as_str().unwrap().contains("failed to inspect"),
            "{error}"
        );

        let v2 = |client: &mut Client, sandbox: Value| {
            let params = json!({"cwd": client.place.uri("w"), "sandbox": sandbox});
            client.ok("capabilities/discoverV2", params)
        };
        let open = v2(client, denied);
        assert_eq!(open["skills"].as_array().unwrap().len(), 1, "{open}");
        let hidden = client
            .place
            .context(&["read minimal", "read project_roots"]);
        let none = v2(client, hidden);
        assert_eq!(none, json!({"plugins": [], "skills": [], "warnings": []}));
    });
}
