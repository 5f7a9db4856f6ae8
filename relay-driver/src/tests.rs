//! Drivers over in-memory sockets, joined by a small rendezvous. The clock is paused: it only moves
//! when every task waits.

mod resuming;

use std::collections::HashMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, LazyLock, Mutex};
use std::time::Duration;

use bytes::Bytes;
use futures_util::stream::{SplitSink, SplitStream};
use futures_util::{FutureExt, SinkExt, StreamExt};
use rand::SeedableRng;
use rand::rngs::StdRng;
use relay_proto::frame::{BodyKind, Frame, peek};
use relay_proto::ids::{EnvironmentId, RegistrationId, StreamId};
use relay_proto::{CloseReason, Connection, ConnectionConfig, Identity, Reliability, limits};
use tokio::io::{AsyncRead, AsyncWrite, DuplexStream};
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::protocol::Role;
use tokio_util::io::InspectWriter;
use tokio_util::sync::CancellationToken;

use crate::io::now;
use crate::{
    DisconnectReason, Driver, IncomingStream, OpenFailure, OpenRequest, Opening, Stream, executor,
    harness, websocket_config,
};

type Socket = WebSocketStream<DuplexStream>;

static EXECUTOR: LazyLock<Arc<Identity>> =
    LazyLock::new(|| Arc::new(Identity::generate(&mut StdRng::seed_from_u64(1)).unwrap()));
static HARNESS: LazyLock<Arc<Identity>> =
    LazyLock::new(|| Arc::new(Identity::generate(&mut StdRng::seed_from_u64(2)).unwrap()));

fn environment() -> EnvironmentId {
    EnvironmentId::new("environment").unwrap()
}

fn registration() -> RegistrationId {
    RegistrationId::new("registration").unwrap()
}

/// A client's and a server's end of one websocket, with `buffer` bytes between them.
async fn sockets(buffer: usize) -> (Socket, Socket) {
    let (client, server) = tokio::io::duplex(buffer);
    let config = Some(websocket_config());
    (
        WebSocketStream::from_raw_socket(client, Role::Client, config).await,
        WebSocketStream::from_raw_socket(server, Role::Server, config).await,
    )
}

fn executor_on(socket: Socket) -> (Running, mpsc::Receiver<IncomingStream>) {
    let connection = executor_connection(Reliability::default());
    let cancel = CancellationToken::new();
    let (driver, requests) = executor(socket, connection, cancel.clone());
    (Running::new(driver, cancel), requests)
}

fn executor_connection(reliability: Reliability) -> Connection {
    Connection::executor(
        ConnectionConfig {
            reliability,
            ..ConnectionConfig::default()
        },
        EXECUTOR.clone(),
        environment(),
        registration(),
        [1; 32],
        now(),
    )
}

fn harness_connection(reliability: Reliability) -> Connection {
    Connection::harness(
        ConnectionConfig {
            reliability,
            ..ConnectionConfig::default()
        },
        HARNESS.clone(),
        environment(),
        registration(),
        [2; 32],
        now(),
    )
}

fn request(stream: &str) -> OpenRequest {
    OpenRequest {
        stream: StreamId::new(stream).unwrap(),
        executor_key: EXECUTOR.public_key().clone(),
        authorization: "authorization".to_owned(),
    }
}

fn harness_on(socket: Socket, stream: &str) -> (Running, Opening) {
    let connection = harness_connection(Reliability::default());
    let cancel = CancellationToken::new();
    let (driver, opening) = harness(socket, connection, request(stream), cancel.clone());
    (Running::new(driver, cancel), opening)
}

/// A driver in a task of its own.
struct Running {
    task: JoinSet<DisconnectReason>,
    cancel: CancellationToken,
}

impl Running {
    fn new<S>(driver: Driver<S>, cancel: CancellationToken) -> Self
    where
        S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        let mut task = JoinSet::new();
        task.spawn(driver.run());
        Self { task, cancel }
    }

    async fn end(&mut self) -> DisconnectReason {
        self.task.join_next().await.unwrap().unwrap()
    }
}

/// Routes frames by stream id, as a rendezvous does, and keeps what passed.
struct Rendezvous {
    tasks: JoinSet<()>,
    harnesses: Arc<Mutex<HashMap<String, mpsc::Sender<Message>>>>,
    to_executor: mpsc::Sender<Message>,
    log: Arc<Mutex<Vec<(&'static str, BodyKind)>>>,
}

impl Rendezvous {
    fn new(executor: Socket) -> Self {
        let harnesses: Arc<Mutex<HashMap<String, mpsc::Sender<Message>>>> = Arc::default();
        let log: Arc<Mutex<Vec<_>>> = Arc::default();
        let (to_executor, queue) = mpsc::channel(1_000);
        let (sink, mut stream) = executor.split();
        let mut tasks = JoinSet::new();
        tasks.spawn(write(sink, queue));
        let (routes, seen) = (harnesses.clone(), log.clone());
        tasks.spawn(async move {
            while let Some(Ok(message)) = stream.next().await {
                let Message::Binary(bytes) = message else {
                    continue;
                };
                let peeked = peek(&bytes).unwrap();
                seen.lock().unwrap().push(("down", peeked.kind));
                let route = routes.lock().unwrap().get(peeked.stream_id).cloned();
                if let Some(route) = route {
                    let _ = route.send(Message::Binary(bytes)).await;
                }
            }
            seen.lock()
                .unwrap()
                .push(("executor left", BodyKind::Unknown));
            routes.lock().unwrap().clear();
        });
        Self {
            tasks,
            harnesses,
            to_executor,
            log,
        }
    }

    fn add(&mut self, harness: Socket, stream: &str) {
        let (sender, queue) = mpsc::channel(1_000);
        let (sink, stream_half) = harness.split();
        self.harnesses
            .lock()
            .unwrap()
            .insert(stream.to_owned(), sender);
        self.tasks.spawn(write(sink, queue));
        self.tasks.spawn(upward(
            stream_half,
            self.to_executor.clone(),
            self.log.clone(),
        ));
    }

    fn count(&self, direction: &str, kind: BodyKind) -> usize {
        self.log
            .lock()
            .unwrap()
            .iter()
            .filter(|entry| **entry == (direction, kind))
            .count()
    }
}

async fn write(mut sink: SplitSink<Socket, Message>, mut queue: mpsc::Receiver<Message>) {
    while let Some(message) = queue.recv().await {
        if sink.send(message).await.is_err() {
            return;
        }
    }
    let _ = sink.close().await;
}

async fn upward(
    mut stream: SplitStream<Socket>,
    to_executor: mpsc::Sender<Message>,
    log: Arc<Mutex<Vec<(&'static str, BodyKind)>>>,
) {
    while let Some(Ok(message)) = stream.next().await {
        if let Message::Binary(bytes) = &message {
            log.lock().unwrap().push(("up", peek(bytes).unwrap().kind));
            let _ = to_executor.send(message).await;
        }
    }
}

/// An executor and any number of harnesses.
struct World {
    executor: Running,
    requests: mpsc::Receiver<IncomingStream>,
    rendezvous: Rendezvous,
}

impl World {
    async fn new() -> Self {
        let (client, server) = sockets(65_536).await;
        let (executor, requests) = executor_on(client);
        Self {
            executor,
            requests,
            rendezvous: Rendezvous::new(server),
        }
    }

    async fn harness(&mut self, stream: &str) -> (Running, Opening) {
        let (client, server) = sockets(65_536).await;
        self.rendezvous.add(server, stream);
        harness_on(client, stream)
    }

    /// A harness with its stream open at both ends: driver, harness's stream, executor's stream.
    async fn open(&mut self, stream: &str) -> (Running, Stream, Stream) {
        let (running, opening) = self.harness(stream).await;
        let request = self.requests.recv().await.unwrap();
        assert_eq!(request.id.as_str(), stream);
        assert_eq!(request.authorization, "authorization");
        assert_eq!(&request.harness_key, HARNESS.public_key());
        let at_executor = request.approve().await.unwrap();
        (running, opening.opened().await.unwrap(), at_executor)
    }
}

fn bytes(length: usize) -> Bytes {
    vec![0x5a; length].into()
}

async fn echo(mut stream: Stream) {
    while let Some(message) = stream.incoming.recv().await {
        if stream.outgoing.send(message).await.is_err() {
            return;
        }
    }
}

#[tokio::test(start_paused = true)]
async fn messages_of_all_sizes_go_both_ways_at_once() {
    let mut world = World::new().await;
    let (_running, at_harness, at_executor) = world.open("a").await;
    let mut tasks = JoinSet::new();
    tasks.spawn(echo(at_executor));
    let sizes = [1, 100, 61_436, 61_437, 1_000_000, 5_000_000, 7];
    let Stream {
        mut incoming,
        outgoing,
        ..
    } = at_harness;
    tasks.spawn(async move {
        for round in 0..4 {
            for size in sizes {
                outgoing.send(bytes(size + round)).await.unwrap();
            }
        }
        // Kept until the echo is complete.
        outgoing.closed().await;
    });
    for round in 0..4 {
        for size in sizes {
            assert_eq!(incoming.recv().await.unwrap(), bytes(size + round));
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_refused_a_dropped_and_a_rejected_request_fail_to_open() {
    let mut world = World::new().await;
    for (n, reason) in ["reset_by_peer", "reset_by_peer", "credentials_rejected"]
        .iter()
        .enumerate()
    {
        let (mut running, opening) = world.harness(&format!("s{n}")).await;
        let request = world.requests.recv().await.unwrap();
        match n {
            0 => request.refuse(),
            1 => drop(request),
            _ => request.reject_credentials(),
        }
        let failure = opening.opened().await.unwrap_err();
        assert_eq!(failure.reason(), *reason);
        assert!(matches!(failure, OpenFailure::Closed(_)));
        assert_eq!(running.end().await.reason(), *reason);
    }
}

#[tokio::test(start_paused = true)]
async fn a_request_nobody_answers_is_gone_after_ten_seconds() {
    let mut world = World::new().await;
    let start = now();
    let (_running, opening) = world.harness("a").await;
    let mut request = world.requests.recv().await.unwrap();
    request.gone().await;
    assert!(now() - start >= limits::AUTHORIZATION_TIMEOUT);
    assert!(request.approve().await.is_err());
    assert!(opening.opened().await.is_err());
}

#[tokio::test(start_paused = true)]
async fn a_slow_stream_stalls_no_other() {
    let mut world = World::new().await;
    let (_slow_driver, slow_harness, mut slow) = world.open("slow").await;
    let (_quick_driver, mut quick_harness, quick) = world.open("quick").await;
    let mut tasks = JoinSet::new();
    tasks.spawn(echo(quick));
    // More than the channel holds, less than the window.
    for n in 0..100 {
        slow_harness.outgoing.send(bytes(50_000 + n)).await.unwrap();
        quick_harness.outgoing.send(bytes(10)).await.unwrap();
        assert_eq!(quick_harness.incoming.recv().await.unwrap().len(), 10);
    }
    for n in 0..100 {
        assert_eq!(slow.incoming.recv().await.unwrap().len(), 50_000 + n);
    }
}

#[tokio::test(start_paused = true)]
async fn a_harness_that_does_not_take_messages_holds_back_its_executor() {
    let mut world = World::new().await;
    let (_driver, mut at_harness, at_executor) = world.open("a").await;
    let mut tasks = JoinSet::new();
    tasks.spawn(async move {
        // Twice the receive window.
        for n in 0..64 {
            at_executor.outgoing.send(bytes(500_000 + n)).await.unwrap();
        }
        at_executor.outgoing.closed().await;
    });
    // Every task waits before the clock moves, so by then all that can move has moved. It stays
    // below the ping interval of the executor, whose pings the harness does not see.
    tokio::time::sleep(Duration::from_secs(5)).await;
    for n in 0..64 {
        assert_eq!(at_harness.incoming.recv().await.unwrap().len(), 500_000 + n);
    }
}

#[tokio::test(start_paused = true)]
async fn dropping_both_halves_sends_the_rest_and_resets() {
    let mut world = World::new().await;
    let (mut driver, mut at_harness, at_executor) = world.open("a").await;
    for n in 0..10 {
        at_executor.outgoing.send(bytes(100_000 + n)).await.unwrap();
    }
    drop(at_executor);
    for n in 0..10 {
        assert_eq!(at_harness.incoming.recv().await.unwrap().len(), 100_000 + n);
    }
    assert_eq!(at_harness.incoming.recv().await, None);
    at_harness.outgoing.closed().await;
    assert_eq!(
        driver.end().await,
        DisconnectReason::StreamClosed(CloseReason::ResetByPeer)
    );
}

#[tokio::test(start_paused = true)]
async fn dropping_one_half_keeps_the_other_working() {
    let mut world = World::new().await;
    let (_driver, mut at_harness, at_executor) = world.open("a").await;
    let Stream {
        mut incoming,
        outgoing,
        ..
    } = at_executor;
    drop(outgoing);
    at_harness.outgoing.send(bytes(5)).await.unwrap();
    assert_eq!(incoming.recv().await.unwrap().len(), 5);
    drop(incoming);
    assert_eq!(at_harness.incoming.recv().await, None);

    let (_driver, mut at_harness, at_executor) = world.open("b").await;
    let Stream {
        incoming, outgoing, ..
    } = at_executor;
    drop(incoming);
    for _ in 0..100 {
        at_harness.outgoing.send(bytes(500_000)).await.unwrap();
    }
    outgoing.send(bytes(7)).await.unwrap();
    assert_eq!(at_harness.incoming.recv().await.unwrap().len(), 7);
}

#[tokio::test(start_paused = true)]
async fn cancelling_the_executor_resets_its_streams_and_closes() {
    let mut world = World::new().await;
    let (mut a_driver, mut a, mut a_executor) = world.open("a").await;
    let (mut b_driver, _b, _b_executor) = world.open("b").await;
    world.executor.cancel.cancel();
    assert_eq!(world.executor.end().await, DisconnectReason::LocalShutdown);
    let reset = DisconnectReason::StreamClosed(CloseReason::ResetByPeer);
    assert_eq!(a_driver.end().await, reset);
    assert_eq!(b_driver.end().await, reset);
    assert_eq!(a.incoming.recv().await, None);
    assert_eq!(a_executor.incoming.recv().await, None);
    assert_eq!(world.rendezvous.count("down", BodyKind::Reset), 2);
}

#[tokio::test(start_paused = true)]
async fn cancelling_the_harness_resets_its_stream() {
    let mut world = World::new().await;
    let (mut driver, _at_harness, mut at_executor) = world.open("a").await;
    driver.cancel.cancel();
    assert_eq!(driver.end().await, DisconnectReason::LocalShutdown);
    assert_eq!(at_executor.incoming.recv().await, None);
    assert_eq!(world.rendezvous.count("up", BodyKind::Reset), 1);
}

#[tokio::test(start_paused = true)]
async fn cancelling_does_not_wait_for_a_peer_that_does_not_read() {
    let (client, _server) = sockets(64).await;
    let (mut running, _opening) = harness_on(client, "a");
    tokio::task::yield_now().await;
    let start = now();
    running.cancel.cancel();
    assert_eq!(running.end().await, DisconnectReason::LocalShutdown);
    assert!(now() - start <= crate::GOODBYE_TIMEOUT);
}

#[tokio::test(start_paused = true)]
async fn the_end_of_the_websocket_is_told_apart() {
    let (client, mut server) = sockets(65_536).await;
    let (mut running, _requests) = executor_on(client);
    server.close(None).await.unwrap();
    assert_eq!(running.end().await, DisconnectReason::PeerClose);
    assert!(
        matches!(server.next().await, Some(Ok(Message::Close(_)))),
        "the close is answered"
    );

    let (client, server) = sockets(65_536).await;
    let (mut running, _requests) = executor_on(client);
    drop(server);
    assert_eq!(running.end().await, DisconnectReason::ReadError);

    let (client, server) = sockets(65_536).await;
    let (mut running, opening) = harness_on(client, "a");
    drop(server);
    let reason = running.end().await;
    assert!(matches!(
        reason,
        DisconnectReason::ReadError | DisconnectReason::WriteError
    ));
    assert_eq!(
        opening.opened().await.unwrap_err(),
        OpenFailure::Disconnected(reason)
    );
}

#[tokio::test(start_paused = true)]
async fn a_peer_that_answers_no_ping_is_dropped() {
    let (client, mut server) = sockets(65_536).await;
    let (mut running, _requests) = executor_on(client);
    let start = now();
    // Reading would make the library answer, so the raw bytes are left unread.
    assert_eq!(running.end().await, DisconnectReason::PongTimeout);
    assert_eq!(now() - start, limits::PING_INTERVAL + limits::PONG_TIMEOUT);
    assert_eq!(
        server.next().await.unwrap().unwrap(),
        Message::Ping(Bytes::new())
    );
}

#[tokio::test(start_paused = true)]
async fn a_peer_that_answers_pings_is_kept() {
    let (client, mut server) = sockets(65_536).await;
    let (mut running, _requests) = executor_on(client);
    let mut pings = 0;
    while pings < 100 {
        let message = server.next().await.unwrap().unwrap();
        assert_eq!(message, Message::Ping(Bytes::new()));
        pings += 1;
        // The next read flushes the answer.
    }
    running.cancel.cancel();
    assert!(matches!(server.next().await, Some(Ok(Message::Close(_)))));
    assert_eq!(running.end().await, DisconnectReason::LocalShutdown);
}

/// Asks an executor for a stream, frame by frame.
async fn knock(server: &mut Socket) -> (Connection, StreamId) {
    let mut peer = Connection::harness(
        ConnectionConfig::default(),
        HARNESS.clone(),
        environment(),
        registration(),
        [3; 32],
        now(),
    );
    let id = StreamId::new("a").unwrap();
    let executor = EXECUTOR.public_key().clone();
    peer.open(now(), id.clone(), executor, "authorization")
        .unwrap();
    while let Some(relay_proto::Transmit::Frame(frame)) = peer.poll_transmit(now()) {
        server.send(Message::Binary(frame)).await.unwrap();
    }
    (peer, id)
}

#[tokio::test(start_paused = true)]
async fn what_is_sent_together_is_written_together() {
    let (client, server) = tokio::io::duplex(65_536);
    let writes = Arc::new(AtomicUsize::new(0));
    let counted = Arc::clone(&writes);
    let client = InspectWriter::new(client, move |_: &[u8]| {
        counted.fetch_add(1, Ordering::Relaxed);
    });
    let config = Some(websocket_config());
    let client = WebSocketStream::from_raw_socket(client, Role::Client, config).await;
    let mut server = WebSocketStream::from_raw_socket(server, Role::Server, config).await;
    let connection = executor_connection(Reliability::default());
    let cancel = CancellationToken::new();
    let (driver, mut requests) = executor(client, connection, cancel.clone());
    let _running = Running::new(driver, cancel);
    let (mut peer, _) = knock(&mut server).await;
    let stream = requests.recv().await.unwrap().approve().await.unwrap();
    let answer = server.next().await.unwrap().unwrap();
    peer.handle_message(now(), answer.into_data()).unwrap();

    let before = writes.load(Ordering::Relaxed);
    for _ in 0..10 {
        stream.outgoing.try_send(bytes(100)).unwrap();
    }
    let mut received = 0;
    while received < 10 {
        let frame = server.next().await.unwrap().unwrap();
        peer.handle_message(now(), frame.into_data()).unwrap();
        while let Some(event) = peer.poll_event() {
            received += usize::from(matches!(event, relay_proto::Event::Message { .. }));
        }
    }
    assert_eq!(writes.load(Ordering::Relaxed) - before, 1);
}

#[tokio::test(start_paused = true)]
async fn a_write_that_waits_does_not_stop_reading() {
    // The peer opens a stream and then reads nothing, but keeps sending.
    let (client, mut server) = sockets(16_384).await;
    let (mut running, mut requests) = executor_on(client);
    let (mut peer, id) = knock(&mut server).await;
    let mut stream = requests.recv().await.unwrap().approve().await.unwrap();
    let answer = loop {
        if let Message::Binary(answer) = server.next().await.unwrap().unwrap() {
            break answer;
        }
    };
    peer.handle_message(now(), answer).unwrap();
    // Far more than the socket takes.
    stream.outgoing.send(bytes(3_000_000)).await.unwrap();
    for n in 1..=50 {
        peer.send(now(), &id, bytes(n)).unwrap();
        while let Some(relay_proto::Transmit::Frame(frame)) = peer.poll_transmit(now()) {
            server.send(Message::Binary(frame)).await.unwrap();
        }
        assert_eq!(stream.incoming.recv().await.unwrap().len(), n);
    }
    // What arrives is life, but not for ever.
    let start = now();
    let chatter = async {
        loop {
            tokio::time::sleep(Duration::from_secs(1)).await;
            peer.send(now(), &id, bytes(1)).unwrap();
            while let Some(relay_proto::Transmit::Frame(frame)) = peer.poll_transmit(now()) {
                if server.send(Message::Binary(frame)).await.is_err() {
                    return;
                }
            }
            if stream.incoming.recv().await.is_none() {
                return;
            }
        }
    };
    let ending = async { (running.end().await, now() - start) };
    let ((end, lived), ()) = tokio::join!(ending, chatter);
    assert!(matches!(
        end,
        DisconnectReason::WriteError | DisconnectReason::PongTimeout
    ));
    assert!(
        lived > limits::PONG_TIMEOUT && lived <= limits::WRITE_TIMEOUT,
        "{lived:?}"
    );
}

#[tokio::test(start_paused = true)]
async fn a_peer_of_release_0_169_that_swallows_everything_is_left_within_five_seconds() {
    let (client, mut server) = sockets(65_536).await;
    let (mut running, mut requests) = executor_on(client);
    knock(&mut server).await;
    let mut stream = requests.recv().await.unwrap().approve().await.unwrap();
    // Reading answers the pings that come while somebody waits for nothing else.
    let mut pings = 0;
    while pings < 3 {
        pings += u32::from(server.next().await.unwrap().unwrap().is_ping());
    }
    assert!(
        server.next().now_or_never().is_none(),
        "the last answer is on its way"
    );
    let start = now();
    assert_eq!(running.end().await, DisconnectReason::PongTimeout);
    assert!(
        now() - start <= Duration::from_secs(5),
        "{:?}",
        now() - start
    );
    assert_eq!(stream.incoming.recv().await, None);
}

#[tokio::test(start_paused = true)]
async fn text_and_malformed_messages_are_ignored() {
    let mut world = World::new().await;
    let (_driver, mut at_harness, at_executor) = world.open("a").await;
    let route = world.rendezvous.harnesses.lock().unwrap()["a"].clone();
    for message in [
        Message::Text("text".into()),
        Message::Binary(Bytes::from_static(b"\xff")),
        Message::Ping(Bytes::from_static(b"ping")),
        Message::Pong(Bytes::new()),
    ] {
        route.send(message.clone()).await.unwrap();
        world.rendezvous.to_executor.send(message).await.unwrap();
    }
    let mut tasks = JoinSet::new();
    tasks.spawn(echo(at_executor));
    at_harness.outgoing.send(bytes(9)).await.unwrap();
    assert_eq!(at_harness.incoming.recv().await.unwrap().len(), 9);
}

#[tokio::test(start_paused = true)]
async fn a_message_over_the_limit_ends_the_websocket() {
    let (client, server) = tokio::io::duplex(65_536);
    let client =
        WebSocketStream::from_raw_socket(client, Role::Client, Some(websocket_config())).await;
    let mut server = WebSocketStream::from_raw_socket(server, Role::Server, None).await;
    let (mut running, _requests) = executor_on(client);
    let largest = limits::WEBSOCKET_MESSAGE_BYTES;
    server.send(Message::Binary(bytes(largest))).await.unwrap();
    let _ = server.send(Message::Binary(bytes(largest + 1))).await;
    assert_eq!(running.end().await, DisconnectReason::ReadError);
}

#[tokio::test(start_paused = true)]
async fn a_message_that_cannot_be_sent_resets_the_stream() {
    let mut world = World::new().await;
    let (mut driver, at_harness, mut at_executor) = world.open("a").await;
    at_harness.outgoing.send(Bytes::new()).await.unwrap();
    assert_eq!(at_executor.incoming.recv().await, None);
    assert_eq!(
        driver.end().await,
        DisconnectReason::StreamClosed(CloseReason::Local)
    );
}

#[tokio::test(start_paused = true)]
async fn a_reset_frame_from_the_rendezvous_ends_one_stream() {
    let mut world = World::new().await;
    let (_a_driver, _a, mut a_executor) = world.open("a").await;
    let (_b_driver, mut b, b_executor) = world.open("b").await;
    let reset = Frame::reset(StreamId::new("a").unwrap()).encode();
    world
        .rendezvous
        .to_executor
        .send(Message::Binary(reset))
        .await
        .unwrap();
    assert_eq!(a_executor.incoming.recv().await, None);
    b_executor.outgoing.send(bytes(3)).await.unwrap();
    assert_eq!(b.incoming.recv().await.unwrap().len(), 3);
}
