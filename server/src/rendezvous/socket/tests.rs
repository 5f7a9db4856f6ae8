//! Keepalive and reading, on a clock that only moves when everything waits.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use futures_util::stream;
use relay_proto::limits::SUSPECT_PONG_TIMEOUT;
use tokio::sync::mpsc;

use super::*;
use crate::rendezvous::outbox::OutboxLimits;

const PING: Duration = Duration::from_secs(10);
const PONG: Duration = Duration::from_secs(30);

/// Keeps what it is handed; a message that starts with `x` is refused.
#[derive(Default)]
struct Keeper {
    messages: Vec<Bytes>,
    is_watched: Arc<AtomicBool>,
}

impl FrameHandler for Keeper {
    async fn handle(&mut self, message: Bytes) -> Result<(), CloseCause> {
        let is_refused = message.starts_with(b"x");
        self.messages.push(message);
        if is_refused {
            Err(CloseCause::Malformed)
        } else {
            Ok(())
        }
    }

    fn is_watched(&self) -> bool {
        self.is_watched.load(Ordering::Relaxed)
    }

    fn dropped_frames(&self) -> u64 {
        0
    }
}

struct Fixture {
    outbox: Outbox,
    keeper: Keeper,
    life: Life,
    started: Instant,
}

impl Fixture {
    fn new() -> Self {
        let limits = OutboxLimits {
            bytes: 100,
            frames: 10,
            resets: 10,
            own: None,
        };
        Self {
            outbox: Outbox::new(limits),
            keeper: Keeper::default(),
            life: Life::new(&RendezvousLimits {
                ping_interval: PING,
                pong_timeout: PONG,
                ..RendezvousLimits::default()
            }),
            started: Instant::now(),
        }
    }

    /// Reads until the end, and returns it with the time that it took.
    async fn read(
        &mut self,
        mut stream: impl Stream<Item = Result<Message, axum::Error>> + Unpin,
    ) -> (End, Duration) {
        let Self {
            outbox,
            keeper,
            life,
            ..
        } = self;
        let end = read(&mut stream, outbox, keeper, life).await;
        (end, self.started.elapsed())
    }
}

fn messages(list: Vec<Message>) -> impl Stream<Item = Result<Message, axum::Error>> + Unpin {
    stream::iter(list.into_iter().map(Ok))
}

#[tokio::test(start_paused = true)]
async fn silent_peer_is_pinged_once_and_given_up() {
    let mut fixture = Fixture::new();
    let (end, after) = fixture.read(stream::pending()).await;
    assert_eq!((end, after), (End::PongTimeout, PING + PONG));
    assert!(matches!(fixture.outbox.try_next(), Some(Next::Ping)));
    assert!(fixture.outbox.try_next().is_none());
}

#[tokio::test(start_paused = true)]
async fn anything_that_arrives_is_a_sign_of_life() {
    let life = [
        Message::Pong(Bytes::new()),
        Message::Ping(Bytes::new()),
        Message::Text("x".into()),
        Message::Binary(Bytes::from_static(b"frame")),
    ];
    for message in life {
        let mut fixture = Fixture::new();
        let (sender, arriving) = wire();
        let feeding = async {
            // Each just before the peer would be given up.
            for _ in 0..3 {
                tokio::time::sleep(PONG - Duration::from_millis(1)).await;
                sender.send(Ok(message.clone())).await.unwrap();
            }
            std::future::pending::<()>().await;
        };
        let (end, after) = tokio::select! {
            ended = fixture.read(arriving) => ended,
            () = feeding => unreachable!("never ends"),
        };
        assert_eq!(end, End::PongTimeout, "{message:?}");
        assert!(after > 3 * PONG, "{message:?}: {after:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn write_that_went_on_is_a_sign_of_life() {
    let mut fixture = Fixture::new();
    let Fixture {
        outbox,
        keeper,
        life,
        started,
    } = &mut fixture;
    let mut silent = stream::pending();
    let mut reading = pin!(read(&mut silent, outbox, keeper, life));
    let late = *started + PING + Duration::from_secs(20);
    tokio::select! {
        end = &mut reading => panic!("{end:?}"),
        () = sleep_until(late) => {}
    }
    life.with(|keepalive| keepalive.wrote(now()));
    assert_eq!(reading.await, End::PongTimeout);
    assert_eq!(Instant::now(), late + PONG);
}

#[tokio::test(start_paused = true)]
async fn executor_that_somebody_waits_for_is_given_up_within_five_seconds() {
    let mut fixture = Fixture::new();
    let Fixture {
        outbox,
        keeper,
        life,
        started,
    } = &mut fixture;
    let (sender, mut arriving) = wire();
    let is_watched = Arc::clone(&keeper.is_watched);
    let mut reading = pin!(read(&mut arriving, outbox, keeper, life));
    // A harness comes while nothing happens, and the executor answers for a while.
    let living = async {
        sleep_until(*started + Duration::from_secs(3)).await;
        assert!(outbox.try_next().is_none(), "nobody waits");
        is_watched.store(true, Ordering::Relaxed);
        outbox.draw_attention();
        for _ in 0..5 {
            assert!(matches!(outbox.next().await, Next::Ping));
            sender.send(Ok(Message::Pong(Bytes::new()))).await.unwrap();
        }
    };
    tokio::select! {
        end = &mut reading => panic!("{end:?}"),
        () = living => {}
    }
    let silent_since = Instant::now();
    assert_eq!(
        silent_since,
        *started + Duration::from_secs(3) + 4 * WATCHED_PING_INTERVAL
    );
    assert_eq!(reading.await, End::PongTimeout);
    assert!(silent_since.elapsed() <= Duration::from_secs(5));
}

#[tokio::test(start_paused = true)]
async fn harness_that_comes_again_has_to_show_life_on_its_old_socket() {
    for answers in [false, true] {
        let mut fixture = Fixture::new();
        let Fixture {
            outbox,
            keeper,
            life,
            started,
        } = &mut fixture;
        let (sender, mut arriving) = wire();
        let mut reading = pin!(read(&mut arriving, outbox, keeper, life));
        let asking = async {
            sleep_until(*started + Duration::from_secs(1)).await;
            outbox.suspect();
            assert!(matches!(outbox.next().await, Next::Ping));
            if answers {
                sender.send(Ok(Message::Pong(Bytes::new()))).await.unwrap();
            }
        };
        tokio::select! {
            end = &mut reading => panic!("{end:?}"),
            () = asking => {}
        }
        assert_eq!(reading.await, End::PongTimeout);
        let lived = started.elapsed();
        if answers {
            assert_eq!(lived, Duration::from_secs(1) + PING + PONG);
        } else {
            assert_eq!(lived, Duration::from_secs(1) + SUSPECT_PONG_TIMEOUT);
        }
    }
}

/// Messages that a test sends while they are read.
fn wire() -> (
    mpsc::Sender<Result<Message, axum::Error>>,
    impl Stream<Item = Result<Message, axum::Error>> + Unpin,
) {
    let (sender, mut receiver) = mpsc::channel(1);
    let arriving = stream::poll_fn(move |context| receiver.poll_recv(context));
    (sender, arriving)
}

#[tokio::test(start_paused = true)]
async fn message_that_is_there_counts_even_when_the_deadline_has_passed() {
    /// Takes longer for a message than the peer may be silent.
    struct Slow(u32);
    impl FrameHandler for Slow {
        async fn handle(&mut self, _: Bytes) -> Result<(), CloseCause> {
            tokio::time::sleep(2 * (PING + PONG)).await;
            self.0 += 1;
            Ok(())
        }
        fn is_watched(&self) -> bool {
            false
        }
        fn dropped_frames(&self) -> u64 {
            0
        }
    }
    let Fixture { outbox, life, .. } = Fixture::new();
    let mut slow = Slow(0);
    let frame = Message::Binary(Bytes::from_static(b"frame"));
    let mut waiting = messages(vec![frame.clone(), frame.clone(), frame]);
    let end = read(&mut waiting, &outbox, &mut slow, &life).await;
    assert_eq!((end, slow.0), (End::PeerClose, 3));
}

#[tokio::test]
async fn only_binary_messages_reach_the_handler() {
    let mut fixture = Fixture::new();
    let stream = messages(vec![
        Message::Text("text".into()),
        Message::Binary(Bytes::from_static(b"one")),
        Message::Ping(Bytes::from_static(b"ping")),
        Message::Binary(Bytes::from_static(b"two")),
        Message::Close(None),
        Message::Binary(Bytes::from_static(b"late")),
    ]);
    assert_eq!(fixture.read(stream).await.0, End::PeerClose);
    assert_eq!(fixture.keeper.messages, ["one", "two"]);
}

#[tokio::test]
async fn handler_ends_the_socket_with_its_cause() {
    let mut fixture = Fixture::new();
    let stream = messages(vec![
        Message::Binary(Bytes::from_static(b"x")),
        Message::Binary(Bytes::from_static(b"late")),
    ]);
    assert_eq!(
        fixture.read(stream).await.0,
        End::Closed(CloseCause::Malformed)
    );
    assert_eq!(fixture.keeper.messages, ["x"]);
}

#[tokio::test]
async fn errors_are_told_apart() {
    let too_long = tungstenite::error::CapacityError::MessageTooLong {
        size: 2,
        max_size: 1,
    };
    for (error, end) in [
        (
            tungstenite::Error::Capacity(too_long),
            End::Closed(CloseCause::TooLarge),
        ),
        (tungstenite::Error::AttackAttempt, End::ReadError),
        (
            std::io::Error::from(std::io::ErrorKind::ConnectionReset).into(),
            End::ReadError,
        ),
    ] {
        let mut fixture = Fixture::new();
        let stream = stream::iter([Err(axum::Error::new(error))]);
        assert_eq!(fixture.read(stream).await.0, end);
    }
}

#[test]
fn close_codes_are_those_of_the_websocket_protocol() {
    for (cause, expected) in [
        (CloseCause::ExecutorGone, 1000),
        (CloseCause::Superseded, 1000),
        (
            CloseCause::ShuttingDown {
                retry_after: Duration::from_millis(750),
            },
            1001,
        ),
        (CloseCause::Malformed, 1002),
        (CloseCause::Unauthorized, 1008),
        (CloseCause::TooLarge, 1009),
        (CloseCause::TooSlow, 1013),
        (CloseCause::Stalled, 1013),
    ] {
        assert_eq!(code(cause), expected, "{cause:?}");
        assert_eq!(End::Closed(cause).reason(), reason(cause));
    }
}
