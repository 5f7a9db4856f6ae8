//! End-to-end encryption: static identity, handshake, records.
//!
//! Not responsible for frames, ordering or streams: this turns bytes into bytes. The handshake
//! library is used only inside this module.
//!
//! The handshake is Noise "hybridIK" with X25519 and ML-KEM-768, AES-256-GCM and SHA-256:
//!
//! ```text
//! hybridIK:
//!   <- s
//!   ...
//!   -> skem, e, es, s, ss      3,568 bytes + payload: the authorization text
//!   <- ekem, skem, e, ee, se   3,424 bytes + payload: empty, or the sentinel
//! ```
//!
//! Each stage is a type: [`Initiator`] becomes [`Transport`], and a message 1 becomes
//! [`Unauthorized`], which only an explicit approval turns into a [`Transport`]. Nothing can be
//! encrypted for a peer that was not approved, because the keys do not exist before.

mod handshake;
mod identity;
mod kem;
mod prologue;
mod rng;
mod statement;
mod suite;
mod transport;

pub use self::handshake::HandshakeError;
pub(crate) use self::handshake::{Initiator, Unauthorized};
pub use self::identity::Identity;
pub(crate) use self::prologue::prologue;
pub(crate) use self::rng::HandshakeRng;
pub(crate) use self::statement::StatementKeys;
pub use self::transport::RecordError;
pub(crate) use self::transport::{Opener, Sealer, Transport};

#[cfg(test)]
mod tests;
