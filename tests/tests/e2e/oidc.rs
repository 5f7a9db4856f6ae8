//! Tokens of an identity provider, from the provider to the command that runs.

use std::path::Path;

use anyhow::Result;
use serde_json::{Value, json};
use testkit::{
    issuer::{Issuer, SigningKey},
    processes::{Agent, Cloud, DEADLINE, ENVIRONMENT, Execctl, Launch},
    workspace::Workspace,
};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
};

const AUDIENCE: &str = "exec-cloud.test";

/// A registry that takes tokens of `issuer`.
async fn cloud(issuer: &Issuer, data: &Path) -> Result<Cloud> {
    let rules = "groups=machines -> executor:{machine}, groups=people -> harness:b*";
    let variables = [
        ("EXEC_CLOUD_OIDC_ISSUER", issuer.url()),
        ("EXEC_CLOUD_OIDC_AUDIENCES", AUDIENCE),
        ("EXEC_CLOUD_OIDC_RULES", rules),
    ];
    Cloud::start_guarded_with(data, &variables).await
}

fn claims(issuer: &Issuer, subject: &str, group: &str) -> Result<Value> {
    let mut claims = issuer.claims(subject, AUDIENCE)?;
    claims["groups"] = json!(["others", group]);
    claims["machine"] = json!(ENVIRONMENT);
    Ok(claims)
}

/// An executor whose token is in `file`, where it can be replaced.
fn executor(cloud: &Cloud, workspace: &Workspace, file: &Path) -> Result<Launch> {
    let launch = Agent::launch(cloud.url(), "")?.current_dir(workspace.path());
    Ok(launch.arg("--token-file").arg(file))
}

async fn is_ready(cloud: &Cloud) -> Result<bool> {
    let mut stream = TcpStream::connect(("127.0.0.1", cloud.port()?)).await?;
    let request = b"GET /readyz HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n";
    stream.write_all(request).await?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await?;
    Ok(answer.starts_with("HTTP/1.1 200 "))
}

#[tokio::test]
async fn tokens_of_an_identity_provider_register_and_connect() -> Result<()> {
    let (workspace, data) = (Workspace::new()?, tempfile::tempdir()?);
    let issuer = Issuer::start().await?;
    let (key, other) = (SigningKey::es256("one")?, SigningKey::es256("other")?);
    issuer.publish(&[&key])?;
    let cloud = cloud(&issuer, data.path()).await?;
    let machine = key.token(&claims(&issuer, "machine-7", "machines")?)?;
    let file = data.path().join("token");
    std::fs::write(&file, &machine)?;
    let executor = cloud.attach(executor(&cloud, &workspace, &file)?).await?;
    let run = async |token: &str| {
        let execctl = Execctl::new(&cloud).token(token);
        execctl.run(["run", "-n", "--", "printf", "done"]).await
    };
    let good = claims(&issuer, "alice", "people")?;
    let token = key.token(&good)?;
    let done = run(&token).await?;
    assert_eq!(
        (done.code(), &done.stdout[..]),
        (Some(0), &b"done"[..]),
        "{}",
        done.stderr
    );

    let changed = |claim: &str, value: Value| {
        let mut claims = good.clone();
        claims[claim] = value;
        claims
    };
    let long_ago = testkit::issuer::now()? - 3600;
    for (token, status, why) in [
        (
            key.token(&changed("aud", json!("elsewhere")))?,
            401,
            "another audience",
        ),
        (
            key.token(&changed("iss", json!("https://evil.test")))?,
            401,
            "another issuer",
        ),
        (
            key.token(&changed("exp", json!(long_ago)))?,
            401,
            "has expired",
        ),
        (
            key.confused_token(&good)?,
            401,
            "an algorithm that is not taken",
        ),
        (
            other.token(&good)?,
            401,
            "a key that the issuer does not publish",
        ),
        (
            key.token(&changed("groups", json!(["others"])))?,
            403,
            "no rule gives",
        ),
        (
            machine.clone(),
            403,
            "a token of role executor may not connect",
        ),
    ] {
        let refused = run(&token).await?;
        assert_eq!(refused.code(), Some(77), "{why}: {}", refused.stderr);
        let beginning = format!("execctl: the registry refused the token ({status}): ");
        assert!(refused.stderr.starts_with(&beginning), "{}", refused.stderr);
        assert!(refused.stderr.contains(why), "{why}: {}", refused.stderr);
    }

    // The keys are replaced: tokens of the new one are taken at once, those of the old one no more.
    issuer.publish(&[&other])?;
    let renewed_machine = other.token(&claims(&issuer, "machine-7", "machines")?)?;
    std::fs::write(&file, &renewed_machine)?;
    let renewed = other.token(&good)?;
    let done = run(&renewed).await?;
    assert_eq!(done.code(), Some(0), "{}", done.stderr);
    let refused = run(&token).await?;
    assert_eq!(refused.code(), Some(77), "{}", refused.stderr);
    // The server's own tokens work as before.
    let own = run(cloud.harness_token()).await?;
    assert_eq!(own.code(), Some(0), "{}", own.stderr);

    let log = Cloud::audit(data.path()).await?;
    for subject in ["machine-7", "alice"] {
        let actor = json!(format!("{} {subject}", issuer.url())).to_string();
        assert!(
            log.contains(&format!("\"actor\":{actor}")),
            "{actor} in {log}"
        );
    }
    for text in [&log, &cloud.child().stderr().text()] {
        for secret in [&machine, &renewed_machine, &token, &renewed] {
            let signature = secret
                .rsplit_once('.')
                .map_or("", |(_, signature)| signature);
            assert!(!text.contains(signature), "{text}");
        }
    }
    executor.never_panicked()?;
    cloud.child().never_panicked()
}

#[tokio::test]
async fn server_starts_without_its_identity_provider_and_refuses_its_tokens_until_it_is_there()
-> Result<()> {
    let (workspace, data) = (Workspace::new()?, tempfile::tempdir()?);
    let issuer = Issuer::start().await?;
    let key = SigningKey::eddsa("one")?;
    let cloud = cloud(&issuer, data.path()).await?;
    let warning = "identity provider keys not read, trying again";
    cloud.child().stderr().wait_for(warning, DEADLINE).await?;
    let execctl = Execctl::new(&cloud).token(&key.token(&claims(&issuer, "alice", "people")?)?);
    let launch = execctl.launch()?.args(["--connect-timeout-secs", "1"]);
    let refused = launch
        .args(["run", "-n", "--", "true"])
        .finish(b"", DEADLINE)
        .await?;
    assert_eq!(refused.code(), Some(69), "{}", refused.stderr);
    let why = "the keys of the identity provider are not there";
    assert!(refused.stderr.contains(why), "{}", refused.stderr);

    assert!(is_ready(&cloud).await?);
    issuer.publish(&[&key])?;
    cloud
        .child()
        .stderr()
        .wait_for("identity provider keys in use", DEADLINE)
        .await?;
    let machine = key.token(&claims(&issuer, "machine-7", "machines")?)?;
    let file = data.path().join("token");
    std::fs::write(&file, &machine)?;
    let executor = cloud.attach(executor(&cloud, &workspace, &file)?).await?;
    let done = execctl.run(["run", "-n", "--", "true"]).await?;
    assert_eq!(done.code(), Some(0), "{}", done.stderr);
    executor.never_panicked()?;
    cloud.child().never_panicked()
}
