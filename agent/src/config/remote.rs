//! Settings of remote mode.

use registry_client::{RegistryUrl, RegistryUrlError, RendezvousUrl};
use relay_proto::ids::EnvironmentId;
use settings::{Layers, Source};

use super::{CredentialChoice, ForwardSettings, RemoteSettings};
use crate::cli::Options;

pub(super) fn resolve(
    options: Options,
    layers: &mut Layers<'_>,
    has_secret: bool,
) -> Option<RemoteSettings> {
    let base_url = match &options.remote {
        None => {
            layers.problem(
                "the registry URL is missing; give --remote URL or set EXEC_SERVER_REMOTE_URL",
            );
            None
        }
        Some(url) => base_url(url, options.allow_insecure_http)
            .map_err(|problem| layers.problem(problem))
            .ok(),
    };
    let id = match &options.environment_id {
        None => {
            layers.problem(
                "the environment id is missing; give --environment-id ID or set \
                 EXEC_SERVER_ENVIRONMENT_ID",
            );
            None
        }
        Some(id) => EnvironmentId::new(id.as_str())
            .map_err(|error| {
                let name = layers.name_of("environment_id");
                layers.problem(format!("{name} cannot be used: {error}"));
            })
            .ok(),
    };
    let credential = credential(&options, layers, has_secret);
    // In the file or the environment they may wait for a listener.
    if WEBSOCKET_AUTH
        .iter()
        .any(|key| layers.source(key) == Source::Flag)
    {
        layers.problem("websocket auth flags require a listener; remove them or --remote");
    }
    let forward = forward(&options, layers);
    Some(RemoteSettings {
        forward,
        base_url: base_url?,
        environment: id?,
        name: options.name.filter(|name| !name.trim().is_empty()),
        credential: credential?,
        ca_file: options.ca_file,
        exit_on_stdin_close: options.exit_on_stdin_close,
    })
}

/// The most specific source that names a credential decides. Of the variables, the token itself goes
/// before the name of its file.
fn credential(
    options: &Options,
    layers: &mut Layers<'_>,
    has_secret: bool,
) -> Option<CredentialChoice> {
    let file = || options.token_file.clone().map(CredentialChoice::TokenFile);
    let bearer = || {
        options
            .registration_bearer_stdin
            .then_some(CredentialChoice::Stdin)
    };
    let rotating = || {
        options
            .executor_credential_stdin
            .then_some(CredentialChoice::Rotating)
    };
    let secret = |source| {
        (has_secret && source == Source::Variable).then_some(CredentialChoice::Environment)
    };
    let mut choice = None;
    for source in [Source::Flag, Source::Variable, Source::File] {
        let from = |key| layers.source(key) == source;
        let found: Vec<CredentialChoice> = [
            bearer().filter(|_| from("registration_bearer_stdin")),
            rotating().filter(|_| from("executor_credential_stdin")),
            secret(source),
            file().filter(|_| from("token_file")),
        ]
        .into_iter()
        .flatten()
        .collect();
        let on_stdin = |choice: &&CredentialChoice| {
            matches!(choice, CredentialChoice::Stdin | CredentialChoice::Rotating)
        };
        if found.iter().filter(on_stdin).count() == 2 {
            layers.problem(
                "standard input can hold one credential; give one of registration_bearer_stdin and \
                 executor_credential_stdin",
            );
        }
        choice = found.into_iter().next();
        if choice.is_some() {
            break;
        }
    }
    if choice.is_none() {
        layers.problem(
            "no registry credential; give --token-file PATH, --registration-bearer-stdin or \
             --executor-credential-stdin, or set EXEC_SERVER_TOKEN or CODEX_API_KEY",
        );
    }
    if choice == Some(CredentialChoice::Rotating) && options.exit_on_stdin_close {
        layers.problem(
            "--exit-on-stdin-close would read the credentials on standard input; leave it out, since \
             their end ends the executor as well",
        );
    }
    choice
}

/// Checks where streams, and the token for them, would go.
fn forward(options: &Options, layers: &mut Layers<'_>) -> Option<ForwardSettings> {
    let token_file = options.connect_token_file.clone();
    let Some(text) = &options.connect else {
        if options.forward {
            layers.problem("forward needs a destination; give --connect URL");
        } else if token_file.is_some() {
            let name = layers.name_of("connect_token_file");
            layers.problem(format!("{name} requires --connect"));
        }
        return None;
    };
    let Ok(destination) = RendezvousUrl::parse(text) else {
        layers.problem("forward destination must be a ws:// or wss:// URL");
        return None;
    };
    if token_file.is_some() && !destination.is_protected() {
        layers.problem("--connect-token-file needs a wss:// destination, or one on loopback");
    }
    Some(ForwardSettings {
        destination,
        token_file,
    })
}

/// Checks where the credential would go: `https` anywhere, plain `http` to a loopback host only,
/// because the token and the executor's key would otherwise travel unprotected.
fn base_url(text: &str, allow_insecure_http: bool) -> Result<RegistryUrl, String> {
    let checked = RegistryUrl::parse(text).and_then(|url| {
        if !allow_insecure_http {
            url.require_protection()?;
        }
        Ok(url)
    });
    checked.map_err(|error| match error {
        RegistryUrlError::Unprotected => {
            format!("{error}; use https, or --allow-insecure-http on a network you trust")
        }
        error => format!("{error}; expected https://HOST[:PORT][/PATH]"),
    })
}

const WEBSOCKET_AUTH: [&str; 7] = [
    "ws_auth",
    "ws_token_file",
    "ws_token_sha256",
    "ws_shared_secret_file",
    "ws_issuer",
    "ws_audience",
    "ws_max_clock_skew_seconds",
];
