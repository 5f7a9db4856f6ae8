//! What the programs say about themselves holds nothing of what they are trusted with.
//!
//! One run that does a bit of everything, with a marker in whatever a client hands over, and at the
//! finest level of the log; the registry is listened to, so that what it issued is known as well.

use std::collections::BTreeMap;

use anyhow::{Context as _, Result, ensure};
use serde_json::Value;
use testkit::{
    admin::Admin,
    processes::{Agent, Binary, Child, Cloud, DEADLINE, Execctl, Finished, Launch},
    until,
    web::EchoServer,
    wiretap::Wiretap,
    workspace::Workspace,
};

/// In all arguments, paths, variables, contents, URLs and headers of the run.
const MARKER: &str = "xmarkerx";

/// Everything that was said, by who said it.
type Said = BTreeMap<&'static str, String>;

struct Scene {
    cloud: Cloud,
    executor: Child,
    workspace: Workspace,
    data: tempfile::TempDir,
    wiretap: Wiretap,
    execctl: Execctl,
    patience: String,
    said: Said,
}

impl Scene {
    async fn start(format: &str) -> Result<Self> {
        let (workspace, data) = (Workspace::new()?, tempfile::tempdir()?);
        let mut wiretap = Wiretap::start().await?;
        let public = wiretap.url().to_owned();
        let talkative = [
            ("RUST_LOG", "trace"),
            ("EXEC_CLOUD_LOG_FORMAT", format),
            ("EXEC_SERVER_LOG_FORMAT", format),
            ("EXEC_CLOUD_ADMIN_LISTEN", "0"),
            ("EXEC_SERVER_ADMIN_LISTEN", "0"),
            ("EXEC_CLOUD_PUBLIC_URL", &public),
        ];
        let cloud = Cloud::start_guarded_with(data.path(), &talkative).await?;
        wiretap.lead_to(cloud.port()?)?;
        let launch = Agent::launch(wiretap.url(), cloud.executor_token())?;
        let launch = talkative
            .iter()
            .fold(launch, |launch, (name, value)| launch.env(name, value));
        let executor = launch.current_dir(workspace.path()).spawn()?;
        executor
            .stderr()
            .wait_for("connected, online", DEADLINE)
            .await?;
        let execctl = Execctl::new(&cloud).registry(wiretap.url());
        Ok(Self {
            cloud,
            executor,
            workspace,
            data,
            wiretap,
            execctl,
            patience: "40".to_owned(),
            said: Said::new(),
        })
    }

    /// Runs `execctl` and keeps its log.
    async fn run(&mut self, arguments: &[&str], input: &[u8]) -> Result<Finished> {
        let launch = self.execctl.launch()?.env("EXECCTL_LOG", "trace");
        // Only for the end, when there is nobody to connect to.
        let launch = launch.env("EXECCTL_CONNECT_TIMEOUT_SECS", &self.patience);
        let finished = launch.args(arguments).finish(input, DEADLINE).await?;
        let log = self.said.entry("execctl").or_default();
        log.push_str(&finished.stderr);
        Ok(finished)
    }

    /// What works.
    async fn use_it(&mut self) -> Result<()> {
        let server = EchoServer::start().await?;
        let directory = self.workspace.path().join(format!("{MARKER}-directory"));
        std::fs::create_dir(&directory)?;
        let directory = directory.to_str().context("a directory")?.to_owned();
        let file = format!("{directory}/{MARKER}-file");
        let variable = format!("MARKED={MARKER}-value");
        let script = format!("cat > {file}; echo {MARKER}-output; echo {MARKER}-error >&2");
        let url = format!("{}/{MARKER}-path?query={MARKER}-query", server.url());
        let header = format!("x-test: {MARKER}-header");
        let body = format!("{MARKER}-body");
        let remote = format!(":{file}");
        let input = format!("{MARKER}-input");
        let moved = format!("{file}-moved");
        let deeper = format!("{directory}/{MARKER}/deeper");
        let works: &[&[&str]] = &[
            &[
                "run", "-w", &directory, "-e", &variable, "--", "sh", "-c", &script,
            ],
            &["run", "-t", "--no-stdin", "--", "echo", MARKER],
            &["cat", &file],
            &["ls", &directory],
            &["stat", &file],
            &["mkdir", "-p", &deeper],
            &["cp", &remote, &format!("{file}-copy")],
            &["cp", &format!("{file}-copy"), &format!(":{moved}")],
            &["http", "-H", &header, "-d", &body, &url],
            &["info"],
            &["rm", &file],
        ];
        for arguments in works {
            let finished = self.run(arguments, input.as_bytes()).await?;
            ensure!(
                finished.status.success(),
                "{arguments:?}: {}",
                finished.stderr
            );
        }
        Ok(())
    }

    /// What does not: errors know most, and want to tell.
    async fn misuse_it(&mut self) -> Result<()> {
        let missing = format!("/{MARKER}-missing/file");
        let nobody = format!("http://127.0.0.1:1/{MARKER}?query={MARKER}-query");
        let server = EchoServer::start().await?;
        let plain = server.url().replace("http://", "https://");
        let no_tls = format!("{plain}/{MARKER}?query={MARKER}-query");
        let program = format!("{MARKER}-program");
        let working = format!("/{MARKER}-directory");
        let host = format!("{MARKER}.example");
        let copy = format!(":{missing}");
        let fails: &[&[&str]] = &[
            &["run", "--", &program, MARKER],
            &["run", "-w", &working, "--", "true"],
            &["run", "--allow-host", &host, "--", "false", MARKER],
            &["cat", &missing],
            &["ls", &missing],
            &["cp", &copy, "/dev/null"],
            &["rm", &missing],
            &["http", &nobody],
            &["http", &no_tls],
        ];
        for arguments in fails {
            let finished = self.run(arguments, b"").await?;
            ensure!(!finished.status.success(), "{arguments:?} works");
        }
        let token = format!("{MARKER}-token");
        let stranger = self.execctl.clone().token(&token);
        let refused = stranger.run(["info"]).await?;
        ensure!(!refused.status.success(), "an invented token");
        Ok(())
    }

    /// The end of the server, with all that its clients have to say about it.
    async fn outage(&mut self) -> Result<()> {
        for (who, child) in [
            ("exec-cloud", self.cloud.child()),
            ("exec-server", &self.executor),
        ] {
            let admin = Admin::of(child).await?;
            let shown = self.said.entry(who).or_default();
            for path in ["/metrics", "/status", "/readyz", "/livez"] {
                shown.push_str(&admin.get(path).await?);
            }
        }
        let seen = self.executor.stderr().position();
        self.cloud.child_mut().kill().await?;
        let lost = self.executor.stderr();
        lost.wait_from(seen, "next_try_secs", DEADLINE).await?;
        let admin = Admin::of(&self.executor).await?;
        let status = || admin.get("/status");
        until(async || {
            status()
                .await
                .is_ok_and(|status| status.contains("next_try_secs"))
        })
        .await?;
        let shown = status().await?;
        self.said.entry("exec-server").or_default().push_str(&shown);
        self.patience = "1".to_owned();
        let unreachable = self.run(&["run", "--", "echo", MARKER], b"").await?;
        ensure!(!unreachable.status.success(), "there is no server");
        self.executor.signal(rustix::process::Signal::TERM)?;
        self.executor.ended(DEADLINE).await?;
        for (who, child) in [
            ("exec-cloud", self.cloud.child()),
            ("exec-server", &self.executor),
        ] {
            let said = self.said.entry(who).or_default();
            said.push_str(&child.stderr().text());
        }
        Ok(())
    }

    /// What must be nowhere, with a word for each.
    fn secrets(&self) -> Result<Vec<(&'static str, String)>> {
        let mut secrets = vec![
            ("the harness's token", self.cloud.harness_token().to_owned()),
            (
                "the executor's token",
                self.cloud.executor_token().to_owned(),
            ),
        ];
        let heard = self.wiretap.text();
        for (name, member) in [
            ("an authorization", "\"harness_key_authorization\":\""),
            ("a signed URL", "\"url\":\""),
        ] {
            let found: Vec<_> = heard
                .split(member)
                .skip(1)
                .filter_map(|rest| rest.split('"').next())
                .collect();
            ensure!(!found.is_empty(), "{name} was not heard");
            for text in found {
                let Some((_, query)) = text.split_once('?') else {
                    secrets.push((name, text.to_owned()));
                    continue;
                };
                secrets.push(("a signed query", query.to_owned()));
                for (key, value) in query.split('&').filter_map(|pair| pair.split_once('=')) {
                    if ["sig", "nonce"].contains(&key) {
                        secrets.push(("a signature or nonce", value.to_owned()));
                    }
                }
            }
        }
        Ok(secrets)
    }
}

async fn nothing_is_told(format: &str) -> Result<()> {
    let mut scene = Scene::start(format).await?;
    // Fields are the same in each format, so that once is enough for what takes long.
    if format == "text" {
        scene.use_it().await?;
    }
    scene.misuse_it().await?;
    scene.outage().await?;
    let mut secrets = scene.secrets()?;
    ensure!(secrets.len() > 15, "{} secrets", secrets.len());
    secrets.push(("a marker", MARKER.to_owned()));
    for path in [scene.workspace.path(), scene.data.path()] {
        secrets.push(("a path", path.display().to_string()));
    }
    for (who, said) in &scene.said {
        ensure!(said.lines().count() > 10, "{who} was silent: {said}");
        for line in said.lines() {
            // What a client shows is its user's own, unlike its log, whose lines begin with the year.
            let own = *who == "execctl" && !line.starts_with("20");
            for (what, secret) in &secrets {
                let is_own = own && ["a marker", "a path"].contains(what);
                ensure!(
                    is_own || !line.contains(secret),
                    "{who} tells {what}: {line}"
                );
            }
        }
    }
    if format == "json" {
        for child in [scene.cloud.child(), &scene.executor] {
            for line in child.stderr().text().lines() {
                let event: Value = serde_json::from_str(line).context(line.to_owned())?;
                ensure!(
                    event["level"].is_string() && event["fields"].is_object(),
                    "{line}"
                );
            }
        }
    }
    scene.executor.never_panicked()
}

#[tokio::test]
async fn nothing_entrusted_is_in_logs_of_text_or_in_what_operators_see() -> Result<()> {
    nothing_is_told("text").await
}

#[tokio::test]
async fn nothing_entrusted_is_in_logs_of_json() -> Result<()> {
    nothing_is_told("json").await
}

#[tokio::test]
async fn a_format_that_is_none_is_refused() -> Result<()> {
    for (binary, arguments) in [
        (Binary::ExecServer, &["--log-format", "xml"][..]),
        (Binary::ExecCloud, &["serve", "--log-format", "xml"]),
    ] {
        let finished = Launch::new(binary)?
            .args(arguments)
            .finish(b"", DEADLINE)
            .await?;
        ensure!(!finished.status.success(), "{}", binary.name());
        ensure!(
            finished.stderr.contains("text, json"),
            "{}",
            finished.stderr
        );
    }
    Ok(())
}
