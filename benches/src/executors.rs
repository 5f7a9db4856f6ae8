//! Executors that are nothing but a registration and a websocket: many of them cost this process
//! little.

use std::sync::Arc;

use anyhow::{Context as _, Result, ensure};
use bytes::Bytes;
use futures_util::stream::FusedStream as _;
use futures_util::{SinkExt as _, StreamExt as _};
use http::HeaderMap;
use registry_client::{
    Connector, Credential, RegistryClient, RegistryUrl, StaticBearer, WebSocket,
};
use relay_proto::ids::EnvironmentId;
use relay_proto::keys::PublicKey;
use testkit::processes::Cloud;
use tokio_tungstenite::tungstenite::Message;

use crate::system::connector;

/// Where they register.
pub(crate) struct Executors {
    connector: Connector,
    url: RegistryUrl,
    key: PublicKey,
}

impl Executors {
    /// With the registry of `cloud`, in its development mode.
    pub(crate) fn of(cloud: &Cloud) -> Result<Self> {
        Ok(Self {
            connector: connector()?,
            url: RegistryUrl::parse(cloud.url())?,
            // Nobody shakes hands with them.
            key: PublicKey::from_parts(&[1; 32], &[1; 1184])?,
        })
    }

    /// Registers the one with this number and connects it.
    pub(crate) async fn executor(&self, number: u32) -> Result<WebSocket> {
        let registry = self.registry(number)?;
        let registration = registry.register(&environment(number)?, &self.key).await?;
        let url = &registration.url;
        let socket = self.connector.websocket(url, HeaderMap::new()).await;
        let mut socket = socket.with_context(|| format!("executor {number}"))?;
        // It has its place once it is read from.
        socket.send(Message::Ping(Bytes::new())).await?;
        while !matches!(socket.next().await, Some(Ok(Message::Pong(_)))) {
            ensure!(!socket.is_terminated(), "executor {number} was closed");
        }
        Ok(socket)
    }

    /// Connects a harness to the one with this number.
    pub(crate) async fn harness(&self, number: u32) -> Result<WebSocket> {
        let registry = self.registry(number)?;
        let bundle = registry.connect(&environment(number)?, &self.key).await?;
        let socket = self
            .connector
            .websocket(&bundle.url, HeaderMap::new())
            .await;
        socket.with_context(|| format!("harness of executor {number}"))
    }

    /// Each has a token of its own, since calls are limited by token.
    fn registry(&self, number: u32) -> Result<RegistryClient> {
        let credential = Credential::bearer(&format!("token-{number}"))?;
        let credential = Arc::new(StaticBearer::new(credential));
        let connector = self.connector.clone();
        Ok(RegistryClient::new(connector, self.url.clone(), credential))
    }
}

fn environment(number: u32) -> Result<EnvironmentId> {
    Ok(EnvironmentId::new(format!("environment-{number}"))?)
}
