//! From configuration to a connected client.

use std::sync::Arc;

use harness::{Client, ClientConfig, ConnectOptions, Dial, Error};
use registry_client::{
    Connector, ConnectorConfig, Credential, CredentialSource, FileBearer, RegistryUrl, StaticBearer,
};
use relay_proto::ids::EnvironmentId;
use secrecy::{ExposeSecret, SecretString};

use crate::{
    args::Global,
    config::{self, Config, Endpoint, Token},
    exit::Failure,
};

/// The largest token file worth reading.
const MAX_TOKEN_BYTES: u64 = 64 << 10;

/// Connects to what flags, variables and files say; `environment` comes from an operand.
pub(crate) async fn connect(global: &Global, environment: Option<&str>) -> Result<Client, Failure> {
    let (dial, timing, is_direct) = way(global, environment)?;
    let connected = Client::connect_with(dial, timing).await;
    connected.map_err(|error| failure(error, is_direct))
}

/// Connects and takes over a session that an earlier `run --detach` has left.
pub(crate) async fn resume(global: &Global, session: &str) -> Result<Client, Failure> {
    let (dial, timing, is_direct) = way(global, None)?;
    let connected = Client::resume_with(dial, timing, session).await;
    connected.map_err(|error| failure(error, is_direct))
}

/// What connects, how long it is tried, and whether there is no registry on the way.
fn way(
    global: &Global,
    environment: Option<&str>,
) -> Result<(Arc<dyn Dial>, ClientConfig, bool), Failure> {
    let config = Config::load(global, &config::variables(), environment)?;
    let connector = connector(&config)?;
    let timing = ClientConfig {
        connect_budget: config.connect_timeout,
        ..ClientConfig::default()
    };
    match config.endpoint {
        Endpoint::Registry { url, environment } => {
            let options = options(&url, environment, config.token, connector)?;
            Ok((options.into_dial()?, timing, false))
        }
        Endpoint::Direct { url } => {
            let bearer = config.token.map(read_token).transpose()?;
            let dial = harness::direct(&url, bearer.as_ref(), connector)
                .map_err(|error| failure(error, true))?;
            Ok((dial, timing, true))
        }
    }
}

fn failure(error: Error, is_direct: bool) -> Failure {
    match error {
        Error::Misuse(_) if is_direct => Failure::from(error).context("failed to connect"),
        Error::Rpc { code, .. } if code == exec_proto::rpc::code::SESSION_ATTACHED => {
            let mut failure = Failure::from(error);
            failure.message = "somebody is attached to the program: leave there first".into();
            failure
        }
        other => Failure::from(other),
    }
}

/// The environment that flags, variables and files name, and how to get there.
pub(crate) fn remote(global: &Global) -> Result<ConnectOptions, Failure> {
    let config = Config::load(global, &config::variables(), None)?;
    let connector = connector(&config)?;
    match config.endpoint {
        Endpoint::Registry { url, environment } => {
            options(&url, environment, config.token, connector)
        }
        Endpoint::Direct { .. } => Err(Failure::usage(
            "an executor that listens needs no proxy: use its address",
        )),
    }
}

fn connector(config: &Config) -> Result<Connector, Failure> {
    Connector::new(ConnectorConfig {
        ca_file: config.ca_file.clone(),
        ..ConnectorConfig::default()
    })
    .map_err(|error| Failure::usage(error.to_string()))
}

fn options(
    url: &str,
    environment: String,
    token: Option<Token>,
    connector: Connector,
) -> Result<ConnectOptions, Failure> {
    Ok(ConnectOptions {
        registry: RegistryUrl::parse(url).map_err(|error| {
            Failure::usage(format!("the registry's address is not usable: {error}"))
        })?,
        environment: EnvironmentId::new(environment)
            .map_err(|error| Failure::usage(error.to_string()))?,
        credential: credential(token)?,
        connector,
        config: ClientConfig::default(),
    })
}

fn credential(token: Option<Token>) -> Result<Arc<dyn CredentialSource>, Failure> {
    match token {
        Some(Token::File(path)) => Ok(Arc::new(FileBearer::new(path))),
        Some(Token::Value(value)) => {
            let credential = Credential::bearer(value.expose_secret())
                .map_err(|error| Failure::usage(format!("EXECCTL_TOKEN: {error}")))?;
            Ok(Arc::new(StaticBearer::new(credential)))
        }
        None => Err(Failure::usage("no token given")),
    }
}

fn read_token(token: Token) -> Result<SecretString, Failure> {
    match token {
        Token::Value(value) => Ok(value),
        Token::File(path) => {
            let unusable =
                |why: String| Failure::usage(format!("token file {}: {why}", path.display()));
            let size = std::fs::metadata(&path)
                .map_err(|error| unusable(error.to_string()))?
                .len();
            if size > MAX_TOKEN_BYTES {
                return Err(unusable("it is too large".into()));
            }
            let text =
                std::fs::read_to_string(&path).map_err(|error| unusable(error.to_string()))?;
            Ok(SecretString::from(text.trim()))
        }
    }
}
