use std::{io::Write as _, path::Path};

use clap::Parser as _;

use super::*;
use crate::cli::Cli;

fn cli(arguments: &[&str]) -> Options {
    Cli::parse_from(std::iter::once("exec-server").chain(arguments.iter().copied())).options
}

fn resolve(arguments: &[&str], variables: &[(&str, &str)]) -> Result<Settings, ConfigError> {
    let lookup = |name: &str| {
        variables
            .iter()
            .find(|(key, _)| *key == name)
            .map(|(_, value)| (*value).to_owned())
    };
    let has_secret = lookup("EXEC_SERVER_TOKEN").is_some();
    Settings::resolve(cli(arguments), lookup, has_secret)
}

fn remote_of(settings: Settings) -> RemoteSettings {
    match settings.mode {
        Mode::Remote(remote) => *remote,
        Mode::Listen { .. } => panic!("not in remote mode"),
    }
}

fn problems(arguments: &[&str], variables: &[(&str, &str)]) -> Vec<String> {
    resolve(arguments, variables).unwrap_err().0
}

const REMOTE_URL: &str = "EXEC_SERVER_REMOTE_URL";
const ENVIRONMENT_ID: &str = "EXEC_SERVER_ENVIRONMENT_ID";
const EXIT_ON_STDIN_CLOSE: &str = "EXEC_SERVER_EXIT_ON_STDIN_CLOSE";
const TOKEN: (&str, &str) = ("EXEC_SERVER_TOKEN", "t");

#[test]
fn the_grace_period_comes_from_flag_environment_file_and_default() {
    let mut file = tempfile::NamedTempFile::new().unwrap();
    writeln!(file, "grace_period = '1m'").unwrap();
    let path = file.path().to_str().unwrap();
    let variable = [("EXEC_SERVER_GRACE_PERIOD", "250ms")];
    for (arguments, variables, millis) in [
        (&[][..], &[][..], 5_000),
        (&["--config", path], &[], 60_000),
        (&["--config", path], &variable, 250),
        (&["--config", path, "--grace-period", "0s"], &variable, 0),
    ] {
        let settings = resolve(arguments, variables).unwrap();
        assert_eq!(settings.grace_period, Duration::from_millis(millis));
    }
    assert_eq!(
        problems(&[], &[("EXEC_SERVER_GRACE_PERIOD", "soon")]),
        [
            "EXEC_SERVER_GRACE_PERIOD cannot be used: expected a number with ms, s, m or h, \
             such as 5s, and at most a day"
        ]
    );
}

#[test]
fn without_anything_it_listens_on_loopback() {
    let settings = resolve(&[], &[]).unwrap();
    assert!(matches!(
        settings.mode,
        Mode::Listen { address: ListenAddress::WebSocket(address), auth: None }
            if address.to_string() == "127.0.0.1:0"
    ));
}

#[test]
fn flags_win_over_the_environment_and_the_environment_over_the_file() {
    let mut file = tempfile::NamedTempFile::new().unwrap();
    writeln!(
        file,
        "remote = 'https://file'\nenvironment_id = 'file'\ntoken_file = 'token'"
    )
    .unwrap();
    let path = file.path().to_str().unwrap();

    let from_file = remote_of(resolve(&["--config", path], &[]).unwrap());
    assert_eq!(from_file.base_url.to_string(), "https://file");
    assert_eq!(from_file.environment.as_str(), "file");
    assert_eq!(
        from_file.credential,
        CredentialChoice::TokenFile(file.path().parent().unwrap().join("token"))
    );

    let variables = [
        (REMOTE_URL, "https://env"),
        (ENVIRONMENT_ID, " env "),
        TOKEN,
    ];
    let from_env = remote_of(resolve(&["--config", path], &variables).unwrap());
    assert_eq!(from_env.base_url.to_string(), "https://env");
    assert_eq!(from_env.environment.as_str(), "env");
    assert_eq!(from_env.credential, CredentialChoice::Environment);

    let flags = [
        "--config",
        path,
        "--remote",
        "https://flag",
        "--environment-id",
        "flag",
        "--token-file",
        "f",
    ];
    let from_flags = remote_of(resolve(&flags, &variables).unwrap());
    assert_eq!(from_flags.base_url.to_string(), "https://flag");
    assert_eq!(from_flags.environment.as_str(), "flag");
    assert_eq!(
        from_flags.credential,
        CredentialChoice::TokenFile("f".into())
    );
}

#[test]
fn a_listen_flag_wins_over_a_remote_url_in_the_environment() {
    let settings = resolve(&["--listen", "stdio"], &[(REMOTE_URL, "https://env")]).unwrap();
    assert!(matches!(
        settings.mode,
        Mode::Listen {
            address: ListenAddress::Stdio,
            ..
        }
    ));
}

#[test]
fn blank_variables_count_as_absent() {
    let settings = resolve(&[], &[(REMOTE_URL, " ")]).unwrap();
    assert!(matches!(settings.mode, Mode::Listen { .. }));
}

#[test]
fn all_problems_are_reported_at_once() {
    assert_eq!(
        problems(
            &["--cloud", "--ws-issuer", "x"],
            &[(EXIT_ON_STDIN_CLOSE, "1")]
        ),
        [
            "EXEC_SERVER_EXIT_ON_STDIN_CLOSE cannot be used: expected true or false",
            "the registry URL is missing; give --remote URL or set EXEC_SERVER_REMOTE_URL",
            "the environment id is missing; give --environment-id ID or set EXEC_SERVER_ENVIRONMENT_ID",
            "no registry credential; give --token-file PATH, --registration-bearer-stdin or \
             --executor-credential-stdin, or set EXEC_SERVER_TOKEN or CODEX_API_KEY",
            "websocket auth flags require a listener; remove them or --remote",
        ]
    );
}

#[test]
fn single_problems_say_what_to_do() {
    for (arguments, variables, expected) in [
        (
            &[
                "--remote",
                "http://registry.example",
                "--environment-id",
                "e",
            ][..],
            &[TOKEN][..],
            "remote transport requires https for non-loopback endpoints; \
             use https, or --allow-insecure-http on a network you trust",
        ),
        (
            &["--remote", "registry.example", "--environment-id", "e"],
            &[TOKEN],
            "environment registry base url is not a url; expected https://HOST[:PORT][/PATH]",
        ),
        (
            &["--remote", "https://r", "--environment-id", "  "],
            &[TOKEN],
            "--environment-id cannot be used: environment id is blank",
        ),
        (
            &["--exit-on-stdin-close"],
            &[],
            "--exit-on-stdin-close requires --remote",
        ),
        (
            &[],
            &[(EXIT_ON_STDIN_CLOSE, "true")],
            "EXEC_SERVER_EXIT_ON_STDIN_CLOSE requires --remote",
        ),
        (
            &["--token-file", "f"],
            &[],
            "--token-file requires --remote",
        ),
        (
            &["--listen", "ws://0.0.0.0:7000"],
            &[],
            "refusing to listen on 0.0.0.0:7000 without authentication, because other machines can \
             reach it; add `--ws-auth`, or listen on 127.0.0.1",
        ),
        (
            &["--listen", "ws://host:1"],
            &[],
            "invalid websocket --listen URL `ws://host:1`; expected `ws://IP:PORT`",
        ),
        (
            &["--listen", "stdio", "--ws-auth", "capability-token"],
            &[],
            "WebSocket auth requires a WebSocket listener, not stdio",
        ),
        (
            &["--config", "/nonexistent/file"],
            &[],
            "configuration file cannot be read: entity not found",
        ),
    ] {
        assert_eq!(problems(arguments, variables), [expected], "{arguments:?}");
    }
}

#[test]
fn plain_http_elsewhere_needs_the_explicit_flag() {
    let arguments = [
        "--remote",
        "http://registry.internal",
        "--environment-id",
        "e",
        "--allow-insecure-http",
    ];
    assert!(resolve(&arguments, &[TOKEN]).is_ok());
}

#[test]
fn a_non_loopback_address_is_fine_with_authentication() {
    let digest = "0".repeat(64);
    let settings = resolve(
        &[
            "--listen",
            "ws://0.0.0.0:7000",
            "--ws-auth",
            "capability-token",
            "--ws-token-sha256",
            &digest,
        ],
        &[],
    )
    .unwrap();
    assert!(matches!(settings.mode, Mode::Listen { auth: Some(_), .. }));
}

#[test]
fn longest_life_without_a_connection_has_a_range() {
    let keep = |arguments: &[&str]| resolve(arguments, &[]).unwrap().keep_max;
    assert_eq!(keep(&[]), None);
    for secs in ["80", "3600", "2592000"] {
        let expected = Duration::from_secs(secs.parse().unwrap());
        assert_eq!(keep(&["--keep-max-secs", secs]), Some(expected));
    }
    let expected = ["--keep-max-secs must be between 80 and 2592000"];
    for secs in ["0", "79", "2592001"] {
        assert_eq!(problems(&["--keep-max-secs", secs], &[]), expected);
    }
    let mut file = tempfile::NamedTempFile::new().unwrap();
    writeln!(file, "keep_max_secs = 100").unwrap();
    let path = file.path().to_str().unwrap();
    assert_eq!(keep(&["--config", path]), Some(Duration::from_secs(100)));
    let both = ["--config", path, "--keep-max-secs", "200"];
    assert_eq!(keep(&both), Some(Duration::from_secs(200)));
}

#[test]
fn limits_of_commands_have_ranges() {
    let limits = |arguments: &[&str]| resolve(arguments, &[]).unwrap().limits;
    assert_eq!(limits(&[]), CommandLimits::default());
    let mut file = tempfile::NamedTempFile::new().unwrap();
    let keys = "command_memory_max = 67108864\ncommand_pids_max = 5\n\
        command_cpu_max = 250\ncommand_cgroup = \"groups\"";
    writeln!(file, "{keys}").unwrap();
    let path = file.path().to_str().unwrap();
    let mut expected = CommandLimits {
        memory: Some(64 << 20),
        processes: Some(5),
        cpu: Some(250),
        cgroup: Some(file.path().with_file_name("groups")),
    };
    assert_eq!(limits(&["--config", path]), expected);
    expected.processes = Some(6);
    let both = ["--config", path, "--command-pids-max", "6"];
    assert_eq!(limits(&both), expected);

    for (arguments, problem) in [
        (
            ["--command-memory-max", "67108863"],
            "--command-memory-max must be between 67108864 and 1125899906842624",
        ),
        (
            ["--command-pids-max", "0"],
            "--command-pids-max must be between 1 and 4194304",
        ),
        (
            ["--command-cpu-max", "0"],
            "--command-cpu-max must be between 1 and 100000",
        ),
        (
            ["--command-cgroup", "/groups"],
            "--command-cgroup requires --command-memory-max, --command-pids-max or --command-cpu-max",
        ),
    ] {
        assert_eq!(problems(&arguments, &[]), [problem]);
    }
}

#[test]
fn retention_of_output_has_ranges() {
    let output = |arguments: &[&str]| resolve(arguments, &[]).unwrap().output;
    assert_eq!(output(&[]), OutputSettings::default());
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().to_str().unwrap();
    let all = [
        "--output-retention-bytes",
        "33554432",
        "--output-retention-secs",
        "3600",
        "--output-disk-bytes",
        "1048576",
        "--output-directory",
        path,
    ];
    let expected = OutputSettings {
        bytes: Some(32 << 20),
        retention: Some(Duration::from_secs(3600)),
        disk_bytes: Some(1 << 20),
        directory: Some(directory.path().to_owned()),
    };
    assert_eq!(output(&all), expected);
    let wrong = [
        "--output-retention-bytes",
        "33554433",
        "--output-retention-secs",
        "79",
        "--output-disk-bytes",
        "0",
        "--output-directory",
        "/nonexistent",
    ];
    assert_eq!(
        problems(&wrong, &[]),
        [
            "--output-retention-bytes must be between 1048576 and 33554432",
            "--output-retention-secs must be between 80 and 2592000",
            "--output-disk-bytes must be between 1048576 and 1099511627776",
            "--output-directory is no directory",
        ]
    );
    let file = directory.path().join("config.toml");
    std::fs::write(
        &file,
        "output_retention_bytes = 2000000\noutput_directory = '.'\n",
    )
    .unwrap();
    let from_file = output(&["--config", file.to_str().unwrap()]);
    assert_eq!(from_file.bytes, Some(2_000_000));
    assert_eq!(from_file.directory, Some(directory.path().join(".")));
}

#[test]
fn every_setting_is_taken_from_all_sources() {
    let nothing = |_: &str| None;
    let mut layers = Layers::open(&PROGRAM, &nothing, None, None);
    schema::merge(&mut Options::default(), &mut layers);
    assert_eq!(layers.forgotten(), [""; 0]);
    assert_eq!(layers.take_problems(), [""; 0]);
}

#[test]
fn the_most_specific_source_of_a_credential_decides() {
    let mut file = tempfile::NamedTempFile::new().unwrap();
    writeln!(
        file,
        "token_file = '/file'\nremote = 'https://r'\nenvironment_id = 'e'"
    )
    .unwrap();
    let path = file.path().to_str().unwrap();
    let in_file = CredentialChoice::TokenFile("/file".into());
    let in_variable = CredentialChoice::TokenFile("/variable".into());
    let rotating = ("EXEC_SERVER_EXECUTOR_CREDENTIAL_STDIN", "true");
    for (arguments, variables, expected) in [
        (&[][..], &[][..], in_file),
        (&[], &[("EXEC_SERVER_TOKEN_FILE", "/variable")], in_variable),
        (
            &[],
            &[("EXEC_SERVER_TOKEN_FILE", "/variable"), TOKEN],
            CredentialChoice::Environment,
        ),
        (&[], &[rotating, TOKEN], CredentialChoice::Rotating),
        (
            &["--registration-bearer-stdin"],
            &[rotating],
            CredentialChoice::Stdin,
        ),
        (
            &["--token-file", "/flag"],
            &[rotating, TOKEN],
            CredentialChoice::TokenFile("/flag".into()),
        ),
    ] {
        let arguments = [&["--config", path][..], arguments].concat();
        let settings = resolve(&arguments, variables).unwrap();
        assert_eq!(remote_of(settings).credential, expected, "{arguments:?}");
    }
}

#[test]
fn standard_input_is_for_one_thing() {
    let remote = ["--remote", "https://r", "--environment-id", "e"];
    let both = [
        ("EXEC_SERVER_EXECUTOR_CREDENTIAL_STDIN", "true"),
        ("EXEC_SERVER_REGISTRATION_BEARER_STDIN", "true"),
    ];
    assert!(problems(&remote, &both)[0].starts_with("standard input can hold one credential"));
    let closing = [both[0], (EXIT_ON_STDIN_CLOSE, "true")];
    assert!(problems(&remote, &closing)[0].starts_with("--exit-on-stdin-close would read"));
}

#[test]
fn the_report_says_where_settings_are_from_and_shows_no_secret() {
    let lookup =
        |name: &str| (name == "EXEC_SERVER_WS_TOKEN_SHA256").then(|| "5ec3e7".repeat(10) + "aaaa");
    let arguments = [
        "--listen",
        "ws://127.0.0.1:7",
        "--ws-auth",
        "capability-token",
    ];
    let (settings, report) = load(cli(&arguments), &lookup, true);
    assert!(settings.is_ok());
    for line in [
        "listen = \"ws://127.0.0.1:7\" # flag --listen\n",
        "ws_auth = \"capability-token\" # flag --ws-auth\n",
        "# ws_token_sha256: set by variable EXEC_SERVER_WS_TOKEN_SHA256, not shown\n",
        "# Registry token: set by a variable, not shown\n",
        "# grace_period: 5s, by default\n",
    ] {
        assert!(report.contains(line), "{line} in {report}");
    }
    assert!(!report.contains("5ec3e7"), "{report}");
}

#[test]
fn forwarding_needs_a_destination_to_which_its_token_may_go() {
    let remote = [
        "--remote",
        "https://r",
        "--environment-id",
        "e",
        "--connect",
    ];
    let forward = |more: &[&str]| {
        let settings = resolve(&[&remote[..], more].concat(), &[TOKEN])?;
        Ok::<_, ConfigError>(remote_of(settings).forward.unwrap())
    };
    for (arguments, token_file) in [
        (&["ws://192.0.2.1:1/x"][..], None),
        (&["wss://host", "--connect-token-file", "t"], Some("t")),
        (
            &["ws://127.0.0.1:1", "--connect-token-file", "t"],
            Some("t"),
        ),
    ] {
        let settings = forward(arguments).unwrap();
        assert_eq!(settings.token_file.as_deref(), token_file.map(Path::new));
    }
    for (arguments, problem) in [
        (
            &["http://host"][..],
            "forward destination must be a ws:// or wss:// URL",
        ),
        (
            &["ws://192.0.2.1:1", "--connect-token-file", "t"],
            "--connect-token-file needs a wss:// destination, or one on loopback",
        ),
    ] {
        assert_eq!(forward(arguments).unwrap_err().0, [problem]);
    }
    let alone = Options {
        forward: true,
        ..cli(&remote[..4])
    };
    let found = Settings::resolve(alone, |_| None, true).unwrap_err().0;
    assert_eq!(found, ["forward needs a destination; give --connect URL"]);
    assert_eq!(
        problems(&["--connect", "ws://x"], &[]),
        ["--connect requires --remote"]
    );
}
