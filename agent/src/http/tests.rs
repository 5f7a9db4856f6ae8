use std::io;

use bytes::Bytes;
use exec_proto::http::{BodyDelta, RequestHeader};
use registry_client::ConnectorEnvironment;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpListener, TcpStream},
    sync::mpsc,
};
use wiremock::{
    Mock, MockServer, ResponseTemplate,
    matchers::{body_string, header, method, path},
};

use super::*;

mod affinity;

fn connection() -> (HttpConnection, mpsc::Receiver<Bytes>) {
    let config = ConnectorConfig {
        environment: ConnectorEnvironment::empty(),
        ..ConnectorConfig::default()
    };
    let variables = HeaderVariables::new(|name| (name == "REGION").then(|| "eu".into()), []);
    let (outbox, messages) = Outbox::detached();
    (
        HttpConnection::new(Arc::new(HttpClient::new(config, variables)), outbox),
        messages,
    )
}

fn get(url: &str) -> RequestParams {
    RequestParams {
        method: "GET".to_owned(),
        url: url.to_owned(),
        headers: Vec::new(),
        body_base64: None,
        timeout_ms: None,
        redirect_policy: RedirectPolicy::Follow,
        request_id: "r".to_owned(),
        stream_response: false,
        stream_request_body: false,
    }
}

fn streamed(url: &str) -> RequestParams {
    RequestParams {
        stream_response: true,
        ..get(url)
    }
}

fn with_header(name: &str, value: &str, variable: Option<&str>) -> RequestHeader {
    RequestHeader {
        name: name.to_owned(),
        value: value.to_owned(),
        value_env_var: variable.map(str::to_owned),
    }
}

async fn delta(messages: &mut mpsc::Receiver<Bytes>) -> BodyDelta {
    let received = tokio::time::timeout(Duration::from_secs(40), messages.recv());
    let message: serde_json::Value =
        serde_json::from_slice(&received.await.unwrap().unwrap()).unwrap();
    assert_eq!(message["method"], exec_proto::http::BODY_DELTA);
    serde_json::from_value(message["params"].clone()).unwrap()
}

/// A server of one connection that is played by the test.
async fn played() -> (String, TcpListener) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    (
        format!(
            "http://{}/path?secret=s3cr3t",
            listener.local_addr().unwrap()
        ),
        listener,
    )
}

/// Accepts, reads the request head, and sends `head`.
async fn answer(listener: &TcpListener, head: &str) -> TcpStream {
    let (mut tcp, _) = listener.accept().await.unwrap();
    let mut request = Vec::new();
    while !request.ends_with(b"\r\n\r\n") {
        request.push(tcp.read_u8().await.unwrap());
    }
    tcp.write_all(head.as_bytes()).await.unwrap();
    tcp
}

#[tokio::test]
async fn status_headers_and_body_come_back() {
    let server = MockServer::start().await;
    Mock::given(method("POST"))
        .and(path("/x"))
        .and(header("x-region", "in eu"))
        .and(header("accept", "*/*"))
        .and(body_string("data"))
        .respond_with(
            ResponseTemplate::new(418)
                .insert_header("x-a", "1")
                .set_body_string("short"),
        )
        .expect(1)
        .mount(&server)
        .await;
    let (http, _messages) = connection();
    let reply = http
        .request(
            RequestParams {
                method: "POST".to_owned(),
                headers: vec![with_header("X-Region", "in ", Some("REGION"))],
                body_base64: Some(Bytes::from_static(b"data")),
                ..get(&format!("{}/x", server.uri()))
            },
            None,
        )
        .await
        .unwrap();
    assert_eq!(
        (reply.result.status, &reply.result.body_base64[..]),
        (418, &b"short"[..])
    );
    assert!(
        reply
            .result
            .headers
            .iter()
            .any(|header| header.name == "x-a" && header.value == "1")
    );
    assert!(reply.body.is_none());
}

#[tokio::test]
async fn the_eleventh_redirect_is_an_error_and_stop_returns_the_first() {
    let server = MockServer::start().await;
    Mock::given(method("GET"))
        .respond_with(ResponseTemplate::new(302).insert_header("location", "/again"))
        .expect(12)
        .mount(&server)
        .await;
    let (http, _messages) = connection();
    let error = http.request(get(&server.uri()), None).await.unwrap_err();
    assert_eq!(
        (error.code, error.message.as_str()),
        (-32603, "http/request failed: too many redirects")
    );
    let stop = RequestParams {
        redirect_policy: RedirectPolicy::Stop,
        ..get(&server.uri())
    };
    assert_eq!(http.request(stop, None).await.unwrap().result.status, 302);
}

#[tokio::test]
async fn causes_are_told_and_queries_are_not() {
    let closed = {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        listener.local_addr().unwrap()
    };
    let (http, _messages) = connection();
    let url = format!("http://user:s3cr3t@{closed}/path?key=s3cr3t#s3cr3t");
    let error = http.request(get(&url), None).await.unwrap_err();
    assert_eq!(error.code, -32603);
    let start =
        format!("http/request failed: error sending request for url (http://{closed}/path): ");
    assert!(error.message.starts_with(&start), "{}", error.message);
    assert!(
        error.message.contains("Connection refused"),
        "{}",
        error.message
    );
    assert!(!error.message.contains("s3cr3t"), "{}", error.message);
}

#[tokio::test]
async fn the_timeout_covers_the_body_and_names_itself() {
    let (url, listener) = played().await;
    let (http, mut messages) = connection();
    // Answers in part, and holds every connection.
    let mut server = JoinSet::new();
    server.spawn(async move {
        let mut held = Vec::new();
        loop {
            let (mut tcp, _) = listener.accept().await.unwrap();
            let mut request = Vec::new();
            while !request.ends_with(b"\r\n\r\n") {
                let Ok(byte) = tcp.read_u8().await else { break };
                request.push(byte);
            }
            let part = b"HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\npart";
            let _ = tcp.write_all(part).await;
            held.push(tcp);
        }
    });
    let params = RequestParams {
        timeout_ms: Some(200),
        ..get(&url)
    };
    let error = http.request(params, None).await.unwrap_err();
    assert_eq!(
        (error.code, error.message.as_str()),
        (-32603, "http/request failed: timed out after 200 ms")
    );

    // On a busy machine the time may be over before the body begins; then with more time.
    let mut reply = None;
    let mut expected = String::new();
    for millis in [200, 2000, 20_000] {
        let params = RequestParams {
            timeout_ms: Some(millis),
            ..streamed(&url)
        };
        expected = format!("http/request failed: timed out after {millis} ms");
        match http.request(params, None).await {
            Ok(begun) => {
                reply = Some(begun);
                break;
            }
            Err(error) => assert_eq!(error.message, expected),
        }
    }
    http.stream(reply.unwrap().body);
    let mut last = delta(&mut messages).await;
    if !last.done {
        assert_eq!(&last.delta_base64[..], b"part");
        last = delta(&mut messages).await;
    }
    assert!(last.done);
    assert_eq!(last.error, Some(expected));

    let at_once = RequestParams {
        timeout_ms: Some(0),
        ..get(&url)
    };
    let error = http.request(at_once, None).await.unwrap_err();
    assert_eq!(error.message, "http/request failed: timed out after 0 ms");
}

#[tokio::test]
async fn a_streamed_body_comes_in_order_in_parts_of_at_most_a_mebibyte() {
    let server = MockServer::start().await;
    let content: Vec<u8> = (0..5_000_000_u32)
        .map(|index| index.to_le_bytes()[1])
        .collect();
    Mock::given(method("GET"))
        .respond_with(ResponseTemplate::new(200).set_body_bytes(content.clone()))
        .mount(&server)
        .await;
    let (http, mut messages) = connection();
    let reply = http.request(streamed(&server.uri()), None).await.unwrap();
    assert!(reply.result.body_base64.is_empty());
    let again = http
        .request(streamed(&server.uri()), None)
        .await
        .unwrap_err();
    assert_eq!(
        (again.code, again.message.as_str()),
        (
            -32602,
            "http/request streamResponse requestId `r` is already active"
        )
    );
    http.stream(reply.body);
    let mut received = Vec::new();
    for seq in 1.. {
        let delta = delta(&mut messages).await;
        assert_eq!((delta.seq, delta.request_id.as_str()), (seq, "r"));
        assert!(delta.delta_base64.len() <= exec_proto::http::MAX_DELTA_BYTES);
        received.extend_from_slice(&delta.delta_base64);
        if delta.done {
            assert_eq!(delta.error, None);
            break;
        }
    }
    assert!(received == content);
    // The id is free as soon as the client has seen the last delta.
    assert!(http.request(streamed(&server.uri()), None).await.is_ok());
}

#[tokio::test]
async fn an_id_is_free_after_a_request_that_failed() {
    let (http, _messages) = connection();
    for _ in 0..2 {
        let error = http
            .request(streamed("http://127.0.0.1:1/"), None)
            .await
            .unwrap_err();
        assert_eq!(error.code, -32603);
    }
}

#[tokio::test]
async fn a_broken_body_ends_with_an_error_delta() {
    let (url, listener) = played().await;
    let (http, mut messages) = connection();
    let (reply, tcp) = tokio::join!(
        http.request(streamed(&url), None),
        answer(
            &listener,
            "HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\npart"
        ),
    );
    http.stream(reply.unwrap().body);
    assert_eq!(&delta(&mut messages).await.delta_base64[..], b"part");
    drop(tcp);
    let last = delta(&mut messages).await;
    assert!(last.done && last.delta_base64.is_empty());
    let error = last.error.unwrap();
    assert!(
        error.starts_with("error decoding response body: "),
        "{error}"
    );
    assert!(!error.contains("s3cr3t"), "{error}");
}

#[tokio::test]
async fn the_end_of_the_connection_ends_its_streams_upstream_too() {
    let (url, listener) = played().await;
    let (http, mut messages) = connection();
    let (reply, mut tcp) = tokio::join!(
        http.request(streamed(&url), None),
        answer(
            &listener,
            "HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\npart"
        ),
    );
    http.stream(reply.unwrap().body);
    delta(&mut messages).await;
    drop(http);
    let ended = tokio::time::timeout(Duration::from_secs(10), tcp.read_u8())
        .await
        .unwrap();
    assert!(matches!(
        ended.unwrap_err().kind(),
        io::ErrorKind::UnexpectedEof | io::ErrorKind::ConnectionReset
    ));
}

#[tokio::test]
async fn a_client_that_does_not_read_holds_the_server_back() {
    let (url, listener) = played().await;
    let (http, messages) = connection();
    let total = 200_u64 << 20;
    let head = format!("HTTP/1.1 200 OK\r\ncontent-length: {total}\r\n\r\n");
    let (reply, mut tcp) =
        tokio::join!(http.request(streamed(&url), None), answer(&listener, &head));
    http.stream(reply.unwrap().body);
    let block = vec![0; 1 << 20];
    let mut sent = 0_u64;
    // Ends when the server's socket takes no more: every buffer on the way is full.
    while let Ok(written) = tokio::time::timeout(Duration::from_secs(2), tcp.write(&block)).await {
        sent += u64::try_from(written.unwrap()).unwrap();
        assert!(sent < total / 2, "nothing held the server back");
    }
    drop(messages);
}

#[tokio::test]
async fn a_buffered_body_over_the_limit_is_refused_by_its_announcement() {
    let (url, listener) = played().await;
    let (http, _messages) = connection();
    let (error, _tcp) = tokio::join!(
        http.request(get(&url), None),
        answer(
            &listener,
            "HTTP/1.1 200 OK\r\ncontent-length: 60000000\r\n\r\n"
        ),
    );
    let error = error.unwrap_err();
    assert_eq!(
        error.message,
        "failed to read http/request response body: it exceeds limit of 47185920 bytes; use streamResponse"
    );
}

#[tokio::test]
async fn a_buffered_body_over_the_limit_is_refused_while_it_comes() {
    let (url, listener) = played().await;
    let (http, _messages) = connection();
    let serve = async {
        let mut tcp = answer(&listener, "HTTP/1.1 200 OK\r\n\r\n").await;
        let block = vec![0; 1 << 20];
        while tcp.write_all(&block).await.is_ok() {}
    };
    let (error, ()) = tokio::join!(http.request(get(&url), None), serve);
    assert!(
        error
            .unwrap_err()
            .message
            .contains("exceeds limit of 47185920 bytes")
    );
}
