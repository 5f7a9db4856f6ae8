//! Spans and numbers go to a collector: one trace for one command, from the client to the command.

use std::collections::BTreeSet;

use anyhow::{Context as _, Result, ensure};
use rustix::process::Signal;
use testkit::{
    collector::{Collector, SeenSpan},
    processes::{Agent, Child, Cloud, CloudOptions, DEADLINE, Execctl},
    until,
    workspace::Workspace,
};

const TRACE: &str = "0af7651916cd43dd8448eb211c80319c";
const ROOT: &str = "b7ad6b7169203331";
/// In everything that must not be in a span.
const MARKER: &str = "xmarkerx";

/// A span that says nothing of what it is about: these are all the attributes there are.
const ATTRIBUTES: [&str; 4] = [
    "http.response.status_code",
    "process.exit.code",
    "rpc.system",
    "otel.status_code",
];

struct Scene {
    cloud: Cloud,
    executor: Child,
    _workspace: Workspace,
}

impl Scene {
    /// Both programs, with the setting of one and the standard variable of the other.
    async fn start(collector: &Collector) -> Result<Self> {
        let fast = [
            ("OTEL_BSP_SCHEDULE_DELAY", "50"),
            ("OTEL_METRIC_EXPORT_INTERVAL", "50"),
        ];
        let mut variables = vec![("OTEL_EXPORTER_OTLP_ENDPOINT", collector.url())];
        variables.extend(fast);
        let cloud = Cloud::start_with(CloudOptions {
            variables: owned(&variables),
            ..CloudOptions::default()
        })
        .await?;
        let workspace = Workspace::new()?;
        let mut variables = vec![("EXEC_SERVER_OTLP_ENDPOINT", collector.url())];
        variables.extend(fast);
        let executor = Agent::start(&cloud, &workspace, &variables).await?;
        Ok(Self {
            cloud,
            executor,
            _workspace: workspace,
        })
    }
}

fn owned(variables: &[(&str, &str)]) -> Vec<(String, String)> {
    let pairs = variables.iter();
    pairs
        .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()))
        .collect()
}

/// The one span of the trace with this service, name and kind.
fn one<'a>(spans: &'a [SeenSpan], service: &str, name: &str, kind: i32) -> Result<&'a SeenSpan> {
    let mut found = spans.iter().filter(|span| {
        span.trace == TRACE && span.service == service && span.name == name && span.kind == kind
    });
    let span = found
        .next()
        .with_context(|| format!("no {name} of {service}"))?;
    ensure!(found.next().is_none(), "more than one {name} of {service}");
    Ok(span)
}

#[tokio::test]
async fn one_trace_shows_client_registry_relay_executor_and_command() -> Result<()> {
    const INTERNAL: i32 = 1;
    const SERVER: i32 = 2;
    const CLIENT: i32 = 3;
    let collector = Collector::start().await?;
    let scene = Scene::start(&collector).await?;
    let script = format!("echo $TRACEPARENT; : {MARKER}; exit 3");
    let run = Execctl::new(&scene.cloud)
        .launch()?
        .env("TRACEPARENT", format!("00-{TRACE}-{ROOT}-01"))
        .args(["--otlp-endpoint", collector.url()])
        .args(["run", "-n", "--", "sh", "-c", &script])
        .finish(b"", DEADLINE)
        .await?;
    ensure!(run.code() == Some(3), "{}", run.stderr);
    until(async || {
        one(&collector.spans(), "exec-server", "command", INTERNAL).is_ok()
            && one(&collector.spans(), "exec-cloud", "websocket", SERVER).is_ok()
    })
    .await?;
    let spans = collector.spans();
    let of = |service: &str, name: &str, kind| one(&spans, service, name, kind);

    let root = of("execctl", "execctl run", INTERNAL)?;
    assert_eq!(root.parent, ROOT);
    for name in ["connect", "websocket"] {
        let asked = of("execctl", name, CLIENT)?;
        let answered = of("exec-cloud", name, SERVER)?;
        assert_eq!((&asked.parent, &answered.parent), (&root.id, &asked.id));
    }
    let started = of("execctl", "process/start", CLIENT)?;
    let served = of("exec-server", "process/start", SERVER)?;
    let command = of("exec-server", "command", INTERNAL)?;
    assert_eq!(
        [&started.parent, &served.parent, &command.parent],
        [&root.id, &started.id, &served.id]
    );
    assert_eq!(command.attributes["process.exit.code"], "3");
    let seen = String::from_utf8(run.stdout)?;
    assert_eq!(seen.trim(), format!("00-{TRACE}-{}-01", command.id));

    for span in &spans {
        let keys: BTreeSet<_> = span.attributes.keys().map(String::as_str).collect();
        ensure!(keys.iter().all(|key| ATTRIBUTES.contains(key)), "{span:?}");
        ensure!(span.events == 0, "{span:?}");
        ensure!(!format!("{span:?}").contains(MARKER), "{span:?}");
    }
    Ok(())
}

#[tokio::test]
async fn numbers_of_both_programs_reach_the_collector_and_the_last_ones_too() -> Result<()> {
    let collector = Collector::start().await?;
    let mut scene = Scene::start(&collector).await?;
    let run = Execctl::new(&scene.cloud)
        .run(["run", "-n", "--", "true"])
        .await?;
    ensure!(run.status.success(), "{}", run.stderr);
    let value = |service: &str, name: &str, label: Option<(&str, &str)>| {
        let numbers = collector.numbers();
        let mut found = numbers.iter().filter(|((from, called, attributes), _)| {
            let has = label
                .is_none_or(|(key, value)| attributes.get(key).is_some_and(|given| given == value));
            from == service && called == name && has
        });
        found.next().map(|(_, value)| *value)
    };
    until(async || {
        value("exec-server", "agent_streams_opened", None) == Some(1)
            && value(
                "exec-cloud",
                "server_sockets_opened",
                Some(("role", "harness")),
            ) == Some(1)
    })
    .await?;
    assert_eq!(value("exec-server", "agent_connected", None), Some(1));
    scene.executor.signal(Signal::TERM)?;
    let ended = scene.executor.ended(DEADLINE).await?;
    ensure!(ended.success(), "{ended}");
    assert_eq!(value("exec-server", "agent_streams_closed", None), Some(1));
    scene.cloud.child().signal(Signal::TERM)?;
    let ended = scene.cloud.child_mut().ended(DEADLINE).await?;
    ensure!(ended.success(), "{ended}");
    assert_eq!(value("exec-cloud", "server_environments", None), Some(0));
    scene.cloud.child().never_panicked()?;
    scene.executor.never_panicked()
}

#[tokio::test]
async fn a_collector_that_is_away_costs_one_warning_and_nothing_else() -> Result<()> {
    let collector = Collector::refusing().await?;
    let mut scene = Scene::start(&collector).await?;
    let execctl = Execctl::new(&scene.cloud);
    for _ in 0..3 {
        let run = execctl.run(["run", "-n", "--", "echo", "works"]).await?;
        ensure!(run.stdout == b"works\n", "{}", run.stderr);
    }
    until(async || collector.requests() > 10).await?;
    let nowhere = execctl
        .launch()?
        .args(["--otlp-endpoint", "http://127.0.0.1:1", "-v"])
        .args(["run", "-n", "--", "echo", "works"])
        .finish(b"", DEADLINE)
        .await?;
    ensure!(nowhere.stdout == b"works\n", "{}", nowhere.stderr);
    let lines = [
        nowhere.stderr,
        scene.cloud.child().stderr().text(),
        scene.executor.stderr().text(),
    ];
    for text in lines {
        let warnings = text.matches("cannot export to the collector").count();
        ensure!(warnings == 1, "{warnings} warnings: {text}");
    }
    scene.executor.still_runs()
}

#[tokio::test]
async fn without_an_endpoint_nothing_is_exported_and_commands_see_no_trace() -> Result<()> {
    let cloud = Cloud::start().await?;
    let workspace = Workspace::new()?;
    let _executor = Agent::start(&cloud, &workspace, &[]).await?;
    let run = Execctl::new(&cloud)
        .launch()?
        .env("TRACEPARENT", format!("00-{TRACE}-{ROOT}-01"))
        .args(["run", "-n", "--", "sh", "-c", "echo ${TRACEPARENT-none}"])
        .finish(b"", DEADLINE)
        .await?;
    ensure!(run.stdout == b"none\n", "{:?}", run.stdout);
    Ok(())
}
