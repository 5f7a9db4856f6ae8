//! What a program shows its operators.

use std::collections::{BTreeMap, BTreeSet};

use anyhow::{Context as _, Result, ensure};
use serde_json::Value;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
    time::timeout,
};

use crate::processes::{Child, DEADLINE};

/// The admin listener of a program that was started with `--admin-listen 0`.
#[derive(Debug)]
pub struct Admin(String);

impl Admin {
    /// Waits until `child` has said in its log, which may be text or JSON, where it is.
    ///
    /// # Errors
    ///
    /// When it does not say so in time.
    pub async fn of(child: &Child) -> Result<Self> {
        let line = child.stderr().wait_for("admin listener", DEADLINE).await?;
        let address = match serde_json::from_str::<Value>(&line) {
            Ok(event) => event["fields"]["address"].as_str().map(str::to_owned),
            Err(_) => line
                .split_once("address=")
                .map(|(_, rest)| rest.trim().to_owned()),
        };
        address.map(Self).context(line)
    }

    /// The body of `path`, whatever the status.
    ///
    /// # Errors
    ///
    /// When nobody answers.
    pub async fn get(&self, path: &str) -> Result<String> {
        let ask = async {
            let mut stream = TcpStream::connect(&self.0).await?;
            let request = format!("GET {path} HTTP/1.0\r\nhost: {}\r\n\r\n", self.0);
            stream.write_all(request.as_bytes()).await?;
            let mut answer = String::new();
            stream.read_to_string(&mut answer).await?;
            let (_, body) = answer.split_once("\r\n\r\n").context("no answer")?;
            anyhow::Ok(body.to_owned())
        };
        timeout(DEADLINE, ask).await?
    }

    /// What `/metrics` says.
    ///
    /// # Errors
    ///
    /// When it says something else.
    pub async fn metrics(&self) -> Result<Metrics> {
        Metrics::parse(&self.get("/metrics").await?)
    }
}

/// One scrape of `/metrics`.
#[derive(Debug, Default)]
pub struct Metrics {
    /// As they are queried: counters with `_total`.
    pub names: BTreeSet<String>,
    /// Each with its name and labels.
    pub series: BTreeMap<(String, Vec<(String, String)>), f64>,
}

impl Metrics {
    fn parse(text: &str) -> Result<Self> {
        ensure!(text.ends_with("# EOF\n"), "cut off: {text}");
        let mut metrics = Self::default();
        for line in text.lines() {
            if let Some(declared) = line.strip_prefix("# TYPE ") {
                let (name, kind) = declared.split_once(' ').context("a type")?;
                let suffix = if kind == "counter" { "_total" } else { "" };
                metrics.names.insert(format!("{name}{suffix}"));
            } else if !line.starts_with('#') {
                let (series, value) = line.rsplit_once(' ').context("a value")?;
                let (name, labels) = series.split_once('{').unwrap_or((series, "}"));
                let labels = labels.strip_suffix('}').context("labels")?;
                // No value of ours needs an escape; one that did would not be found below.
                let labels = labels.split(',').filter(|label| !label.is_empty());
                let labels = labels.map(|label| {
                    let (key, value) = label.split_once('=').context("a label")?;
                    Ok((key.to_owned(), value.trim_matches('"').to_owned()))
                });
                let key = (name.to_owned(), labels.collect::<Result<_>>()?);
                metrics.series.insert(key, value.parse()?);
            }
        }
        Ok(metrics)
    }

    /// The value of the series with this name and label, if it is there.
    pub fn value(&self, name: &str, labels: &[(&str, &str)]) -> Option<f64> {
        let mut found = self.series.iter().filter(|((known, has), _)| {
            let has_label = |(key, value): &(&str, &str)| {
                has.iter()
                    .any(|(known, given)| known == key && given == value)
            };
            known == name && labels.iter().all(has_label)
        });
        found.next().map(|(_, value)| *value)
    }
}
