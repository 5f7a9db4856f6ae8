use super::*;

#[tokio::test]
async fn output_exit_and_close_of_a_short_program() {
    let sessions = sessions();
    let (mut client, _) = Client::open(&sessions).await;
    let result = client
        .ok(
            "process/start",
            start("p", &sh("echo out; echo err >&2; exit 3")),
        )
        .await;
    assert_eq!(result, json!({"processId": "p", "sandboxType": "none"}));
    let all = client.collect("p").await;
    assert_eq!(
        (all.stdout.as_str(), all.stderr.as_str(), all.exit_code),
        ("out\n", "err\n", Some(3))
    );
    assert_eq!(all.seqs, [1, 2, 3, 4]);
    let result = client
        .ok("process/terminate", json!({"processId": "p"}))
        .await;
    assert_eq!(result, json!({"running": false}));
}

#[tokio::test]
async fn what_a_program_wrote_comes_before_its_exit() {
    let sessions = sessions();
    let (mut client, _) = Client::open(&sessions).await;
    for i in 0..100 {
        let id = i.to_string();
        let params = with(start(&id, &["echo", "out"]), "tty", i % 2 == 0);
        client.ok("process/start", params).await;
        let first = client.next_notification().await;
        assert_eq!(first["method"], "process/output", "run {i}");
        client.collect(&id).await;
    }
}

#[tokio::test]
async fn start_is_answered_before_its_first_event() {
    let sessions = sessions();
    let (mut client, _) = Client::open(&sessions).await;
    for i in 0..50 {
        let id = client
            .send("process/start", start(&i.to_string(), &["true"]))
            .await;
        client.answer(id).await.unwrap();
        assert!(client.notifications.is_empty());
        client.collect(&i.to_string()).await;
    }
}

#[tokio::test]
async fn failures_of_a_start_are_errors_and_leave_the_id_free() {
    let sessions = sessions();
    let (mut client, _) = Client::open(&sessions).await;
    let cases = [
        (start("p", &[]), -32602, "argv must not be empty"),
        (start("p", &[""]), -32603, "missing program for pipe spawn"),
        (
            start("p", &["/no/such"]),
            -32603,
            "No such file or directory (os error 2)",
        ),
        (
            start("p", &["no-such-program"]),
            -32603,
            "No such file or directory (os error 2)",
        ),
        (
            start("p", &["/etc"]),
            -32603,
            "Permission denied (os error 13)",
        ),
        (
            start("p", &["echo", "a\0b"]),
            -32603,
            "nul byte found in provided data",
        ),
        (
            with(start("p", &["true"]), "env", json!({"A": "b\0c"})),
            -32603,
            "data provided contains a nul byte",
        ),
        (
            with(start("p", &["true"]), "cwd", "file:///no/such"),
            -32603,
            "No such file or directory (os error 2)",
        ),
        (
            with(start("p", &["true"]), "cwd", "file:///etc/passwd"),
            -32603,
            "Not a directory (os error 20)",
        ),
        (
            with(start("p", &["true"]), "cwd", "file:///C:/x"),
            -32602,
            "cwd URI `file:///C:/x` is not valid on this exec-server host: 'file:///C:/x' is invalid on 'linux'",
        ),
        (
            with(with(start("p", &["true"]), "tty", true), "env", json!({})),
            -32603,
            "Unable to spawn true because:\nUnable to resolve the PATH",
        ),
        (
            with(start("p", &["no-such-program"]), "tty", true),
            -32603,
            "Unable to spawn no-such-program because:\nNo viable candidates found in PATH \"/usr/local/bin:/usr/bin:/bin\"",
        ),
    ];
    for (params, code, text) in cases {
        assert_eq!(
            client.err("process/start", params).await,
            (code, text.to_owned())
        );
    }
    let err = client.err("process/read", json!({"processId": "p"})).await;
    assert_eq!(err, (-32600, "unknown process id p".into()));
    client.start("p", &["true"]).await;
    client.collect("p").await;
    let err = client.err("process/start", start("p", &["true"])).await;
    assert_eq!(
        err,
        (-32600, "process p already exists".into()),
        "the record is still there"
    );
}

#[tokio::test]
async fn what_cannot_be_enforced_is_refused() {
    let sessions = sessions();
    let (mut client, _) = Client::open(&sessions).await;
    let sandbox =
        |permissions: Value| json!({"permissions": permissions, "windowsSandboxLevel": "disabled"});
    let place = json!({"type": "special", "value": {"kind": "unknown", "path": "attic"}});
    let unknown = json!({"type": "managed", "network": "enabled", "file_system":
        {"type": "restricted", "entries": [{"path": place, "access": "deny"}]}});
    let (code, text) = client
        .err(
            "process/start",
            with(start("p", &["true"]), "sandbox", sandbox(unknown)),
        )
        .await;
    let reason = "sandbox intent cannot be enforced on this executor: ";
    assert!(code == -32602 && text.starts_with(reason), "{text}");
    let enforced = with(start("p", &["true"]), "enforceManagedNetwork", true);
    let (code, text) = client.err("process/start", enforced).await;
    assert!(
        code == -32602 && text.ends_with("it requires a sandbox"),
        "{text}"
    );
    let disabled = sandbox(json!({"type": "disabled"}));
    client
        .ok(
            "process/start",
            with(start("p", &["true"]), "sandbox", disabled),
        )
        .await;
    assert_eq!(client.collect("p").await.exit_code, Some(0));
}

#[tokio::test]
async fn exit_codes_of_signals_are_the_same_with_and_without_a_terminal() {
    let sessions = sessions();
    let (mut client, _) = Client::open(&sessions).await;
    for (signal, code) in [("TERM", 143), ("KILL", 137), ("SEGV", 139), ("HUP", 129)] {
        for tty in [false, true] {
            let id = format!("{signal} {tty}");
            let script = format!("kill -{signal} $$; sleep 5");
            client
                .ok("process/start", with(start(&id, &sh(&script)), "tty", tty))
                .await;
            assert_eq!(client.collect(&id).await.exit_code, Some(code), "{id}");
        }
    }
}

#[tokio::test]
async fn child_gets_a_session_default_signals_three_descriptors_and_only_its_environment() {
    // As if the executor's parent had left a descriptor open.
    let inherited = std::fs::File::open("/dev/null").unwrap();
    rustix::io::fcntl_setfd(&inherited, rustix::io::FdFlags::empty()).unwrap();
    let sessions = sessions();
    let (mut client, _) = Client::open(&sessions).await;
    let script = "ls /proc/self/fd | tr '\\n' ' '; set -- $(cat /proc/$$/stat); \
                  [ $1 = $5 ] && [ $1 = $6 ] && echo leads; grep -E '^Sig(Blk|Ign)' /proc/$$/status | tr '\\n' ' '; env | sort";
    for tty in [false, true] {
        let id = tty.to_string();
        let params = with(
            start(&id, &sh(script)),
            "env",
            json!({"PATH": "/usr/bin:/bin", "A": "1", "SHELL": "s"}),
        );
        client.ok("process/start", with(params, "tty", tty)).await;
        let all = client.collect(&id).await;
        let text = if tty {
            all.pty.replace('\r', "")
        } else {
            all.stdout
        };
        assert!(text.starts_with("0 1 2 3 leads\n"), "{text}");
        assert!(text.contains("SigBlk:\t0000000000000000"), "{text}");
        let env: Vec<&str> = text.lines().filter(|line| line.contains('=')).collect();
        let own: Vec<&&str> = env
            .iter()
            .filter(|line| !line.contains("PWD=") && !line.contains("_="))
            .collect();
        assert_eq!(own.len(), 3, "{text}");
    }
}

#[tokio::test]
async fn environment_policy_applies_and_credentials_stay_out() {
    let sessions = sessions();
    let (mut client, _) = Client::open(&sessions).await;
    let policy = json!({"inherit": "all", "ignoreDefaultExcludes": true, "exclude": [], "set": {"SET": "1"}, "includeOnly": []});
    let params = with(
        with(start("p", &["/usr/bin/env"]), "envPolicy", policy),
        "env",
        json!({"ENV": "2"}),
    );
    client.ok("process/start", params).await;
    let mut lines: Vec<String> = client
        .collect("p")
        .await
        .stdout
        .lines()
        .map(str::to_owned)
        .collect();
    lines.sort();
    assert_eq!(
        lines,
        ["ENV=2", "INHERITED=yes", "PATH=/usr/bin:/bin", "SET=1"]
    );
}

#[tokio::test]
async fn arg0_never_changes_which_program_runs() {
    let sessions = sessions();
    let (mut client, _) = Client::open(&sessions).await;
    for tty in [false, true] {
        let id = tty.to_string();
        let params = with(
            with(start(&id, &sh("echo $0")), "tty", tty),
            "arg0",
            "/bin/false",
        );
        client.ok("process/start", params).await;
        let all = client.collect(&id).await;
        assert_eq!(all.stdout + &all.pty.replace('\r', ""), "/bin/false\n");
        assert_eq!(all.exit_code, Some(0));
    }
}

#[tokio::test]
async fn terminal_has_a_size_an_echo_and_one_stream() {
    let sessions = sessions();
    let (mut client, _) = Client::open(&sessions).await;
    let params = start(
        "p",
        &sh("stty size; tty -s && echo tty; echo err >&2; read x; echo got:$x"),
    );
    client.ok("process/start", with(params, "tty", true)).await;
    client.until("p", "err").await;
    let result = client.ok("process/write", write("p", "1", "abc\n")).await;
    assert_eq!(result, json!({"status": "accepted"}));
    let rest = client.collect("p").await;
    assert_eq!(
        (rest.pty.as_str(), rest.exit_code),
        ("abc\r\ngot:abc\r\n", Some(0))
    );
    let read = client.ok("process/read", json!({"processId": "p"})).await;
    assert!(
        read["chunks"]
            .as_array()
            .unwrap()
            .iter()
            .all(|chunk| chunk["stream"] == "pty")
    );
}

#[tokio::test]
async fn terminal_output_is_complete_when_the_leader_exits_at_once() {
    let sessions = sessions();
    let (mut client, _) = Client::open(&sessions).await;
    for i in 0..10 {
        let id = i.to_string();
        let params = start(
            &id,
            &sh("stty -opost; head -c 300000 /dev/zero | tr '\\0' x"),
        );
        client.ok("process/start", with(params, "tty", true)).await;
        assert_eq!(client.collect(&id).await.pty.len(), 300_000);
    }
}

#[tokio::test]
async fn large_output_arrives_whole_in_large_pieces() {
    let sessions = sessions();
    let (mut client, _) = Client::open(&sessions).await;
    client
        .start("p", &sh("head -c 5000000 /dev/zero | tr '\\0' x"))
        .await;
    let all = client.collect("p").await;
    assert_eq!(all.stdout.len(), 5_000_000);
    let read = client.ok("process/read", json!({"processId": "p"})).await;
    let retained: usize = read["chunks"]
        .as_array()
        .unwrap()
        .iter()
        .map(|chunk| {
            exec_proto::base64::decode(chunk["chunk"].as_str().unwrap())
                .unwrap()
                .len()
        })
        .sum();
    assert!((900_000..=1_048_576).contains(&retained), "{retained}");
}

#[tokio::test]
async fn tiny_writes_of_a_busy_program_are_coalesced() {
    let sessions = sessions();
    let (mut client, _) = Client::open(&sessions).await;
    client
        .start(
            "p",
            &sh("i=0; while [ $i -lt 3000 ]; do printf x; i=$((i+1)); done"),
        )
        .await;
    let all = client.collect("p").await;
    assert_eq!(all.stdout.len(), 3000);
    // One per write would be 3000; one per 2 ms of a loop that takes a few tens is far less.
    assert!(all.chunks < 500, "{} chunks", all.chunks);
}

#[tokio::test]
async fn interrupt_reaches_the_group() {
    let sessions = sessions();
    let (mut client, _) = Client::open(&sessions).await;
    let script = "trap 'echo parent' INT; sh -c \"trap 'echo child; exit 0' INT; echo ready; while :; do sleep 0.02; done\"; exit 5";
    client.start("p", &sh(script)).await;
    client.until("p", "ready").await;
    let params = json!({"processId": "p", "signal": "interrupt"});
    assert_eq!(client.ok("process/signal", params.clone()).await, json!({}));
    let rest = client.collect("p").await;
    assert_eq!(
        (rest.stdout.as_str(), rest.exit_code),
        ("child\nparent\n", Some(5))
    );
    assert_eq!(
        client.ok("process/signal", params).await,
        json!({}),
        "after the end, too"
    );
}

#[tokio::test]
async fn terminate_ends_the_group_even_if_an_escaped_child_holds_the_pipe() {
    let sessions = sessions();
    let (mut client, _) = Client::open(&sessions).await;
    client
        .start("p", &sh("setsid sleep 3 & echo ready; sleep 600"))
        .await;
    client.until("p", "ready").await;
    let before = std::time::Instant::now();
    let result = client
        .ok("process/terminate", json!({"processId": "p"}))
        .await;
    assert_eq!(result, json!({"running": true}));
    let rest = client.collect("p").await;
    assert_eq!(rest.exit_code, Some(137));
    assert!(
        before.elapsed() < Duration::from_secs(2),
        "waited for the escaped child"
    );
}

#[tokio::test]
async fn terminate_after_the_exit_ends_what_was_left_in_the_group() {
    let sessions = sessions();
    let (mut client, _) = Client::open(&sessions).await;
    client.start("p", &sh("sleep 600 & exit 4")).await;
    let exited = client.next_notification().await;
    assert_eq!(exited["method"], "process/exited");
    let read = client
        .ok("process/read", json!({"processId": "p", "waitMs": 1}))
        .await;
    assert_eq!(
        (&read["exited"], &read["closed"], &read["exitCode"]),
        (&json!(true), &json!(false), &json!(4))
    );
    let result = client
        .ok("process/terminate", json!({"processId": "p"}))
        .await;
    assert_eq!(result, json!({"running": false}));
    assert_eq!(client.next_notification().await["method"], "process/closed");
}

#[tokio::test]
async fn terminate_that_overtakes_the_start_is_not_lost() {
    let sessions = sessions();
    let (mut client, _) = Client::open(&sessions).await;
    let start_id = client
        .send("process/start", start("p", &["sleep", "600"]))
        .await;
    let terminate_id = client
        .send("process/terminate", json!({"processId": "p"}))
        .await;
    let mut answers = 0;
    let mut code = None;
    while answers < 2 || code.is_none() {
        let message = client.recv().await.unwrap();
        if message["id"] == start_id {
            assert_eq!(message["result"]["processId"], "p");
            answers += 1;
        } else if message["id"] == terminate_id {
            assert_eq!(message["result"], json!({"running": true}));
            answers += 1;
        } else if message["method"] == "process/exited" {
            code = message["params"]["exitCode"].as_i64();
        }
    }
    assert_eq!(code, Some(137));
}

#[tokio::test]
async fn pipelined_requests_for_one_process_keep_their_order() {
    let sessions = sessions();
    let (mut client, _) = Client::open(&sessions).await;
    client
        .send(
            "process/start",
            with(start("p", &["head", "-n", "300"]), "pipeStdin", true),
        )
        .await;
    let mut expected = String::new();
    for i in 0..300 {
        let line = format!("line {i}\n");
        client
            .send("process/write", write("p", &i.to_string(), &line))
            .await;
        expected.push_str(&line);
    }
    let mut all = Collected::default();
    let mut answers = 0;
    loop {
        let message = client.recv().await.unwrap();
        if message.get("method").is_none() {
            assert!(message.get("error").is_none(), "{message}");
            answers += 1;
            continue;
        }
        client.notifications.push_back(message);
        if client.collect_one("p", &mut all).await {
            break;
        }
    }
    assert_eq!(all.stdout, expected);
    assert!(answers >= 300);
}

#[tokio::test]
async fn long_poll_holds_nothing_up() {
    let mut config = config();
    config.concurrent_requests = 1;
    let sessions = Sessions::new(config).unwrap();
    let (mut client, _) = Client::open(&sessions).await;
    client.start("p", &["sleep", "600"]).await;
    let poll = client
        .send("process/read", json!({"processId": "p", "waitMs": 600_000}))
        .await;
    client.ok("environment/status", json!({})).await;
    client.start("q", &["true"]).await;
    client.collect("q").await;
    client
        .ok("process/terminate", json!({"processId": "p"}))
        .await;
    let read = client.answer(poll).await.unwrap();
    assert_eq!(read["exitCode"], 137);
}

#[tokio::test]
async fn client_that_does_not_read_can_still_terminate() {
    let sessions = sessions();
    let (mut client, _) = Client::open(&sessions).await;
    let dir = tempfile::tempdir().unwrap();
    let end = start_with_fifo(&mut client, dir.path(), "yes").await;
    // Nothing is read from here on. The answers alone would fill the way out many times.
    for _ in 0..200 {
        client.send("process/read", json!({"processId": "p"})).await;
    }
    client
        .send("process/terminate", json!({"processId": "p"}))
        .await;
    let killed = tokio::time::timeout(DEADLINE, end).await;
    killed.expect("terminate was not seen").unwrap();
}

#[tokio::test]
async fn statuses_of_writes() {
    let sessions = sessions();
    let (mut client, _) = Client::open(&sessions).await;
    let status = |text: &str| json!({"status": text});
    let err = client.err("process/write", write("nobody", "", "x")).await;
    assert_eq!(err, (-32602, "writeId must not be empty".into()));
    assert_eq!(
        client.ok("process/write", write("nobody", "1", "x")).await,
        status("unknownProcess")
    );
    client.start("no input", &["sleep", "600"]).await;
    assert_eq!(
        client
            .ok("process/write", write("no input", "1", "x"))
            .await,
        status("stdinClosed")
    );
    client
        .ok(
            "process/start",
            with(start("p", &["cat"]), "pipeStdin", true),
        )
        .await;
    client
        .ok("process/terminate", json!({"processId": "p"}))
        .await;
    client.collect("p").await;
    let err = client.err("process/write", write("p", "1", "x")).await;
    assert_eq!(err, (-32603, "failed to write to process stdin".into()));
}

#[tokio::test]
async fn closed_input_lets_a_filter_finish() {
    let sessions = sessions();
    let (mut client, _) = Client::open(&sessions).await;
    client
        .ok(
            "process/start",
            with(start("p", &["sort"]), "pipeStdin", true),
        )
        .await;
    client.ok("process/write", write("p", "1", "b\na\n")).await;
    assert_eq!(
        client
            .ok("process/closeStdin", json!({"processId": "p"}))
            .await,
        json!({})
    );
    let result = client.ok("process/write", write("p", "2", "c\n")).await;
    assert_eq!(result, json!({"status": "stdinClosed"}));
    assert_eq!(client.collect("p").await.stdout, "a\nb\n");
    assert_eq!(
        client
            .ok("process/closeStdin", json!({"processId": "p"}))
            .await,
        json!({})
    );
    assert_eq!(
        client
            .ok("process/closeStdin", json!({"processId": "nobody"}))
            .await,
        json!({})
    );
}

#[tokio::test]
async fn input_is_closed_in_order_and_only_where_it_can_be() {
    let sessions = sessions();
    let (mut client, _) = Client::open(&sessions).await;
    let params = with(start("cat", &["cat"]), "pipeStdin", true);
    let close = |id: &str| json!({"processId": id});
    let ids = [
        client.send("process/start", params).await,
        client
            .send("process/write", write("cat", "1", "one "))
            .await,
        client.send("process/write", write("cat", "2", "two")).await,
        client.send("process/closeStdin", close("cat")).await,
        client
            .send("process/write", write("cat", "1", "one "))
            .await,
    ];
    let (mut all, mut answers) = (Collected::default(), Vec::new());
    let mut closed = false;
    while !closed || answers.len() < ids.len() {
        let message = client.recv().await.unwrap();
        if message.get("method").is_none() {
            answers.push(message);
            continue;
        }
        client.notifications.push_back(message);
        closed |= client.collect_one("cat", &mut all).await;
    }
    assert_eq!((all.stdout.as_str(), all.exit_code), ("one two", Some(0)));
    let last = answers.iter().find(|answer| answer["id"] == ids[4]);
    let repeated = &last.unwrap()["result"]["status"];
    assert_eq!(repeated, "accepted", "the retry of an accepted write");

    client.start("no input", &["sleep", "600"]).await;
    let params = with(start("tty", &["sleep", "600"]), "tty", true);
    client.ok("process/start", params).await;
    for id in ["no input", "cat", "nobody"] {
        assert_eq!(client.ok("process/closeStdin", close(id)).await, json!({}));
    }
    let err = client.err("process/closeStdin", close("tty")).await;
    let text = "standard input of a terminal cannot be closed; write byte 4 instead";
    assert_eq!(err, (-32602, text.into()));
}

#[tokio::test]
async fn closed_record_is_forgotten_after_its_time() {
    let mut config = config();
    config.closed_retention = Duration::from_millis(20);
    let sessions = Sessions::new(config).unwrap();
    let (mut client, _) = Client::open(&sessions).await;
    client.start("p", &["true"]).await;
    client.collect("p").await;
    let deadline = std::time::Instant::now() + DEADLINE;
    while client
        .call("process/start", start("p", &["true"]))
        .await
        .is_err()
    {
        assert!(
            std::time::Instant::now() < deadline,
            "the id was never free again"
        );
        tokio::task::yield_now().await;
    }
}

#[tokio::test]
async fn closed_records_that_hold_too_much_output_go_early() {
    let mut config = config();
    config.closed_output_bytes = 250;
    let sessions = Sessions::new(config).unwrap();
    let (mut client, _) = Client::open(&sessions).await;
    for id in ["1", "2", "3"] {
        client.start(id, &["printf", "%0100d", "0"]).await;
        client.collect(id).await;
    }
    // The record is dropped after its last event, so the third start may come before that.
    let deadline = std::time::Instant::now() + DEADLINE;
    while client
        .call("process/read", json!({"processId": "1"}))
        .await
        .is_ok()
    {
        assert!(
            std::time::Instant::now() < deadline,
            "the oldest record stayed"
        );
        tokio::task::yield_now().await;
    }
    client.ok("process/read", json!({"processId": "2"})).await;
    client.ok("process/read", json!({"processId": "3"})).await;
}

#[tokio::test]
async fn closed_process_is_reaped_and_holds_no_descriptor() {
    let sessions = sessions();
    let (mut client, _) = Client::open(&sessions).await;
    let descriptors = || std::fs::read_dir("/proc/self/fd").unwrap().count();
    let before = descriptors();
    for i in 0..20 {
        let id = i.to_string();
        let params = with(start(&id, &sh("echo $$")), "tty", i % 2 == 0);
        client
            .ok("process/start", with(params, "pipeStdin", true))
            .await;
        let all = client.collect(&id).await;
        let pid = all.stdout + &all.pty;
        assert!(
            !Path::new("/proc").join(pid.trim()).exists(),
            "{pid} is a zombie"
        );
    }
    let deadline = std::time::Instant::now() + DEADLINE;
    while descriptors() > before {
        assert!(
            std::time::Instant::now() < deadline,
            "descriptors stayed open"
        );
        tokio::task::yield_now().await;
    }
}

#[tokio::test]
async fn output_beyond_the_memory_is_kept_on_disk_and_read_back() {
    let directory = tempfile::tempdir().unwrap();
    let mut config = config();
    config.output_bytes = 8 << 20;
    config.output_directory = directory.path().to_owned();
    let sessions = Sessions::new(config).unwrap();
    let (mut client, id) = Client::open(&sessions).await;
    let gate = directory.path().join("gate");
    let script = format!(
        "while [ ! -e {} ]; do sleep 0.02; done; seq -w 1 1000000",
        gate.display()
    );
    client.start("p", &sh(&script)).await;
    client.disconnect().await;
    std::fs::write(&gate, "").unwrap();
    let mut client = Client::resume(&sessions, &id).await;
    // Seven digits or, for the last, as many, and a new line: 8,000,000 bytes.
    let mut text = String::new();
    let mut after = 0;
    loop {
        let params = json!({
            "processId": "p", "afterSeq": after, "maxBytes": 700_000, "waitMs": 20_000});
        let read = client.ok("process/read", params).await;
        assert_eq!(read.get("evicted"), None, "{}", read["evicted"]);
        let chunks = read["chunks"].as_array().unwrap();
        if chunks.is_empty() && read["closed"] == true {
            break;
        }
        for chunk in chunks {
            after = chunk["seq"].as_u64().unwrap();
            text += &decoded(&chunk["chunk"]);
        }
    }
    assert_eq!(text.len(), 8_000_000);
    for (number, line) in (1..).zip(text.lines()) {
        assert_eq!(line, format!("{number:07}"));
    }
    // The same in one answer, as clients of release 0.169 ask for it.
    let all = client.ok("process/read", json!({"processId": "p"})).await;
    let chunks = all["chunks"].as_array().unwrap();
    let whole: String = chunks
        .iter()
        .map(|chunk| decoded(&chunk["chunk"]))
        .collect();
    assert!(whole == text, "{} bytes", whole.len());
    assert_eq!(all["exitCode"], 0);
    // The file for it has no name.
    let names: Vec<_> = std::fs::read_dir(directory.path())
        .unwrap()
        .map(|entry| entry.unwrap().file_name())
        .collect();
    assert_eq!(names, ["gate"]);
}

fn decoded(chunk: &Value) -> String {
    let bytes = exec_proto::base64::decode(chunk.as_str().unwrap()).unwrap();
    String::from_utf8(bytes.to_vec()).unwrap()
}
