//! The dashboard and the alert rules: they ask for what the programs export, and what is exported stays
//! of a size that does not depend on what the programs are used for.

use std::collections::BTreeSet;

use anyhow::{Context as _, Result, ensure};
use serde_json::Value;
use testkit::{
    admin::{Admin, Metrics},
    processes::{Agent, Child, Cloud, CloudOptions, Execctl},
    until,
    workspace::Workspace,
};

use super::{list, repository, yaml};

/// Both programs at work, with their admin listeners.
struct Scene {
    cloud: Cloud,
    executor: Child,
    replacement: Option<Child>,
    workspace: Workspace,
    admins: [Admin; 2],
}

impl Scene {
    async fn start() -> Result<Self> {
        let arguments = ["--admin-listen", "0"].map(str::to_owned).to_vec();
        let options = CloudOptions {
            arguments,
            ..CloudOptions::default()
        };
        let cloud = Cloud::start_with(options).await?;
        let workspace = Workspace::new()?;
        let executor =
            Agent::start(&cloud, &workspace, &[("EXEC_SERVER_ADMIN_LISTEN", "0")]).await?;
        let admins = [Admin::of(cloud.child()).await?, Admin::of(&executor).await?];
        Ok(Self {
            cloud,
            executor,
            replacement: None,
            workspace,
            admins,
        })
    }

    /// A command that works, and a call that is refused; both are over when this returns.
    async fn use_it(&self) -> Result<()> {
        let closed = self.closed_harnesses().await?;
        let execctl = Execctl::new(&self.cloud);
        let run = execctl.run(["run", "-n", "--", "true"]).await?;
        ensure!(run.status.success(), "{}", run.stderr);
        let refused = execctl.environment("nobody").run(["info"]).await?;
        ensure!(
            !refused.status.success(),
            "an environment that is not there"
        );
        until(async || self.closed_harnesses().await.is_ok_and(|now| now > closed)).await
    }

    /// Another executor for the same environment, so that the first one is sent away and kept out.
    async fn replace_executor(&mut self) -> Result<()> {
        let replacement = Agent::start(&self.cloud, &self.workspace, &[]).await?;
        self.replacement = Some(replacement);
        // Families without a series are not told at all.
        let rare = [
            "server_rejected_upgrades_total",
            "agent_disconnections_total",
        ];
        until(async || {
            let metrics = self.metrics().await;
            metrics.is_ok_and(|metrics| rare.iter().all(|name| metrics.names.contains(*name)))
        })
        .await
    }

    async fn closed_harnesses(&self) -> Result<f64> {
        let metrics = self.admins[0].metrics().await?;
        let name = "server_sockets_closed_total";
        Ok(metrics.value(name, &[("role", "harness")]).unwrap_or(0.0))
    }

    /// What both programs export now.
    async fn metrics(&self) -> Result<Metrics> {
        let mut both = Metrics::default();
        for admin in &self.admins {
            let metrics = admin.metrics().await?;
            both.names.extend(metrics.names);
            both.series.extend(metrics.series);
        }
        Ok(both)
    }
}

/// A query, with the place that it is from.
type Query = (String, String);

fn alerts() -> Result<Vec<Value>> {
    let [file] = &yaml(&repository("deploy/monitoring/alerts.yaml"))?[..] else {
        anyhow::bail!("not one document");
    };
    let groups = list(&file["groups"]).iter();
    Ok(groups
        .flat_map(|group| list(&group["rules"]).iter().cloned())
        .collect())
}

fn alert_queries() -> Result<Vec<Query>> {
    let text = |value: &Value| Some(value.as_str()?.to_owned());
    alerts()?
        .iter()
        .map(|rule| {
            let query = text(&rule["alert"]).zip(text(&rule["expr"]));
            query.with_context(|| rule.to_string())
        })
        .collect()
}

fn dashboard() -> Result<Value> {
    let text = std::fs::read_to_string(repository("deploy/monitoring/dashboard.json"))?;
    Ok(serde_json::from_str(&text)?)
}

fn dashboard_queries() -> Result<Vec<Query>> {
    let dashboard = dashboard()?;
    let mut queries = Vec::new();
    for variable in list(&dashboard["templating"]["list"]) {
        if variable["type"] == "query" {
            let query = variable["query"]["query"].as_str().context("no query")?;
            queries.push(("variable".to_owned(), query.to_owned()));
        }
    }
    for panel in list(&dashboard["panels"]) {
        let title = panel["title"].as_str().context("no title")?;
        ensure!(
            panel["type"] == "row" || !list(&panel["targets"]).is_empty(),
            "{title} shows nothing"
        );
        for target in list(&panel["targets"]) {
            let query = target["expr"].as_str().context("no query")?;
            queries.push((title.to_owned(), query.to_owned()));
        }
    }
    Ok(queries)
}

/// The words of a query: what is not in quotes, and no number or length of time.
fn words(query: &str) -> BTreeSet<String> {
    let bare: String = query
        .split('"')
        .step_by(2)
        .collect::<Vec<_>>()
        .join(" ")
        .replace("$__rate_interval", "5m");
    bare.split(|c: char| !(c.is_ascii_alphanumeric() || c == '_' || c == ':'))
        .filter(|word| word.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_'))
        .map(str::to_owned)
        .collect()
}

/// Words of the language, the series that Prometheus itself makes, and the labels that it adds.
const LANGUAGE: [&str; 11] = [
    "and",
    "by",
    "increase",
    "instance",
    "job",
    "label_values",
    "max_over_time",
    "rate",
    "sum",
    "or",
    "up",
];

#[tokio::test]
async fn dashboard_and_alerts_ask_for_what_is_exported() -> Result<()> {
    let mut scene = Scene::start().await?;
    scene.use_it().await?;
    scene.replace_executor().await?;
    let metrics = scene.metrics().await?;
    let labels: BTreeSet<&str> = metrics
        .series
        .keys()
        .flat_map(|(_, labels)| labels.iter().map(|(key, _)| key.as_str()))
        .collect();
    let mut asked = BTreeSet::new();
    for (place, query) in alert_queries()?.into_iter().chain(dashboard_queries()?) {
        for word in words(&query) {
            let is_known = metrics.names.contains(&word)
                || labels.contains(word.as_str())
                || LANGUAGE.contains(&word.as_str());
            ensure!(is_known, "{place}: `{word}` is not exported, in {query}");
        }
        asked.extend(words(&query));
    }
    // The other way round: what is counted is shown to somebody.
    for name in &metrics.names {
        ensure!(asked.contains(name), "{name} is on no dashboard");
    }
    Ok(())
}

#[tokio::test]
async fn the_number_of_series_does_not_grow_with_use() -> Result<()> {
    const ROUNDS: usize = 5;
    let mut scene = Scene::start().await?;
    scene.use_it().await?;
    let before = scene.metrics().await?;
    for _ in 0..ROUNDS {
        scene.use_it().await?;
    }
    let after = scene.metrics().await?;
    let count = |metrics: &Metrics| metrics.series.len();
    // A stream or a socket may have ended in one more way than before.
    ensure!(
        count(&after) < count(&before) + ROUNDS,
        "{before:?}\n{after:?}"
    );
    ensure!(count(&after) < 100, "{after:?}");
    for (name, labels) in after.series.keys() {
        for (key, value) in labels {
            let is_word = value.len() <= 40
                && value
                    .bytes()
                    .all(|byte| byte.is_ascii_lowercase() || byte == b'_');
            ensure!(is_word, "{name} has {key}={value}, which is no word");
        }
    }
    scene.executor.still_runs()
}

/// Somebody who is woken up finds what to do.
#[test]
fn alerts_lead_to_what_to_do() -> Result<()> {
    let operations = std::fs::read_to_string(repository("docs/operations.md"))?;
    let alerts = alerts()?;
    ensure!(alerts.len() > 10, "only {} alerts", alerts.len());
    for rule in &alerts {
        let name = rule["alert"].as_str().context("no name")?;
        let anchor = format!("docs/operations.md#{}", name.to_lowercase());
        ensure!(rule["annotations"]["runbook"] == anchor, "{name}");
        ensure!(rule["annotations"]["summary"].is_string(), "{name}");
        let severity = rule["labels"]["severity"].as_str().unwrap_or_default();
        ensure!(["warning", "critical"].contains(&severity), "{name}");
        let heading = format!("\n#### {name}\n\n");
        let (_, rest) = operations.split_once(&heading).context(heading)?;
        let words = rest.split("\n#").next().unwrap_or_default();
        ensure!(words.split_whitespace().count() > 20, "{name}: {words}");
    }
    let known: Vec<_> = alerts
        .iter()
        .filter_map(|rule| rule["alert"].as_str())
        .collect();
    for heading in operations
        .lines()
        .filter_map(|line| line.strip_prefix("#### Exec"))
    {
        let name = format!("Exec{heading}");
        ensure!(known.contains(&name.as_str()), "{name} is no alert");
    }
    Ok(())
}
