//! A bound in bytes on what waits between a transport and its session.

use std::sync::Arc;

use bytes::Bytes;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc};

/// The way into a session: a short queue whose messages together stay within a number of bytes.
///
/// A message counts until the session has let go of it. A message that is larger than the whole
/// budget takes all of it, so it passes alone.
#[derive(Debug)]
pub(super) struct Inbox {
    messages: mpsc::Sender<Bytes>,
    budget: Arc<Semaphore>,
}

/// A message and its share of the budget.
struct Counted {
    message: Bytes,
    _share: OwnedSemaphorePermit,
}

/// The session has ended.
#[derive(Debug)]
pub(super) struct SessionEnded;

impl Inbox {
    /// A queue and its other end, for a transport.
    pub(super) fn new() -> (Self, mpsc::Receiver<Bytes>) {
        Self::with_limits(QUEUED_MESSAGES, QUEUED_BYTES)
    }

    /// The way into a queue that there is.
    pub(super) fn onto(messages: mpsc::Sender<Bytes>) -> Self {
        Self {
            messages,
            budget: Arc::new(Semaphore::new(QUEUED_BYTES)),
        }
    }

    pub(super) fn with_limits(messages: usize, bytes: usize) -> (Self, mpsc::Receiver<Bytes>) {
        let (sender, receiver) = mpsc::channel(messages);
        (
            Self {
                messages: sender,
                budget: Arc::new(Semaphore::new(bytes)),
            },
            receiver,
        )
    }

    /// Waits for room and hands `message` over.
    pub(super) async fn send(&self, message: Bytes) -> Result<(), SessionEnded> {
        let share = u32::try_from(message.len().clamp(1, QUEUED_BYTES)).unwrap_or(u32::MAX);
        let taken = Arc::clone(&self.budget).acquire_many_owned(share);
        let share = tokio::select! {
            share = taken => share.map_err(|_| SessionEnded)?,
            () = self.messages.closed() => return Err(SessionEnded),
        };
        let counted = Bytes::from_owner(Counted {
            message,
            _share: share,
        });
        self.messages.send(counted).await.map_err(|_| SessionEnded)
    }
}

impl AsRef<[u8]> for Counted {
    fn as_ref(&self) -> &[u8] {
        &self.message
    }
}

/// Messages that wait for the session; the socket is not read while there are more.
const QUEUED_MESSAGES: usize = 16;
/// Bytes that wait for the session or are being worked on: one message of the largest size.
const QUEUED_BYTES: usize = 64 << 20;

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn room_comes_back_when_the_session_lets_go() {
        let (inbox, mut session) = Inbox::with_limits(8, 10);
        inbox.send(Bytes::from_static(b"12345678")).await.unwrap();
        let mut second = by_hand(inbox.send(Bytes::from_static(b"abc")));
        assert!(second.poll_once().await.is_none());
        let first = session.recv().await.unwrap();
        assert_eq!(first, "12345678");
        assert!(second.poll_once().await.is_none());
        drop(first);
        assert!(second.poll_once().await.unwrap().is_ok());
    }

    #[tokio::test]
    async fn waiting_ends_with_the_session() {
        let (inbox, session) = Inbox::with_limits(8, 4);
        inbox.send(Bytes::from_static(b"1234")).await.unwrap();
        let mut waiting = by_hand(inbox.send(Bytes::from_static(b"5")));
        assert!(waiting.poll_once().await.is_none());
        drop(session);
        assert!(waiting.poll_once().await.unwrap().is_err());
    }

    /// A future that is polled by hand.
    struct ByHand<F>(std::pin::Pin<Box<F>>);

    fn by_hand<F: Future>(future: F) -> ByHand<F> {
        ByHand(Box::pin(future))
    }

    impl<F: Future> ByHand<F> {
        async fn poll_once(&mut self) -> Option<F::Output> {
            std::future::poll_fn(|context| {
                std::task::Poll::Ready(match self.0.as_mut().poll(context) {
                    std::task::Poll::Ready(output) => Some(output),
                    std::task::Poll::Pending => None,
                })
            })
            .await
        }
    }
}
