use std::os::unix::fs::symlink;
use std::path::PathBuf;

use serde_json::{Value, json};
use tempfile::TempDir;

use super::*;

const MANIFEST: &str = ".codex-plugin/plugin.json";

fn files() -> FsConnection {
    FsConnection::new(crate::rpc::Outbox::new(tokio::sync::mpsc::channel(1).0, None).0)
}

/// A directory with files, and answers in which its URI is written `~`.
struct Scratch(TempDir);

impl Scratch {
    fn new(files: &[(&str, &str)]) -> Self {
        let scratch = Self(tempfile::tempdir().unwrap());
        for (name, content) in files {
            scratch.put(name, content);
        }
        scratch
    }

    fn put(&self, name: &str, content: impl AsRef<[u8]>) {
        let path = self.path(name);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, content).unwrap();
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().canonicalize().unwrap().join(name)
    }

    fn short(&self, value: &impl serde::Serialize) -> Value {
        let uri = PathUri::from_native(&self.path("")).unwrap();
        let text = serde_json::to_string(value)
            .unwrap()
            .replace(uri.as_str(), "~");
        serde_json::from_str(&text).unwrap()
    }

    async fn v1(&self, roots: &[&str]) -> Value {
        let root = |name: &&str| {
            let path = PathUri::from_native(&self.path(name)).unwrap();
            json!({"id": name, "path": path})
        };
        let roots: Vec<_> = roots.iter().map(root).collect();
        let params = serde_json::from_value(json!({"roots": roots})).unwrap();
        self.short(&discover_v1(&files(), params).await.unwrap())
    }

    /// The only root of that name.
    async fn root(&self, name: &str) -> Value {
        self.v1(&[name]).await["roots"][0].clone()
    }

    async fn v2(&self, params: Value) -> Result<Value, RpcError> {
        let variables = [
            ("CODEX_HOME", self.path("codex")),
            ("HOME", self.path("home")),
        ];
        let variables = variables.map(|(name, value)| (name.into(), value.into_os_string()));
        let environment = ExecutorEnvironment::from_parts(variables, self.path(""));
        let params = serde_json::from_value(params).unwrap();
        let result = discover_v2(&files(), &environment, params).await?;
        Ok(self.short(&result))
    }
}

fn paths(files: &Value) -> Vec<&str> {
    files
        .as_array()
        .unwrap()
        .iter()
        .map(|file| file["path"].as_str().unwrap())
        .collect()
}

fn skill_paths(root: &Value) -> Vec<&str> {
    let skills = root["skills"].as_array().unwrap();
    skills
        .iter()
        .map(|skill| skill["instructions"]["path"].as_str().unwrap())
        .collect()
}

#[tokio::test]
async fn skills_are_found_with_their_metadata_up_to_the_depth() {
    let s = Scratch::new(&[
        ("d/b/SKILL.md", "b"),
        ("d/SKILL.md", "top"),
        ("d/b/agents/openai.yaml", "meta"),
        ("d/.hidden/SKILL.md", "h"),
        ("d/c/skill.md", "small letters"),
        ("d/1/2/3/4/5/6/SKILL.md", "six"),
        ("d/1/2/3/4/5/6/7/SKILL.md", "seven"),
        ("elsewhere/SKILL.md", "linked"),
    ]);
    symlink("../elsewhere", s.path("d/link")).unwrap();
    let root = s.root("d").await;
    let expected = [
        "~/d/.hidden/SKILL.md",
        "~/d/1/2/3/4/5/6/SKILL.md",
        "~/d/SKILL.md",
        "~/d/b/SKILL.md",
        "~/d/link/SKILL.md",
    ];
    assert_eq!(skill_paths(&root), expected);
    let metadata = json!({"path": "~/d/b/agents/openai.yaml", "contents": "meta"});
    assert_eq!(root["skills"][3]["metadata"], metadata);
    assert_eq!(root["skills"][2]["metadata"], Value::Null);
    assert_eq!(
        (&root["plugin"], &root["error"]),
        (&Value::Null, &Value::Null)
    );
}

#[tokio::test]
async fn a_plugin_has_the_files_that_its_manifest_declares_or_the_default_ones() {
    let defaults = [
        ("p/.mcp.json", "mcp"),
        ("p/.app.json", "app"),
        ("p/m.json", "m"),
    ];
    let table = [
        (r#"{"name":"n"}"#, json!(["~/p/.mcp.json", "~/p/.app.json"])),
        ("not json", json!(["~/p/.mcp.json", "~/p/.app.json"])),
        (
            r#"{"mcpServers":null,"apps":[1]}"#,
            json!(["~/p/.mcp.json", "~/p/.app.json"]),
        ),
        (
            r#"{"mcpServers":"./m.json"}"#,
            json!(["~/p/m.json", "~/p/.app.json"]),
        ),
        (
            r#"{"mcpServers":{"a":{}},"apps":{"x":1}}"#,
            json!([null, "~/p/.app.json"]),
        ),
        (
            r#"{"mcpServers":"./none","apps":"./m.json"}"#,
            json!([null, "~/p/m.json"]),
        ),
    ];
    for (manifest, expected) in table {
        let s = Scratch::new(&defaults);
        s.put(&format!("p/{MANIFEST}"), manifest);
        let root = s.root("p").await;
        let plugin = &root["plugin"];
        let found = json!([plugin["mcpConfig"]["path"], plugin["appsConfig"]["path"]]);
        assert_eq!(found, expected, "{manifest}");
        assert_eq!(plugin["manifest"]["contents"], manifest);
        assert_eq!(root["warnings"], json!([]));
    }
}

#[tokio::test]
async fn a_declared_path_stays_below_the_root() {
    let why_start = "path must start with `./`";
    let why_below = "path must remain below the capability root";
    for (path, why) in [
        ("m.json", why_start),
        ("/etc/hostname", why_start),
        ("../m.json", why_start),
        ("./../m.json", why_below),
        ("./a/../m.json", why_below),
        ("./", why_below),
        (".//etc/hostname", why_below),
    ] {
        let s = Scratch::new(&[("m.json", "outside"), ("p/m.json", "inside")]);
        s.put(
            &format!("p/{MANIFEST}"),
            json!({"mcpServers": path}).to_string(),
        );
        let root = s.root("p").await;
        assert_eq!(root["plugin"]["mcpConfig"], Value::Null, "{path}");
        let warning = format!("ignoring mcpServers in ~/p/{MANIFEST}: {why}");
        assert_eq!(root["warnings"], json!([warning]));
    }
}

#[tokio::test]
async fn namespaces_are_the_own_or_the_nearest_above_and_those_below() {
    let s = Scratch::new(&[
        ("p/.codex-plugin/plugin.json", r#"{"name":"outer"}"#),
        ("p/q/b/.claude-plugin/plugin.json", "{}"),
        ("p/q/a/.cursor-plugin/plugin.json", "{}"),
        ("p/q/a/.claude-plugin/plugin.json", "{}"),
    ]);
    let below = [
        "~/p/q/a/.claude-plugin/plugin.json",
        "~/p/q/b/.claude-plugin/plugin.json",
    ];
    let own = "~/p/.codex-plugin/plugin.json";
    for name in ["p", "p/q"] {
        let root = s.root(name).await;
        assert_eq!(
            paths(&root["namespaceManifests"]),
            [own, below[0], below[1]],
            "{name}"
        );
        assert_eq!(root["plugin"].is_null(), name != "p");
    }
    assert_eq!(
        paths(&s.root("p/q/a").await["namespaceManifests"]),
        [below[0]]
    );
}

#[tokio::test]
async fn roots_answer_in_order_and_fail_on_their_own() {
    let s = Scratch::new(&[("d/SKILL.md", "s"), ("f", "")]);
    let result = s.v1(&["none", "d", "f", "d"]).await;
    let roots = result["roots"].as_array().unwrap();
    let ids: Vec<_> = roots
        .iter()
        .map(|root| root["id"].as_str().unwrap())
        .collect();
    assert_eq!(ids, ["none", "d", "f", "d"]);
    let missing =
        "failed to inspect capability root ~/none: No such file or directory (os error 2)";
    assert_eq!(roots[0]["error"], missing);
    assert_eq!(roots[2]["error"], "capability root ~/f is not a directory");
    assert_eq!(roots[1], roots[3]);
    let root = json!({"id": "r", "path": "file:///C:/x"});
    let foreign = serde_json::from_value(json!({"roots": [root]})).unwrap();
    let result = discover_v1(&files(), foreign).await.unwrap();
    let expected =
        "failed to inspect capability root file:///C:/x: 'file:///C:/x' is invalid on 'linux'";
    assert_eq!(result.roots[0].error.as_deref(), Some(expected));
    let many = serde_json::from_value(json!({"roots": vec![root; 129]})).unwrap();
    let err = discover_v1(&files(), many).await.unwrap_err();
    assert_eq!(
        (err.code, err.message.as_str()),
        (
            -32600,
            "capability root discovery accepts at most 128 roots"
        )
    );
}

#[tokio::test]
async fn files_that_cannot_be_sent_make_warnings() {
    let s = Scratch::new(&[
        ("d/.claude-plugin/plugin.json", "{}"),
        ("d/ok/SKILL.md", "ok"),
    ]);
    s.put(&format!("d/{MANIFEST}"), vec![b' '; 1024 * 1024 + 1]);
    s.put("d/bad/SKILL.md", b"\xff");
    std::fs::create_dir_all(s.path("d/fifo")).unwrap();
    let mode = rustix::fs::Mode::from_raw_mode(0o600);
    rustix::fs::mkfifoat(rustix::fs::CWD, s.path("d/fifo/SKILL.md"), mode).unwrap();
    let root = s.root("d").await;
    assert_eq!(
        root["plugin"]["manifest"]["path"],
        "~/d/.claude-plugin/plugin.json"
    );
    assert_eq!(skill_paths(&root), ["~/d/ok/SKILL.md"]);
    let expected = [
        "capability file ~/d/.codex-plugin/plugin.json exceeds the 1048576-byte limit",
        "capability file ~/d/bad/SKILL.md is not UTF-8: invalid utf-8 sequence of 1 bytes from index 0",
    ];
    assert_eq!(root["warnings"], json!(expected));
}

#[tokio::test]
async fn the_answer_has_a_bounded_size() {
    let s = Scratch::new(&[]);
    // 15 MiB in each root, and every byte takes two in JSON.
    for n in 0..15 {
        s.put(&format!("d/{n}/SKILL.md"), vec![b'\n'; 1024 * 1024]);
    }
    let result = s.v1(&["d", "d", "d"]).await;
    let errors: Vec<_> = (0..3)
        .map(|n| result["roots"][n]["error"].clone())
        .collect();
    let error = "capability discovery exceeds 50331648 bytes";
    assert_eq!(errors, [Value::Null, error.into(), error.into()]);
    s.put("d/16/SKILL.md", vec![b'\n'; 1024 * 1024]);
    s.put("d/17/SKILL.md", vec![b'\n'; 1024 * 1024]);
    let root = s.root("d").await;
    assert_eq!(root["skills"].as_array().unwrap().len(), 16);
    assert_eq!(
        root["warnings"],
        json!(["capability root ~/d exceeds the 16777216-byte limit"])
    );
}

#[tokio::test]
async fn a_sandbox_that_cannot_be_enforced_is_refused() {
    let s = Scratch::new(&[("d/SKILL.md", "s"), ("codex/skills/x/SKILL.md", "")]);
    let sandbox = json!({
        "permissions": {
            "type": "managed",
            "file_system": {"type": "restricted", "entries": []},
            "network": "restricted",
        },
        "cwd": "file:///",
        "windowsSandboxLevel": "disabled",
    });
    let path = PathUri::from_native(&s.path("d")).unwrap();
    let roots = json!({"roots": [{"id": "r", "path": path, "sandbox": sandbox}]});
    let params = serde_json::from_value(roots).unwrap();
    let result = discover_v1(&files(), params).await.unwrap();
    assert!(
        result.roots[0]
            .error
            .as_ref()
            .unwrap()
            .contains("cannot be enforced")
    );
    assert!(result.roots[0].skills.is_empty());
    let err = s
        .v2(json!({"cwd": "file:///", "sandbox": sandbox}))
        .await
        .unwrap_err();
    assert_eq!(err.code, -32600);
    let disabled = json!({"permissions": {"type": "disabled"}, "windowsSandboxLevel": "disabled"});
    let err = s
        .v2(json!({"cwd": "file:///", "sandbox": disabled}))
        .await
        .unwrap_err();
    assert_eq!(
        (err.code, err.message.as_str()),
        (-32602, "missing field `cwd`")
    );
}

const SKILL: &str = "---\nname: s\ndescription: d\n---\n";

#[tokio::test]
async fn installed_plugins_are_described() {
    let s = Scratch::new(&[
        (
            "codex/plugins/cache/market/alpha/2.0.0/.codex-plugin/plugin.json",
            "{}",
        ),
        (
            "codex/plugins/cache/market/alpha/10.0.0/.codex-plugin/plugin.json",
            r#"{"name":"alpha","interface":{"displayName":"Alpha One"},"mcpServers":{"a":{}}}"#,
        ),
        (
            "codex/plugins/cache/market/alpha/10.0.0/any/SKILL.md",
            SKILL,
        ),
        (
            "codex/plugins/cache/market/alpha/10.0.0/inner/.codex-plugin/plugin.json",
            r#"{"name":"inner"}"#,
        ),
        (
            "codex/plugins/cache/market/alpha/10.0.0/inner/x/SKILL.md",
            SKILL,
        ),
        (
            "codex/plugins/cache/market/beta/local/.claude-plugin/plugin.json",
            "{}",
        ),
        (
            "codex/plugins/cache/market/beta/9.0.0/.claude-plugin/plugin.json",
            "{}",
        ),
        (
            "codex/plugins/cache/not plain/gamma/1/.codex-plugin/plugin.json",
            "{}",
        ),
        (
            "codex/plugins/cache/market/delta/1/.codex-plugin/plugin.json",
            "[]",
        ),
        ("codex/plugins/cache/market/epsilon/1/nothing", ""),
    ]);
    let result = s.v2(json!({"cwd": "file:///C:/x"})).await.unwrap();
    let plugins = result["plugins"].as_array().unwrap();
    assert_eq!(plugins.len(), 2);
    let alpha = &plugins[0];
    assert_eq!(alpha["id"], "alpha@market");
    assert_eq!(alpha["displayName"], "Alpha One");
    assert_eq!(
        (&alpha["version"], &alpha["remotePluginId"]),
        (&json!("10.0.0"), &Value::Null)
    );
    assert_eq!(alpha["root"], "~/codex/plugins/cache/market/alpha/10.0.0");
    assert_eq!(alpha["files"]["mcpConfig"]["contents"], r#"{"a":{}}"#);
    assert_eq!(
        alpha["files"]["mcpConfig"]["path"],
        alpha["files"]["manifest"]["path"]
    );
    let names: Vec<_> = alpha["skills"]
        .as_array()
        .unwrap()
        .iter()
        .map(|skill| &skill["name"])
        .collect();
    assert_eq!(names, ["alpha:s", "inner:s"]);
    assert_eq!(
        (&plugins[1]["version"], &plugins[1]["displayName"]),
        (&json!("local"), &json!("local"))
    );
    let warning = "some capability metadata could not be loaded; discovery may be incomplete";
    assert_eq!(result["warnings"], json!([warning, warning]));
}

#[tokio::test]
async fn stand_alone_skills_come_from_both_places_and_not_from_the_project() {
    let s = Scratch::new(&[
        ("codex/skills/one/SKILL.md", SKILL),
        ("codex/skills/.system/two/SKILL.md", SKILL),
        ("home/.agents/skills/three/SKILL.md", SKILL),
        ("project/.agents/skills/four/SKILL.md", SKILL),
    ]);
    let cwd = PathUri::from_native(&s.path("project")).unwrap();
    let result = s.v2(json!({"cwd": cwd, "sandbox": null})).await.unwrap();
    let expected = |id: &str, root: &str, path: &str| {
        json!({
            "name": "s", "description": "d", "shortDescription": null, "path": path,
            "discoveryRoot": {"id": id, "path": root}, "dependencies": null, "policy": null,
        })
    };
    let (codex, user) = ("~/codex/skills", "~/home/.agents/skills");
    let skills = json!([
        expected(
            "codex-home-skills",
            codex,
            "~/codex/skills/.system/two/SKILL.md"
        ),
        expected("codex-home-skills", codex, "~/codex/skills/one/SKILL.md"),
        expected(
            "user-agent-skills",
            user,
            "~/home/.agents/skills/three/SKILL.md"
        ),
    ]);
    assert_eq!(
        result,
        json!({"plugins": [], "skills": skills, "warnings": []})
    );
    s.put("codex/skills/bad/SKILL.md", "no front matter");
    s.put("codex/skills/worse/SKILL.md", "no front matter");
    let result = s.v2(json!({"cwd": cwd})).await.unwrap();
    assert_eq!(result["skills"].as_array().unwrap().len(), 3);
    assert_eq!(result["warnings"].as_array().unwrap().len(), 1);
}
