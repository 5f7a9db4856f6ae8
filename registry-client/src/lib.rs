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

pub mod wire;
