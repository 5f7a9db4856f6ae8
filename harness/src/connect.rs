//! The two ways to an executor, as constructors of [`Client`].

use std::sync::Arc;

use registry_client::{
    Connector, Credential, CredentialSource, RegistryClient, RegistryUrl, StaticBearer,
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

    /// Opens a session with an executor that listens on a websocket. Sends `bearer`, if given, only
    /// over TLS or to a loopback address.
    ///
    /// # Errors
    ///
    /// [`Error::Misuse`] for an unusable URL, [`Error::Refused`], [`Error::Unavailable`].
    pub async fn connect_direct(
        url: &str,
        bearer: Option<&SecretString>,
        connector: Connector,
        config: ClientConfig,
    ) -> Result<Self, Error> {
        let credential = match bearer {
            None => None,
            Some(bearer) => {
                let credential = Credential::bearer(bearer.expose_secret())
                    .map_err(|error| Error::Misuse(format!("the token cannot be used: {error}")))?;
                let source: Arc<dyn CredentialSource> = Arc::new(StaticBearer::new(credential));
                Some(source)
            }
        };
        Self::connect_with(direct(url, credential, connector)?, config).await
    }
}
