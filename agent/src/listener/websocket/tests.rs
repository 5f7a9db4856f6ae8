//! Both ends in memory, on a paused clock: time moves only when nobody has anything to do.

use tokio::io::DuplexStream;
use tokio_tungstenite::tungstenite::protocol::Role;

use super::*;

struct Rig {
    peer: WebSocketStream<DuplexStream>,
    to_peer: mpsc::Sender<Bytes>,
    from_peer: mpsc::Receiver<Bytes>,
    cancel: CancellationToken,
    run: tokio::task::JoinHandle<Ended>,
}

const KEEPALIVE: Keepalive = Keepalive {
    ping_interval: Duration::from_secs(15),
    pong_timeout: Duration::from_secs(25),
    write_timeout: Duration::from_secs(60),
};

async fn rig_with(buffer_bytes: usize, queued: usize) -> Rig {
    let (near, far) = tokio::io::duplex(buffer_bytes);
    let server = WebSocketStream::from_raw_socket(near, Role::Server, Some(config())).await;
    let peer = WebSocketStream::from_raw_socket(
        far,
        Role::Client,
        Some(
            WebSocketConfig::default()
                .max_frame_size(None)
                .max_message_size(None),
        ),
    )
    .await;
    let (incoming, from_peer) = Inbox::with_limits(queued, 64 << 20);
    let (to_peer, outgoing) = mpsc::channel(8);
    let cancel = CancellationToken::new();
    let end = End {
        finishing: CancellationToken::new(),
        cancel: cancel.clone(),
    };
    let run = tokio::spawn(run(server, incoming, outgoing, KEEPALIVE, end));
    Rig {
        peer,
        to_peer,
        from_peer,
        cancel,
        run,
    }
}

async fn rig() -> Rig {
    rig_with(1 << 20, 8).await
}

async fn close_code(peer: &mut WebSocketStream<DuplexStream>) -> Option<u16> {
    while let Some(Ok(message)) = peer.next().await {
        if let Message::Close(frame) = message {
            return frame.map(|frame| frame.code.into());
        }
    }
    None
}

#[tokio::test(start_paused = true)]
async fn text_and_binary_arrive_and_answers_are_text() {
    let mut rig = rig().await;
    rig.peer.send(Message::text("{\"a\":1}")).await.unwrap();
    rig.peer
        .send(Message::binary(&b"{\"b\":2}"[..]))
        .await
        .unwrap();
    assert_eq!(rig.from_peer.recv().await.unwrap(), "{\"a\":1}");
    assert_eq!(rig.from_peer.recv().await.unwrap(), "{\"b\":2}");
    rig.to_peer
        .send(Bytes::from_static(b"{\"c\":3}"))
        .await
        .unwrap();
    assert_eq!(
        rig.peer.next().await.unwrap().unwrap(),
        Message::text("{\"c\":3}")
    );
}

#[tokio::test(start_paused = true)]
async fn a_close_from_the_peer_is_answered() {
    let mut rig = rig().await;
    rig.peer
        .close(Some(CloseFrame {
            code: CloseCode::Normal,
            reason: Utf8Bytes::default(),
        }))
        .await
        .unwrap();
    assert_eq!(close_code(&mut rig.peer).await, Some(1000));
    assert_eq!(rig.run.await.unwrap(), Ended::PeerClosed);
    assert!(rig.from_peer.recv().await.is_none());
}

#[tokio::test(start_paused = true)]
async fn shutdown_and_violations_have_their_own_codes() {
    let mut shutdown = rig().await;
    shutdown.cancel.cancel();
    assert_eq!(close_code(&mut shutdown.peer).await, Some(1001));
    drop(shutdown.peer);
    assert_eq!(shutdown.run.await.unwrap(), Ended::Shutdown);

    let mut session = rig().await;
    drop(session.to_peer);
    assert_eq!(close_code(&mut session.peer).await, Some(1008));
    drop(session.peer);
    assert_eq!(session.run.await.unwrap(), Ended::BySession);

    let large = rig().await;
    let frame = vec![b' '; MAX_FRAME_BYTES + 1];
    let (mut sink, mut stream) = large.peer.split();
    let sending = tokio::spawn(async move {
        let _ = sink.send(Message::binary(frame)).await;
        sink
    });
    let code = loop {
        if let Message::Close(frame) = stream.next().await.unwrap().unwrap() {
            break frame.unwrap().code;
        }
    };
    assert_eq!(code, CloseCode::Size);
    sending.abort();
    drop(stream);
    let _ = sending.await;
    assert_eq!(large.run.await.unwrap(), Ended::TooLarge);
}

#[tokio::test(start_paused = true)]
async fn a_peer_that_answers_pings_stays() {
    let mut rig = rig().await;
    let start = Instant::now();
    let mut pings = 0;
    while start.elapsed() < Duration::from_secs(200) {
        if let Message::Ping(_) = rig.peer.next().await.unwrap().unwrap() {
            pings += 1;
            rig.peer.flush().await.unwrap();
        }
    }
    assert_eq!(pings, 14);
    assert!(!rig.run.is_finished());
}

#[tokio::test(start_paused = true)]
async fn a_silent_peer_is_dropped_after_the_deadline() {
    let rig = rig().await;
    let start = Instant::now();
    assert_eq!(rig.run.await.unwrap(), Ended::PeerGone);
    assert_eq!(start.elapsed().as_secs(), 40);
    drop(rig.peer);
}

#[tokio::test(start_paused = true)]
async fn a_busy_session_does_not_make_the_peer_look_gone() {
    let mut rig = rig_with(1 << 20, 1).await;
    for _ in 0..4 {
        rig.peer.send(Message::text("{}")).await.unwrap();
    }
    tokio::time::advance(Duration::from_secs(300)).await;
    for _ in 0..4 {
        assert_eq!(rig.from_peer.recv().await.unwrap(), "{}");
    }
    assert!(!rig.run.is_finished());
}

#[tokio::test(start_paused = true)]
async fn a_peer_that_does_not_read_is_dropped_when_writing_stalls() {
    let rig = rig_with(4096, 8).await;
    let start = Instant::now();
    rig.to_peer
        .send(Bytes::from(vec![b' '; 1 << 20]))
        .await
        .unwrap();
    assert_eq!(rig.run.await.unwrap(), Ended::PeerGone);
    assert_eq!(start.elapsed().as_secs(), 60);
}
