//! What is behind every transport.

use std::sync::Arc;

use tokio_util::sync::CancellationToken;

use crate::rpc::Transport;

/// Serves JSON-RPC connections, whichever transport they come over.
///
/// The listeners and the relay know this and nothing of sessions, so they are tested with a
/// simple one.
pub trait Serve: Send + Sync + 'static {
    /// Serves `transport` until it is disconnected or `cancel`.
    fn serve(
        self: Arc<Self>,
        transport: Transport,
        cancel: CancellationToken,
    ) -> impl Future<Output = ()> + Send + 'static;

    /// Whether new sessions are taken.
    fn is_ready(&self) -> bool {
        true
    }

    /// Cancelled when everything that is served comes to its end by itself: the transports deliver
    /// what is left, and no new ones are wanted.
    fn finishing(&self) -> CancellationToken {
        CancellationToken::new()
    }
}
