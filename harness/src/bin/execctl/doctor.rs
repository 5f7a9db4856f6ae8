//! `execctl doctor`: what would be used, what of it works, and how to put right what does not.
//!
//! Nothing is changed anywhere: a bundle is asked for and used once, and the session that is opened is
//! ended again.

use std::io::{self, Write as _};

use harness::{Client, Error};
use rand::{SeedableRng as _, rngs::StdRng};
use registry_client::{
    Connector, ConnectorConfig, RegistryClient, RegistryUrl, RendezvousUrl,
    checkup::{self, Asker, Finding, Report},
};
use relay_proto::{Identity, ids::EnvironmentId};
use tokio_tungstenite::tungstenite::http::HeaderMap;

use crate::{
    args::Global,
    config::{self, Config, Endpoint, Token},
    connect,
    exit::{FAILURE, Failure, USAGE},
    output::Printer,
};

/// Runs the subcommand.
pub(crate) async fn doctor(global: &Global, printer: Printer) -> Result<u8, Failure> {
    let (findings, code) = match Config::load(global, &config::variables(), None) {
        Err(failure) => {
            let problems = failure.message.split("; ").map(|problem| {
                let remedy = "see `execctl --help`, or --print-config";
                Finding::fail("configuration", problem, remedy)
            });
            (problems.collect(), USAGE)
        }
        Ok(config) => {
            let mut findings = vec![Finding::pass("configuration", "it can be used")];
            findings.extend(way(global, config).await);
            (findings, 0)
        }
    };
    let report = Report(findings);
    let text = match printer.is_json() {
        true => report.json(),
        false => report.text(),
    };
    let written = io::stdout().lock().write_all(text.as_bytes());
    written.map_err(|error| Failure::write(&error))?;
    match code {
        0 if report.has_failed() => Ok(FAILURE),
        code => Ok(code),
    }
}

async fn way(global: &Global, config: Config) -> Vec<Finding> {
    let connector = Connector::new(ConnectorConfig {
        ca_file: config.ca_file.clone(),
        ..ConnectorConfig::default()
    });
    let connector = match connector {
        Ok(connector) => connector,
        Err(error) => return vec![checkup::connector_refused(&error)],
    };
    let (mut findings, reached) = match config.endpoint {
        Endpoint::Registry { url, environment } => {
            through_registry(&connector, &url, environment, config.token).await
        }
        Endpoint::Direct { url } => direct(&connector, &url, config.token).await,
    };
    if reached {
        findings.push(executor(global).await);
    } else {
        let text = "not tried, since the way there does not work";
        findings.push(Finding::skip("executor", text));
    }
    findings
}

async fn through_registry(
    connector: &Connector,
    url: &str,
    environment: String,
    token: Option<Token>,
) -> (Vec<Finding>, bool) {
    let (base, environment) = match (RegistryUrl::parse(url), EnvironmentId::new(environment)) {
        (Ok(base), Ok(environment)) => (base, environment),
        (Err(error), _) => return wrong(error.to_string()),
        (_, Err(error)) => return wrong(error.to_string()),
    };
    let mut findings = checkup::way(connector, &base.to_string()).await;
    let source = match token {
        Some(token) => connect::credential(token).await,
        None => Err(Failure::usage("no token given")),
    };
    let source = match source {
        Ok(source) => Some(source),
        Err(failure) => {
            findings.push(checkup::no_credential(failure.message));
            None
        }
    };
    let identity = match identity() {
        Ok(identity) => identity,
        Err(failure) => {
            let remedy = "the system has to give random bytes";
            findings.push(Finding::fail("keys", failure.message, remedy));
            return (findings, false);
        }
    };
    let key = identity.public_key();
    let asked = checkup::registry(
        connector,
        &base,
        source.as_deref(),
        &environment,
        key,
        Asker::Harness,
    );
    let asked = Report(asked.await);
    let accepted = asked.passed("authentication");
    findings.extend(asked.0);
    let Some(source) = source.filter(|_| accepted) else {
        let text = "not tried, since the registry gives no address of it";
        findings.push(Finding::skip("rendezvous", text));
        return (findings, false);
    };
    let registry = RegistryClient::new(connector.clone(), base, source);
    let opened = match registry.connect(&environment, key).await {
        Ok(bundle) => checkup::rendezvous(connector, &bundle.url).await,
        Err(error) => Finding::fail("rendezvous", error.to_string(), "ask again"),
    };
    let opened = Report(vec![opened]);
    let works = !opened.has_failed();
    findings.extend(opened.0);
    (findings, works)
}

async fn direct(connector: &Connector, url: &str, token: Option<Token>) -> (Vec<Finding>, bool) {
    let parsed = match RendezvousUrl::parse(url) {
        Ok(parsed) => parsed,
        Err(error) => return wrong(error.to_string()),
    };
    let mut findings = checkup::way(connector, url).await;
    let mut headers = HeaderMap::new();
    if let Some(token) = token {
        let credential = match connect::credential(token).await {
            Ok(source) => source.credential().await.map_err(|error| error.to_string()),
            Err(failure) => Err(failure.message),
        };
        match credential {
            Ok(credential) if parsed.is_protected() => {
                credential.apply(&mut headers);
            }
            Ok(_) => {
                let text = "it would travel unprotected, so it is not sent";
                let remedy = "use wss://, or a loopback address";
                findings.push(Finding::fail("credential", text, remedy));
                return (findings, false);
            }
            Err(problem) => {
                findings.push(checkup::no_credential(problem));
                return (findings, false);
            }
        }
    }
    let opened = checkup::websocket(connector, &parsed, headers, "listener").await;
    let report = Report(vec![opened]);
    let works = !report.has_failed();
    findings.extend(report.0);
    (findings, works)
}

/// Opens a session, as every subcommand does, and ends it.
async fn executor(global: &Global) -> Finding {
    match connect::connect(global, None).await {
        Ok(client) => answered(&client).await,
        Err(failure) => Finding::fail(
            "executor",
            failure.message,
            "see the log of the executor, or `exec-server doctor` there",
        ),
    }
}

async fn answered(client: &Client) -> Finding {
    let info = client.info();
    let version = info.executor_version.as_deref().unwrap_or("unknown");
    let text = format!("it answers; its version is {version}");
    // What cannot be ended expires.
    let _: Result<(), Error> = client.close_session().await;
    client.close().await;
    Finding::pass("executor", text)
}

fn identity() -> Result<Identity, Failure> {
    let mut seed = [0; 32];
    getrandom::fill(&mut seed).map_err(|error| Failure::other(error.to_string()))?;
    Identity::generate(&mut StdRng::from_seed(seed))
        .map_err(|error| Failure::other(error.to_string()))
}

fn wrong(problem: String) -> (Vec<Finding>, bool) {
    let remedy = "see `execctl --print-config` for where it is from";
    (vec![Finding::fail("configuration", problem, remedy)], false)
}
