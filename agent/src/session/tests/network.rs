//! What goes through the executor to others: TCP streams, bodies that are sent in parts, and their end;
//! and the watch that is taken back.

use exec_proto::base64::{decode, encode};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};

use super::*;

async fn server() -> (TcpListener, u16) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    (listener, port)
}

async fn accept(listener: &TcpListener) -> TcpStream {
    let accepted = tokio::time::timeout(DEADLINE, listener.accept()).await;
    accepted.expect("nobody connects").unwrap().0
}

fn connect(id: &str, port: u16) -> Value {
    json!({"streamId": id, "host": "127.0.0.1", "port": port})
}

fn tcp_write(id: &str, seq: u64, bytes: &[u8]) -> Value {
    json!({"streamId": id, "seq": seq, "chunkBase64": encode(bytes)})
}

fn chunk(id: &str, seq: u64, bytes: &[u8], done: bool) -> Value {
    json!({"requestId": id, "seq": seq, "chunkBase64": encode(bytes), "done": done})
}

fn upload(id: &str, port: u16) -> Value {
    json!({
        "method": "POST", "url": format!("http://127.0.0.1:{port}/"), "requestId": id,
        "streamRequestBody": true,
    })
}

/// The answers to these requests, in whatever order they come. Others are dropped.
async fn answers<const N: usize>(client: &mut Client, ids: [i64; N]) -> [Result<Value, Value>; N] {
    let mut found = ids.map(|_| None);
    while found.iter().any(Option::is_none) {
        let mut message = client.recv().await.expect("the connection ended");
        if message.get("method").is_some() {
            client.notifications.push_back(message);
            continue;
        }
        if let Some(place) = ids.iter().position(|id| message["id"] == *id) {
            found[place] = Some(match message.get_mut("error") {
                Some(error) => Err(error.take()),
                None => Ok(message["result"].take()),
            });
        }
    }
    found.map(Option::unwrap)
}

/// Reads until the end of the stream, or what `until` ends with.
async fn read_until(tcp: &mut TcpStream, until: &[u8]) -> Vec<u8> {
    let mut all = Vec::new();
    let read = async {
        while !all.ends_with(until) {
            match tcp.read_u8().await {
                Ok(byte) => all.push(byte),
                Err(_) => return,
            }
        }
    };
    tokio::time::timeout(DEADLINE, read).await.expect("no end");
    all
}

#[tokio::test]
async fn watch_that_was_taken_back_is_silent() {
    let sessions = sessions();
    let (mut client, _) = Client::open(&sessions).await;
    let dir = tempfile::tempdir().unwrap();
    let root = dir.path().canonicalize().unwrap();
    let uri = |name: &str| format!("file://{}/{name}", root.display());
    let watch = |id: u64, name: &str| json!({"watchId": id, "missing": [uri(name)]});
    let method = "fs/watchMissing";
    assert_eq!(client.ok(method, watch(1, "a")).await["watching"], true);
    // Ids that are not there do nothing.
    for id in [0, 2] {
        let params = json!({"watchId": id});
        assert_eq!(client.ok("fs/unwatchMissing", params).await, json!({}));
    }
    std::fs::write(root.join("a"), "").unwrap();
    assert_eq!(client.next_notification().await["params"]["watchId"], 1);
    assert_eq!(client.ok(method, watch(2, "b")).await["watching"], true);
    for _ in 0..2 {
        let params = json!({"watchId": 2});
        assert_eq!(client.ok("fs/unwatchMissing", params).await, json!({}));
    }
    std::fs::write(root.join("b"), "").unwrap();
    // Were the second watch still there, it would be told before the third.
    assert_eq!(client.ok(method, watch(3, "c")).await["watching"], true);
    std::fs::write(root.join("c"), "").unwrap();
    assert_eq!(client.next_notification().await["params"]["watchId"], 3);
}

#[tokio::test]
async fn body_in_parts_arrives_whole_and_in_order() {
    let sessions = sessions();
    let (mut client, _) = Client::open(&sessions).await;
    let (listener, port) = server().await;
    // All at once: the parts find the request although it has not been sent yet.
    let request = client.send("http/request", upload("u", port)).await;
    let mut chunks = Vec::new();
    for (seq, part) in [(1, "one,"), (2, "two,"), (3, "")] {
        let params = chunk("u", seq, part.as_bytes(), seq == 3);
        chunks.push(client.send("http/request/bodyChunk", params).await);
    }
    let mut tcp = accept(&listener).await;
    let sent = read_until(&mut tcp, b"0\r\n\r\n").await;
    let sent = String::from_utf8(sent).unwrap();
    let (head, body) = sent.split_once("\r\n\r\n").unwrap();
    assert!(head.contains("transfer-encoding: chunked"), "{head}");
    let text: String = body.split("\r\n").skip(1).step_by(2).collect();
    assert_eq!(text, "one,two,");
    let answer = b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok";
    tcp.write_all(answer).await.unwrap();
    for id in chunks {
        assert_eq!(client.answer(id).await, Ok(json!({})));
    }
    let result = client.answer(request).await.unwrap();
    assert_eq!(result["bodyBase64"], encode(b"ok"));
    let late = client
        .err("http/request/bodyChunk", chunk("u", 4, b"x", false))
        .await;
    assert_eq!(late.0, -32004, "{}", late.1);
}

#[tokio::test]
async fn body_that_breaks_off_is_not_taken_for_whole_and_waits_for_room() {
    let sessions = sessions();
    let (mut client, _) = Client::open(&sessions).await;
    let (listener, port) = server().await;
    let request = client.send("http/request", upload("u", port)).await;
    let mut tcp = accept(&listener).await;
    let part = vec![b'x'; 1 << 20];
    let too_large = vec![b'x'; (1 << 20) + 1];
    let method = "http/request/bodyChunk";
    for wrong in [chunk("u", 2, b"x", false), chunk("u", 1, &too_large, false)] {
        assert_eq!(client.err(method, wrong).await.0, -32602);
    }
    // More than the kernel's buffers hold: the last parts wait for the server, which does not read.
    let mut last = 0;
    for seq in 1..=24 {
        last = client.send(method, chunk("u", seq, &part, false)).await;
    }
    // Nothing else is held up.
    let status = client.send("environment/status", json!(null)).await;
    let [status] = answers(&mut client, [status]).await;
    assert_eq!(status.unwrap()["status"], "ready");
    let cancel = client.send("http/cancel", json!({"requestId": "u"})).await;
    let given_up = std::time::Instant::now();
    let [cancel, request, last] = answers(&mut client, [cancel, request, last]).await;
    // Parts that wait do not wait for the server, which still does not read.
    assert!(given_up.elapsed() < DEADLINE / 2);
    assert_eq!(cancel, Ok(json!({"cancelled": true})));
    let expected = json!({"code": -32800, "message": "the request was cancelled"});
    assert_eq!(request, Err(expected));
    assert!(last.is_err(), "{last:?}");
    let mut sent = Vec::new();
    let end = tokio::time::timeout(DEADLINE, tcp.read_to_end(&mut sent)).await;
    let _ = end.expect("no end");
    assert!(!sent.ends_with(b"\r\n0\r\n\r\n"), "taken for whole");
    let again = client.send("http/cancel", json!({"requestId": "u"})).await;
    let again = answers(&mut client, [again]).await;
    assert_eq!(again, [Ok(json!({"cancelled": false}))]);
}

#[tokio::test]
async fn body_in_parts_excludes_another_and_is_not_sent_twice() {
    let sessions = sessions();
    let (mut client, _) = Client::open(&sessions).await;
    let (listener, port) = server().await;
    let both = with(upload("u", port), "bodyBase64", "eA==");
    let error = client.err("http/request", both).await;
    assert_eq!(error.0, -32602);
    let request = client.send("http/request", upload("u", port)).await;
    let again = client.err("http/request", upload("u", port)).await;
    assert_eq!(again.0, -32602);
    client
        .ok("http/request/bodyChunk", chunk("u", 1, b"x", true))
        .await;
    let mut tcp = accept(&listener).await;
    read_until(&mut tcp, b"0\r\n\r\n").await;
    let answer = b"HTTP/1.1 307 Again\r\nlocation: /x\r\ncontent-length: 0\r\n\r\n";
    tcp.write_all(answer).await.unwrap();
    let error = client.answer(request).await.unwrap_err();
    assert!(error.1.contains("cannot be sent again"), "{error:?}");
}

#[tokio::test]
async fn length_of_a_body_in_parts_is_passed_on_and_kept() {
    let sessions = sessions();
    let (mut client, _) = Client::open(&sessions).await;
    let (listener, port) = server().await;
    let with_length = |id: &str, length: &str| {
        let headers = json!([{"name": "Content-Length", "value": length}]);
        with(upload(id, port), "headers", headers)
    };
    for wrong in ["x", "-1", "1,1", "", "99999999999999999999"] {
        let error = client.err("http/request", with_length("w", wrong)).await;
        assert_eq!(error.0, -32602, "{wrong}");
    }
    let method = "http/request/bodyChunk";
    let request = client.send("http/request", with_length("u", "5")).await;
    client.ok(method, chunk("u", 1, b"he", false)).await;
    let error = client.err(method, chunk("u", 2, b"llo!", true)).await;
    assert_eq!(error.0, -32602, "{}", error.1);
    client.ok(method, chunk("u", 2, b"llo", true)).await;
    let mut tcp = accept(&listener).await;
    let sent = read_until(&mut tcp, b"hello").await;
    let sent = String::from_utf8(sent).unwrap();
    assert!(sent.contains("content-length: 5\r\n"), "{sent}");
    assert!(!sent.contains("chunked"), "{sent}");
    let answer = b"HTTP/1.1 204 No\r\nconnection: close\r\n\r\n";
    tcp.write_all(answer).await.unwrap();
    assert_eq!(client.answer(request).await.unwrap()["status"], 204);

    let request = client.send("http/request", with_length("short", "5")).await;
    let mut tcp = accept(&listener).await;
    client.ok(method, chunk("short", 1, b"hell", true)).await;
    let error = client.answer(request).await.unwrap_err();
    assert_eq!(error.0, -32603, "{}", error.1);
    // The server does not wait for the rest.
    assert!(!read_until(&mut tcp, b"hello").await.ends_with(b"hello"));
}

#[tokio::test]
async fn streamed_response_that_is_cancelled_ends_with_one_last_delta() {
    let sessions = sessions();
    let (mut client, _) = Client::open(&sessions).await;
    let (listener, port) = server().await;
    let params = json!({
        "method": "GET", "url": format!("http://127.0.0.1:{port}/"), "requestId": "s",
        "streamResponse": true,
    });
    let request = client.send("http/request", params).await;
    let mut tcp = accept(&listener).await;
    read_until(&mut tcp, b"\r\n\r\n").await;
    let answer = b"HTTP/1.1 200 OK\r\ncontent-length: 100\r\n\r\npart";
    tcp.write_all(answer).await.unwrap();
    client.answer(request).await.unwrap();
    assert_eq!(client.next_notification().await["params"]["done"], false);
    client.ok("http/cancel", json!({"requestId": "s"})).await;
    let last = client.next_notification().await["params"].clone();
    assert_eq!(
        last,
        json!({"requestId": "s", "seq": 2, "deltaBase64": "", "done": true,
            "error": "the request was cancelled"})
    );
    // The server is let go of.
    assert!(read_until(&mut tcp, b"never").await.is_empty());
}

#[tokio::test]
async fn bytes_go_both_ways_and_each_direction_ends_alone() {
    let sessions = sessions();
    let (mut client, _) = Client::open(&sessions).await;
    let (listener, port) = server().await;
    // Pipelined: the writes wait for the connection and keep their order.
    let opening = client.send("tcp/connect", connect("s", port)).await;
    for (seq, text) in [(1, "a"), (2, "b"), (3, "c")] {
        let params = tcp_write("s", seq, text.as_bytes());
        client.send("tcp/write", params).await;
    }
    let shut = client.send("tcp/shutdown", json!({"streamId": "s"})).await;
    let mut tcp = accept(&listener).await;
    assert_eq!(read_until(&mut tcp, b"never").await, b"abc");
    let opened = client.answer(opening).await.unwrap();
    assert_eq!(opened["peerAddr"], format!("127.0.0.1:{port}"));
    let peer = tcp.peer_addr().unwrap().to_string();
    assert_eq!(opened["localAddr"], peer);
    assert_eq!(answers(&mut client, [shut]).await, [Ok(json!({}))]);
    let error = client.err("tcp/write", tcp_write("s", 4, b"x")).await;
    assert_eq!(error.0, -32600);
    // The other direction is still open.
    tcp.write_all(&vec![b'y'; 300_000]).await.unwrap();
    drop(tcp);
    let (mut received, mut seq, mut ends) = (0, 0, 0);
    let last = loop {
        let event = client.next_notification().await;
        seq += 1;
        assert_eq!(
            (&event["params"]["streamId"], &event["params"]["seq"]),
            (&json!("s"), &json!(seq))
        );
        if event["method"] == "tcp/closed" {
            break event;
        }
        assert_eq!(event["method"], "tcp/data");
        let bytes = decode(event["params"]["chunkBase64"].as_str().unwrap()).unwrap();
        assert!(bytes.len() <= 65536 && ends == 0);
        received += bytes.len();
        ends += u32::from(bytes.is_empty());
    };
    assert_eq!((received, ends), (300_000, 1));
    assert_eq!(last["params"], json!({"streamId": "s", "seq": seq}));
    // The id is free.
    client.ok("tcp/connect", connect("s", port)).await;
}

#[tokio::test]
async fn many_small_pieces_share_notifications() {
    let sessions = sessions();
    let (mut client, _) = Client::open(&sessions).await;
    let (listener, port) = server().await;
    client.ok("tcp/connect", connect("s", port)).await;
    let mut tcp = accept(&listener).await;
    tcp.set_nodelay(true).unwrap();
    let sender = tokio::spawn(async move {
        for _ in 0..3000 {
            tcp.write_all(b"x").await.unwrap();
        }
        tcp
    });
    let (mut received, mut pieces) = (0, 0);
    while received < 3000 {
        let event = client.next_notification().await;
        let text = event["params"]["chunkBase64"].as_str().unwrap();
        received += decode(text).unwrap().len();
        pieces += 1;
    }
    assert!(pieces < 1000, "{pieces}");
    drop(sender.await);
}

#[tokio::test]
async fn peer_that_does_not_read_holds_up_its_own_writes_only() {
    let sessions = sessions();
    let (mut client, _) = Client::open(&sessions).await;
    let (listener, port) = server().await;
    client.ok("tcp/connect", connect("stuck", port)).await;
    client.ok("tcp/connect", connect("free", port)).await;
    let stuck = accept(&listener).await;
    let mut free = accept(&listener).await;
    let part = vec![b'x'; 256 << 10];
    let mut last = 0;
    for seq in 1..=60 {
        last = client
            .send("tcp/write", tcp_write("stuck", seq, &part))
            .await;
    }
    let free_write = client
        .send("tcp/write", tcp_write("free", 1, b"hello"))
        .await;
    assert_eq!(answers(&mut client, [free_write]).await, [Ok(json!({}))]);
    assert_eq!(read_until(&mut free, b"hello").await, b"hello");
    // Neither is the close held up, and writes that waited fail.
    let id = json!({"streamId": "stuck"});
    let close = client.send("tcp/close", id.clone()).await;
    let [close, failed] = answers(&mut client, [close, last]).await;
    assert_eq!(close, Ok(json!({})));
    assert!(failed.is_err(), "{failed:?}");
    let again = client.send("tcp/close", id).await;
    assert_eq!(answers(&mut client, [again]).await, [Ok(json!({}))]);
    drop(stuck);
    // A connection ends its streams.
    client.disconnect().await;
    assert!(read_until(&mut free, b"never").await.is_empty());
}

#[tokio::test]
async fn client_that_does_not_read_stops_the_other_side() {
    let sessions = sessions();
    let (mut client, _) = Client::open(&sessions).await;
    let (listener, port) = server().await;
    client.ok("tcp/connect", connect("s", port)).await;
    let mut tcp = accept(&listener).await;
    // Far more than all buffers hold. A write that stands still for a second has met the pressure.
    let part = vec![b'x'; 1 << 20];
    let mut sent = 0;
    while sent < 256 {
        let write = tokio::time::timeout(Duration::from_secs(1), tcp.write_all(&part));
        match write.await {
            Ok(written) => written.unwrap(),
            Err(_) => break,
        }
        sent += 1;
    }
    assert!(sent < 64, "{sent} MiB were taken");
}

#[tokio::test]
async fn window_holds_up_its_own_stream_only_and_is_raised() {
    let sessions = sessions();
    let (mut client, _) = Client::open(&sessions).await;
    let (listener, port) = server().await;
    let narrow = with(connect("narrow", port), "windowBytes", 100_000);
    client.ok("tcp/connect", narrow).await;
    let mut narrow = accept(&listener).await;
    client.ok("tcp/connect", connect("wide", port)).await;
    let mut wide = accept(&listener).await;
    let writer = tokio::spawn(async move {
        let _ = narrow.write_all(&vec![b'n'; 300_000]).await;
        narrow
    });
    wide.write_all(&vec![b'w'; 1_000_000]).await.unwrap();
    drop(wide);
    let mut received = std::collections::HashMap::<String, usize>::new();
    // Everything of the one, its end included, and of the other what its window has.
    let mut wide_ended = false;
    while !wide_ended || received.get("narrow") != Some(&100_000) {
        let event = client.next_notification().await;
        let id = event["params"]["streamId"].as_str().unwrap().to_owned();
        let text = event["params"]["chunkBase64"].as_str().unwrap();
        let bytes = decode(text).unwrap();
        wide_ended |= bytes.is_empty();
        *received.entry(id).or_default() += bytes.len();
    }
    assert_eq!(received["wide"], 1_000_000);
    // Less than before, and a stream that is not there, change nothing.
    for (id, through) in [("narrow", 5), ("other", 5), ("narrow", 150_000)] {
        let params = json!({"streamId": id, "throughBytes": through});
        assert_eq!(client.ok("tcp/window", params).await, json!({}));
    }
    while received["narrow"] < 150_000 {
        let event = client.next_notification().await;
        assert_eq!(event["params"]["streamId"], "narrow");
        let bytes = decode(event["params"]["chunkBase64"].as_str().unwrap()).unwrap();
        *received.get_mut("narrow").unwrap() += bytes.len();
    }
    assert_eq!(received["narrow"], 150_000);
    // Nor can anything more come before the answer that closes the stream.
    client.ok("tcp/close", json!({"streamId": "narrow"})).await;
    assert!(client.notifications.is_empty());
    drop(writer.await);
}

#[tokio::test]
async fn streams_have_limits_and_failures_are_told() {
    let sessions = sessions();
    let (mut client, _) = Client::open(&sessions).await;
    let (listener, port) = server().await;
    for (params, code) in [
        (connect("", port), -32602),
        (connect(&"i".repeat(257), port), -32602),
        (connect("s", 0), -32602),
        (with(connect("s", port), "host", "h".repeat(256)), -32602),
        (with(connect("s", port), "timeoutMs", 0), -32602),
        (with(connect("s", port), "timeoutMs", 600_001), -32602),
    ] {
        assert_eq!(client.err("tcp/connect", params).await.0, code);
    }
    let too_large = vec![0; (256 << 10) + 1];
    client.ok("tcp/connect", connect("s", port)).await;
    for (params, code) in [
        (tcp_write("s", 2, b"x"), -32602),
        (tcp_write("s", 1, &too_large), -32602),
        (tcp_write("other", 1, b"x"), -32004),
    ] {
        assert_eq!(client.err("tcp/write", params).await.0, code);
    }
    assert_eq!(
        client.err("tcp/connect", connect("s", port)).await.0,
        -32602
    );
    let mut accepted = vec![accept(&listener).await];
    for number in 1..128 {
        let id = number.to_string();
        client.ok("tcp/connect", connect(&id, port)).await;
        accepted.push(accept(&listener).await);
    }
    let error = client.err("tcp/connect", connect("128", port)).await;
    assert_eq!(
        error,
        (
            -32600,
            "tcp/connect has reached the limit of 128 streams".to_owned()
        )
    );
    // A reset is told as what it is.
    accepted[0].set_zero_linger().unwrap();
    accepted.remove(0);
    let last = client.next_notification().await;
    assert_eq!(last["method"], "tcp/closed");
    assert!(last["params"]["error"].is_string(), "{last}");
    drop(listener);
    let refused = client.err("tcp/connect", connect("s", port)).await;
    assert_eq!(refused.0, -32603);
    assert!(refused.1.contains("refused"), "{refused:?}");
}

#[tokio::test]
async fn connecting_is_refused_under_a_sandbox_and_unknown_when_switched_off() {
    let (listener, port) = server().await;
    let (mut client, _) = Client::open(&sessions()).await;
    let sandbox = json!({
        "permissions": {"type": "external", "network": "restricted"},
        "windowsSandboxLevel": "disabled",
    });
    let restricted = with(connect("s", port), "sandbox", sandbox);
    let error = client.err("tcp/connect", restricted).await;
    assert_eq!(
        error,
        (
            -32602,
            "sandbox intent cannot be enforced on this executor".to_owned()
        )
    );
    let disabled = json!({"permissions": {"type": "disabled"}, "windowsSandboxLevel": "disabled"});
    client
        .ok("tcp/connect", with(connect("s", port), "sandbox", disabled))
        .await;
    accept(&listener).await;

    let environment = ExecutorEnvironment::from_parts([], "/".into()).without_tcp();
    let mut config = config();
    config.environment = Arc::new(environment);
    let sessions = Sessions::new(config).unwrap();
    let (mut client, _) = Client::open(&sessions).await;
    let info = client.ok("environment/info", json!(null)).await;
    assert_eq!(info["capabilities"]["tcpStreams"], false);
    let id = json!({"streamId": "s"});
    for (method, params) in [
        ("tcp/connect", connect("s", port)),
        ("tcp/write", tcp_write("s", 1, b"x")),
        ("tcp/shutdown", id.clone()),
        ("tcp/window", json!({"streamId": "s", "throughBytes": 1})),
        ("tcp/close", id),
    ] {
        assert_eq!(client.err(method, params).await.0, -32601, "{method}");
    }
}
