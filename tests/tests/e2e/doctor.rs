//! `doctor` on a good system and with one fault at a time.

use std::collections::BTreeMap;

use anyhow::{Context as _, Result};
use serde_json::Value;
use testkit::{
    processes::{Agent, Binary, Cloud, DEADLINE, ENVIRONMENT, Execctl, Finished, Launch, Listener},
    workspace::Workspace,
};

use crate::secure_cloud::SecureCloud;

/// Verdict and detail of each check.
fn findings(finished: &Finished) -> Result<BTreeMap<String, (String, String)>> {
    let text = String::from_utf8(finished.stdout.clone())?;
    let mut findings = BTreeMap::new();
    for line in text.lines() {
        let line: Value = serde_json::from_str(line).context(text.clone())?;
        let member = |name: &str| line[name].as_str().unwrap_or_default().to_owned();
        let verdict = member("verdict");
        // Each line says pass, or what to do.
        let has_fix = line["fix"].is_string();
        assert_eq!(
            has_fix,
            ["warn", "fail"].contains(&verdict.as_str()),
            "{line}"
        );
        findings.insert(member("check"), (verdict, member("detail")));
    }
    Ok(findings)
}

fn verdicts(finished: &Finished, checks: &[(&str, &str)]) -> Result<()> {
    let found = findings(finished)?;
    for (check, verdict) in checks {
        let shown = found.get(*check).map(|found| found.0.as_str());
        assert_eq!(shown, Some(*verdict), "{check}: {found:#?}");
    }
    Ok(())
}

fn executor(registry: &str, token: &str) -> Result<Launch> {
    Ok(Launch::new(Binary::ExecServer)?
        .env("EXEC_SERVER_TOKEN", token)
        .args(["doctor", "--json", "--remote", registry])
        .args(["--environment-id", ENVIRONMENT]))
}

#[tokio::test]
async fn everything_passes_where_everything_works() -> Result<()> {
    let (workspace, data) = (Workspace::new()?, tempfile::tempdir()?);
    let cloud = Cloud::start_guarded(data.path()).await?;
    let launch = executor(cloud.url(), cloud.executor_token())?.arg("--register");
    let finished = launch.finish(b"", DEADLINE).await?;
    let way = [
        ("configuration", "pass"),
        ("proxy", "pass"),
        ("dns", "pass"),
        ("credential", "pass"),
        ("registry", "pass"),
        ("clock", "pass"),
        ("authentication", "pass"),
        ("rendezvous", "pass"),
    ];
    verdicts(&finished, &way)?;
    verdicts(&finished, &[("output", "pass"), ("terminals", "pass")])?;
    assert!(!String::from_utf8(finished.stdout)?.contains(cloud.executor_token()));

    let agent = Agent::start(&cloud, &workspace, &[]).await?;
    let finished = Execctl::new(&cloud).run(["--json", "doctor"]).await?;
    verdicts(&finished, &way)?;
    verdicts(&finished, &[("executor", "pass")])?;
    assert_eq!(finished.code(), Some(0), "{finished:?}");
    assert!(!String::from_utf8(finished.stdout)?.contains(cloud.harness_token()));
    // The executor was left alone.
    let text = Execctl::new(&cloud).run(["doctor"]).await?;
    assert!(text.stdout.starts_with(b"pass  configuration"), "{text:?}");
    agent.never_panicked()
}

#[tokio::test]
async fn what_the_registry_says_of_a_token_is_told() -> Result<()> {
    let data = tempfile::tempdir()?;
    let cloud = Cloud::start_guarded(data.path()).await?;
    let narrow = ["--role", "executor", "--environment", "elsewhere"];
    let elsewhere = Cloud::create_token(data.path(), &narrow).await?;
    for token in ["invented", cloud.harness_token(), &elsewhere] {
        let finished = executor(cloud.url(), token)?.finish(b"", DEADLINE).await?;
        let expected = [("authentication", "fail"), ("rendezvous", "skip")];
        verdicts(&finished, &expected)?;
        assert_eq!(finished.code(), Some(1));
    }
    let execctl = Execctl::new(&cloud);
    for (token, check) in [
        ("invented", "authentication"),
        (cloud.executor_token(), "authentication"),
        (cloud.harness_token(), "environment"),
    ] {
        let finished = execctl
            .clone()
            .token(token)
            .run(["--json", "doctor"])
            .await?;
        verdicts(&finished, &[(check, "fail"), ("executor", "skip")])?;
        assert_eq!(finished.code(), Some(1));
    }
    Ok(())
}

#[tokio::test]
async fn each_fault_on_the_way_has_its_line() -> Result<()> {
    let secure = SecureCloud::start().await?;
    let (directory, port) = (&secure.directory, &secure.port);
    let good = format!("https://localhost:{port}");
    let plain = format!("http://localhost:{port}");
    // Too long for a name, so that nobody is asked.
    let nameless = format!("https://{}", "x".repeat(70));
    let missing = directory.path().join("none").display().to_string();
    let ca = secure.certificate().display().to_string();
    for (registry, arguments, variables, check, verdict) in [
        (
            good.as_str(),
            &["--ca-file", ca.as_str()][..],
            &[][..],
            "authentication",
            "pass",
        ),
        (&good, &[], &[], "certificate", "fail"),
        (&good, &["--ca-file", &missing], &[], "authorities", "fail"),
        (&plain, &[], &[], "registry", "fail"),
        ("http://127.0.0.1:1", &[], &[], "registry", "fail"),
        (&nameless, &[], &[], "dns", "fail"),
        (
            &good,
            &[],
            &[("HTTPS_PROXY", "gopher://x")],
            "proxy",
            "fail",
        ),
        (
            &good,
            &[],
            &[("HTTPS_PROXY", "http://127.0.0.1:1")],
            "registry",
            "fail",
        ),
    ] {
        let mut launch = executor(registry, "any")?.args(arguments);
        for (name, value) in variables {
            launch = launch.env(name, value);
        }
        let finished = launch.finish(b"", DEADLINE).await?;
        verdicts(&finished, &[(check, verdict)])?;
        let mut launch = Launch::new(Binary::Execctl)?
            .env("EXECCTL_TOKEN", "any")
            .args([
                "--registry",
                registry,
                "--environment",
                "e",
                "--json",
                "doctor",
            ])
            .args(arguments);
        for (name, value) in variables {
            launch = launch.env(name, value);
        }
        let finished = launch.finish(b"", DEADLINE).await?;
        let check = match check {
            // Nobody has registered there.
            "authentication" => ("environment", "fail"),
            check => (check, verdict),
        };
        verdicts(&finished, &[check])?;
        assert_eq!(finished.code(), Some(1));
    }
    Ok(())
}

#[tokio::test]
async fn without_a_token_the_rest_of_the_way_is_told() -> Result<()> {
    let cloud = Cloud::start().await?;
    let blank = tempfile::NamedTempFile::new()?;
    let expected = [
        ("credential", "fail"),
        ("registry", "pass"),
        ("clock", "pass"),
        ("rendezvous", "skip"),
    ];
    for (binary, registry, environment) in [
        (Binary::ExecServer, "--remote", "--environment-id"),
        (Binary::Execctl, "--registry", "--environment"),
    ] {
        let finished = Launch::new(binary)?
            .args(["doctor", "--json", registry, cloud.url()])
            .args([environment, ENVIRONMENT, "--token-file"])
            .arg(blank.path())
            .finish(b"", DEADLINE)
            .await?;
        verdicts(&finished, &expected)?;
        assert_eq!(finished.code(), Some(1), "{finished:?}");
    }
    Ok(())
}

#[tokio::test]
async fn the_destination_of_a_forwarder_is_looked_at() -> Result<()> {
    let workspace = Workspace::new()?;
    let cloud = Cloud::start().await?;
    let (listener, url) = Listener::start(&workspace, &[]).await?;
    let doctor = || Ok::<_, anyhow::Error>(executor(cloud.url(), "any")?.args(["--connect", &url]));
    let finished = doctor()?.finish(b"", DEADLINE).await?;
    verdicts(&finished, &[("destination", "pass")])?;
    drop(listener);
    let finished = doctor()?.finish(b"", DEADLINE).await?;
    verdicts(&finished, &[("destination", "fail")])?;
    assert_eq!(finished.code(), Some(1), "{finished:?}");
    Ok(())
}

#[tokio::test]
async fn a_wrong_configuration_is_told_with_the_rest() -> Result<()> {
    let launch = Launch::new(Binary::ExecServer)?.args(["doctor", "--json", "--cloud"]);
    let finished = launch.finish(b"", DEADLINE).await?;
    verdicts(
        &finished,
        &[("configuration", "fail"), ("terminals", "pass")],
    )?;
    assert_eq!(finished.code(), Some(64));
    let finished = Launch::new(Binary::Execctl)?
        .args(["--json", "doctor"])
        .finish(b"", DEADLINE)
        .await?;
    verdicts(&finished, &[("configuration", "fail")])?;
    assert_eq!(finished.code(), Some(64));
    Ok(())
}

#[tokio::test]
async fn a_listener_is_looked_at_from_both_sides() -> Result<()> {
    let workspace = Workspace::new()?;
    let (listener, url) = Listener::start(&workspace, &[]).await?;
    let taken = Launch::new(Binary::ExecServer)?.args(["doctor", "--json", "--listen", &url]);
    verdicts(&taken.finish(b"", DEADLINE).await?, &[("listener", "fail")])?;
    let direct = || Ok::<_, anyhow::Error>(Launch::new(Binary::Execctl)?.args(["--url", &url]));
    let finished = direct()?
        .args(["--json", "doctor"])
        .finish(b"", DEADLINE)
        .await?;
    verdicts(&finished, &[("listener", "pass"), ("executor", "pass")])?;
    assert_eq!(finished.code(), Some(0), "{finished:?}");
    listener.never_panicked()?;
    drop(listener);
    let finished = direct()?
        .args(["--json", "doctor"])
        .finish(b"", DEADLINE)
        .await?;
    verdicts(&finished, &[("listener", "fail"), ("executor", "skip")])?;
    assert_eq!(finished.code(), Some(1));
    Ok(())
}
