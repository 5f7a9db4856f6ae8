//! Weaknesses 1 to 8: waiting for nothing, too many messages, and standing in line.

use std::net::SocketAddr;
use std::time::Duration;

use agent::listener::Keepalive;
use serde_json::json;
use tokio::time::Instant;

use crate::peer::{
    Held, Peer, Program, listen, script, sessions, start, uri, websocket, with, write,
};

/// 1: with Nagle's algorithm an event right after a response waits for the peer's delayed
/// acknowledgement, some 40 ms.
#[tokio::test]
async fn accepted_sockets_do_not_wait_for_acknowledgements() {
    let sessions = sessions();
    let (address, _listening) = listen(&sessions, Keepalive::default()).await;
    let socket = websocket(address).await;
    let client = socket.get_ref().local_addr().unwrap();
    assert_eq!(is_nodelay(address, client), Some(true));
}

/// Whether the socket of this process from `local` to `peer` sends without waiting.
#[expect(
    unsafe_code,
    reason = "the listener keeps its sockets to itself, and a number is all that /proc tells"
)]
fn is_nodelay(local: SocketAddr, peer: SocketAddr) -> Option<bool> {
    use rustix::net::{SocketAddrAny, getpeername, getsockname};

    let is = |address: Option<SocketAddrAny>, wanted: SocketAddr| {
        address.and_then(|found| SocketAddr::try_from(found).ok()) == Some(wanted)
    };
    let mut entries = std::fs::read_dir("/proc/self/fd").unwrap();
    entries.find_map(|entry| {
        let number = entry.ok()?.file_name().to_str()?.parse().ok()?;
        // SAFETY: the number is used for three queries that change nothing. If the descriptor was
        // closed meanwhile they fail, and if it was reused they look at the other file.
        let fd = unsafe { std::os::fd::BorrowedFd::borrow_raw(number) };
        let found = is(getsockname(fd).ok(), local) && is(getpeername(fd).ok().flatten(), peer);
        found.then(|| rustix::net::sockopt::tcp_nodelay(fd).unwrap())
    })
}

/// 2: one notification per read makes hundreds of them of a few thousand single bytes.
#[tokio::test]
async fn three_thousand_single_bytes_do_not_make_hundreds_of_notifications() {
    let program = Program::start(&[]);
    let mut peer = program.connect().await;
    let begin = Instant::now();
    let argv = ["dd", "if=/dev/zero", "bs=1", "count=3000", "status=none"];
    peer.start(start("p", &argv)).await;
    let story = peer.collect("p").await;
    assert_eq!(story.output, vec![0; 3000]);
    let most = most_pieces(3000, begin.elapsed());
    assert!(story.pieces <= most, "{} > {most}", story.pieces);
    // Even on a machine that takes half a second for this.
    assert!(story.pieces < 300, "{} pieces", story.pieces);
}

/// 2: pieces of 8 KiB make 2447 messages of 20 MB.
#[tokio::test]
async fn bulk_output_is_not_cut_into_small_pieces() {
    const SIZE: u32 = 20_000_000;
    let program = Program::start(&[]);
    let mut peer = program.connect().await;
    let begin = Instant::now();
    let argv = ["head", "-c", &SIZE.to_string(), "/dev/zero"];
    peer.start(start("p", &argv)).await;
    let story = peer.collect("p").await;
    assert_eq!(story.output.len(), SIZE as usize);
    let most = most_pieces(SIZE, begin.elapsed());
    assert!(story.pieces <= most, "{} > {most}", story.pieces);
}

/// A piece goes out when 44 KiB are there, or 2 ms after the one before.
fn most_pieces(bytes: u32, time: Duration) -> u32 {
    bytes / 45_056 + u32::try_from(time.as_millis() / 2).unwrap() + 2
}

/// 3: a long poll, a program that does not read its input, or a server that never answers hold up
/// the whole connection.
#[tokio::test]
async fn nothing_that_waits_holds_up_the_connection() {
    let silent = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}/", silent.local_addr().unwrap());
    let program = Program::start(&["--concurrent-requests", "1"]);
    let mut peer = program.connect().await;

    peer.start(start("quiet", &["sleep", "600"])).await;
    let poll = json!({"processId": "quiet", "waitMs": 600_000});
    let mut waiting = vec![peer.send("process/read", poll).await];
    peer.start(with(start("deaf", &["sleep", "600"]), "pipeStdin", true))
        .await;
    let mebibyte = vec![b'x'; 1 << 20];
    for number in 0..10 {
        let id = peer
            .send("process/write", write("deaf", number, &mebibyte))
            .await;
        // Eight wait in the queue, and what the pipe holds is not a whole one.
        if number > 8 {
            waiting.push(id);
        }
    }
    let request = json!({"method": "GET", "url": url, "requestId": "r"});
    waiting.push(peer.send("http/request", request).await);
    let _kept = silent.accept().await.unwrap();

    peer.ok("environment/status", json!(null)).await;
    peer.ok("fs/getMetadata", json!({"path": "file:///"})).await;
    peer.start(start("p", &["true"])).await;
    assert_eq!(peer.collect("p").await.exit_code, Some(0));
    for id in &waiting {
        assert!(!peer.is_answered(*id), "{id} did not wait");
    }
    for process in ["quiet", "deaf"] {
        let params = json!({"processId": process});
        let result = peer.ok("process/terminate", params).await;
        assert_eq!(result, json!({"running": true}));
        assert_eq!(peer.collect(process).await.exit_code, Some(137));
    }
}

/// 5: while the executor cannot write to a connection it does not read from it either.
#[tokio::test]
async fn a_client_that_does_not_read_can_still_end_its_process() {
    let program = Program::start(&[]);
    let mut peer = program.connect().await;
    let dir = tempfile::tempdir().unwrap();
    let fifo = dir.path().join("fifo");
    let held = Held::new(&fifo);
    let text = format!("exec 9>{}; echo ready; exec yes", fifo.display());
    peer.start(script("p", &text)).await;
    peer.follow("p", |story| story.text().contains("ready"))
        .await;
    // Nothing is taken from the socket from here on. The answers alone are some 200 MB.
    for _ in 0..200 {
        peer.send("process/read", json!({"processId": "p"})).await;
    }
    peer.send("process/terminate", json!({"processId": "p"}))
        .await;
    held.released().await;
}

/// Of the link in the tests below.
const ONE_WAY: Duration = Duration::from_millis(50);

/// 7: what a client asks at the start of a session takes seconds if it is answered in turn. The clock
/// is virtual and stands still while files are looked at.
#[tokio::test(start_paused = true)]
async fn forty_small_file_calls_take_one_round_trip() {
    let sessions = sessions();
    let mut peer = Peer::far_away(&sessions, ONE_WAY);
    peer.open().await;
    let begin = Instant::now();
    let mut ids = Vec::new();
    for _ in 0..40 {
        let path = json!({"path": "file:///"});
        ids.push(peer.send("fs/getMetadata", path).await);
    }
    for id in ids {
        peer.answer(id).await.unwrap();
    }
    let trips = begin.elapsed().as_secs_f64() / (2.0 * ONE_WAY.as_secs_f64());
    assert!(trips < 1.5, "{trips} round trips");
}

/// 8: with one block in flight, a copy moves one block per round trip.
#[tokio::test(start_paused = true)]
async fn blocks_of_a_file_can_be_under_way_at_once() {
    const BLOCK: usize = 1 << 20;
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("f");
    std::fs::write(&path, "").unwrap();
    let sessions = sessions();
    let mut peer = Peer::far_away(&sessions, ONE_WAY);
    peer.open().await;
    let begin = Instant::now();

    // Requests for one handle keep their order, so nothing has to be waited for in between.
    let open = json!({"handleId": "w", "path": uri(&path), "mode": "replace"});
    let mut ids = vec![peer.send("fs/open", open).await];
    for block in 0..8_u8 {
        let chunk = exec_proto::base64::encode(&vec![block; BLOCK]);
        let offset = usize::from(block) * BLOCK;
        let params = json!({"handleId": "w", "offset": offset, "chunk": chunk});
        ids.push(peer.send("fs/writeBlock", params).await);
    }
    ids.push(peer.send("fs/close", json!({"handleId": "w"})).await);
    for id in ids {
        peer.answer(id).await.unwrap();
    }

    let open = json!({"handleId": "r", "path": uri(&path)});
    peer.send("fs/open", open).await;
    let mut ids = Vec::new();
    for block in 0..8 {
        let params = json!({"handleId": "r", "offset": block * BLOCK, "len": BLOCK});
        ids.push(peer.send("fs/readBlock", params).await);
    }
    for (block, id) in (0..8_u8).zip(ids) {
        let answer = peer.answer(id).await.unwrap();
        let chunk = exec_proto::base64::decode(answer["chunk"].as_str().unwrap());
        assert!(chunk.unwrap().iter().all(|byte| *byte == block));
    }
    let trips = begin.elapsed().as_secs_f64() / (2.0 * ONE_WAY.as_secs_f64());
    assert!(trips < 2.5, "{trips} round trips for two copies");
}
