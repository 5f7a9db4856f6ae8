//! Where a session is: with a connection, or waiting for one.

use relay_proto::keys::PublicKey;
use tokio_util::sync::CancellationToken;

/// Where a session is.
#[derive(Debug)]
pub(super) enum Place {
    /// A connection has it.
    Held(Holder),
    /// Nobody has it. Cancelled by a resume, which stops the expiry.
    Detached(CancellationToken),
}

/// The connection that has a session.
///
/// A harness that lost its path notices long before the executor does, if the executor is ever
/// told. So it may take its session from its own old connection: whoever proved in a handshake to
/// have the same static key is the same harness. Anybody else waits for the old connection to end.
#[derive(Debug, Clone)]
pub(super) struct Holder {
    key: Option<PublicKey>,
    /// Cancelled to make the connection end.
    let_go: CancellationToken,
    /// Cancelled when the connection has let go of the session.
    released: CancellationToken,
}

impl Holder {
    /// A connection with this key, if its peer has one, which ends upon `let_go`.
    pub(super) fn new(key: Option<PublicKey>, let_go: CancellationToken) -> Self {
        Self {
            key,
            let_go,
            released: CancellationToken::new(),
        }
    }

    /// Cancelled when the connection has let go of the session.
    pub(super) fn released(&self) -> &CancellationToken {
        &self.released
    }

    /// Makes the connection end if `other` belongs to the same harness, and returns what tells when
    /// it has.
    pub(super) fn yield_to(&self, other: &Self) -> Option<CancellationToken> {
        let same_harness = self.key.is_some() && self.key == other.key;
        same_harness.then(|| {
            self.let_go.cancel();
            self.released.clone()
        })
    }
}
