//! Settings of a local listener.

use settings::{Layers, Source};

use super::Mode;
use crate::{
    cli::Options,
    listener::{AuthOptions, ListenAddress, ListenError},
};

pub(super) fn resolve(options: Options, layers: &mut Layers<'_>) -> Option<Mode> {
    // In the file or the environment they may wait for remote mode.
    for key in OF_REMOTE_MODE {
        if layers.source(key) == Source::Flag {
            let flag = layers.name_of(key);
            layers.problem(format!("{flag} requires --remote"));
        }
    }
    if layers.source("exit_on_stdin_close") == Source::Variable && options.exit_on_stdin_close {
        layers.problem("EXEC_SERVER_EXIT_ON_STDIN_CLOSE requires --remote");
    }
    let address = match options.listen {
        None => Some(ListenAddress::default()),
        Some(text) => text
            .parse::<ListenAddress>()
            .map_err(|error| layers.problem(error.to_string()))
            .ok(),
    };
    let auth = AuthOptions {
        mode: options.ws_auth,
        token_file: options.ws_token_file,
        token_sha256: options.ws_token_sha256,
        shared_secret_file: options.ws_shared_secret_file,
        issuer: options.ws_issuer,
        audience: options.ws_audience,
        max_clock_skew_secs: options.ws_max_clock_skew_seconds,
    };
    let address = address?;
    if address == ListenAddress::Stdio && !auth.is_empty() {
        layers.problem("WebSocket auth requires a WebSocket listener, not stdio");
        return None;
    }
    let auth = match auth.resolve() {
        Ok(auth) => auth,
        Err(found) => {
            for problem in found {
                layers.problem(problem);
            }
            return None;
        }
    };
    if auth.is_none()
        && let ListenAddress::WebSocket(socket) = address
        && address.is_exposed()
    {
        layers.problem(ListenError::Exposed(socket).to_string());
    }
    Some(Mode::Listen { address, auth })
}

const OF_REMOTE_MODE: [&str; 10] = [
    "connect",
    "connect_token_file",
    "environment_id",
    "name",
    "registration_bearer_stdin",
    "executor_credential_stdin",
    "token_file",
    "ca_file",
    "allow_insecure_http",
    "exit_on_stdin_close",
];
