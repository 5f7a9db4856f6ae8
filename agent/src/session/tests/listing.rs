//! `process/list`, and which output is told to be gone.

use super::*;

#[tokio::test]
async fn list_tells_states_and_no_arguments() {
    let sessions = sessions();
    let (mut client, _) = Client::open(&sessions).await;
    let (mut stranger, _) = Client::open(&sessions).await;
    let now = || {
        let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
        i64::try_from(since.unwrap().as_millis()).unwrap()
    };
    let before = now();
    client.start("closed", &sh("echo secret; exit 4")).await;
    client.collect("closed").await;
    client.start("exited", &sh("sleep 600 & exit 5")).await;
    let exited = client.next_notification().await;
    assert_eq!(exited["method"], "process/exited");
    let params = with(start("running", &sh(": secret; sleep 600")), "tty", true);
    client.ok("process/start", params).await;

    let answer = client.ok("process/list", json!(null)).await;
    assert!(!answer.to_string().contains("secret"), "{answer}");
    let mut listed = answer["processes"].as_array().unwrap().clone();
    for process in &mut listed {
        let started = process["startedAtMs"].take().as_i64().unwrap();
        assert!((before..=now()).contains(&started), "{started}");
    }
    let process = |id: &str, state: &str, exit_code: Value, tty: bool, next_seq: u64| {
        json!({
            "processId": id, "program": "/bin/sh", "state": state, "exitCode": exit_code,
            "tty": tty, "startedAtMs": null, "nextSeq": next_seq,
        })
    };
    let expected = [
        process("closed", "closed", json!(4), false, 4),
        process("exited", "exited", json!(5), false, 2),
        process("running", "running", json!(null), true, 1),
    ];
    assert_eq!(listed, expected);
    assert_eq!(answer.get("next"), None);
    let others = stranger.ok("process/list", json!({})).await;
    assert_eq!(others, json!({"processes": []}));
}

#[tokio::test]
async fn process_that_is_being_started_is_listed() {
    let sessions = sessions();
    let (mut client, _) = Client::open(&sessions).await;
    let started = client
        .send("process/start", start("p", &["sleep", "600"]))
        .await;
    let list = client.send("process/list", json!({})).await;
    let mut listed = None;
    let mut answers = 0;
    while answers < 2 {
        let message = client.recv().await.unwrap();
        if message["id"] == list {
            listed = Some(message["result"]["processes"][0].clone());
        }
        answers += i32::from(message["id"] == list || message["id"] == started);
    }
    let listed = listed.unwrap();
    assert_eq!(
        (&listed["processId"], &listed["program"]),
        (&json!("p"), &json!("sleep"))
    );
    assert!(["starting", "running"].contains(&listed["state"].as_str().unwrap()));
}

#[tokio::test]
async fn list_comes_in_pages_of_bounded_number_and_size() {
    let sessions = sessions();
    let (mut client, _) = Client::open(&sessions).await;
    // Three of the longest ids fill a third of a page's bytes; the long program is cut.
    let mut ids: Vec<String> = (0..90)
        .map(|i| format!("{i:02}{}", "x".repeat(4000)))
        .collect();
    ids.push("short".to_owned());
    for id in &ids {
        client.start(id, &["sleep", "600"]).await;
    }
    let mut seen = Vec::new();
    let mut after = json!(null);
    let mut pages = 0;
    loop {
        let page = client.ok("process/list", json!({"after": after})).await;
        assert!(page.to_string().len() < 400_000);
        let processes = page["processes"].as_array().unwrap();
        seen.extend(
            processes
                .iter()
                .map(|p| p["processId"].as_str().unwrap().to_owned()),
        );
        pages += 1;
        match page.get("next") {
            Some(next) => after = next.clone(),
            None => break,
        }
    }
    assert_eq!(seen, ids);
    assert_eq!(pages, 2);
    let two = client.ok("process/list", json!({"limit": 2})).await;
    assert_eq!(two["processes"].as_array().unwrap().len(), 2);
    assert_eq!(two["next"], ids[1]);
    for limit in [0, 1001] {
        let err = client.err("process/list", json!({"limit": limit})).await;
        assert_eq!(err, (-32602, "limit must be between 1 and 1000".into()));
    }
}

#[tokio::test]
async fn long_program_names_are_cut_between_characters() {
    let sessions = sessions();
    let (mut client, _) = Client::open(&sessions).await;
    let dir = tempfile::tempdir().unwrap();
    // Two bytes each, at an odd place, so that byte 256 is inside of one.
    let name = format!("{}/{}", dir.path().display(), "\u{e9}".repeat(120));
    let name = if name.len() % 2 == 0 {
        format!("{name}a")
    } else {
        name
    };
    let path = name.replacen('/', "//", 256usize.saturating_sub(name.len()).max(1));
    std::os::unix::fs::symlink("/bin/true", &name).unwrap();
    client.start("p", &[&path]).await;
    client.collect("p").await;
    let answer = client.ok("process/list", json!({})).await;
    let program = answer["processes"][0]["program"].as_str().unwrap();
    assert!(
        path.starts_with(program) && program.len() <= 256,
        "{program}"
    );
    assert!(program.len() >= 255.min(path.len()), "{program}");
}

#[tokio::test]
async fn reader_is_told_what_was_evicted() {
    let sessions = sessions();
    let (mut client, _) = Client::open(&sessions).await;
    client
        .start("p", &sh("head -c 5000000 /dev/zero | tr '\\0' x"))
        .await;
    client.collect("p").await;
    let size = |read: &Value| -> u64 {
        let chunks = read["chunks"].as_array().unwrap().iter();
        let sizes = chunks.map(|chunk| {
            exec_proto::base64::decode(chunk["chunk"].as_str().unwrap())
                .unwrap()
                .len() as u64
        });
        sizes.sum()
    };
    let read = client.ok("process/read", json!({"processId": "p"})).await;
    let evicted = &read["evicted"];
    assert_eq!(evicted["fromSeq"], 1);
    let through = evicted["throughSeq"].as_u64().unwrap();
    assert_eq!(read["chunks"][0]["seq"], through + 1);
    assert_eq!(
        evicted["totalBytes"].as_u64().unwrap() + size(&read),
        5_000_000
    );

    let params = |after: u64| json!({"processId": "p", "afterSeq": after, "maxBytes": 1});
    let read = client.ok("process/read", params(through - 1)).await;
    assert_eq!(read["evicted"]["fromSeq"], through);
    let read = client.ok("process/read", params(through)).await;
    assert_eq!(read.get("evicted"), None);
}
