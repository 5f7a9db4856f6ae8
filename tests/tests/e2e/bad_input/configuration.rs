//! Configurations that cannot be used: one line for each problem, exit code 64, and nothing starts.

use anyhow::Result;
use testkit::processes::{Binary, DEADLINE, Launch};

/// Runs `binary` with a configuration file of `content`.
async fn with_file(binary: Binary, content: &str, more: &[&str]) -> Result<(Option<i32>, String)> {
    let directory = tempfile::tempdir()?;
    let file = directory.path().join("config.toml");
    std::fs::write(&file, content)?;
    let launch = Launch::new(binary)?.arg("--config").arg(&file).args(more);
    let finished = launch.finish(b"", DEADLINE).await?;
    assert_eq!(finished.stdout, b"", "nothing has started");
    assert!(!finished.stderr.contains("panicked"), "{}", finished.stderr);
    Ok((
        finished.code(),
        finished.stderr.replace(&file.display().to_string(), "FILE"),
    ))
}

#[tokio::test]
async fn executor_configuration_that_does_not_parse() -> Result<()> {
    let (code, stderr) = with_file(Binary::ExecServer, "remote = 'SECRET", &[]).await?;
    let line = "error: configuration file is not valid TOML, line 1: invalid literal string, expected `'`\n";
    assert_eq!((code, stderr.as_str()), (Some(64), line));
    Ok(())
}

#[tokio::test]
async fn executor_configuration_with_unknown_keys() -> Result<()> {
    let content = "enviroment_id = 'e'\nzebra = 1\n";
    let (code, stderr) = with_file(Binary::ExecServer, content, &[]).await?;
    let lines: Vec<_> = stderr.lines().collect();
    let misspelt =
        "error: unknown configuration key `enviroment_id`; did you mean `environment_id`?";
    assert_eq!(lines.len(), 2, "{stderr}");
    assert_eq!(lines[0], misspelt);
    assert!(lines[1].starts_with("error: unknown configuration key `zebra`; known keys are "));
    assert_eq!(code, Some(64));
    Ok(())
}

#[tokio::test]
async fn execctl_configuration_that_does_not_parse() -> Result<()> {
    let (code, stderr) = with_file(Binary::Execctl, "registry = 'SECRET", &["info"]).await?;
    let line = "execctl: configuration file is not valid TOML, line 1: invalid literal string, \
        expected `'`; \
        no registry given: use --registry, EXECCTL_REGISTRY or the configuration file \
        (or --url for an executor that listens); \
        no environment given: use --environment, EXECCTL_ENVIRONMENT or the configuration file\n";
    assert_eq!((code, stderr.as_str()), (Some(64), line));
    Ok(())
}

#[tokio::test]
async fn cloud_options_that_make_no_sense() -> Result<()> {
    for (args, line) in [
        (
            &["serve", "--listen", "nowhere"][..],
            "invalid value 'nowhere' for '--listen <IP:PORT>': invalid socket address syntax; \
             see `exec-cloud --help`",
        ),
        (
            &["serve", "--dev", "--listen", "0.0.0.0:0"],
            "--dev takes any token and cannot listen on 0.0.0.0:0; \
             listen on a loopback address such as 127.0.0.1:7700, or leave --dev out",
        ),
        (
            &["serve", "--dev", "--public-url", "ftp://x"],
            "--public-url cannot be used: its scheme is neither http nor https; \
             give a base URL such as https://exec.example.com",
        ),
        (
            &["frobnicate"],
            "unrecognized subcommand 'frobnicate'; see `exec-cloud --help`",
        ),
    ] {
        let finished = Launch::new(Binary::ExecCloud)?
            .args(args)
            .finish(b"", DEADLINE)
            .await?;
        assert_eq!(finished.stderr, format!("error: {line}\n"));
        assert_eq!(finished.code(), Some(64));
        assert_eq!(finished.stdout, b"", "nothing has started");
    }
    Ok(())
}
