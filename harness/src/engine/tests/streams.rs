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
    // What comes before an answer has been taken when the answer has.
    status(&client, &mut peer).await;
    // A stream that has ended by itself needs no close: the next request is the status.
    drop((reader, writer));
    status(&client, &mut peer).await;
}

/// Asks for the status, which must be the next request that the executor gets.
async fn status(client: &Client, peer: &mut Peer) {
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

#[tokio::test(start_paused = true)]
async fn watch_fires_once_and_is_taken_back_when_it_is_dropped() {
    let (client, mut peer, _connections) = extended(&["fsWatchMissing", "fsUnwatchMissing"]).await;
    let (fs, missing) = (client.filesystem(), [path("file:///a")]);
    let answer = async |peer: &mut Peer, id: u64, watching: bool| {
        let (request, params) = peer.expect("fs/watchMissing").await;
        let expected = json!({ "watchId": id, "missing": ["file:///a"], "present": null });
        assert_eq!(params, expected);
        peer.answer(request, json!({ "watching": watching })).await;
    };
    let watch = fs.watch_missing(&missing, None);
    let (watch, ()) = tokio::join!(watch, answer(&mut peer, 1, true));
    let mut watch = watch.unwrap().unwrap();
    let changed = json!({ "method": "fs/missingChanged", "params": { "watchId": 1 } });
    peer.send(changed).await;
    watch.changed().await.unwrap();
    assert!(matches!(watch.changed().await, Err(Error::Misuse(_))));
    drop(watch);

    // One that has fired needs nothing; one that has not is taken back.
    let watch = fs.watch_missing(&missing, None);
    let (watch, ()) = tokio::join!(watch, answer(&mut peer, 2, true));
    let mut replaced = watch.unwrap().unwrap();
    let watch = fs.watch_missing(&missing, None);
    let (watch, ()) = tokio::join!(watch, answer(&mut peer, 3, true));
    assert!(matches!(replaced.changed().await, Err(Error::Misuse(_))));
    drop(watch.unwrap().unwrap());
    let (request, params) = peer.expect("fs/unwatchMissing").await;
    assert_eq!(params, json!({ "watchId": 3 }));
    peer.answer(request, json!({})).await;
    // One that the executor refuses is none.
    let watch = fs.watch_missing(&missing, None);
    let (watch, ()) = tokio::join!(watch, answer(&mut peer, 4, false));
    assert!(watch.unwrap().is_none());
}

/// Takes the parts of a request body until it is complete.
async fn parts(peer: &mut Peer) -> Vec<u8> {
    let mut body = Vec::new();
    for seq in 1.. {
        let (request, params) = peer.expect("http/request/bodyChunk").await;
        assert_eq!(params["seq"], seq);
        let chunk = params["chunkBase64"].as_str().unwrap();
        body.extend(exec_proto::base64::decode(chunk).unwrap());
        peer.answer(request, json!({})).await;
        if params["done"] == true {
            break;
        }
    }
    body
}

#[tokio::test(start_paused = true)]
async fn body_is_sent_in_parts_and_the_answer_may_come_before_its_end() {
    let (client, mut peer, _connections) = extended(&["httpRequestBodyStream"]).await;
    let sent: Vec<u8> = (0..1_000_003_u32).map(|n| n.to_le_bytes()[1]).collect();
    let upload = client.http_upload(
        HttpRequest::new("PUT", "http://x/"),
        std::io::Cursor::new(sent.clone()),
    );
    let (response, id) = tokio::join!(upload, async {
        let (id, params) = peer.expect("http/request").await;
        assert_eq!(params["streamRequestBody"], true);
        assert!(params.get("bodyBase64").is_none(), "{params}");
        let head = json!({ "status": 201, "headers": [], "bodyBase64": "" });
        peer.answer(id, head).await;
        params["requestId"].clone()
    });
    let mut response = response.unwrap();
    assert_eq!(response.status, 201);
    assert!(parts(&mut peer).await == sent);
    let last = json!({ "requestId": id, "seq": 1, "deltaBase64": "b2s=", "done": true });
    peer.send(json!({ "method": "http/request/bodyDelta", "params": last }))
        .await;
    assert_eq!(response.next_chunk().await.unwrap().unwrap(), "ok");
    assert!(response.next_chunk().await.unwrap().is_none());
}

#[tokio::test(start_paused = true)]
async fn body_that_cannot_be_read_gives_the_request_up() {
    let (client, mut peer, _connections) =
        extended(&["httpRequestBodyStream", "requestCancel"]).await;
    let broken = tokio_util::io::StreamReader::new(futures_util::stream::iter([
        Ok(Bytes::from_static(b"begin")),
        Err(std::io::Error::other("gone")),
    ]));
    let upload = client.http_upload(HttpRequest::new("PUT", "http://x/"), broken);
    let (outcome, asked) = tokio::join!(upload, async { peer.expect("http/request").await.0 });
    assert!(matches!(outcome, Err(Error::Io { .. })), "{outcome:?}");
    // What was read before may have been sent, but not as the whole.
    loop {
        let message = peer.receive().await;
        if message["method"] == "rpc/cancel" {
            assert_eq!(message["params"], json!({ "id": asked }));
            break;
        }
        assert_eq!(message["params"]["done"], false, "{message}");
    }
}

#[tokio::test(start_paused = true)]
async fn parts_of_a_body_wait_for_room_at_the_executor() {
    let (client, mut peer, _connections) = extended(&["httpRequestBodyStream"]).await;
    let endless = tokio::io::repeat(0);
    let uploading = client.http_upload(HttpRequest::new("PUT", "http://x/"), endless);
    let script = async {
        peer.expect("http/request").await;
        let mut parts = Vec::new();
        for _ in 0..limits::BODY_CHUNKS_IN_FLIGHT {
            parts.push(peer.expect("http/request/bodyChunk").await.0);
        }
        // Were there another, it would come before this.
        let asked = client.status();
        let answer = async {
            let (id, _) = peer.expect("environment/status").await;
            peer.answer(id, json!({ "status": "ready" })).await;
        };
        let (status, ()) = tokio::join!(asked, answer);
        status.unwrap();
        peer.answer(parts[0], json!({})).await;
        peer.expect("http/request/bodyChunk").await;
    };
    tokio::select! {
        outcome = uploading => panic!("{outcome:?}"),
        () = script => {}
    }
}

#[tokio::test(start_paused = true)]
async fn old_executor_gets_the_body_as_a_whole_within_a_limit() {
    let (client, mut peer, _connections) = extended(&[]).await;
    let upload = client.http_upload(HttpRequest::new("PUT", "http://x/"), &b"whole"[..]);
    let (response, ()) = tokio::join!(upload, async {
        let (id, params) = peer.expect("http/request").await;
        assert_eq!(params["bodyBase64"], exec_proto::base64::encode(b"whole"));
        assert!(params.get("streamRequestBody").is_none(), "{params}");
        let head = json!({ "status": 200, "headers": [], "bodyBase64": "" });
        peer.answer(id, head).await;
    });
    response.unwrap();
    let endless = tokio::io::repeat(0);
    let refused = client.http_upload(HttpRequest::new("PUT", "http://x/"), endless);
    let refused = refused.await;
    assert!(
        matches!(refused, Err(Error::Limit { limit, .. }) if limit == limits::BUFFERED_BODY_BYTES),
        "{refused:?}"
    );
}
