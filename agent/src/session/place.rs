//! Where a session is: with a connection, or waiting for one.

use relay_driver::Path;
use relay_proto::keys::PublicKey;
use tokio::sync::watch;
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
/// have the same static key is the same harness. Anybody else waits for the old connection to end, or
/// to lose its path: a stream that waits for another one must not lock its session, which without
/// such streams would be detached by now.
#[derive(Debug, Clone)]
pub(super) struct Holder {
    key: Option<PublicKey>,
    /// Whether the connection is a stream that has a path at the moment.
    path: Option<watch::Receiver<Path>>,
    /// Cancelled to make the connection end.
    let_go: CancellationToken,
    /// Cancelled when the connection has let go of the session.
    released: CancellationToken,
}

impl Holder {
    /// A connection with this key, if its peer has one, which ends upon `let_go`. `path` tells of a
    /// stream whether its peer can be reached.
    pub(super) fn new(
        key: Option<PublicKey>,
        path: Option<watch::Receiver<Path>>,
        let_go: CancellationToken,
    ) -> Self {
        Self {
            key,
            path,
            let_go,
            released: CancellationToken::new(),
        }
    }

    /// Cancelled when the connection has let go of the session.
    pub(super) fn released(&self) -> &CancellationToken {
        &self.released
    }

    /// Makes the connection end if `other` belongs to the same harness, or if it has no path, and
    /// returns what tells when it has.
    pub(super) fn yield_to(&self, other: &Self) -> Option<CancellationToken> {
        let same_harness = self.key.is_some() && self.key == other.key;
        let is_lost = self
            .path
            .as_ref()
            .is_some_and(|path| *path.borrow() == Path::Lost);
        (same_harness || is_lost).then(|| {
            self.let_go.cancel();
            self.released.clone()
        })
    }
}
