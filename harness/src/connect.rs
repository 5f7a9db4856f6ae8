//! The two ways to an executor, as constructors of [`Client`].

use std::sync::Arc;

use registry_client::{
    Connector, ConnectorConfig, Credential, CredentialSource, RegistryClient, RegistryUrl,
    StaticBearer,
};
use relay_proto::ids::EnvironmentId;
use secrecy::{ExposeSecret as _, SecretString};

use crate::{
    Client, ClientConfig, Dial, Error,
    transport::{direct::DirectDial, relay::RelayDial},
};

/// Where an environment is and by what right it is used.
#[derive(Debug, Clone)]
pub struct ConnectOptions {
    /// Base URL of the registry.
    pub registry: RegistryUrl,
    /// The environment.
    pub environment: EnvironmentId,
    /// The credential for the registry, asked for anew with each connection.
    pub credential: Arc<dyn CredentialSource>,
    /// Proxies, certificate authorities and time limits of outbound connections.
    pub connector: Connector,
    /// How the client behaves towards time.
    pub config: ClientConfig,
}

impl ConnectOptions {
    /// The environment `environment` of the registry at `registry`, by the right of `token`, with the
    /// proxies and certificate authorities of the process's environment.
    ///
    /// # Errors
    ///
    /// [`Error::Misuse`] for an unusable URL, id or token, or when the environment names a proxy or
    /// authorities that cannot be used. The text does not show the token.
    pub fn with_token(registry: &str, environment: &str, token: &str) -> Result<Self, Error> {
        let connector = Connector::new(ConnectorConfig::default())
            .map_err(|error| Error::Misuse(error.to_string()))?;
        Ok(Self {
            registry: RegistryUrl::parse(registry).map_err(|error| {
                Error::Misuse(format!("the registry's address is not usable: {error}"))
            })?,
            environment: EnvironmentId::new(environment)
                .map_err(|error| Error::Misuse(error.to_string()))?,
            credential: bearer(token)?,
            connector,
            config: ClientConfig::default(),
        })
    }

    /// What connects there, under a new key of its own, for [`Client::connect_with`].
    ///
    /// # Errors
    ///
    /// [`Error::Io`] without a source of randomness for the key.
    pub fn into_dial(self) -> Result<Arc<dyn Dial>, Error> {
        let registry = RegistryClient::new(self.connector.clone(), self.registry, self.credential);
        Ok(Arc::new(RelayDial::new(
            registry,
            self.connector,
            self.environment,
            self.config.recovery,
        )?))
    }
}

/// What connects to an executor that listens on a websocket, for [`Client::connect_with`]. The
/// credential, if there is one, is asked for anew with each connection, and sent only over TLS or to a
/// loopback address.
///
/// # Errors
///
/// [`Error::Misuse`] for an unusable URL.
pub fn direct(
    url: &str,
    credential: Option<Arc<dyn CredentialSource>>,
    connector: Connector,
) -> Result<Arc<dyn Dial>, Error> {
    Ok(Arc::new(DirectDial::new(connector, url, credential)?))
}

impl Client {
    /// Opens a session with the executor of an environment, through registry and rendezvous.
    ///
    /// # Errors
    ///
    /// [`Error::Refused`] for a wrong credential, [`Error::UnknownEnvironment`], and when the budget
    /// for the first connection is used up [`Error::Offline`] or [`Error::Unavailable`].
    pub async fn connect(options: ConnectOptions) -> Result<Self, Error> {
        let config = options.config.clone();
        Self::connect_with(options.into_dial()?, config).await
    }

    /// Opens a session with an executor that listens on a websocket. Sends `token`, if given, only
    /// over TLS or to a loopback address.
    ///
    /// # Errors
    ///
    /// [`Error::Misuse`] for an unusable URL, [`Error::Refused`], [`Error::Unavailable`].
    pub async fn connect_direct(
        url: &str,
        token: Option<&SecretString>,
        connector: Connector,
        config: ClientConfig,
    ) -> Result<Self, Error> {
        let credential = match token {
            None => None,
            Some(token) => Some(bearer(token.expose_secret())?),
        };
        Self::connect_with(direct(url, credential, connector)?, config).await
    }
}

fn bearer(token: &str) -> Result<Arc<dyn CredentialSource>, Error> {
    let credential = Credential::bearer(token)
        .map_err(|error| Error::Misuse(format!("the token cannot be used: {error}")))?;
    Ok(Arc::new(StaticBearer::new(credential)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_cannot_be_used_is_told_before_anything_is_dialed() {
        for (registry, environment, token) in [
            ("exec.example", "box", "t"),
            ("https://exec.example", " ", "t"),
            ("https://exec.example", "box", "s3 cr3t"),
        ] {
            let error = ConnectOptions::with_token(registry, environment, token).unwrap_err();
            assert!(matches!(error, Error::Misuse(_)), "{error:?}");
            assert!(!error.to_string().contains("cr3t"), "{error}");
        }
    }
}
