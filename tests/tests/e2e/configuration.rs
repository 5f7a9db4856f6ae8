//! Flag over variable over file over default, and what shows it.

use anyhow::Result;
use testkit::processes::{Binary, DEADLINE, Finished, Launch};

async fn run(binary: Binary, args: &[&str], env: &[(&str, &str)]) -> Result<Finished> {
    let mut launch = Launch::new(binary)?.args(args);
    for (name, value) in env {
        launch = launch.env(name, value);
    }
    launch.finish(b"", DEADLINE).await
}

/// The settings alone, without their sources.
fn values(report: &str) -> Vec<&str> {
    let lines = report.lines().filter(|line| !line.starts_with('#'));
    lines
        .map(|line| line.rsplit_once(" # ").map_or(line, |(value, _)| value))
        .collect()
}

#[tokio::test]
async fn settings_in_force_are_shown_with_their_sources_and_make_a_file() -> Result<()> {
    let directory = tempfile::tempdir()?;
    let file = directory.path().join("config.toml");
    let path = file.display().to_string();
    for (binary, content, args, env, lines) in [
        (
            Binary::ExecServer,
            "remote = 'https://file'\nno_tcp = true\n",
            &["--grace-period", "1s", "--print-config"][..],
            &[
                ("EXEC_SERVER_ENVIRONMENT_ID", "of-variable"),
                ("EXEC_SERVER_TOKEN", "s3cr3t"),
            ][..],
            &[
                "remote = \"https://file\" # file",
                "environment_id = \"of-variable\" # variable EXEC_SERVER_ENVIRONMENT_ID",
                "no_tcp = true # file",
                "grace_period = \"1s\" # flag --grace-period",
                "# Registry token: set by a variable, not shown",
            ][..],
        ),
        (
            Binary::ExecCloud,
            "dev = true\nretry_after = '2s'\n",
            &["serve", "--print-config", "--drain-timeout", "3s"],
            &[("EXEC_CLOUD_LISTEN", "127.0.0.1:1")],
            &[
                "listen = \"127.0.0.1:1\" # variable EXEC_CLOUD_LISTEN",
                "dev = true # file",
                "drain_timeout = \"3s\" # flag --drain-timeout",
                "retry_after = \"2s\" # file",
            ],
        ),
        (
            Binary::Execctl,
            "environment = 'of-file'\n",
            &["--registry", "https://flag", "--print-config"],
            &[("EXECCTL_TOKEN", "s3cr3t")],
            &[
                "registry = \"https://flag\" # flag --registry",
                "environment = \"of-file\" # file",
            ],
        ),
    ] {
        std::fs::write(&file, content)?;
        let with_file = |args: &[&'static str]| {
            let mut all: Vec<String> = args.iter().map(|arg| (*arg).to_owned()).collect();
            all.extend(["--config".to_owned(), path.clone()]);
            all
        };
        let args = with_file(args);
        let args: Vec<&str> = args.iter().map(String::as_str).collect();
        let shown = run(binary, &args, env).await?;
        assert_eq!(shown.code(), Some(0), "{}", shown.stderr);
        let shown = String::from_utf8(shown.stdout)?;
        for line in lines {
            assert!(
                shown.lines().any(|shown| shown == *line),
                "{line} in {shown}"
            );
        }
        assert!(!shown.contains("s3cr3t"), "{shown}");
        // The output is a file that says the same.
        std::fs::write(&file, &shown)?;
        let command = match binary {
            Binary::ExecCloud => vec!["serve"],
            _ => vec![],
        };
        let args = [command, vec!["--print-config", "--config", &path]].concat();
        let again = run(binary, &args, env).await?;
        assert_eq!(again.code(), Some(0), "{}", again.stderr);
        let again = String::from_utf8(again.stdout)?;
        assert_eq!(values(&again), values(&shown));
    }
    Ok(())
}

#[tokio::test]
async fn configuration_is_checked_without_doing_anything() -> Result<()> {
    for (binary, good, bad, problems) in [
        (
            Binary::ExecServer,
            &["--check-config"][..],
            &["--check-config", "--cloud", "--keep-max-secs", "1"][..],
            &[
                "--keep-max-secs must be",
                "the registry URL is missing",
                "no registry credential",
            ][..],
        ),
        (
            Binary::ExecCloud,
            &["serve", "--dev", "--check-config"],
            &[
                "serve",
                "--check-config",
                "--listen",
                "0.0.0.0:1",
                "--tls-key",
                "/none",
            ],
            &[
                "--tls-cert and --tls-key go together",
                "plain HTTP on 0.0.0.0:1",
            ],
        ),
        (
            Binary::Execctl,
            &["--url", "ws://127.0.0.1:1", "--check-config"],
            &["--check-config"],
            &["no registry given", "no environment given"],
        ),
    ] {
        let checked = run(binary, good, &[]).await?;
        assert_eq!(checked.code(), Some(0), "{}", checked.stderr);
        assert_eq!(checked.stdout, b"");
        let checked = run(binary, bad, &[]).await?;
        assert_eq!(checked.code(), Some(64), "{}", checked.stderr);
        for problem in problems {
            assert!(
                checked.stderr.contains(problem),
                "{problem}: {}",
                checked.stderr
            );
        }
        assert_eq!(checked.stdout, b"");
    }
    Ok(())
}

#[tokio::test]
async fn completions_and_man_pages_come_from_the_programs() -> Result<()> {
    for (binary, flag) in [
        (Binary::ExecServer, "--executor-credential-stdin"),
        (Binary::ExecCloud, "--public-url"),
        (Binary::Execctl, "--connect-timeout-secs"),
    ] {
        for shell in ["bash", "zsh", "fish"] {
            let printed = run(binary, &["completions", shell], &[]).await?;
            let script = String::from_utf8(printed.stdout)?;
            let flag = if shell == "fish" { &flag[2..] } else { flag };
            assert!(script.contains(flag), "{shell}: {}", printed.stderr);
            if shell == "bash" {
                let mut bash = std::process::Command::new("bash");
                let checked = bash.args(["-n", "-c", &script]).output()?;
                assert!(checked.status.success(), "{checked:?}");
            }
        }
        let printed = run(binary, &["man"], &[]).await?;
        let page = String::from_utf8(printed.stdout)?;
        assert!(page.contains(&format!(".TH {}", binary.name())), "{page}");
    }
    Ok(())
}
