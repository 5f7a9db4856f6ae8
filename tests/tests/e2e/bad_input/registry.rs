//! Refusals and outages of the registry, as the people at both ends see them.

use anyhow::Result;
use rustix::process::Signal;
use serde_json::json;
use testkit::{
    faults::{self, TamperingRegistry},
    processes::{Agent, Cloud, CloudOptions, DEADLINE, ENVIRONMENT, Execctl, Finished},
    workspace::Workspace,
};

/// Asserts that `execctl` said one line and nothing else, and ended with `code`.
fn refused(finished: &Finished, code: i32, line: &str) {
    assert_eq!(finished.stderr, format!("execctl: {line}\n"));
    assert_eq!(finished.stdout, b"");
    assert_eq!(finished.code(), Some(code));
}

#[tokio::test]
async fn wrong_token_of_a_harness_is_refused() -> Result<()> {
    let (workspace, data) = (Workspace::new()?, tempfile::tempdir()?);
    let cloud = Cloud::start_guarded(data.path()).await?;
    let executor = Agent::start(&cloud, &workspace, &[]).await?;
    let execctl = Execctl::new(&cloud);
    let invented = execctl.clone().token("invented").run(["info"]).await?;
    let advice = format!("check that it is a harness token for {}", cloud.url());
    refused(
        &invented,
        77,
        &format!("the registry refused the token (401): the bearer token is not valid; {advice}"),
    );
    let other_role = execctl
        .clone()
        .token(cloud.executor_token())
        .run(["info"])
        .await?;
    refused(
        &other_role,
        77,
        &format!(
            "the registry refused the token (403): a token of role executor may not connect; {advice}"
        ),
    );
    let narrow = ["--role", "harness", "--environment", "elsewhere"];
    let elsewhere = Cloud::create_token(data.path(), &narrow).await?;
    let other_environment = execctl.clone().token(&elsewhere).run(["info"]).await?;
    refused(
        &other_environment,
        77,
        &format!(
            "the registry refused the token (403): the token is for another environment; {advice}"
        ),
    );
    assert_eq!(execctl.run(["run", "--", "true"]).await?.code(), Some(0));
    executor.never_panicked()?;
    cloud.child().never_panicked()
}

/// It says why, and it goes on trying: the token may be about to be made or replaced.
#[tokio::test]
async fn wrong_token_of_an_executor_is_reported_and_tried_again() -> Result<()> {
    let data = tempfile::tempdir()?;
    let cloud = Cloud::start_guarded(data.path()).await?;
    let token_file = data.path().join("token");
    std::fs::write(&token_file, "invented\n")?;
    let mut executor = Agent::launch(cloud.url(), "")?
        .arg("--token-file")
        .arg(&token_file)
        .spawn()?;
    let line = executor.stderr().wait_for("401", DEADLINE).await?;
    assert!(!line.contains("invented"), "{line}");
    executor.still_runs()?;
    let seen = cloud.events_so_far();
    std::fs::write(&token_file, cloud.executor_token())?;
    cloud.executor_online(seen).await?;
    executor.never_panicked()?;
    cloud.child().never_panicked()
}

#[tokio::test]
async fn unknown_environment_is_named() -> Result<()> {
    let cloud = Cloud::start().await?;
    let finished = Execctl::new(&cloud)
        .environment("nowhere")
        .run(["info"])
        .await?;
    let line = format!(
        "environment nowhere is not known to the registry at {}: \
         check --environment, or register an executor for it",
        cloud.url()
    );
    refused(&finished, 64, &line);
    cloud.child().never_panicked()
}

#[tokio::test]
async fn executor_that_is_offline_is_named() -> Result<()> {
    let workspace = Workspace::new()?;
    let cloud = Cloud::start().await?;
    let mut executor = Agent::start(&cloud, &workspace, &[]).await?;
    let seen = cloud.events_so_far();
    executor.signal(Signal::TERM)?;
    executor.ended(DEADLINE).await?;
    cloud
        .child()
        .stderr()
        .wait_from(seen, "socket closed", DEADLINE)
        .await?;

    let url = format!("{}/cloud/environment/{ENVIRONMENT}/connect", cloud.url());
    let body = json!({"harness_public_key": faults::well_formed_key()});
    let answer = faults::post(&url, cloud.harness_token(), &body).await?;
    assert_eq!(answer.status, 409, "{answer:?}");
    assert_eq!(
        answer.body["error"]["code"],
        json!("environment_offline"),
        "{answer:?}"
    );

    let args = ["--connect-timeout-secs", "0", "info"];
    let finished = Execctl::new(&cloud).run(args).await?;
    refused(
        &finished,
        69,
        "environment box is offline: its executor is not connected: start it, or see its log",
    );
    executor.never_panicked()?;
    cloud.child().never_panicked()
}

#[tokio::test]
async fn url_altered_on_the_way_is_refused() -> Result<()> {
    let workspace = Workspace::new()?;
    let cloud = Cloud::start().await?;
    let executor = Agent::start(&cloud, &workspace, &[]).await?;
    let registry = TamperingRegistry::start(cloud.url(), |bundle| {
        let altered = bundle["url"]
            .as_str()
            .map(|url| url.replacen("sig=", "sig=A", 1));
        bundle["url"] = json!(altered);
    })
    .await?;
    let args = ["--connect-timeout-secs", "1", "info"];
    let finished = Execctl::new(&cloud)
        .registry(registry.url())
        .run(args)
        .await?;
    let rendezvous = cloud.url().trim_start_matches("http://");
    let start = format!(
        "execctl: rendezvous at {rendezvous}: rendezvous rejected the websocket request with \
         status 401"
    );
    assert_eq!(finished.code(), Some(69), "{}", finished.stderr);
    assert!(finished.stderr.starts_with(&start), "{}", finished.stderr);
    assert_eq!(finished.stderr.lines().count(), 1, "{}", finished.stderr);
    executor.never_panicked()?;
    cloud.child().never_panicked()
}

/// The handshake proves who is at the other end, whatever registry and rendezvous say.
#[tokio::test]
async fn wrong_executor_key_ends_the_connection() -> Result<()> {
    let workspace = Workspace::new()?;
    let cloud = Cloud::start().await?;
    let executor = Agent::start(&cloud, &workspace, &[]).await?;
    let registry = TamperingRegistry::start(cloud.url(), |bundle| {
        let other = faults::well_formed_key();
        bundle["executor_public_key"]["x25519_public_key"] = other["x25519_public_key"].clone();
    })
    .await?;
    let args = ["--connect-timeout-secs", "1", "info"];
    let finished = Execctl::new(&cloud)
        .registry(registry.url())
        .run(args)
        .await?;
    let line = "environment box: the executor refused the connection, most likely because the \
        registry named a key that is not, or no longer, the executor's, or because the registry did \
        not confirm the authorization to it: try again, then see the executor's log";
    refused(&finished, 69, line);
    assert_eq!(
        Execctl::new(&cloud)
            .run(["run", "--", "true"])
            .await?
            .code(),
        Some(0)
    );
    executor.never_panicked()?;
    cloud.child().never_panicked()
}

#[tokio::test]
async fn registry_that_is_down_is_reported_by_execctl() -> Result<()> {
    let mut cloud = Cloud::start().await?;
    let execctl = Execctl::new(&cloud);
    cloud.child_mut().kill().await?;
    let finished = execctl.run(["--connect-timeout-secs", "0", "info"]).await?;
    // The middle is the HTTP library's and the system's.
    let start = format!(
        "execctl: registry at {}: environment registry request failed",
        cloud.url()
    );
    let end = "Connection refused (os error 111): check that it is running and reachable\n";
    assert!(finished.stderr.starts_with(&start), "{}", finished.stderr);
    assert!(finished.stderr.ends_with(end), "{}", finished.stderr);
    assert_eq!(finished.stderr.lines().count(), 1, "{}", finished.stderr);
    assert_eq!(finished.code(), Some(69));
    Ok(())
}

#[tokio::test]
async fn executor_outlives_a_registry_that_is_down_at_its_start() -> Result<()> {
    let data = tempfile::tempdir()?;
    let options = CloudOptions {
        data: Some(data.path().to_owned()),
        ..CloudOptions::default()
    };
    let mut cloud = Cloud::start_with(options.clone()).await?;
    let (url, port) = (cloud.url().to_owned(), cloud.port()?);
    cloud.child_mut().kill().await?;

    let mut executor = Agent::launch(&url, "any-token")?.spawn()?;
    executor
        .stderr()
        .wait_for("next_try_secs", DEADLINE)
        .await?;
    executor.still_runs()?;
    let cloud = Cloud::start_with(CloudOptions { port, ..options }).await?;
    cloud.executor_online(0).await?;
    let finished = Execctl::new(&cloud)
        .run(["run", "--", "echo", "back"])
        .await?;
    assert_eq!(finished.stdout, b"back\n", "{}", finished.stderr);
    executor.never_panicked()?;
    cloud.child().never_panicked()
}

#[tokio::test]
async fn executor_outlives_an_outage_of_the_registry() -> Result<()> {
    let (workspace, data) = (Workspace::new()?, tempfile::tempdir()?);
    let options = CloudOptions {
        data: Some(data.path().to_owned()),
        ..CloudOptions::default()
    };
    let mut cloud = Cloud::start_with(options.clone()).await?;
    let port = cloud.port()?;
    let mut executor = Agent::start(&cloud, &workspace, &[]).await?;
    cloud.child_mut().kill().await?;
    executor
        .stderr()
        .wait_for("next_try_secs", DEADLINE)
        .await?;
    executor.still_runs()?;
    let cloud = Cloud::start_with(CloudOptions { port, ..options }).await?;
    cloud.executor_online(0).await?;
    let finished = Execctl::new(&cloud)
        .run(["run", "--", "echo", "back"])
        .await?;
    assert_eq!(finished.stdout, b"back\n", "{}", finished.stderr);
    executor.never_panicked()?;
    cloud.child().never_panicked()
}
