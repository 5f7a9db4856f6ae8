//! The programs with the arguments and variables of the manifests and the compose file.

use anyhow::{Context as _, Result, ensure};
use rustix::process::Signal;
use serde_json::Value;
use testkit::processes::{Binary, DEADLINE, Launch};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
};

use super::{container, list, objects, repository, workloads, yaml};

/// How a container is started.
#[derive(Debug)]
struct Start {
    image: String,
    arguments: Vec<String>,
    variables: Vec<(String, String)>,
    /// Path that says whether it is ready, and what is run before it is stopped.
    readiness: Option<String>,
    before_stop: Vec<String>,
    /// Seconds until it is killed.
    patience: u64,
}

/// All containers of the manifests and of the compose file.
fn starts() -> Result<Vec<Start>> {
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let texts = |value: &Value| list(value).iter().map(text).collect::<Vec<_>>();
    let mut starts = Vec::new();
    for workload in workloads(&objects()?) {
        let (container, pod) = (container(workload)?, &workload["spec"]["template"]["spec"]);
        let variables = list(&container["env"]).iter().map(|variable| {
            // What is not written down is the name of the pod.
            let value = variable["value"].as_str().unwrap_or("exec-server-pool-0");
            (text(&variable["name"]), value.to_owned())
        });
        starts.push(Start {
            image: text(&container["image"]),
            arguments: texts(&container["args"]),
            variables: variables.collect(),
            readiness: container["readinessProbe"]["httpGet"]["path"]
                .as_str()
                .map(str::to_owned),
            before_stop: texts(&container["lifecycle"]["preStop"]["exec"]["command"]),
            patience: pod["terminationGracePeriodSeconds"]
                .as_u64()
                .context("no grace period")?,
        });
    }
    let compose = yaml(&repository("deploy/compose/compose.yaml"))?;
    for service in compose[0]["services"]
        .as_object()
        .context("no services")?
        .values()
    {
        let variables = service["environment"].as_object().into_iter().flatten();
        let patience = text(&service["stop_grace_period"]);
        starts.push(Start {
            image: text(&service["image"]),
            arguments: texts(&service["command"]),
            variables: variables
                .map(|(name, value)| (name.clone(), text(value)))
                .collect(),
            readiness: None,
            before_stop: Vec::new(),
            patience: patience
                .trim_end_matches('s')
                .parse()
                .context("stop_grace_period")?,
        });
    }
    Ok(starts)
}

#[tokio::test]
async fn executors_take_their_settings_and_have_time_to_end() -> Result<()> {
    let starts = starts()?;
    let executors: Vec<_> = starts
        .iter()
        .filter(|start| start.image == "exec-server")
        .collect();
    assert_eq!(executors.len(), 3);
    for start in executors {
        let mut launch = Launch::new(Binary::ExecServer)?.args(&start.arguments);
        let mut grace = 5;
        for (name, value) in &start.variables {
            ensure!(!value.is_empty(), "{name} is empty");
            if name == "EXEC_SERVER_GRACE_PERIOD" {
                grace = value.trim_end_matches('s').parse()?;
            }
            launch = launch.env(name, value);
        }
        let checked = launch.arg("--check-config").finish(b"", DEADLINE).await?;
        ensure!(checked.status.success(), "{start:?}: {}", checked.stderr);
        let tokens = start
            .arguments
            .iter()
            .filter(|a| a.starts_with("--token-file="));
        assert_eq!(tokens.count(), 1, "{start:?}");
        ensure!(start.patience >= grace + 12, "{start:?}");
    }
    Ok(())
}

/// With certificates in another place and other ports, but else as it says there.
#[tokio::test]
async fn clouds_serve_answer_their_probe_and_drain() -> Result<()> {
    let starts = starts()?;
    let clouds: Vec<_> = starts
        .iter()
        .filter(|start| start.image == "exec-cloud")
        .collect();
    assert_eq!(clouds.len(), 2);
    let certificate = rcgen::generate_simple_self_signed(["exec-cloud".to_owned()])?;
    for start in clouds {
        let data = tempfile::tempdir()?;
        let (chain, key) = (data.path().join("tls.crt"), data.path().join("tls.key"));
        std::fs::write(&chain, certificate.cert.pem())?;
        std::fs::write(&key, certificate.signing_key.serialize_pem())?;
        let variables = start.variables.iter().map(|(name, value)| {
            let replaced = match (name.as_str(), value.as_str()) {
                ("EXEC_CLOUD_DATA_DIR", _) => data.path().display().to_string(),
                ("EXEC_CLOUD_LISTEN", "0.0.0.0:7700") => "127.0.0.1:0".to_owned(),
                ("EXEC_CLOUD_ADMIN_LISTEN", "0.0.0.0:9090") => "0.0.0.0:0".to_owned(),
                (_, "/run/tls/tls.crt" | "/run/secrets/tls.crt") => chain.display().to_string(),
                (_, "/run/tls/tls.key" | "/run/secrets/tls.key") => key.display().to_string(),
                (_, value) => value.to_owned(),
            };
            (name.clone(), replaced)
        });
        let mut variables: Vec<_> = variables.collect();
        if !variables
            .iter()
            .any(|(name, _)| name == "EXEC_CLOUD_DATA_DIR")
        {
            // The image has it.
            let data = data.path().display().to_string();
            variables.push(("EXEC_CLOUD_DATA_DIR".to_owned(), data));
        }
        let launch = |arguments: &[String]| -> Result<Launch> {
            let launch = Launch::new(Binary::ExecCloud)?.args(arguments);
            let add = |launch: Launch, (name, value): &(String, String)| launch.env(name, value);
            Ok(variables.iter().fold(launch, add))
        };
        let mut cloud = launch(&start.arguments)?.spawn()?;
        cloud
            .stdout()
            .wait_for("listening on https://", DEADLINE)
            .await?;
        if let Some(path) = &start.readiness {
            let line = cloud.stderr().wait_for("admin", DEADLINE).await?;
            let port = line.rsplit(':').next().unwrap_or_default();
            let port: String = port.chars().take_while(char::is_ascii_digit).collect();
            assert_eq!(status(port.parse().context(line)?, path).await?, 200);
        }
        if let [_, arguments @ ..] = &start.before_stop[..] {
            let stopping = launch(arguments)?.finish(b"", DEADLINE).await?;
            ensure!(stopping.status.success(), "{}", stopping.stderr);
        }
        cloud.signal(Signal::TERM)?;
        assert!(
            cloud.ended(DEADLINE).await?.success(),
            "{}",
            cloud.stderr().text()
        );
    }
    Ok(())
}

/// Asks as the kubelet does: by the address of the pod.
async fn status(port: u16, path: &str) -> Result<u16> {
    let mut stream = TcpStream::connect(("127.0.0.1", port)).await?;
    let request =
        format!("GET {path} HTTP/1.1\r\nHost: 10.1.2.3:{port}\r\nConnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).await?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await?;
    let status = answer.split_whitespace().nth(1).context("no answer")?;
    Ok(status.parse()?)
}
