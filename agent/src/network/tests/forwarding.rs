//! What goes over the wires.

use super::*;

const OK: &str = "HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok";

fn local() -> Value {
    json!({"domains": {"127.0.0.1": "allow"}})
}

#[tokio::test]
async fn headers_for_one_hop_go_no_further() {
    let answer = "HTTP/1.1 200 Fine\r\ncontent-length: 2\r\nconnection: x-hop\r\nx-hop: 1\r\n\
                  keep-alive: 5\r\nproxy-authenticate: basic\r\nX-End: 1\r\n\r\nok";
    let (port, mut requests) = server("\r\n\r\n", answer).await;
    let bench = Bench::new(local(), false).await;
    let reply = bench
        .send(&format!(
            "GET http://127.0.0.1:{port}/a?b HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\n\
             Connection: close, X-Hop, Host\r\nX-Hop: 1\r\nTE: trailers\r\nUpgrade: websocket\r\n\
             Proxy-Authorization: secret\r\nProxy-Connection: keep-alive\r\nKeep-Alive: 5\r\n\
             Expect: 100-continue\r\nX-End: 1\r\n\r\n"
        ))
        .await;
    let expected = format!("GET /a?b HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\nX-End: 1\r\n\r\n");
    assert_eq!(requests.recv().await.unwrap(), expected);
    assert_eq!((reply.status, reply.body.as_str()), (200, "ok"));
    assert!(reply.head.contains("x-end: 1"), "{}", reply.head);
    for gone in ["x-hop", "keep-alive", "proxy-authenticate"] {
        assert!(!reply.head.contains(gone), "{gone}");
    }
}

#[tokio::test]
async fn ambiguous_framing_is_made_plain() {
    let (port, mut requests) = server("0\r\n\r\n", OK).await;
    let bench = Bench::new(local(), false).await;
    for framing in [
        "Content-Length: 4\r\nTransfer-Encoding: chunked",
        "Transfer-Encoding: chunked\r\nContent-Length: 4",
    ] {
        let reply = bench
            .send(&format!(
                "POST http://127.0.0.1:{port}/ HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\n{framing}\r\n\
                 Connection: close, content-length\r\n\r\n3\r\nabc\r\n0\r\n\r\n"
            ))
            .await;
        assert_eq!(reply.status, 200);
        let sent = requests.recv().await.unwrap().to_ascii_lowercase();
        assert!(!sent.contains("content-length"), "{sent}");
        assert_eq!(
            sent.matches("transfer-encoding: chunked").count(),
            1,
            "{sent}"
        );
        assert!(sent.ends_with("\r\n\r\n3\r\nabc\r\n0\r\n\r\n"), "{sent}");
    }
    for framing in [
        "Content-Length: 1\r\nContent-Length: 2",
        "Content-Length: +1",
        "Transfer-Encoding: gzip",
        "Transfer-Encoding: chunked, identity",
    ] {
        let reply = bench
            .send(&format!(
                "POST http://127.0.0.1:{port}/ HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\n{framing}\r\n\r\n"
            ))
            .await;
        assert_eq!(reply.status, 400, "{framing}");
    }
    let answer = "HTTP/1.1 200 OK\r\ncontent-length: 99\r\ntransfer-encoding: chunked\r\n\r\n\
                  2\r\nok\r\n0\r\n\r\n";
    let (port, _requests) = server("\r\n\r\n", answer).await;
    let reply = bench.get(&format!("127.0.0.1:{port}")).await;
    assert!(!reply.head.contains("content-length"), "{}", reply.head);
    assert!(reply.body.contains("ok"), "{}", reply.body);
}

#[tokio::test]
async fn targets_say_plainly_where_a_request_goes() {
    let bench = Bench::new(json!({"domains": {"*": "allow"}}), false).await;
    for (line, headers) in [
        ("GET /x", "Host: a.com"),
        ("GET *", "Host: a.com"),
        ("GET https://a.com/", "Host: a.com"),
        ("GET ftp://a.com/", "Host: a.com"),
        ("GET http://a.com/", "Host: b.com"),
        ("GET http://a.com/", "Host: a.com:81"),
        ("GET http://a.com:81/", "Host: a.com"),
        ("GET http://a.com/", "Host: a.com\r\nHost: a.com"),
        ("GET http://a.com/", "Host: a.com\r\nHost: b.com"),
        ("GET http://a.com/", "X: y"),
        ("GET http://user@a.com/", "Host: a.com"),
        ("GET http://user:secret@a.com/", "Host: a.com"),
        ("GET http://a.com:0/", "Host: a.com:0"),
        ("GET http://a.com:99999/", "Host: a.com:99999"),
        ("GET http://a%2ecom/", "Host: a%2ecom"),
        ("CONNECT a.com", "Host: a.com"),
        ("CONNECT a.com:", "Host: a.com"),
        ("CONNECT user@a.com:443", "Host: a.com:443"),
        ("CONNECT http://a.com/", "Host: a.com"),
        ("CONNECT /", "Host: a.com"),
    ] {
        let request = format!("{line} HTTP/1.1\r\n{headers}\r\nConnection: close\r\n\r\n");
        let reply = bench.send(&request).await;
        assert_eq!(reply.status, 400, "{line} {headers} {reply:?}");
    }
    assert_eq!(bench.names.lookups(), 0);
}

#[tokio::test]
async fn heads_have_limits() {
    let bench = Bench::new(local(), false).await;
    let many = "X: y\r\n".repeat(200);
    let long = format!("X: {}\r\n", "y".repeat(super::super::http::MAX_HEAD_BYTES));
    for headers in [many, long] {
        let mut stream = bench.connect().await;
        let request =
            format!("GET http://127.0.0.1:1/ HTTP/1.1\r\nHost: 127.0.0.1:1\r\n{headers}\r\n");
        // The proxy may answer, or close, before it has everything.
        let _ = stream.write_all(request.as_bytes()).await;
        let mut answer = vec![0; 64];
        let read = tokio::time::timeout(DEADLINE, stream.read(&mut answer))
            .await
            .unwrap();
        let answer = String::from_utf8_lossy(&answer[..read.unwrap_or(0)]).into_owned();
        assert!(
            answer.is_empty() || answer.starts_with("HTTP/1.1 431"),
            "{answer}"
        );
    }
    assert_eq!(
        bench.get("127.0.0.1:1").await.status,
        502,
        "others are served"
    );
}

#[tokio::test]
async fn what_cannot_be_reached_is_an_error_of_the_other_end() {
    // A port that nothing listens on: bound, and not listening.
    let socket = tokio::net::TcpSocket::new_v4().unwrap();
    socket.bind((Ipv4Addr::LOCALHOST, 0).into()).unwrap();
    let port = socket.local_addr().unwrap().port();
    let host = format!("127.0.0.1:{port}");
    let bench = Bench::new(local(), false).await;
    for reply in [bench.get(&host).await, bench.tunnel(&host).await] {
        assert_eq!(
            (reply.status, reply.body.as_str()),
            (502, "upstream failure")
        );
    }
    assert_eq!(bench.socks(1, "127.0.0.1", port).await.1, 5);
    let (port, _requests) = server("\r\n\r\n", "nonsense\r\n\r\n").await;
    assert_eq!(bench.get(&format!("127.0.0.1:{port}")).await.status, 502);
    let switching = "HTTP/1.1 101 Switching Protocols\r\nupgrade: x\r\nconnection: upgrade\r\n\r\n";
    let (port, _requests) = server("\r\n\r\n", switching).await;
    assert_eq!(bench.get(&format!("127.0.0.1:{port}")).await.status, 502);
}

/// A server that says something only after the other side has ended its direction.
async fn patient_server() -> u16 {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
    let port = listener.local_addr().unwrap().port();
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            let mut all = Vec::new();
            stream.read_to_end(&mut all).await.unwrap();
            stream
                .write_all(format!("{} bytes", all.len()).as_bytes())
                .await
                .unwrap();
        }
    });
    port
}

#[tokio::test]
async fn each_direction_of_a_tunnel_ends_by_itself() {
    let port = patient_server().await;
    let bench = Bench::new(local(), false).await;
    let mut stream = bench.connect().await;
    // The first bytes come together with the request.
    let request =
        format!("CONNECT 127.0.0.1:{port} HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\n\r\nhello");
    stream.write_all(request.as_bytes()).await.unwrap();
    stream.write_all(&vec![b'x'; 1 << 20]).await.unwrap();
    stream.shutdown().await.unwrap();
    let reply = Reply::read(&mut stream).await;
    assert_eq!((reply.status, reply.body.as_str()), (200, "1048581 bytes"));

    let (mut stream, code) = bench.socks(1, "127.0.0.1", port).await;
    assert_eq!(code, 0);
    stream.write_all(&vec![b'x'; 1 << 20]).await.unwrap();
    stream.shutdown().await.unwrap();
    let mut text = String::new();
    let read = stream.read_to_string(&mut text);
    tokio::time::timeout(DEADLINE, read).await.unwrap().unwrap();
    assert_eq!(text, "1048576 bytes");
}

#[tokio::test]
async fn only_streams_are_carried_by_socks() {
    let bench = Bench::new(local(), false).await;
    for (command, code) in [(2, 7), (3, 7), (9, 7)] {
        assert_eq!(
            bench.socks(command, "127.0.0.1", 80).await.1,
            code,
            "{command}"
        );
    }
    assert_eq!(bench.socks(1, "127.0.0.1", 0).await.1, 2);
    assert_eq!(bench.socks(1, "a b", 80).await.1, 2);
    // No method of authentication but none.
    let address = (Ipv4Addr::LOCALHOST, bench.socks);
    let mut stream = TcpStream::connect(address).await.unwrap();
    stream.write_all(&[5, 1, 2]).await.unwrap();
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).await.unwrap();
    assert_eq!(answer, [5, 0xff]);
}

#[tokio::test]
async fn the_end_of_a_gateway_ends_its_connections() {
    let port = patient_server().await;
    let bench = Bench::new(local(), false).await;
    let (mut stream, code) = bench.socks(1, "127.0.0.1", port).await;
    assert_eq!(code, 0);
    let http = bench.http;
    drop(bench);
    let mut rest = Vec::new();
    let read = tokio::time::timeout(DEADLINE, stream.read_to_end(&mut rest)).await;
    // An end or a reset, but an end.
    let _ = read.expect("the connection is still open");
    assert!(
        TcpStream::connect((Ipv4Addr::LOCALHOST, http))
            .await
            .is_err()
    );
}
