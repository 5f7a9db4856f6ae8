//! `exec-server doctor`: what the executor would use, what of it works, and how to put right what does
//! not.
//!
//! Nothing is changed anywhere, unless `--register` is given: then the executor registers and connects
//! for a moment, which takes the environment from an executor that serves it until that one is back.

mod host;

use std::{
    io::{self, Write as _},
    sync::Arc,
};

use http::HeaderMap;
use registry_client::{
    Connector, ConnectorConfig, CredentialSource, RegistryClient,
    checkup::{self, Asker, Finding, Report},
};
use relay_proto::Identity;
use secrecy::SecretString;

use crate::{
    cli::DoctorArguments,
    config::{self, CredentialChoice, ForwardSettings, Mode, RemoteSettings, Settings},
    credential, events,
    listener::ListenAddress,
    random,
    session::OUTPUT_DISK_BYTES,
};

/// Looks at everything, prints it, and returns the exit code.
///
/// # Errors
///
/// When nothing can be printed.
pub async fn run(arguments: DoctorArguments, secret: Option<SecretString>) -> io::Result<u8> {
    let is_json = arguments.json;
    let (report, code) = examine(arguments, secret).await;
    let text = if is_json {
        report.json()
    } else {
        report.text()
    };
    io::stdout().lock().write_all(text.as_bytes())?;
    Ok(code)
}

async fn examine(arguments: DoctorArguments, secret: Option<SecretString>) -> (Report, u8) {
    let mut findings = Vec::new();
    let mut code = DONE;
    let lookup = |name: &str| std::env::var(name).ok();
    let (settings, _) = config::load(arguments.options, &lookup, secret.is_some());
    match settings {
        Err(error) => {
            code = MISCONFIGURED;
            for problem in error.0 {
                let remedy = "see `exec-server --help`, or --print-config";
                findings.push(Finding::fail("configuration", problem, remedy));
            }
        }
        Ok(settings) => {
            findings.push(Finding::pass("configuration", "it can be used"));
            match &settings.mode {
                Mode::Remote(settings) => {
                    findings.extend(remote(settings, secret, arguments.register).await);
                }
                Mode::Listen { address, .. } => findings.push(listener(*address)),
            }
            findings.push(output(&settings));
            findings.push(host::commands(&settings.limits));
        }
    }
    findings.extend(host::findings());
    let report = Report(findings);
    if code == DONE && report.has_failed() {
        code = FAILED;
    }
    (report, code)
}

/// The way to the registry and the rendezvous.
async fn remote(
    settings: &RemoteSettings,
    secret: Option<SecretString>,
    register: bool,
) -> Vec<Finding> {
    let connector = Connector::new(ConnectorConfig {
        ca_file: settings.ca_file.clone(),
        ..ConnectorConfig::default()
    });
    let connector = match connector {
        Ok(connector) => connector,
        Err(error) => return vec![checkup::connector_refused(&error)],
    };
    let base = &settings.base_url;
    let mut report = Report(checkup::way(&connector, &base.to_string()).await);
    let source = match &settings.credential {
        CredentialChoice::Stdin | CredentialChoice::Rotating => {
            let text = "it comes over standard input, which belongs to the executor";
            report.0.push(Finding::skip("credential", text));
            None
        }
        choice => match credential::lasting(choice, secret).await {
            Ok(source) => Some(source),
            Err(error) => {
                report.0.push(checkup::no_credential(chain(&error)));
                None
            }
        },
    };
    match random::identity() {
        Ok(identity) => {
            let asked = ask(&connector, settings, source, &identity, register);
            report.0.extend(asked.await);
        }
        Err(error) => {
            let remedy = "the system has to give random bytes";
            let finding = Finding::fail("keys", error.to_string(), remedy);
            report.0.push(finding);
        }
    }
    if let Some(settings) = &settings.forward {
        report.0.push(destination(&connector, settings).await);
    }
    report.0
}

/// What the registry says, and whether the rendezvous can be reached.
async fn ask(
    connector: &Connector,
    settings: &RemoteSettings,
    source: Option<Arc<dyn CredentialSource>>,
    identity: &Identity,
    register: bool,
) -> Vec<Finding> {
    let (base, environment) = (&settings.base_url, &settings.environment);
    let asked = checkup::registry(
        connector,
        base,
        source.as_deref(),
        environment,
        identity.public_key(),
        Asker::Executor,
    );
    let mut report = Report(asked.await);
    let accepted = report.passed("authentication");
    let finding = match source.filter(|_| accepted) {
        None => Finding::skip(
            "rendezvous",
            "not tried, since the registry has taken no token",
        ),
        Some(source) if register => {
            let registry = RegistryClient::new(connector.clone(), base.clone(), source);
            registered(&registry, settings, identity).await
        }
        Some(_) => Finding::skip(
            "rendezvous",
            "not tried; --register does, and interrupts an executor that serves the environment",
        ),
    };
    report.0.push(finding);
    report.0
}

/// Whether the executor takes connections to which streams would be handed.
async fn destination(connector: &Connector, settings: &ForwardSettings) -> Finding {
    let mut headers = HeaderMap::new();
    if let Some(path) = &settings.token_file {
        let choice = CredentialChoice::TokenFile(path.clone());
        let credential = match credential::lasting(&choice, None).await {
            Ok(source) => source.credential().await.map_err(|error| chain(&error)),
            Err(error) => Err(chain(&error)),
        };
        match credential {
            Ok(credential) => credential.apply(&mut headers),
            Err(problem) => {
                return Finding::fail(
                    "destination",
                    problem,
                    "put a token into the file of --connect-token-file",
                );
            }
        }
    }
    checkup::websocket(connector, &settings.destination, headers, "destination").await
}

fn chain(error: &(dyn std::error::Error + 'static)) -> String {
    events::Chain(error).to_string()
}

/// Registers, and opens the websocket once.
async fn registered(
    registry: &RegistryClient,
    settings: &RemoteSettings,
    identity: &Identity,
) -> Finding {
    let registration = registry.register(&settings.environment, identity.public_key());
    match registration.await {
        Ok(registration) => checkup::rendezvous(registry.connector(), &registration.url).await,
        Err(error) => Finding::fail("registration", chain(&error), "see the log of the registry"),
    }
}

fn listener(address: ListenAddress) -> Finding {
    let ListenAddress::WebSocket(address) = address else {
        return Finding::pass("listener", "standard input and output");
    };
    match std::net::TcpListener::bind(address) {
        Ok(_) => Finding::pass("listener", format!("{address} is free")),
        Err(error) => Finding::fail(
            "listener",
            format!("{address} cannot be listened on: {error}"),
            "give another --listen, or end what listens there",
        ),
    }
}

/// Where output goes that does not fit into memory.
fn output(settings: &Settings) -> Finding {
    let output = &settings.output;
    let directory = output.directory.clone();
    let directory = directory.unwrap_or_else(std::env::temp_dir);
    host::space(&directory, output.disk_bytes.unwrap_or(OUTPUT_DISK_BYTES))
}

const DONE: u8 = 0;
const FAILED: u8 = 1;
const MISCONFIGURED: u8 = 64;
