use std::fs;

use clap::Parser;

use super::*;

#[derive(Parser)]
struct Line {
    #[command(flatten)]
    serve: Serve,
}

fn loaded(
    arguments: &[&str],
    variables: &[(&str, &str)],
) -> (Result<ServeConfig, Vec<String>>, String) {
    let line = std::iter::once("serve").chain(arguments.iter().copied());
    let environment = |name: &str| {
        let mut all = variables.iter().filter(|(key, _)| *key == name);
        all.next().map(|(_, value)| (*value).to_owned())
    };
    let (config, report) = load(Line::parse_from(line).serve.options, &environment);
    (config.map(|(config, _)| config), report)
}

#[test]
fn every_setting_is_taken_from_all_sources() {
    let nothing = |_: &str| None;
    let mut options = Line::parse_from(["serve"]).serve.options;
    let mut layers = Layers::open(&PROGRAM, &nothing, None, None);
    schema::merge(&mut options, &mut layers);
    assert_eq!(layers.forgotten(), [""; 0]);
    assert_eq!(layers.take_problems(), [""; 0]);
}

#[test]
fn flag_beats_variable_beats_file_beats_default() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("exec-cloud.toml");
    let text =
        "listen = '127.0.0.1:1'\ndata_dir = 'data'\ndrain_timeout = '1m'\nretry_after = '1s'\n";
    fs::write(&file, text).unwrap();
    let path = file.to_str().unwrap();
    let all = [
        ("EXEC_CLOUD_CONFIG", path),
        ("EXEC_CLOUD_DRAIN_TIMEOUT", "2m"),
        ("EXEC_CLOUD_RETRY_AFTER", "2s"),
    ];
    let (config, report) = loaded(&["--retry-after", "3s"], &all);
    let config = config.unwrap();
    assert_eq!(config.listen.to_string(), "127.0.0.1:1");
    let data = Storage::Directory(directory.path().join("data"));
    assert_eq!(config.storage, data);
    let seconds = |period: std::time::Duration| period.as_secs();
    assert_eq!(seconds(config.drain.timeout), 120);
    assert_eq!(seconds(config.drain.retry_after), 3);
    assert_eq!(seconds(config.drain.delay), 0);
    for line in [
        "listen = \"127.0.0.1:1\" # file\n",
        "drain_timeout = \"120s\" # variable EXEC_CLOUD_DRAIN_TIMEOUT\n",
        "retry_after = \"3s\" # flag --retry-after\n",
        "# drain_delay: 0s, by default\n",
    ] {
        assert!(report.contains(line), "{line} in {report}");
    }
}

#[test]
fn all_problems_are_reported_at_once() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("exec-cloud.toml");
    fs::write(&file, "lisen = '127.0.0.1:1'\ndrain_delay = 5\n").unwrap();
    let arguments = [
        "--config",
        file.to_str().unwrap(),
        "--data-dir",
        "/d",
        "--public-url",
        "ftp://x",
        "--tls-cert",
        "cert.pem",
    ];
    let (config, _) = loaded(&arguments, &[("EXEC_CLOUD_LISTEN", "192.0.2.1:1")]);
    let problems = config.unwrap_err();
    assert_eq!(problems.len(), 5, "{problems:#?}");
    for (problem, beginning) in problems.iter().zip([
        "unknown configuration key `lisen`; did you mean `listen`?",
        "configuration key `drain_delay` cannot be used: expected a string",
        "--public-url cannot be used: ",
        "--tls-cert and --tls-key go together; give both or neither",
        "plain HTTP on 192.0.2.1:1 would show every token on the network; ",
    ]) {
        assert!(problem.starts_with(beginning), "{problem}");
    }
}

#[test]
fn unreadable_tls_files_are_a_problem_of_the_configuration() {
    let arguments = ["--dev", "--tls-cert", "/none/c", "--tls-key", "/none/k"];
    let problems = loaded(&arguments, &[]).0.unwrap_err();
    assert!(
        problems[0].starts_with("cannot read the TLS certificate file"),
        "{problems:?}"
    );
}

#[test]
fn identity_provider_is_configured_from_all_sources() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("exec-cloud.toml");
    let text =
        "oidc_jwks = 'keys.json'\noidc_rules = ['a=b, c -> admin', 'groups=ci -> executor:ci-*']\n";
    fs::write(&file, text).unwrap();
    let variables = [
        ("EXEC_CLOUD_CONFIG", file.to_str().unwrap()),
        ("EXEC_CLOUD_OIDC_AUDIENCES", "one, two"),
    ];
    let (config, report) = loaded(&["--oidc-issuer", "https://id.example"], &variables);
    let oidc = config.unwrap().oidc.unwrap();
    assert_eq!(oidc.issuer, "https://id.example");
    assert_eq!(oidc.audiences, ["one", "two"]);
    let keys = directory.path().join("keys.json");
    assert_eq!(oidc.keys, Some(crate::config::KeySource::File(keys)));
    assert_eq!(oidc.rules.len(), 2);
    assert!(
        report.contains("\"groups=ci -> executor:ci-*\""),
        "{report}"
    );
}

#[test]
fn identity_provider_that_is_half_configured_is_a_problem() {
    for (arguments, beginning) in [
        (
            &["--oidc-audience", "a"][..],
            "--oidc-audience is of no use without an issuer; give --oidc-issuer",
        ),
        (
            &["--oidc-issuer", "https://i", "--oidc-audience", "a"],
            "no token of the issuer would open anything; give --oidc-rule",
        ),
        (
            &["--oidc-issuer", "https://i", "--oidc-rule", "a=b -> admin"],
            "tokens that the issuer made for others would be taken; give --oidc-audience",
        ),
        (
            &[
                "--oidc-issuer",
                "i",
                "--oidc-rule",
                "a=b -> admin",
                "--oidc-audience",
                "a",
            ],
            "the keys of the issuer cannot be found by its name",
        ),
        (
            &[
                "--oidc-issuer",
                "https://i",
                "--oidc-rule",
                "a=b -> admin",
                "--oidc-audience",
                "a",
                "--ca-file",
                "/none",
            ],
            "the keys of the issuer cannot be fetched: failed to read certificate authorities",
        ),
        (
            &[
                "--dev",
                "--oidc-issuer",
                "https://i",
                "--oidc-rule",
                "a=b -> admin",
                "--oidc-audience",
                "a",
            ],
            "--dev takes any token and checks none of an identity provider",
        ),
    ] {
        let arguments = [arguments, &["--data-dir", "/d"]].concat();
        let problems = loaded(&arguments, &[]).0.unwrap_err();
        assert_eq!(problems.len(), 1, "{problems:#?}");
        assert!(problems[0].starts_with(beginning), "{problems:#?}");
    }
}
