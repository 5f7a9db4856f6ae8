//! Streams that outlive their websockets, and the urgent class.

use relay_proto::StreamError;

use super::*;
use crate::{Path, Resumable, executor_resuming, harness_resuming};

const KEEPING: Reliability = Reliability::Resumable;

/// A driver in a task of its own, whose streams can go on.
struct Keeping {
    task: JoinSet<(DisconnectReason, Resumable)>,
    cancel: CancellationToken,
}

impl Keeping {
    fn new(driver: Driver<DuplexStream>, cancel: CancellationToken) -> Self {
        let mut task = JoinSet::new();
        task.spawn(driver.run_resumable());
        Self { task, cancel }
    }

    async fn end(&mut self) -> (DisconnectReason, Resumable) {
        self.task.join_next().await.unwrap().unwrap()
    }
}

/// Two ends with an open stream, and the rendezvous between them.
struct Ends {
    rendezvous: Rendezvous,
    executor: Keeping,
    harness: Keeping,
    at_executor: Stream,
    at_harness: Stream,
}

async fn open(reliability: Reliability) -> Ends {
    let cancel = CancellationToken::new();
    let (client, server) = sockets(65_536).await;
    let connection = executor_connection(reliability);
    let (driver, mut requests) = executor(client, connection, cancel.clone());
    let executor = Keeping::new(driver, cancel);
    let mut rendezvous = Rendezvous::new(server);

    let cancel = CancellationToken::new();
    let (client, server) = sockets(65_536).await;
    rendezvous.add(server, "a");
    let connection = harness_connection(reliability);
    let (driver, opening) = harness(client, connection, request("a"), cancel.clone());
    let harness = Keeping::new(driver, cancel);
    let at_executor = requests.recv().await.unwrap().approve().await.unwrap();
    let at_harness = opening.opened().await.unwrap();
    // The ends know of each other once a message has gone each way.
    let mut ends = Ends {
        rendezvous,
        executor,
        harness,
        at_executor,
        at_harness,
    };
    ends.at_harness.outgoing.send(bytes(1)).await.unwrap();
    ends.at_executor.incoming.recv().await.unwrap();
    ends.at_executor.outgoing.send(bytes(1)).await.unwrap();
    ends.at_harness.incoming.recv().await.unwrap();
    ends
}

impl Ends {
    /// Ends every websocket, and makes new ones.
    async fn move_on(&mut self) {
        let (client, server) = sockets(65_536).await;
        self.rendezvous = Rendezvous::new(server);
        let (reason, resumable) = self.executor.end().await;
        assert!(matches!(
            reason,
            DisconnectReason::ReadError | DisconnectReason::WriteError
        ));
        assert_eq!(resumable.ids().count(), 1);
        assert_eq!(*self.at_executor.path.borrow(), Path::Lost);
        let cancel = CancellationToken::new();
        let connection = executor_connection(KEEPING);
        let (driver, _) = executor_resuming(client, connection, resumable, cancel.clone());
        self.executor = Keeping::new(driver, cancel);

        let (_, resumable) = self.harness.end().await;
        assert!(!resumable.is_empty());
        self.resume_harness(resumable).await;
    }

    async fn resume_harness(&mut self, resumable: Resumable) {
        let (client, server) = sockets(65_536).await;
        self.rendezvous.add(server, "a");
        let cancel = CancellationToken::new();
        let connection = harness_connection(KEEPING);
        let driver = harness_resuming(client, connection, resumable, cancel.clone());
        self.harness = Keeping::new(driver, cancel);
    }
}

#[tokio::test(start_paused = true)]
async fn a_stream_outlives_the_websockets_of_both_ends() {
    let mut ends = open(KEEPING).await;
    let mut tasks = JoinSet::new();
    let (up, down) = (
        ends.at_harness.outgoing.clone(),
        ends.at_executor.outgoing.clone(),
    );
    // Producers that never notice.
    for sender in [up, down] {
        tasks.spawn(async move {
            for n in 0..2_000_usize {
                sender.send(bytes(100 + n * 37 % 50_000)).await.unwrap();
            }
        });
    }
    let mut received = [0_usize; 2];
    for round in 0..20 {
        let until = (round + 1) * 100;
        while received[0] < until || received[1] < until {
            let (side, message) = tokio::select! {
                message = ends.at_executor.incoming.recv(), if received[0] < until => (0, message),
                message = ends.at_harness.incoming.recv(), if received[1] < until => (1, message),
            };
            let expected = 100 + received[side] * 37 % 50_000;
            assert_eq!(message.unwrap().len(), expected, "in order and once");
            received[side] += 1;
        }
        if round < 19 {
            ends.move_on().await;
        }
    }
    assert_eq!(*ends.at_harness.path.borrow(), Path::Live);
}

#[tokio::test(start_paused = true)]
async fn a_stream_outlives_the_websocket_of_its_harness() {
    let mut ends = open(KEEPING).await;
    // The rendezvous closes it and tells the executor, as it does when a socket ends.
    ends.rendezvous.harnesses.lock().unwrap().remove("a");
    let (reason, resumable) = ends.harness.end().await;
    assert_eq!(reason, DisconnectReason::PeerClose);
    let reset = Frame::reset(StreamId::new("a").unwrap()).encode();
    let reset = Message::Binary(reset);
    ends.rendezvous.to_executor.send(reset).await.unwrap();
    let path = &mut ends.at_executor.path;
    path.wait_for(|path| *path == Path::Lost).await.unwrap();
    ends.at_executor.outgoing.send(bytes(7)).await.unwrap();
    ends.resume_harness(resumable).await;
    assert_eq!(ends.at_harness.incoming.recv().await.unwrap().len(), 7);
    let path = &mut ends.at_executor.path;
    path.wait_for(|path| *path == Path::Live).await.unwrap();
    ends.at_harness.outgoing.send(bytes(8)).await.unwrap();
    assert_eq!(ends.at_executor.incoming.recv().await.unwrap().len(), 8);
}

#[tokio::test(start_paused = true)]
async fn a_path_that_swallows_everything_is_left_within_five_seconds() {
    let mut ends = open(KEEPING).await;
    // Both sockets stay, and nothing passes.
    let (nowhere, _queue) = mpsc::channel(100_000);
    let route = ends
        .rendezvous
        .harnesses
        .lock()
        .unwrap()
        .insert("a".to_owned(), nowhere);
    let start = now();
    let (reason, resumable) = ends.harness.end().await;
    assert_eq!(reason, DisconnectReason::PathDead);
    drop(route);
    assert!(now() - start <= Duration::from_secs(5));
    assert!(!resumable.is_empty());
}

#[tokio::test(start_paused = true)]
async fn a_stream_without_a_websocket_is_given_up_in_time() {
    let mut ends = open(KEEPING).await;
    drop(ends.rendezvous);
    let start = now();
    let (_, mut resumable) = ends.executor.end().await;
    resumable.expired().await;
    assert!(resumable.is_empty());
    assert!(now() - start >= limits::SUSPENDED_TIME);
    drop(resumable);
    assert_eq!(ends.at_executor.incoming.recv().await, None);
    ends.at_executor.outgoing.closed().await;
    ends.at_executor.urgent.closed().await;
    // Dropping what can be resumed ends it at once.
    let (_, resumable) = ends.harness.end().await;
    drop(resumable);
    assert_eq!(ends.at_harness.incoming.recv().await, None);
}

#[tokio::test(start_paused = true)]
async fn nothing_is_left_to_resume_where_one_end_keeps_nothing_or_wants_no_more() {
    let mut ends = open(Reliability::Acknowledged).await;
    drop(ends.rendezvous);
    let (_, resumable) = ends.executor.end().await;
    assert!(resumable.is_empty());
    assert_eq!(ends.at_executor.incoming.recv().await, None);

    let mut ends = open(KEEPING).await;
    ends.harness.cancel.cancel();
    let (reason, resumable) = ends.harness.end().await;
    assert_eq!(reason, DisconnectReason::LocalShutdown);
    assert!(resumable.is_empty());
    // The executor is told, and keeps nothing.
    assert_eq!(ends.at_executor.incoming.recv().await, None);
    assert_eq!(ends.rendezvous.count("up", BodyKind::Reset), 1);
    // A driver that has nothing to go on with ends.
    ends.resume_harness(resumable).await;
    let (reason, _) = ends.harness.end().await;
    let lost = CloseReason::Stream(StreamError::PathLost);
    assert_eq!(reason, DisconnectReason::StreamClosed(lost));
}

#[tokio::test(start_paused = true)]
async fn urgent_messages_overtake_and_are_sent_before_the_end() {
    let Ends {
        mut at_harness,
        at_executor,
        rendezvous: _rendezvous,
        executor: _executor,
        harness: _harness,
    } = open(Reliability::Acknowledged).await;
    // Far more than the socket takes at once.
    for _ in 0..10 {
        at_executor.outgoing.send(bytes(2_000_000)).await.unwrap();
    }
    at_executor.urgent.send(bytes(5)).await.unwrap();
    let Stream {
        incoming,
        outgoing,
        urgent,
        ..
    } = at_executor;
    drop((incoming, outgoing));
    let mut lengths = Vec::new();
    while let Some(message) = at_harness.incoming.recv().await {
        lengths.push(message.len());
    }
    let position = lengths.iter().position(|length| *length == 5).unwrap();
    assert!(position < 9, "{lengths:?}");
    assert_eq!(lengths.len(), 11);
    urgent.closed().await;
}
