use serde_json::json;
use tempfile::TempDir;

use super::*;

/// Files below `home` (the user's), `etc` (the system's) and `project`.
struct Host(TempDir);

impl Host {
    fn new(files: &[(&str, &str)]) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let host = Self(dir);
        for (name, content) in files {
            let path = host.path(name);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            let root = host.path("");
            let content = content.replace("{ROOT}", root.to_str().unwrap().trim_end_matches('/'));
            std::fs::write(path, content).unwrap();
        }
        host
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().canonicalize().unwrap().join(name)
    }

    fn places(&self) -> Places {
        Places {
            codex_home: self.path("home"),
            system: self.path("etc"),
        }
    }

    /// Sources (without the directory of the test) and TOML of the layers, and the cloud's index.
    fn config(&self, cwd: &str) -> Result<(Vec<(String, String)>, usize), String> {
        let keys = [vec!["k".to_owned()]];
        let stack = layers::config(&self.places(), &self.path(cwd), &keys)
            .map_err(|err| self.relative(&err.to_string()))?;
        let layer = |layer: wire::Layer| (self.relative(&layer.source), layer.toml);
        Ok((
            stack.layers.into_iter().map(layer).collect(),
            stack.cloud_insertion_index,
        ))
    }

    fn relative(&self, text: &str) -> String {
        text.replace(self.path("").to_str().unwrap(), "")
    }

    fn sources(&self, cwd: &str) -> Vec<String> {
        self.config(cwd)
            .unwrap()
            .0
            .into_iter()
            .map(|(source, _)| source)
            .collect()
    }
}

const TRUSTED: &str = "k = 1\n[projects.\"{ROOT}/project\"]\ntrust_level = \"trusted\"\n";
const USER: &str = "user (home/config.toml)";
const PROJECT: &str = "project (project/.codex/config.toml)";
const SUB: &str = "project (project/sub/.codex/config.toml)";

fn project(user: &str) -> Host {
    Host::new(&[
        ("home/config.toml", user),
        ("project/.git/HEAD", "x"),
        ("project/.codex/config.toml", "k = 2\nmodel_provider = 3"),
        ("project/sub/.codex/config.toml", "k = 3"),
        (".codex/config.toml", "k = 4"),
    ])
}

#[test]
fn layers_of_a_trusted_project_go_from_its_root_to_the_working_directory() {
    let host = project(TRUSTED);
    assert_eq!(host.sources("project/sub"), [USER, PROJECT, SUB]);
    assert_eq!(host.sources("project/sub/none/deep"), [USER, PROJECT, SUB]);
    assert_eq!(host.sources("project"), [USER, PROJECT]);
    assert_eq!(host.sources("elsewhere"), [USER]);
}

#[test]
fn what_is_not_trusted_is_not_read() {
    let user = |name: &str, level: &str| {
        format!("k = 1\n[projects.\"{{ROOT}}/{name}\"]\ntrust_level = \"{level}\"\n")
    };
    assert_eq!(project("k = 1").sources("project/sub"), [USER]);
    assert_eq!(
        project(&user("project", "untrusted")).sources("project/sub"),
        [USER]
    );
    assert_eq!(
        project(&user("project/sub", "trusted")).sources("project/sub"),
        [USER, SUB]
    );
    let both =
        user("project", "trusted") + &user("project/sub", "untrusted").replace("k = 1\n", "");
    assert_eq!(project(&both).sources("project/sub"), [USER, PROJECT]);
    let broken = project("k = 1");
    std::fs::write(broken.path("project/.codex/config.toml"), "x = [").unwrap();
    assert_eq!(broken.sources("project"), [USER]);
}

#[test]
fn without_a_marker_the_working_directory_is_the_root() {
    let host = project(TRUSTED);
    std::fs::remove_dir_all(host.path("project/.git")).unwrap();
    assert_eq!(host.sources("project/sub"), [USER]);
    assert_eq!(host.sources("project"), [USER, PROJECT]);
    std::fs::create_dir(host.path("project/.hg")).unwrap();
    assert_eq!(host.sources("project/sub"), [USER]);
    let host = project(&format!("project_root_markers = [\".hg\"]\n{TRUSTED}"));
    std::fs::create_dir(host.path("project/.hg")).unwrap();
    assert_eq!(host.sources("project/sub"), [USER, PROJECT, SUB]);
}

#[test]
fn the_system_comes_first_and_what_is_managed_last() {
    let host = Host::new(&[
        ("etc/config.toml", "k = 1"),
        ("etc/managed_config.toml", "k = 3"),
        ("etc/requirements.toml", "k = 4\nother = 5"),
        ("home/config.toml", "k = 2"),
    ]);
    let (layers, cloud) = host.config("project").unwrap();
    let expected = [
        ("system (etc/config.toml)", "k = 1\n"),
        (USER, "k = 2\n"),
        (
            "legacy managed_config.toml (etc/managed_config.toml)",
            "k = 3\n",
        ),
    ];
    assert_eq!(
        layers,
        expected.map(|(source, toml)| (source.to_owned(), toml.to_owned()))
    );
    assert_eq!(cloud, 1);
    let stack = layers::requirements(&host.places(), &[vec!["k".to_owned()]]).unwrap();
    assert_eq!(stack.cloud_insertion_index, 1);
    assert_eq!(
        host.relative(&stack.layers[0].source),
        "etc/requirements.toml"
    );
    assert_eq!(stack.layers[0].toml, "k = 4\n");
    std::fs::write(host.path("etc/config.toml"), "other = 1").unwrap();
    assert_eq!(host.config("project").unwrap().1, 0);
}

#[test]
fn a_project_cannot_set_where_requests_go() {
    let host = project(TRUSTED);
    let keys = [vec!["model_provider".to_owned()]];
    let stack = layers::config(&host.places(), &host.path("project"), &keys).unwrap();
    assert!(stack.layers.is_empty());
}

#[test]
fn a_file_that_cannot_be_used_is_named_with_the_place_of_the_error() {
    let text = |content: &str| project(content).config("project").unwrap_err();
    assert!(text("a = 1\nb = [").starts_with("home/config.toml:2:6: "));
    assert!(text("é = 'é' x").starts_with("home/config.toml:1:"));
    let host = Host::new(&[("home/config.toml/x", "")]);
    let expected = "home/config.toml: path `home/config.toml` is not a file";
    assert_eq!(host.config("project").unwrap_err(), expected);
    let host = Host::new(&[("home/config.toml", "")]);
    std::fs::write(host.path("home/config.toml"), b"a = 1\n\xff").unwrap();
    assert_eq!(
        host.config("project").unwrap_err(),
        "home/config.toml:2:1: not UTF-8"
    );
    assert!(
        Host::new(&[("home", "a file")])
            .config("project")
            .unwrap()
            .0
            .is_empty()
    );
}

#[test]
fn parameters_that_select_nothing_are_refused() {
    let check = |value: serde_json::Value| check(&serde_json::from_value(value).unwrap());
    let none = json!({"cwd": "file:///x", "configPaths": [], "requirementsPaths": []});
    let text = "at least one config or requirements path is required";
    assert_eq!(check(none).unwrap_err(), text);
    let empty = json!({"cwd": "file:///x", "configPaths": [["a"]], "requirementsPaths": [[]]});
    let text = "TOML paths must contain at least one key segment";
    assert_eq!(check(empty).unwrap_err(), text);
    let foreign = json!({"cwd": "file:///C:/x", "configPaths": [["a"]], "requirementsPaths": []});
    assert_eq!(
        check(foreign).unwrap_err(),
        "'file:///C:/x' is invalid on 'linux'"
    );
}

#[tokio::test]
async fn the_answer_names_the_directories_of_the_user() {
    let host = project(TRUSTED);
    let variables = [
        ("CODEX_HOME", host.path("home")),
        ("HOME", host.path("user")),
    ];
    let variables = variables.map(|(name, value)| (name.into(), value.into_os_string()));
    let environment = ExecutorEnvironment::from_parts(variables, host.path(""));
    let cwd = PathUri::from_native(&host.path("project")).unwrap();
    let params = json!({"cwd": cwd, "configPaths": [["k"]], "requirementsPaths": []});
    let params = serde_json::from_value(params).unwrap();
    let result = read(&BlockingPool::new(), &environment, params)
        .await
        .unwrap();
    assert_eq!(
        result.codex_home_dir.to_native().unwrap(),
        host.path("home")
    );
    assert_eq!(
        result.user_home_dir.unwrap().to_native().unwrap(),
        host.path("user")
    );
    assert_eq!(result.config.layers.len(), 2);
    assert_eq!(
        result.config.layers[0].base_dir.to_native().unwrap(),
        host.path("home")
    );
    assert!(result.hostname.is_some());
    std::fs::write(host.path("home/config.toml"), "x = [").unwrap();
    let params = json!({"cwd": cwd, "configPaths": [["k"]], "requirementsPaths": []});
    let params = serde_json::from_value(params).unwrap();
    let err = read(&BlockingPool::new(), &environment, params)
        .await
        .unwrap_err();
    assert_eq!(err.code, -32603);
    assert!(
        err.message
            .starts_with("failed to load executor-local config: ")
    );
}
