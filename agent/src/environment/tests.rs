use exec_proto::PathUri;

use super::*;

fn environment(variables: &[(&str, &str)]) -> ExecutorEnvironment {
    let variables = variables
        .iter()
        .map(|(name, value)| (name.into(), value.into()));
    ExecutorEnvironment::from_parts(variables, PathBuf::from("/work dir"))
}

fn uri(text: &str) -> PathUri {
    PathUri::parse(text).unwrap()
}

#[test]
fn own_credentials_are_not_in_the_snapshot() {
    let environment = environment(&[
        ("EXEC_SERVER_TOKEN", "x"),
        ("CODEX_API_KEY", "x"),
        ("CODEX_ACCESS_TOKEN", "x"),
        ("CODEX_EXEC_SERVER_NOISE_AUTH_TOKEN", "x"),
        ("OPENAI_IDENTITY_TOKEN_FILE", "x"),
        ("OPENAI_API_KEY", "kept"),
    ]);
    assert_eq!(environment.variables().len(), 1);
    assert_eq!(environment.variable("OPENAI_API_KEY").unwrap(), "kept");
    assert_eq!(environment.variable("CODEX_API_KEY"), None);
    assert!(!format!("{environment:?}").contains("kept"));
}

#[test]
fn directories_are_uris() {
    let info = environment(&[("HOME", "/home/u"), ("TMPDIR", "tmp")])
        .info()
        .clone();
    assert_eq!(info.cwd, Some(uri("file:///work%20dir")));
    assert_eq!(info.user_home_dir, Some(uri("file:///home/u")));
    assert_eq!(info.temp_dir, Some(uri("file:///work%20dir/tmp")));
    assert_eq!(info.temporary_directories, [uri("file:///work%20dir/tmp")]);
}

#[test]
fn temporary_directory_without_tmpdir_and_with_an_empty_one() {
    let info = environment(&[]).info().clone();
    assert_eq!(
        (info.temp_dir, info.temporary_directories.len()),
        (Some(uri("file:///tmp")), 0)
    );
    let info = environment(&[("TMPDIR", "")]).info().clone();
    assert_eq!(info.temp_dir, Some(uri("file:///work%20dir")));
    assert!(info.temporary_directories.is_empty());
}

#[test]
fn provider_is_a_digest_and_the_same_everywhere() {
    let id = environment(&[]).info().provider_id.clone().unwrap();
    assert_eq!((id.len(), &id[..7]), (71, "sha256:"));
    assert_eq!(environment(&[("HOME", "/x")]).info().provider_id, Some(id));
}

#[test]
fn configuration_home_follows_the_variable_then_the_home_directory() {
    assert_eq!(
        environment(&[("CODEX_HOME", "/c")]).codex_home(),
        Some("/c".into())
    );
    assert_eq!(
        environment(&[("HOME", "/h")]).codex_home(),
        Some("/h/.codex".into())
    );
    assert_eq!(
        environment(&[("HOME", "/h"), ("CODEX_HOME", "")]).codex_home(),
        Some("/h/.codex".into())
    );
}
