use super::*;

#[tokio::test]
async fn methods_before_the_handshake_are_refused_by_family() {
    let sessions = sessions();
    let mut client = Client::connect(&sessions);
    let path = json!({"path": "file:///"});
    let config = json!({"cwd": "file:///", "configPaths": [], "requirementsPaths": []});
    let calls = [
        ("environment/info", json!(null), "environment info"),
        ("environment/status", json!({}), "environment status"),
        ("environmentConfig/read", config, "environment config"),
        ("process/start", start("p", &["true"]), "exec"),
        ("process/terminate", json!({"processId": "p"}), "exec"),
        ("fs/readFile", path, "filesystem"),
        (
            "fs/watchMissing",
            json!({"watchId": 1, "missing": []}),
            "filesystem",
        ),
        (
            "http/request",
            json!({"method": "GET", "url": "http://x/", "requestId": "r"}),
            "http",
        ),
        (
            "capabilityRoots/discoverV1",
            json!({"roots": []}),
            "capability discovery",
        ),
        ("process/list", json!(null), "exec"),
        ("fs/batch", json!({"calls": []}), "filesystem"),
        ("session/close", json!(null), "session"),
        ("rpc/cancel", json!({"id": 1}), "rpc"),
    ];
    for (method, params, family) in &calls {
        let expected = format!("client must call initialize before using {family} methods");
        assert_eq!(client.err(method, params.clone()).await, (-32600, expected));
    }
    client.ok("initialize", json!({"clientName": ""})).await;
    for (method, params, family) in calls {
        let expected = format!("client must send initialized before using {family} methods");
        assert_eq!(client.err(method, params).await, (-32600, expected));
    }
    client.notify("initialized").await;
    client.notify("initialized").await;
    assert_eq!(
        client.ok("environment/status", json!(null)).await,
        json!({"status": "ready"})
    );
}

#[tokio::test]
async fn decoding_comes_before_the_state_and_unknown_methods_before_both() {
    let sessions = sessions();
    let mut client = Client::connect(&sessions);
    assert_eq!(
        client.err("fs/readFile", json!({})).await,
        (-32602, "missing field `path`".into())
    );
    assert_eq!(
        client.err("process/ping", json!({})).await,
        (
            -32601,
            "exec-server stub does not implement `process/ping` yet".into()
        )
    );
    assert_eq!(
        client.err("environment/status", json!([])).await,
        (-32602, "invalid type: sequence, expected unit".into())
    );
}

#[tokio::test]
async fn failed_initialize_does_not_use_up_the_connection() {
    let sessions = sessions();
    let mut client = Client::connect(&sessions);
    let err = client.err("initialize", json!({"clientName": 7})).await;
    assert_eq!(
        err,
        (-32602, "invalid type: number, expected a string".into())
    );
    let err = client
        .err(
            "initialize",
            json!({"clientName": "x", "resumeSessionId": "none"}),
        )
        .await;
    assert_eq!(err, (-32600, "unknown session id none".into()));
    let result = client
        .ok(
            "initialize",
            json!({"clientName": "x", "resumeSessionId": null}),
        )
        .await;
    assert_eq!(result["environmentInfo"]["platformOs"], "linux");
    let err = client.err("initialize", json!({"clientName": "x"})).await;
    assert_eq!(
        err,
        (
            -32600,
            "initialize may only be sent once per connection".into()
        )
    );
    client.notify("initialized").await;
    let info = client.ok("environment/info", json!({})).await;
    assert_eq!(info, result["environmentInfo"], "both say the same");
}

#[tokio::test]
async fn unparsable_messages_are_answered_and_the_connection_goes_on() {
    let sessions = sessions();
    let (mut client, _) = Client::open(&sessions).await;
    client.raw("nonsense").await;
    client
        .raw(r#"{"id":1.5,"method":"environment/status"}"#)
        .await;
    for detail in [
        "expected ident at line 1 column 2",
        "data did not match any variant of untagged enum RequestId",
    ] {
        let (code, text) = client.answer(-1).await.unwrap_err();
        assert_eq!(code, -32600);
        assert_eq!(
            text,
            format!("failed to parse JSON-RPC message from exec-server stdio: {detail}")
        );
    }
    client.ok("environment/status", json!({})).await;
}

#[tokio::test]
async fn messages_that_end_the_connection() {
    let sessions = sessions();
    for message in [
        r#"{"method":"no/such"}"#,
        r#"{"method":"environment/status","params":{}}"#,
        r#"{"id":1,"result":{}}"#,
        r#"{"id":1,"error":{"code":1,"message":"no"}}"#,
    ] {
        let (mut client, _) = Client::open(&sessions).await;
        client.raw(message).await;
        assert_eq!(client.recv().await, None, "{message}");
    }
    let mut client = Client::connect(&sessions);
    client.notify("initialized").await;
    assert_eq!(client.recv().await, None, "initialized before initialize");
}

#[tokio::test]
async fn answers_before_a_violation_are_still_delivered() {
    let sessions = sessions();
    let (mut client, _) = Client::open(&sessions).await;
    let id = client.send("environment/status", json!({})).await;
    client.notify("no/such").await;
    client.answer(id).await.unwrap();
    assert_eq!(client.recv().await, None);
}

#[tokio::test]
async fn string_ids_come_back_as_they_were() {
    let sessions = sessions();
    let (mut client, _) = Client::open(&sessions).await;
    client
        .raw(r#"{"id":"1","method":"environment/status"}"#)
        .await;
    assert_eq!(
        client.recv().await.unwrap(),
        json!({"id": "1", "result": {"status": "ready"}})
    );
}
