//! TCP streams and response bodies: what is asked for, and what becomes of those that are dropped.

use std::num::NonZeroU16;

use super::*;
use crate::{HttpRequest, TcpStream};

async fn extended(extensions: &[&str]) -> (Client, Peer, mpsc::Receiver<Peer>) {
    let (script, mut connections) = script();
    let client = Client::connect_with(script, ClientConfig::default());
    let peer = async {
        let mut peer = connections.recv().await.unwrap();
        peer.handshake_with(extensions).await;
        peer
    };
    let (client, peer) = tokio::join!(client, peer);
    (client.unwrap(), peer, connections)
}

fn port() -> NonZeroU16 {
    NonZeroU16::new(80).unwrap()
}

/// Answers `tcp/connect` and returns the stream's id.
async fn accept(peer: &mut Peer) -> String {
    let (id, params) = peer.expect("tcp/connect").await;
    assert_eq!(
        (&params["host"], &params["port"]),
        (&json!("db"), &json!(80))
    );
    assert_eq!(params["windowBytes"], 1 << 20);
    peer.answer(id, json!({ "peerAddr": "10.0.0.7:80" })).await;
    params["streamId"].as_str().unwrap().to_owned()
}

async fn connected(client: &Client, peer: &mut Peer) -> (TcpStream, String) {
    let (stream, id) = tokio::join!(client.tcp("db", port(), None), accept(peer));
    (stream.unwrap(), id)
}

async fn data(peer: &Peer, stream: &str, seq: u64, bytes: &[u8]) {
    let chunk = exec_proto::base64::encode(bytes);
    let params = json!({ "streamId": stream, "seq": seq, "chunkBase64": chunk });
    peer.send(json!({ "method": "tcp/data", "params": params }))
        .await;
}

#[tokio::test(start_paused = true)]
async fn tcp_bytes_go_both_ways_and_each_direction_ends_alone() {
    let (client, mut peer, _connections) = extended(&["tcpStreams"]).await;
    let (stream, id) = connected(&client, &mut peer).await;
    assert_eq!(stream.peer_addr.as_deref(), Some("10.0.0.7:80"));
    let (mut reader, mut writer) = stream.into_split();
    // Several writes are under way before the first has its answer.
    let large = Bytes::from(vec![7; 2 * limits::TCP_WRITE_BYTES + 1]);
    writer.write(large).await.unwrap();
    let mut asked = Vec::new();
    for (seq, size) in [(1, 65536), (2, 65536), (3, 1)] {
        let (request, params) = peer.expect("tcp/write").await;
        let text = params["chunkBase64"].as_str().unwrap();
        let bytes = exec_proto::base64::decode(text).unwrap();
        assert_eq!((params["seq"].as_u64(), bytes.len()), (Some(seq), size));
        asked.push(request);
    }
    let (shut, ()) = tokio::join!(writer.shutdown(), async {
        for request in asked {
            peer.answer(request, json!({})).await;
        }
        let (request, params) = peer.expect("tcp/shutdown").await;
        assert_eq!(params, json!({ "streamId": id }));
        peer.answer(request, json!({})).await;
    });
    shut.unwrap();
    data(&peer, &id, 1, b"hello").await;
    assert_eq!(reader.next_chunk().await.unwrap().unwrap(), "hello");
    data(&peer, &id, 2, b"").await;
    assert_eq!(reader.next_chunk().await.unwrap(), None);
    let closed = json!({ "streamId": id, "seq": 3 });
    peer.send(json!({ "method": "tcp/closed", "params": closed }))
        .await;
    // A stream that has ended by itself needs no close: the next request is the status.
    drop((reader, writer));
    let (status, ()) = tokio::join!(client.status(), async {
        let (request, _) = peer.expect("environment/status").await;
        peer.answer(request, json!({ "status": "ready" })).await;
    });
    status.unwrap();
}

#[tokio::test(start_paused = true)]
async fn tcp_window_is_widened_when_the_reader_has_read() {
    let (client, mut peer, _connections) = extended(&["tcpStreams"]).await;
    let (stream, id) = connected(&client, &mut peer).await;
    let (mut reader, _writer) = stream.into_split();
    for seq in 1..=4 {
        data(&peer, &id, seq, &[0; 65536]).await;
        reader.next_chunk().await.unwrap();
    }
    let (request, params) = peer.expect("tcp/window").await;
    let through = (1 << 20) + (256 << 10);
    assert_eq!(params, json!({ "streamId": id, "throughBytes": through }));
    peer.answer(request, json!({})).await;
}

#[tokio::test(start_paused = true)]
async fn tcp_stream_that_is_dropped_is_closed_and_an_attempt_is_given_up() {
    let (client, mut peer, _connections) = extended(&["tcpStreams", "requestCancel"]).await;
    let (stream, id) = connected(&client, &mut peer).await;
    let (reader, writer) = stream.into_split();
    drop(reader);
    drop(writer);
    let (_, params) = peer.expect("tcp/close").await;
    assert_eq!(params, json!({ "streamId": id }));

    let mut attempt = Box::pin(client.tcp("db", port(), None));
    let asked = tokio::select! {
        _ = &mut attempt => panic!("nobody has answered"),
        asked = peer.expect("tcp/connect") => asked,
    };
    drop(attempt);
    let (_, params) = peer.expect("rpc/cancel").await;
    assert_eq!(params, json!({ "id": asked.0 }));
    let (_, params) = peer.expect("tcp/close").await;
    assert_eq!(params["streamId"], asked.1["streamId"]);
}

#[tokio::test(start_paused = true)]
async fn lost_connection_ends_tcp_streams_and_repeats_attempts() {
    let (client, mut peer, mut connections) = extended(&["tcpStreams"]).await;
    let (stream, id) = connected(&client, &mut peer).await;
    let (mut reader, mut writer) = stream.into_split();
    data(&peer, &id, 1, b"before").await;
    let attempt = client.tcp("db", port(), None);
    let peer = async {
        peer.expect("tcp/connect").await;
        drop(peer);
        let mut peer = connections.recv().await.unwrap();
        peer.handshake_with(&["tcpStreams"]).await;
        accept(&mut peer).await;
        peer
    };
    let (again, _peer) = tokio::join!(attempt, peer);
    again.unwrap();
    assert_eq!(reader.next_chunk().await.unwrap().unwrap(), "before");
    let lost = reader.next_chunk().await;
    assert!(matches!(lost, Err(Error::ConnectionLost(_))), "{lost:?}");
    writer.write(Bytes::from_static(b"x")).await.unwrap();
    let lost = writer.flush().await;
    assert!(matches!(lost, Err(Error::ConnectionLost(_))), "{lost:?}");
}

#[tokio::test(start_paused = true)]
async fn writes_that_are_stuck_leave_room_for_everything_else() {
    let (client, mut peer, _connections) = extended(&["tcpStreams"]).await;
    let mut streams = Vec::new();
    for _ in 0..exec_proto::tcp::MAX_STREAMS {
        streams.push(connected(&client, &mut peer).await.0.into_split());
    }
    // Each writes as much as it can without an answer.
    let mut writing = tokio::task::JoinSet::new();
    for (reader, mut writer) in streams {
        writing.spawn(async move {
            let bytes = Bytes::from(vec![1; 2 << 20]);
            let _ = writer.write(bytes).await;
            drop(reader);
        });
    }
    let most = limits::TCP_WRITES_SHARED + exec_proto::tcp::MAX_STREAMS;
    for _ in 0..most {
        peer.expect("tcp/write").await;
    }
    let (status, ()) = tokio::join!(client.status(), async {
        let (request, _) = peer.expect("environment/status").await;
        peer.answer(request, json!({ "status": "ready" })).await;
    });
    status.unwrap();
}

#[tokio::test(start_paused = true)]
async fn old_executor_has_no_tcp_streams() {
    let (client, _peer, _connections) = extended(&[]).await;
    let refused = client.tcp("db", port(), None).await;
    assert!(matches!(refused, Err(Error::Unsupported(_))), "{refused:?}");
    let refused = crate::forward::Session::new(client);
    assert!(matches!(refused, Err(Error::Unsupported(_))), "{refused:?}");
}

#[tokio::test(start_paused = true)]
async fn response_that_is_dropped_is_cancelled_once() {
    let (client, mut peer, _connections) = extended(&["httpCancel", "requestCancel"]).await;
    let request = HttpRequest::new("GET", "http://x/");
    let (response, id) = tokio::join!(client.http(request.clone()), async {
        let (id, params) = peer.expect("http/request").await;
        let head = json!({ "status": 200, "headers": [], "bodyBase64": "" });
        peer.answer(id, head).await;
        params["requestId"].clone()
    });
    drop(response.unwrap());
    let (cancel, params) = peer.expect("http/cancel").await;
    assert_eq!(params, json!({ "requestId": id }));
    peer.answer(cancel, json!({ "cancelled": true })).await;
    let last = json!({
        "requestId": id, "seq": 1, "deltaBase64": "", "done": true, "error": "cancelled",
    });
    peer.send(json!({ "method": "http/request/bodyDelta", "params": last }))
        .await;

    // One that was not answered yet is given up as a request, and as a body when that was too late.
    let mut waiting = Box::pin(client.http(request));
    let (asked, params) = tokio::select! {
        _ = &mut waiting => panic!("nobody has answered"),
        asked = peer.expect("http/request") => asked,
    };
    drop(waiting);
    let (cancel, target) = peer.expect("rpc/cancel").await;
    assert_eq!(target, json!({ "id": asked }));
    let head = json!({ "status": 200, "headers": [], "bodyBase64": "" });
    peer.answer(asked, head).await;
    peer.answer(cancel, json!({ "cancelled": false })).await;
    let (_, given_up) = peer.expect("http/cancel").await;
    assert_eq!(given_up["requestId"], params["requestId"]);
}
