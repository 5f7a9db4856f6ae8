use super::*;

#[tokio::test]
async fn process_survives_its_connection_and_its_output_is_read_after_a_resume() {
    let sessions = sessions();
    let (mut client, id) = Client::open(&sessions).await;
    let dir = tempfile::tempdir().unwrap();
    let gate = dir.path().join("gate");
    let script = format!(
        "echo one; while [ ! -e {} ]; do sleep 0.02; done; echo two; exit 6",
        gate.display()
    );
    client.start("p", &sh(&script)).await;
    client.until("p", "one").await;
    client.disconnect().await;
    std::fs::write(&gate, "").unwrap();

    let mut client = Client::resume(&sessions, &id).await;
    let err = client.err("process/start", start("p", &["true"])).await;
    assert_eq!(err, (-32600, "process p already exists".into()));
    let mut after = 1;
    let read = loop {
        let params = json!({"processId": "p", "afterSeq": after, "waitMs": 20_000});
        let read = client.ok("process/read", params).await;
        if read["closed"] == true {
            break read;
        }
        after = read["nextSeq"].as_u64().unwrap() - 1;
    };
    assert_eq!(
        (&read["exitCode"], &read["nextSeq"]),
        (&json!(6), &json!(5))
    );
    let all = client.ok("process/read", json!({"processId": "p"})).await;
    assert_eq!(all["chunks"].as_array().unwrap().len(), 2);
}

#[tokio::test]
async fn events_go_to_the_connection_that_resumed() {
    let sessions = sessions();
    let (mut client, id) = Client::open(&sessions).await;
    client
        .ok(
            "process/start",
            with(start("p", &["cat"]), "pipeStdin", true),
        )
        .await;
    client.disconnect().await;
    let mut client = Client::resume(&sessions, &id).await;
    client.ok("process/write", write("p", "1", "hello")).await;
    assert_eq!(client.until("p", "hello").await.seqs, [1]);
}

#[tokio::test]
async fn attached_session_cannot_be_resumed() {
    let sessions = sessions();
    let (_holder, id) = Client::open(&sessions).await;
    let mut other = Client::connect(&sessions);
    let err = other
        .err(
            "initialize",
            json!({"clientName": "x", "resumeSessionId": id}),
        )
        .await;
    assert_eq!(
        err,
        (
            -32010,
            format!("session {id} is already attached to another connection")
        )
    );
}

#[tokio::test]
async fn write_that_was_accepted_is_not_repeated_after_a_resume() {
    let sessions = sessions();
    let (mut client, id) = Client::open(&sessions).await;
    let params = start("p", &sh("read a; read b; echo $a $b"));
    client
        .ok("process/start", with(params, "pipeStdin", true))
        .await;
    client.ok("process/write", write("p", "1", "one\n")).await;
    client.disconnect().await;
    let mut client = Client::resume(&sessions, &id).await;
    for (write_id, text) in [("1", "one\n"), ("2", "two\n")] {
        let result = client.ok("process/write", write("p", write_id, text)).await;
        assert_eq!(result, json!({"status": "accepted"}));
    }
    assert_eq!(client.collect("p").await.stdout, "one two\n");
}

#[tokio::test(start_paused = true)]
async fn detached_session_expires_after_its_time_and_not_before() {
    let sessions = sessions();
    let (client, id) = Client::open(&sessions).await;
    client.disconnect().await;
    tokio::time::sleep(Duration::from_secs(79)).await;
    let client = Client::resume(&sessions, &id).await;
    client.disconnect().await;

    // The time starts anew with each detachment.
    tokio::time::sleep(Duration::from_secs(79)).await;
    assert_eq!(sessions.session_count(), 1);
    tokio::time::sleep(Duration::from_secs(2)).await;
    assert_eq!(sessions.session_count(), 0);
    let mut client = Client::connect(&sessions);
    let err = client
        .err(
            "initialize",
            json!({"clientName": "x", "resumeSessionId": id}),
        )
        .await;
    assert_eq!(err, (-32600, format!("unknown session id {id}")));
}

#[tokio::test(start_paused = true)]
async fn session_is_kept_as_long_as_was_asked_within_the_maximum() {
    let sessions = sessions();
    let (mut client, id) = Client::open(&sessions).await;
    for (asked, granted) in [
        (0, 80),
        (79_999, 80),
        (3_600_000, 3600),
        (u64::MAX, 86_400),
        (600_000, 600),
    ] {
        let kept = client
            .ok("session/keep", json!({"detachedMs": asked}))
            .await;
        assert_eq!(kept, json!({"detachedMs": granted * 1000}));
    }
    for _ in 0..2 {
        client.disconnect().await;
        tokio::time::sleep(Duration::from_secs(599)).await;
        client = Client::resume(&sessions, &id).await;
    }
    client.disconnect().await;
    tokio::time::sleep(Duration::from_secs(601)).await;
    assert_eq!(sessions.session_count(), 0);
}

#[tokio::test]
async fn records_of_a_kept_session_outlive_the_usual_time() {
    let mut config = config();
    config.closed_retention = Duration::ZERO;
    let sessions = Sessions::new(config).unwrap();
    let (mut client, id) = Client::open(&sessions).await;
    client
        .ok("session/keep", json!({"detachedMs": 3_600_000}))
        .await;
    client.start("p", &sh("echo kept; exit 7")).await;
    client.collect("p").await;
    client.disconnect().await;
    let mut client = Client::resume(&sessions, &id).await;
    let read = client.ok("process/read", json!({"processId": "p"})).await;
    assert_eq!(
        (&read["exitCode"], &read["closed"]),
        (&json!(7), &json!(true))
    );
    assert_eq!(read["chunks"][0]["chunk"], "a2VwdAo=");
}

#[tokio::test]
async fn expiry_kills_whole_groups() {
    let mut config = config();
    config.detached_ttl = Duration::from_millis(50);
    let sessions = Sessions::new(config).unwrap();
    let (mut client, _) = Client::open(&sessions).await;
    let dir = tempfile::tempdir().unwrap();
    let end = start_with_fifo(&mut client, dir.path(), "sleep 600 & sleep 600").await;
    client.disconnect().await;
    tokio::time::timeout(DEADLINE, end)
        .await
        .expect("the group was not killed")
        .unwrap();
    assert_eq!(sessions.session_count(), 0);
}

#[tokio::test]
async fn shutdown_kills_whole_groups_and_ends_connections() {
    let sessions = sessions();
    let (mut client, _) = Client::open(&sessions).await;
    let dir = tempfile::tempdir().unwrap();
    let end = start_with_fifo(&mut client, dir.path(), "sleep 600 & sleep 600").await;
    tokio::time::timeout(DEADLINE, sessions.shutdown())
        .await
        .expect("something was left");
    tokio::time::timeout(DEADLINE, end)
        .await
        .expect("the group was not killed")
        .unwrap();
    assert_eq!(client.recv().await, None);
}

#[tokio::test]
async fn requests_in_flight_end_with_their_connection_and_the_start_stays() {
    let sessions = sessions();
    let (mut client, id) = Client::open(&sessions).await;
    client.start("p", &["sleep", "600"]).await;
    client
        .send("process/read", json!({"processId": "p", "waitMs": 600_000}))
        .await;
    client
        .send("process/start", start("q", &["sleep", "600"]))
        .await;
    client.ok("environment/status", json!({})).await;
    client.disconnect().await;
    let mut client = Client::resume(&sessions, &id).await;
    for process in ["p", "q"] {
        let result = client
            .ok("process/terminate", json!({"processId": process}))
            .await;
        assert_eq!(result, json!({"running": true}), "{process}");
        assert_eq!(client.collect(process).await.exit_code, Some(137));
    }
}
