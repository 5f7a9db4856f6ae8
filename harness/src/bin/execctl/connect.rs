//! From configuration to a connected client.

use std::sync::Arc;

use harness::{Bulk, Client, ClientConfig, ConnectOptions, Dial, Error};
use registry_client::{
    Connector, ConnectorConfig, Credential, CredentialError, CredentialSource, FileBearer,
    RegistryUrl, StaticBearer,
};
use relay_proto::ids::EnvironmentId;
use secrecy::ExposeSecret;

use crate::{
    args::Global,
    config::{self, Config, Endpoint, Token},
    exit::Failure,
};

/// Connects to what flags, variables and files say; `environment` comes from an operand.
pub(crate) async fn connect(global: &Global, environment: Option<&str>) -> Result<Client, Failure> {
    let (dial, timing, is_direct) = way(global, environment).await?;
    let connected = Client::connect_with(dial, timing).await;
    connected.map_err(|error| failure(error, is_direct))
}

/// Connects and takes over a session that an earlier `run --detach` has left.
pub(crate) async fn resume(global: &Global, session: &str) -> Result<Client, Failure> {
    let (dial, timing, is_direct) = way(global, None).await?;
    let connected = Client::resume_with(dial, timing, session).await;
    connected.map_err(|error| failure(error, is_direct))
}

/// What connects, how long it is tried, and whether there is no registry on the way.
async fn way(
    global: &Global,
    environment: Option<&str>,
) -> Result<(Arc<dyn Dial>, ClientConfig, bool), Failure> {
    let config = Config::load(global, &config::variables(), environment)?;
    let connector = connector(&config)?;
    let timing = ClientConfig {
        connect_budget: config.connect_timeout,
        bulk: match (global.no_bulk, global.compress) {
            (true, _) => Bulk::Never,
            (false, true) => Bulk::Compressed,
            (false, false) => Bulk::WherePossible,
        },
        ..ClientConfig::default()
    };
    match config.endpoint {
        Endpoint::Registry { url, environment } => {
            let options = options(&url, environment, config.token, connector).await?;
            Ok((options.into_dial()?, timing, false))
        }
        Endpoint::Direct { url } => {
            let credential = match config.token {
                Some(token) => Some(credential(token).await?),
                None => None,
            };
            let dial = harness::direct(&url, credential, connector)
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
pub(crate) async fn remote(global: &Global) -> Result<ConnectOptions, Failure> {
    let config = Config::load(global, &config::variables(), None)?;
    let connector = connector(&config)?;
    match config.endpoint {
        Endpoint::Registry { url, environment } => {
            options(&url, environment, config.token, connector).await
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

async fn options(
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
        credential: match token {
            Some(token) => credential(token).await?,
            None => return Err(Failure::usage("no token given")),
        },
        connector,
        config: ClientConfig::default(),
    })
}

/// The source of a token, which must be there now: what is wrong is said before anything is dialled.
pub(crate) async fn credential(token: Token) -> Result<Arc<dyn CredentialSource>, Failure> {
    let (source, name): (Arc<dyn CredentialSource>, _) = match token {
        Token::File(path) => (Arc::new(FileBearer::new(path)), "token file"),
        Token::Value(value) => {
            let credential = Credential::bearer(value.expose_secret())
                .map_err(|error| Failure::usage(format!("EXECCTL_TOKEN: {error}")))?;
            (Arc::new(StaticBearer::new(credential)), "EXECCTL_TOKEN")
        }
    };
    match source.credential().await {
        Ok(_) => Ok(source),
        Err(error) => {
            let mut text = format!("{name}: {error}");
            if let CredentialError::Read(error) = &error {
                text = format!("{text}: {error}");
            }
            Err(Failure::usage(text))
        }
    }
}
