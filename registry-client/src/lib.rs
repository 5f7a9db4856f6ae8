//! Environment registry calls and the one outbound connector for HTTP and websockets.
//!
//! The registry is the only authority of the scheme: executors register a public key with it,
//! harnesses ask it for a connect bundle, and executors ask it whether a harness key may enter.
//!
//! ```text
//! executor --register--> registry   public key                      -> registration id, rendezvous URL
//! harness  --connect---> registry   harness public key              -> bundle: URL, executor key, authorization
//! executor --validate--> registry   registration id, harness key,
//!                                   authorization                   -> approved, refused, credentials rejected
//! ```
//!
//! [`wire`] holds the JSON bodies, header names and closed sets of texts, and builds without the
//! `client` feature, so that the registry itself can use it.
//!
//! The `client` feature (default) adds:
//!
//! - `Connector`: one policy of proxies, certificate authorities, redirects and timeouts for HTTP
//!   and websockets alike;
//! - `RegistryClient`: the three calls, one try each, every answer checked;
//! - `connect_with_retry`: how long a harness keeps asking;
//! - `checkup`: what works of all this, for people;
//! - `CredentialSource`: the credential, resolved anew for each call.
//!
//! Not here: when an executor registers again and how it reconnects, and anything that flows over
//! a websocket once it is open.

pub mod wire;

#[cfg(feature = "client")]
mod api;
#[cfg(feature = "client")]
mod auth;
#[cfg(feature = "client")]
mod bundle;
#[cfg(feature = "client")]
pub mod checkup;
#[cfg(feature = "client")]
mod connector;
#[cfg(feature = "client")]
mod error;
#[cfg(feature = "client")]
pub mod limits;
#[cfg(feature = "client")]
mod registry_url;
#[cfg(feature = "client")]
mod retry;
#[cfg(feature = "client")]
mod retry_after;

#[cfg(feature = "client")]
pub use api::{ErrorBodies, RegistryClient};
#[cfg(feature = "client")]
pub use auth::{Credential, CredentialError, CredentialSource, FileBearer, StaticBearer};
#[cfg(feature = "client")]
pub use bundle::{
    Authorization, Bundle, Registration, RendezvousUrl, RendezvousUrlError, Validation,
};
#[cfg(feature = "client")]
pub use connector::{
    ConnectError, Connecting, Connector, ConnectorConfig, ConnectorConfigError,
    ConnectorEnvironment, FetchError, Network, NetworkIo, ProxyAddress, Route, TransportError,
    WebSocket, WebSocketIo, install_crypto_provider, new_request_id,
};
#[cfg(feature = "client")]
pub use error::{BodyError, Failure, RegistryError};
#[cfg(feature = "client")]
pub use registry_url::{RegistryUrl, RegistryUrlError, is_loopback};
#[cfg(feature = "client")]
pub use retry::{ConnectRetry, connect_with_retry};
