use super::*;

fn tty(id: &str, script: &str, terminal: Value) -> Value {
    let params = with(start(id, &sh(script)), "tty", true);
    with(params, "terminal", terminal)
}

fn resize(id: &str, rows: u32, cols: u32) -> Value {
    json!({"processId": id, "rows": rows, "cols": cols})
}

#[tokio::test]
async fn terminal_has_the_size_and_the_kind_that_were_asked_for() {
    let sessions = sessions();
    let (mut client, _) = Client::open(&sessions).await;
    let script = "stty size; echo $TERM";
    let params = tty(
        "p",
        script,
        json!({"rows": 40, "cols": 132, "term": "vt100"}),
    );
    client.ok("process/start", params).await;
    assert_eq!(client.collect("p").await.pty, "40 132\r\nvt100\r\n");
    // A size alone sets no TERM, and a TERM of the request is kept.
    let params = tty("q", script, json!({"rows": 1, "cols": 65535}));
    client.ok("process/start", params).await;
    assert_eq!(client.collect("q").await.pty, "1 65535\r\n\r\n");
    let params = tty("r", script, json!({"rows": 1, "cols": 1, "term": "vt100"}));
    let env = json!({"PATH": "/usr/bin:/bin", "TERM": "mine"});
    client.ok("process/start", with(params, "env", env)).await;
    assert_eq!(client.collect("r").await.pty, "1 1\r\nmine\r\n");
}

#[tokio::test]
async fn program_hears_of_a_new_size() {
    let sessions = sessions();
    let (mut client, _) = Client::open(&sessions).await;
    let script = "trap 'stty size; exit 3' WINCH; echo ready; while :; do sleep 0.02; done";
    client
        .ok("process/start", with(start("p", &sh(script)), "tty", true))
        .await;
    client.until("p", "ready").await;
    let answer = client.ok("process/resize", resize("p", 50, 132)).await;
    assert_eq!(answer, json!({}));
    let rest = client.collect("p").await;
    assert_eq!((rest.pty.trim(), rest.exit_code), ("50 132", Some(3)));
    let answer = client.ok("process/resize", resize("p", 24, 80)).await;
    assert_eq!(answer, json!({}), "after the end, too");
}

#[tokio::test]
async fn size_that_overtakes_the_start_is_not_lost_and_the_last_one_counts() {
    let sessions = sessions();
    let (mut client, _) = Client::open(&sessions).await;
    let script = "while [ \"$(stty size)\" != '30 100' ]; do sleep 0.02; done; echo done";
    let params = with(start("p", &sh(script)), "tty", true);
    let ids = [
        client.send("process/start", params).await,
        client.send("process/resize", resize("p", 29, 99)).await,
        client.send("process/resize", resize("p", 30, 100)).await,
    ];
    let mut all = Collected::default();
    let mut answered = Vec::new();
    loop {
        let message = client.recv().await.unwrap();
        if message.get("method").is_none() {
            assert!(message.get("error").is_none(), "{message}");
            answered.push(message["id"].as_i64().unwrap());
            continue;
        }
        client.notifications.push_back(message);
        if client.collect_one("p", &mut all).await {
            break;
        }
    }
    answered.sort_unstable();
    assert_eq!(answered, ids);
    assert_eq!(all.pty, "done\r\n");
}

#[tokio::test]
async fn terminals_that_cannot_be_are_refused() {
    let sessions = sessions();
    let (mut client, _) = Client::open(&sessions).await;
    let no_tty = with(
        start("p", &["true"]),
        "terminal",
        json!({"rows": 1, "cols": 1}),
    );
    let term = "terminal.term must be 1 to 64 letters, digits or any of . _ + -";
    let zero = "invalid value: integer `0`, expected a nonzero u16";
    let starts = [
        (no_tty, "terminal requires tty: true"),
        (
            tty("p", "", json!({"rows": 1, "cols": 1, "term": "../x"})),
            term,
        ),
        (tty("p", "", json!({"rows": 0, "cols": 1})), zero),
        (tty("p", "", json!({"rows": 1})), "missing field `cols`"),
    ];
    for (params, text) in starts {
        let err = client.err("process/start", params).await;
        assert_eq!(err, (-32602, text.to_owned()));
    }
    client.start("pipes", &["sleep", "600"]).await;
    let sizes = [
        (resize("nobody", 1, 1), -32600, "unknown process id nobody"),
        (
            resize("pipes", 1, 1),
            -32602,
            "process pipes has no terminal",
        ),
        (resize("pipes", 1, 0), -32602, zero),
    ];
    for (params, code, text) in sizes {
        let err = client.err("process/resize", params).await;
        assert_eq!(err, (code, text.to_owned()));
    }
}
