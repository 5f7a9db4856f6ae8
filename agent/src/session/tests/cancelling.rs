use super::*;

const CANCELLED: (i64, &str) = (-32800, "the request was cancelled");

fn cancelled(id: i64) -> Value {
    let (code, message) = CANCELLED;
    json!({"id": id, "error": {"code": code, "message": message}})
}

/// Gives up a request; returns both answers, its own first.
async fn cancel(client: &mut Client, id: i64) -> (Value, Value) {
    let cancel = client.send("rpc/cancel", json!({"id": id})).await;
    let (mut own, mut answer) = (None, None);
    while own.is_none() || answer.is_none() {
        let message = client.recv().await.unwrap();
        if message["id"] == id {
            own = Some(message);
        } else if message["id"] == cancel {
            answer = Some(message["result"].clone());
        } else {
            client.notifications.push_back(message);
        }
    }
    (own.unwrap(), answer.unwrap())
}

#[tokio::test]
async fn long_poll_is_given_up_and_answered_once() {
    let sessions = sessions();
    let (mut client, _) = Client::open(&sessions).await;
    client.start("p", &["sleep", "600"]).await;
    let read = json!({"processId": "p", "waitMs": 600_000});
    let poll = client.send("process/read", read).await;
    let (own, answer) = cancel(&mut client, poll).await;
    assert_eq!(own, cancelled(poll));
    assert_eq!(answer, json!({"cancelled": true}));
    // The process is as it was; the request is not known any more.
    for id in [json!(poll), json!(poll.to_string()), json!("never")] {
        let answer = client.ok("rpc/cancel", json!({"id": id})).await;
        assert_eq!(answer, json!({"cancelled": false}));
    }
    let answer = client
        .ok("process/terminate", json!({"processId": "p"}))
        .await;
    assert_eq!(answer, json!({"running": true}));
    let err = client.err("rpc/cancel", json!({"id": null})).await;
    let text = "data did not match any variant of untagged enum RequestId";
    assert_eq!(err, (-32602, text.into()));
}

#[tokio::test]
async fn write_that_is_given_up_leaves_no_trace_and_keeps_the_order() {
    let sessions = sessions();
    let (mut client, _) = Client::open(&sessions).await;
    let dir = tempfile::tempdir().unwrap();
    let gate = dir.path().join("gate");
    let script = format!(
        "while [ ! -e {} ]; do sleep 0.02; done; tail -c 2",
        gate.display()
    );
    let params = with(start("p", &sh(&script)), "pipeStdin", true);
    client.ok("process/start", params).await;
    // Fills the queue, so that what follows waits for room.
    let large = "x".repeat(8 << 20);
    client
        .ok("process/write", write("p", "large", &large))
        .await;
    let b = client.send("process/write", write("p", "b", "b")).await;
    let c = client.send("process/write", write("p", "c", "c")).await;
    let d = client.send("process/write", write("p", "d", "d")).await;
    let end = client
        .send("process/closeStdin", json!({"processId": "p"}))
        .await;
    let (own, answer) = cancel(&mut client, c).await;
    assert_eq!((own, answer), (cancelled(c), json!({"cancelled": true})));
    std::fs::write(&gate, "").unwrap();
    for id in [b, d] {
        assert_eq!(
            client.answer(id).await.unwrap(),
            json!({"status": "accepted"})
        );
    }
    assert_eq!(client.answer(end).await.unwrap(), json!({}));
    assert_eq!(client.collect("p").await.stdout, "bd");
}

#[tokio::test]
async fn http_request_that_is_given_up_ends_upstream() {
    let sessions = sessions();
    let (mut client, _) = Client::open(&sessions).await;
    let server = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}/", server.local_addr().unwrap());
    let params = json!({"method": "GET", "url": url, "requestId": "r"});
    let request = client.send("http/request", params).await;
    let (mut upstream, _) = tokio::time::timeout(DEADLINE, server.accept())
        .await
        .unwrap()
        .unwrap();
    let (own, _) = cancel(&mut client, request).await;
    assert_eq!(own, cancelled(request));
    let mut head = Vec::new();
    let end = tokio::io::AsyncReadExt::read_to_end(&mut upstream, &mut head);
    tokio::time::timeout(DEADLINE, end)
        .await
        .expect("the connection stayed open")
        .unwrap();
}

#[tokio::test]
async fn starts_and_calls_on_handles_are_not_given_up() {
    let sessions = sessions();
    let (mut client, _) = Client::open(&sessions).await;
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().canonicalize().unwrap().join("f");
    let uri = exec_proto::PathUri::from_native(&file).unwrap().to_string();
    let calls = [
        ("process/start", start("p", &["true"])),
        (
            "fs/open",
            json!({"handleId": "h", "path": uri, "mode": "replace"}),
        ),
        (
            "fs/writeBlock",
            json!({"handleId": "h", "offset": 0, "chunk": "aGk="}),
        ),
        ("fs/sync", json!({"handleId": "h"})),
        ("fs/close", json!({"handleId": "h"})),
    ];
    for (method, params) in calls {
        let id = client.send(method, params).await;
        let (own, answer) = cancel(&mut client, id).await;
        assert!(own.get("result").is_some(), "{method}: {own}");
        assert_eq!(answer, json!({"cancelled": false}), "{method}");
    }
    assert_eq!(std::fs::read_to_string(file).unwrap(), "hi");
}

#[tokio::test]
async fn requests_given_up_behind_a_stuck_one_still_count_as_pending() {
    let sessions = sessions();
    let (mut client, _) = Client::open(&sessions).await;
    let params = with(start("p", &["sleep", "600"]), "pipeStdin", true);
    client.ok("process/start", params).await;
    let large = "x".repeat(8 << 20);
    client
        .ok("process/write", write("p", "large", &large))
        .await;
    client.send("process/write", write("p", "stuck", "x")).await;
    for i in 0..200 {
        let id = client
            .send("process/write", write("p", &i.to_string(), "x"))
            .await;
        let (own, _) = cancel(&mut client, id).await;
        assert_eq!(own, cancelled(id));
    }
    client
        .ok("process/terminate", json!({"processId": "p"}))
        .await;
}
